"""Csv files: how one is written, and its columns as numbers or text.

If pyarrow is installed (the extra "tables"), it reads a large file in which it finds nothing wrong
or doubtful. Any other file is read line by line, which takes longer and says what is wrong and
where. Both come to the same columns and the same errors.
"""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np

from nnxp import files
from nnxp.datasets import csv_arrow
from nnxp.datasets.texts import as_objects, finite_number, parse
from nnxp.errors import DataError

LONGEST_LINE = 2**24
"""Bytes: a file with a longer line is not a table."""
MOST_COLUMNS = 100_000
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
"""The delimiters that are looked for, and their names."""
SAMPLE = 100
"""The first rows, by which the delimiter is found, and what may be a column of numbers."""
LARGE = 2**20
"""Bytes from which on pyarrow is faster, though it takes a tenth of a second to import."""

_CSV_ERRORS = {
    "new-line character": "a carriage return without a line feed: save the file with other line "
    "ends",
    "unexpected end of data": "a quote is never closed",
    "field larger than": "a field of more than 131,072 characters, or a quote is never closed",
}
"""Of Python's csv module, whose errors are for programmers: a part of each, and what is wrong."""

log = logging.getLogger("nnxp")


class CsvFile:
    """A csv file, read into memory.

    Attributes:
        name: the path.
        names_place: the place of the names, for errors: "data.csv:1".
        header: the name of each column.
        delimiter: the character between fields.
        decimal: the decimal sign of its numbers.
    """

    typed = False

    def __init__(self, path: Path, delimiter: str | None = None) -> None:
        """Read the file, and find how it is written.

        Args:
            path: UTF-8 text: a header, then one sample per line, quoted as spreadsheets do.
            delimiter: the character between fields; by default the one of `DELIMITERS` that
                divides the header, and the first rows into as many fields as the header.

        Raises:
            DataError: `file:line: what is wrong`.
        """
        self.name, self.names_place = str(path), f"{path}:1"
        try:
            self._data, first = _read(path)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror or error}") from None
        columns = 1 + max(first.count(each.encode()) for each in (delimiter or DELIMITERS))
        if columns > MOST_COLUMNS:
            raise DataError(f"{path}:1: {columns:,} columns, more than {MOST_COLUMNS:,}: no table")
        self.delimiter = delimiter or self._find_delimiter()
        self.decimal = self._find_decimal(len(first))
        line, header = next(self._records(), (1, []))
        self.header = tuple(name.strip() for name in header)
        self._places = {name: i for i, name in enumerate(self.header)}
        self._body = len(first) if line == 1 else None  # None: the header has several lines
        if not header:
            raise DataError(f"{path}: is empty")
        if all(finite_number(name) is not None for name in self.header):
            raise DataError(f"{path}:1: all numbers: the first line must name the columns")

    def read(self, names: Sequence[str], as_text: Collection[str]) -> dict[str, np.ndarray]:
        """Read columns: numbers, float64, or text, objects; see `texts.parse`.

        Args:
            names: the columns.
            as_text: the columns that are text, also if all their fields are numbers.

        Raises:
            DataError: `file:line: what is wrong`.
        """
        places = [self._places[name] for name in names]
        texts = {self._places[name] for name in as_text}
        found = self._read_with_arrow(places, texts)
        if found is None:
            rows = [row for _, row in self._rows()]
            if not rows:
                raise DataError(f"{self.name}: has no rows under its header")
            return {
                name: self._parse([row[i] for row in rows], name in as_text)
                for name, i in zip(names, places, strict=True)
            }
        return {
            name: self._values(column, name in as_text)
            for name, column in zip(names, found, strict=True)
        }

    def locate(self, row: int, name: str) -> tuple[str, str]:
        """Return the place of a row, "data.csv:17", and what it has in a column."""
        line, fields = next(islice(self._rows(), row, None))
        return f"{self.name}:{line}", fields[self._places[name]].strip()

    def _values(self, column: np.ndarray | csv_arrow.Texts, as_text: bool) -> np.ndarray:
        if isinstance(column, np.ndarray):
            return column
        texts, rows = column
        return self._parse(texts, as_text)[rows]

    def _parse(self, texts: list[str], as_text: bool) -> np.ndarray:
        if as_text:
            return as_objects([text.strip() for text in texts])
        return parse(texts, self.decimal)

    def _read_with_arrow(
        self, places: list[int], texts: set[int]
    ) -> list[np.ndarray | csv_arrow.Texts] | None:
        """Read columns of a large file with pyarrow; None if it finds something wrong."""
        if self._body is None or len(self._data) < LARGE:
            return None
        if not csv_arrow.available():
            log.info('%s: pip install "nnxp[tables]" reads large files faster', self.name)
            return None
        sample = [row for _, row in islice(self._rows(), SAMPLE)]
        parsed = {i: parse([row[i] for row in sample], self.decimal) for i in set(places) - texts}
        numbers = {i: column for i, column in parsed.items() if column.dtype != object}
        gaps = any(np.isnan(column).any() for column in numbers.values())
        return csv_arrow.read(
            self._data, self._body, len(self.header), places, set(numbers), gaps,
            self.delimiter, self.decimal,
        )  # fmt: skip

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each row under the header, and the number of its line."""
        records = self._records()
        _, header = next(records)
        for line, row in records:
            if len(row) != len(header):
                raise DataError(
                    f"{self.name}:{line}: {len(row)} fields, the header has {len(header)}"
                )
            yield line, row

    def _records(self, delimiter: str | None = None) -> Iterator[tuple[int, list[str]]]:
        """Yield the fields of the header and of each row, and the number of the line."""
        records = csv.reader(self._lines(), delimiter=delimiter or self.delimiter, strict=True)
        try:
            header = next(records, [])
            yield records.line_num, header
            yield from ((records.line_num, row) for row in records if row)
        except csv.Error as error:
            known = (ours for part, ours in _CSV_ERRORS.items() if part in str(error))
            problem = next(known, error)
            raise DataError(f"{self.name}:{records.line_num}: {problem}") from None

    def _lines(self) -> Iterator[str]:
        start = number = 0
        while start < len(self._data):
            number += 1
            place = f"{self.name}:{number}"
            end = self._data.find(b"\n", start, start + LONGEST_LINE) + 1
            line = self._data[start : end or start + LONGEST_LINE]
            if len(line) == LONGEST_LINE:
                raise DataError(f"{place}: longer than {LONGEST_LINE:,} bytes: not a table")
            start += len(line)
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise DataError(f"{place}: not UTF-8 text: save the file as UTF-8") from None
            if "\0" in text:
                raise DataError(f"{place}: holds a NUL character: not text")
            yield text

    def _find_delimiter(self) -> str:
        """Find the delimiter; the comma if none of `DELIMITERS` is in the header.

        Raises:
            DataError: the header and the first rows allow several.
        """
        samples = {}
        for each in DELIMITERS:
            with suppress(DataError):  # it is said when the file is read
                samples[each] = [row for _, row in islice(self._records(each), SAMPLE + 1)]
        dividing = {each: rows for each, rows in samples.items() if rows and len(rows[0]) > 1}
        even = [each for each, rows in dividing.items() if len(set(map(len, rows))) == 1]
        found = even or list(dividing)
        if len(even) > 1 and len(dividing[even[0]]) > 1:
            names = " or ".join(DELIMITERS[each] for each in even)
            raise DataError(
                f"{self.name}:1: its delimiter may be {names}: say which (delimiter, --delimiter)"
            )
        return found[0] if found else ","

    def _find_decimal(self, start: int) -> str:
        """Find the decimal sign: a comma if it is no delimiter, and no number has a point."""
        if self.delimiter == "," or self._data.find(b",", start) < 0:
            return "."
        mark = re.escape(self.delimiter.encode())
        number = rb"(?:^|%b)[ \"]*[+-]?\d*%b\d+(?:[eE][+-]?\d+)?[ \"]*(?:%b|\r?$)"
        comma, point = (
            re.compile(number % (mark, sign, mark), re.MULTILINE).search(self._data, start)
            for sign in (b",", rb"\.")
        )
        return "," if comma and not point else "."


def _read(path: Path) -> tuple[bytearray, bytes]:
    """Return a file's content, up to a line that is too long, and its first line.

    It is not mapped: if another program cut the file meanwhile, SIGBUS would end the process.
    """
    with files.open_to_read(path) as file:
        first = file.readline(LONGEST_LINE)
        data = bytearray(first)
        block = first
        while len(block) < LONGEST_LINE or b"\n" in block:
            block = file.read(LONGEST_LINE)
            if not block:
                break
            data += block
        return data, first

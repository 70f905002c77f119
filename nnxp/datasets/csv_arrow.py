"""Read flawless csv files with pyarrow, many times as fast as line by line.

pyarrow divides lines into fields as Python's csv module does, and parses numbers to the same bits,
but for what `_is_plain` and `read` look for: a file that has it is not read here.
"""

from __future__ import annotations

import codecs
import csv
import importlib.util
import re
from typing import Any

import numpy as np

from nnxp.datasets.texts import MISSING

Texts = tuple[list[str], np.ndarray]
"""The distinct fields of a column, and for each row the number of its field."""

BLOCK = 2**20
"""Bytes that are decoded at once."""


def available() -> bool:
    """Return whether pyarrow is installed."""
    return importlib.util.find_spec("pyarrow") is not None


def read(
    data: bytearray,
    start: int,
    width: int,
    places: list[int],
    numbers: set[int],
    gaps: bool,
    delimiter: str,
    decimal: str,
) -> list[np.ndarray | Texts] | None:
    """Read columns of a csv file.

    Args:
        data: the file.
        start: where its rows start, under the header.
        width: the number of its columns.
        places: the columns to read, from 0.
        numbers: those of them that seem to be numbers.
        gaps: whether some of these seem to be missing. To look for them takes time.
        delimiter: the character between fields.
        decimal: the decimal sign.

    Returns:
        The numbers, float64, NaN where one is missing, or the texts of each column; None if
        anything is wrong or doubtful.
    """
    import pyarrow as pa
    import pyarrow.csv
    from pyarrow import compute

    if not _is_plain(data, start, delimiter):
        return None
    table = None
    # A column may turn out to miss values or to be text. If there are two of text, all are read so.
    for attempt in (1, 2, 3) if gaps else (0, 1, 2, 3):
        types = {str(i): pa.float64() if i in numbers else pa.string() for i in places}
        try:
            table = pyarrow.csv.read_csv(
                pa.BufferReader(memoryview(data)[start:]),
                pyarrow.csv.ReadOptions(column_names=[str(i) for i in range(width)]),
                pyarrow.csv.ParseOptions(delimiter=delimiter),
                pyarrow.csv.ConvertOptions(
                    column_types=types, include_columns=list(types), decimal_point=decimal,
                    null_values=sorted(MISSING) if attempt else [],
                ),
            )  # fmt: skip
            break
        except pa.ArrowInvalid as error:
            text = re.match(r"In CSV column #(\d+): CSV conversion error to double", str(error))
            if text is None:
                return None
            if attempt:
                numbers = set() if attempt == 2 else numbers - {int(text[1])}
    if table is None or not len(table):
        return None
    columns = dict(zip(places, table.columns, strict=True))
    for i in numbers:
        # Infinity and "nan(1)" are no numbers. A missing one is null here, and not looked at.
        if compute.all(compute.is_finite(columns[i])).as_py() is False:
            return None
    return [
        column.to_numpy() if i in numbers else _distinct(column) for i, column in columns.items()
    ]


def _distinct(column: Any) -> Texts:
    encoded = column.dictionary_encode().combine_chunks()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy()


def _is_plain(data: bytearray, start: int, delimiter: str) -> bool:
    """Return whether the csv module and pyarrow divide the rows alike."""
    characters = np.frombuffer(data, np.uint8)
    return (
        data.find(b"\0", start) < 0
        and (data.find(b"\r", start) < 0 or _ends_lines(characters[start:]))
        and not _has_long_line(data, start)
        and (data.find(b'"', start) < 0 or _is_simply_quoted(characters[start:], delimiter))
        and (characters.max(initial=0) < 128 or _is_utf8(data))
    )


def _ends_lines(characters: np.ndarray) -> bool:
    """Return whether there is a line feed after each carriage return."""
    returns = np.flatnonzero(characters == ord("\r"))
    return bool(returns[-1] < len(characters) - 1 and (characters[returns + 1] == ord("\n")).all())


def _has_long_line(data: bytearray, start: int) -> bool:
    """Return whether a line may hold a field that is too long for the csv module."""
    longest = csv.field_size_limit()
    while start + longest < len(data):
        start = data.rfind(b"\n", start, start + longest) + 1
        if not start:
            return True
    return False


def _is_simply_quoted(characters: np.ndarray, delimiter: str) -> bool:
    """Return whether all quotes are around fields of one line that have none inside."""
    quotes = np.flatnonzero(characters == ord('"'))
    if len(quotes) % 2:
        return False
    opening, closing = quotes[::2], quotes[1::2]
    lines = np.flatnonzero(characters == ord("\n"))
    if (np.searchsorted(lines, opening) != np.searchsorted(lines, closing)).any():
        return False
    before = characters[opening[opening > 0] - 1]
    after = characters[closing[closing < len(characters) - 1] + 1]
    ends = list(f"{delimiter}\n".encode())
    return bool(np.isin(before, ends).all() and np.isin(after, [*ends, ord("\r")]).all())


def _is_utf8(data: bytearray) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(data), BLOCK):
            decoder.decode(data[start : start + BLOCK])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True

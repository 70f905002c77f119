"""Users' own tables: .csv with a header, and .npz with arrays x and y."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from nnxp import npz
from nnxp.datasets.raw import Raw
from nnxp.errors import DataError

LONGEST_LINE = 2**24
"""Bytes: a file with a longer line is not a table, and the line is not read into memory."""


def read_csv(
    path: Path,
    target: str | None = None,
    features: Sequence[str] | None = None,
    count: int | None = None,
) -> Raw:
    """Read a csv file: a header, then one sample per line.

    Args:
        path: UTF-8 text, comma-separated, quoted as spreadsheets do.
        target: the target column; the last by default.
        features: the columns that a model was trained on. Only these are read, in this order, and
            the target may be absent.
        count: the number of features, if they have no names: a file with this many columns has no
            target.

    Raises:
        DataError: `file:line: what is wrong`, or the column.
    """
    try:
        with path.open("rb") as file:
            return _read_csv(file, path, target, features, count)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None


def _read_csv(
    file: BinaryIO,
    path: Path,
    target: str | None,
    features: Sequence[str] | None,
    count: int | None,
) -> Raw:
    rows = csv.reader(_lines(file, path), strict=True)
    try:
        header = [name.strip() for name in next(rows, [])]
        names, target = _columns(header, path, target, features, count)
        place = {name: i for i, name in enumerate(header)}
        wanted, target_place = [place[name] for name in names], place.get(target)
        x, y, lines = [], [], []
        for row in rows:
            if not row:
                continue
            line = f"{path}:{rows.line_num}"
            if len(row) != len(header):
                raise DataError(f"{line}: {len(row)} fields, the header has {len(header)}")
            x.append([_number(row[i], line, header[i]) for i in wanted])
            if target_place is not None:
                y.append(row[target_place].strip())
                lines.append(line)
    except csv.Error as error:
        raise DataError(f"{path}:{rows.line_num}: {error}") from None
    if not x:
        raise DataError(f"{path}: has no rows under its header")
    _check_targets(y, lines, target)
    return Raw(
        str(path), np.array(x), np.array(y) if y else None, (len(names),), from_file=True,
        features=tuple(names), target=target, header=tuple(header),
    )  # fmt: skip


def _check_targets(y: list[str], lines: list[str], target: str) -> None:
    """Check that no target is empty and, if all are numbers, that all are finite."""
    numbers = all(_is_number(text) for text in y if text)
    for text, line in zip(y, lines, strict=True):
        if not text or (numbers and finite_number(text) is None):
            what = text or "empty"
            raise DataError(f"{line}: {target!r} is {what}: fill it in, or leave the row out")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _lines(file: BinaryIO, path: Path) -> Iterator[str]:
    number = 0
    while line := file.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE:
            raise DataError(f"{path}:{number}: longer than {LONGEST_LINE:,} bytes: not a table")
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise DataError(f"{path}:{number}: not UTF-8 text: save the file as UTF-8") from None
        if "\0" in text:
            raise DataError(f"{path}:{number}: holds a NUL character: not text")
        yield text


def _columns(
    header: list[str],
    path: Path,
    target: str | None,
    features: Sequence[str] | None,
    count: int | None,
) -> tuple[list[str], str]:
    """Return the names of the feature columns and the target; "" if the target may be absent."""
    if not header:
        raise DataError(f"{path}: is empty")
    if all(finite_number(name) is not None for name in header):
        raise DataError(f"{path}:1: all numbers: the first line must name the columns")
    (common, times), *_ = Counter(header).most_common(1)
    if times > 1:
        cure = "rename one" if finite_number(common) is None else "the first line must name them"
        raise DataError(f"{path}:1: two columns are called {common!r}: {cure}")
    columns = set(header)
    if features is not None:
        for name in features:
            if name not in columns:
                raise DataError(f"{path}:1: no column {name!r}, which the model was trained on")
        return list(features), target or ""
    if count == len(header):
        return header, ""
    target = target if target is not None else header[-1]
    if target not in columns:
        raise DataError(f"{path}:1: no column {target!r}; there are {', '.join(header[:20])}")
    if len(header) < 2:
        raise DataError(f"{path}:1: one column only: features and a target are needed")
    return [name for name in header if name != target], target


def finite_number(text: str) -> float | None:
    """Parse a finite number; return None for any other text, such as "nan", "inf" or "1_000"."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in text else None


def _number(text: str, line: str, column: str) -> float:
    number = finite_number(text)
    if number is None:
        what = f"{text.strip()[:40]!r}, not a finite number" if text.strip() else "empty"
        raise DataError(f"{line}: {column!r} is {what}: fill it in, or leave row or column out")
    return number


def read_npz(path: Path, features_only: bool = False) -> Raw:
    """Read an npz archive with `x`, (samples, ...), `y`, and optionally `x_test`, `y_test`.

    Loading runs no code: pickled objects are refused.

    Args:
        path: the archive.
        features_only: whether `y` may be absent.

    Raises:
        DataError: the archive is damaged, an array is missing or has a wrong shape, or a value is
            not finite.
    """
    arrays = npz.load(path)
    needed = ("x",) if features_only else ("x", "y")
    for name in needed:
        if name not in arrays:
            raise DataError(f"{path}: has no array {name!r}; it has {', '.join(arrays) or 'none'}")
    if ("x_test" in arrays) != ("y_test" in arrays):
        raise DataError(f"{path}: x_test and y_test go together: one of them is missing")
    for x_name, y_name in (("x", "y"), ("x_test", "y_test")):
        if x_name in arrays:
            _check_pair(path, arrays, x_name, y_name)
    x, x_test = arrays["x"], arrays.get("x_test")
    if x_test is not None and x_test.shape[1:] != x.shape[1:]:
        raise DataError(
            f"{path}: x is {x.shape}, x_test {x_test.shape}: their rows differ in length"
        )
    return Raw(
        str(path), x.reshape(len(x), -1), arrays.get("y"), x.shape[1:],
        None if x_test is None else x_test.reshape(len(x_test), -1), arrays.get("y_test"),
        from_file=True,
    )  # fmt: skip


def _check_pair(path: Path, arrays: dict[str, np.ndarray], x_name: str, y_name: str) -> None:
    x, y = arrays[x_name], arrays.get(y_name)
    if x.dtype.kind not in "buif" or x.ndim < 2 or x.size == 0:
        raise DataError(
            f"{path}: {x_name} is {x.dtype} {x.shape}; it must be numbers, (samples, features)"
        )
    for name, array in ((x_name, x), (y_name, y)):
        if array is not None and array.dtype.kind == "f" and not np.isfinite(array).all():
            place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise DataError(f"{path}: {name}{list(place)} is {array[place]}: fill it in")
    if y is not None:
        text = y.dtype.kind == "U"
        if y.dtype.kind not in "buifU" or y.ndim not in ((1,) if text else (1, 2)) or not y.size:
            raise DataError(
                f"{path}: {y_name} is {y.dtype} {y.shape}; it must be classes or text, (samples,), "
                "or numbers, (samples, outputs)"
            )
        if len(x) != len(y):
            raise DataError(f"{path}: {x_name} has {len(x)} rows, {y_name} has {len(y)}")
        if y.shape[1:] != arrays["y"].shape[1:]:
            raise DataError(f"{path}: y is {arrays['y'].shape}, {y_name} {y.shape}: unlike rows")

"""Users' own tables: .csv with a header, and .npz with arrays x and y."""

from __future__ import annotations

import csv
import math
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

from nnxp.datasets.raw import Raw
from nnxp.errors import DataError

LONGEST_LINE = 2**24
"""Characters; a longer line is no table, and is not read into memory to find out."""


def read_csv(path: Path, target: str | None = None, features: Sequence[str] | None = None) -> Raw:
    """A csv file: a header, then one sample a line.

    Args:
        path: UTF-8 text, comma-separated, quoted as spreadsheets do.
        target: the target column; by default the last.
        features: the columns that a model was trained on: exactly these are read, in this
            order, and the target may be absent.

    Raises:
        DataError: `file:line: what is wrong`, or the column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _read_csv(file, path, target, features)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text at byte {error.start}: save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None


def _read_csv(file: TextIO, path: Path, target: str | None, features: Sequence[str] | None) -> Raw:
    rows = csv.reader(_lines(file, path), strict=True)
    try:
        header = [name.strip() for name in next(rows, [])]
        names, target = _columns(header, path, target, features)
        wanted = [header.index(name) for name in names]
        target_column = header.index(target) if target in header else None
        x, y = [], []
        for row in rows:
            if not row:
                continue
            if len(row) != len(header):
                raise DataError(
                    f"{path}:{rows.line_num}: {len(row)} fields, the header has {len(header)}"
                )
            x.append([_number(row[i], f"{path}:{rows.line_num}: {header[i]!r}") for i in wanted])
            if target_column is not None:
                y.append(row[target_column].strip())
                if not y[-1]:
                    raise DataError(f"{path}:{rows.line_num}: {target!r} is empty: fill it in")
    except csv.Error as error:
        raise DataError(f"{path}:{rows.line_num}: {error}") from None
    if not x:
        raise DataError(f"{path}: has no rows under its header")
    return Raw(
        str(path), np.array(x), np.array(y) if y else None, (len(names),), from_file=True,
        features=tuple(names), target=target,
    )  # fmt: skip


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    number = 0
    while line := file.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE:
            raise DataError(
                f"{path}:{number}: longer than {LONGEST_LINE:,} characters: not a table"
            )
        if "\0" in line:
            raise DataError(f"{path}:{number}: holds a NUL character: not text")
        yield line


def _columns(
    header: list[str], path: Path, target: str | None, features: Sequence[str] | None
) -> tuple[list[str], str]:
    """The feature columns' names and the target's."""
    if not header:
        raise DataError(f"{path}: is empty")
    if all(finite_number(name) is not None for name in header):
        raise DataError(f"{path}:1: all numbers: the first line must name the columns")
    for name in header:
        if header.count(name) > 1:
            raise DataError(f"{path}:1: two columns are called {name!r}: rename one")
    if features is not None:
        missing = [name for name in features if name not in header]
        if missing:
            raise DataError(f"{path}:1: no column {missing[0]!r}, which the model was trained on")
        return list(features), target or ""
    target = target if target is not None else header[-1]
    if target not in header:
        raise DataError(f"{path}:1: no column {target!r}; there are {', '.join(header)}")
    if len(header) < 2:
        raise DataError(f"{path}:1: one column only: features and a target are needed")
    return [name for name in header if name != target], target


def finite_number(text: str) -> float | None:
    """The number that `text` is; None for anything else, "nan", "inf" and "1_000" among it."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in text else None


def _number(text: str, place: str) -> float:
    number = finite_number(text)
    if number is None:
        what = f"{text.strip()[:40]!r}, not a finite number" if text.strip() else "empty"
        raise DataError(f"{place} is {what}: fill it in, or leave the row or the column out")
    return number


def read_npz(path: Path, features_only: bool = False) -> Raw:
    """An npz archive with `x`, (samples, ...), `y`, and optionally `x_test`, `y_test`.

    Loading runs nothing: pickled objects are refused.

    Args:
        path: the archive.
        features_only: whether `y` may be absent.

    Raises:
        DataError: damaged, an array missing or of the wrong shape, or a value not finite.
    """
    arrays = load_npz(path)
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


def load_npz(path: Path) -> dict[str, np.ndarray]:
    """Every array of an npz archive; pickled objects are refused.

    Raises:
        DataError: missing, not an npz archive, or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(f"{path}: not an npz archive: write it with numpy.savez")
            return {name: archive[name] for name in archive.files}
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except (ValueError, EOFError, zipfile.BadZipFile, KeyError, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: not a readable npz archive ({reason})") from None


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
        if y.dtype.kind not in "buifU" or y.ndim not in (1, 2):
            raise DataError(
                f"{path}: {y_name} is {y.dtype} {y.shape}; it must be numbers or text, (samples,)"
            )
        if len(x) != len(y):
            raise DataError(f"{path}: {x_name} has {len(x)} rows, {y_name} has {len(y)}")

"""A folder of parquet files as rows of numbers, read by row groups through pyarrow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnxp import extras, files
from nnxp.data import sources
from nnxp.data.batches import Blocks
from nnxp.data.sources import Source
from nnxp.datasets.parquet import check_size
from nnxp.errors import DataError, first_line
from nnxp.npz import LARGEST_RATIO, SMALLEST_BOMB

Found = tuple[Source, np.ndarray | None, tuple[str, ...], str | None]


def read(
    folder: Path,
    shards: Sequence[Path],
    target: str | None,
    like: Sequence[str] | None,
    with_target: bool,
    features_only: bool,
) -> Found:
    """Open parquet files of the same columns, one after the other.

    Args:
        folder: where they are.
        shards: the files.
        target: the target column; the last by default.
        like: the columns of features; None for all others.
        with_target: whether a column is the target.
        features_only: whether the target may be absent.

    Returns:
        The features, the target, the names of the features and that of the target.

    Raises:
        InputError: pyarrow is not installed.
        DataError: a file is damaged, or lacks a column, or one is not of numbers.
    """
    extras.require("pyarrow", f"{folder}: parquet", "tables")
    opened = [ParquetFile(path) for path in shards]
    names = opened[0].names
    known = set(names)
    if not with_target:
        target = None
    elif target is None and like is None:
        target = names[-1]
    elif target is not None and target not in known:
        if not features_only:
            raise DataError(f"{shards[0]}: no column {target!r}; there are {_listed(names)}")
        target = None
    columns = [name for name in names if name != target] if like is None else list(like)
    for file in opened:
        for name in (*columns, *([target] if target else [])):
            if name not in file.names:
                raise DataError(f"{file.path}: no column {name!r}, which {shards[0]} has")
    if not columns:
        raise DataError(f"{shards[0]}: one column only: features and a target are needed")
    x = sources.joined([ParquetRows(file, columns) for file in opened], str(folder))
    y = None if target is None else np.concatenate([file.column(target) for file in opened])
    return x, y, tuple(columns), target


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")


class ParquetFile:
    """A parquet file whose row groups are read one by one.

    Raises:
        DataError: the file is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._opened() as (file, _):
            self.metadata, self.schema = file.metadata, file.schema_arrow
        self.names = list(self.schema.names)
        groups = [self.metadata.row_group(i) for i in range(self.metadata.num_row_groups)]
        self.bounds = np.cumsum([0, *(group.num_rows for group in groups)])
        limit = max(SMALLEST_BOMB, LARGEST_RATIO * path.stat().st_size)
        check_size(path, max(8 * self.metadata.num_rows, *(g.total_byte_size for g in groups), 0)
                   if groups else 0, limit)  # fmt: skip

    def _opened(self) -> Any:
        return _Opened(self.path, getattr(self, "metadata", None))

    def group(self, number: int, columns: Sequence[str]) -> Any:
        """Return columns of a row group, an Arrow table."""
        with self._opened() as (file, _):
            return file.read_row_group(number, columns=list(columns))

    def column(self, name: str) -> np.ndarray:
        """Return a column: numbers, or text.

        Raises:
            DataError: a value is missing.
        """
        with self._opened() as (file, _):
            column = file.read(columns=[name]).column(0)
        if column.null_count:
            row = int(np.argmax(column.is_null().to_numpy()))
            raise DataError(f"{self.path}: {name!r} of row {row} is missing: leave the row out")
        values = column.to_numpy()
        return values.astype(str) if values.dtype.kind == "O" else values


class _Opened:
    """Opens a file for pyarrow; its errors become a DataError."""

    def __init__(self, path: Path, metadata: Any) -> None:
        self.path, self.metadata = path, metadata

    def __enter__(self) -> tuple[Any, Any]:
        import pyarrow.parquet

        try:
            self.file = files.open_to_read(self.path)
            return pyarrow.parquet.ParquetFile(self.file, metadata=self.metadata), self.file
        except Exception as error:
            self.__exit__(type(error), error, None)
            raise

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if hasattr(self, "file"):
            self.file.close()
        if error is None or isinstance(error, (DataError, MemoryError)):
            return
        text = getattr(error, "strerror", None) or first_line(error)
        raise DataError(f"{self.path}: is no parquet file, or damaged: {text}") from None


class ParquetRows(Source):
    """The numbers of a parquet file, (rows, columns), float64 or, if all are that, float32.

    Raises:
        DataError: a column is not of numbers.
    """

    def __init__(self, file: ParquetFile, columns: Sequence[str]) -> None:
        self.parquet, self.columns = file, list(columns)
        self.name = str(file.path)
        kinds = {str(file.schema.field(name).type) for name in columns}
        for name in columns:
            if not _is_number(kind := str(file.schema.field(name).type)):
                raise DataError(
                    f"{file.path}: {name!r} is {kind}: files that are read by parts take columns "
                    "of numbers"
                )
        self.dtype = np.dtype(np.float32 if kinds <= {"float", "halffloat"} else np.float64)
        self.shape = (int(file.bounds[-1]), len(columns))
        if not self.shape[0]:
            raise DataError(f"{file.path}: has no rows")
        self.blocks = Blocks(file.bounds, sources.buffer_rows(self.row_bytes))

    def read(self, start: int, stop: int) -> np.ndarray:
        out = np.empty((stop - start, self.shape[1]), self.dtype)
        bounds = self.parquet.bounds
        first = int(np.searchsorted(bounds, start, "right")) - 1
        for number in range(first, int(np.searchsorted(bounds, stop, "left"))):
            low, high = max(start, bounds[number]), min(stop, bounds[number + 1])
            if low >= high:
                continue
            table = self.parquet.group(number, self.columns)
            part = slice(low - bounds[number], high - bounds[number])
            for i, column in enumerate(table.columns):
                values = column.to_numpy()[part]  # NaN where one is missing
                out[low - start : high - start, i] = values
        return out

    def modified(self) -> str:
        return sources.time_of(self.parquet.path.stat())


def _is_number(kind: str) -> bool:
    return kind in ("float", "double", "halffloat", "bool") or kind.lstrip("u").startswith("int")

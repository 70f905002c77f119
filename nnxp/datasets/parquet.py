"""Parquet files, through pyarrow."""

from __future__ import annotations

from pathlib import Path

from nnxp import extras, files
from nnxp.datasets.frames import Frame
from nnxp.errors import DataError, first_line
from nnxp.npz import LARGEST_RATIO, SMALLEST_BOMB


def open_file(path: Path) -> Frame:
    """Read a parquet file.

    Raises:
        InputError: pyarrow is not installed.
        DataError: the file is missing or damaged, or would take more than `SMALLEST_BOMB` bytes and
            `LARGEST_RATIO` times its size.
    """
    pa = extras.require("pyarrow", f"{path}: parquet", "tables")
    import pyarrow.parquet

    try:
        with files.open_to_read(path) as file:
            content = pyarrow.parquet.ParquetFile(file)
            values = content.metadata.num_rows * content.metadata.num_columns
            if 8 * values > max(SMALLEST_BOMB, LARGEST_RATIO * path.stat().st_size):
                raise DataError(
                    f"{path}: has {values:,} values, over {LARGEST_RATIO} times the bytes of the "
                    "file: write it without compression if that is meant, or leave columns out"
                )
            table = content.read()
            table.validate(full=True)  # text that is not UTF-8 would fail when it is used
            return Frame(table, str(path))
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{path}: is no parquet file, or damaged: {first_line(error)}") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or first_line(error)}") from None

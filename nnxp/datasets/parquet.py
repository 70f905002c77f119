"""Parquet files, through pyarrow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
            limit = max(SMALLEST_BOMB, LARGEST_RATIO * path.stat().st_size)
            content = pyarrow.parquet.ParquetFile(file)
            check_size(path, _declared(content), limit)
            # A text that stands in many rows is stored once. So first read each text once, too.
            texts = [
                column.path for column in content.schema if column.physical_type == "BYTE_ARRAY"
            ]
            table = pyarrow.parquet.ParquetFile(file, read_dictionary=texts).read(texts)
            check_size(path, sum(map(_text_bytes, table.columns)), limit)
            table = content.read()
            table.validate(full=True)  # text that is not UTF-8 would fail when it is used
            return Frame(table, str(path))
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{path}: is no parquet file, or damaged: {first_line(error)}") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or first_line(error)}") from None


def check_size(path: Path, unpacked: int, limit: int) -> None:
    """Raise DataError if a file would unpack into more than `limit` bytes."""
    if unpacked > limit:
        raise DataError(
            f"{path}: would unpack into {unpacked:,} bytes, over {LARGEST_RATIO} times its size: "
            "write it without compression if that is meant, or leave columns out"
        )


def _declared(content: Any) -> int:
    """Return the bytes that a file says its columns have, as numbers or unpacked texts."""
    metadata = content.metadata
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    values = 0
    for i, column in enumerate(content.schema):
        rows = metadata.num_rows
        if column.max_repetition_level:  # a list
            rows = sum(group.column(i).num_values for group in groups)
        values += rows * max(8, column.length)
    return max(values, sum(group.total_byte_size for group in groups))


def _text_bytes(column: Any) -> int:
    """Return the bytes of all texts of a column, of which each distinct one is stored once."""
    import pyarrow as pa
    from pyarrow import compute

    total, waiting = 0, list(column.chunks)
    for chunk in waiting:  # grows
        if isinstance(chunk, pa.StructArray):
            waiting += [chunk.field(i) for i in range(chunk.type.num_fields)]
        elif hasattr(chunk, "values") and hasattr(chunk, "offsets"):
            waiting.append(chunk.values)
        elif isinstance(chunk, pa.DictionaryArray) and not pa.types.is_primitive(
            chunk.type.value_type
        ):
            lengths = compute.binary_length(chunk.dictionary)
            total += compute.sum(lengths.cast(pa.int64()).take(chunk.indices)).as_py() or 0
    return total

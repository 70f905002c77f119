"""Npy files: one array each, which is mapped if it is too large to be loaded."""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from nnxp import files
from nnxp.data.sources import Mapped
from nnxp.errors import DataError, first_line, printable
from nnxp.npz import read_header


class Header(NamedTuple):
    """What an npy file says of its array."""

    shape: tuple[int, ...]
    by_columns: bool
    dtype: np.dtype[Any]
    offset: int
    """The place of the first number in the file."""


def header(path: Path) -> Header:
    """Read and check the header of an npy file.

    Raises:
        DataError: the file is missing or damaged, is cut, or holds Python objects, which are never
            unpickled.
    """
    try:
        with files.open_to_read(path) as file:
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise DataError(f"{path}: is no regular file, and an npy file is read by parts")
            shape, by_columns, dtype = read_header(file)
            offset, size = file.tell(), info.st_size
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except DataError:
        raise
    except Exception as error:  # the text of a damaged header can fail in any way
        text = printable(first_line(error))
        raise DataError(f"{path}: not a readable npy file ({text}): numpy.save makes one") from None
    if dtype.hasobject:
        raise DataError(
            f"{path}: holds Python objects, which nnxp does not unpickle: save an array of numbers"
        )
    declared = math.prod(shape) * dtype.itemsize
    if not dtype.itemsize:
        raise DataError(f"{path}: is an array of {dtype}, which has no bytes")
    if declared > size - offset:
        raise DataError(
            f"{path}: declares {declared:,} bytes of numbers and has {size - offset:,}: it is cut"
        )
    return Header(shape, by_columns, dtype, offset)


def load(path: Path) -> np.ndarray:
    """Read the array of an npy file.

    Raises:
        DataError: see `header`.
    """
    found = header(path)
    with files.open_to_read(path) as file:
        file.seek(found.offset)
        content = file.read(math.prod(found.shape) * found.dtype.itemsize)
    if len(content) < math.prod(found.shape) * found.dtype.itemsize:
        raise DataError(f"{path}: was cut while it was read")
    values = np.frombuffer(bytearray(content), found.dtype)
    return values.reshape(found.shape[::-1]).T if found.by_columns else values.reshape(found.shape)


def open_rows(path: Path) -> Mapped:
    """Map the array of an npy file, (samples, ...), as rows.

    Raises:
        DataError: see `header`; or it is no array of numbers with rows.
    """
    found = header(path)
    check_rows(path, found.shape, found.dtype)
    if found.by_columns and min(len(found.shape), 2) == 2 and found.shape[1:] != (1,):
        raise DataError(
            f"{path}: is stored column by column, so that a row lies in many places: save "
            "numpy.ascontiguousarray(x)"
        )
    try:
        x = np.memmap(path, found.dtype, "r", found.offset, found.shape)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be mapped ({first_line(error)})") from None
    return Mapped(cast(np.memmap, x.reshape(found.shape[0], -1)), str(path))


def check_rows(name: object, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise DataError unless these are of numbers, (samples, features) or more axes, not empty."""
    if dtype.kind not in "buif" or len(shape) < 2 or 0 in shape:
        raise DataError(f"{name}: is {dtype} {shape}; it must be numbers, (samples, features)")

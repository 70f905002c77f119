"""Read npz archives of arrays without running code in them, and refuse zip bombs."""

from __future__ import annotations

import math
import os
import zipfile
from collections import Counter
from pathlib import Path
from typing import IO, Any

import numpy as np

from nnxp.errors import DataError, first_line, printable, shown

LARGEST_RATIO = 200
"""The largest ratio of unpacked to packed bytes: images and tables stay well below it, and an
archive of zeros reaches 1000."""
SMALLEST_BOMB = 2**26
"""Unpacked bytes up to which any ratio is accepted."""
MOST_ARRAYS = 2**12
LONGEST_HEADER = 10_000
"""Bytes of an array's header, as NumPy reads them at most."""
_KINDS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""The kinds of compression that NumPy writes; others may claim gigabytes to unpack a few bytes."""


def load(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read every array of an npz archive; pickled objects are refused.

    Raises:
        DataError: the file is missing, damaged or not an npz archive, has more than `MOST_ARRAYS`
            arrays or two of one name, or would unpack into more than `SMALLEST_BOMB` bytes and
            `LARGEST_RATIO` times its size.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            _check_sizes(path, archive)
            arrays = {}
            for member in archive.infolist():
                with archive.open(member) as file:
                    name = member.filename.removesuffix(".npy")
                    arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
            return arrays
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except DataError:
        raise
    except Exception as error:  # a damaged archive can fail in any layer that unpacks it
        text = printable(first_line(error))
        raise DataError(
            f"{path}: not a readable npz archive ({text}): write it with numpy.savez"
        ) from None


def _check_sizes(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse, before unpacking, a zip bomb and an array that declares another size than it has."""
    names = archive.namelist()
    if len(names) > MOST_ARRAYS:
        raise DataError(f"{path}: has {len(names):,} arrays, more than {MOST_ARRAYS:,}")
    for name, times in Counter(names).most_common(1):
        if times > 1:
            raise DataError(f"{path}: has {shown(name)} {times} times")
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > SMALLEST_BOMB and unpacked > LARGEST_RATIO * path.stat().st_size:
        raise DataError(
            f"{path}: would unpack into {unpacked:,} bytes, over {LARGEST_RATIO} times its size: "
            "write it with numpy.savez, uncompressed, if that is meant"
        )
    for member in archive.infolist():
        if member.compress_type not in _KINDS:
            raise ValueError(f"compression {member.compress_type}")
        with archive.open(member) as file:
            shape, _, dtype = read_header(file)
            declared = math.prod(shape) * dtype.itemsize
            if not dtype.hasobject and declared != member.file_size - file.tell():
                name = printable(member.filename)
                raise DataError(
                    f"{path}: {name} declares {declared:,} bytes and does not hold them"
                )


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of an array in NumPy's format: its shape, whether by columns, and dtype.

    Raises:
        ValueError: it is damaged, of a version that nnxp does not read, or claims to be long.
    """
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"array format {version}")
    start = file.tell()
    length = int.from_bytes(file.read(2 * version[0]), "little")
    if length > LONGEST_HEADER:
        raise ValueError(f"a header of {length:,} bytes")
    file.seek(start)
    return read(file)

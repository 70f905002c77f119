"""The IDX file format of MNIST, plain or gzipped.

A file has two zero bytes, a type code, the number of dimensions, each dimension as a big-endian
uint32, then the values. Only unsigned bytes (type code 8) are read: MNIST and its relatives use no
other type.

Source: Y. LeCun, C. Cortes and C. Burges, The MNIST database, "File formats".
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from nnxp import files
from nnxp.errors import DataError
from nnxp.npz import LARGEST_RATIO, SMALLEST_BOMB

_GZIP_MAGIC = b"\x1f\x8b"


def read(path: Path, dimensions: int) -> np.ndarray:
    """Read the array in an IDX file, uint8.

    Args:
        path: the file; its name must end in `.gz` if and only if it is gzipped.
        dimensions: the number of dimensions of the array: 3 for images, 1 for labels.

    Raises:
        DataError: the file is missing, truncated, not IDX, of another shape, or gzipped and more
            than `SMALLEST_BOMB` bytes and `LARGEST_RATIO` times its size.
    """
    try:
        with files.open_to_read(path) as file:
            zipped = file.read(2) == _GZIP_MAGIC
        if zipped and path.suffix != ".gz":
            raise DataError(f"{path}: is gzipped but not called so: rename it to {path.name}.gz")
        if not zipped and path.suffix == ".gz":
            raise DataError(f"{path}: is called .gz but not gzipped: fetch it anew or rename it")
        size = path.stat().st_size
        largest = max(SMALLEST_BOMB, LARGEST_RATIO * size) if zipped else size
        with gzip.open(path) if zipped else path.open("rb") as file:
            return _parse(file, path, dimensions, largest)
    except MemoryError:
        raise DataError(f"{path}: takes more memory than there is") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged gzip file ({error}): fetch it anew") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None


def _parse(file, path: Path, dimensions: int, largest: int) -> np.ndarray:  # type: ignore[no-untyped-def]
    magic = file.read(4)
    if len(magic) < 4 or magic[:3] != b"\0\0\x08":
        raise DataError(
            f"{path}: not an IDX file of bytes (it begins {magic.hex(' ') or 'nowhere'})"
        )
    if magic[3] != dimensions:
        raise DataError(
            f"{path}: has {magic[3]} dimensions, not {dimensions}: "
            "images and labels may have changed places"
        )
    header = file.read(4 * dimensions)
    if len(header) < 4 * dimensions:
        raise DataError(f"{path}: truncated in its header: fetch it anew")
    shape = struct.unpack(f">{dimensions}I", header)
    size = math.prod(shape)
    # Read one byte past the declared size, which also makes gzip check its checksum.
    body = file.read(size + 1) if size <= largest else b""
    if len(body) != size:
        many = "more" if len(body) > size else "fewer"
        raise DataError(f"{path}: holds {many} bytes than the {size:,} it declares: fetch it anew")
    try:
        return np.frombuffer(body, dtype=np.uint8).reshape(shape)
    except ValueError:  # no images of 2^32 x 2^32: nothing to hold, and yet too large
        raise DataError(f"{path}: declares {shape}, which no array has: fetch it anew") from None

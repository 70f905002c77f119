"""Read and write safetensors files: first the header, which is bounded, then the arrays.

A file has the length of its header as eight bytes, the header, and the bytes of all arrays. The
library safetensors makes the arrays; it checks that they fill the file without gaps or overlaps.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from nnxp import strict_json
from nnxp.errors import first_line, printable, shown

LARGEST_HEADER = 100_000_000
"""Bytes: the library's own limit."""


@dataclass(frozen=True)
class Header:
    """What a file says of itself."""

    content: bytes
    """The length of the header and the header, as they are in the file."""
    metadata: dict[str, str]
    dtypes: dict[str, str]
    """The type of each array: "F32", "I64", ..."""
    declared: int
    """The bytes of all arrays."""


def read_header(file: BinaryIO) -> Header:
    """Read the header of an open file, no matter what follows it.

    Raises:
        ValueError: it is not one of a safetensors file, or larger than `LARGEST_HEADER`.
    """
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > min(LARGEST_HEADER, _rest(file, LARGEST_HEADER)):
        raise ValueError("no safetensors file, or cut")
    return parse_header(start + file.read(length))


def parse_header(content: bytes) -> Header:
    """Parse a header, which stands behind its length.

    Raises:
        ValueError: it is not one of a safetensors file.
    """
    entries = strict_json.loads(content[8:])
    if not isinstance(entries, dict):
        raise ValueError("its header is no object")
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(x, str) for x in metadata.values()):
        raise ValueError("its metadata is not text")
    found = {name: _entry(name, entry) for name, entry in entries.items()}
    return Header(
        content,
        metadata,
        {name: dtype for name, (dtype, _) in found.items()},
        max((end for _, end in found.values()), default=0),
    )


def _entry(name: str, entry: Any) -> tuple[str, int]:
    """Return the type of an array, and where it ends."""
    try:
        dtype, shape, (_, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        whole = all(type(each) is int and each >= 0 for each in (*shape, *entry["data_offsets"]))
        if entry.keys() != {"dtype", "shape", "data_offsets"} or not whole:
            raise ValueError
        return str(dtype), end
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"its header says nothing right of {shown(name)}") from None


def read_body(file: BinaryIO, header: Header) -> bytes:
    """Read what follows the header in an open file: the bytes of all arrays.

    Raises:
        ValueError: they are fewer or more than the header declares, or than memory holds.
    """
    if _rest(file, header.declared) == header.declared:
        try:
            body = file.read(header.declared + 1)
        except (MemoryError, OverflowError):
            raise ValueError(f"takes {header.declared:,} bytes: more than there are") from None
        if len(body) == header.declared:
            return body
    raise ValueError(f"does not hold the {header.declared:,} bytes that it declares")


def _rest(file: BinaryIO, otherwise: int) -> int:
    """Return the number of bytes to the end of a file; `otherwise` for what has no size: a pipe."""
    status = os.fstat(file.fileno())
    return status.st_size - file.tell() if stat.S_ISREG(status.st_mode) else otherwise


def arrays(content: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of a file whose header was read.

    Raises:
        ValueError: they do not fill the file, or NumPy has not their type.
    """
    import safetensors
    import safetensors.numpy

    try:
        return safetensors.numpy.load(content)
    except (safetensors.SafetensorError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(printable(first_line(error))) from None


def dump(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """Return the content of a file.

    Raises:
        ValueError: its header would be one that is not read.
    """
    import safetensors
    import safetensors.numpy

    try:
        content = safetensors.numpy.save(arrays, metadata)
    except (safetensors.SafetensorError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(first_line(error)) from None
    length = int.from_bytes(content[:8], "little")
    if length > LARGEST_HEADER:
        raise ValueError(f"{length:,} bytes: more than {LARGEST_HEADER:,}")
    parse_header(content[: 8 + length])
    return content

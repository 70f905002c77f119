"""Zarr stores in a folder, through zarr: arrays of features and of targets."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from nnxp import extras, strict_json
from nnxp.data.sources import Sliced, Source
from nnxp.datasets.npy_files import check_rows
from nnxp.datasets.parquet import check_size
from nnxp.datasets.raw import Arrays
from nnxp.errors import DataError, NnxpError, first_line, shown
from nnxp.npz import LARGEST_RATIO, SMALLEST_BOMB

_MARKS = ("zarr.json", ".zgroup", ".zarray")
CODECS = {
    "bytes", "transpose", "blosc", "gzip", "zstd", "zlib", "lz4", "lzma", "bz2", "crc32c", "crc32",
    "sharding_indexed", "shuffle", "delta", "vlen-utf8", "string", "default",
}  # fmt: skip
"""The codecs that may be in a store: others could run code, as pickle does."""


def is_for(path: Path) -> bool:
    """Return whether there is a Zarr store at `path`."""
    return path.suffix.lower() == ".zarr" or any((path / name).is_file() for name in _MARKS)


def read(path: Path, features: str | None, target: str | None, with_targets: bool) -> Arrays:
    """Open the features, and read the targets, of a Zarr store; see `nnxp.datasets.hdf5.read`.

    A store that is one array has features alone.

    Raises:
        InputError: zarr is not installed.
        DataError: the store is damaged, or has a codec that nnxp does not know; an array is missing
            or is not of numbers.
    """
    zarr = extras.require("zarr", f"{path}: Zarr", "zarr")
    if not path.is_dir():
        raise DataError(f"{path}: {'is no folder' if path.exists() else 'No such file or folder'}")
    if _is_array(path):
        return Arrays(_rows(path, _array(zarr, path, "")))
    names = {"x": features or "x"}
    if with_targets and (target is not None or _is_array(path / "y")):
        names["y"] = target or "y"
    tests = _is_array(path / "x_test") and _is_array(path / "y_test")
    if features is None and target is None and with_targets and tests:
        names |= {"x_test": "x_test", "y_test": "y_test"}
    arrays = {name: _array(zarr, path, where) for name, where in names.items()}
    found = Arrays(_rows(path, arrays["x"]))
    if "y" in arrays:
        found.y = _targets(path, arrays["y"])
    if "x_test" in arrays:
        found.x_test = _rows(path, arrays["x_test"])
        found.y_test = _targets(path, arrays["y_test"])
    return found


def _is_array(folder: Path) -> bool:
    if (folder / ".zarray").is_file():
        return True
    described = folder / "zarr.json"
    return described.is_file() and _json(described).get("node_type") == "array"


def _json(path: Path) -> dict[str, Any]:
    try:
        found = strict_json.loads(path.read_bytes().decode())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise DataError(f"{path}: is damaged ({first_line(error)})") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: is damaged: it is no object")
    return found


def _array(zarr: Any, path: Path, name: str) -> Any:
    folder = path.joinpath(*name.strip("/").split("/")) if name else path
    if ".." in folder.parts or not _is_array(folder):
        there = sorted(each.name for each in path.iterdir() if _is_array(each))
        raise DataError(
            f"{path}: has no array {name!r}; there are {', '.join(there[:20]) or 'none'} "
            "(features_name, target: --features, --target)"
        )
    for mark in (".zarray", "zarr.json"):
        if (folder / mark).is_file():
            _check_codecs(folder / mark, _json(folder / mark))
    try:
        return zarr.open_array(os.fspath(folder), mode="r")
    except NnxpError:
        raise
    except Exception as error:  # a damaged store can fail in any part of zarr
        raise DataError(f"{folder}: is no Zarr array, or damaged ({first_line(error)})") from None


def _check_codecs(path: Path, described: Any) -> None:
    """Refuse codecs that are not known, wherever in a description."""
    waiting = [
        described.get(key)
        for key in ("codecs", "filters", "compressor", "chunk_key_encoding", "storage_transformers")
    ]
    for value in waiting:  # grows
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            name = value.get("id", value.get("name"))
            if isinstance(name, str) and name.removeprefix("numcodecs.") not in CODECS:
                raise DataError(f"{path}: has a codec {shown(name)} that nnxp does not read")
            waiting += [each for each in value.values() if isinstance(each, (dict, list))]
    if described.get("dtype") == "|O":
        raise DataError(f"{path}: holds Python objects: save numbers")


def _rows(path: Path, array: Any) -> Source:
    name = f"{path}/{array.path}".rstrip("/")
    check_rows(name, array.shape, array.dtype)
    _check_size(path, array)
    return Sliced(array, name, path)


def _check_size(path: Path, array: Any) -> None:
    chunk = math.prod(array.shards or array.chunks) * array.dtype.itemsize
    limit = max(SMALLEST_BOMB, LARGEST_RATIO * array.nbytes_stored())
    check_size(path, max(array.nbytes, chunk), limit)


def _targets(path: Path, array: Any) -> np.ndarray:
    _check_size(path, array)
    try:
        found = np.asarray(array[...])
    except Exception as error:
        raise DataError(f"{path}/{array.path}: cannot be read ({first_line(error)})") from None
    return found.astype(str) if found.dtype.kind in "OT" else found

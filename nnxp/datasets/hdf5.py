"""HDF5 files, through h5py: datasets of features and of targets."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import numpy as np

from nnxp import extras, files
from nnxp.data.sources import Mapped, Sliced, Source
from nnxp.datasets.npy_files import check_rows
from nnxp.datasets.parquet import check_size
from nnxp.datasets.raw import Arrays
from nnxp.errors import DataError, NnxpError, first_line
from nnxp.npz import LARGEST_RATIO, SMALLEST_BOMB


def read(path: Path, features: str | None, target: str | None, with_targets: bool) -> Arrays:
    """Open the features, and read the targets, of an HDF5 file.

    A dataset that is neither chunked nor compressed is mapped, so that its rows at random are
    cheap. Others are read by chunks.

    Args:
        path: the file.
        features, target: the names of the datasets; "x" and "y" if not given. Then "x_test" and
            "y_test" are a test part.
        with_targets: whether targets are read here.

    Raises:
        InputError: h5py is not installed.
        DataError: the file is damaged, a dataset is missing, is not of numbers or lies elsewhere.
    """
    h5py = extras.require("h5py", f"{path}: HDF5", "hdf5")
    try:
        with files.open_to_read(path):
            pass
        file = h5py.File(path, "r")
    except OSError as error:
        text = error.strerror or first_line(error)
        raise DataError(f"{path}: is no HDF5 file, or cannot be read ({text})") from None
    names = {"x": features or "x"}
    if with_targets and (target is not None or "y" in file):
        names["y"] = target or "y"
    if features is None and target is None and with_targets and {"x_test", "y_test"} <= {*file}:
        names |= {"x_test": "x_test", "y_test": "y_test"}
    try:
        datasets = {name: _dataset(path, file, where, h5py) for name, where in names.items()}
        found = Arrays(_rows(path, file, datasets["x"]))
        if "y" in datasets:
            found.y = _targets(path, datasets["y"])
        if "x_test" in datasets:
            found.x_test = _rows(path, file, datasets["x_test"])
            found.y_test = _targets(path, datasets["y_test"])
    except NnxpError:
        raise
    except Exception as error:  # a damaged file can fail in any part of HDF5
        raise DataError(f"{path}: not a readable HDF5 file ({first_line(error)})") from None
    return found


def _dataset(path: Path, file: Any, name: str, h5py: Any) -> Any:
    """Return a dataset that lies in this file.

    Raises:
        DataError: there is none, or it is a link to somewhere else.
    """
    folder = file
    *groups, last = name.strip("/").split("/")
    for part in (*groups, last):
        if not isinstance(folder, h5py.Group) or part not in folder:
            there = ", ".join([*folder][:20]) if isinstance(folder, h5py.Group) else ""
            raise DataError(
                f"{path}: has no dataset {name!r}; there are {there or 'none'} "
                "(features_name, target: --features, --target)"
            )
        if not isinstance(folder.get(part, getlink=True), h5py.HardLink):
            raise DataError(f"{path}: {name} is a link to somewhere else")
        folder = folder[part]
    if not isinstance(folder, h5py.Dataset):
        raise DataError(f"{path}: {name} is a group, not a dataset")
    if folder.external or folder.is_virtual:
        raise DataError(f"{path}: {name} lies in another file")
    return folder


def _rows(path: Path, file: Any, dataset: Any) -> Source:
    name = f"{path}:{dataset.name}"
    check_rows(name, dataset.shape or (), dataset.dtype)
    _check_size(path, dataset)
    offset = dataset.id.get_offset()
    if dataset.chunks is None and offset is not None and not file.userblock_size:
        x = np.memmap(path, dataset.dtype, "r", offset, dataset.shape)
        return Mapped(cast(np.memmap, x.reshape(len(x), -1)), name)
    return Sliced(dataset, name, path)


def _check_size(path: Path, dataset: Any) -> None:
    # A chunk is unpacked as a whole, though little of it may belong to the dataset.
    chunk = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
    limit = max(SMALLEST_BOMB, LARGEST_RATIO * path.stat().st_size)
    check_size(path, max(dataset.nbytes, chunk), limit)


def _targets(path: Path, dataset: Any) -> np.ndarray:
    _check_size(path, dataset)
    if dataset.dtype.kind in "OS":  # text
        return np.array(dataset.asstr()[()].tolist(), dtype=str)
    found: np.ndarray = dataset[()]
    return found

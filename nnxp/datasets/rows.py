"""Data that is read by rows, whatever its size: npy files, folders of files, HDF5 and Zarr.

What is small is loaded. Larger features stay on disk, as a `nnxp.data.sources.Source`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nnxp.data import sources
from nnxp.data.sources import Source
from nnxp.datasets import hdf5, npy_files, parquet_rows, zarr_files
from nnxp.datasets.raw import Arrays, Raw, are_targets
from nnxp.errors import DataError

FILES = (".npy", ".h5", ".hdf5", ".zarr")
"""The suffixes of files and folders that this reads; and a folder of npy or parquet files."""


class Names(NamedTuple):
    """Where the arrays are."""

    features: str | None = None
    """The features in an HDF5 or Zarr file; "x" if not given."""
    target: str | None = None
    """The targets there, "y" if not given; or the target column of parquet files."""
    targets: Path | None = None
    """A npy file of targets."""


def is_for(path: str | Path) -> bool:
    """Return whether this reads what is at `path`."""
    path = Path(path)
    return path.suffix.lower() in FILES or os.path.isdir(path)  # a long name raises nothing


def read(
    path: Path,
    names: Names,
    like: Sequence[str] | None = None,
    stream: bool | None = None,
    *,
    features_only: bool = False,
) -> Raw:
    """Read features and targets.

    Args:
        path: a file or a folder.
        names: the names of the arrays.
        like: the columns of parquet files that a model was trained on.
        stream: whether features stay on disk; None if they are larger than
            `nnxp.data.sources.LOADED_BYTES`.
        features_only: whether targets may be absent.

    Raises:
        InputError: the file needs a library that is not installed.
        DataError: something is missing, damaged or does not fit.
    """
    columns = target = None
    with_targets = names.targets is None
    if zarr_files.is_for(path):
        found = zarr_files.read(path, names.features, names.target, with_targets)
    elif os.path.isdir(path):
        shards = _shards(path)
        if shards[0].suffix.lower() == ".npy":
            opened = [npy_files.open_rows(each) for each in shards]
            found = Arrays(sources.joined(opened, str(path)))
        else:
            x, y, columns, target = parquet_rows.read(
                path, shards, names.target, like, with_targets, features_only
            )
            found = Arrays(x, y)
    elif path.suffix.lower() == ".npy":
        found = Arrays(npy_files.open_rows(path))
    else:
        found = hdf5.read(path, names.features, names.target, with_targets)
    if names.targets is not None:
        found.y = npy_files.load(names.targets)
    if found.y is None and not features_only:
        raise DataError(
            f"{path}: has no targets to train on or to compare with: name an npy file of them "
            "(targets_file, --targets)"
        )
    for rows, y in ((found.x, found.y), (found.x_test, found.y_test)):
        if rows is not None and y is not None:
            _check_targets(names.targets or path, rows, y)
    return _raw(path, found, stream, columns, target)


def _raw(
    path: Path,
    found: Arrays,
    stream: bool | None,
    columns: tuple[str, ...] | None,
    target: str | None,
) -> Raw:
    x, x_test = found.x, found.x_test
    if x_test is not None and x_test.shape[1:] != x.shape[1:]:
        raise DataError(f"{path}: x is {x.shape}, x_test {x_test.shape}: unlike rows")
    stays = x.nbytes > sources.LOADED_BYTES if stream is None else stream
    used, used_test = (each if stays or each is None else _loaded(each) for each in (x, x_test))
    assert used is not None
    return Raw(
        str(path), used, found.y, (x.shape[1],), used_test, found.y_test,
        from_file=True, features=columns, target=target, source=x,
    )  # fmt: skip


def _loaded(x: Source) -> np.ndarray:
    found = x.load()
    x.check(found, 0)
    return found


def _shards(folder: Path) -> list[Path]:
    """Return the files of a folder in the order of their names.

    Raises:
        DataError: there is none, or they are of several kinds.
    """
    try:
        names = sorted(each for each in folder.iterdir() if not each.name.startswith((".", "_")))
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror or error}") from None
    shards = [each for each in names if each.suffix.lower() in (".npy", ".parquet")]
    if not shards:
        raise DataError(f"{folder}: is a folder without npy or parquet files")
    for each in names:
        if each.suffix.lower() != shards[0].suffix.lower():
            raise DataError(
                f"{folder}: has {shards[0].name} and {each.name}: leave files of one kind there, "
                "and targets elsewhere"
            )
    return shards


def _check_targets(name: object, x: Source, y: np.ndarray) -> None:
    if not are_targets(y):
        raise DataError(
            f"{name}: the targets are {y.dtype} {y.shape}; they must be classes or text, "
            "(samples,), or numbers, (samples, outputs)"
        )
    if len(x) != len(y):
        raise DataError(
            f"{name}: has {len(y):,} targets, and there are {len(x):,} rows of features"
        )
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        place = [int(i) for i in np.argwhere(~np.isfinite(y))[0]]
        raise DataError(f"{name}: target {place} is {y[tuple(place)]}: fill it in")

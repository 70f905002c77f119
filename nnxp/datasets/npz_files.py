"""Npz files: arrays x and y, and optionally x_test and y_test."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nnxp import npz
from nnxp.datasets.raw import Raw, are_targets
from nnxp.errors import DataError, printable


def read(path: Path, features_only: bool = False, impute: bool = False) -> Raw:
    """Read an npz archive with `x`, (samples, ...), `y`, and optionally `x_test`, `y_test`.

    Loading runs no code: pickled objects are refused.

    Args:
        path: the archive.
        features_only: whether `y` may be absent.
        impute: whether features may be missing: NaN.

    Raises:
        DataError: the archive is damaged, an array is missing or has a wrong shape, or a value is
            not finite.
    """
    arrays = npz.load(path)
    needed = ("x",) if features_only else ("x", "y")
    for name in needed:
        if name not in arrays:
            there = printable(", ".join(arrays)) or "none"
            raise DataError(f"{path}: has no array {name!r}; it has {there}")
    if ("x_test" in arrays) != ("y_test" in arrays):
        raise DataError(f"{path}: x_test and y_test go together: one of them is missing")
    for x_name, y_name in (("x", "y"), ("x_test", "y_test")):
        if x_name in arrays:
            _check_pair(path, arrays, x_name, y_name, impute)
    x, x_test = arrays["x"], arrays.get("x_test")
    if x_test is not None and x_test.shape[1:] != x.shape[1:]:
        raise DataError(
            f"{path}: x is {x.shape}, x_test {x_test.shape}: their rows differ in length"
        )
    return Raw(
        str(path), x.reshape(len(x), -1), arrays.get("y"), x.shape[1:],
        None if x_test is None else x_test.reshape(len(x_test), -1), arrays.get("y_test"),
        from_file=True,
    )  # fmt: skip


def _check_pair(
    path: Path, arrays: dict[str, np.ndarray], x_name: str, y_name: str, impute: bool
) -> None:
    x, y = arrays[x_name], arrays.get(y_name)
    if x.dtype.kind not in "buif" or x.ndim < 2 or x.size == 0:
        raise DataError(
            f"{path}: {x_name} is {x.dtype} {x.shape}; it must be numbers, (samples, features)"
        )
    for name, array in ((x_name, x), (y_name, y)):
        if array is None or array.dtype.kind != "f":
            continue
        missing = np.isnan(array) if name == x_name else np.zeros(array.shape, bool)
        wrong = ~np.isfinite(array) & ~(missing & impute)
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            cure = " (impute, --impute)" if missing[place] else ""
            raise DataError(f"{path}: {name}{list(place)} is {array[place]}: fill it in{cure}")
    if y is not None:
        if not are_targets(y):
            raise DataError(
                f"{path}: {y_name} is {y.dtype} {y.shape}; it must be classes or text, (samples,), "
                "or numbers, (samples, outputs)"
            )
        if len(x) != len(y):
            raise DataError(f"{path}: {x_name} has {len(x)} rows, {y_name} has {len(y)}")
        if y.shape[1:] != arrays["y"].shape[1:]:
            raise DataError(f"{path}: y is {arrays['y'].shape}, {y_name} {y.shape}: unlike rows")

"""Features of scikit-learn's kinds: arrays of any library, and sparse matrices."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn import get_config

from nnxp.arrays import Array, device, is_array, namespace
from nnxp.backends import Backend
from nnxp.data import placement
from nnxp.errors import BackendError
from nnxp.network import MLP

log = logging.getLogger("nnxp")


def take(array: Any, rows: np.ndarray) -> Any:
    """Return rows of an array of any library, or of a sparse matrix."""
    if isinstance(array, np.ndarray) or not is_array(array):
        return array[rows]
    xp = namespace(array)
    return xp.take(array, xp.asarray(rows, device=device(array)), axis=0)


def place(X: Any) -> tuple[str, str]:
    """Return the library and the device of X, whose names pickle; NumPy's for a sparse matrix."""
    x = X if is_array(X) else np.empty(0)
    return namespace(x).__name__.removeprefix("array_api_compat."), str(device(x))


def like(array: Any, X: Any) -> Any:
    """Return an array of numbers in the library of X and on its device; others as they are."""
    if not is_array(X) or not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        return array
    return namespace(X).asarray(array, device=device(X))


def float_dtypes(X: Any) -> list[Any]:
    """Return the dtypes that X may have, in its own library; others become the first."""
    if not get_config()["array_api_dispatch"] or not is_array(X):
        return [np.float64, np.float32]
    info = namespace(X).__array_namespace_info__()
    found = info.dtypes(device=device(X), kind="real floating")
    return [found[name] for name in ("float64", "float32") if name in found]


def dtype_name(X: Any, backend: Backend) -> str:
    """Return the name of X's dtype, or "float32" where the backend has no float64."""
    if str(X.dtype).endswith("float32"):
        return "float32"
    try:
        backend.dtype("float64")
    except BackendError as error:
        log.info("X is float64, the network float32: %s", error)
        return "float32"
    return "float64"


def dense(X: Any, dtype: str) -> Array:
    """Return X; if it is sparse, as a dense array."""
    if not hasattr(X, "toarray"):
        return X
    size = X.shape[0] * X.shape[1] * np.dtype(dtype).itemsize
    log.info("X is sparse, and made dense for training: %s", placement.bytes_text(size))
    return X.astype(dtype).toarray()


def dense_blocks(X: Any, network: MLP) -> Iterator[np.ndarray]:
    rows = max(1, network.spec.block_rows)
    for start in range(0, X.shape[0], rows):
        yield X[start : start + rows].toarray()

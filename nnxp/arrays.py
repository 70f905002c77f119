"""The interface to array-api-compat: an array's library and device, and copies to the host.

Each library has its own way to copy an array to the host, so `to_numpy` names libraries.
"""

from typing import Any

import array_api_compat
import numpy as np

Array = Any
"""An array of any library that follows the Array API standard, version 2023.12 or later."""

_namespaces: dict[type, Any] = {}


def namespace(x: Array) -> Any:
    """Return the Array API namespace that `x` belongs to.

    It is cached by type: `array_namespace` takes microseconds per call, as long as an elementwise
    kernel on a small array.
    """
    try:
        return _namespaces[type(x)]
    except KeyError:
        xp = _namespaces[type(x)] = array_api_compat.array_namespace(x)
        return xp


def device(x: Array) -> Any:
    """Return the device of `x` as its library represents it (None while JAX traces)."""
    return array_api_compat.device(x)


def is_array(x: object) -> bool:
    """Return whether `x` is an array of a library that follows the standard."""
    return not isinstance(x, type) and array_api_compat.is_array_api_obj(x)


def is_lazy(x: object) -> bool:
    """Return whether `x` is no array of a library that holds its values in memory.

    An array of dask is none: it may be larger than the memory.
    """
    return not is_array(x) or array_api_compat.is_dask_array(x)


def index_dtype(xp: Any) -> Any:
    """Return the integer dtype that the library `xp` uses for indices."""
    return xp.__array_namespace_info__().default_dtypes()["indexing"]


def rows(arrays: tuple[Array, ...], indices: Array) -> tuple[Array, ...]:
    """Take the same rows of each array, such as a mini-batch; `indices` is (n,), integers."""
    xp = namespace(indices)
    return tuple(xp.take(array, indices, axis=0) for array in arrays)


def to_numpy(x: Any) -> np.ndarray:
    """Convert `x` to a NumPy array on the host: a view if the memory can be shared, else a copy.

    `x` may be an array of any library and device, nested lists or a number.
    """
    if not is_array(x):
        return np.asarray(x)
    if array_api_compat.is_torch_array(x):
        x = x.detach().resolve_conj().resolve_neg().cpu()
    elif array_api_compat.is_cupy_array(x):
        with device(x):  # CuPy copies on the current device's stream, whatever x's device is
            x = array_api_compat.to_device(x, "cpu")
    elif array_api_compat.is_array_api_strict_namespace(namespace(x)):
        x = array_api_compat.to_device(x, namespace(x).Device("CPU_DEVICE"))
    return np.asarray(x)

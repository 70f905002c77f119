"""The one door to array-api-compat: which library an array belongs to, and moving between them.

The way to the host is the one thing that every library has its own of; so it, too, is here.
"""

from typing import Any

import array_api_compat
import numpy as np

Array = Any
"""An array of any library that follows the Array API standard, version 2023.12 or later."""

_namespaces: dict[type, Any] = {}


def namespace(x: Array) -> Any:
    """The Array API namespace that `x` belongs to.

    Resolved once per type: `array_namespace` costs microseconds a call, which is a whole
    elementwise kernel on a small array.
    """
    try:
        return _namespaces[type(x)]
    except KeyError:
        xp = _namespaces[type(x)] = array_api_compat.array_namespace(x)
        return xp


def device(x: Array) -> Any:
    """The device `x` lives on, as its own library names it (None while JAX traces)."""
    return array_api_compat.device(x)


def is_array(x: object) -> bool:
    """Whether `x` is an array of a library that follows the standard."""
    return not isinstance(x, type) and array_api_compat.is_array_api_obj(x)


def index_dtype(xp: Any) -> Any:
    """The integer dtype that library `xp` indexes with."""
    return xp.__array_namespace_info__().default_dtypes()["indexing"]


def rows(arrays: tuple[Array, ...], indices: Array) -> tuple[Array, ...]:
    """The same rows, (n,) integers, of each array: a mini-batch of data."""
    xp = namespace(indices)
    return tuple(xp.take(array, indices, axis=0) for array in arrays)


def to_numpy(x: Any) -> np.ndarray:
    """`x` as a NumPy array on the host: a view where the memory can be shared, else a copy.

    Takes arrays of any library and device, nested lists and numbers.
    """
    if not is_array(x):
        return np.asarray(x)
    if array_api_compat.is_torch_array(x):
        x = x.detach().resolve_conj().resolve_neg().cpu()
    elif array_api_compat.is_cupy_array(x):
        x = array_api_compat.to_device(x, "cpu")
    elif array_api_compat.is_array_api_strict_namespace(namespace(x)):
        x = array_api_compat.to_device(x, namespace(x).Device("CPU_DEVICE"))
    return np.asarray(x)

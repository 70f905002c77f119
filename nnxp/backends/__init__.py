"""Backends: the array libraries that nnxp's kernels run on.

`get(name, device)` opens a backend. Array libraries are named only in this package, in
`nnxp.executors` and, for copies to the host, in `nnxp.arrays`. To add a backend, write a `Backend`
subclass in a new file here and add a line to `BACKENDS`.
"""

import ctypes
import importlib
import logging
import os
import sys

from nnxp import executors, options
from nnxp.arrays import Array, device, is_array, namespace
from nnxp.backends.base import Availability, Backend, Threads
from nnxp.errors import BackendError, InputError, shown, unknown_name
from nnxp.names import ExecutorName
from nnxp.registry import Registry

__all__ = [
    "BACKENDS",
    "Availability",
    "Backend",
    "availability",
    "backend_class",
    "default_name",
    "get",
    "of",
    "parse",
]


def _is_backend(value: object) -> bool:
    """Return whether a value is a class of a backend."""
    return isinstance(value, type) and issubclass(value, Backend)


BACKENDS = Registry(
    "backend",
    {
        "numpy": "nnxp.backends.numpy:NumPyBackend",
        "cupy": "nnxp.backends.cupy:CuPyBackend",
        "torch": "nnxp.backends.torch:TorchBackend",
        "jax": "nnxp.backends.jax:JAXBackend",
        "array-api-strict": "nnxp.backends.array_api_strict:StrictBackend",
    },
    "a subclass of nnxp.backends.Backend",
    _is_backend,
    separator="-",
)
"""The class of each backend, or its module and name: the module is imported when it is first used.
"""

log = logging.getLogger("nnxp")

_CUDA_BACKENDS = ("cupy", "torch", "jax")


BACKEND = options.optional(
    options.Rule(
        "a backend's name or class, or an open backend",
        lambda value: (
            value
            if isinstance(value, Backend) or _is_backend(value)
            else options.TEXT.convert(value)
        ),
    )
)
DEVICE = options.optional(options.TEXT)
"""The rules for arguments called `backend` and `device`."""


@options.checked(
    name=BACKEND,
    device=DEVICE,
    executor=options.optional(options.TEXT),
    tf32=options.optional(options.TRUTH),
    threads=options.optional(
        options.Rule(
            'a whole number, 1 or more, "all" or "auto"',
            lambda value: value if value in ("all", "auto") else options.whole(1).convert(value),
        )
    ),
)
def get(
    name: str | Backend | type[Backend] | None = None,
    device: str | None = None,
    executor: ExecutorName | None = None,
    tf32: bool | None = None,
    threads: Threads = None,
) -> Backend:
    """Open the backend called `name` on `device`.

    Args:
        name: one of `BACKENDS`, "auto", or None for `$NNXP_BACKEND` and, without it, "numpy".
            "auto" takes a CUDA device if one is available and NumPy otherwise; the backend's
            `describe()` says which. "torch:compiled" also names the executor. A class of a
            backend is opened, and an open backend returned unchanged.
        device: "cpu", "cuda", "cuda:1", "mps" (torch only), "device1" (array-api-strict only),
            or None for `$NNXP_DEVICE` and, without it, the backend's own default.
        executor: how chunks of steps run, one of `nnxp.executors.EXECUTORS`: "eager", "replay"
            (numpy), "graph" (cupy, and torch on CUDA), "compiled" (torch) or "jit" (jax); None or
            "auto" for the best one on the device.
        tf32: whether float32 products on CUDA may be computed in TF32, which is several times as
            fast and keeps 10 of 23 bits. None means False, whatever the library's default is; for
            an open backend, None means the value that it was opened with.
        threads: threads of the CPU, for numpy and torch: their number, or "all" for the number
            that the library takes by itself; or, for numpy, "auto", which measures whether one or
            one per core is faster, and again if steps become slower. None is "all" for torch. With
            numpy it measures only if no bit of the results depends on it; else large products use
            a thread per core and small ones a single thread.

    Raises:
        InputError: no backend has this name.
        BackendError: the backend or the device cannot be used here, or `tf32` is True and the
            device has no TF32. The message says why and what to do. There is no silent fallback.

    Example:
        >>> import nnxp
        >>> backend = nnxp.backends.get("numpy", executor="eager")
        >>> backend.name, backend.device_name, backend.executor
        ('numpy', 'cpu', 'eager')
        >>> network = nnxp.MLP([2, 1], backend=backend)
    """
    if isinstance(name, Backend):
        if device not in (None, name.device_name, name.device_name.removesuffix(":0")):
            raise BackendError(f"{name.describe()} is open already: device {device!r} is another")
        if executor not in (None, "auto", name.executor):
            raise BackendError(
                f"{name.describe()} is open already, to run steps by {name.executor}"
            )
        if tf32 not in (None, name.tf32):
            raise BackendError(
                f"{name.describe()} is open already, with{'' if name.tf32 else 'out'} TF32"
            )
        if threads not in (None, name.threads):
            raise BackendError(f"{name.describe()} is open already, with threads={name.threads!r}")
        return name
    device = device or os.environ.get("NNXP_DEVICE") or None
    if isinstance(name, type):
        return name(device, executor, bool(tf32), threads)
    name, chosen = parse(name or default_name())
    if chosen is None:
        chosen = executor
    elif executor not in (None, "auto", chosen):
        raise InputError(f"backend {name}:{chosen} has another executor: {executor!r}")
    if name == "auto":
        return _auto(device, chosen, bool(tf32), threads)
    return backend_class(name)(device, chosen, bool(tf32), threads)


def of(x: Array) -> Backend:
    """Open the backend whose library and device the array `x` is on.

    Raises:
        InputError: `x` is no array, or one of a library that is no backend.
        BackendError: no backend of the library has the device.

    Example:
        >>> import numpy as np
        >>> import nnxp
        >>> nnxp.backends.of(np.zeros(3)).name
        'numpy'
    """
    if not is_array(x):
        raise InputError(f"x must be an array, not {shown(x)}")
    library = namespace(x).__name__.removeprefix("array_api_compat.").partition(".")[0]
    found = backend_class(library.replace("_", "-"))
    found.load()
    for name in found.devices():
        backend = found(name)
        if backend.holds(x):
            return backend
    raise BackendError(f"an array on {device(x)}: backend {found.name} has {found.devices()}")


def parse(text: str) -> tuple[str, str | None]:
    """Split a backend's name and its executor: "torch:compiled" is ("torch", "compiled").

    Returns:
        One of `BACKENDS` or "auto", and the executor; None if `text` names no executor.

    Raises:
        InputError: no backend has this name.
        BackendError: the backend has no such executor.

    Example:
        >>> import nnxp
        >>> nnxp.backends.parse("torch:compiled")
        ('torch', 'compiled')
    """
    name, _, executor = text.strip().lower().partition(":")
    name = BACKENDS.canonical(name)
    if name != "auto" and name not in BACKENDS:
        raise unknown_name("backend", name, ["auto", *BACKENDS])
    if executor and name != "auto":
        executors.find(executor, name)
    return name, executor or None


def default_name() -> str:
    """Return the default backend's name: `$NNXP_BACKEND`, else "numpy"."""
    return os.environ.get("NNXP_BACKEND") or "numpy"


def availability() -> list[Availability]:
    """Return every backend's version and devices, or why it cannot be used here.

    Example:
        >>> import nnxp
        >>> [(each.name, each.devices) for each in nnxp.backends.availability()][0]
        ('numpy', ('cpu',))
    """
    return [_availability(name) for name in BACKENDS]


def _availability(name: str) -> Availability:
    try:
        return backend_class(name).availability()
    except InputError as error:  # the entry point of a package that does not load
        return Availability(name, None, (), str(error))


def backend_class(name: str) -> type[Backend]:
    """Return a backend's class. Its array library is imported when the backend is opened.

    Raises:
        InputError: no backend has this name.
    """
    if not isinstance(name, str) or name not in BACKENDS:
        raise unknown_name("backend", name, ["auto", *BACKENDS])
    found = BACKENDS[name]
    if isinstance(found, str):
        module, _, attribute = found.partition(":")
        found = getattr(importlib.import_module(module), attribute)
    backend: type[Backend] = found
    return backend


def _auto(device: str | None, executor: str | None, tf32: bool, threads: Threads) -> Backend:
    wants_cuda = device is not None and device.startswith("cuda")
    if (device is None or wants_cuda) and (wants_cuda or _cuda_driver_answers()):
        for name in _CUDA_BACKENDS:
            try:
                found = backend_class(name)(device or "cuda", executor, tf32)
            except BackendError:
                continue
            if threads is not None:
                log.info("%s: threads=%s is of no use there", found.describe(), threads)
            return found
    if wants_cuda:
        raise BackendError(
            f"device {device!r}: none of {', '.join(_CUDA_BACKENDS)} reaches it here; "
            "'nnxp backends' says what each lacks"
        )
    return backend_class("numpy")(device, executor, tf32, threads)


def _cuda_driver_answers() -> bool:
    """Return whether a CUDA driver finds a device. This is far cheaper than importing torch."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        count = ctypes.c_int(0)
        return (
            driver.cuInit(0) == 0
            and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
            and count.value > 0
        )
    except (OSError, AttributeError):
        return False

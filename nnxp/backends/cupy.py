"""CuPy on CUDA."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from nnxp.arrays import Array, is_array, namespace, to_numpy
from nnxp.backends.base import Backend
from nnxp.backends.staging import CuPyStaging, Layout, Staging
from nnxp.concurrency import Setting
from nnxp.errors import BackendError, first_line
from nnxp.executors.cupy_graph import VERIFIED_VERSIONS


class CuPyBackend(Backend):
    name = "cupy"
    install = 'pip install "nnxp[cuda13]" (CUDA 13) or "nnxp[cuda12]" (CUDA 12)'
    memory_errors = (
        "cudaErrorMemoryAllocation",
        "CUDA_ERROR_OUT_OF_MEMORY",
        "CUBLAS_STATUS_ALLOC_FAILED",
    )

    @classmethod
    def load(cls) -> tuple[Any, str]:
        try:
            import cupy
        except Exception as error:  # a wheel for another CUDA may raise anything
            raise cls.import_error(error, "cupy") from None
        if not cupy.is_available():
            raise BackendError(f"cupy {cupy.__version__} is installed but {_lacking(cupy)}")
        try:
            from cupy_backends.cuda.libs import cublas, nvrtc  # noqa: F401

            nvrtc.getVersion()  # loads the library
        except Exception as error:  # the loader has error classes of its own
            raise BackendError(
                f"cupy {cupy.__version__} finds a CUDA device but not the libraries of CUDA "
                f"({first_line(error)}): install them with it: {cls.install}"
            ) from None
        import array_api_compat.cupy

        return array_api_compat.cupy, cupy.__version__

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        import cupy

        return tuple(f"cuda:{i}" for i in range(cupy.cuda.runtime.getDeviceCount()))

    @classmethod
    def installed_version(cls) -> str | None:
        try:
            import cupy
        except Exception:
            return None
        version: str = cupy.__version__
        return version

    def open_device(self, device: str) -> Any:
        import cupy

        return cupy.cuda.Device(int(device.removeprefix("cuda:")))

    def has_tf32(self) -> bool:
        return int(self.device.compute_capability) >= 80

    @contextmanager
    def context(self) -> Iterator[None]:
        from cupy._core import _routines_linalg as linalg

        kind = linalg.COMPUTE_TYPE_TF32 if self.tf32 else linalg.COMPUTE_TYPE_DEFAULT
        # CuPy makes arrays on the current device and ignores `device=`.
        with _compute_type.of(kind), self.device:
            yield

    @property
    def runs_ahead(self) -> bool:
        return True

    def _begin_to_read(self, values: Array) -> Callable[[], Array]:
        import cupy
        import cupyx

        host = cupyx.empty_pinned(values.shape, values.dtype)
        values.get(out=host, blocking=False)  # on the current stream
        copied = cupy.cuda.Event(block=True, disable_timing=True)
        copied.record()

        def wait() -> Array:
            copied.synchronize()
            return host.astype("float64")

        return wait

    def asarray(self, x: Any, dtype: Any = None, copy: bool | None = None) -> Array:
        if is_array(x) and namespace(x) is self.xp and not self.holds(x):
            # CuPy's copy between devices waits for no stream and refuses arrays with gaps.
            x = to_numpy(x)
        array = super().asarray(x, dtype, copy)
        if copy and not array.flags.c_contiguous:  # products write their results row by row
            with self.active():
                return self.xp.asarray(array, order="C", copy=True)
        return array

    def synchronize(self, arrays: Any) -> None:
        self.device.synchronize()

    def device_memory(self) -> tuple[int, int] | None:
        import cupy

        with self.device:
            pool = cupy.get_default_memory_pool()
            # The pool keeps the memory that it once took, so its total is the peak, with fragments.
            return pool.used_bytes(), pool.total_bytes()

    def free_memory(self) -> int | None:
        import cupy

        with self.device:
            pool = cupy.get_default_memory_pool()
            free = self.device.mem_info[0] + pool.free_bytes()
            limit = pool.get_limit()  # CUPY_GPU_MEMORY_LIMIT; 0 for none
            return min(free, limit - pool.used_bytes()) if limit else free

    def staging(self, layout: Layout) -> Staging:
        return CuPyStaging(layout)

    def settings(self) -> dict[str, Any]:
        import cupy

        runtime = cupy.cuda.runtime
        return super().settings() | {
            "blas": "cuBLAS",
            "graphs": ("" if self.version in VERIFIED_VERSIONS else "not ") + "verified on a GPU",
            "cuda": _version(runtime.runtimeGetVersion()),
            "driver": _version(runtime.driverGetVersion()),
            "gpu": runtime.getDeviceProperties(self.device.id)["name"].decode(),
        }


def _lacking(cupy: Any) -> str:
    """Return why CuPy finds no GPU, and what to do."""
    runtime = cupy.cuda.runtime
    driver, wheel = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    if 0 < driver // 1000 < wheel // 1000:
        return (
            f"is for CUDA {_version(wheel)}, and the NVIDIA driver here for CUDA up to "
            f"{_version(driver)}: update the driver, or install the cupy for it: "
            f"{CuPyBackend.install}"
        )
    return (
        "finds no CUDA device: install an NVIDIA driver ('nvidia-smi' shows whether it works), "
        "or use another --backend"
    )


def _version(number: int) -> str:
    """Format a version of CUDA: 12080 is "12.8"."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _read_compute_type() -> Any:
    from cupy._core import _routines_linalg as linalg

    return linalg.get_compute_type(np.float32)  # from CUPY_TF32, if none was set


def _write_compute_type(kind: Any) -> None:
    from cupy._core import _routines_linalg as linalg

    linalg.set_compute_type(np.float32, kind)


_compute_type = Setting(_read_compute_type, _write_compute_type)
"""In what CuPy multiplies float32, TF32 or not."""

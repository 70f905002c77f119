"""CuPy on CUDA."""

import os
from contextlib import AbstractContextManager
from typing import Any

from nnxp.backends.base import Backend
from nnxp.backends.staging import CuPyStaging, Layout, Staging
from nnxp.errors import BackendError


class CuPyBackend(Backend):
    name = "cupy"
    install = 'pip install "nnxp[cuda13]" (CUDA 13) or "nnxp[cuda12]" (CUDA 12)'

    @classmethod
    def load(cls) -> tuple[Any, str]:
        try:
            import cupy
        except Exception as error:  # a wheel for another CUDA may raise anything
            raise cls.broken(error, "cupy") from None
        if not cupy.is_available():
            raise BackendError(
                f"cupy {cupy.__version__} is installed but finds no CUDA device: install an NVIDIA "
                "driver ('nvidia-smi' shows whether it works), or use another --backend"
            )
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

    def active(self) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = self.device
        return context

    def synchronize(self, arrays: Any) -> None:
        self.device.synchronize()

    def device_memory(self) -> tuple[int, int] | None:
        import cupy

        with self.device:
            pool = cupy.get_default_memory_pool()
            # The pool keeps what it once took, so that is the most, and its fragments.
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
        return {
            "blas": "cuBLAS",
            "tf32": os.environ.get("CUPY_TF32", "0") != "0",
            "cuda": _version(runtime.runtimeGetVersion()),
            "driver": _version(runtime.driverGetVersion()),
            "gpu": runtime.getDeviceProperties(self.device.id)["name"].decode(),
        }


def _version(number: int) -> str:
    """12080 is CUDA 12.8."""
    return f"{number // 1000}.{number % 1000 // 10}"

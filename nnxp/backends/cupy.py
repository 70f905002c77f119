"""CuPy on CUDA."""

from contextlib import AbstractContextManager
from typing import Any

from nnxp.backends.base import Backend
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

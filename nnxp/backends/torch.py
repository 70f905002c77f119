"""PyTorch on the CPU, CUDA or Apple's MPS."""

import re
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from nnxp.arrays import Array, is_array, namespace, to_numpy
from nnxp.backends import compiled
from nnxp.backends.base import Backend, Runner, Step
from nnxp.backends.staging import Layout, Staging, TorchStaging
from nnxp.errors import BackendError


class TorchBackend(Backend):
    name = "torch"
    install = 'pip install "nnxp[torch]"'
    executors = ("eager", "compiled")

    @classmethod
    def load(cls) -> tuple[Any, str]:
        try:
            import array_api_compat.torch
            import torch
        except Exception as error:  # a broken installation may raise anything
            raise cls.broken(error, "torch") from None
        return array_api_compat.torch, str(torch.__version__)

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        import torch

        cuda = tuple(f"cuda:{i}" for i in range(torch.cuda.device_count()))
        mps = ("mps",) if torch.backends.mps.is_available() else ()
        return (*cuda, *mps, "cpu") if cuda else ("cpu", *mps)

    def open_device(self, device: str) -> Any:
        return self.xp.device(device)

    def dtype(self, name: str) -> Any:
        if name == "float64" and self.device_name == "mps":
            raise BackendError("torch has no float64 on mps: use float32, or device 'cpu'")
        return super().dtype(name)

    def asarray(self, x: Any, dtype: Any = None, copy: bool | None = None) -> Array:
        if is_array(x) and namespace(x) is self.xp:
            x = x.detach()
        else:
            x = np.asarray(to_numpy(x), order="C")
            if not x.flags.writeable:
                x = x.copy()  # torch cannot share memory that it may not write to
        return self.xp.asarray(x, dtype=dtype, device=self.device, copy=copy)

    def active(self) -> AbstractContextManager[Any]:
        no_grad: AbstractContextManager[Any] = self.xp.no_grad()
        return no_grad

    def chunk_runner(self, step: Step) -> Runner:
        return compiled.runner(step) if self.executor == "compiled" else super().chunk_runner(step)

    def synchronize(self, arrays: Any) -> None:
        if self.device_name.startswith("cuda"):
            self.xp.cuda.synchronize(self.device)
        elif self.device_name == "mps":
            self.xp.mps.synchronize()

    def device_memory(self) -> tuple[int, int] | None:
        if not self.device_name.startswith("cuda"):
            return None
        cuda = self.xp.cuda
        return cuda.memory_allocated(self.device), cuda.max_memory_allocated(self.device)

    def free_memory(self) -> int | None:
        if not self.device_name.startswith("cuda"):
            return None
        cuda = self.xp.cuda
        # What the allocator holds and does not use it would use first.
        spare = cuda.memory_reserved(self.device) - cuda.memory_allocated(self.device)
        return cuda.mem_get_info(self.device)[0] + spare

    def staging(self, layout: Layout) -> Staging:
        if not self.device_name.startswith("cuda"):
            return super().staging(layout)
        return TorchStaging(self.device, layout)

    def settings(self) -> dict[str, Any]:
        import torch

        if self.device_name.startswith("cuda"):
            return {
                "blas": "cuBLAS",
                "tf32": torch.backends.cuda.matmul.allow_tf32,
                "cuda": torch.version.cuda,
                "gpu": torch.cuda.get_device_name(self.device),
            }
        blas = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show())
        return {"threads": torch.get_num_threads(), "blas": blas[1] if blas else "unknown"}

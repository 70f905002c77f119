"""PyTorch on the CPU, CUDA or Apple's MPS."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from nnxp import concurrency
from nnxp.arrays import Array, is_array, namespace, to_numpy
from nnxp.backends.base import Backend, Threads
from nnxp.backends.staging import Layout, Staging, TorchStaging
from nnxp.backends.threads import cores
from nnxp.concurrency import Setting, warnings_ignored
from nnxp.errors import BackendError


class TorchBackend(Backend):
    name = "torch"
    install = 'pip install "nnxp[torch]"'
    memory_errors = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")

    @classmethod
    def load(cls) -> tuple[Any, str]:
        try:
            import array_api_compat.torch
            import torch
        except Exception as error:  # a broken installation may raise anything
            raise cls.import_error(error, "torch") from None
        return array_api_compat.torch, str(torch.__version__)

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        import torch

        # device_count alone may count devices whose driver does not answer.
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        cuda = tuple(f"cuda:{i}" for i in range(count))
        mps = ("mps",) if torch.backends.mps.is_available() else ()
        return (*cuda, *mps, "cpu") if cuda else ("cpu", *mps)

    @classmethod
    def hint(cls, device: str) -> str:
        import torch

        if not device.startswith("cuda") or torch.cuda.is_available():
            return super().hint(device)
        if torch.version.cuda is None:
            return "; this torch is built without CUDA: https://pytorch.org/get-started has others"
        return (
            f"; no driver for CUDA {torch.version.cuda} answers, which this torch is built for: "
            "install or update NVIDIA's ('nvidia-smi' shows whether it works)"
        )

    def open_device(self, device: str) -> Any:
        if device.startswith("cuda"):
            # Torch 2.9 warns once that this API is old: use it here first, with warnings off.
            with warnings_ignored(), _precision.of(_PRECISIONS[False]):
                pass
        return self.xp.device(device)

    @classmethod
    def check_threads(cls, threads: Threads) -> None:
        if threads == "auto":
            raise BackendError("torch does not measure its threads: give --threads a number")

    def has_tf32(self) -> bool:
        cuda = self.device_name.startswith("cuda")
        return cuda and self.xp.cuda.get_device_capability(self.device) >= (8, 0)

    def dtype(self, name: str) -> Any:
        if name == "float64" and self.device_name == "mps":
            raise BackendError("torch has no float64 on mps: use float32, or device 'cpu'")
        return super().dtype(name)

    @property
    def runs_ahead(self) -> bool:
        return self.device_name.startswith("cuda")

    def _begin_to_read(self, values: Array) -> Callable[[], Array]:
        if not self.runs_ahead:
            return super()._begin_to_read(values)
        with self.xp.cuda.device(self.device):
            host = self.xp.empty(values.shape, dtype=values.dtype, pin_memory=True)
            host.copy_(values, non_blocking=True)
            copied = self.xp.cuda.Event()
            copied.record()

        def wait() -> Array:
            copied.synchronize()
            return to_numpy(host).astype("float64")

        return wait

    def asarray(self, x: Any, dtype: Any = None, copy: bool | None = None) -> Array:
        with self.active():
            if is_array(x) and namespace(x) is self.xp:
                if x.layout is not self.xp.strided:
                    raise TypeError(f"its layout is {x.layout}")
                x = x.detach()
            else:
                x = to_numpy(x)
                # Torch takes only the native byte order and row-by-row layout.
                x = np.asarray(x, dtype=x.dtype.newbyteorder("="), order="C")
                if not x.flags.writeable:
                    x = x.copy()  # torch cannot share read-only memory
            return self.xp.asarray(x, dtype=dtype, device=self.device, copy=copy)

    @contextmanager
    def context(self) -> Iterator[None]:
        on_cuda = self.device_name.startswith("cuda")
        products = _precision.of(_PRECISIONS[self.tf32]) if on_cuda else nullcontext()
        wanted = self.threads if isinstance(self.threads, int) else None
        if wanted is None and concurrency.processes_on_cores > 1:
            wanted = cores()
        threads = nullcontext() if wanted is None else _threads.of(wanted)
        with self.xp.no_grad(), products, threads:
            yield

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
        # The allocator first uses the memory that it holds and does not use.
        spare = cuda.memory_reserved(self.device) - cuda.memory_allocated(self.device)
        return cuda.mem_get_info(self.device)[0] + spare

    def staging(self, layout: Layout) -> Staging:
        if not self.device_name.startswith("cuda"):
            return super().staging(layout)
        return TorchStaging(self.device, layout)

    def settings(self) -> dict[str, Any]:
        import torch

        if self.device_name.startswith("cuda"):
            return super().settings() | {
                "blas": "cuBLAS",
                "cuda": torch.version.cuda,
                "gpu": torch.cuda.get_device_name(self.device),
            }
        blas = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show())
        return super().settings() | {
            "threads": torch.get_num_threads(),
            "blas": blas[1] if blas else "unknown",
        }


def _read_threads() -> int:
    import torch

    return int(torch.get_num_threads())


def _write_threads(number: int) -> None:
    import torch

    if torch.get_num_threads() != number:
        torch.set_num_threads(number)


def _newer_precisions() -> list[Any]:
    """Return where torch 2.9 and later keep the precision of products."""
    import torch

    newer = hasattr(torch.backends.cuda.matmul, "fp32_precision")
    return [torch.backends.cuda.matmul, torch.backends.mkldnn.matmul] if newer else []


def _read_precision() -> tuple[str, list[str]]:
    import torch

    settings = [place.fp32_precision for place in _newer_precisions()]
    try:
        return torch.get_float32_matmul_precision(), settings
    except RuntimeError:
        return "highest", settings  # the default: the caller used only the new API


def _write_precision(precision: tuple[str, list[str]]) -> None:
    import torch

    # Torch has an old and a new API for this, and reading the old one raises if the two disagree.
    # So set the old one, which sets both (torch.compile reads both), and restore both.
    older, settings = precision
    torch.set_float32_matmul_precision(older)
    for place, setting in zip(_newer_precisions(), settings, strict=False):
        place.fp32_precision = setting


_threads = Setting(_read_threads, _write_threads, each_thread=True)
"""The number of threads: each thread has one, and a new thread takes the last that was set."""
_precision = Setting(_read_precision, _write_precision)
"""The precision of float32 products: in TF32, ("high", []), or not, ("highest", [])."""
_PRECISIONS: dict[bool, tuple[str, list[str]]] = {True: ("high", []), False: ("highest", [])}

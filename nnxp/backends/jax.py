"""JAX on whatever device XLA was built for."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from nnxp.backends import jit
from nnxp.backends.base import Backend, Runner, Step
from nnxp.backends.staging import JAXStaging, Layout, Staging
from nnxp.errors import BackendError


class JAXBackend(Backend):
    name = "jax"
    install = 'pip install "nnxp[jax]"'
    executors = ("jit", "eager")

    @classmethod
    def load(cls) -> tuple[Any, str]:
        try:
            import jax
        except Exception as error:  # a broken installation may raise anything
            raise cls.broken(error, "jax") from None
        return jax.numpy, jax.__version__

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        import jax

        try:
            cuda = tuple(f"cuda:{i}" for i in range(len(jax.devices("cuda"))))
        except RuntimeError:
            cuda = ()
        return (*cuda, "cpu")

    def open_device(self, device: str) -> Any:
        import jax

        platform, _, index = device.partition(":")
        return jax.devices(platform)[int(index or 0)]

    def dtype(self, name: str) -> Any:
        import jax

        if name == "float64" and not jax.config.jax_enable_x64:
            raise BackendError(
                "jax computes in float32 unless told otherwise: set JAX_ENABLE_X64=1 for float64"
            )
        return super().dtype(name)

    @contextmanager
    def active(self) -> Iterator[None]:
        import jax

        # Left alone, XLA multiplies float32 on a GPU with fewer bits than the other libraries.
        with jax.default_device(self.device), jax.default_matmul_precision("highest"):
            yield

    def chunk_runner(self, step: Step) -> Runner:
        return jit.runner(step) if self.executor == "jit" else super().chunk_runner(step)

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return jit.compiled(function)

    def repeat(self, function: Callable[..., Any], arrays: Any, times: int) -> Any:
        with self.active():
            return jit.repeater(function)(arrays, times)

    def synchronize(self, arrays: Any) -> None:
        import jax

        jax.block_until_ready(arrays)

    def device_memory(self) -> tuple[int, int] | None:
        told = self.device.memory_stats() if self.device.platform != "cpu" else None
        return (told["bytes_in_use"], told["peak_bytes_in_use"]) if told else None

    def free_memory(self) -> int | None:
        told = self.device.memory_stats() if self.device.platform != "cpu" else None
        return told["bytes_limit"] - told["bytes_in_use"] if told else None

    def staging(self, layout: Layout) -> Staging:
        return JAXStaging(self, layout)

    def settings(self) -> dict[str, Any]:
        if self.device.platform == "cpu":
            return {"threads": os.cpu_count(), "blas": "XLA's own"}
        return {
            "blas": "XLA's choice",
            "tf32": False,  # see `active`
            "cuda": self.device.client.platform_version,
            "gpu": self.device.device_kind,
        }

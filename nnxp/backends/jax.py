"""JAX on the devices that XLA was built for.

XLA compiles for each shape. On two CPU cores the first training of a network shape takes a second
longer than later ones, also with another learning rate. Another batch size, loss, optimizer or
regularization compiles again, and so does another seed with dropout. nnxp keeps the programs of
about the last ten network shapes, 12 MB each. JAX keeps its programs for single operations, 5 MB
for each network shape, until `jax.clear_caches()`.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

import numpy as np

from nnxp.arrays import Array, is_array, namespace, to_numpy
from nnxp.backends.base import Backend
from nnxp.backends.staging import JAXStaging, Layout, Staging
from nnxp.errors import BackendError, first_line
from nnxp.executors.jax_scan import PROGRAMS
from nnxp.nested import shapes

_ALIGNMENT = 64
"""Bytes to whose multiple XLA aligns memory on a CPU."""


class JAXBackend(Backend):
    name = "jax"
    install = 'pip install "nnxp[jax]"'
    memory_errors = ("RESOURCE_EXHAUSTED",)

    @classmethod
    def load(cls) -> tuple[Any, str]:
        try:
            import jax
        except Exception as error:  # a broken installation may raise anything
            raise cls.import_error(error, "jax") from None
        return jax.numpy, jax.__version__

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        import jax

        available: list[str] = []
        with suppress(RuntimeError, AssertionError):  # the latter if JAX_PLATFORMS leaves none
            available += [f"cuda:{i}" for i in range(len(_devices("cuda")))]
        try:
            available += ["cpu"] if _devices("cpu") else []
        except (RuntimeError, AssertionError):
            if not available:
                raise BackendError(
                    f"jax reaches no device with JAX_PLATFORMS={jax.config.jax_platforms}: unset it"
                ) from None
        return tuple(available)

    @classmethod
    def hint(cls, device: str) -> str:
        import jax

        if not device.startswith("cuda"):
            return super().hint(device)
        try:
            jax.devices("cuda")
        except RuntimeError as error:
            if jax.config.jax_platforms:
                return f"; JAX_PLATFORMS={jax.config.jax_platforms} keeps jax from others: unset it"
            return (
                f' ({first_line(error)}); pip install "jax[cuda13]" or "jax[cuda12]" reaches GPUs'
            )
        return ""

    def open_device(self, device: str) -> Any:
        platform, _, index = device.partition(":")
        return _devices(platform)[int(index or 0)]

    def has_tf32(self) -> bool:
        return self.device_name.startswith("cuda") and float(self.device.compute_capability) >= 8

    @property
    def runs_ahead(self) -> bool:
        return True

    def _begin_to_read(self, values: Array) -> Callable[[], Array]:
        values.copy_to_host_async()
        return lambda: to_numpy(values).astype("float64")

    def dtype(self, name: str) -> Any:
        import jax

        if name == "float64" and not jax.config.jax_enable_x64:
            raise BackendError(
                "jax computes in float32 unless told otherwise: set JAX_ENABLE_X64=1 for float64"
            )
        return super().dtype(name)

    def asarray(self, x: Any, dtype: Any = None, copy: bool | None = None) -> Array:
        import jax

        with (
            self.active(),
            np.errstate(all="ignore"),
        ):  # overflow gives infinity, as elsewhere
            if not is_array(x) or namespace(x) is not self.xp:
                # NumPy converts: JAX would compile a conversion for each new shape. It is a copy,
                # because JAX may read the array later, and on a CPU shares its memory.
                x = _aligned_copy(to_numpy(x), dtype)
            elif dtype not in (None, x.dtype):
                x = x.astype(dtype)
            elif copy:
                return jax.device_put(x, self.device, may_alias=False)
            return jax.device_put(x, self.device)

    @contextmanager
    def context(self) -> Iterator[None]:
        import jax

        # By default XLA multiplies float32 on a GPU in TF32, unlike the other libraries. Each
        # precision has compiled programs of its own.
        precision = "tensorfloat32" if self.tf32 else "highest"
        with jax.default_device(self.device), jax.default_matmul_precision(precision):
            yield

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:

        def run(*arguments: Any) -> Any:
            return _compiled(function, shapes(arguments))(*arguments)

        return run

    def repeat(self, function: Callable[..., Any], arrays: Any, times: int) -> Any:
        with self.active():
            return _repeater(function)(arrays, times)

    def synchronize(self, arrays: Any) -> None:
        import jax

        jax.block_until_ready(arrays)

    def is_ready(self, array: Array) -> bool:
        ready: bool = array.is_ready()
        return ready

    def device_memory(self) -> tuple[int, int] | None:
        stats = self.device.memory_stats() if self.device.platform != "cpu" else None
        return (stats["bytes_in_use"], stats["peak_bytes_in_use"]) if stats else None

    def free_memory(self) -> int | None:
        stats = self.device.memory_stats() if self.device.platform != "cpu" else None
        return stats["bytes_limit"] - stats["bytes_in_use"] if stats else None

    def staging(self, layout: Layout) -> Staging:
        return JAXStaging(self, layout)

    def settings(self) -> dict[str, Any]:
        if self.device.platform == "cpu":
            return super().settings() | {"threads": os.cpu_count(), "blas": "XLA's own"}
        return super().settings() | {
            "blas": "XLA's choice",
            "cuda": self.device.client.platform_version,
            "gpu": self.device.device_kind,
        }


def _devices(platform: str) -> list[Any]:
    """Return the devices of this process: `jax.devices` has those of others too, if there are."""
    import jax

    devices: list[Any] = jax.local_devices(backend=platform)
    return devices


def _aligned_copy(x: np.ndarray, dtype: Any) -> np.ndarray:
    """Copy `x`, row by row, to memory that XLA shares on a CPU: other memory it copies again."""
    dtype = x.dtype if dtype is None else np.dtype(dtype)
    size = x.size * dtype.itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    copy = memory[start : start + size].view(dtype).reshape(x.shape)
    copy[...] = x
    return copy


@lru_cache(maxsize=PROGRAMS)
def _compiled(function: Callable[..., Any], shapes: Any) -> Callable[..., Any]:
    """Compile `function` for these shapes of its arguments."""
    import jax

    # jax.jit caches by the function's identity, and keeps programs as long as the function lives.
    return jax.jit(lambda *arguments: function(*arguments))


@lru_cache(maxsize=32)
def _repeater(function: Any) -> Any:
    """Compile `nnxp.backends.base.Backend.repeat` for this function.

    Each repetition sets one element of each matrix in place, to a value that depends on the
    repetition, and the loop carries the matrices and the results. So XLA can neither move the
    computation out of the loop nor remove it, as it does in spite of an `optimization_barrier`.
    The only other cost is one copy of the matrices before the loop.
    """
    import jax
    import jax.numpy as jnp

    def run(arrays: Any, times: Any) -> Any:
        def body(turn: Any, carry: Any) -> Any:
            arrays = jax.tree.map(lambda a: a.at[0, 0].set(1e-6 * turn.astype(a.dtype)), carry[0])
            return arrays, function(*arrays)

        results = jax.tree.map(jnp.zeros_like, jax.eval_shape(function, *arrays))
        return jax.lax.fori_loop(0, times, body, (arrays, results))[1]

    return jax.jit(run)

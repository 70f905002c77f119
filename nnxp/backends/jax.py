"""JAX on whatever device XLA was built for.

XLA compiles for each shape. On two CPU cores the first training of a network shape takes a second
more than those after it, whatever their learning rate; another batch size, loss, optimizer or
regularization compiles anew, and so does another seed with dropout. nnxp keeps the programs of the
last ten network shapes or so, 12 MB each. JAX itself keeps what it compiles for single operations,
5 MB for each network shape, until `jax.clear_caches()`.
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

        found: list[str] = []
        with suppress(RuntimeError, AssertionError):  # the second where JAX_PLATFORMS leaves none
            found += [f"cuda:{i}" for i in range(len(jax.devices("cuda")))]
        try:
            found += ["cpu"] if jax.devices("cpu") else []
        except (RuntimeError, AssertionError):
            if not found:
                raise BackendError(
                    f"jax reaches no device with JAX_PLATFORMS={jax.config.jax_platforms}: unset it"
                ) from None
        return tuple(found)

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
        import jax

        platform, _, index = device.partition(":")
        return jax.devices(platform)[int(index or 0)]

    def has_tf32(self) -> bool:
        return self.device_name.startswith("cuda") and float(self.device.compute_capability) >= 8

    def dtype(self, name: str) -> Any:
        import jax

        if name == "float64" and not jax.config.jax_enable_x64:
            raise BackendError(
                "jax computes in float32 unless told otherwise: set JAX_ENABLE_X64=1 for float64"
            )
        return super().dtype(name)

    def asarray(self, x: Any, dtype: Any = None, copy: bool | None = None) -> Array:
        import jax

        with self.active(), np.errstate(all="ignore"):  # an overflow shows, as on every backend
            if not is_array(x) or namespace(x) is not self.xp:
                # Converted here: JAX would compile a program to convert each new shape. A copy, for
                # JAX may read it later, and uses aligned memory as its own.
                x = np.array(to_numpy(x), dtype=dtype, order="C")
            elif dtype not in (None, x.dtype):
                x = x.astype(dtype)
            elif copy:
                return jax.device_put(x, self.device, may_alias=False)
            return jax.device_put(x, self.device)

    @contextmanager
    def context(self) -> Iterator[None]:
        import jax

        # Left alone, XLA multiplies float32 on a GPU in TF32, unlike the other libraries. What is
        # compiled under one precision is compiled anew under the other.
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
            return super().settings() | {"threads": os.cpu_count(), "blas": "XLA's own"}
        return super().settings() | {
            "blas": "XLA's choice",
            "cuda": self.device.client.platform_version,
            "gpu": self.device.device_kind,
        }


@lru_cache(maxsize=PROGRAMS)
def _compiled(function: Callable[..., Any], shapes: Any) -> Callable[..., Any]:
    """`function` compiled for these shapes of its arguments."""
    import jax

    # jax.jit knows functions by identity, and keeps what it compiled as long as they live.
    return jax.jit(lambda *arguments: function(*arguments))


@lru_cache(maxsize=32)
def _repeater(function: Any) -> Any:
    """The compiled form of `nnxp.backends.base.Backend.repeat` for this function.

    In every turn one element of each matrix is another, set in place: what hangs on the turn XLA
    can neither compute once, before the loop, nor leave out, since the loop carries all of it.
    (It looks through `optimization_barrier`.) Nothing else is added: the matrices are copied
    once, before the first turn.
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

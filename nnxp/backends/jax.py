"""JAX on whatever device XLA was built for."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nnxp.backends import jit
from nnxp.backends.base import Backend, Runner, Step
from nnxp.errors import BackendError


class JAXBackend(Backend):
    name = "jax"
    install = 'pip install "nnxp[jax]"'

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

    def runner(self, step: Step) -> Runner:
        compiled = jit.runner(step)

        def run(*chunk: Any) -> Any:
            with self.active():
                return compiled(*chunk)

        return run

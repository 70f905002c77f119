"""What the trainer and the network ask of an array library."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from nnxp.arrays import Array, device, is_array, namespace, to_numpy
from nnxp.backends import eager
from nnxp.backends.staging import Layout, Staging
from nnxp.errors import BackendError, InputError, first_line

Step = Callable[..., tuple[Any, Any, Array]]
"""step(parameters, optimizer_state, batch, learning_rate) -> (parameters, optimizer_state, loss)"""

Runner = Callable[..., tuple[Any, Array]]
"""run(state, data, order, learning_rate) -> (state, summed loss): a chunk of steps."""


@dataclass(frozen=True)
class Availability:
    """What `nnxp backends` tells of a backend."""

    name: str
    version: str | None
    """The library's version; None where it is not installed."""
    devices: tuple[str, ...]
    """The device strings that can be used here."""
    problem: str | None
    """Why it cannot be used, with the cure; None where it can."""


class Backend:
    """An array library on one device.

    A subclass says how to import its library, which devices it has, and, where a plain loop
    of steps is not the best it can do, how to run a chunk of them.
    """

    name: ClassVar[str]
    install: ClassVar[str]
    """The command that makes the library available."""
    executors: ClassVar[tuple[str, ...]] = ("eager",)
    """How it can run a chunk of steps, the default first."""

    xp: Any
    """The library's Array API namespace."""
    device: Any
    """The device, in the library's own terms."""
    device_name: str
    """The device as a string: "cpu", "cuda:0"."""
    version: str
    executor: str
    """One of `executors`."""

    def __init__(self, device: str | None = None, executor: str | None = None) -> None:
        self.executor = self.find_executor(executor)
        self.xp, self.version = self.load()
        available = self.devices()
        found = "cuda:0" if device == "cuda" else device or available[0]
        if found not in available:
            raise BackendError(
                f"backend {self.name!r} has no device {device!r} here; "
                f"it has {', '.join(available)}"
            )
        self.device_name = found
        self.device = self.open_device(found)

    @classmethod
    def find_executor(cls, name: str | None) -> str:
        """One of `executors`; the default for None or "auto".

        Raises:
            BackendError: there is none of this name.
        """
        found = cls.executors[0] if name in (None, "auto") else str(name)
        if found not in cls.executors:
            raise BackendError(
                f"backend {cls.name!r} has no executor {name!r}; it has {', '.join(cls.executors)}"
            )
        return found

    @classmethod
    def load(cls) -> tuple[Any, str]:
        """Import the library: its Array API namespace and its version.

        Raises:
            BackendError: it is not installed or cannot work here; says what to do.
        """
        raise NotImplementedError

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """The device strings that can be used here, the default first. After `load`."""
        return ("cpu",)

    def open_device(self, device: str) -> Any:
        """The library's own name for one of `devices`."""
        return device

    def active(self) -> AbstractContextManager[Any]:
        """What kernels on this backend run inside."""
        return nullcontext()

    def dtype(self, name: str) -> Any:
        """The library's dtype called "float32" or "float64".

        Raises:
            InputError: nnxp does not train in this dtype.
            BackendError: the library, as it is set up, does not compute in it.
        """
        if name not in ("float32", "float64"):
            raise InputError(f"dtype must be float32 or float64, not {name!r}")
        return getattr(self.xp, name)

    def asarray(self, x: Any, dtype: Any = None, copy: bool | None = None) -> Array:
        """`x`, an array of any library or nested lists, as an array on this backend's device."""
        if not is_array(x) or namespace(x) is not self.xp:
            x = to_numpy(x)
        return self.xp.asarray(x, dtype=dtype, device=self.device, copy=copy)

    def holds(self, x: Array) -> bool:
        """Whether `x` is on this backend's device already."""
        return namespace(x) is self.xp and device(x) == self.device

    def runner(self, step: Step) -> Runner:
        """A function that runs a chunk of steps; see `eager.run` for what it takes and returns."""
        run_chunk = self.chunk_runner(step)

        def run(*chunk: Any) -> tuple[Any, Array]:
            with self.active():
                return run_chunk(*chunk)

        return run

    def chunk_runner(self, step: Step) -> Runner:
        """What `runner` runs inside `active`: the executor's own way."""
        return partial(eager.run, step)

    def threads(self, multiply_adds: int) -> AbstractContextManager[Any]:
        """As many of the CPU's threads as steps of this size are worth; inside `active`.

        Args:
            multiply_adds: in the largest matrix product.
        """
        return nullcontext()

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, pure and of arrays, compiled where the library compiles."""
        return function

    def repeat(self, function: Callable[..., Any], arrays: Any, times: int) -> Any:
        """Compute `function(*arrays)` so many times, as fast as the library can; the last result.

        For benchmarks: every turn is computed, though all come to the same.

        Args:
            function: pure; compiled at the first call where the library compiles, so the same
                object each time.
            arrays: a list of lists of matrices, say; what `function` takes.
            times: at least 1.
        """
        with self.active():
            for _ in range(times):
                result = None  # so that its memory serves the next
                result = function(*arrays)
        return result

    def synchronize(self, arrays: Any) -> None:
        """Return when `arrays`, nested lists, and all that was begun before them are computed."""

    def device_memory(self) -> tuple[int, int] | None:
        """Bytes in use on the device, and the most that were since the process began.

        None where the device is the host, or the library does not tell.
        """
        return None

    def free_memory(self) -> int | None:
        """Bytes of the device's memory that arrays could still take.

        None where the device is the host, or the library does not tell.
        """
        return None

    def staging(self, layout: Layout) -> Staging:
        """A place for data on its way to the device; inside `active`."""
        return Staging(self, layout)

    def settings(self) -> dict[str, Any]:
        """What sets the library's speed, for reports: threads, BLAS, TF32, versions of CUDA."""
        return {}

    def describe(self) -> str:
        """Library, version and device in one phrase."""
        return f"{self.name} {self.version} on {self.device_name}"

    @classmethod
    def availability(cls) -> Availability:
        """Version and devices, or what stands in the way."""
        try:
            _, version = cls.load()
            return Availability(cls.name, version, cls.devices(), None)
        except BackendError as error:
            return Availability(cls.name, cls.installed_version(), (), str(error))

    @classmethod
    def installed_version(cls) -> str | None:
        """The installed version of a library that cannot be used; None where there is none."""
        return None

    @classmethod
    def broken(cls, error: Exception, module: str) -> BackendError:
        """The error for a library that raised `error` when `module` was imported."""
        if isinstance(error, ModuleNotFoundError) and error.name == module:
            return BackendError(f"backend {cls.name!r} is not installed: {cls.install}")
        return BackendError(
            f"{module} is installed but does not import ({first_line(error)}): "
            f"install it anew: {cls.install}"
        )

    def __repr__(self) -> str:
        return f"<nnxp backend: {self.describe()}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # Modules and devices do not pickle; what they were opened with does.
        return type(self), (self.device_name, self.executor)

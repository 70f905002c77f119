"""What an array library is: namespace, devices, precision, memory, staging."""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, ClassVar

from nnxp import executors, options
from nnxp.arrays import Array, device, is_array, namespace, to_numpy
from nnxp.backends.staging import Layout, Staging
from nnxp.errors import BackendError, NnxpError, first_line
from nnxp.executors import Runner, State, Step

log = logging.getLogger("nnxp")


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

    A subclass says how to import its library, which devices it has, and how it sets precision,
    threads and memory. How steps run on it is said by `nnxp.executors`.
    """

    name: ClassVar[str]
    install: ClassVar[str]
    """The command that makes the library available."""
    memory_errors: ClassVar[tuple[str, ...]] = ()
    """What its RuntimeErrors say, in part, where memory runs out. A MemoryError needs no words."""

    xp: Any
    """The library's Array API namespace."""
    device: Any
    """The device, in the library's own terms."""
    device_name: str
    """The device as a string: "cpu", "cuda:0"."""
    version: str
    executor: str
    """One of `nnxp.executors.names` on this device."""
    tf32: bool
    """Whether float32 products may be computed in TF32, which keeps 10 of 23 bits."""

    def __init__(
        self, device: str | None = None, executor: str | None = None, tf32: bool = False
    ) -> None:
        self.tf32 = tf32
        self.xp, self.version = self.load()
        available = self.devices()
        found = "cuda:0" if device == "cuda" else device or available[0]
        if found not in available:
            raise BackendError(
                f"backend {self.name!r} has no device {device!r} here; "
                f"it has {', '.join(available)}{self.hint(str(device))}"
            )
        self.executor = executors.find(executor, self.name, found)
        self.device_name = found
        self.device = self.open_device(found)
        if tf32 and not self.has_tf32():
            raise BackendError(
                f"{self.name} {self.version} has no TF32 on {found}: leave --tf32 out, or take a "
                "CUDA device of compute capability 8.0 or more"
            )

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

    @classmethod
    def hint(cls, device: str) -> str:
        """What to do where `device` is none of `devices`, to end a message; "" for nothing."""
        return "; a GPU is called cuda, cuda:1" if "gpu" in device.lower() else ""

    def has_tf32(self) -> bool:
        """Whether the device multiplies in TF32."""
        return False

    @contextmanager
    def active(self) -> Iterator[None]:
        """What kernels on this backend run inside, and whatever else makes or reads its arrays.

        Raises:
            BackendError: there is not enough memory.
        """
        try:
            with self.context():
                yield
        except Exception as error:
            if isinstance(error, NnxpError) or not self.is_out_of_memory(error):
                raise
            raise self._out_of_memory(error) from error

    def context(self) -> AbstractContextManager[Any]:
        """The library's own part of `active`, its device and precision; then the caller's again.

        In torch and CuPy the precision is the process's: meanwhile other threads have it too.
        """
        return nullcontext()

    @classmethod
    def is_out_of_memory(cls, error: Exception) -> bool:
        """Whether this is how the library says that memory does not suffice."""
        told = isinstance(error, RuntimeError) and any(
            words in str(error) for words in cls.memory_errors
        )
        return told or isinstance(error, MemoryError)

    def _out_of_memory(self, error: Exception) -> BackendError:
        # Each library writes pages of it, but after the same word.
        asked = re.search(r"allocat(?:e|ing)(?: request for)? ([\d.,]*\d ?\w+)", str(error))
        known = [f"{asked[1]} wanted" if asked else first_line(error)]
        with suppress(Exception):  # a device in this state need not answer
            free = self.free_memory()
            if free is not None:
                known.append(f"{free / 1e9:.1f} GB free")
        elsewhere = "" if self.device_name == "cpu" else ", or another --device"
        return BackendError(
            f"{self.describe()} is out of memory ({', '.join(known)}): "
            f"take a smaller --batch-size, network or data set{elsewhere}"
        )

    def dtype(self, name: str) -> Any:
        """The library's dtype called "float32" or "float64".

        Raises:
            InputError: nnxp does not train in this dtype.
            BackendError: the library, as it is set up, does not compute in it.
        """
        return getattr(self.xp, options.DTYPE("dtype", name))

    def asarray(self, x: Any, dtype: Any = None, copy: bool | None = None) -> Array:
        """`x`, an array of any library or nested lists, as an array on this backend's device."""
        with self.active():
            if not is_array(x) or namespace(x) is not self.xp:
                x = to_numpy(x)
            return self.xp.asarray(x, dtype=dtype, device=self.device, copy=copy)

    def holds(self, x: Array) -> bool:
        """Whether `x` is on this backend's device already."""
        return namespace(x) is self.xp and device(x) == self.device

    def runner(self, step: Step, fallbacks: list[str] | None = None) -> Runner:
        """A function like `nnxp.executors.eager.run`: it runs chunks of `step` by the executor.

        Args:
            step: see `nnxp.executors.Step`.
            fallbacks: gets a line, with the reason, for each way in which steps run otherwise
                than by the backend's executor. Each is logged by "nnxp", too, as INFO.
        """
        known = [] if fallbacks is None else fallbacks

        def report(line: str) -> None:
            if line not in known:  # for whole batches, and for an epoch's smaller last
                known.append(line)
                log.info("%s", line)

        run_chunk = self.tuned(executors.runner(self.executor, self, step, report))

        def run(
            state: State, data: tuple[Array, ...], order: Array, learning_rate: Any
        ) -> tuple[State, Array]:
            with self.active():
                return run_chunk(state, data, order, learning_rate)

        return run

    def tuned(self, run: Runner) -> Runner:
        """`run` with the state laid out, and with as many threads, as suits the library best."""
        return run

    def threads(self, multiply_adds: int) -> AbstractContextManager[Any]:
        """As many of the CPU's threads as steps of this size are worth; inside `active`.

        Where a library has one limit for the whole process, trainings in other threads have it too.

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
        return {"tf32": self.tf32}

    def describe(self) -> str:
        """Library, version, device and, where it is on, TF32 in one phrase."""
        return f"{self.name} {self.version} on {self.device_name}" + (", TF32" if self.tf32 else "")

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
    def import_error(cls, error: Exception, module: str) -> BackendError:
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
        return type(self), (self.device_name, self.executor, self.tf32)

"""The base class of backends: an array library's namespace, devices, precision and memory."""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from nnxp import executors, options
from nnxp.arrays import Array, device, is_array, namespace, to_numpy
from nnxp.backends.staging import Layout, Staging
from nnxp.distributed.communicator import Communicator
from nnxp.errors import BackendError, NnxpError, first_line
from nnxp.executors import Executor, Runner, State, Step
from nnxp.nested import leaves, rebuilt

log = logging.getLogger("nnxp")

Threads = int | Literal["all", "auto"] | None
"""A number of threads; "all" for the library's own; "auto" for the number that is faster at the
time; None for the faster one where the results do not depend on it, else all for large products."""


@dataclass(frozen=True)
class Availability:
    """The version and devices of a backend, as `nnxp backends` shows them.

    Example:
        >>> import nnxp
        >>> [each.name for each in nnxp.backends.availability() if each.problem is None][0]
        'numpy'
    """

    name: str
    version: str | None
    """The library's version; None if it is not installed."""
    devices: tuple[str, ...]
    """The device strings that can be used here."""
    problem: str | None
    """Why it cannot be used and what to do; None if it can be used."""
    kernels: str | None = None
    """The kernels of its BLAS, such as "SkylakeX"; None if they are not known."""
    warning: str | None = None
    """Why it is slower than it could be and what to do; None if nothing is known of that."""


class Backend:
    """An array library on one device.

    A subclass defines how its library is imported, which devices it has, and how it sets
    precision, threads and memory. `nnxp.executors` defines how steps run on it.

    Example:
        >>> import nnxp
        >>> backend = nnxp.backends.get("numpy")
        >>> x = backend.asarray([[1.0, 2.0]], dtype=backend.dtype("float32"))
        >>> backend.holds(x), backend.xp.sum(x)
        (True, np.float32(3.0))
    """

    name: ClassVar[str]
    install: ClassVar[str]
    """The command that installs the library."""
    memory_errors: ClassVar[tuple[str, ...]] = ()
    """Parts of the messages of RuntimeErrors that mean out of memory, besides a MemoryError."""

    xp: Any
    """The library's Array API namespace."""
    device: Any
    """The device as the library represents it."""
    device_name: str
    """The device as a string: "cpu", "cuda:0"."""
    version: str
    executor: str
    """One of `nnxp.executors.names` on this device."""
    tf32: bool
    """Whether float32 products may be computed in TF32, which keeps 10 of 23 bits."""
    threads: Threads
    """The number of threads of the CPU; see `nnxp.backends.get`."""

    def __init__(
        self,
        device: str | None = None,
        executor: str | None = None,
        tf32: bool = False,
        threads: Threads = None,
    ) -> None:
        self.tf32 = tf32
        self.threads = threads
        self.check_threads(threads)
        self.xp, self.version = self.load()
        available = self.devices()
        device_name = "cuda:0" if device == "cuda" else device or available[0]
        if device_name not in available:
            raise BackendError(
                f"backend {self.name!r} has no device {device!r} here; "
                f"it has {', '.join(available)}{self.hint(str(device))}"
            )
        self.executor = executors.find(executor, self.name, device_name)
        self.device_name = device_name
        self.device = self.open_device(device_name)
        if tf32 and not self.has_tf32():
            raise BackendError(
                f"{self.name} {self.version} has no TF32 on {device_name}: leave --tf32 out, "
                "or take a CUDA device of compute capability 8.0 or more"
            )

    @classmethod
    def load(cls) -> tuple[Any, str]:
        """Import the library; return its Array API namespace and its version.

        Raises:
            BackendError: it is not installed or cannot work here; the message says what to do.
        """
        raise NotImplementedError

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """Return the device strings that can be used here, the default first. Call `load` first."""
        return ("cpu",)

    def open_device(self, device: str) -> Any:
        """Return the library's own device object for one of `devices`."""
        return device

    @classmethod
    def hint(cls, device: str) -> str:
        """Return the end of the error message for an unknown `device`: what to do, or ""."""
        return "; a GPU is called cuda, cuda:1" if "gpu" in device.lower() else ""

    def has_tf32(self) -> bool:
        """Return whether the device can multiply in TF32."""
        return False

    @contextmanager
    def active(self) -> Iterator[None]:
        """Enter the context in which kernels run and arrays of this backend are made and read.

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
        """Set the library's device and precision; restore the caller's at the end.

        In torch and CuPy the precision is global to the process: trainings in other threads that
        want another wait; what else runs there sees the change.
        """
        return nullcontext()

    @classmethod
    def is_out_of_memory(cls, error: Exception) -> bool:
        """Return whether the library raises this error when memory runs out."""
        is_known = isinstance(error, RuntimeError) and any(
            words in str(error) for words in cls.memory_errors
        )
        return is_known or isinstance(error, MemoryError)

    def _out_of_memory(self, error: Exception) -> BackendError:
        # The libraries' messages are long and differ, but the size follows the same word in all.
        requested = re.search(r"allocat(?:e|ing)(?: request for)? ([\d.,]*\d ?\w+)", str(error))
        facts = [f"{requested[1]} wanted" if requested else first_line(error)]
        with suppress(Exception):  # a device in this state may not answer
            free = self.free_memory()
            if free is not None:
                facts.append(f"{free / 1e9:.1f} GB free")
        elsewhere = "" if self.device_name == "cpu" else ", or another --device"
        return BackendError(
            f"{self.describe()} is out of memory ({', '.join(facts)}): "
            f"take a smaller --batch-size, network or data set{elsewhere}"
        )

    def dtype(self, name: str) -> Any:
        """Return the library's dtype called "float32" or "float64".

        Raises:
            InputError: nnxp does not train in this dtype.
            BackendError: the library, as it is configured, does not compute in it.
        """
        return getattr(self.xp, options.DTYPE("dtype", name))

    @property
    def runs_ahead(self) -> bool:
        """Whether functions return before the device is done, so that a read waits for it."""
        return False

    @property
    def execution(self) -> Executor:
        """The properties of the executor."""
        return executors.by_name(self.executor)

    def asarray(self, x: Any, dtype: Any = None, copy: bool | None = None) -> Array:
        """Convert `x`, an array of any library or nested lists, to an array on this device."""
        with self.active():
            if not is_array(x) or namespace(x) is not self.xp:
                x = to_numpy(x)
            return self.xp.asarray(x, dtype=dtype, device=self.device, copy=copy)

    def copied(self, arrays: Any) -> Any:
        """Return a copy of nested lists and tuples of this backend's arrays."""
        return rebuilt(arrays, [self.asarray(array, copy=True) for array in leaves(arrays)])

    def on_device(self, arrays: Any) -> Any:
        """Return nested lists and tuples of arrays of any library as arrays on this device."""
        return rebuilt(arrays, map(self.asarray, leaves(arrays)))

    def read(self, scalars: list[Array]) -> Array:
        """Read 0-d arrays from the device in one transfer; return NumPy's float64, (scalars,)."""
        with self.active():
            return to_numpy(self.xp.stack(scalars)).astype("float64")

    def reading(self, scalars: list[Array]) -> Callable[[], Array]:
        """Begin to `read` 0-d arrays; return a function that waits for them and returns the values.

        Where the library `runs_ahead`, it does not wait for work that was queued after this call.
        """
        with self.active():
            return self._begin_to_read(self.xp.stack(scalars))

    def _begin_to_read(self, values: Array) -> Callable[[], Array]:
        """Do `reading` for one array, (scalars,), inside `active`."""
        found = to_numpy(values).astype("float64")
        return lambda: found

    def holds(self, x: Array) -> bool:
        """Return whether `x` is already on this backend's device."""
        return namespace(x) is self.xp and device(x) == self.device

    def runner(
        self,
        step: Step,
        fallbacks: list[str] | None = None,
        communicator: Communicator | None = None,
    ) -> Runner:
        """Return a function that runs chunks of `step`, like `nnxp.executors.eager.run`.

        Args:
            step: see `nnxp.executors.Step`.
            communicator: what the step calls to add arrays of other processes; None if it does not.
            fallbacks: if steps run otherwise than by the backend's executor, a line with the
                reason is appended here, and logged by "nnxp" at level INFO.
        """
        lines = [] if fallbacks is None else fallbacks

        def report(line: str) -> None:
            if line not in lines:  # it comes for whole batches and again for the last, smaller one
                lines.append(line)
                log.info("%s", line)

        executor = self.executor
        if communicator and (reason := communicator.refuses(executor)):
            report(f"steps run eagerly: {reason}")
            executor = "eager"
        run_chunk = executors.runner(executor, self, step, report)
        if communicator:
            run_chunk = communicator.across(run_chunk)
        run_chunk = self.tuned(run_chunk)

        def run(
            state: State, data: tuple[Array, ...], order: Array, learning_rate: Any
        ) -> tuple[State, Array]:
            with self.active():
                return run_chunk(state, data, order, learning_rate)

        return run

    def tuned(self, run: Runner) -> Runner:
        """Return `run` with the state's layout and the number of threads that are fastest."""
        return run

    def flush_subnormals(self, state: Any) -> None:
        """Set subnormal numbers of nested arrays to zero, in place, where they are slow."""

    @classmethod
    def check_threads(cls, threads: Threads) -> None:
        """Raise a BackendError if the library cannot be told this number of threads."""
        if threads is not None:
            raise BackendError(
                f"{cls.name} chooses its CPU threads itself: leave --threads out, or limit the "
                "cores of the process"
            )

    def limit_threads(self, multiply_adds: int) -> AbstractContextManager[Any]:
        """Limit the CPU's threads to what steps of this size need; enter inside `active`.

        If a library has one limit for the whole process, trainings in other threads that want
        another wait.

        Args:
            multiply_adds: multiply-adds of the largest matrix product.
        """
        return nullcontext()

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compile a pure function of arrays; return it as it is if the library does not compile."""
        return function

    def repeat(self, function: Callable[..., Any], arrays: Any, times: int) -> Any:
        """Compute `function(*arrays)` `times` times, as fast as possible; return the last result.

        For benchmarks: every repetition is computed, although all have the same result.

        Args:
            function: pure. A library that compiles does so at the first call, so pass the same
                object each time.
            arrays: the arguments of `function`, such as a list of lists of matrices.
            times: 1 or more.
        """
        with self.active():
            for _ in range(times):
                result = None  # free its memory for the next result
                result = function(*arrays)
        return result

    def synchronize(self, arrays: Any) -> None:
        """Wait until `arrays`, nested lists, and all work queued before them are computed."""

    def is_ready(self, array: Array) -> bool:
        """Return whether an array is computed, without waiting; True if the library cannot tell."""
        return True

    def device_memory(self) -> tuple[int, int] | None:
        """Return the bytes in use on the device, now and at the peak since the process began.

        None if the device is the host, or the library does not report it.
        """
        return None

    def free_memory(self) -> int | None:
        """Return the bytes of the device's memory that are free for arrays.

        None if the device is the host, or the library does not report it.
        """
        return None

    def staging(self, layout: Layout) -> Staging:
        """Return buffers through which data is sent to the device; call it inside `active`."""
        return Staging(self, layout)

    def settings(self) -> dict[str, Any]:
        """Return what affects the speed, for reports: threads, BLAS, TF32, versions of CUDA."""
        return {"tf32": self.tf32}

    def describe(self) -> str:
        """Return library, version, device and, if it is on, TF32 in one phrase."""
        return f"{self.name} {self.version} on {self.device_name}" + (", TF32" if self.tf32 else "")

    @classmethod
    def availability(cls) -> Availability:
        """Return the version and the devices, or why the backend cannot be used."""
        try:
            _, version = cls.load()
            return Availability(cls.name, version, cls.devices(), None)
        except BackendError as error:
            return Availability(cls.name, cls.installed_version(), (), str(error))

    @classmethod
    def installed_version(cls) -> str | None:
        """Return the installed version of a library that cannot be used; None if there is none."""
        return None

    @classmethod
    def import_error(cls, error: Exception, module: str) -> BackendError:
        """Return the error for a library that raised `error` when `module` was imported."""
        if isinstance(error, ModuleNotFoundError) and error.name == module:
            return BackendError(f"backend {cls.name!r} is not installed: {cls.install}")
        return BackendError(
            f"{module} is installed but does not import ({first_line(error)}): "
            f"install it anew: {cls.install}"
        )

    def __repr__(self) -> str:
        return f"<nnxp backend: {self.describe()}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # Modules and devices do not pickle; the arguments that they were opened with do.
        return type(self), (self.device_name, self.executor, self.tf32, self.threads)

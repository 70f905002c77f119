"""Executors: how a chunk of training steps runs on a backend.

A backend is an array library; an executor runs training steps on it: one call after the other,
repeated in the same memory, compiled, or captured in a CUDA graph. All compute the same except for
rounding. To add an executor, write a function `runner` in a new file here and add a line to
`EXECUTORS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from nnxp import options
from nnxp.arrays import Array
from nnxp.errors import BackendError

Report = Callable[[str], object]
"""report(line): the line says how steps run instead of as requested, and why."""

State = Any
"""Nested tuples and lists of arrays; the first entry holds the parameters. Steps own it."""

Rate = float | Array
"""A learning rate: a number, or a 0-d array."""

Step = Callable[[State, tuple[Array, ...], Rate], tuple[State, Array]]
"""step(state, batch, learning_rate) -> (state, loss): pure, except that it may write into state."""

Runner = Callable[[State, tuple[Array, ...], Array, Rate], tuple[State, Array]]
"""run(state, data, order, learning_rate) -> (state, summed loss): a chunk of steps."""


@dataclass(frozen=True)
class Executor:
    """One way to run a chunk of steps.

    Example:
        >>> import nnxp
        >>> {each.name: each.device for each in nnxp.executors.EXECUTORS}["graph"]
        'cuda'
    """

    name: str
    summary: str
    """A phrase with a verb, for `--help` and the README."""
    modules: dict[str, str]
    """Backend's name: the module in this package that runs it. The key "" is any other backend."""
    device: str = ""
    """The prefix of the devices' names, such as "cuda"; "" for any device."""
    fuses: bool = False
    """Whether a compiler fuses elementwise operations with others. Then a factor of a large array
    costs nothing, nor does a comparison that makes one-hot rows; see `nnxp.step` and
    `nnxp.data.prepare`."""
    long_chunks: bool = False
    """Whether a call costs as much as many small steps, and takes a chunk of any length at once;
    see `nnxp.data.batches.long_chunk`."""

    def runs_on(self, backend: str, device: str | None) -> bool:
        """Return whether `backend` has it on `device`; None means on at least one device."""
        fits_device = device is None or device.startswith(self.device)
        return fits_device and (backend in self.modules or "" in self.modules)


EXECUTORS = (
    Executor("replay", "record a step once and repeat its calls in the same memory",
             {"numpy": "replay"}),
    Executor("graph", "capture a chunk of steps in a CUDA graph and launch it as a whole",
             {"cupy": "cupy_graph", "torch": "torch_graph"}, "cuda"),
    Executor("jit", "compile a chunk by XLA, as jit of lax.scan", {"jax": "jax_scan"},
             fuses=True, long_chunks=True),
    Executor("eager", "call the library's functions one after the other", {"": "eager"}),
    Executor("compiled", "compile a step by torch.compile", {"torch": "torch_compile"},
             fuses=True),
)  # fmt: skip
"""All executors, the best first: the first one that a device has is its default."""


_NAME = options.name("executor", (each.name for each in EXECUTORS))


class Host(Protocol):
    """The attributes of a `nnxp.backends.Backend` that an executor uses."""

    @property
    def name(self) -> str:
        """The backend's name."""
        ...

    @property
    def device(self) -> Any:
        """The device as the library represents it."""
        ...

    @property
    def tf32(self) -> bool:
        """Whether float32 products may be computed in TF32."""
        ...

    def active(self) -> AbstractContextManager[None]:
        """Enter the context in which the library's functions are called."""
        ...


@options.checked(backend=options.TEXT, device=options.optional(options.TEXT))
def names(backend: str, device: str | None = None) -> tuple[str, ...]:
    """Return the names of the executors that `backend` has on `device`, the default first.

    Args:
        backend: a backend's name.
        device: one of its devices, "cpu" or "cuda:0"; None for the executors of all its devices.

    Example:
        >>> import nnxp
        >>> nnxp.executors.names("numpy"), nnxp.executors.names("torch", "cpu")
        (('replay', 'eager'), ('eager', 'compiled'))
    """
    return tuple(each.name for each in EXECUTORS if each.runs_on(backend, device))


def by_name(name: str) -> Executor:
    """Return the executor called `name`.

    Raises:
        InputError: no executor has this name.
    """
    found = {each.name: each for each in EXECUTORS}
    return found[_NAME.convert(name)]


def find(name: str | None, backend: str, device: str | None = None) -> str:
    """Return the name of an available executor: `name`, or the default for None or "auto".

    Args:
        name: an executor's name.
        backend, device: see `names`.

    Raises:
        BackendError: the backend has no executor of this name on the device.
    """
    available = names(backend, device)
    executor = available[0] if name in (None, "auto") else str(name)
    if executor not in available:
        place = f" on {device}" if executor in names(backend) else ""
        raise BackendError(
            f"backend {backend!r} has no executor {name!r}{place}; it has {', '.join(available)}"
        )
    return executor


def runner(executor: str, backend: Host, step: Step, report: Report) -> Runner:
    """Return a function that runs a chunk of steps, like `nnxp.executors.eager.run`.

    Args:
        executor: one of `names` of the backend.
        backend: the open backend; call the function inside its `active`.
        step: see `nnxp.executors.Step`.
        report: called if steps run otherwise than by this executor.
    """
    modules = by_name(executor).modules
    name = modules.get(backend.name) or modules[""]
    module = importlib.import_module(f"nnxp.executors.{name}")
    run: Runner = module.runner(step, backend, report)
    return run

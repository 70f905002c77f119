"""Executors: how a chunk of training steps runs on a backend.

A backend says what an array library is; an executor, how steps run on it: one call after the
other, repeated into the same memory, compiled, or captured in a CUDA graph. All compute the same,
to rounding. A new one is a file here with a function `runner`, and a line in `EXECUTORS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from nnxp.arrays import Array
from nnxp.errors import BackendError

Report = Callable[[str], object]
"""Takes one line that says how steps run instead of as asked for, and why."""

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
    """One way to run a chunk of steps."""

    name: str
    summary: str
    """What it does, as a phrase with a verb: for `--help` and the README."""
    modules: dict[str, str]
    """The module in this package that runs it, for each backend that has it; "" for all others."""
    device: str = ""
    """What the names of the devices that have it begin with: "cuda"; "" for any device."""

    def runs_on(self, backend: str, device: str | None) -> bool:
        """Whether `backend` has it on `device`; None asks whether it has it on any device."""
        there = device is None or device.startswith(self.device)
        return there and (backend in self.modules or "" in self.modules)


EXECUTORS = (
    Executor("replay", "record a step once and repeat its calls in the same memory",
             {"numpy": "replay"}),
    Executor("graph", "capture a chunk of steps in a CUDA graph and launch it as a whole",
             {"cupy": "cupy_graph", "torch": "torch_graph"}, "cuda"),
    Executor("jit", "compile a chunk by XLA, as jit of lax.scan", {"jax": "jax_scan"}),
    Executor("eager", "call the library's functions one after the other", {"": "eager"}),
    Executor("compiled", "compile a step by torch.compile", {"torch": "torch_compile"}),
)  # fmt: skip
"""Every executor, the best first: the first that a device has is its default."""


class Host(Protocol):
    """What an executor needs to know of a `nnxp.backends.Backend`."""

    @property
    def name(self) -> str:
        """The backend's name."""
        ...

    @property
    def device(self) -> Any:
        """The device, in the library's own terms."""
        ...

    @property
    def tf32(self) -> bool:
        """Whether float32 products may be computed in TF32."""
        ...

    def active(self) -> AbstractContextManager[None]:
        """What the library's calls run inside."""
        ...


def names(backend: str, device: str | None = None) -> tuple[str, ...]:
    """The executors that `backend` has on `device`, the default first.

    Args:
        backend: a backend's name.
        device: one of its devices, "cpu" or "cuda:0"; None for those that some device has.
    """
    return tuple(each.name for each in EXECUTORS if each.runs_on(backend, device))


def find(name: str | None, backend: str, device: str | None = None) -> str:
    """The executor called `name`; the default for None or "auto".

    Args:
        name: an executor's name.
        backend, device: see `names`.

    Raises:
        BackendError: the backend has no executor of this name there.
    """
    known = names(backend, device)
    found = known[0] if name in (None, "auto") else str(name)
    if found not in known:
        place = f" on {device}" if found in names(backend) else ""
        raise BackendError(
            f"backend {backend!r} has no executor {name!r}{place}; it has {', '.join(known)}"
        )
    return found


def runner(executor: str, backend: Host, step: Step, report: Report) -> Runner:
    """A function like `nnxp.executors.eager.run`, of `step`: it runs a chunk of steps.

    Args:
        executor: one of `names` of the backend.
        backend: the open backend, inside whose `active` the function is called.
        step: one step of training.
        report: called where steps run otherwise than by this executor.
    """
    modules = next(each.modules for each in EXECUTORS if each.name == executor)
    name = modules.get(backend.name) or modules[""]
    module = importlib.import_module(f"nnxp.executors.{name}")
    run: Runner = module.runner(step, backend, report)
    return run

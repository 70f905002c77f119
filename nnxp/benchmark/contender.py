"""Defines what trains a workload in a benchmark: a backend of nnxp, or a peer."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from nnxp.benchmark.workloads import Workload


class MissingError(Exception):
    """A contender's library is not installed, or does not work here: it can train no workload."""


class Timed(Protocol):
    """Something that runs step by step and is timed."""

    def train(self, order: np.ndarray) -> None:
        """Take one step of plain SGD for each row of `order`, (steps, batch), host indices.

        May return before the device is done.
        """
        ...

    def wait(self) -> None:
        """Return when all work that `train` queued is done."""
        ...


class Contender(Timed, Protocol):
    """Trains one workload in a process of its own; see `nnxp.benchmark.worker`.

    The constructor moves the data and the workload's initial parameters to the device.

    The worker also uses these attributes where a contender has them:

    - `comparable = False`: the initial parameters cannot be set, so the loss is not compared;
      `note` says so.
    - `floor()`: a `Timed` whose steps are the bare matrix products of this contender's.
    - the constructor may raise `MissingError` or `ImportError`.
    - `device_memory()`: (bytes in use, peak bytes in use), or None where the library does not
      report them.
    """

    name: str
    """Its name in tables."""
    note: str
    """A remark for the reader of a table, such as initial weights that cannot be set; else ''."""

    def __init__(self, workload: Workload, device: str | None = None) -> None: ...

    def parameters(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return (weight, bias) per layer, on the host, (fan_in, fan_out) and (fan_out,).

        The worker computes from them the loss by which contenders are compared.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Return library, version, device, dtype, TF32, and other settings that affect speed."""
        ...


@dataclass(frozen=True)
class Entry:
    """A contender in a benchmark: its class and where it trains.

    Args:
        name: the name in tables.
        contender: the class, "module:Class". A process with this one's `sys.path` can import it.
        device: where it trains; None for the contender's own choice.
        options: keyword arguments of the class besides workload and device.
    """

    name: str
    contender: str
    device: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def make(self, workload: Workload) -> Contender:
        """Import the class and return an instance that is ready to train."""
        module, _, name = self.contender.partition(":")
        made: Contender = getattr(importlib.import_module(module), name)(
            workload, self.device, **self.options
        )
        return made

"""What a benchmark asks of whatever trains a workload: a backend of nnxp, or a peer."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from nnxp.benchmark.workloads import Workload


class Timed(Protocol):
    """Something that is done step by step, and timed."""

    def train(self, order: np.ndarray) -> None:
        """One step of plain SGD for each row of `order`, (steps, batch), host indices.

        May return before the device is through.
        """
        ...

    def wait(self) -> None:
        """Return when all that `train` began is done."""
        ...


class Contender(Timed, Protocol):
    """Trains one workload in a process of its own; see `nnxp.benchmark.worker`.

    Making one moves the data and the workload's initial parameters to where it trains.

    It may have more, which the worker uses where it is there:

    - `comparable = False`: the initial parameters cannot be set, so the loss is not compared;
      `note` says so.
    - `floor()`: a `Timed` whose steps are the bare matrix products of this contender's.
    - `watched()`: one of its arrays on the device; reads of its like by the host are counted.
    - `device_memory()`: (bytes in use, the most that were), or None where nobody tells.
    """

    name: str
    """What the tables call it."""
    note: str
    """What the reader of a table must know: initial weights that cannot be set, say; else ''."""

    def __init__(self, workload: Workload, device: str | None = None) -> None: ...

    def parameters(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(weight, bias) per layer as they are now, on the host, (fan_in, fan_out) and (fan_out,).

        The worker computes from them the loss that contenders are compared by.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Library, version, device, dtype, TF32, and what else sets the time."""
        ...

"""What a training works on: its state, and the state that it begins with."""

from __future__ import annotations

from typing import Any, NamedTuple

from nnxp.arrays import Array
from nnxp.network import MLP
from nnxp.optimizers import Optimizer, Parameters


class TrainState(NamedTuple):
    """What one step of training takes and returns: nested lists and tuples of device arrays."""

    parameters: Parameters
    """One (weight, bias) per layer."""
    optimizer_state: Any
    """What the optimizer keeps of the steps before: its moments."""
    step: Array
    """The number of steps so far, a 0-d int32 array: dropout draws its masks by it."""
    target_units: list[Array]
    """[(outputs,)]: the unit of each output in that of the largest; [] where all are equal."""
    slope_totals: list[Array]
    """What `nnxp.diagnostics` adds up in an epoch, (batch, units) per hidden layer; [] without."""


def first_state(network: MLP, optimizer: Optimizer) -> TrainState:
    """The state that a training begins with.

    Steps own their state and may write into it, so the parameters are a copy: the network's own
    change once an epoch, as a whole.
    """
    backend = network.backend
    parameters = [
        (backend.asarray(weight, copy=True), backend.asarray(bias, copy=True))
        for weight, bias in network.parameters
    ]
    units = network.target_units()
    with backend.active():
        step = backend.xp.zeros((), dtype=backend.xp.int32, device=backend.device)
        optimizer_state = optimizer.init(parameters)
    return TrainState(parameters, optimizer_state, step, [] if units is None else [units], [])

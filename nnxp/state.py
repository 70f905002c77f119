"""The state of a training, and its initial value."""

from __future__ import annotations

from typing import Any, NamedTuple

from nnxp.arrays import Array
from nnxp.augmentation import Augmenter
from nnxp.backends.base import Backend
from nnxp.errors import InputError
from nnxp.nested import leaves, rebuilt, shapes
from nnxp.network import MLP
from nnxp.optimizers import Optimizer, Parameters


class TrainState(NamedTuple):
    """The state that a training step takes and returns: nested lists and tuples of arrays."""

    parameters: Parameters
    """One (weight, bias) per layer."""
    optimizer_state: Any
    """The optimizer's moments."""
    step: Array
    """The number of steps so far, a 0-d int32 array: each number has its own dropout masks."""
    target_units: list[Array]
    """[(outputs,)]: the unit of each output relative to the largest; [] if all are equal."""
    slope_totals: list[Array]
    """The sums of `nnxp.diagnostics` over an epoch, (batch, units) per hidden layer; or []."""
    deformation_fields: list[Array]
    """[those of `nnxp.augmentation`] where the training deforms images, which no step changes."""
    batch_size: list[Array]
    """[the number of rows of the batch, 0-d] where ranks cannot divide each batch evenly; or []."""

    def without_constants(self) -> TrainState:
        """Return the state without what no step changes."""
        return self._replace(deformation_fields=[], batch_size=[])

    def with_constants(self, of: TrainState) -> TrainState:
        """Return the state with what no step changes of another."""
        return self._replace(deformation_fields=of.deformation_fields, batch_size=of.batch_size)


def first_state(
    network: MLP,
    optimizer: Optimizer,
    resumable: Any = None,
    augmenter: Augmenter | None = None,
) -> TrainState:
    """Return the initial state of a training, or that in which an earlier one ended.

    It holds a copy of the parameters: steps may write into their state, but the network's own
    parameters change only at the end of an epoch.

    Args:
        network, optimizer: those to train.
        resumable: (optimizer_state, step) of an earlier training, its arrays of any library; None
            to begin.
        augmenter: deforms the images of each step; None for no deformation.

    Raises:
        InputError: `resumable` is of another network or optimizer.
    """
    backend = network.backend
    parameters = backend.copied(network.parameters)
    units = network.target_units()
    with backend.active():
        step = backend.xp.zeros((), dtype=backend.xp.int32, device=backend.device)
        optimizer_state = optimizer.init(parameters)
        if resumable is not None:
            optimizer_state, step = _resumed((optimizer_state, step), resumable, backend)
    fields = (
        [backend.asarray(augmenter.fields(), dtype=parameters[0][0].dtype)] if augmenter else []
    )
    units = [] if units is None else [units]
    return TrainState(parameters, optimizer_state, step, units, [], fields, [])


def with_batch_size(state: TrainState, batch_size: int, backend: Backend) -> TrainState:
    """Return the state for steps of this many rows of all ranks, where a step must know it."""
    if not state.batch_size:
        return state
    number = backend.asarray(float(batch_size), dtype=state.parameters[0][0].dtype)
    return state._replace(batch_size=[number])


def _resumed(fresh: Any, resumable: Any, backend: Backend) -> Any:
    if shapes(resumable) != shapes(fresh):
        raise InputError(
            "resume: the history is of another network or optimizer; leave it out to start anew"
        )
    arrays = zip(leaves(resumable), leaves(fresh), strict=True)
    return rebuilt(fresh, [backend.asarray(old, dtype=new.dtype, copy=True) for old, new in arrays])

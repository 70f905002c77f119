"""What the processes of a distributed training agree on, and what each has a part of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np

from nnxp.arrays import to_numpy
from nnxp.backends.base import Backend
from nnxp.data.feeds import Feed
from nnxp.data.prepare import Validation
from nnxp.data.sources import Source
from nnxp.distributed.communicator import Communicator
from nnxp.distributed.share import BatchShare
from nnxp.distributed.world import World
from nnxp.errors import InputError
from nnxp.nested import leaves, rebuilt
from nnxp.network import MLP, loss_and_outputs
from nnxp.objectives import Objective
from nnxp.state import TrainState


def share_of(world: World, feed: Feed) -> BatchShare:
    """Return the part of each batch that this process takes.

    Raises:
        InputError: there are more processes than rows of a batch.
    """
    if feed.batch_size < world.size:
        raise InputError(
            f"batches of {feed.batch_size} rows are too small for {world.size} processes: "
            f"take a batch size of {world.size} or more, or fewer processes"
        )
    last = feed.samples % feed.batch_size
    is_uneven = bool(feed.batch_size % world.size or last % world.size)
    return BatchShare(world.rank, world.size, is_uneven)


def check_alike(world: World, given: dict[str, Any]) -> None:
    """Compare what each process was given.

    Raises:
        InputError: a process was given something else than the first.
    """
    everywhere = world.exchange({name: str(value) for name, value in given.items()})
    for rank, other in enumerate(everywhere):
        for name, value in everywhere[0].items():
            if other.get(name) != value:
                raise InputError(
                    f"process {rank} was given another {name} than process 0 "
                    f"({_brief(other.get(name))}, not {_brief(value)}): give all the same"
                )


def _brief(value: str | None) -> str:
    """Shorten a fingerprint: the shape, and the first characters of a hash."""
    text = "none" if value is None else value
    start, _, end = text.rpartition(" ")
    return f"{start} {end[:8]}..." if len(end) == 64 else text


def same_parameters(communicator: Communicator | None, network: MLP) -> None:
    """Give all processes the parameters of the first: other processors may draw other last bits."""
    if communicator:
        arrays = communicator.broadcast(leaves(network.parameters))
        network.parameters = rebuilt(network.parameters, arrays)


def whole(world: World, state: TrainState, feed: Feed) -> TrainState:
    """Return the state as one process alone has it, on the host; all processes call it together.

    Without what no step changes.
    """
    state = state.without_constants()
    if world.size == 1:
        return state
    totals = []
    for array in state.slope_totals:
        rows = feed.batch_size if array.shape[0] else 0
        totals.append(np.concatenate(world.exchange(to_numpy(array)))[:rows])
    return state._replace(slope_totals=totals)


def part(share: BatchShare, state: TrainState, backend: Backend) -> TrainState:
    """Return this process's part of a state that `whole` made: its rows of the slope totals."""
    if share.size == 1 or not state.slope_totals:
        return state
    totals = []
    for array in map(to_numpy, state.slope_totals):
        rows = share.rows(array.shape[0])
        padded = np.zeros((rows * share.size, *array.shape[1:]), array.dtype)
        padded[: array.shape[0]] = array
        first = share.first_row(rows)
        totals.append(backend.asarray(padded[first : first + rows], copy=True))
    return state._replace(slope_totals=totals)


def same_state(communicator: Communicator, state: TrainState) -> TrainState:
    """Return the state that process 0 has, where processes differ by rounding."""
    shared = state.without_constants()._replace(slope_totals=[])
    shared = cast(TrainState, rebuilt(shared, communicator.broadcast(leaves(shared))))
    return shared.with_constants(state)._replace(slope_totals=state.slope_totals)


def evaluate(
    world: World, network: MLP, data: Validation, objective: Objective
) -> tuple[float, np.ndarray]:
    """Compute `loss_and_outputs`, each process for a part of the rows.

    Raises:
        InputError: an output is not finite.
    """
    if world.size == 1:
        return loss_and_outputs(network, data, objective)
    samples = len(data.targets)
    bounds = np.linspace(0, samples, world.size + 1).astype(int)
    mine = slice(*bounds[world.rank : world.rank + 2])
    found: Any = None
    if mine.start < mine.stop:
        numbers = np.arange(samples) if data.numbers is None else data.numbers
        x, rows = data.x, None
        if data.rows is not None:
            rows = data.rows[mine]
        elif isinstance(x, Source):
            rows = np.arange(mine.start, mine.stop)
        else:
            x = x[mine, ...]
        block = replace(data, x=x, targets=data.targets[mine], rows=rows, numbers=numbers[mine])
        try:
            loss, outputs = loss_and_outputs(network, block, objective)
            found = loss * (mine.stop - mine.start), outputs
        except InputError as error:
            found = error
    parts = [each for each in world.exchange(found) if each is not None]
    for each in parts:
        if isinstance(each, InputError):
            raise each
    losses, blocks = zip(*parts, strict=True)
    return sum(losses) / samples, np.concatenate(blocks)

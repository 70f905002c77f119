"""A chunk of training steps as a plain loop: right for every library."""

from __future__ import annotations

from functools import partial

from nnxp.arrays import Array, rows
from nnxp.executors import Host, Rate, Report, Runner, State, Step


def runner(step: Step, backend: Host, report: Report) -> Runner:
    """`run` of this step."""
    return partial(run, step)


def run(
    step: Step, state: State, data: tuple[Array, ...], order: Array, learning_rate: Rate
) -> tuple[State, Array]:
    """Run one step for each row of `order`.

    Nothing here reads a value back from the device, so the loop may run ahead of it.

    Args:
        step: one step of training.
        state: what the step works on, owned: steps may write into it.
        data: on the device, the whole data set or the chunk's part of it; every array has one row
            per sample.
        order: (steps, batch), integers: the samples of each mini-batch.
        learning_rate: of every step in this chunk, a number or a 0-d array.

    Returns:
        The new state, and the sum of the steps' losses as a 0-d array.
    """
    total: Array = 0.0
    for k in range(order.shape[0]):
        state, loss = step(state, rows(data, order[k, ...]), learning_rate)
        total = total + loss
    return state, total

"""A chunk of training steps as a plain loop, which works with every library."""

from __future__ import annotations

from functools import partial

from nnxp.arrays import Array, rows
from nnxp.executors import Host, Rate, Report, Runner, State, Step


def runner(step: Step, backend: Host, report: Report) -> Runner:
    """Return `run` with `step` as its first argument."""
    return partial(run, step)


def run(
    step: Step, state: State, data: tuple[Array, ...], order: Array, learning_rate: Rate
) -> tuple[State, Array]:
    """Run one step for each row of `order`.

    The loop reads no value back from the device, so it may run ahead of it.

    Args:
        step: one step of training.
        state: the state of the training, which steps may overwrite.
        data: arrays on the device with one row per sample, for the whole data set or the rows of
            this chunk.
        order: (steps, batch), integers: the rows of each mini-batch.
        learning_rate: of every step in this chunk, a number or a 0-d array.

    Returns:
        The new state, and the sum of the steps' losses as a 0-d array.
    """
    total: Array = 0.0
    for k in range(order.shape[0]):
        state, loss = step(state, rows(data, order[k, ...]), learning_rate)
        total = total + loss
    return state, total

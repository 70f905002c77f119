"""A chunk of training steps as a plain loop: right for every library."""

from typing import Any

from nnxp.arrays import Array, rows


def run(
    step: Any, state: Any, data: tuple[Array, ...], order: Array, learning_rate: Any
) -> tuple[Any, Array]:
    """Run one step for each row of `order`.

    Nothing here reads a value back from the device, so the loop may run ahead of it.

    Args:
        step: see `nnxp.backends.base.Step`.
        state: (parameters, optimizer_state), owned: steps may write into it.
        data: on the device, the whole data set or the chunk's part of it; every array has one row
            per sample.
        order: (steps, batch), which samples each mini-batch takes.
        learning_rate: of every step in this chunk.

    Returns:
        The new state, and the sum of the steps' losses as a 0-d array.
    """
    parameters, optimizer_state = state
    total = 0.0
    for k in range(order.shape[0]):
        batch = rows(data, order[k, ...])
        parameters, optimizer_state, loss = step(parameters, optimizer_state, batch, learning_rate)
        total = total + loss
    return (parameters, optimizer_state), total

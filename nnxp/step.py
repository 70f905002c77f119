"""One step of training, as a pure function that every executor runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from nnxp.arrays import Array, namespace
from nnxp.augmentation import Augmenter
from nnxp.diagnostics import with_slope_totals
from nnxp.distributed.communicator import Communicator
from nnxp.distributed.share import BatchShare
from nnxp.executors import Runner, Step
from nnxp.network import MLP, Combine, backpropagate
from nnxp.objectives import Objective
from nnxp.optimizers import Optimizer, apply_updates, without_rate
from nnxp.registry import cached
from nnxp.regularization import Regularization, dropout
from nnxp.state import TrainState


def training_step(
    hidden: tuple[str, ...],
    objective: Objective,
    optimizer: Optimizer,
    regularization: Regularization = Regularization(),  # noqa: B008, it is frozen
    dropout_seed: int = 0,
    fuses: bool = False,
    share: BatchShare = BatchShare(),  # noqa: B008, likewise
    communicator: Communicator | None = None,
    augmenter: Augmenter | None = None,
) -> Step:
    """Return the training step: backpropagation, then the update.

    Equal arguments give the same function, for every learning rate, so that an executor which
    compiles it can reuse the compiled program.

    Args:
        hidden: the name of each hidden layer's activation.
        objective: the loss on the network's output.
        optimizer, regularization: see `nnxp.train`.
        dropout_seed: the seed of the dropout masks.
        fuses: see `nnxp.executors.Executor`. It chooses where plain descent multiplies by the rate.
        share: the part of each batch that this process computes.
        communicator: adds the gradients of all processes; None for this one alone.
        augmenter: deforms the images of the batch; None for no deformation.

    Returns:
        step(state, batch, learning_rate) -> (state, loss). The state is a `TrainState`, the batch
        is (x, targets) or (x, targets, sample_weight), the loss is a 0-d array.
    """
    return _step(
        hidden, objective, without_rate(optimizer), regularization, dropout_seed, fuses, share,
        communicator, augmenter,
    )  # fmt: skip


def step_runner(
    network: MLP,
    objective: Objective,
    optimizer: Optimizer,
    regularization: Regularization,
    seed: int,
    fallbacks: list[str] | None = None,
    share: BatchShare = BatchShare(),  # noqa: B008, it is frozen
    communicator: Communicator | None = None,
    augmenter: Augmenter | None = None,
) -> Runner:
    """Return a function that runs chunks of the training step on a network's backend.

    Args:
        network: the network to train.
        objective: the loss on its output.
        optimizer, regularization, seed: see `nnxp.train`.
        fallbacks: see `nnxp.backends.Backend.runner`.
        share, communicator, augmenter: see `training_step`.
    """
    # Pass 0 without dropout: a new seed must not recompile the step.
    dropout_seed = seed if regularization.shares(len(network.hidden)) else 0
    fuses = network.backend.execution.fuses
    step = training_step(
        network.hidden, objective, optimizer, regularization, dropout_seed, fuses, share,
        communicator, augmenter,
    )  # fmt: skip
    if communicator is None:  # a backend of another package may not know of communicators
        return network.backend.runner(step, fallbacks)
    return network.backend.runner(step, fallbacks, communicator)


@cached(maxsize=64)
def _step(
    hidden: tuple[str, ...],
    objective: Objective,
    optimizer: Optimizer,
    regularization: Regularization,
    dropout_seed: int,
    fuses: bool,
    share: BatchShare,
    communicator: Communicator | None,
    augmenter: Augmenter | None,
) -> Step:
    shares = regularization.shares(len(hidden))
    # Plain descent may multiply the last layer's small gradient by the rate, and not those of all
    # weights. This saves two passes over each matrix, unless a compiler fuses product and update.
    scales_output = optimizer.is_plain and not regularization.penalizes and not fuses

    def step(
        state: TrainState, batch: tuple[Array, ...], learning_rate: Any
    ) -> tuple[TrainState, Array]:
        parameters, optimizer_state, number, units, slope_totals, fields, batch_size = state
        scaled = objective.in_units(units[0]) if units else objective
        x, targets, sample_weight = batch if len(batch) == 3 else (*batch, None)
        rows = x.shape[0]
        if augmenter:
            x = augmenter(x, fields[0], number, share.first_row(rows))
        mask = dropout(shares, dropout_seed, number, share.first_row(rows)) if shares else None
        weights = share.weights(x, batch_size[0]) if batch_size else None
        if slope_totals:
            mask, slope_totals = with_slope_totals(mask, hidden, slope_totals, weights)
        scale = learning_rate if scales_output else None
        combine: Combine = list
        if communicator:
            fraction = share.fraction(rows, batch_size)
            scale = fraction if scale is None else scale * fraction
            combine = partial(_combined, communicator, fraction)
        if weights is not None:
            weights = namespace(x).reshape(weights, (rows,))
            sample_weight = weights if sample_weight is None else sample_weight * weights
        loss, gradients = backpropagate(
            parameters, hidden, scaled, x, targets, sample_weight, mask, scale, combine
        )
        if scales_output:
            parameters = apply_updates(parameters, gradients)
        else:
            samples = batch_size[0] if batch_size else rows * share.size
            loss, gradients = regularization.penalize(loss, parameters, gradients, samples)
            parameters, optimizer_state = optimizer.update(
                parameters, optimizer_state, gradients, learning_rate
            )
        parameters = regularization.constrain(parameters)
        number = number + 1 if shares or augmenter else number
        state = TrainState(
            parameters, optimizer_state, number, units, slope_totals, fields, batch_size
        )
        return state, loss

    return step


def _combined(
    communicator: Communicator, fraction: Any, groups: Iterator[Sequence[Array]]
) -> list[list[Array]]:
    """Add the losses and gradients of all ranks: the first group is [loss], not yet a part."""

    def parts() -> Iterator[Sequence[Array]]:
        (loss,) = next(groups)
        yield [loss * fraction]
        yield from groups

    return communicator.all_reduce(parts())

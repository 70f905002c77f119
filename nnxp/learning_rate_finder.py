"""The learning-rate range test: the losses of steps whose rate grows from one to the next."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Literal, cast

import numpy as np

from nnxp import augmentation, objectives, optimizers, options, target_scaling
from nnxp.augmentation import Augmenter, Deformation
from nnxp.data import batches
from nnxp.data.feeds import Chunk, Feed
from nnxp.data.prepare import prepare
from nnxp.errors import InputError
from nnxp.names import LossName, OptimizerName
from nnxp.network import MLP
from nnxp.objectives import Objective
from nnxp.optimizers import SGD, ClipNorm, Optimizer
from nnxp.registry import Piece
from nnxp.regularization import Regularization
from nnxp.state import first_state
from nnxp.step import step_runner

log = logging.getLogger("nnxp")

SMOOTHING = 0.9
"""The share of the earlier losses in each smoothed loss."""
FALLEN = 0.75
"""The part of its fall that the loss has behind it at the suggested rate."""
DIVERGED = 4.0
"""The smoothed loss that ends the test, as a multiple of the smallest."""
PLATEAU = 0.2
"""The share of the steps, at the smallest rates, whose loss counts as that before the fall."""


@dataclass(frozen=True, eq=False)
class LearningRateCurve:
    """The loss by learning rate, which `nnxp.plots.learning_rate` draws.

    Attributes:
        rates: the rate of each step, (steps,), rising.
        losses: the loss of each step's batch before the step, (steps,), in the targets' unit.
        smoothed: the losses without the noise of batches, (steps,).
        suggestion: a rate to train with, of two digits; None if the loss falls at no rate.
        has_diverged: whether the loss rose so far that larger rates were not tried.

    Example:
        >>> import nnxp
        >>> data = nnxp.datasets.load("digits")
        >>> curve = nnxp.find_learning_rate(nnxp.MLP([64, 10]), data.x, data.y, batch_size=32)
        >>> bool(curve.rates[0] < curve.suggestion < curve.rates[-1])
        True
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    suggestion: float | None
    has_diverged: bool

    @property
    def still_falls(self) -> bool:
        """Whether the loss is smallest at the highest rates, so that higher ones may be better."""
        at_the_end = np.argmin(self.smoothed) >= 0.95 * len(self.smoothed)
        return bool(at_the_end) and not self.has_diverged

    def __repr__(self) -> str:
        low, high = self.rates[0], self.rates[-1]
        return (
            f"<LearningRateCurve: {len(self.rates)} steps from {low:.2g} to {high:.2g}, "
            f"suggestion {self.suggestion}>"
        )


@options.checked(
    network=options.instance(MLP, "an nnxp.MLP"),
    batch_size=options.optional(options.whole(1)),
    loss=objectives.LOSS,
    optimizer=optimizers.OPTIMIZER,
    seed=options.whole(0),
    regularization=options.instance(Regularization, "an nnxp.Regularization"),
    clip_norm=options.optional(options.POSITIVE),
    stream=options.optional(options.TRUTH),
    scale_targets=target_scaling.SCALE_TARGETS,
    augment=options.optional(augmentation.AUGMENT),
    lowest=options.POSITIVE,
    highest=options.POSITIVE,
    steps=options.whole(20),
)
def find_learning_rate(
    network: MLP,
    x: Any,
    targets: Any,
    *,
    batch_size: int | None,
    loss: LossName | Piece = "auto",
    optimizer: Optimizer | OptimizerName | Callable[[], Optimizer] = SGD(0.1),  # noqa: B008, it is frozen
    seed: int = 0,
    sample_weight: Any = None,
    regularization: Regularization = Regularization(),  # noqa: B008, likewise
    clip_norm: float | None = None,
    stream: bool | None = None,
    scale_targets: bool | Literal["auto"] = "auto",
    augment: Deformation | str | Iterable[str] | None = None,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 200,
) -> LearningRateCurve:
    """Find a learning rate by a range test: train a copy with a rate that grows at each step.

    The rate grows by a constant factor, and the test ends where the loss is four times the smallest
    so far. The suggestion is the rate at which the smoothed loss has three quarters of its fall
    behind it: its slope is steepest near there, but to measure a slope the loss is too noisy. It
    fits the network, the optimizer and the batch size of the test.

    Args:
        network: the network, which is not changed.
        x, targets, batch_size, loss, optimizer, seed: see `nnxp.train`. The optimizer's own rate is
            not used.
        sample_weight, regularization, clip_norm, stream, scale_targets, augment: see `nnxp.train`.
        lowest, highest: the first and the last rate.
        steps: the number of steps, 20 or more.

    Raises:
        InputError: a shape, label, number or option is not valid, or the loss of the first steps is
            not finite.

    Source: Smith, Cyclical learning rates for training neural networks, 2017.

    Example:
        >>> import nnxp
        >>> data = nnxp.datasets.load("digits")
        >>> network = nnxp.MLP([64, 32, 10])
        >>> found = nnxp.find_learning_rate(network, data.x, data.y, batch_size=32)
        >>> 0.05 < found.suggestion < 5
        True
    """
    if lowest >= highest:
        raise InputError(f"lowest must be less than highest, not {lowest:g} and {highest:g}")
    optimizer = cast(Optimizer, optimizer)  # the check of the options has replaced names
    if clip_norm is not None:
        optimizer = ClipNorm(optimizer, clip_norm)
    objective, network = objectives.get(loss, network.output), copy.copy(network)
    deformation = cast("Deformation | None", augment)
    if deformation is not None:
        deformation = deformation.of_images(network.sizes[0])
    prepared = prepare(
        network.spec,
        objective.loss,
        x,
        targets,
        batch_size=batch_size,
        seed=seed,
        sample_weight=sample_weight,
        stream=stream,
        as_pixels=deformation is not None,
        choose_scaling=partial(
            target_scaling.choose, scale_targets, objective, network.target_scaling
        ),
    )
    network.target_scaling = prepared.target_scaling
    rates = np.geomspace(lowest, highest, steps)
    losses, smoothed, mean = list[float](), list[float](), 0.0
    augmenter = augmentation.augmenter(deformation, seed, prepared.pixels)
    for value in _losses(
        network, prepared.feed, objective, optimizer, regularization, seed, augmenter, rates
    ):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * value
        smoothed.append(mean / (1 - SMOOTHING ** (len(smoothed) + 1)))
        least = min(smoothed)
        if not smoothed[-1] - least <= (DIVERGED - 1) * abs(least):  # or one is not a number
            break
        losses.append(value)
    if not losses:
        raise InputError("the loss of the first step is not finite: scale the inputs")
    rates, found = rates[: len(losses)], np.array(smoothed[: len(losses)])
    curve = LearningRateCurve(
        rates, np.array(losses), found, _suggestion(rates, found), len(losses) < steps
    )
    if curve.still_falls:
        log.info(
            "the loss still falls at the highest rate, %g: a higher one may be better", highest
        )
    return curve


def _losses(
    network: MLP,
    feed: Feed,
    objective: Objective,
    optimizer: Optimizer,
    regularization: Regularization,
    seed: int,
    augmenter: Augmenter | None,
    rates: np.ndarray,
) -> Iterator[float]:
    """Take a step at each rate, and yield the loss of its batch before it."""
    backend, scaling = network.backend, network.target_scaling
    unit = 1.0 if scaling is None else scaling.loss_unit(objective.loss)
    run = step_runner(network, objective, optimizer, regularization, seed, augmenter=augmenter)
    state = first_state(network, optimizer, augmenter=augmenter)
    for rate, (data, rows) in zip(rates.tolist(), _batches(feed, seed), strict=False):
        state, loss = run(state, data, rows, rate)
        yield unit * float(backend.read([loss])[0])


def _batches(feed: Feed, seed: int) -> Iterator[Chunk]:
    """Yield chunks of one full batch each, through the data again and again."""
    for epoch in count(1):
        order = batches.ordered(True, feed.samples, seed, epoch, feed.blocks)
        for data, rows in feed.chunks(order):
            if rows.shape[1] == feed.batch_size:
                for step in range(rows.shape[0]):
                    yield data, rows[step : step + 1, ...]


def _suggestion(rates: np.ndarray, smoothed: np.ndarray) -> float | None:
    """Return the rate at which the loss has three quarters of its fall behind it.

    None if the loss does not fall by more than it wavers.
    """
    before = max(2, round(PLATEAU * len(smoothed)))
    if before >= len(smoothed):
        return None
    start, wavers = float(np.median(smoothed[:before])), float(smoothed[:before].std())
    lowest = before + int(np.argmin(smoothed[before:]))
    least = float(smoothed[lowest])
    if start - least <= 3 * wavers:
        return None
    fallen = np.flatnonzero(smoothed[before:] <= start - FALLEN * (start - least))
    return float(f"{rates[before + fallen[0]]:.1e}")

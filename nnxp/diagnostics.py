"""Measurements of why a network fails to learn: dead and saturated units, gradients, updates.

`nnxp.train(..., diagnose=True)` and `nnxp train --diagnose` put a `Diagnosis` into every epoch of
the history. The slopes of the units are summed over the whole training set inside the training
steps, in an array per hidden layer. Gradients and updates are measured on one mini-batch after the
epoch's last step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnxp.arrays import Array, namespace
from nnxp.linalg import vector_norm
from nnxp.nested import leaves, rebuilt
from nnxp.network import MLP, Mask, backpropagate
from nnxp.objectives import Objective
from nnxp.optimizers import Optimizer, without_rate
from nnxp.registry import cached
from nnxp.regularization import Regularization

DEAD, SATURATED = 0.4, 0.4
"""Shares of a layer's units, dead and saturated; a warning from these on."""
VANISHING = 1e-3
"""First layer's gradient norm over the last's; a warning below this or above its inverse."""
LARGE_UPDATE = 0.1
"""Norm of a step's update over the norm of the weights; a warning above this."""
PROBE_ROWS = 1024
"""The most samples of a mini-batch for measuring gradients and updates."""

_Slope = Callable[[Array], Array]
_SLOPES: dict[str, tuple[_Slope, float]] = {
    # By activation: the slope as a function of y (for relu, anything positive where the slope is),
    # and the mean over the training set up to which a unit counts as dead or saturated. For
    # sigmoid and tanh this limit is a twentieth of the steepest slope.
    "relu": (lambda y: y, 0.0),
    "sigmoid": (lambda y: y * (1.0 - y), 0.25 / 20),
    "tanh": (lambda y: 1.0 - y * y, 1.0 / 20),
}


@dataclass(frozen=True)
class Layer:
    """The measurements of one layer in one epoch.

    Example:
        >>> import nnxp
        >>> data = nnxp.datasets.load("digits")
        >>> history = nnxp.train(
        ...     nnxp.MLP([64, *[30] * 10, 10], "sigmoid"), data.x, data.y, epochs=1, batch_size=32,
        ...     diagnose=True,
        ... )
        >>> layer = history.epochs[-1].diagnosis.layers[0]
        >>> layer.activation, layer.dead, layer.gradient < 1e-3
        ('sigmoid', None, True)
    """

    activation: str
    dead: float | None
    """The share of ReLU units that were 0 for every sample; None for other activations."""
    saturated: float | None
    """The share of sigmoid or tanh units whose mean slope over the samples was at most a twentieth
    of the steepest slope; None for other activations."""
    gradient: float
    """||dW||_2, the norm of the loss's gradient with respect to the weights, after the epoch."""
    update: float
    """||W' - W||_2 / ||W||_2 for one step after the epoch; about 0.001 is healthy."""


@dataclass(frozen=True)
class Finding:
    """A problem that a diagnosis found.

    Example:
        >>> import nnxp
        >>> data = nnxp.datasets.load("digits")
        >>> history = nnxp.train(
        ...     nnxp.MLP([64, *[30] * 10, 10], "sigmoid"), data.x, data.y, epochs=1, batch_size=32,
        ...     diagnose=True,
        ... )
        >>> finding = history.epochs[-1].diagnosis.findings[0]
        >>> finding.kind, finding.layer
        ('vanishing', None)
    """

    kind: str
    """"dead", "saturated", "large update", "vanishing" or "exploding"."""
    layer: int | None
    """The number of the layer, 1, 2, ...; None for a problem of the whole network."""
    message: str
    """One line: the problem, its size and a cure."""


@dataclass(frozen=True)
class Diagnosis:
    """The measurements of one epoch and the problems found in them.

    Example:
        >>> import nnxp
        >>> data = nnxp.datasets.load("digits")
        >>> history = nnxp.train(
        ...     nnxp.MLP([64, *[30] * 10, 10], "sigmoid"), data.x, data.y, epochs=1, batch_size=32,
        ...     diagnose=True,
        ... )
        >>> diagnosis = history.epochs[-1].diagnosis
        >>> diagnosis.gradient_ratio < 1e-3
        True
    """

    layers: tuple[Layer, ...]
    gradient_ratio: float | None
    """The first layer's gradient norm over the last layer's; None if the latter is zero."""
    findings: tuple[Finding, ...]
    """The problems; empty for a network that learns well."""


class DiagnosticsRecorder:
    """The recorder of one training's measurements, for `nnxp.train`.

    Args:
        network: the network in training.
        objective, optimizer, regularization: those of the training.
    """

    def __init__(
        self,
        network: MLP,
        objective: Objective,
        optimizer: Optimizer,
        regularization: Regularization,
    ) -> None:
        self.backend = network.backend
        self.activations = (*network.hidden, network.output)
        scalars = _scalars(network.hidden, objective, without_rate(optimizer), regularization)
        self._scalars = self.backend.compiled(scalars)

    def slope_totals(self, parameters: Any, batch_size: int) -> list[Array]:
        """Return the totals at the start of an epoch: zeros, (batch_size, units) per hidden layer.

        They have the shape of a batch's activations, so that a step adds without a reduction.
        """
        xp = self.backend.xp
        with self.backend.active():
            return [
                xp.zeros(
                    (batch_size if activation in _SLOPES else 0, bias.shape[0]),
                    dtype=bias.dtype,
                    device=self.backend.device,
                )
                for (_, bias), activation in zip(
                    parameters[:-1], self.activations[:-1], strict=True
                )
            ]

    def scalars(
        self, state: Any, batch: tuple[Array, ...], rate: float, samples: int
    ) -> list[Array]:
        """Compute shares of units, gradient norms and updates by layer, 0-d arrays on the device.

        Args:
            state: the state after the epoch's last step, which is not changed.
            batch: the samples on which gradients and updates are measured, at most `PROBE_ROWS`
                of the last mini-batch.
            rate: the learning rate.
            samples: the number of samples in the epoch.
        """
        with self.backend.active():
            measured: list[Array] = self._scalars(state, batch, rate, samples)
        return measured

    def diagnosis(self, values: np.ndarray, rate: float) -> Diagnosis:
        """Return the diagnosis for the values of `scalars`, read to the host."""
        count = len(self.activations)
        shares, gradients, updates = np.split(values, [count - 1, 2 * count - 1])
        layers = []
        for activation, share, gradient, update in zip(
            self.activations, [*shares.tolist(), None], gradients, updates, strict=True
        ):
            hidden = share is not None
            dead = share if hidden and activation == "relu" else None
            saturated = share if hidden and activation in ("sigmoid", "tanh") else None
            layers.append(Layer(activation, dead, saturated, float(gradient), float(update)))
        first, last = layers[0].gradient, layers[-1].gradient
        ratio = first / last if last else None
        return Diagnosis(tuple(layers), ratio, tuple(_findings(layers, ratio, rate)))


@cached(maxsize=32)
def _scalars(
    hidden: tuple[str, ...],
    objective: Objective,
    optimizer: Optimizer,
    regularization: Regularization,
) -> Callable[..., list[Array]]:
    """Return the pure function that computes `DiagnosticsRecorder.scalars`.

    Equal arguments give the same function, as in `nnxp.step.training_step`.
    """

    def scalars(
        state: Any, batch: tuple[Array, ...], learning_rate: Any, samples: Any
    ) -> list[Array]:
        parameters, units = state.parameters, state.target_units
        xp = namespace(parameters[0][0])
        shares = [
            xp.mean(xp.astype(xp.sum(total, axis=0) <= _limit(name) * samples, total.dtype))
            for total, name in zip(state.slope_totals, hidden, strict=True)
        ]
        scaled = objective.in_units(units[0]) if units else objective
        loss, gradients = backpropagate(parameters, hidden, scaled, *batch)
        norms = [_norm(dweight) for dweight, _ in gradients]
        # The rest of a step may write into its state, so it gets a copy.
        after, optimizer_state = _copied((parameters, state.optimizer_state))
        _, gradients = regularization.penalize(loss, after, gradients, batch[0].shape[0])
        after, _ = optimizer.update(after, optimizer_state, gradients, learning_rate)
        after = regularization.constrain(after)
        updates = [
            _norm(new - old) / (_norm(old) + float(xp.finfo(old.dtype).smallest_normal))
            for (new, _), (old, _) in zip(after, parameters, strict=True)
        ]
        return [*shares, *norms, *updates]

    return scalars


def with_slope_totals(
    mask: Mask | None, hidden: tuple[str, ...], slopes: list[Array], weights: Array | None = None
) -> tuple[Mask, list[Array]]:
    """Return a mask for `nnxp.network.propagate`, and the list that it fills with new totals.

    `weights`, (batch, 1), has 0 for rows that do not count.
    """
    totals: list[Array] = []

    def record(y: Array, layer: int) -> Array | None:
        total = slopes[layer]
        if hidden[layer] in _SLOPES:
            slope, _ = _SLOPES[hidden[layer]]
            total = _add(total, slope(y) if weights is None else slope(y) * weights)
        totals.append(total)
        return mask(y, layer) if mask else None

    return record, totals


def _add(total: Array, batch: Array) -> Array:
    """Return `total` with `batch` added to its first rows. Overwrites `total`."""
    size = batch.shape[0]
    if size == total.shape[0]:
        total += batch
        return total
    # The last batch of an epoch may be smaller.
    return namespace(total).concat([total[:size, ...] + batch, total[size:, ...]], axis=0)


def _limit(activation: str) -> float:
    """Return the mean slope up to which a unit counts as dead or saturated; -1 for no limit."""
    return _SLOPES[activation][1] if activation in _SLOPES else -1.0


def _norm(x: Array) -> Array:
    return vector_norm(x, 2, axis=None)


def _copied(nested: Any) -> Any:
    """Return the nested lists and tuples with a copy of each array."""
    return rebuilt(nested, (namespace(each).asarray(each, copy=True) for each in leaves(nested)))


def _findings(layers: list[Layer], ratio: float | None, rate: float) -> Iterator[Finding]:
    for i, layer in enumerate(layers, 1):
        if layer.dead is not None and layer.dead >= DEAD:
            yield Finding(
                "dead",
                i,
                f"layer {i}: {layer.dead:.0%} of the relu units are dead, zero for every sample, "
                f"and cannot learn: lower the learning rate ({rate:g}), or take leaky_relu",
            )
        if layer.saturated is not None and layer.saturated >= SATURATED:
            yield Finding(
                "saturated",
                i,
                f"layer {i}: {layer.saturated:.0%} of the {layer.activation} units are saturated, "
                "almost without slope: start from smaller weights (initializer xavier), scale the "
                f"inputs, or lower the learning rate ({rate:g})",
            )
        if layer.update > LARGE_UPDATE:
            yield Finding(
                "large update",
                i,
                f"layer {i}: a step changes the weights by {layer.update:.0%} of their norm: "
                f"lower the learning rate ({rate:g})",
            )
    across = f"of {len(layers)} layers, the first one's gradient is"
    if ratio is not None and ratio < VANISHING:
        yield Finding(
            "vanishing",
            None,
            f"gradients vanish: {across} {ratio:.1e} of the last's: take relu with initializer "
            "he, or fewer layers",
        )
    if ratio is not None and ratio > 1 / VANISHING:
        yield Finding(
            "exploding",
            None,
            f"gradients explode: {across} {ratio:.1e} times the last's: start from smaller "
            "weights (initializer xavier or he), or bound them (max-norm)",
        )

"""Why a network fails to learn, measured: dead and saturated units, gradients, updates.

`nnxp.train(..., diagnose=True)` and `nnxp train --diagnose` put a `Diagnosis` into every epoch of
the history. What concerns the whole training set is added up inside the steps of training, an
array per hidden layer; the rest is taken from one mini-batch after the epoch's last step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from nnxp.arrays import Array, namespace, rows
from nnxp.linalg import vector_norm
from nnxp.nested import leaves, rebuilt
from nnxp.network import MLP, Mask, backpropagate
from nnxp.objectives import Objective
from nnxp.optimizers import Optimizer, without_rate
from nnxp.regularization import Regularization

DEAD, SATURATED = 0.4, 0.4
"""Shares of a layer's units from which there is a warning."""
VANISHING = 1e-3
"""Gradient norm of the first layer over the last's below which there is one, or over 1 / this."""
LARGE_UPDATE = 0.1
"""Norm of a step's update over that of the weights above which there is one."""
PROBE_ROWS = 1024
"""Samples at most of the mini-batch that gradients and updates are measured on."""

_Slope = Callable[[Array], Array]
_SLOPES: dict[str, tuple[_Slope, float]] = {
    # Of y: something positive where the unit has a slope; the mean, over the training set, up to
    # which the unit counts as without. A twentieth of the steepest slope for the last two.
    "relu": (lambda y: y, 0.0),
    "sigmoid": (lambda y: y * (1.0 - y), 0.25 / 20),
    "tanh": (lambda y: 1.0 - y * y, 1.0 / 20),
}


@dataclass(frozen=True)
class Layer:
    """One layer in one epoch."""

    activation: str
    dead: float | None
    """The share of ReLU units that were 0 for every sample of the epoch; None for others."""
    saturated: float | None
    """The share of sigmoid or tanh units whose slope, on average over the epoch's samples, was at
    most a twentieth of the steepest; None for others."""
    gradient: float
    """||dW||_2, the loss's gradient with respect to the weights, after the epoch."""
    update: float
    """||W' - W||_2 / ||W||_2 over one step after the epoch: healthy is about 0.001."""


@dataclass(frozen=True)
class Finding:
    """Something that is wrong."""

    kind: str
    """"dead", "saturated", "large update", "vanishing" or "exploding"."""
    layer: int | None
    """1, 2, ...; None for what concerns all of them."""
    message: str
    """One line: what, how much, and the cure."""


@dataclass(frozen=True)
class Diagnosis:
    """What one epoch showed."""

    layers: tuple[Layer, ...]
    gradient_ratio: float | None
    """Gradient norm of the first layer over the last's; None where that one is zero."""
    findings: tuple[Finding, ...]
    """What is wrong; empty for a network that learns well."""


class DiagnosticsRecorder:
    """Measures one training; `nnxp.train` calls it.

    Args:
        network: in training.
        objective, optimizer, regularization: what it is trained with.
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
        """The totals that an epoch begins with: zeros, (batch_size, units) per hidden layer.

        As large as a batch's activations, so that a step adds without a reduction.
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
        self, state: Any, data: tuple[Array, ...], order: Array, rate: float, samples: int
    ) -> list[Array]:
        """0-d arrays on the device: shares of units, gradient norms and updates, by layer.

        Args:
            state: after the epoch's last step; left as it is.
            data: the whole training set.
            order: (steps, batch); of its last mini-batch gradients and updates are measured.
            rate: the learning rate.
            samples: in the epoch.
        """
        with self.backend.active():
            batch = rows(data, order[-1, : min(PROBE_ROWS, order.shape[1])])
            measured: list[Array] = self._scalars(state, batch, rate, samples)
        return measured

    def diagnosis(self, values: np.ndarray, rate: float) -> Diagnosis:
        """The diagnosis from the values of `scalars`, read to the host."""
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


@lru_cache(maxsize=32)
def _scalars(
    hidden: tuple[str, ...],
    objective: Objective,
    optimizer: Optimizer,
    regularization: Regularization,
) -> Callable[..., list[Array]]:
    """The pure function behind `DiagnosticsRecorder.scalars`, the same for the same arguments."""

    def scalars(
        state: Any, batch: tuple[Array, ...], learning_rate: Any, samples: Any
    ) -> list[Array]:
        parameters, units = state.parameters, state.target_units
        xp = namespace(parameters[0][0])
        shares = [
            xp.mean(xp.astype(xp.sum(total, axis=0) <= _limit(name) * samples, total.dtype))
            for total, name in zip(state.slope_totals, hidden, strict=True)
        ]
        trained = objective.in_units(units[0]) if units else objective
        loss, gradients = backpropagate(parameters, hidden, trained, *batch)
        norms = [_norm(dweight) for dweight, _ in gradients]
        # What follows is the end of a step, which may write into its state: it gets a copy.
        after, optimizer_state = _copied((parameters, state.optimizer_state))
        _, gradients = regularization.penalize(loss, after, gradients)
        after, _ = optimizer.update(after, optimizer_state, gradients, learning_rate)
        after = regularization.constrain(after)
        updates = [
            _norm(new - old) / (_norm(old) + float(xp.finfo(old.dtype).smallest_normal))
            for (new, _), (old, _) in zip(after, parameters, strict=True)
        ]
        return [*shares, *norms, *updates]

    return scalars


def with_slope_totals(
    mask: Mask | None, hidden: tuple[str, ...], slopes: list[Array]
) -> tuple[Mask, list[Array]]:
    """`mask` for `nnxp.network.propagate`, and the list that it fills with the new totals."""
    totals: list[Array] = []

    def watch(y: Array, layer: int) -> Array | None:
        total = slopes[layer]
        if hidden[layer] in _SLOPES:
            slope, _ = _SLOPES[hidden[layer]]
            total = _add(total, slope(y))
        totals.append(total)
        return mask(y, layer) if mask else None

    return watch, totals


def _add(total: Array, batch: Array) -> Array:
    """`total` with `batch` added to its first rows. Overwrites it."""
    size = batch.shape[0]
    if size == total.shape[0]:
        total += batch
        return total
    # An epoch's last, smaller batch.
    return namespace(total).concat([total[:size, ...] + batch, total[size:, ...]], axis=0)


def _limit(activation: str) -> float:
    """The mean slope up to which a unit counts as without; no unit of another activation does."""
    return _SLOPES[activation][1] if activation in _SLOPES else -1.0


def _norm(x: Array) -> Array:
    return vector_norm(x, 2, axis=None)


def _copied(nested: Any) -> Any:
    """Nested lists and tuples of arrays, each array anew."""
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

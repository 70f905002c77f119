"""Objectives: from the last pre-activation to the loss and its gradient.

Any loss goes with any output activation. An output in [0, 1] (sigmoid, softmax, step) is a
probability; any other output is a logit, to which cross-entropy applies its own sigmoid or softmax.
Likewise for the Poisson loss: an output that is never negative is a rate, any other its logarithm.
Softmax with categorical and sigmoid with binary cross-entropy are computed from the
pre-activation in one formula; every other pair uses the chain rule.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from nnxp.arrays import Array
from nnxp.kernels import (
    ACTIVATIONS,
    binary_cross_entropy,
    binary_cross_entropy_gradient,
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_gradient,
    categorical_cross_entropy,
    categorical_cross_entropy_gradient,
    categorical_cross_entropy_with_logits,
    categorical_cross_entropy_with_logits_gradient,
    categorical_cross_entropy_with_logits_value_and_gradient,
    huber,
    huber_gradient,
    mae,
    mae_gradient,
    poisson,
    poisson_gradient,
    poisson_with_log_rate,
    poisson_with_log_rate_gradient,
    quadratic,
    quadratic_gradient,
    saved,
)
from nnxp.registry import Piece, Registry, is_pair

LOSSES = Registry(
    "loss",
    {
        "quadratic": (quadratic, quadratic_gradient),
        "mae": (mae, mae_gradient),
        "huber": (huber, huber_gradient),
        "poisson": (poisson, poisson_gradient),
        "binary_cross_entropy": (binary_cross_entropy, binary_cross_entropy_gradient),
        "categorical_cross_entropy": (
            categorical_cross_entropy,
            categorical_cross_entropy_gradient,
        ),
    },
    "a pair of functions, (value, gradient)",
    is_pair,
)
"""Every loss on outputs, by name: value(y, targets, sample_weight) and its gradient."""
_WITH_LOGITS = {
    "poisson": (poisson_with_log_rate, poisson_with_log_rate_gradient),
    "binary_cross_entropy": (
        binary_cross_entropy_with_logits,
        binary_cross_entropy_with_logits_gradient,
    ),
    "categorical_cross_entropy": (
        categorical_cross_entropy_with_logits,
        categorical_cross_entropy_with_logits_gradient,
    ),
}
_FUSED = {"softmax": "categorical_cross_entropy", "sigmoid": "binary_cross_entropy"}

LOSS = LOSSES.rule("auto")

PROBABILITIES = ("sigmoid", "softmax", "step")
"""The output activations that give probabilities."""
RATES = (*PROBABILITIES, "relu", "softplus")
"""The output activations that are never negative."""

UNIT_POWER = {"quadratic": 2, "mae": 1, "huber": 2}
"""The losses whose targets may be scaled, and the power of the targets' unit that each has."""


@dataclass(frozen=True)
class Objective:
    """The loss called `loss` on outputs of the activation called `output`.

    `units`, (outputs,), is for targets that were scaled by a different factor for each output:
    values of the loss are then in these units, but gradients are not.
    """

    loss: str
    output: str
    units: Array | None = field(default=None, compare=False)

    def in_units(self, units: Array | None) -> Objective:
        """Return the same objective with values in these units; None for no units."""
        return replace(self, units=units)

    def value(self, z: Array, targets: Array, sample_weight: Array | None = None) -> Array:
        """Compute the loss for the last layer's pre-activation `z`, a 0-d array."""
        if self.units is not None:  # only for linear outputs, see `nnxp.target_scaling`
            value, _ = LOSSES[self.loss]
            return value(z * self.units, targets * self.units, sample_weight)
        if self._from_z:
            return _WITH_LOGITS[self.loss][0](z, targets, sample_weight)
        return self._of_outputs[0](ACTIVATIONS[self.output][0](z), targets, sample_weight)

    def value_and_gradient(
        self, z: Array, targets: Array, sample_weight: Array | None = None
    ) -> tuple[Array, Array]:
        """Compute the loss, and its gradient with respect to `z`."""
        if self._from_z:
            if self.loss == "categorical_cross_entropy":
                return categorical_cross_entropy_with_logits_value_and_gradient(
                    z, targets, sample_weight
                )
            value, gradient = _WITH_LOGITS[self.loss]
            return value(z, targets, sample_weight), gradient(z, targets, sample_weight)
        value, gradient = self._of_outputs
        activation, activation_backward = ACTIVATIONS[self.output]
        y = activation(z)
        dy = gradient(y, targets, sample_weight)
        dz = activation_backward(dy, *saved(activation_backward, y, z))
        if self.units is not None:
            return self.value(z, targets, sample_weight), dz
        return value(y, targets, sample_weight), dz

    @property
    def threshold(self) -> float:
        """The output of a single unit above which the class is 1."""
        return 0.5 if self.output in PROBABILITIES else 0.0

    @property
    def is_log_rate(self) -> bool:
        """Whether outputs are logarithms of what the targets are."""
        return self.loss == "poisson" and self.output not in RATES

    @property
    def _from_z(self) -> bool:
        return _FUSED.get(self.output) == self.loss

    @property
    def _of_outputs(self):  # type: ignore[no-untyped-def]
        logits = self.output not in (RATES if self.loss == "poisson" else PROBABILITIES)
        return (_WITH_LOGITS if logits and self.loss in _WITH_LOGITS else LOSSES)[self.loss]


def get(loss: str | Piece, output: str) -> Objective:
    """Return the objective for a loss, and for the name of an output activation.

    "auto" is categorical cross-entropy for softmax, binary cross-entropy for sigmoid and
    the quadratic loss for every other output.

    Raises:
        InputError: no loss has this name.
    """
    name: str = LOSS("loss", loss)
    return Objective(_FUSED.get(output, "quadratic") if name == "auto" else name, output)

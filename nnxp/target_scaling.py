"""Scaling of real-valued targets to mean 0 and deviation 1 for training, and of outputs back.

Gradient descent with a usual learning rate diverges on targets of 10^4 and learns nothing from
targets of 10^-4. So `nnxp.train` learns t' = (t - shift) / scale. `predict` and `evaluate` return
values in the unit of the targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnxp import options
from nnxp.arrays import Array, device, namespace
from nnxp.errors import InputError
from nnxp.objectives import UNIT_POWER, Objective
from nnxp.preprocessing import standardize

LARGEST, SMALLEST = 1e150, 1e-150
"""The scales whose squares, and so losses, fit in float64."""


def _scale_targets(value: Any) -> Any:
    return value if isinstance(value, str) and value == "auto" else options.TRUTH.convert(value)


SCALE_TARGETS = options.Rule('"auto", True or False', _scale_targets)


@dataclass(frozen=True)
class TargetScaling:
    """t' = (t - shift) / scale, one shift and one scale per output.

    Raises:
        InputError: the numbers of shifts and scales differ, one is not a finite number, or a
            scale is not positive.
    """

    shift: tuple[float, ...]
    scale: tuple[float, ...]

    def __post_init__(self) -> None:
        options.check_fields(
            self,
            shift=options.several(options.FINITE, least=1),
            scale=options.several(options.POSITIVE, least=1),
        )
        if len(self.shift) != len(self.scale):
            raise InputError(f"{len(self.shift)} shifts of targets for {len(self.scale)} scales")

    @classmethod
    def fit(cls, targets: np.ndarray, dtype: str) -> TargetScaling:
        """Fit the mean and the deviation of each column; a constant column has scale 1.

        Args:
            targets: (samples, outputs), float64, finite.
            dtype: the network's dtype, in which it predicts.

        Raises:
            InputError: predictions would overflow or underflow in `dtype`.
        """
        cure = "take another unit" + (" or dtype float64" if dtype == "float32" else "")
        limits = np.finfo(dtype)
        high, low = min(LARGEST, float(limits.max) / 10), max(SMALLEST, float(limits.tiny))
        size = float(np.abs(targets).max())
        if size > high:
            raise InputError(f"targets go up to {size:g}, too large for {dtype}: {cure}")
        fitted = standardize(targets)
        scaling = cls(tuple(np.atleast_1d(fitted.shift)), tuple(np.atleast_1d(fitted.scale)))
        if (least := min(scaling.scale)) < low:
            raise InputError(f"targets deviate by {least:g} only, too little for {dtype}: {cure}")
        return scaling

    def apply(self, targets: np.ndarray) -> np.ndarray:
        """Return t' from t, (samples, outputs), float64."""
        return (targets - np.asarray(self.shift)) / np.asarray(self.scale)

    def invert(self, y: Array) -> Array:
        """Return t from t' = y, (samples, outputs), in y's library and dtype."""
        xp = namespace(y)
        shift, scale = (
            xp.asarray(each, dtype=y.dtype, device=device(y)) for each in (self.shift, self.scale)
        )
        return y * scale + shift

    @property
    def unit(self) -> float:
        """The largest scale."""
        return max(self.scale)

    def loss_unit(self, loss: str) -> float:
        """Return the factor from losses of training to losses in the targets' own unit."""
        return float(self.unit ** UNIT_POWER[loss])

    def check_loss(self, loss: str) -> None:
        """Raise InputError if a loss is not defined on scaled targets."""
        if loss not in UNIT_POWER:
            raise InputError(
                f"loss {loss!r} on a network whose targets were scaled in training: take "
                f"{', '.join(UNIT_POWER)}, or train with scale_targets=False"
            )

    @property
    def relative(self) -> np.ndarray | None:
        """Each output's scale divided by the largest, (outputs,); None if all are equal.

        The loss sums squared errors over outputs, so each error must first be in its own unit.
        """
        relative = np.asarray(self.scale) / self.unit
        return None if (relative == 1).all() else relative

    def describe(self) -> str:
        """Return the shift and the scale of the outputs, of the first three if there are more."""

        def text(values: Sequence[float]) -> str:
            return ", ".join(f"{value:.4g}" for value in values[:3]) + (
                ", ..." if len(values) > 3 else ""
            )

        return f"mean {text(self.shift)}, deviation {text(self.scale)}"


def choose(
    asked: bool | str,
    objective: Objective,
    known: TargetScaling | None,
    targets: np.ndarray,
    dtype: str,
) -> TargetScaling | None:
    """Return the scaling of a training's targets; None for no scaling.

    Args:
        asked: `scale_targets` of `nnxp.train`.
        objective: the training's; only linear outputs with a loss of `UNIT_POWER` are scaled.
        known: the network's scaling from an earlier training.
        targets: the targets to train on, in the form that the loss takes.
        dtype: the network's dtype.

    Raises:
        InputError: `asked` is True with another output or loss, or see `TargetScaling.fit`.
    """
    linear = objective.output == "identity" and objective.loss in UNIT_POWER
    if asked is True and not linear:
        raise InputError(
            f"scale_targets=True needs output 'identity' and loss {', '.join(UNIT_POWER)}, not "
            f"{objective.output!r} and {objective.loss!r}: their values have a range of their own"
        )
    if not linear or asked is False:
        return None
    if asked == "auto":
        if known is not None:
            return known
        if np.isin(targets, (0.0, 1.0)).all():  # labels
            return None
    return TargetScaling.fit(targets, dtype)

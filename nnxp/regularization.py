"""Regularization: what keeps a network from learning its training data by heart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nnxp import options
from nnxp.arrays import Array, namespace
from nnxp.kernels import dropout_mask
from nnxp.linalg import vector_norm
from nnxp.optimizers import Parameters


@dataclass(frozen=True)
class Regularization:
    """Penalties on the weights, a bound on them, and dropout. Biases are left alone.

    The penalty l1 ||W||_1 + l2/2 ||W||_2^2, summed over layers, is added to the loss, and its
    gradient l1 sign(W) + l2 W to each weight's. After each step the weights into every unit are
    scaled so that their norm is `max_norm` at most.

    Args:
        l1, l2: not negative. For l2 the book's lambda over n samples is lambda / n here.
        max_norm: positive, or None for no bound.
        dropout: the share of every hidden layer's units that are dropped in each step, in [0, 1),
            or one share per hidden layer; the rest are scaled up by 1 / (1 - share).

    Raises:
        InputError: a value is out of its range.

    Source: Nielsen, chapter 3, "Regularization"; Srivastava et al., Dropout, 2014, for max-norm.
    """

    l1: float = 0.0
    l2: float = 0.0
    max_norm: float | None = None
    dropout: float | Sequence[float] = 0.0

    def __post_init__(self) -> None:
        options.check_fields(
            self,
            l1=options.NOT_NEGATIVE,
            l2=options.NOT_NEGATIVE,
            max_norm=options.optional(options.POSITIVE),
            dropout=options.one_or_each(options.SHARE),
        )

    def shares(self, layers: int) -> tuple[float, ...]:
        """The share that is dropped of each hidden layer; nothing where none is dropped."""
        shares = options.per_layer(self.dropout, layers, "dropout shares")
        return shares if any(shares) else ()

    @property
    def penalizes(self) -> bool:
        """Whether there is a penalty in the loss."""
        return bool(self.l1 or self.l2)

    def penalize(self, loss: Array, parameters: Parameters, gradients: Parameters) -> Any:
        """The loss and the gradients with the penalty's added. Overwrites the gradients."""
        if not self.penalizes:
            return loss, gradients
        penalized = []
        for (weight, _), (dweight, dbias) in zip(parameters, gradients, strict=True):
            xp = namespace(weight)
            if self.l1:
                loss = loss + self.l1 * xp.sum(xp.abs(weight))
                dweight += self.l1 * xp.sign(weight)
            if self.l2:
                loss = loss + 0.5 * self.l2 * xp.sum(weight * weight)
                dweight += self.l2 * weight
            penalized.append((dweight, dbias))
        return loss, penalized

    def constrain(self, parameters: Parameters) -> Parameters:
        """The parameters with no unit's incoming weights over `max_norm`. Overwrites them."""
        if self.max_norm is None:
            return parameters
        constrained = []
        for weight, bias in parameters:
            norm = vector_norm(weight, 2, axis=0)
            # 1 where the norm is within bounds: never a division by a norm of zero.
            over = namespace(norm).astype(norm > self.max_norm, norm.dtype)
            weight /= (norm / self.max_norm) * over + (1.0 - over)
            constrained.append((weight, bias))
        return constrained


def dropout(shares: tuple[float, ...], seed: int, step: Array) -> Any:
    """The mask of one step, for `nnxp.network.propagate`."""

    def mask(y: Array, layer: int) -> Array | None:
        return dropout_mask(y, shares[layer], seed, step, layer) if shares[layer] else None

    return mask

"""Regularization, which reduces overfitting: penalties, max-norm and dropout."""

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
    """Penalties on the weights, a bound on them, and dropout. Biases are not regularized.

    The penalty l1 ||W||_1 + l2/2 ||W||_2^2, summed over layers, is added to the loss, and its
    gradient l1 sign(W) + l2 W to the gradient of the weights. After each step the incoming weights
    of every unit are scaled so that their norm is at most `max_norm`.

    Args:
        l1, l2: not negative. The book's lambda for n samples is l2 = lambda / n.
        max_norm: positive, or None for no bound.
        dropout: the share of units, in [0, 1), that each hidden layer drops in each step, one for
            all layers or one per hidden layer; the other units are scaled by 1 / (1 - share).
        per_batch: whether l1 and l2 are divided by the number of samples of each batch, as the
            sum of the losses is; scikit-learn's `alpha` is such an l2.

    Raises:
        InputError: a value is out of its range, or, in training, the number of dropout shares is
            not that of the hidden layers.

    Source: Nielsen, chapter 3, "Regularization"; Srivastava et al., Dropout, 2014, for max-norm.

    Example:
        >>> import nnxp
        >>> data = nnxp.datasets.load("digits")
        >>> history = nnxp.train(
        ...     nnxp.MLP([64, 32, 10]), data.x, data.y, epochs=1, batch_size=32,
        ...     regularization=nnxp.Regularization(l2=1e-4, max_norm=3.0, dropout=0.2),
        ... )
    """

    l1: float = 0.0
    l2: float = 0.0
    max_norm: float | None = None
    dropout: float | Sequence[float] = 0.0
    per_batch: bool = False

    def __post_init__(self) -> None:
        options.check_fields(
            self,
            l1=options.NOT_NEGATIVE,
            l2=options.NOT_NEGATIVE,
            max_norm=options.optional(options.POSITIVE),
            dropout=options.one_or_each(options.SHARE),
            per_batch=options.TRUTH,
        )

    def shares(self, layers: int) -> tuple[float, ...]:
        """Return the dropout share of each of the hidden layers; () if all are zero."""
        shares = options.per_layer(self.dropout, layers, "dropout shares")
        return shares if any(shares) else ()

    @property
    def penalizes(self) -> bool:
        """Whether the loss has a penalty."""
        return bool(self.l1 or self.l2)

    def penalize(
        self, loss: Array, parameters: Parameters, gradients: Parameters, samples: Any
    ) -> Any:
        """Add the penalty of a batch of `samples` to the loss and the gradients, overwritten."""
        if not self.penalizes:
            return loss, gradients
        l1, l2 = (self.l1 / samples, self.l2 / samples) if self.per_batch else (self.l1, self.l2)
        penalized = []
        for (weight, _), (dweight, dbias) in zip(parameters, gradients, strict=True):
            xp = namespace(weight)
            if self.l1:
                loss = loss + l1 * xp.sum(xp.abs(weight))
                dweight += l1 * xp.sign(weight)
            if self.l2:
                loss = loss + 0.5 * l2 * xp.sum(weight * weight)
                dweight += l2 * weight
            penalized.append((dweight, dbias))
        return loss, penalized

    def constrain(self, parameters: Parameters) -> Parameters:
        """Scale each unit's incoming weights to a norm of at most `max_norm`. Overwrites them."""
        if self.max_norm is None:
            return parameters
        constrained = []
        for weight, bias in parameters:
            norm = vector_norm(weight, 2, axis=0)
            # The divisor is 1 where the norm is within the bound, so it is never zero.
            exceeds = namespace(norm).astype(norm > self.max_norm, norm.dtype)
            weight /= (norm / self.max_norm) * exceeds + (1.0 - exceeds)
            constrained.append((weight, bias))
        return constrained


def dropout(shares: tuple[float, ...], seed: int, step: Array, first: int = 0) -> Any:
    """Return the dropout mask of one step, for `nnxp.network.propagate`.

    Args:
        shares: see `Regularization.shares`.
        seed, step, first: see `nnxp.kernels.dropout_mask`.
    """

    def mask(y: Array, layer: int) -> Array | None:
        return dropout_mask(y, shares[layer], seed, step, layer, first) if shares[layer] else None

    return mask

"""The parameters from which scikit-learn's networks start."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from nnxp.optimizers import Parameters


def draw(
    rng: np.random.RandomState, sizes: tuple[int, ...], activation: str | tuple[str, ...]
) -> Parameters:
    """Draw scikit-learn's initial parameters: weights and biases uniform in +-sqrt(f / fans).

    f is 2 for the logistic function and 6 for others; the output layer's is the last hidden
    layer's.

    Source: Glorot and Bengio, 2010.
    """
    layers = list(pairwise(sizes))
    names = [activation] * len(layers) if isinstance(activation, str) else [*activation]
    names += names[-1:] or ["identity"]
    drawn = []
    for (fan_in, fan_out), name in zip(layers, names, strict=False):
        bound = np.sqrt((2.0 if name == "sigmoid" else 6.0) / (fan_in + fan_out))
        weight = rng.uniform(-bound, bound, (fan_in, fan_out))
        drawn.append((weight, rng.uniform(-bound, bound, fan_out)))
    return drawn

"""The parameters from which scikit-learn's networks start."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from nnxp.optimizers import Parameters


def draw(rng: np.random.RandomState, sizes: tuple[int, ...], activation: Any) -> Parameters:
    """Draw scikit-learn's initial parameters: weights and biases uniform in +-sqrt(f / fans).

    f is 2 for the logistic function and 6 for others; the output layer's is the last hidden
    layer's.

    Source: Glorot and Bengio, 2010.
    """
    layers = list(pairwise(sizes))
    hidden = len(layers) - 1
    each = isinstance(activation, tuple) and len(activation) == hidden
    names = [*activation] if each else [activation] * hidden
    names.append(names[-1] if names else activation)
    drawn = []
    for (fan_in, fan_out), name in zip(layers, names, strict=True):
        bound = np.sqrt((2.0 if name == "sigmoid" else 6.0) / (fan_in + fan_out))
        weight = rng.uniform(-bound, bound, (fan_in, fan_out))
        drawn.append((weight, rng.uniform(-bound, bound, fan_out)))
    return drawn

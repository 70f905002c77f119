"""Dropout masks, equal bit for bit on every library and device; see `nnxp.kernels.random_bits`.

Example:
    >>> import numpy as np
    >>> from nnxp.kernels import dropout_mask
    >>> y, step = np.ones((1000, 10)), np.asarray(7, dtype=np.int32)
    >>> mask = dropout_mask(y, 0.25, seed=0, step=step, layer=0)
    >>> round(float((mask == 0).mean()), 2), round(float(mask.max()), 3)
    (0.26, 1.333)
"""

from nnxp.arrays import Array, namespace
from nnxp.kernels.random_bits import random_bits


def dropout_mask(
    y: Array, rate: float, seed: int, step: Array, layer: int, first: int = 0
) -> Array:
    """What to multiply a layer's output by: 0 with probability `rate`, else 1 / (1 - rate).

    Inverted dropout: the expected output is the same with and without, so that nothing need be
    scaled when the network is used.

    Args:
        y: the output, (batch, units); gives shape and dtype.
        rate: the share of units to drop, in [0, 1), in steps of 2^-31.
        seed: a whole number; only its lowest 32 bits count.
        step: which step of training this is, a 0-d int32 array.
        layer: which layer this is.
        first: which row of the batch is the first of y, where y is a part of the batch.

    Returns:
        The mask, of y's shape and dtype.

    Source: Srivastava et al., Dropout, 2014.
    """
    xp = namespace(y)
    rows, units = y.shape
    bits = random_bits(rows * units, seed, step, layer + 1, first * units)  # stream 0 deforms
    kept = xp.astype(bits >= min(round(rate * 2**31), 2**31 - 1), y.dtype)
    return xp.reshape(kept, y.shape) * (1.0 / (1.0 - rate))

"""Dropout masks from a counter-based generator, equal bit for bit on every library and device.

The standard has no random numbers. A mask is a hash of (seed, step, layer, position) in the
standard's own int32 arithmetic: wrap-around multiplication, exclusive or and masked shifts. There
is no state to carry, nothing is made on the host, and a compiled loop can hold it.

Example:
    >>> import numpy as np
    >>> from nnxp.kernels import dropout_mask
    >>> y, step = np.ones((1000, 10)), np.asarray(7, dtype=np.int32)
    >>> mask = dropout_mask(y, 0.25, seed=0, step=step, layer=0)
    >>> round(float((mask == 0).mean()), 2), round(float(mask.max()), 3)
    (0.26, 1.333)
"""

from nnxp.arrays import Array, device, namespace


def dropout_mask(
    y: Array, rate: float, seed: int, step: Array, layer: int, first: int = 0
) -> Array:
    """What to multiply a layer's output by: 0 with probability `rate`, else 1 / (1 - rate).

    Inverted dropout: the expected output is the same with and without, so that nothing need be
    scaled when the network is used.

    Args:
        y: the output, (batch, units); gives shape, dtype and device.
        rate: the share of units to drop, in [0, 1), in steps of 2^-31.
        seed: a whole number; only its lowest 32 bits count.
        step: which step of training this is, a 0-d int32 array.
        layer: which layer this is.
        first: which row of the batch is the first of y, where y is a part of the batch.

    Returns:
        The mask, of y's shape and dtype.

    Source: Srivastava et al., Dropout, 2014; the hash's constants, C. Wellons, lowbias32, 2018.
    """
    xp = namespace(y)
    start, count = first * y.shape[1], y.shape[0] * y.shape[1]
    position = xp.arange(start, start + count, dtype=xp.int32, device=device(y))
    key = _mix(xp.reshape(step, (1,)) ^ _int32(_mix_host(seed + 0x9E3779B9 * (layer + 1))))
    bits = _mix(position ^ key) & 0x7FFFFFFF
    kept = xp.astype(bits >= min(round(rate * 2**31), 2**31 - 1), y.dtype)
    return xp.reshape(kept, y.shape) * (1.0 / (1.0 - rate))


_FIRST, _SECOND = 0x7FEB352D, 0x846CA68B


def _mix(x: Array) -> Array:
    """The hash of every element of an int32 array. Overwrites nothing."""
    x = x ^ ((x >> 16) & 0xFFFF)
    x = x * _int32(_FIRST)
    x = x ^ ((x >> 15) & 0x1FFFF)
    x = x * _int32(_SECOND)
    return x ^ ((x >> 16) & 0xFFFF)


def _mix_host(x: int) -> int:
    """`_mix` of a Python integer's lowest 32 bits."""
    x &= 0xFFFFFFFF
    x = ((x ^ (x >> 16)) * _FIRST) & 0xFFFFFFFF
    x = ((x ^ (x >> 15)) * _SECOND) & 0xFFFFFFFF
    return x ^ (x >> 16)


def _int32(x: int) -> int:
    """The signed number with the same 32 bits."""
    return x - 2**32 if x >= 2**31 else x

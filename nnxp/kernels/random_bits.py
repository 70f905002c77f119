"""Random numbers from a counter-based generator, equal bit for bit on every library and device.

The standard has no random numbers. A number is a hash of (seed, step, stream, position) in the
standard's own int32 arithmetic: wrap-around multiplication, exclusive or and masked shifts. There
is no state to carry, nothing is made on the host, and a compiled loop can hold it.

Example:
    >>> import numpy as np
    >>> from nnxp.kernels import random_uniform
    >>> step = np.asarray(7, dtype=np.int32)
    >>> numbers = random_uniform((1000, 3), np.float32, seed=0, step=step, stream=0)
    >>> round(float(numbers.min()), 2), round(float(numbers.max()), 2)
    (-1.0, 1.0)
"""

from typing import Any

from nnxp.arrays import Array, device, namespace


def random_bits(count: int, seed: int, step: Array, stream: int, first: int = 0) -> Array:
    """31 random bits for each of `count` positions, (count,), int32, not negative.

    Args:
        count: how many numbers.
        seed: a whole number; only its lowest 32 bits count.
        step: which step of training this is, a 0-d int32 array; gives the device.
        stream: what the numbers are for: those of two streams are independent.
        first: the position of the first number.

    Source: the hash's constants, C. Wellons, lowbias32, 2018.
    """
    xp = namespace(step)
    position = xp.arange(first, first + count, dtype=xp.int32, device=device(step))
    key = _mix(xp.reshape(step, (1,)) ^ _int32(_mix_host(seed + 0x9E3779B9 * stream)))
    return _mix(position ^ key) & 0x7FFFFFFF


def random_uniform(
    shape: tuple[int, int], dtype: Any, seed: int, step: Array, stream: int, first_row: int = 0
) -> Array:
    """Numbers drawn evenly from [-1, 1), in steps of 2^-23, which float32 holds exactly.

    Args:
        shape: (rows, columns) of the result.
        dtype: the dtype of the result, of the step's library.
        seed, step, stream: see `random_bits`.
        first_row: which row of a batch is the first, where the result is for a part of it.
    """
    rows, columns = shape
    bits = random_bits(rows * columns, seed, step, stream, first_row * columns)
    xp = namespace(bits)
    return xp.reshape(xp.astype(bits >> 7, dtype) * 2.0**-23 - 1.0, shape)


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

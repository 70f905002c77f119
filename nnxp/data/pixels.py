"""Pixels as uint8: a quarter of float32's memory, for images that a step reads anyway."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nnxp.arrays import Array, namespace, to_numpy
from nnxp.data import checks

LARGEST = (255.0, 1.0)
"""The values by which whole numbers from 0 to 255 may have been divided."""


class Pixels(NamedTuple):
    """Images whose values are uint8 numbers over `largest`."""

    values: np.ndarray
    """(samples, features), uint8, on the host."""
    largest: float

    def numbers(self, values: Array, dtype: object) -> Array:
        """Convert rows of `values`, on any device, to the numbers that the images had."""
        return namespace(values).astype(values, dtype) / self.largest


def packed(x: Array) -> Pixels | None:
    """Return x as uint8, if that loses nothing: x = values / largest to the bit, in x's dtype.

    Args:
        x: (samples, features), real numbers, of any library.

    Returns:
        None if a value is none of 0, 1 / largest, ..., 255 / largest.
    """
    if x.dtype == namespace(x).uint8:
        return Pixels(to_numpy(x), 1.0)
    values = np.empty(x.shape, np.uint8)
    rows = max(1, checks.CHECKED_ELEMENTS // x.shape[1])
    for largest in LARGEST:
        for start in range(0, len(values), rows):
            part = to_numpy(x[start : start + rows, ...])
            whole = np.rint(part * part.dtype.type(largest))
            # Compare first: a number that is not finite or too large has no uint8.
            if not ((whole >= 0) & (whole <= 255)).all() or (whole / largest != part).any():
                break
            values[start : start + rows] = whole
        else:
            return Pixels(values, largest)
    return None

"""Host random generators, one independent stream for each purpose of a seed.

The Array API standard has no random numbers, so parameters, splits and orders are drawn on the
host and moved to the device. So the same seed gives the same values on every backend.
"""

from enum import IntEnum

import numpy as np

from nnxp import options


class Purpose(IntEnum):
    """A purpose of random numbers. The values define what a seed gives: never change one."""

    PARAMETERS = 4
    SPLIT = 5
    BATCHES = 6
    SAMPLES = 7


def generator(seed: int, purpose: Purpose, epoch: int = 0) -> np.random.Generator:
    """Return the generator for one purpose of `seed` and, for batches, one epoch.

    It does not depend on the generators of earlier epochs.

    Raises:
        InputError: the seed is not a whole number, or negative.
    """
    seed = options.whole(0)("seed", seed)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose, epoch)))

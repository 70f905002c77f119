"""Host random generators, one independent stream for each purpose of a seed.

The Array API standard has no random numbers, so parameters, splits and orders are drawn on the
host and moved: the same seed then gives the same on every backend.
"""

from enum import IntEnum

import numpy as np

from nnxp import options


class Purpose(IntEnum):
    """What is drawn. The numbers are part of what a seed means: never change one."""

    PARAMETERS = 4
    SPLIT = 5
    BATCHES = 6
    SAMPLES = 7


def generator(seed: int, purpose: Purpose, epoch: int = 0) -> np.random.Generator:
    """The generator for one purpose of `seed`, and for batches of one epoch.

    Any epoch's can be made without those before it.

    Raises:
        InputError: the seed is not a whole number, or negative.
    """
    seed = options.whole(0)("seed", seed)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose, epoch)))

"""Shuffled mini-batches, cut into chunks.

Orders are drawn on the host from (seed, epoch): the same on every backend.
"""

from collections.abc import Iterator

import numpy as np

from nnxp.randomness import Purpose, generator

STEPS_PER_CHUNK = 64
"""Steps handed to a backend at once: enough to hide what a hand-over costs, few enough to watch."""


def shuffled(samples: int, seed: int, epoch: int) -> np.ndarray:
    """The order in which `epoch` (1, 2, ...) visits the samples, (samples,), int64."""
    return generator(seed, Purpose.BATCHES, epoch).permutation(samples)


def chunks(order: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """`order` as chunks of whole mini-batches, (steps, batch_size).

    The chunks differ by at most one step in length, so that a backend that compiles for a
    length compiles twice at most. Where the samples do not divide evenly, the last and smaller
    batch is a chunk of its own.
    """
    steps = len(order) // batch_size
    if steps:
        whole = order[: steps * batch_size].reshape(steps, batch_size)
        yield from np.array_split(whole, -(-steps // STEPS_PER_CHUNK))
    if rest := len(order) - steps * batch_size:
        yield order[-rest:].reshape(1, rest)

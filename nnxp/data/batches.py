"""Orders of samples: shuffled mini-batches, chunks of them, and rows held out.

Orders are drawn on the host from (seed, epoch), so they are the same on every backend.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from nnxp.arrays import to_numpy
from nnxp.errors import InputError
from nnxp.randomness import Purpose, generator

STEPS_PER_CHUNK = 64
"""Most steps per call of a backend: enough to hide the call's cost, few enough to watch progress.
"""
STEPS_PER_LONG_CHUNK = 2**11
"""Most steps of a long chunk. The smallest take 25 to 50 us each on two cores."""
MACS_PER_LONG_CHUNK = {"cpu": 2**31, "cuda": 2**38}
"""Multiply-adds of the forward passes of a long chunk. Two cores take 30 to 150 ms for them and the
backward passes; that a GPU is a hundred times as fast was not measured."""


class Blocks(NamedTuple):
    """Blocks of rows that are read as a whole, and how many rows are shuffled together."""

    bounds: np.ndarray
    """The first row of each block, and the number of all rows; (blocks + 1,), int64."""
    buffer: int
    """The number of rows among which an epoch shuffles at a time."""


def shuffled(samples: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order in which `epoch` (1, 2, ...) visits the samples, (samples,), int64."""
    return generator(seed, Purpose.BATCHES, epoch).permutation(samples)


def shuffled_blocks(blocks: Blocks, seed: int, epoch: int) -> np.ndarray:
    """Return an order for rows that are read by blocks, (samples,), int64.

    The blocks come in random order. They fill a buffer of about `blocks.buffer` rows, which are
    taken in random order; then the next blocks fill it. The buffers differ by less than a block.
    """
    bounds, buffer = blocks
    samples = int(bounds[-1])
    rng = generator(seed, Purpose.BATCHES, epoch)
    chosen = rng.permutation(len(bounds) - 1)
    sizes = (bounds[1:] - bounds[:-1])[chosen]
    ends = np.cumsum(sizes)
    # Within a block its rows count on, and from one to the next they jump.
    order = np.arange(samples) + np.repeat(bounds[chosen] - (ends - sizes), sizes)
    # Buffers of equal size: a small last one would have few blocks, and poorly mixed batches.
    buffers = max(1, -(-samples // buffer))
    number = (2 * ends - sizes) * buffers // (2 * max(samples, 1))
    cuts = ends[np.flatnonzero(np.diff(number))]
    for part in np.split(order, cuts):
        rng.shuffle(part)  # in place: a view
    return order


def long_chunk(multiply_adds: int, device: str) -> int:
    """Return the most steps of a chunk of 20 to 100 ms, where a call costs as much as many steps.

    This is an estimate and no measurement, so that equal trainings have chunks of equal lengths:
    their losses have the same rounding, and nothing is compiled again.

    Args:
        multiply_adds: multiply-adds of a step's forward pass.
        device: the device's name.
    """
    most = MACS_PER_LONG_CHUNK[device.partition(":")[0]] // multiply_adds
    return min(max(1, most), STEPS_PER_LONG_CHUNK)


def ordered(
    shuffle: bool | str | Callable[[int, int], Any],
    samples: int,
    seed: int,
    epoch: int,
    blocks: Blocks | None = None,
) -> np.ndarray:
    """Return the rows that `epoch` visits, in order, (samples,), int64; see `nnxp.train`.

    Rows that are read by `blocks` are shuffled by blocks.

    Raises:
        InputError: `shuffle` is a function, and returns something else.
    """
    if not callable(shuffle):
        if not shuffle:
            return np.arange(samples)
        if blocks is not None:
            return shuffled_blocks(blocks, seed, epoch)
        return shuffled(samples, seed, epoch)
    order = to_numpy(shuffle(samples, epoch))
    if order.shape != (samples,) or order.dtype.kind not in "iu":
        raise InputError(
            f"shuffle({samples}, {epoch}) must return {samples} whole numbers, "
            f"not {order.dtype} of shape {order.shape}"
        )
    if not 0 <= (low := int(order.min())) <= (high := int(order.max())) < samples:
        raise InputError(
            f"shuffle({samples}, {epoch}) must return rows from 0 to {samples - 1}, "
            f"not {low if low < 0 else high}"
        )
    return order.astype(np.int64, copy=False)


def chunks(
    order: np.ndarray, batch_size: int, most: int = STEPS_PER_CHUNK, done: int = 0
) -> Iterator[np.ndarray]:
    """Cut `order` into chunks of full mini-batches, (steps, batch_size), of at most `most` steps.

    The chunks differ by at most one step in length, so a backend that compiles for a length
    compiles at most twice. If the samples do not divide evenly, the last, smaller batch is a chunk
    of its own. The first `done` steps are left out.
    """
    for chunk in _all_chunks(order, batch_size, most):
        if done < len(chunk):
            yield chunk[done:]
        done = max(0, done - len(chunk))


def _all_chunks(order: np.ndarray, batch_size: int, most: int) -> Iterator[np.ndarray]:
    steps = len(order) // batch_size
    if steps:
        full = order[: steps * batch_size].reshape(steps, batch_size)
        yield from np.array_split(full, -(-steps // most)) if steps > most else [full]
    if rest := len(order) - steps * batch_size:
        yield order[-rest:].reshape(1, rest)


def split(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose rows to keep and rows to hold out; return both in ascending order.

    The choice is stratified: each label has the same share of its rows held out, but keeps at
    least one row, unless the share is 1.

    Args:
        labels: (samples,); all equal for a choice without strata.
        share: the part of the rows to hold out, from 0 to 1.
        seed: the seed of the choice.
    """
    rows = generator(seed, Purpose.SPLIT).permutation(len(labels))
    by_label = rows[np.argsort(labels[rows], kind="stable")]
    if share < 1:
        sorted_labels = labels[by_label]
        by_label = by_label[1:][sorted_labels[1:] == sorted_labels[:-1]]  # without each first
    count = min(round(share * len(rows)), len(by_label))
    # Rows evenly spaced in an order sorted by label are in proportion to each label's rows.
    places = (np.arange(count) + 0.5) * (len(by_label) / max(count, 1))
    held_out = np.zeros(len(rows), dtype=bool)
    held_out[by_label[places.astype(np.int64)]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def strata(targets: np.ndarray) -> np.ndarray:
    """Return a label for each row, for `split` to stratify by.

    Args:
        targets: classes, (samples,), or (samples, outputs); real values all get one label.
    """
    if targets.ndim == 1:
        return targets
    if np.isin(targets, (0, 1)).all():
        return labels_of(targets)
    return np.zeros(len(targets))


def labels_of(t: np.ndarray) -> np.ndarray:
    """Return a label for each row of zeros and ones: its rank in lexicographic order.

    Args:
        t: (samples, outputs), each element 0 or 1.

    Returns:
        (samples,), int64; equal rows have equal labels.
    """
    words = np.packbits(t.astype(bool), axis=1)
    words = np.pad(words, ((0, 0), (0, -words.shape[1] % 4))).view(">u4")
    labels: np.ndarray = np.zeros(len(t), dtype=np.int64)
    # Sorting numbers is a hundred times faster than sorting rows.
    for word in words.T:
        labels = np.unique(labels << 32 | word, return_inverse=True)[1]
    return labels

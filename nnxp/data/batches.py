"""Which samples go where: shuffled mini-batches, cut into chunks, and rows held out.

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


def chunks(order: np.ndarray, batch_size: int, most: int = STEPS_PER_CHUNK) -> Iterator[np.ndarray]:
    """`order` as chunks of whole mini-batches, (steps, batch_size), of so many steps at most.

    The chunks differ by at most one step in length, so that a backend that compiles for a
    length compiles twice at most. Where the samples do not divide evenly, the last and smaller
    batch is a chunk of its own.
    """
    steps = len(order) // batch_size
    if steps:
        whole = order[: steps * batch_size].reshape(steps, batch_size)
        yield from np.array_split(whole, -(-steps // most))
    if rest := len(order) - steps * batch_size:
        yield order[-rest:].reshape(1, rest)


def split(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to keep and rows to hold out, each in ascending order.

    Stratified: of the rows that are held out, each label gives its share, but never its last
    row, unless all are held out.

    Args:
        labels: (samples,); all equal where there is nothing to stratify by.
        share: of the rows, how many are held out, from 0 to 1.
        seed: of the choice.
    """
    rows = generator(seed, Purpose.SPLIT).permutation(len(labels))
    by_label = rows[np.argsort(labels[rows], kind="stable")]
    if share < 1:
        sorted_labels = labels[by_label]
        by_label = by_label[1:][sorted_labels[1:] == sorted_labels[:-1]]  # without each first
    count = min(round(share * len(rows)), len(by_label))
    # Evenly spaced over rows that are sorted by label, so in proportion to each label's.
    places = (np.arange(count) + 0.5) * (len(by_label) / max(count, 1))
    held = np.zeros(len(rows), dtype=bool)
    held[by_label[places.astype(np.int64)]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def strata(targets: np.ndarray) -> np.ndarray:
    """A label for each row, by which `split` takes from each its share.

    Args:
        targets: classes, (samples,), or (samples, outputs); real values are of one label.
    """
    if targets.ndim == 1:
        return targets
    if np.isin(targets, (0, 1)).all():
        return labels_of(targets)
    return np.zeros(len(targets))


def labels_of(t: np.ndarray) -> np.ndarray:
    """A label for each row of zeros and ones: the rank of the row in lexicographic order.

    Args:
        t: (samples, outputs), each element 0 or 1.

    Returns:
        (samples,), int64; equal rows have equal labels.
    """
    words = np.packbits(t.astype(bool), axis=1)
    words = np.pad(words, ((0, 0), (0, -words.shape[1] % 4))).view(">u4")
    labels: np.ndarray = np.zeros(len(t), dtype=np.int64)
    # To sort numbers is a hundred times faster than to sort rows.
    for word in words.T:
        labels = np.unique(labels << 32 | word, return_inverse=True)[1]
    return labels

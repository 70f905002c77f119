"""Data as it was read: before classes are numbered, rows split and features preprocessed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnxp.errors import InputError
from nnxp.randomness import Purpose, generator


@dataclass(frozen=True, eq=False)
class Raw:
    """What a reader returns. Targets are classes, numbers or text; None where there are none."""

    name: str
    x: np.ndarray
    y: np.ndarray | None
    shape: tuple[int, ...]
    x_test: np.ndarray | None = None
    y_test: np.ndarray | None = None
    classes: tuple[str, ...] | None = None
    """Names of classes 0, 1, ...; None where the targets themselves must tell."""
    largest_pixel: float | None = None
    """The value of full ink, where the features are pixels."""
    from_file: bool = False
    """Whether this is a user's table, whose columns may be of any scale."""
    features: tuple[str, ...] | None = None
    target: str | None = None


def split(
    y: np.ndarray | None, test_share: float, seed: int, *, stratified: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers for training and for testing, each in ascending order.

    Stratified: the same share of every class, of which at least one row is trained on.
    """
    if not 0 <= test_share <= 1:
        raise InputError(f"the test share must be from 0 to 1, not {test_share:g}")
    rows = generator(seed, Purpose.SPLIT).permutation(len(y))
    groups = [rows[y[rows] == label] for label in np.unique(y)] if stratified else [rows]
    counts = [round(test_share * len(group)) for group in groups]
    if test_share < 1:
        counts = [min(count, len(group) - 1) for count, group in zip(counts, groups, strict=True)]
    test = np.concatenate([group[:count] for group, count in zip(groups, counts, strict=True)])
    return np.setdiff1d(rows, test), np.sort(test)

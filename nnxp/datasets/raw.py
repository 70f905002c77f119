"""Data as it was read: before classes are numbered, rows split and features preprocessed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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
    header: tuple[str, ...] | None = None
    """The first line of a csv, which names its columns."""

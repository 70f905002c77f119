"""Raw data, before classes are numbered, rows are split and features are preprocessed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnxp.data.sources import Source


@dataclass(eq=False)
class Arrays:
    """Features that are read by rows, and targets."""

    x: Source
    y: np.ndarray | None = None
    x_test: Source | None = None
    y_test: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Raw:
    """The result of a reader. Targets are classes, numbers or text; None if there are none."""

    name: str
    x: np.ndarray | Source
    y: np.ndarray | None
    shape: tuple[int, ...]
    x_test: np.ndarray | Source | None = None
    y_test: np.ndarray | None = None
    classes: tuple[str, ...] | None = None
    """The names of classes 0, 1, ...; None if they must be found from the targets."""
    largest_pixel: float | None = None
    """The value of full ink, if the features are pixels."""
    from_file: bool = False
    """Whether this is a user's table, whose columns may have any scale."""
    features: tuple[str, ...] | None = None
    target: str | None = None
    header: tuple[str, ...] | None = None
    """The first line of a csv, which names its columns."""
    categories: tuple[tuple[str, ...] | None, ...] | None = None
    """The categories of each column of text, whose numbers `x` has; None if no column is text."""
    y_text: np.ndarray | None = None
    """The targets as a text file has them, if `y` has them as numbers: "01" may be a class."""
    delimiter: str | None = None
    decimal: str | None = None
    """How a csv was written."""
    source: Source | None = None
    """The features on disk, of data that is read by rows, also where `x` was loaded."""


def are_targets(y: np.ndarray) -> bool:
    """Return whether an array is of classes or text, (samples,), or numbers, (samples, outputs)."""
    axes = (1,) if y.dtype.kind == "U" else (1, 2)
    return y.dtype.kind in "buifU" and y.ndim in axes and y.size > 0

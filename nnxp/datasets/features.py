"""Features that are text or missing: one-hot rows and filled values, stored with the model.

Until here a column of text holds the numbers of its categories, and NaN is a missing value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnxp import options
from nnxp.errors import DataError

STRATEGIES = ("mean", "median", "most_frequent")
"""What `fit` computes from the training part to fill missing values with; or a number."""


@dataclass(frozen=True)
class Encoding:
    """What is done to columns before the preprocessing; each attribute has an entry a column."""

    categories: tuple[tuple[str, ...] | None, ...]
    """The categories, of which each becomes a feature; None for a column of numbers."""
    fill: tuple[float | str | None, ...]
    """What stands for a missing value: a number or a category; None if none may be missing."""

    @property
    def features(self) -> int:
        """The number of features that `apply` returns."""
        return sum(1 if each is None else len(each) for each in self.categories)

    @property
    def one_hot(self) -> np.ndarray:
        """Whether each feature says that a sample is of a category; (features,)."""
        widths = [1 if each is None else len(each) for each in self.categories]
        return np.repeat([each is not None for each in self.categories], widths)

    def names(self, columns: Sequence[str]) -> list[str]:
        """Name the features after columns and categories: "city=Oslo"."""
        return [
            name if each is None else f"{name}={category}"
            for name, each in zip(columns, self.categories, strict=True)
            for category in each or [""]
        ]

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Fill and encode (samples, columns); return (samples, features), float64."""
        pairs = list(zip(self.categories, self.fill, strict=True))
        fill = [
            np.nan if value is None else value if texts is None else texts.index(str(value))
            for texts, value in pairs
        ]
        x = np.where(np.isnan(x), fill, x)
        if not any(self.categories):
            return x
        encoded, place = np.zeros((len(x), self.features)), 0
        for column, texts in zip(x.T, self.categories, strict=True):
            if texts is None:
                encoded[:, place] = column
            else:
                encoded[np.arange(len(x)), place + column.astype(np.intp)] = 1.0
            place += len(texts or [""])
        return encoded


def fit(
    x: np.ndarray,
    categories: Sequence[tuple[str, ...] | None],
    impute: str | float | None,
    names: Sequence[str],
    source: str,
) -> Encoding:
    """Find what missing values are filled with, by the training part.

    Args:
        x: the training part, (samples, columns), NaN where a value is missing.
        categories: the categories of each column; None for numbers.
        impute: one of `STRATEGIES`, a number, or None if none may be missing. Text is filled with
            the most frequent one whatever this is.
        names: the names of the columns, for errors.
        source: the name of the data, for errors.

    Raises:
        DataError: a column has no values to fill it with.
    """
    fill: list[float | str | None] = [None] * len(names)
    for i, name in enumerate(names if impute is not None else ()):
        known, texts = x[:, i][~np.isnan(x[:, i])], categories[i]
        if texts is None and isinstance(impute, (int, float)):
            fill[i] = float(impute)
            continue
        if not len(known):
            raise DataError(
                f"{source}: {name!r} has no value in the rows to train on, so it cannot be filled "
                "in: leave the column out (drop, --drop)"
            )
        if texts is not None:
            fill[i] = texts[int(_most_frequent(known))]
        elif impute == "mean":
            fill[i] = _mean(known)
        else:
            fill[i] = _median(known) if impute == "median" else _most_frequent(known)
    return Encoding(tuple(categories), tuple(fill))


def _most_frequent(values: np.ndarray) -> float:
    """Return the most frequent value, the smallest of several."""
    distinct, counts = np.unique(values, return_counts=True)
    return float(distinct[np.argmax(counts)])


def _mean(values: np.ndarray) -> float:
    with np.errstate(over="ignore"):
        mean = float(values.mean())
    return mean if math.isfinite(mean) else float((values / len(values)).sum())


def _median(values: np.ndarray) -> float:
    with np.errstate(over="ignore"):
        median = float(np.median(values))
    return median if math.isfinite(median) else 2 * float(np.median(values / 2))


def described_fill(value: float | str | None) -> str:
    """Describe what a missing value is filled with: "28.5", "'Oslo'"."""
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


_CATEGORIES = options.several(options.TEXT, least=1)


def is_encoding(value: Any) -> bool:
    """Return whether `value` is an `Encoding` as `dataclasses.asdict` writes it."""
    if not isinstance(value, dict) or set(value) != {"categories", "fill"}:
        return False
    categories, fill = value["categories"], value["fill"]
    return (
        isinstance(categories, (list, tuple))
        and isinstance(fill, (list, tuple))
        and len(categories) == len(fill)
        and all(map(_fits, categories, fill))
    )


def _fits(categories: Any, fill: Any) -> bool:
    """Return whether a column's categories and its filling are those of one column."""
    if categories is None:
        return fill is None or options.FINITE.accepts(fill)
    return (
        _CATEGORIES.accepts(categories)
        and len(set(categories)) == len(categories)
        and "" not in categories
        and (fill is None or fill in categories)
    )


def from_metadata(value: dict[str, Any] | None) -> Encoding | None:
    """Return the encoding that `is_encoding` has checked; None for None."""
    if value is None:
        return None
    categories = (None if each is None else tuple(each) for each in value["categories"])
    return Encoding(tuple(categories), tuple(value["fill"]))

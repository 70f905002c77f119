"""Preprocessing of features; it is stored with the model and applied again to new data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnxp.arrays import Array, namespace
from nnxp.linalg import whitening

KINDS = ("none", "pixels", "standardize", "pca", "zca")

PIXEL_VARIANCE = 0.01
"""The value that whitening adds to the variances of pixels in [0, 1]. Most directions of an image
have little variance, and without it whitening would amplify these most."""

BLOCK_ELEMENTS = 2**16
"""Elements that are standardised at once, in float64, which the processor's cache holds."""

PART_BLOCKS = 64
"""Such blocks that are read from disk at once."""

ROUNDING = 4
"""A deviation up to this many times eps max |column| is rounding error."""


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """((x - shift) / scale) @ matrix, on the host in float64, or without the matrix if it is None.

    `kind` is the method:
        "none": the features stay unchanged
        "pixels": scaled to [0, 1]
        "standardize": scaled to mean 0 and deviation 1 on the training set
        "pca", "zca": standardised, or pixels scaled to [0, 1], then whitened on the training set;
            see `nnxp.linalg.whitening`
    """

    kind: str = "none"
    shift: float | list[float] = 0.0
    scale: float | list[float] = 1.0
    matrix: np.ndarray | None = None
    """(features, k), float64; k may be less than the features for "pca"."""

    @property
    def features(self) -> int | None:
        """The number of columns that `apply` takes; None if it takes any number."""
        return len(self.shift) if isinstance(self.shift, (list, tuple)) else None

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Preprocess features; return (samples, features) or, for "pca", (samples, k), float32."""
        if self.divides_in_float32:  # to save memory: there may be many images
            with np.errstate(over="ignore"):
                return np.asarray(x, dtype=np.float32) / np.float32(np.asarray(self.scale))
        with np.errstate(over="ignore"):  # `nnxp.data.checks` refuses infinity
            if self.matrix is not None:
                return np.asarray(self.standardized(x) @ self.matrix, dtype=np.float32)
            prepared = np.empty(x.shape, dtype=np.float32)
            rows = max(1, BLOCK_ELEMENTS // max(x.shape[1], 1))
            for start in range(0, len(x), rows):
                prepared[start : start + rows] = self.standardized(x[start : start + rows])
            return prepared

    def formula(self, x: Array) -> Array:
        """Compute what `apply` does, on arrays of any library with float64, as `nnxp.onnx` does.

        `x` is float32 if it `divides_in_float32`, else float64.
        """
        xp = namespace(x)
        if self.divides_in_float32:
            return x / xp.asarray(self.scale, dtype=xp.float32)
        x = self.standardized(x)
        if self.matrix is not None:
            x = x @ xp.asarray(self.matrix)
        return xp.astype(x, xp.float32, copy=False)

    @property
    def divides_in_float32(self) -> bool:
        """Whether `apply` only divides, in float32; all else is computed in float64."""
        return self.kind in ("none", "pixels")

    def standardized(self, x: Array) -> Array:
        """Return (x - shift) / scale in float64."""
        xp = namespace(x)
        with np.errstate(over="ignore"):  # as in `apply`
            shift, scale = (xp.asarray(each, dtype=xp.float64) for each in (self.shift, self.scale))
            return (x - shift) / scale

    def invert(self, x: np.ndarray) -> np.ndarray:
        """Invert `apply`. Directions that whitening dropped get their mean."""
        x = np.asarray(x, dtype=np.float64)
        if self.matrix is not None:
            x = x @ np.linalg.pinv(self.matrix)
        return x * np.asarray(self.scale) + np.asarray(self.shift)


def pixels(largest: float) -> Preprocessing:
    """Scale 0 .. `largest` to [0, 1]."""
    return Preprocessing("pixels", 0.0, float(largest))


def standardize(x: Any, constant: float = 1.0) -> Preprocessing:
    """Scale each column of `x`, (samples, features), finite, to mean 0 and deviation 1.

    `x` is an array, or a `nnxp.data.sources.Source`, of which one pass is made.

    A column that is constant except for rounding is divided by `constant`; see `moments`.
    """
    mean, deviation = moments(x)
    scale = np.where(deviation > 0, deviation, constant)
    return Preprocessing("standardize", mean.tolist(), scale.tolist())


def whiten(x: np.ndarray, method: str, largest_pixel: float | None = None) -> Preprocessing:
    """Transform features to uncorrelated ones of variance 1, by "pca" or "zca".

    A column that is constant except for rounding is left out: the result does not depend on its
    values in later data. (ZCA makes it zero.)

    Args:
        x: (samples, features), finite, two samples or more.
        method: "pca" or "zca".
        largest_pixel: the value of full ink, if the features are pixels. The variances are then
            those of pixels in [0, 1], and `PIXEL_VARIANCE` is added to each.

    Raises:
        InputError: there is only one sample.
    """
    mean, deviation = moments(x)
    if largest_pixel:
        scale, epsilon = np.full_like(mean, largest_pixel), PIXEL_VARIANCE
    else:
        scale, epsilon = np.where(deviation > 0, deviation, 1.0), 0.0
    # The rounding error in a constant column would become a direction like any other.
    centred = np.where(deviation > 0, (x - mean) / scale, 0.0)
    _, matrix = whitening(centred, method, epsilon)
    return Preprocessing(method, mean.tolist(), scale.tolist(), matrix)


def moments(x: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the deviation (divided by samples, not samples - 1) of each column.

    One pass over blocks of rows, whose means and squares are put together as Chan, Golub and
    LeVeque do. They are computed from x / 2^e, which is in [-1, 1], so that no square overflows or
    underflows, and from the differences from the first row, which are small if the column varies
    little.

    A deviation up to `ROUNDING` eps max |x| counts as 0, with float32's eps for float32 and
    float64's otherwise: computed constants, such as 0.1 + 0.2 and 0.3, differ by about that much.

    Args:
        x: (samples, ...), real, finite, one sample or more; an array, or a
            `nnxp.data.sources.Source`.

    Returns:
        Two arrays of a row's shape, float64.

    Source: Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample
    variances, 1979.
    """
    eps = float(np.finfo(np.float32 if x.dtype == np.float32 else np.float64).eps)
    rows = max(1, BLOCK_ELEMENTS // max(math.prod(x.shape[1:]), 1))
    total = None
    for place, part in _parts(x, PART_BLOCKS * rows):
        if hasattr(x, "check"):
            x.check(part, place.start)
        for start in range(0, len(part), rows):
            block = part[start : start + rows]
            total = total or Moments(block[0])
            total.add(block)
    assert total is not None
    if hasattr(x, "check"):
        x.finite = True
    return total.mean_and_deviation(eps)


def _parts(x: Any, count: int) -> Iterator[tuple[slice, np.ndarray]]:
    if hasattr(x, "scan"):  # on disk
        yield from x.scan(count=count)
    else:
        yield slice(0, len(x)), x


class Moments:
    """The means and the deviations of columns whose rows are added block by block; see `moments`.

    All is kept in units of 2^exponent, and as differences from the first row.

    Args:
        first: the first row.
    """

    def __init__(self, first: np.ndarray) -> None:
        self.first = first.astype(np.float64)
        self.samples = 0
        self.size = np.zeros(self.first.shape)
        self.exponent = np.full(self.first.shape, -1000)  # 2^1000 is finite, 2^1074 is not
        self.mean, self.squares = np.zeros(self.first.shape), np.zeros(self.first.shape)

    def add(self, rows: np.ndarray) -> None:
        """Add rows, (samples, ...)."""
        largest, smallest = (each(axis=0).astype(np.float64) for each in (rows.max, rows.min))
        self.size = np.maximum(self.size, np.maximum(largest, -smallest))
        self._rescale(np.maximum(np.frexp(self.size)[1], self.exponent))
        x = np.multiply(rows, np.ldexp(1.0, -self.exponent), dtype=np.float64)
        x -= np.ldexp(self.first, -self.exponent)
        mean = x.mean(axis=0)
        x -= mean
        added, difference = len(x), mean - self.mean
        samples = self.samples + added
        self.squares += np.einsum("i...,i...->...", x, x) + difference**2 * (
            self.samples * added / samples
        )
        self.mean += difference * (added / samples)
        self.samples = samples

    def _rescale(self, exponent: np.ndarray) -> None:
        change = self.exponent - exponent
        if change.any():
            self.mean = np.ldexp(self.mean, change)
            self.squares = np.ldexp(self.squares, 2 * change)
            self.exponent = exponent

    def mean_and_deviation(self, eps: float) -> tuple[np.ndarray, np.ndarray]:
        """Return both in the unit of the rows; `eps` is that of their dtype."""
        exponent = self.exponent
        mean = np.ldexp(self.first, -exponent) + self.mean
        deviation = np.sqrt(self.squares / self.samples)
        constant = deviation <= ROUNDING * eps * np.ldexp(self.size, -exponent)
        return np.ldexp(mean, exponent), np.ldexp(np.where(constant, 0.0, deviation), exponent)

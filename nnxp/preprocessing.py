"""What is done to features before a network sees them, kept with the model and done again later."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnxp.linalg import whitening

KINDS = ("none", "pixels", "standardize", "pca", "zca")

PIXEL_VARIANCE = 0.01
"""What whitening adds to the variances of pixels in [0, 1]: most directions of an image hardly
vary, and without it those would be blown up most."""

ROUNDING = 4
"""Times eps and the largest magnitude of a column: a deviation up to this is rounding alone."""


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """((x - shift) / scale) @ matrix, on the host in float64; without a matrix, column by column.

    `kind` says where the numbers come from:
        "none": nowhere; the features stay as they are
        "pixels": to [0, 1]
        "standardize": to mean 0 and deviation 1 on the training set
        "pca", "zca": standardised, or pixels in [0, 1], then whitened on the training set; see
            `nnxp.linalg.whitening`
    """

    kind: str = "none"
    shift: float | list[float] = 0.0
    scale: float | list[float] = 1.0
    matrix: np.ndarray | None = None
    """(features, k), float64; k may be less than the features for "pca"."""

    @property
    def features(self) -> int | None:
        """How many columns `apply` takes; None where it takes any."""
        return len(self.shift) if isinstance(self.shift, (list, tuple)) else None

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Preprocessed features, float32, (samples, features) or, after "pca", (samples, k)."""
        if self.kind in ("none", "pixels"):
            # Divided in float32, for the images may be many.
            with np.errstate(over="ignore"):
                return np.asarray(x, dtype=np.float32) / np.float32(np.asarray(self.scale))
        x = self.standardized(x)
        if self.matrix is not None:
            x = x @ self.matrix
        with np.errstate(over="ignore"):  # what float32 cannot hold is found where it enters
            return np.asarray(x, dtype=np.float32)

    def standardized(self, x: np.ndarray) -> np.ndarray:
        """(x - shift) / scale in float64."""
        with np.errstate(over="ignore"):  # likewise
            return (x - np.asarray(self.shift)) / np.asarray(self.scale)

    def invert(self, x: np.ndarray) -> np.ndarray:
        """The values that `apply` made `x` of; directions that whitening dropped at their mean."""
        x = np.asarray(x, dtype=np.float64)
        if self.matrix is not None:
            x = x @ np.linalg.pinv(self.matrix)
        return x * np.asarray(self.scale) + np.asarray(self.shift)


def pixels(largest: float) -> Preprocessing:
    """From 0 .. `largest` to [0, 1]."""
    return Preprocessing("pixels", 0.0, float(largest))


def standardize(x: np.ndarray, constant: float = 1.0) -> Preprocessing:
    """To mean 0 and deviation 1 per column of `x`, (samples, features), finite.

    A column that never varies, but for rounding, is divided by `constant`; see `moments`.
    """
    mean, deviation = moments(x)
    scale = np.where(deviation > 0, deviation, constant)
    return Preprocessing("standardize", mean.tolist(), scale.tolist())


def whiten(x: np.ndarray, method: str, largest_pixel: float | None = None) -> Preprocessing:
    """To uncorrelated features, each of variance 1, by "pca" or "zca".

    A column that never varies, but for rounding, is left out: whatever it holds later, the result
    does not depend on it. (ZCA gives it zeros.)

    Args:
        x: (samples, features), finite, two samples or more.
        method: "pca" or "zca".
        largest_pixel: where the features are pixels, the value of full ink. Variances are then
            taken of pixels in [0, 1], and `PIXEL_VARIANCE` added to each.

    Raises:
        InputError: there is only one sample.
    """
    mean, deviation = moments(x)
    if largest_pixel:
        scale, epsilon = np.full_like(mean, largest_pixel), PIXEL_VARIANCE
    else:
        scale, epsilon = np.where(deviation > 0, deviation, 1.0), 0.0
    # What rounding left in a constant column would be a direction like any other.
    centred = np.where(deviation > 0, (x - mean) / scale, 0.0)
    _, matrix = whitening(centred, method, epsilon)
    return Preprocessing(method, mean.tolist(), scale.tolist(), matrix)


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation (over all samples, not one less) of each column.

    Computed of x / 2^e, which is in [-1, 1], so that no square overflows or underflows, and of
    the differences from the first row, which are small wherever the column varies little.

    A deviation of no more than `ROUNDING` eps max |x| is 0, eps being float32's for float32 and
    else float64's: computed constants, such as 0.1 + 0.2 and 0.3, differ by about that much.

    Args:
        x: (samples, ...), real, finite, one sample or more.

    Returns:
        Two arrays of a row's shape, float64.
    """
    eps = float(np.finfo(np.float32 if x.dtype == np.float32 else np.float64).eps)
    x = np.array(x, dtype=np.float64)  # a copy, changed in place: x may be large
    size = np.maximum(x.max(axis=0), -x.min(axis=0))
    exponent = np.maximum(np.frexp(size)[1], -1000)  # 2^1000 is finite, 2^1074 is not
    x *= np.ldexp(1.0, -exponent)
    first = x[0].copy()
    x -= first
    mean, deviation = first + x.mean(axis=0), x.std(axis=0)
    constant = deviation <= ROUNDING * eps * np.ldexp(size, -exponent)
    return np.ldexp(mean, exponent), np.ldexp(np.where(constant, 0.0, deviation), exponent)

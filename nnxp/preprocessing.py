"""What is done to features before a network sees them, kept with the model and done again later."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KINDS = ("none", "pixels", "standardize")


@dataclass(frozen=True)
class Preprocessing:
    """Column by column, (x - shift) / scale; for pixels the shift is 0, for "none" the scale 1.

    `kind` says where the numbers come from: "none", "pixels" (to [0, 1]) or "standardize"
    (to mean 0 and deviation 1 on the training set).
    """

    kind: str = "none"
    shift: float | list[float] = 0.0
    scale: float | list[float] = 1.0

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Preprocessed features, float32, (samples, features)."""
        if self.kind == "standardize":
            x = self.standardized(x)
        with np.errstate(over="ignore"):  # what float32 cannot hold is found where it enters
            scaled = np.asarray(x, dtype=np.float32)
        # Pixels are divided in float32, for the images may be many.
        return scaled / np.float32(np.asarray(self.scale)) if self.kind == "pixels" else scaled

    def standardized(self, x: np.ndarray) -> np.ndarray:
        """(x - shift) / scale in x's own precision."""
        return (x - np.asarray(self.shift)) / np.asarray(self.scale)

    def invert(self, x: np.ndarray) -> np.ndarray:
        """The values that `apply` made `x` of."""
        return np.asarray(x, dtype=np.float64) * np.asarray(self.scale) + np.asarray(self.shift)


def pixels(largest: float) -> Preprocessing:
    """From 0 .. `largest` to [0, 1]."""
    return Preprocessing("pixels", 0.0, float(largest))


def standardize(x: np.ndarray) -> Preprocessing:
    """To mean 0 and deviation 1 per column of `x`; a column that never varies is only shifted."""
    x = np.asarray(x, dtype=np.float64)
    deviation = x.std(axis=0)
    return Preprocessing(
        "standardize", x.mean(axis=0).tolist(), np.where(deviation > 0, deviation, 1.0).tolist()
    )

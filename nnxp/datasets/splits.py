"""Which rows of data in one piece are kept for testing, remembered with the model.

The share, the seed and a hash of the content are enough to find those rows again in the same
content, whatever its file is called by then.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnxp import options
from nnxp.data import batches
from nnxp.datasets.raw import Raw

_BLOCK_ELEMENTS = 2**20
_SHARE, _SEED = options.number(0.0, 1.0, closed="both"), options.whole(0)


@dataclass(frozen=True)
class Split:
    """Which rows are kept for testing: `nnxp.data.batches.split` by class, of this content."""

    share: float
    """Of the rows, from 0 to 1."""
    seed: int
    content: str
    """`content_hash` of the data."""

    def rows(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows to train on and rows to test on, each in ascending order.

        Args:
            labels: (samples,), the class of each row; all equal where there are no classes.
        """
        return batches.split(labels, self.share, self.seed)

    def unseen(self, labels: np.ndarray, share: float) -> np.ndarray:
        """Rows to test on, chosen by class, that come to `share` of all rows; at most all of them.

        Args:
            labels: as for `rows`.
            share: from 0 to 1.
        """
        rows = self.rows(labels)[1]
        part = min(1.0, share * len(labels) / max(len(rows), 1))
        chosen: np.ndarray = rows[batches.split(labels[rows], part, self.seed)[1]]
        return chosen


def is_split(value: Any) -> bool:
    """Whether a model's metadata holds a `Split` as `dataclasses.asdict` writes it."""
    return (
        isinstance(value, dict)
        and set(value) == {"share", "seed", "content"}
        and _SHARE.accepts(value["share"])
        and _SEED.accepts(value["seed"])
        and isinstance(value["content"], str)
        and re.fullmatch("[0-9a-f]{64}", value["content"]) is not None
    )


def content_hash(raw: Raw) -> str:
    """SHA-256 of features and targets, in hexadecimal; equal for equal values in another file."""
    assert raw.y is not None
    digest = hashlib.sha256(repr((raw.x.shape, raw.y.shape)).encode())
    for array in (raw.x, raw.y):
        if array.dtype.kind == "U":
            digest.update("\0".join(array.tolist()).encode())
            continue
        rows = max(1, _BLOCK_ELEMENTS * len(array) // max(array.size, 1))
        for start in range(0, len(array), rows):
            digest.update(np.ascontiguousarray(array[start : start + rows], dtype="<f8").data)
    return digest.hexdigest()

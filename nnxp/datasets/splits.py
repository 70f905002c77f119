"""The split of data without a test part into rows to train on and to test on, saved with a model.

The share, the seed and a hash of the content are enough to find the rows again in the same content,
even if the file has another name.
"""

from __future__ import annotations

import hashlib
import json
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
    """The choice of test rows by `nnxp.data.batches.split`, by class, for one content."""

    share: float
    """The share of test rows, from 0 to 1."""
    seed: int
    content: str
    """The first of `content_hashes` of the data."""

    def rows(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows to train on and the rows to test on, both in ascending order.

        Args:
            labels: (samples,), the class of each row; all equal where there are no classes.
        """
        return batches.split(labels, self.share, self.seed)

    def unseen(self, labels: np.ndarray, share: float) -> np.ndarray:
        """Choose test rows, stratified by class, up to `share` of all rows.

        Args:
            labels: as for `rows`.
            share: from 0 to 1.
        """
        rows = self.rows(labels)[1]
        part = min(1.0, share * len(labels) / max(len(rows), 1))
        chosen: np.ndarray = rows[batches.split(labels[rows], part, self.seed)[1]]
        return chosen


def is_split(value: Any) -> bool:
    """Return whether `value` is a `Split` as `dataclasses.asdict` writes it."""
    return (
        isinstance(value, dict)
        and set(value) == {"share", "seed", "content"}
        and _SHARE.accepts(value["share"])
        and _SEED.accepts(value["seed"])
        and isinstance(value["content"], str)
        and re.fullmatch("[0-9a-f]{64}", value["content"]) is not None
    )


def content_hashes(raw: Raw) -> list[str]:
    """Return the SHA-256 of features and targets, in hexadecimal; equal for equal values.

    Of features that are read by rows, it is that of a part: see `Source.fingerprint`.

    A second hash is of the targets as they are written, as models of earlier versions have it.
    """
    assert raw.y is not None
    digest = hashlib.sha256(repr((raw.x.shape, raw.y.shape)).encode())
    if raw.categories is not None:  # a column has their numbers alone
        digest.update(json.dumps(raw.categories).encode())
    if raw.source is not None:
        digest.update(raw.source.fingerprint("float64").encode())
    else:
        _add(digest, np.asarray(raw.x))
    hashes = []
    for y in (raw.y, raw.y_text):
        if y is not None:
            whole = digest.copy()
            _add(whole, y)
            hashes.append(whole.hexdigest())
    return hashes


def _add(digest: hashlib._Hash, array: np.ndarray) -> None:
    if array.dtype.kind in "UO":
        digest.update("\0".join(array.tolist()).encode())
        return
    rows = max(1, _BLOCK_ELEMENTS * len(array) // max(array.size, 1))
    for start in range(0, len(array), rows):
        part = np.ascontiguousarray(array[start : start + rows], dtype="<f8")
        if np.isnan(part).any():
            part = np.where(np.isnan(part), np.nan, part)  # whatever bits a missing value has
        digest.update(part.data)

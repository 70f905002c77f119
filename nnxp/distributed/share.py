"""The part of each batch that one rank computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nnxp.arrays import Array, device, namespace


@dataclass(frozen=True)
class BatchShare:
    """The part of each batch that one rank of several computes.

    A batch of B rows is cut into `size` parts of c = ceil(B / size) rows, in order. Where B is not
    a multiple of `size`, the last parts go beyond its end: there its last row is repeated with the
    weight 0. So all ranks compute arrays of the same shapes.

    Args:
        rank: the number of this rank, from 0.
        size: the number of ranks.
        is_uneven: whether any batch of the training is no multiple of `size`.

    Example:
        >>> import numpy as np
        >>> from nnxp.distributed import BatchShare
        >>> BatchShare(rank=1, size=2, is_uneven=True).of(np.array([[7, 8, 9]]))
        array([[9, 9]])
    """

    rank: int = 0
    size: int = 1
    is_uneven: bool = False

    def rows(self, batch_size: int) -> int:
        """Return c, the number of rows that each rank computes of a batch."""
        return -(-batch_size // self.size)

    def of(self, batches: np.ndarray) -> np.ndarray:
        """Return this rank's part, (steps, c), of rows of batches, (steps, batch)."""
        if self.size == 1:
            return batches
        batch_size = batches.shape[1]
        first = self.first_row(self.rows(batch_size))
        columns = np.arange(first, first + self.rows(batch_size))
        return batches[:, np.minimum(columns, batch_size - 1)]

    def first_row(self, rows: int) -> int:
        """Return the place in the batch of the first of this rank's `rows` rows."""
        return self.rank * rows

    def weights(self, x: Array, batch_size: Array) -> Array:
        """Return 1 for each row of this rank that is in the batch and 0 for one beyond, (rows, 1).

        Args:
            x: (rows, features), this rank's part.
            batch_size: the number of rows of the batch, a 0-d array.
        """
        xp, first = namespace(x), self.first_row(x.shape[0])
        places = xp.arange(first, first + x.shape[0], dtype=x.dtype, device=device(x))
        return xp.expand_dims(xp.astype(places < batch_size, x.dtype), axis=1)

    def fraction(self, rows: int, batch_size: list[Array]) -> Any:
        """Return the factor from a mean over this rank's `rows` rows to its part of the batch's.

        Args:
            rows: c.
            batch_size: [the number of rows of the batch] where the share is uneven, else [].
        """
        return rows / batch_size[0] if batch_size else 1.0 / self.size

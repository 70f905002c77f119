"""How the training data reaches the steps: from the device, or streamed by chunks.

From resident data, steps gather their batches on the device. Of streamed data, the rows of a chunk
of steps are gathered on the host into one of two buffers and sent, while the device works on the
chunk before. So it takes as much of the device's memory as two chunks, on JAX three, whatever its
size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from nnxp.arrays import Array, index_dtype
from nnxp.backends.base import Backend
from nnxp.backends.staging import Layout, Staging
from nnxp.data import batches, placement

Chunk = tuple[tuple[Array, ...], Array]
"""Data on the device, and the rows of it that each step of a chunk takes, (steps, batch)."""


class Feed:
    """Data, and the rows of it that are trained on.

    Args:
        backend: where the steps run.
        data: arrays with a row per sample.
        batch_size: samples a step; None for all.
        kept: the rows to train on; None for all.
    """

    def __init__(
        self,
        backend: Backend,
        data: Sequence[Array],
        batch_size: int | None,
        kept: np.ndarray | None = None,
    ) -> None:
        self.backend = backend
        self.data = tuple(data)
        self.kept = kept
        self.samples: int = data[0].shape[0] if kept is None else len(kept)
        self.batch_size = min(int(batch_size or self.samples), self.samples)

    def chunks(self, order: np.ndarray) -> Iterator[Chunk]:
        """An epoch in this order of the rows that are trained on, chunk by chunk."""
        raise NotImplementedError

    def _rows(self, order: np.ndarray, most: int) -> Iterator[np.ndarray]:
        order = order if self.kept is None else self.kept[order]
        return batches.chunks(order, self.batch_size, most)


class Resident(Feed):
    """Data on the device, all of it."""

    def chunks(self, order: np.ndarray) -> Iterator[Chunk]:
        indices = index_dtype(self.backend.xp)
        for rows in self._rows(order, batches.STEPS_PER_CHUNK):
            yield self.data, self.backend.asarray(rows, dtype=indices)


class Streamed(Feed):
    """Data on the host, sent a chunk at a time, one chunk ahead of the steps.

    Args:
        backend, data, batch_size, kept: see `Feed`; the data NumPy arrays of any dtype, which are
            never copied as a whole.
        dtypes: what each array is on the device.
        room: bytes of the device's memory that are available; None for any.
    """

    def __init__(
        self,
        backend: Backend,
        data: Sequence[np.ndarray],
        batch_size: int | None,
        kept: np.ndarray | None,
        dtypes: Sequence[np.dtype],
        room: int | None,
    ) -> None:
        super().__init__(backend, data, batch_size, kept)
        self.dtypes = dtypes
        self.batch_bytes = self.batch_size * sum(
            dtype.itemsize * math.prod(array.shape[1:])
            for array, dtype in zip(data, dtypes, strict=True)
        )
        most = placement.CHUNK_BYTES
        if room is not None:
            most = min(most, max(room, 0) // 4)  # two chunks leave at least half of it
        self.steps = min(
            batches.STEPS_PER_CHUNK,
            max(1, most // self.batch_bytes),
            self.samples // self.batch_size,
        )
        self._places: list[Staging] = []
        self._positions: dict[tuple[int, ...], Array] = {}

    def chunks(self, order: np.ndarray) -> Iterator[Chunk]:
        """An epoch in this order of the rows that are trained on, chunk by chunk.

        Always in the same arrays on the device, two sets of them in turn. What was yielded last
        stays as it is until the next epoch begins.
        """
        before = None
        try:
            for number, rows in enumerate(self._rows(order, self.steps)):
                # Chunk n - 1 is pending: reuse chunk n - 2's buffer once the device is done.
                place = self._place(number % 2)
                self._send(place, rows.reshape(-1))
                if before:
                    yield self._arrived(*before)
                before = place, rows.shape
            if before:
                yield self._arrived(*before)
        finally:
            for place in self._places:
                place.host()  # no copy is under way that writes to memory given up since

    def _place(self, number: int) -> Staging:
        if number == len(self._places):  # in the first epoch
            # All of one size, though an epoch's last chunks are smaller: compiled once.
            layout: Layout = [
                ((self.steps * self.batch_size, *array.shape[1:]), dtype)
                for array, dtype in zip(self.data, self.dtypes, strict=True)
            ]
            with self.backend.active():
                self._places.append(self.backend.staging(layout))
        return self._places[number]

    def _send(self, place: Staging, rows: np.ndarray) -> None:
        with self.backend.active():
            for source, target in zip(self.data, place.host(), strict=True):
                gather(source, rows, target[: len(rows)])
            place.send(len(rows))

    def _arrived(self, place: Staging, shape: tuple[int, ...]) -> Chunk:
        if shape not in self._positions:
            positions = np.arange(shape[0] * shape[1]).reshape(shape)
            indices = index_dtype(self.backend.xp)
            self._positions[shape] = self.backend.asarray(positions, dtype=indices)
        with self.backend.active():
            return place.device(), self._positions[shape]


def gather(source: np.ndarray, rows: np.ndarray, target: np.ndarray) -> None:
    """Copy these rows, all of them in range, into `target`, in its dtype."""
    if source.dtype == target.dtype and source.flags.c_contiguous:
        np.take(source, rows, 0, target, "clip")  # straight into it; "raise" would buffer
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            target[...] = source[rows]

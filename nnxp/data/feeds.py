"""Feeds: training data that is resident on the device, or streamed to it by chunks.

With resident data, steps gather their batches on the device. With streamed data, the host gathers
the rows of a chunk of steps into one of two buffers and sends it while the device works on the
chunk before. Streamed data of any size takes the device memory of two chunks, on JAX of three.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from nnxp.arrays import Array, index_dtype
from nnxp.arrays import rows as take_rows
from nnxp.backends.base import Backend
from nnxp.backends.staging import Layout, Staging
from nnxp.data import batches, placement
from nnxp.distributed.share import BatchShare

Chunk = tuple[tuple[Array, ...], Array]
"""Data on the device, and the indices of each step's rows in it, (steps, batch)."""


class Feed:
    """Data and its rows to train on.

    Args:
        backend: the backend that runs the steps.
        data: arrays with a row per sample.
        batch_size: samples per step; None for all.
        train_rows: the rows to train on; None for all.
        steps: most steps of a chunk; None for `nnxp.data.batches.STEPS_PER_CHUNK`.
    """

    def __init__(
        self,
        backend: Backend,
        data: Sequence[Array],
        batch_size: int | None,
        train_rows: np.ndarray | None = None,
        steps: int | None = None,
    ) -> None:
        self.backend = backend
        self.data = tuple(data)
        self.train_rows = train_rows
        self.samples: int = data[0].shape[0] if train_rows is None else len(train_rows)
        self.batch_size = min(int(batch_size or self.samples), self.samples)
        self.steps = steps or batches.STEPS_PER_CHUNK
        self.index_dtype = index_dtype(backend.xp)
        self.share = BatchShare()
        """The part of each batch that this process takes."""

    @property
    def steps_per_epoch(self) -> int:
        """The number of steps of an epoch, its last, smaller batch included."""
        return -(-self.samples // self.batch_size)

    def chunks(self, order: np.ndarray, done: int = 0) -> Iterator[Chunk]:
        """Yield an epoch's chunks: the rows of this process, see `share`.

        Args:
            order: a permutation of the rows to train on, (samples,).
            done: the number of steps to leave out, at the start.
        """
        raise NotImplementedError

    def _rows(self, order: np.ndarray, done: int) -> Iterator[np.ndarray]:
        order = order if self.train_rows is None else self.train_rows[order]
        return map(self.share.of, batches.chunks(order, self.batch_size, self.steps, done))

    def batch_size_after(self, done: int) -> int:
        """Return the number of rows of all processes of the step after `done` steps of an epoch."""
        return min(self.batch_size, self.samples - done * self.batch_size)

    def batch(self, rows: np.ndarray) -> tuple[Array, ...]:
        """Return rows, (n,), of the data, on the device: also those of other processes' parts."""
        if self.train_rows is not None:
            rows = self.train_rows[rows]
        return self._batch(rows)

    def _batch(self, rows: np.ndarray) -> tuple[Array, ...]:
        raise NotImplementedError


class Resident(Feed):
    """Data that is on the device as a whole."""

    def chunks(self, order: np.ndarray, done: int = 0) -> Iterator[Chunk]:
        indices = self.index_dtype
        for rows in self._rows(order, done):
            yield self.data, self.backend.asarray(rows, dtype=indices)

    def _batch(self, rows: np.ndarray) -> tuple[Array, ...]:
        with self.backend.active():
            return take_rows(self.data, self.backend.asarray(rows, dtype=self.index_dtype))


class Streamed(Feed):
    """Data on the host that is sent by chunks, one chunk ahead of the steps.

    Args:
        backend, data, batch_size, train_rows, steps: see `Feed`. The data are NumPy arrays of any
            dtype, which are never copied as a whole.
        dtypes: the dtype of each array on the device.
        room: bytes of the device's memory that are available; None for no limit.
    """

    def __init__(
        self,
        backend: Backend,
        data: Sequence[np.ndarray],
        batch_size: int | None,
        train_rows: np.ndarray | None,
        dtypes: Sequence[np.dtype],
        room: int | None,
        steps: int | None = None,
    ) -> None:
        super().__init__(backend, data, batch_size, train_rows, steps)
        self.dtypes = dtypes
        self.batch_bytes = self.batch_size * sum(
            dtype.itemsize * math.prod(array.shape[1:])
            for array, dtype in zip(data, dtypes, strict=True)
        )
        chunk_bytes = placement.CHUNK_BYTES
        if room is not None:
            chunk_bytes = min(chunk_bytes, max(room, 0) // 4)  # two chunks use half of it at most
        self.steps = min(
            self.steps,
            max(1, chunk_bytes // self.batch_bytes),
            self.samples // self.batch_size,
        )
        self._places: list[Staging] = []
        self._positions: dict[tuple[int, ...], Array] = {}

    def chunks(self, order: np.ndarray, done: int = 0) -> Iterator[Chunk]:
        """Yield an epoch's chunks; see `Feed.chunks`.

        The chunks alternate between two sets of arrays on the device. The last chunk stays
        unchanged until the next epoch begins.
        """
        pending = None
        try:
            for number, rows in enumerate(self._rows(order, done)):
                # Chunk n - 1 is pending: reuse chunk n - 2's buffer once the device is done.
                place = self._place(number % 2)
                self._send(place, rows.reshape(-1))
                if pending:
                    yield self._arrived(*pending)
                pending = place, rows.shape
            if pending:
                yield self._arrived(*pending)
        finally:
            for place in self._places:
                place.host()  # wait for the copies, so that none uses freed memory

    def _batch(self, rows: np.ndarray) -> tuple[Array, ...]:
        found = []
        for source, dtype in zip(self.data, self.dtypes, strict=True):
            found.append(np.empty((len(rows), *source.shape[1:]), dtype))
            gather(source, rows, found[-1])
        return tuple(map(self.backend.asarray, found))

    def _place(self, number: int) -> Staging:
        if number == len(self._places):  # in the first epoch
            # One size, although an epoch's last chunks are smaller, so that steps compile once.
            layout: Layout = [
                ((self.steps * self.share.rows(self.batch_size), *array.shape[1:]), dtype)
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
            self._positions[shape] = self.backend.asarray(positions, dtype=self.index_dtype)
        with self.backend.active():
            return place.device(), self._positions[shape]


def gather(source: np.ndarray, rows: np.ndarray, target: np.ndarray) -> None:
    """Copy rows of `source` into `target`, in its dtype. All indices must be in range."""
    if source.dtype == target.dtype and source.flags.c_contiguous:
        np.take(source, rows, 0, target, "clip")  # "clip" avoids the buffer of "raise"
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            target[...] = source[rows]

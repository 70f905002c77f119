"""Feeds: training data that is resident on the device, or streamed to it by chunks.

With resident data, steps gather their batches on the device. With streamed data, the host gathers
the rows of a chunk of steps into one of two buffers and sends it while the device works on the
chunk before. Streamed data of any size takes the device memory of two chunks, on JAX of three.
Data on disk is read by a thread, a chunk ahead of those, and takes one chunk more.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import numpy as np

from nnxp.arrays import Array, index_dtype
from nnxp.arrays import rows as take_rows
from nnxp.backends.base import Backend
from nnxp.backends.staging import Layout, Staging
from nnxp.data import batches, placement
from nnxp.data.batches import Blocks
from nnxp.data.sources import Reader, Source, gather
from nnxp.distributed.share import BatchShare

log = logging.getLogger("nnxp")

READ_BYTES = 2**25
"""Most bytes of a chunk that is read from disk, unless one batch is larger."""

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
        self.waited = 0.0
        """The seconds that steps have waited for data from disk."""

    @property
    def blocks(self) -> Blocks | None:
        """The blocks of the rows to train on, if these are read by blocks."""
        blocks = getattr(self.data[0], "blocks", None)
        if blocks is None or self.train_rows is None:
            return blocks
        return Blocks(np.searchsorted(self.train_rows, blocks.bounds), blocks.buffer)

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
        backend, data, batch_size, train_rows, steps: see `Feed`. The data are NumPy arrays or
            sources, of any dtype, which are never copied as a whole.
        dtypes: the dtype of each array on the device.
        room: bytes of the device's memory that are available; None for no limit.
    """

    def __init__(
        self,
        backend: Backend,
        data: Sequence[np.ndarray | Source],
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
        self.reads_ahead = isinstance(data[0], Source)
        self.places = 3 if self.reads_ahead else 2
        """The chunks in memory: in use, sent, and the one that a thread reads."""
        chunk_bytes = READ_BYTES if self.reads_ahead else placement.CHUNK_BYTES
        if room is not None:  # chunks use half of it at most
            chunk_bytes = min(chunk_bytes, max(room, 0) // (2 * self.places))
        self.steps = min(
            self.steps,
            max(1, chunk_bytes // self.batch_bytes),
            self.samples // self.batch_size,
        )
        self._filling: futures.Future[Staging] | None = None
        self.is_slow = False
        """Whether it was reported that steps wait for the disk."""
        self._places: list[Staging] = []
        self._positions: dict[tuple[int, ...], Array] = {}

    def chunks(self, order: np.ndarray, done: int = 0) -> Iterator[Chunk]:
        """Yield an epoch's chunks; see `Feed.chunks`.

        The chunks alternate between sets of arrays on the device. The last chunk stays unchanged
        until the next epoch begins.
        """
        if not (chunks := list(self._rows(order, done))):
            return
        pieces = [rows.reshape(-1) for rows in chunks]
        readers = [_reader(source, pieces) for source in self.data]
        pending, start, waited = None, time.perf_counter(), self.waited
        try:
            with self._pool() as pool:
                filled = self._begin(0, pieces, readers, pool)
                for number, rows in enumerate(chunks):
                    # Chunk n - 1 is pending: reuse an older chunk's buffer once the device is done.
                    place = filled()
                    with self.backend.active():
                        place.send(rows.size)
                    if number + 1 < len(chunks):
                        filled = self._begin(number + 1, pieces, readers, pool)
                    if pending:
                        yield self._arrived(*pending)
                    pending = place, rows.shape
                if pending:
                    yield self._arrived(*pending)
            self._report(self.waited - waited, time.perf_counter() - start)
        finally:
            for place in self._places:
                place.host()  # wait for the copies, so that none uses freed memory

    def _batch(self, rows: np.ndarray) -> tuple[Array, ...]:
        found = []
        for source, dtype in zip(self.data, self.dtypes, strict=True):
            found.append(np.empty((len(rows), *source.shape[1:]), dtype))
            _reader(source, [rows]).take(rows, found[-1])
        return tuple(map(self.backend.asarray, found))

    def _report(self, waited: float, seconds: float) -> None:
        """Log, once, that an epoch waited for rows at random, which a slow disk would explain."""
        x = self.data[0]
        if self.is_slow or not isinstance(x, Source) or 2 * waited < seconds or seconds < 1:
            return
        self.is_slow = True
        hint = "" if x.blocks else ': shuffle="blocks" (--shuffle-blocks) reads it in order'
        log.info(
            "%.0f %% of the epoch waited for data from %s%s", 100 * waited / seconds, x.name, hint
        )

    def _pool(self) -> Any:
        """Return the thread that reads ahead, as a context; None for data in memory."""
        return ThreadPoolExecutor(1, "nnxp-reader") if self.reads_ahead else nullcontext()

    def _begin(
        self,
        number: int,
        pieces: list[np.ndarray],
        readers: list[Reader],
        pool: ThreadPoolExecutor | None,
    ) -> Callable[[], Staging]:
        """Begin to fill the buffer of a chunk; return a function that waits for it.

        Without a pool, that function fills it.
        """
        place, rows = self._place(number % self.places), pieces[number]

        def fill(targets: list[np.ndarray]) -> Staging:
            for reader, target in zip(readers, targets, strict=True):
                reader.take(rows, target[: len(rows)])
            return place

        def fill_now() -> Staging:
            with self.backend.active():
                return fill(place.host())

        if pool is None:
            return fill_now
        if self._filling is not None:  # of a pass that was left before its end
            futures.wait([self._filling])
        with self.backend.active():  # of this thread: no other may call the device
            filling = self._filling = pool.submit(fill, place.host())
        for reader in readers:
            pool.submit(reader.ahead)

        def wait() -> Staging:
            start = time.perf_counter()
            found = filling.result()
            self.waited += time.perf_counter() - start
            return found

        return wait

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

    def _arrived(self, place: Staging, shape: tuple[int, ...]) -> Chunk:
        if shape not in self._positions:
            positions = np.arange(shape[0] * shape[1]).reshape(shape)
            self._positions[shape] = self.backend.asarray(positions, dtype=self.index_dtype)
        with self.backend.active():
            return place.device(), self._positions[shape]


class _ArrayReader(Reader):
    """Reads rows of an array."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def take(self, rows: np.ndarray, out: np.ndarray) -> None:
        gather(self.array, rows, out)


def _reader(source: np.ndarray | Source, order: list[np.ndarray]) -> Reader:
    return source.reader(order) if isinstance(source, Source) else _ArrayReader(source)

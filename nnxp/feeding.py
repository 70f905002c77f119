"""How the training data reaches the steps: moved to the device once, or streamed by chunks.

Data that fits is moved once, and steps gather their batches from it there. Data that does not stays
on the host. There the rows of a chunk of steps are gathered into one of two places and sent, while
the device works on the chunk before; so it takes as much of the device's memory as two chunks, on
JAX three, whatever its size.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nnxp import batches
from nnxp.arrays import Array, index_dtype
from nnxp.backends.base import Backend
from nnxp.backends.staging import Layout, Staging

CHUNK_BYTES = 2**26
"""A streamed chunk is no larger, unless one batch is: enough to hide what a copy costs."""
BLOCK_ELEMENTS = 2**22
"""Of the widest layer, at once, where outputs are computed outside of training."""

Chunk = tuple[tuple[Array, ...], Array]
"""Data on the device, and the rows of it that each step of a chunk takes, (steps, batch)."""

log = logging.getLogger("nnxp")


class Feed:
    """The data, and which of it is trained on.

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
        room: bytes of the device's memory that chunks may take; None for any.
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
        # Two chunks leave at least half of the room.
        most = CHUNK_BYTES if room is None else min(CHUNK_BYTES, max(room, 0) // 4)
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
                # The chunk before this one is still to be worked on; so the place that the one
                # before that had is free as soon as what the device was asked to do is done.
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


@dataclass(frozen=True)
class Choice:
    """Whether data goes to the device."""

    backend: Backend
    size: int
    """Bytes, all in all."""
    there: int
    """Of these, how many are there already."""
    free: int | None
    """Bytes that are free there; None where there is nothing to choose."""
    room: int | None
    """Bytes of these that data may fill."""
    stream: bool | None
    """What was asked for: True that it stays on the host, False that it goes."""

    def stays(self, x: Array) -> bool:
        """Whether `x` is to be on the host."""
        if self.stream is not None:
            return self.stream
        if self.room is None or self.size - self.there <= self.room:
            return False
        return not self.backend.holds(x)

    def told(self, feed: Feed) -> str:
        """What came of it, in one line."""
        where = self.backend.device_name
        free = "" if self.free is None else f", {bytes_text(self.free)} free on {where}"
        if isinstance(feed, Streamed):
            chunk = f"{feed.steps} steps ({bytes_text(feed.steps * feed.batch_bytes)})"
            return f"data: {bytes_text(self.size)}{free}: streamed in chunks of {chunk}"
        if where == "cpu":
            return f"data: {bytes_text(self.size)} on the host"
        moved = "there already" if self.there else "moved once"
        return f"data: {bytes_text(self.size)}{free}: {moved}"


def choose(
    backend: Backend,
    sizes: tuple[int, ...],
    itemsize: int,
    size: int,
    there: int = 0,
    batch_size: int = 1,
    stream: bool | None = None,
) -> Choice:
    """Whether data fits on the device beside a network.

    Args:
        backend: whose device.
        sizes: units by layer of the network.
        itemsize: of its numbers.
        size, there, stream: see `Choice`.
        batch_size: of its training.

    An estimate. Room is what is free, less a tenth for fragments and the libraries' own; less eight
    times the parameters, for the state, gradients, updates and the copies in between; less four
    times the activations of a batch, or of what is evaluated at once.
    """
    free = room = backend.free_memory()
    if free is not None:
        parameters = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(sizes))
        activations = max(batch_size, block_rows(sizes)) * sum(sizes)
        room = int(0.9 * free) - itemsize * (8 * parameters + 4 * activations)
    return Choice(backend, size, there, free, room, stream)


def block_rows(sizes: tuple[int, ...]) -> int:
    """Samples to compute the outputs of at once."""
    return max(1, BLOCK_ELEMENTS // max(sizes))


def bytes_text(size: float) -> str:
    """188000000 is "188 MB"."""
    unit, name = next(
        ((unit, name) for unit, name in ((1e9, "GB"), (1e6, "MB")) if size >= 0.9995 * unit),
        (1e3, "kB"),
    )
    return f"{size / unit:.0f} {name}" if size >= 99.95 * unit else f"{size / unit:.3g} {name}"

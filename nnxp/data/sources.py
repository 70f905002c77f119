"""Data on disk that need not fit in memory: rows, read by parts as they are needed.

A `Source` reads consecutive rows, and rows in any order. Where rows at random are cheap (a file
that is mapped), an epoch may visit them in any order. Where they are not (compressed chunks), they
are read by blocks: `nnxp.data.batches` draws an order of few blocks at a time, and a reader keeps
these blocks until their rows are done.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import logging
import mmap
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np

from nnxp.arrays import is_lazy
from nnxp.data.batches import Blocks
from nnxp.errors import DataError, InputError, first_line

log = logging.getLogger("nnxp")

LOADED_BYTES = 2**28
"""Bytes of data on disk up to which it is loaded: then it is used as if it had been an array. A
number, and no part of the free memory, so that a seed gives the same batches on every machine."""
BLOCK_BYTES = 2**22
"""Bytes of a block of rows that lie together, if the data does not say its own: a disk reads them
almost as fast as all rows in order."""
BUFFER_BYTES = 2**27
"""Bytes of the blocks among which rows are shuffled. A reader has those of the next ones too."""
MAPPED_READERS = 16
"""Threads that touch rows of a mapped file: a disk serves many reads at once."""
MAPPED_ROWS = 2**11
"""Rows at random that are touched before their pages are released."""
SAMPLED = 256
"""Runs of rows that a fingerprint is made of."""
_SAMPLE_BYTES = 2**16
_SCAN_BYTES = 2**24
_KINDS = "buif"


class Reader:
    """Reads rows in an order that is known beforehand."""

    def take(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Copy the next rows of the order to `out`, in its dtype."""
        raise NotImplementedError

    def ahead(self) -> None:
        """Read what later rows need, while nothing waits."""


class Source:
    """Rows on disk, (samples, features), of real numbers.

    A subclass sets the attributes and defines `read`; where rows at random are cheap, also
    `reader`.
    """

    name: str
    """The file, for messages."""
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    blocks: Blocks | None = None
    """The blocks to read by; None if rows at random are cheap."""
    finite = False
    """Whether every value is known to be finite."""
    has_parts = False
    """Whether it costs no more to read a block in parts than as a whole."""

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the rows from `start` up to `stop`."""
        raise NotImplementedError

    def read_into(self, start: int, out: np.ndarray) -> None:
        """Copy consecutive rows from `start` on to `out`, (rows, features), of this dtype."""
        out[...] = self.read(start, start + len(out))

    def reader(self, order: Iterable[np.ndarray]) -> Reader:
        """Return a reader of rows in this order, which is given in pieces."""
        return BlockReader(self, order)

    def place(self, row: int) -> str:
        """Return where a row is, for an error: "row 5 of x.npy"."""
        return f"row {row} of {self.name}"

    def check(self, rows: np.ndarray, first: int) -> None:
        """Raise InputError for the first value that is not finite of rows that were read here.

        Args:
            rows: consecutive rows of this source.
            first: the number of the first of them.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            if rows.dtype.kind in "bui" or np.isfinite(np.sum(rows)):
                return
        bad = np.argwhere(~np.isfinite(rows))
        if len(bad):  # else only the sum is too large
            row, column = map(int, bad[0])
            raise InputError(
                f"x holds {rows[row, column]} at {self.place(first + row)}, column {column} (rows "
                "and columns from 0): remove it or fill it in"
            )

    def in_blocks(self) -> Source:
        """Return this source, to be read by blocks and shuffled by them."""
        return self

    def modified(self) -> str:
        """Return when the files were last changed, as text; "" if that is not known."""
        return ""

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        return 2

    @property
    def nbytes(self) -> int:
        """The bytes of all rows, as `read` returns them."""
        return self.shape[0] * self.row_bytes

    @property
    def row_bytes(self) -> int:
        """The bytes of a row."""
        return self.shape[1] * self.dtype.itemsize

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Return consecutive rows, x[3:8], or the rows of an array of indices, as an array."""
        if isinstance(rows, tuple):
            rows, *rest = rows
            if any(each is not Ellipsis for each in rest):
                raise TypeError("a source has rows: x[start:stop] or x[indices]")
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step != 1:
                raise TypeError("a source has consecutive rows: x[start:stop]")
            return self.read(start, max(start, stop))
        rows = np.asarray(rows)
        out = np.empty((len(rows), self.shape[1]), self.dtype)
        self.reader([rows]).take(rows, out)
        return out

    def load(self) -> np.ndarray:
        """Return all rows."""
        return self.read(0, len(self))

    def scan(
        self, rows: np.ndarray | None = None, count: int | None = None
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield rows in order, by parts, the next one being read meanwhile.

        Args:
            rows: the rows, ascending; None for all.
            count: the number of rows of a part; None for a few megabytes.

        Yields:
            The place of the part, a slice of `rows`, and the rows.
        """
        total = len(self) if rows is None else len(rows)
        count = count or max(1, _SCAN_BYTES // self.row_bytes)
        parts = [slice(start, min(start + count, total)) for start in range(0, total, count)]

        def indices(part: slice) -> np.ndarray:
            return np.arange(part.start, part.stop) if rows is None else rows[part]

        reader = None
        if rows is not None or self.blocks is not None:
            reader = self.reader(map(indices, parts))

        def read(part: slice) -> tuple[slice, np.ndarray]:
            if reader is None:
                return part, self.read(part.start, part.stop)
            found = indices(part)
            out = np.empty((len(found), self.shape[1]), self.dtype)
            reader.take(found, out)
            return part, out

        with ThreadPoolExecutor(1, "nnxp-reader") as pool:
            coming = None
            for part in parts:
                following = pool.submit(read, part)
                if coming is not None:
                    yield coming.result()
                coming = following
            if coming is not None:
                yield coming.result()

    def fingerprint(self, dtype: str) -> str:
        """Return a SHA-256 of shape and `SAMPLED` runs of rows spread evenly, in hexadecimal.

        To read all rows would take as long as an epoch. So this is a guess: a change between the
        runs is not seen.
        """
        digest = hashlib.sha256(repr(self.shape).encode())
        count = max(1, _SAMPLE_BYTES // self.row_bytes)
        starts = np.linspace(0, max(0, len(self) - count), SAMPLED).astype(np.int64)
        for start in dict.fromkeys(starts.tolist()):
            with np.errstate(over="ignore", invalid="ignore"):
                run = self.read(start, min(start + count, len(self)))
                run = np.ascontiguousarray(run, dtype=np.dtype(dtype).newbyteorder("<"))
            digest.update(run.data)
        return digest.hexdigest()

    def select(self, rows: np.ndarray) -> Source:
        """Return a source of some of the rows, ascending, without a copy."""
        return Selected(self, rows)

    def describe(self) -> str:
        """Say how rows at random are read, for the log."""
        if self.blocks is None:
            return "rows at random"
        bounds, buffer = self.blocks
        rows = int(np.diff(bounds).max())
        return f"blocks of {rows:,} rows at random, shuffled in a buffer of {buffer:,} rows"


def find(x: Any) -> Source | None:
    """Return data on disk as a source: a `Source`, or an object too large to be loaded.

    That is a `numpy.memmap`, or anything else with a shape, (samples, features), a dtype and
    slices that return rows: a dataset of h5py, an array of zarr or dask. None for all else.
    """
    if isinstance(x, Source):
        return x
    if not isinstance(x, np.memmap) and not is_lazy(x):
        return None
    shape, dtype = getattr(x, "shape", None), getattr(x, "dtype", None)
    if not isinstance(shape, tuple) or len(shape) != 2 or isinstance(dtype, str):
        return None
    kind, size = getattr(dtype, "kind", ""), getattr(dtype, "itemsize", 0)
    if kind not in _KINDS or not kind or not all(isinstance(each, int) for each in shape):
        return None
    if shape[0] * shape[1] * size <= LOADED_BYTES:
        return None
    if isinstance(x, np.memmap):
        fits = _mapping(x) is not None and x.filename is not None and x.flags.c_contiguous
        return Mapped(x) if fits else None
    return Sliced(x)


def block_bounds(samples: int, row_bytes: int, chunk_rows: int = 1) -> np.ndarray:
    """Return the bounds of blocks of about `BLOCK_BYTES`, of whole chunks."""
    rows = max(1, round(BLOCK_BYTES / (row_bytes * chunk_rows))) * chunk_rows
    return np.append(np.arange(0, samples, rows), samples).astype(np.int64)


def buffer_rows(row_bytes: int) -> int:
    """Return the number of rows in `BUFFER_BYTES`."""
    return max(1, BUFFER_BYTES // row_bytes)


class Mapped(Source):
    """A `numpy.memmap`, (samples, features), whose rows lie together in a file.

    Rows at random are copied from the mapping by several threads, so that the disk has several
    requests at a time; then their pages leave the memory of the process. Rows that lie together
    are read from the file.

    Args:
        x: the array, of a mode other than "c", and C-contiguous.
        name: the file, for messages.
        by_blocks: whether to read by blocks, because the disk is slow with rows at random.

    Raises:
        DataError: the file is not there any more.
    """

    def __init__(self, x: np.memmap, name: str | None = None, by_blocks: bool = False) -> None:
        mapping = _mapping(x)
        assert mapping is not None
        assert x.filename is not None
        self.x, self.mapping, self.array = x, mapping, np.asarray(x)
        self.path = x.filename
        self.name = name or str(self.path)
        self.shape, self.dtype = (int(x.shape[0]), int(x.shape[1])), x.dtype
        mapped_from = x.offset - x.offset % mmap.ALLOCATIONGRANULARITY
        within = self.array.__array_interface__["data"][0] - _address(mapping)
        self.offset = mapped_from + within
        """The place of the first row in the file."""
        self.file, self.has_parts = self._stat(), True
        if by_blocks:
            bounds = block_bounds(len(self), self.row_bytes)
            self.blocks = Blocks(bounds, buffer_rows(self.row_bytes))
        elif self.row_bytes <= _SAMPLE_BYTES:  # else a row is worth reading ahead
            _advise(mapping, "MADV_RANDOM")

    def in_blocks(self) -> Source:
        return Mapped(self.x, self.name, by_blocks=True)

    def modified(self) -> str:
        return time_of(self.file)

    def _stat(self) -> os.stat_result:
        try:
            return os.stat(self.path)
        except OSError as error:
            raise DataError(f"{self.name}: {error.strerror or error}") from None

    def read(self, start: int, stop: int) -> np.ndarray:
        out = np.empty((stop - start, self.shape[1]), self.dtype)
        self.read_into(start, out)
        return out

    def read_into(self, start: int, out: np.ndarray) -> None:
        self.check_file()
        rest = memoryview(cast(Any, out)).cast("B") if out.size else memoryview(b"")
        try:
            with open(self.path, "rb", buffering=0) as file:
                file.seek(self.offset + start * self.row_bytes)
                while len(rest) and (count := file.readinto(rest)):
                    rest = rest[count:]
        except OSError as error:
            raise DataError(f"{self.name}: {error.strerror or error}") from None
        if len(rest):
            raise DataError(f"{self.name}: was cut while it was read")

    def reader(self, order: Iterable[np.ndarray]) -> Reader:
        return super().reader(order) if self.blocks is not None else RandomReader(self)

    def parts_of(self, rows: np.ndarray) -> Iterator[tuple[Mapped, np.ndarray, None]]:
        """Yield the file, the rows there, and their places in `rows`: None for all."""
        yield self, rows, None

    def check_file(self) -> None:
        """Raise DataError if the file is another or shorter: to touch that would end the process.

        Where it is cut between this and the reading, the system ends the process.
        """
        now = self._stat()
        if (now.st_dev, now.st_ino) != (self.file.st_dev, self.file.st_ino):
            raise DataError(f"{self.name}: another file took its place while it was read")
        if now.st_size < self.file.st_size:
            raise DataError(f"{self.name}: was cut to {now.st_size:,} bytes while it was read")

    def copy(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Copy rows to `out`: if they are most of those between them, from the file."""
        first, last = int(rows[0]), int(rows[-1])
        if 0 <= last - first < 4 * len(rows) and (np.diff(rows) > 0).all():
            gather(self.read(first, last + 1), rows - first, out)
        else:
            gather(self.array, rows, out)

    def release(self) -> None:
        """Take the pages that were read out of the memory of the process."""
        _advise(self.mapping, "MADV_DONTNEED")


class RandomReader(Reader):
    """Reads rows of mapped files in any order."""

    def __init__(self, source: Mapped | Shards) -> None:
        self.source = source

    def take(self, rows: np.ndarray, out: np.ndarray) -> None:
        # The system maps up to 64 kB around a row that is touched, until its pages are released.
        for cut in _cuts(len(rows), MAPPED_ROWS):
            self._take(rows[cut], out[cut])

    def _take(self, rows: np.ndarray, out: np.ndarray) -> None:
        parts = list(self.source.parts_of(rows))
        for part, _, _ in parts:
            part.check_file()
        jobs = [
            (part, there[cut], cut if places is None else places[cut])
            for part, there, places in parts
            for cut in _cuts(len(there), max(1, len(rows) // MAPPED_READERS))
        ]

        def run(job: tuple[Mapped, np.ndarray, slice | np.ndarray]) -> None:
            part, there, places = job
            if isinstance(places, slice):
                part.copy(there, out[places])
            else:
                found = np.empty((len(there), part.shape[1]), part.dtype)
                part.copy(there, found)
                out[places] = found

        # NumPy works without the lock of Python here, so that several threads wait for the disk.
        with ThreadPoolExecutor(min(MAPPED_READERS, len(jobs) or 1), "nnxp-rows") as pool:
            for _ in pool.map(run, jobs):
                pass
        for part, _, _ in parts:
            part.release()


def time_of(file: os.stat_result) -> str:
    """Return when a file was last changed."""
    return datetime.datetime.fromtimestamp(file.st_mtime, datetime.UTC).isoformat()


def _cuts(total: int, length: int) -> list[slice]:
    return [slice(start, min(start + length, total)) for start in range(0, total, length)]


def gather(source: np.ndarray, rows: np.ndarray, target: np.ndarray) -> None:
    """Copy rows of `source` into `target`, in its dtype. All indices must be in range."""
    if source.dtype == target.dtype and source.flags.c_contiguous and target.flags.c_contiguous:
        np.take(source, rows, 0, target, "clip")  # "clip" avoids the buffer of "raise"
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            target[...] = source[rows]


def _mapping(x: Any) -> mmap.mmap | None:
    """Return the mapping of a memmap; None if its pages may not be dropped, or if it has none."""
    if getattr(x, "mode", None) == "c":  # changed pages are nowhere else
        return None
    while isinstance(x, np.ndarray):
        x = x.base
    return x if isinstance(x, mmap.mmap) else None


def _address(mapping: mmap.mmap) -> int:
    return int(np.frombuffer(mapping, np.uint8, 1).__array_interface__["data"][0])


def _advise(mapping: mmap.mmap, advice: str, *where: int) -> None:
    """Call `madvise` where the system has it."""
    if (number := getattr(mmap, advice, None)) is not None:
        with contextlib.suppress(OSError, ValueError):
            mapping.madvise(number, *where)


class Sliced(Source):
    """Anything with a shape, (samples, features), a dtype and slices of rows.

    Args:
        x: the object.
        name: its name, for messages.
        file: the file that it is in, if it is known.
    """

    def __init__(self, x: Any, name: str | None = None, file: Any = None) -> None:
        self.x, self.file = x, file
        self.name = name or str(getattr(x, "name", None) or type(x).__name__)
        self.shape = (int(x.shape[0]), int(np.prod(x.shape[1:])))
        self.dtype = np.dtype(x.dtype)
        chunk = _chunk_rows(x) or 1
        self.blocks = Blocks(
            block_bounds(len(self), self.row_bytes, chunk), buffer_rows(self.row_bytes)
        )

    def read(self, start: int, stop: int) -> np.ndarray:
        try:
            found = np.asarray(self.x[start:stop])
        except MemoryError:
            raise
        except Exception as error:  # a damaged file can fail in any part of a library
            raise DataError(
                f"{self.name}: rows {start} to {stop - 1} cannot be read ({first_line(error)})"
            ) from None
        if len(found) != stop - start:
            raise DataError(f"{self.name}: has {len(found)} rows at {start}, not {stop - start}")
        return found.reshape(stop - start, self.shape[1])

    def modified(self) -> str:
        return "" if self.file is None else time_of(os.stat(self.file))


def _chunk_rows(x: Any) -> int | None:
    """Return the rows of a chunk, as h5py, zarr and dask tell; None if there are none."""
    for chunks in (getattr(x, "shards", None), getattr(x, "chunks", None)):
        if isinstance(chunks, tuple) and chunks:
            rows = chunks[0]
            return int(max(rows)) if isinstance(rows, tuple) else int(rows)
    return None


class Shards(Source):
    """Sources one after the other, such as the files of a folder.

    Raises:
        DataError: their rows differ in length or dtype.
    """

    def __init__(self, parts: Sequence[Source], name: str) -> None:
        first = parts[0]
        for part in parts:
            if (part.shape[1], part.dtype) != (first.shape[1], first.dtype):
                raise DataError(
                    f"{part.name}: has {part.shape[1]} features, {part.dtype}; {first.name} has "
                    f"{first.shape[1]}, {first.dtype}"
                )
        self.parts, self.name = list(parts), name
        self.starts = np.cumsum([0, *map(len, parts)])
        self.shape, self.dtype = (int(self.starts[-1]), first.shape[1]), first.dtype
        self.has_parts = first.has_parts
        if first.blocks is not None:
            bounds = [
                part.blocks.bounds[:-1] + start
                for part, start in zip(parts, self.starts, strict=False)
                if part.blocks is not None
            ]
            ends = np.concatenate([*bounds, self.starts[-1:]])
            self.blocks = Blocks(ends, first.blocks.buffer)

    def _cut(self, start: int, stop: int) -> Iterator[tuple[Source, int, int]]:
        """Yield the parts that rows are in, and the rows there."""
        while start < stop:
            number = int(np.searchsorted(self.starts, start, "right")) - 1
            end = min(stop, int(self.starts[number + 1]))
            yield self.parts[number], start - self.starts[number], end - self.starts[number]
            start = end

    def read(self, start: int, stop: int) -> np.ndarray:
        found = [part.read(int(low), int(high)) for part, low, high in self._cut(start, stop)]
        if not found:
            return np.empty((0, self.shape[1]), self.dtype)
        return found[0] if len(found) == 1 else np.concatenate(found)

    def read_into(self, start: int, out: np.ndarray) -> None:
        done = 0
        for part, low, high in self._cut(start, start + len(out)):
            part.read_into(int(low), out[done : done + high - low])
            done += high - low

    def reader(self, order: Iterable[np.ndarray]) -> Reader:
        return super().reader(order) if self.blocks is not None else RandomReader(self)

    def parts_of(self, rows: np.ndarray) -> Iterator[tuple[Any, np.ndarray, np.ndarray]]:
        """Yield the files that rows are in, the rows there, and their places in `rows`."""
        numbers = np.searchsorted(self.starts, rows, "right") - 1
        by_file = np.argsort(numbers, kind="stable")
        found, firsts = np.unique(numbers[by_file], return_index=True)
        for number, places in zip(found.tolist(), np.split(by_file, firsts[1:]), strict=True):
            yield self.parts[number], rows[places] - self.starts[number], places

    def place(self, row: int) -> str:
        number = int(np.searchsorted(self.starts, row, "right")) - 1
        return self.parts[number].place(row - int(self.starts[number]))

    def in_blocks(self) -> Source:
        return Shards([part.in_blocks() for part in self.parts], self.name)

    def modified(self) -> str:
        return max(part.modified() for part in self.parts)


def joined(parts: Sequence[Source], name: str) -> Source:
    """Return sources one after the other as one."""
    return parts[0] if len(parts) == 1 else Shards(parts, name)


class Selected(Source):
    """Some rows of a source, in ascending order."""

    def __init__(self, base: Source, rows: np.ndarray) -> None:
        self.base, self.rows = base, rows
        self.name, self.dtype, self.finite = base.name, base.dtype, base.finite
        self.shape = (len(rows), base.shape[1])
        if base.blocks is not None:
            bounds, buffer = base.blocks
            self.blocks = Blocks(np.searchsorted(rows, bounds), buffer)

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.base[self.rows[start:stop]]

    def reader(self, order: Iterable[np.ndarray]) -> Reader:
        return _Mapping(self.base.reader(self.rows[piece] for piece in order), self.rows)

    def place(self, row: int) -> str:
        return self.base.place(int(self.rows[row]))

    def in_blocks(self) -> Source:
        return Selected(self.base.in_blocks(), self.rows)

    def modified(self) -> str:
        return self.base.modified()


class _Mapping(Reader):
    def __init__(self, reader: Reader, rows: np.ndarray) -> None:
        self.inner, self.rows = reader, rows

    def ahead(self) -> None:
        self.inner.ahead()

    def take(self, rows: np.ndarray, out: np.ndarray) -> None:
        self.inner.take(self.rows[rows], out)


class Transformed(Source):
    """A source whose rows are preprocessed as they are read.

    Args:
        base: the source.
        preprocessing: a `nnxp.preprocessing.Preprocessing`, which returns float32.
    """

    def __init__(self, base: Source, preprocessing: Any) -> None:
        self.base, self.preprocessing = base, preprocessing
        self.name, self.blocks, self.finite = base.name, base.blocks, base.finite
        self.shape, self.dtype = base.shape, np.dtype(np.float32)

    def read(self, start: int, stop: int) -> np.ndarray:
        found: np.ndarray = self.preprocessing.apply(self.base.read(start, stop))
        return found

    def reader(self, order: Iterable[np.ndarray]) -> Reader:
        return _Transforming(self.base.reader(order), self)

    def place(self, row: int) -> str:
        return self.base.place(row)

    def in_blocks(self) -> Source:
        return Transformed(self.base.in_blocks(), self.preprocessing)

    def modified(self) -> str:
        return self.base.modified()


class _Transforming(Reader):
    def __init__(self, reader: Reader, source: Transformed) -> None:
        self.inner, self.source = reader, source

    def ahead(self) -> None:
        self.inner.ahead()

    def take(self, rows: np.ndarray, out: np.ndarray) -> None:
        base = self.source.base
        raw = np.empty((len(rows), base.shape[1]), base.dtype)
        self.inner.take(rows, raw)
        out[...] = self.source.preprocessing.apply(raw)


class OneHot(Source):
    """Classes, (samples,), as rows that are made when they are read; (samples, outputs)."""

    def __init__(self, classes: np.ndarray, outputs: int) -> None:
        self.classes = classes
        self.name, self.finite = "targets", True
        self.shape, self.dtype = (len(classes), outputs), np.dtype(np.float32)
        self.encoded = np.eye(outputs, dtype=np.float32)

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.encoded[self.classes[start:stop]]

    def reader(self, order: Iterable[np.ndarray]) -> Reader:
        return _Encoding(self)


class _Encoding(Reader):
    def __init__(self, source: OneHot) -> None:
        self.source = source

    def take(self, rows: np.ndarray, out: np.ndarray) -> None:
        gather(self.source.encoded, self.source.classes[rows], out)


class BlockReader(Reader):
    """Reads rows by whole blocks, and keeps a block until the order has no more rows of it.

    For an order of `nnxp.data.batches.shuffled_blocks`, each block is read once, and the memory is
    that of two buffers. For another order, blocks may be read again.
    """

    def __init__(self, source: Source, order: Iterable[np.ndarray]) -> None:
        assert source.blocks is not None
        self.source = source
        self.bounds, self.buffer = source.blocks
        sizes = np.diff(self.bounds)
        self.left = np.zeros(len(sizes), dtype=np.int64)
        """The rows of each block that the order still has."""
        self.coming: list[int] = []
        """The blocks in the order of their first rows."""
        for piece in order:
            numbers = self._numbers(piece)
            found, firsts = np.unique(numbers, return_index=True)
            new = firsts[self.left[found] == 0]
            self.coming += numbers[np.sort(new)].tolist()
            np.add.at(self.left, numbers, 1)
        self.page = max(1, int(sizes.mean()) // 4)
        """The rows of a page: a block has pages of its own, as a process has of the memory."""
        pages = -(-sizes // self.page)
        self.first_page = np.cumsum([0, *pages])
        self.table = np.full(self.first_page[-1], -1)
        """The place of each page in the pool, in pages; -1 if it is not there."""
        most = -(-5 * self.buffer // (2 * self.page)) + 2 * int(pages.max())
        needed = int(pages[self.left > 0].sum())
        self.free = list(range(min(most, needed)))
        self.pool = np.empty((len(self.free) * self.page, source.shape[1]), source.dtype)
        self.next = self.loaded = self.done = 0
        self.has_read_again = False

    def _numbers(self, rows: np.ndarray) -> np.ndarray:
        """Return the block of each row."""
        return np.searchsorted(self.bounds, rows, "right") - 1

    def take(self, rows: np.ndarray, out: np.ndarray) -> None:
        for cut in _cuts(len(rows), max(1, self.buffer // 2)):  # of two buffers at most
            self._take(rows[cut], out[cut])

    def _take(self, rows: np.ndarray, out: np.ndarray) -> None:
        numbers = self._numbers(rows)
        needed = np.unique(numbers)
        for part in self._fitting(needed):
            for block in part.tolist():
                self._load(block, part)
            if len(part) == len(needed):
                gather(self.pool, self._positions(rows, numbers), out)
            else:
                places = np.flatnonzero(np.isin(numbers, part))
                out[places] = self.pool[self._positions(rows[places], numbers[places])]
        np.subtract.at(self.left, numbers, 1)
        self.done += len(rows)
        for block in needed[self.left[needed] <= 0].tolist():
            self._drop(block)

    def _fitting(self, blocks: np.ndarray) -> list[np.ndarray]:
        """Cut blocks into parts that the pool holds at once."""
        ends = np.cumsum(self.first_page[blocks + 1] - self.first_page[blocks])
        pages = len(self.pool) // self.page
        if not len(blocks) or ends[-1] <= pages:
            return [blocks]
        each = max(1, pages // int(np.diff(self.first_page).max()))
        return [blocks[cut] for cut in _cuts(len(blocks), each)]

    def _positions(self, rows: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Return the places of rows in the pool."""
        page, within = np.divmod(rows - self.bounds[numbers], self.page)
        return self.table[self.first_page[numbers] + page] * self.page + within

    def _load(self, block: int, needed: np.ndarray) -> None:
        """Read a block, unless it is there; drop others that are not needed if there is no room."""
        pages = range(int(self.first_page[block]), int(self.first_page[block + 1]))
        if not len(pages) or self.table[pages[0]] >= 0:
            return
        if len(self.free) < len(pages):
            self._make_room(len(pages), needed)
        start, stop = int(self.bounds[block]), int(self.bounds[block + 1])
        rows = None if self.source.has_parts else self.source.read(start, stop)
        for number, page in enumerate(pages):
            first = number * self.page
            count = min(self.page, stop - start - first)
            place = self.free.pop()
            target = self.pool[place * self.page : place * self.page + count]
            if rows is None:  # without a copy in memory that is new each time
                self.source.read_into(start + first, target)
            else:
                target[...] = rows[first : first + count]
            self.table[page] = place
        self.loaded += stop - start

    def _make_room(self, pages: int, needed: np.ndarray) -> None:
        if not self.has_read_again:
            self.has_read_again = True
            log.info(
                "%s: blocks are read more than once: the order of rows jumps between more of them "
                "than a buffer of %d rows holds", self.source.name, self.buffer,
            )  # fmt: skip
        first = self.first_page[:-1]
        there = np.flatnonzero((np.diff(self.first_page) > 0) & (self.table[first] >= 0))
        for block in there[~np.isin(there, needed)].tolist():
            if len(self.free) >= pages:
                return
            self._drop(block)

    def _drop(self, block: int) -> None:
        pages = slice(int(self.first_page[block]), int(self.first_page[block + 1]))
        self.free += [page for page in self.table[pages].tolist() if page >= 0]
        self.table[pages] = -1

    def ahead(self) -> None:
        """Read as many rows as were used up, so that the next buffer is there when it begins."""
        while self.next < len(self.coming):
            block = self.coming[self.next]
            pages = int(self.first_page[block + 1] - self.first_page[block])
            if self.left[block] > 0:
                if self.loaded >= self.done + self.buffer or len(self.free) < pages:
                    return
                self._load(block, np.empty(0, np.int64))
            self.next += 1


def check_rows(source: Source, dtype: str) -> None:
    """Raise InputError unless every value is finite in `dtype`: one pass over the data."""
    if source.finite or source.dtype.kind in "bui":
        return
    for part, rows in source.scan():
        with np.errstate(over="ignore", invalid="ignore"):
            source.check(rows.astype(dtype, copy=False), part.start)
    source.finite = True

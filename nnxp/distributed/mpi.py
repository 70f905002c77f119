"""Add arrays in the host's memory by MPI: NumPy, PyTorch on a CPU, and what is copied there.

Large arrays are sent from where they are, as soon as they are computed; small ones are packed into
one buffer, which is sent at the end: a message costs more than their bytes. A request is waited for
when its arrays are needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nnxp.arrays import Array, to_numpy
from nnxp.distributed.communicator import Communicator

PACKED_BYTES = 2**16
"""Arrays of fewer bytes are packed: 64 kB take about 50 us on one machine, a message about 5."""


class MPICommunicator(Communicator):
    """The ranks of an `nnxp.distributed.mpi_world.MPIWorld`.

    Args:
        world: the processes.
        backend: the backend of the arrays.
    """

    name = "MPI"

    def __init__(self, world: Any, backend: Any) -> None:
        super().__init__(world, backend)
        self.shares_memory = backend.name in ("numpy", "torch") and backend.device_name == "cpu"
        """Whether the host's view of an array is the array itself."""
        self._sums: list[_Sum] = []
        """The arrays of a step, in order: each step has the same ones."""
        self._packed = _Packed(world.steps)

    def all_reduce(self, groups: Iterable[Sequence[Array]]) -> list[list[Array]]:
        sent, count = [], 0
        for group in groups:
            sums = [self._sum(count + number) for number in range(len(group))]
            count += len(group)
            pairs = zip(sums, group, strict=True)
            sent.append([(each, self._send(array, each)) for each, array in pairs])
        return [[self._receive(array, each) for each, array in group] for group in sent]

    def _sum(self, number: int) -> _Sum:
        if number == len(self._sums):
            self._sums.append(_Sum(self.world.steps, self._packed, self.shares_memory))
        return self._sums[number]

    def _send(self, array: Array, to: _Sum) -> Array:
        if hasattr(array, "changed_by"):  # a recorded step repeats the call
            return array.changed_by(to.send)
        to.send(to_numpy(array))
        return array

    def _receive(self, array: Array, of: _Sum) -> Array:
        if hasattr(array, "changed_by"):
            return array.changed_by(of.receive)
        if self.shares_memory:
            of.receive(to_numpy(array))
            return array
        host = np.empty(array.shape, of.dtype)
        of.receive(host)
        return self.backend.asarray(host)

    def refuses(self, executor: str) -> str | None:
        if executor == "compiled":
            return "MPI cannot be called in a compiled step"
        if executor == "graph":
            return "gradients are added in the host's memory, without NCCL"
        return None


class _Sum:
    """The sum of one array over all ranks, in each step anew.

    Args:
        ranks: mpi4py's communicator.
        packed: the buffer for small arrays.
        in_place: whether a large array may be summed where it is.
    """

    def __init__(self, ranks: Any, packed: _Packed, in_place: bool) -> None:
        self.ranks, self.packed, self.in_place = ranks, packed, in_place
        self.dtype: Any = None
        """That of the array, after the first `send`."""
        self._place: _Place | None = None
        self._request: Any = None

    def send(self, array: np.ndarray) -> None:
        """Begin; the array must not be changed before `receive`."""
        if self.dtype is None:
            is_large = array.nbytes >= PACKED_BYTES and _flat(array) is not None
            self._place = None if is_large and self.in_place else self.packed.place(array)
            self.dtype = array.dtype
        if self._place is None:
            from mpi4py import MPI

            self._request = self.ranks.Iallreduce(MPI.IN_PLACE, _flat(array))
        else:
            self.packed.put(self._place, array)

    def receive(self, array: np.ndarray) -> None:
        """Write the sum into the array."""
        if self._place is None:
            self._request.Wait()
        else:
            self.packed.get(self._place, array)


class _Place(NamedTuple):
    """Where an array is in the buffer, and its layout there."""

    numbers: slice
    shape: tuple[int, ...]
    by_columns: bool


class _Packed:
    """A buffer of small arrays that are summed in one message."""

    def __init__(self, ranks: Any) -> None:
        self.ranks = ranks
        self._buffer = np.empty(0)
        self._is_summed = False

    def place(self, array: np.ndarray) -> _Place:
        """Return the place of one more array."""
        first = self._buffer.size
        self._buffer = np.concatenate(
            [self._buffer.astype(array.dtype), np.empty(array.size, dtype=array.dtype)]
        )
        by_columns = array.flags.f_contiguous and not array.flags.c_contiguous
        return _Place(slice(first, first + array.size), array.shape, by_columns)

    def put(self, place: _Place, array: np.ndarray) -> None:
        """Copy an array to its place, for the next message."""
        self._is_summed = False
        np.copyto(self._view(place), array)

    def get(self, place: _Place, array: np.ndarray) -> None:
        """Copy the sum into the array; the first one of a step sends the message."""
        if not self._is_summed:
            from mpi4py import MPI

            self.ranks.Allreduce(MPI.IN_PLACE, self._buffer)
            self._is_summed = True
        np.copyto(array, self._view(place))

    def _view(self, place: _Place) -> np.ndarray:
        order: Any = "F" if place.by_columns else "C"
        return self._buffer[place.numbers].reshape(place.shape, order=order)


def _flat(array: np.ndarray) -> np.ndarray | None:
    """Return a view of an array's memory in its order; None if there are gaps."""
    if array.flags.c_contiguous:
        return array
    return array.T if array.flags.f_contiguous else None

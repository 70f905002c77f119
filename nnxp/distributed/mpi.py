"""Add arrays in the host's memory by MPI: NumPy, PyTorch on a CPU, and what is copied there.

Large arrays are sent from where they are, as soon as they are computed; small ones are packed into
one buffer, which is sent at the end: a message costs more than their bytes. A request is waited for
when its arrays are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from nnxp.arrays import Array, namespace, to_numpy
from nnxp.distributed.communicator import Runner

PACKED_BYTES = 2**16
"""Arrays of fewer bytes are packed: 64 kB take about 50 us on one machine, a message about 5."""


class MPICommunicator:
    """The ranks of an `nnxp.distributed.mpi_world.MPIWorld`.

    Args:
        world: the processes.
        backend: the backend of the arrays.
    """

    name = "MPI"

    def __init__(self, world: Any, backend: Any) -> None:
        self.rank, self.size = world.rank, world.size
        self.world, self.backend = world, backend
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
            sent.append([(each, self._apply(array, each.send)) for each, array in pairs])
        return [[self._apply(array, each.receive) for each, array in group] for group in sent]

    def _sum(self, number: int) -> _Sum:
        if number == len(self._sums):
            self._sums.append(_Sum(self.world.steps, self._packed, self.shares_memory))
        return self._sums[number]

    def _apply(self, array: Array, function: Callable[[np.ndarray], object]) -> Array:
        """Call function(host array), which may overwrite it; return the array afterwards."""
        if hasattr(array, "changed_by"):  # a recorded step repeats the call
            return array.changed_by(function)
        if self.shares_memory:
            function(to_numpy(array))
            return array
        host = np.array(to_numpy(array))
        function(host)
        xp = namespace(array)
        return xp.asarray(host, device=self.backend.device)

    def broadcast(self, arrays: Sequence[Array]) -> list[Array]:
        found = self.world.first([to_numpy(array) for array in arrays])
        return [self.backend.asarray(array, copy=True) for array in found]

    def barrier(self) -> None:
        self.world.vote(0)

    def refuses(self, executor: str) -> str | None:
        if executor == "compiled":
            return "MPI cannot be called in a compiled step"
        if executor == "graph":
            return "gradients are added in the host's memory, without NCCL"
        return None

    def across(self, run: Runner) -> Runner:
        return run


class _Sum:
    """The sum of one array over all ranks, in each step anew.

    Args:
        ranks: mpi4py's communicator.
        packed: the buffer for small arrays.
        in_place: whether a large array may be summed where it is.
    """

    def __init__(self, ranks: Any, packed: _Packed, in_place: bool) -> None:
        self.ranks, self.packed, self.in_place = ranks, packed, in_place
        self._place: slice | None = None
        self._request: Any = None
        self._is_planned = False

    def send(self, array: np.ndarray) -> None:
        """Begin; the array must not be changed before `receive`."""
        if not self._is_planned:
            is_large = array.nbytes >= PACKED_BYTES and _flat(array) is not None
            self._place = None if is_large and self.in_place else self.packed.place(array)
            self._is_planned = True
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


class _Packed:
    """A buffer of small arrays that are summed in one message."""

    def __init__(self, ranks: Any) -> None:
        self.ranks = ranks
        self._buffer = np.empty(0)
        self._is_summed = False

    def place(self, array: np.ndarray) -> slice:
        """Return the place of one more array."""
        first = self._buffer.size
        self._buffer = np.concatenate(
            [self._buffer.astype(array.dtype), np.empty(array.size, dtype=array.dtype)]
        )
        return slice(first, first + array.size)

    def put(self, place: slice, array: np.ndarray) -> None:
        """Copy an array to its place, for the next message."""
        self._is_summed = False
        np.copyto(self._view(place, array), array)

    def get(self, place: slice, array: np.ndarray) -> None:
        """Copy the sum into the array; the first one of a step sends the message."""
        if not self._is_summed:
            from mpi4py import MPI

            self.ranks.Allreduce(MPI.IN_PLACE, self._buffer)
            self._is_summed = True
        np.copyto(array, self._view(place, array))

    def _view(self, place: slice, array: np.ndarray) -> np.ndarray:
        """Return the place in the shape and the layout of the array."""
        if array.ndim == 2 and array.flags.f_contiguous and not array.flags.c_contiguous:
            return self._buffer[place].reshape(array.shape[::-1]).T
        return self._buffer[place].reshape(array.shape)


def _flat(array: np.ndarray) -> np.ndarray | None:
    """Return a view of an array's memory in its order; None if there are gaps."""
    if array.flags.c_contiguous:
        return array
    return array.T if array.flags.f_contiguous else None

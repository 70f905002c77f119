"""What a training step knows of other processes: it adds arrays of all ranks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from nnxp.arrays import Array, to_numpy

Runner = Any
"""See `nnxp.executors.Runner`, which is above this folder."""


class Communicator:
    """Adds the arrays of all ranks, in the memory where a backend has them.

    Each rank calls the same methods in the same order with arrays of the same shapes. The numbers
    that a method returns are the same on every rank. A subclass defines `all_reduce`.

    Args:
        world: the processes.
        backend: the backend of the arrays, in this process.

    Example:
        >>> import nnxp
        >>> alone = nnxp.distributed.ALONE.communicator(nnxp.backends.get("numpy"))
        >>> alone is None  # one process needs none
        True
    """

    name: str
    """The engine, for a line that describes the training: "MPI", "NCCL"."""

    def __init__(self, world: Any, backend: Any) -> None:
        self.rank, self.size = world.rank, world.size
        self.world, self.backend = world, backend

    def all_reduce(self, groups: Iterable[Sequence[Array]]) -> list[list[Array]]:
        """Return the sum over all ranks of each array; may overwrite the arrays.

        Args:
            groups: lists of arrays. What is complete is sent while the next group is computed.
        """
        raise NotImplementedError

    def broadcast(self, arrays: Sequence[Array]) -> list[Array]:
        """Return copies of the arrays that rank 0 has."""
        found = self.world.first([to_numpy(array) for array in arrays])
        copies: list[Array] = self.backend.copied(found)
        return copies

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self.world.vote(0)

    def refuses(self, executor: str) -> str | None:
        """Return why steps cannot run by an executor, a clause; None if they can."""
        return None

    def across(self, run: Runner) -> Runner:
        """Return a function like `run`, in whose steps `all_reduce` may be called."""
        return run

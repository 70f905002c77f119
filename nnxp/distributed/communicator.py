"""What a training step knows of other processes: it adds arrays of all ranks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from nnxp.arrays import Array

Runner = Any
"""See `nnxp.executors.Runner`, which is above this folder."""


class Communicator(Protocol):
    """Adds the arrays of all ranks, in the memory where a backend has them.

    Each rank calls the same methods in the same order with arrays of the same shapes. The numbers
    that a method returns are the same on every rank.
    """

    rank: int
    size: int
    name: str
    """The engine, for a line that describes the training: "MPI", "NCCL"."""

    def all_reduce(self, groups: Iterable[Sequence[Array]]) -> list[list[Array]]:
        """Return the sum over all ranks of each array; may overwrite the arrays.

        Args:
            groups: lists of arrays. What is complete is sent while the next group is computed.
        """
        ...

    def broadcast(self, arrays: Sequence[Array]) -> list[Array]:
        """Return the arrays that rank 0 has."""
        ...

    def barrier(self) -> None:
        """Wait until every rank is here."""
        ...

    def refuses(self, executor: str) -> str | None:
        """Return why steps cannot run by an executor, a clause; None if they can."""
        ...

    def across(self, run: Runner) -> Runner:
        """Return a function like `run`, in whose steps `all_reduce` may be called."""
        ...

"""The world: all processes of one training, and what they tell each other on the host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nnxp.distributed.communicator import Communicator


class World:
    """The processes of a training; this class is a world of this process alone.

    Each rank calls the same methods in the same order.

    Example:
        >>> import nnxp
        >>> world = nnxp.distributed.ALONE
        >>> world.rank, world.size, world.exchange("mine")
        (0, 1, ['mine'])
    """

    rank = 0
    """The number of this process, from 0. Only rank 0 writes files and prints."""
    size = 1
    """The number of processes."""
    on_machine = 1
    """The number of processes on this machine, which share its cores."""
    rank_on_machine = 0
    """The number of this process among those on its machine: that of its GPU, where each has one.
    """

    def communicator(self, backend: Any) -> Communicator | None:
        """Return what adds a backend's arrays; None if this process is alone.

        Raises:
            BackendError: nothing can, for this backend on this device.
        """
        return None

    def join(self, backend: str) -> None:
        """Prepare an array library, by its name, before it is used: JAX joins its processes.

        Raises:
            BackendError: it has been used already.
        """

    def exchange(self, value: Any) -> list[Any]:
        """Return the value that each rank gives, by rank.

        Raises:
            RankError: another rank has failed.
        """
        return [value]

    def vote(self, number: int) -> list[int]:
        """Do `exchange` for a whole number, in less time."""
        return [number]

    def first(self, value: Any) -> Any:
        """Return the value that rank 0 gives."""
        return self.exchange(value if self.rank == 0 else None)[0]

    @contextmanager
    def together(self) -> Iterator[None]:
        """End on all ranks if one fails inside: on the others with a `RankError`.

        If the others wait for it within a step, the process prints its error and ends all.
        """
        yield

    def describe(self) -> str:
        """Return the number of processes and how they talk, in one phrase."""
        return "one process"


ALONE = World()
"""The world of one process."""

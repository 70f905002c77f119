"""The processes that an MPI launcher started, through mpi4py."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

import numpy as np

from nnxp import concurrency
from nnxp.distributed.communicator import Communicator
from nnxp.distributed.world import World
from nnxp.errors import BackendError, RankError, described

PATIENCE = 10.0
"""Seconds that a failed rank waits for the others before it ends them: they may be in a step."""
_VALUE, _NUMBER, _DONE, _FAILED, _LEFT = range(5)
"""Messages: a value follows; the number counts; the end of `together`, with success, with an error,
and after the error of another rank."""


class MPIWorld(World):
    """The ranks of an MPI communicator.

    Args:
        communicator: of mpi4py; all of its processes make an MPIWorld.
    """

    def __init__(self, communicator: Any) -> None:
        from mpi4py import MPI

        self.rank, self.size = communicator.Get_rank(), communicator.Get_size()
        self._library = MPI.Get_library_version()
        self._depth = 0
        # Messages about the training never meet those of its steps.
        self._control, self.steps = communicator.Dup(), communicator.Dup()
        machine = communicator.Split_type(MPI.COMM_TYPE_SHARED)
        self.on_machine, self.rank_on_machine = machine.Get_size(), machine.Get_rank()
        mine, others = _cores(), machine.allgather(_cores())
        # A launcher may have bound each process to cores of its own.
        concurrency.processes_on_cores = max(1, sum(bool(mine & each) for each in others))
        self.machines = len(set(self._control.allgather(MPI.Get_processor_name())))

    def join(self, backend: str) -> None:
        if backend.lower() == "jax":
            from nnxp.distributed import jax_collectives

            jax_collectives.initialize(self)

    @classmethod
    @cache
    def of_process(cls) -> MPIWorld:
        """Return the world of all processes that were started together."""
        from mpi4py import MPI

        return cls(MPI.COMM_WORLD)

    def communicator(self, backend: Any) -> Communicator:
        if backend.name == "jax":
            from nnxp.distributed.jax_collectives import JAXCommunicator

            return JAXCommunicator(self, backend)
        if backend.name == "cupy":
            from nnxp.distributed import nccl

            if nccl.is_usable(self, backend):
                return nccl.NCCLCommunicator(self, backend)
        elif backend.device_name != "cpu":
            raise BackendError(
                f"{backend.describe()} adds no gradients of several processes: take --backend cupy "
                "or jax for GPUs"
            )
        from nnxp.distributed.mpi import MPICommunicator

        return MPICommunicator(self, backend)

    def vote(self, number: int) -> list[int]:
        return self._gather(_NUMBER, number)

    def exchange(self, value: Any) -> list[Any]:
        self._gather(_VALUE, 0)
        found: list[Any] = self._control.allgather(value)
        return found

    def _gather(self, kind: int, number: int, patience: float | None = None) -> list[int]:
        """Tell the others a kind of message and a number; return the numbers by rank.

        Raises:
            RankError: another rank has failed.
            TimeoutError: the others do not come.
        """
        mine, everyone = np.array([kind, number]), np.empty((self.size, 2), dtype=np.int64)
        request = self._control.Iallgather(mine, everyone)
        if patience is None:
            request.Wait()
        else:
            end = time.monotonic() + patience
            while not request.Test():
                if time.monotonic() > end:
                    raise TimeoutError
                time.sleep(0.001)
        kinds, numbers = everyone[:, 0].tolist(), everyone[:, 1].tolist()
        if _FAILED in kinds and kind != _FAILED:
            rank, text = self._failures(None)
            raise RankError(f"process {rank} failed: {text}", numbers[rank])
        if _LEFT in kinds and kind in (_VALUE, _NUMBER):
            raise RankError(f"process {kinds.index(_LEFT)} has ended", self._depth)
        return numbers

    def _failures(self, error: BaseException | None) -> tuple[int, str]:
        """Return the lowest rank that has failed, and its error."""
        texts = self._control.allgather(None if error is None else _text(error))
        return next((rank, text) for rank, text in enumerate(texts) if text is not None)

    @contextmanager
    def together(self) -> Iterator[None]:
        # At its end each rank tells the others once how it ended. A RankError says at which depth
        # that was done: a rank that hears of it within the `with` is at its end, too.
        self._depth += 1
        try:
            yield
            self._gather(_DONE, self._depth)
        except RankError as error:
            if error.depth > self._depth:
                self._leave()
            raise
        except BaseException as error:
            self._tell(error)
            raise
        finally:
            self._depth -= 1

    def _leave(self) -> None:
        """Let the others go on that caught what this rank heard of."""
        with suppress(RankError):
            self._gather(_LEFT, self._depth)

    def _tell(self, error: BaseException) -> None:
        """Tell the others of an error; end them all if they do not come to hear of it."""
        # A signal may have come to this process alone, and the user waits.
        patience = PATIENCE if isinstance(error, Exception) else 1.0
        try:
            self._gather(_FAILED, self._depth, patience)
        except TimeoutError:
            print(f"nnxp: process {self.rank}: {_text(error)}", file=sys.stderr, flush=True)
            self._control.Abort(1)
        first, _ = self._failures(error)
        error.told_by = first  # type: ignore[attr-defined]

    def describe(self) -> str:
        where = "this machine" if self.machines == 1 else f"{self.machines} machines"
        return f"{self.size} processes on {where}, by {_short(self._library)}"


def _cores() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _text(error: BaseException) -> str:
    return described(error) if isinstance(error, Exception) else str(error) or type(error).__name__


def _short(library: str) -> str:
    """Shorten the name of an MPI library: "MPICH 5.0.2", "Open MPI v5.0.11"."""
    first = library.splitlines()[0].split(",")[0]
    return " ".join(first.replace("Version:", "").split())

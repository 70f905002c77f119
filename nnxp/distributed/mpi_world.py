"""The processes that an MPI launcher started, through mpi4py."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from nnxp import concurrency
from nnxp.distributed.communicator import Communicator
from nnxp.distributed.world import World
from nnxp.errors import BackendError, RankError, described

PATIENCE = 10.0
"""Seconds that a failed rank waits for the others before it ends them: they may be in a step."""
_VALUE, _NUMBER, _FAILED = range(3)


class MPIWorld(World):
    """The ranks of an MPI communicator.

    Args:
        communicator: of mpi4py; all of its processes make an MPIWorld.
    """

    def __init__(self, communicator: Any) -> None:
        from mpi4py import MPI

        self.rank, self.size = communicator.Get_rank(), communicator.Get_size()
        self._library = MPI.Get_library_version()
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
        mine, all_of_them = np.array([kind, number]), np.empty((self.size, 2), dtype=np.int64)
        request = self._control.Iallgather(mine, all_of_them)
        if patience is None:
            request.Wait()
        else:
            end = time.monotonic() + patience
            while not request.Test():
                if time.monotonic() > end:
                    raise TimeoutError
                time.sleep(0.001)
        if kind != _FAILED and (all_of_them[:, 0] == _FAILED).any():
            rank, text = self._failures(None)
            raise RankError(f"rank {rank} failed: {text}")
        numbers: list[int] = all_of_them[:, 1].tolist()
        return numbers

    def _failures(self, error: BaseException | None) -> tuple[int, str]:
        """Return the lowest rank that has failed, and its error."""
        texts = self._control.allgather(None if error is None else _text(error))
        return next((rank, text) for rank, text in enumerate(texts) if text is not None)

    @contextmanager
    def together(self) -> Iterator[None]:
        try:
            yield
            self.vote(0)
        except RankError:
            raise
        except BaseException as error:
            if getattr(error, "is_known", False):  # an inner `together` has told the others
                raise
            try:
                self._gather(_FAILED, 0, PATIENCE)
            except TimeoutError:
                print(f"nnxp: rank {self.rank}: {_text(error)}", file=sys.stderr, flush=True)
                self._control.Abort(1)
            rank, text = self._failures(error)
            if rank < self.rank:
                raise RankError(f"rank {rank} failed: {text}") from None
            error.is_known = True  # type: ignore[attr-defined]
            raise

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

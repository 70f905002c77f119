"""The number of threads that NumPy's BLAS multiplies with: limits, and the choice by measurement.

More threads are not always faster: for small products, to wait for each other costs more than the
work that they share, how much depends on the processor, and if another program holds a core, all
wait for it. So the first chunks of a training run with one thread and with all by turns, and the
faster number is kept for all products of this size in the process. Unless the user asks for
"auto", this is done only where the number of threads does not change a bit of the results.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from nnxp import concurrency
from nnxp.backends import blas
from nnxp.backends.base import Threads
from nnxp.concurrency import Setting

log = logging.getLogger("nnxp")

MULTITHREAD_MIN_MACS = 2**24
"""Multiply-adds of a step's largest product from which BLAS uses all its threads if nothing is
measured. Below it threads cost about as much as they save."""
SINGLE_MAX_MACS = 2**18
"""Multiply-adds of a product up to which OpenBLAS uses one thread anyway."""
ROUNDS = 3
"""Chunks with each number of threads before one is chosen."""
GAIN = 0.95
"""Several threads are chosen if they take less than this share of the time of one."""
SLOWDOWN = 2.0
"""How many times as long as when it was chosen a step takes if something has changed."""
RETRY_SECONDS = 10.0
"""Time after which "auto" tries again whether more threads are faster; each time twice as long."""

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")

_chosen: dict[int, int] = {}
"""The number of threads that was chosen, by the multiply-adds of the largest product."""
_trials: dict[int, _Trial] = {}
"""The trials that have not ended, likewise, except those of "auto"."""


def cores() -> int:
    """Return the number of cores that this process may use, by its affinity and its cgroup.

    Processes of one training divide the cores that they share.
    """
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        allowed = os.cpu_count() or 1
    return max(1, int(min(allowed, _quota())) // concurrency.processes_on_cores)


def most() -> int:
    """Return the number of threads that are worth starting: BLAS's, but at most one per core."""
    return min(count() or 1, cores())


def count() -> int | None:
    """Return the number of threads of NumPy's BLAS; None if threadpoolctl does not know it."""
    return max((library.num_threads for library in _blas_libraries()), default=None)


def chosen(multiply_adds: int) -> int:
    """Return the number of threads for products of this size: the measured one, or a rule's."""
    number = _chosen.get(multiply_adds)
    if number is None and multiply_adds < MULTITHREAD_MIN_MACS:
        return 1
    several = most()
    return several if number is None else min(number, several)


@contextmanager
def limited(number: int) -> Iterator[None]:
    """Run BLAS in this many threads.

    Where the process has one number, calls with another one wait for each other: it may change the
    last bits of a product.
    """
    # `ThreadpoolController.limit` describes every library first, which takes longer than a step.
    own = _own_libraries()
    before = _numbers(own)
    _set(own, [number] * len(own))
    try:
        with _shared_limit.of([number] * len(_shared_libraries())):
            yield
    finally:
        _set(own, before)


class Chooser:
    """Chooses the number of threads for the chunks of one training.

    Args:
        threads: see `Threads`.
        clock: the time in seconds.
    """

    def __init__(self, threads: Threads, clock: Callable[[], float] = time.perf_counter) -> None:
        self.threads = threads
        self.clock = clock
        self.trials = {} if threads == "auto" else _trials
        self.seen: set[int] = set()

    @contextmanager
    def chunk(self, steps: int, batch: int, weights: list[np.ndarray]) -> Iterator[None]:
        """Run a chunk of steps with the number of threads that is chosen, and note its time.

        Args:
            steps: their number.
            batch: samples per step.
            weights: the weight matrices.
        """
        if self.threads == "all":
            yield
            return
        largest = batch * max(weight.size for weight in weights)
        trial = None
        if isinstance(self.threads, int):
            number = self.threads
        else:
            if largest in self.seen:  # the first chunk also records the step
                trial = self._trial(largest, batch, weights)
            self.seen.add(largest)
            number = trial.number(self.clock()) if trial else chosen(largest)
        start = self.clock()
        with limited(number):
            yield
        if trial and number in trial.seconds:
            self._note(trial, largest, number, (self.clock() - start) / steps)

    def _trial(self, largest: int, batch: int, weights: list[np.ndarray]) -> _Trial | None:
        """Return the trial for products of this size; None if their number of threads is known."""
        if largest < SINGLE_MAX_MACS:
            return None
        if largest not in self.trials and (largest not in _chosen or self.threads == "auto"):
            several, before = most(), chosen(largest)
            if several == 1:
                return None
            if self.threads == "auto":
                self.trials[largest] = _Trial(several, before)
            elif largest >= MULTITHREAD_MIN_MACS:
                _chosen[largest] = before
            elif _same_bits(batch, weights, several):
                self.trials[largest] = _Trial(several, before)
            else:
                _chosen[largest] = before
                log.info(
                    "BLAS uses %s: with %d the last bits of the results would differ "
                    "(--threads auto takes the faster)",
                    _threads(before), several,
                )  # fmt: skip
        return self.trials.get(largest)

    def _note(self, trial: _Trial, largest: int, number: int, seconds: float) -> None:
        before = trial.chosen
        if not trial.note(number, seconds, self.clock()):
            return
        _chosen[largest] = trial.chosen
        if self.threads != "auto":
            self.trials.pop(largest, None)
        verb = "keeps" if trial.chosen == before else "now uses"
        log.info("BLAS %s %s: %s", verb, _threads(trial.chosen), trial.reason)


class _Trial:
    """Times of steps with one thread and with several, by turns, and the choice between the two."""

    def __init__(self, several: int, chosen: int) -> None:
        self.several = several
        self.chosen = chosen
        self.reason = ""
        self.wait = RETRY_SECONDS
        self.retry_at = float("inf")
        self.expected = 0.0
        self.slow = 0
        self._begin()

    def _begin(self) -> None:
        self.running = True
        self.seconds: dict[int, list[float]] = {1: [], self.several: []}

    def number(self, now: float) -> int:
        """Return the number of threads for the next chunk."""
        if not self.running and now >= self.retry_at:
            self.wait *= 2
            self._begin()
        if not self.running:
            return self.chosen
        return 1 if len(self.seconds[1]) <= len(self.seconds[self.several]) else self.several

    def note(self, number: int, seconds: float, now: float) -> bool:
        """Note the time of a step; return whether a number of threads was chosen."""
        if not self.running:
            self.slow = self.slow + 1 if seconds > SLOWDOWN * self.expected else 0
            if self.slow == ROUNDS:
                self._begin()
            return False
        self.seconds[number].append(seconds)
        one, several = self.seconds[1], self.seconds[self.several]
        if not one or not several:
            return False
        ratio = median(several) / median(one)
        if min(len(one), len(several)) < ROUNDS and 1 / SLOWDOWN < ratio < SLOWDOWN:
            return False
        self.chosen = self.several if ratio < GAIN else 1
        self.running, self.slow = False, 0
        self.expected = median(self.seconds[self.chosen])
        self.retry_at = now + self.wait if self.chosen == 1 else float("inf")
        self.reason = (
            f"a step takes {1e3 * median(one):.3g} ms with 1, "
            f"{1e3 * median(several):.3g} ms with {self.several}"
        )
        return True


def _same_bits(batch: int, weights: list[np.ndarray], number: int) -> bool:
    """Return whether a step's products have the same bits with one thread and with several."""
    rng = np.random.default_rng(0)
    for weight in weights:
        x, dz = (rng.random((batch, n)).astype(weight.dtype) for n in weight.shape)
        for a, b in (x, weight), (x.T, dz), (dz, weight.T):
            with limited(1):
                expected = a @ b
            with limited(number):
                if not np.array_equal(a @ b, expected, equal_nan=True):
                    return False
    return True


def _threads(number: int) -> str:
    return f"{number} thread{'s' * (number > 1)}"


@cache
def _quota() -> float:
    """Return the cores that the process's cgroups let it use, infinity if they set no limit."""
    own = _CGROUPS / _cgroup().strip("/")
    quotas = [float("inf")]
    for folder in (own, *own.parents):
        try:
            allowed, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
            quotas.append(int(allowed) / int(period))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return min(quotas)


def _cgroup() -> str:
    """Return the process's folder among the cgroups of version 2; "" if there is none."""
    try:
        lines = _OWN_CGROUP.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line[3:] for line in lines if line.startswith("0::")), "")


@cache
def _clearing() -> list[Callable[[], Any]]:
    kinds = {type(library) for library in _shared_libraries()}
    found = (getattr(kind, "clear_controlling_thread", None) for kind in kinds)
    return [clear for clear in found if clear]


def _set(libraries: list[Any], numbers: list[int]) -> None:
    """Limit each library to its number of threads."""
    for library, number in zip(libraries, numbers, strict=True):
        if library.num_threads != number:
            library.set_num_threads(number)


def _numbers(libraries: list[Any]) -> list[int]:
    """Return each library's number of threads."""
    return [library.num_threads for library in libraries]


def _set_shared(numbers: list[int]) -> None:
    """Limit each pool of the process to its number of threads."""
    _set(_shared_libraries(), numbers)
    # Let another thread restore the limit, which threadpoolctl 3.8 and later forbid.
    for clear in _clearing():
        clear()


@cache
def _blas_libraries() -> list[Any]:
    """Return the libraries of BLAS, and not others that have threads."""
    return [each for each in blas.thread_pools().lib_controllers if each.user_api == "blas"]


@cache
def _shared_libraries() -> list[Any]:
    """Return those whose limit is global to the process: OpenBLAS in NumPy's wheels."""
    return [
        each for each in _blas_libraries() if getattr(each, "threading_layer", "") == "pthreads"
    ]


@cache
def _own_libraries() -> list[Any]:
    """Return those with a limit for each calling thread: MKL and libraries on OpenMP."""
    return [each for each in _blas_libraries() if each not in _shared_libraries()]


_shared_limit = Setting(lambda: _numbers(_shared_libraries()), _set_shared)
"""The numbers of threads of the pools whose limit is global to the process."""

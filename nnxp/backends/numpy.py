"""NumPy on the CPU."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from typing import Any

import array_api_compat.numpy
import numpy as np

from nnxp.arrays import Array
from nnxp.backends import blas
from nnxp.backends.base import Availability, Backend
from nnxp.executors import Runner, State
from nnxp.nested import leaves, rebuilt

MULTITHREAD_MIN_MACS = 2**24
"""Multiply-adds of a step's largest product from which BLAS may use all its threads. Below it
threads cost as much as they save, and many times more if other programs use the same cores."""

F_ORDER_MAX_MACS = 10**6
"""Multiply-adds of a step's largest product up to which training stores weights column by column.
OpenBLAS has special kernels for such small products: 784-30 in batches of 10 takes 11 us instead
of 15, and dz W^T takes half the time."""


class NumPyBackend(Backend):
    name = "numpy"
    install = "pip install numpy"

    @classmethod
    def load(cls) -> tuple[Any, str]:
        return array_api_compat.numpy, np.__version__

    @classmethod
    def hint(cls, device: str) -> str:
        return "; backends cupy, torch and jax reach GPUs"

    def context(self) -> AbstractContextManager[Any]:
        # Overflow shows in the loss, which the trainer checks on every backend.
        return np.errstate(all="ignore")

    def threads(self, multiply_adds: int) -> AbstractContextManager[Any]:
        if multiply_adds >= MULTITHREAD_MIN_MACS:
            return nullcontext()
        return _one_thread()

    def tuned(self, run: Runner) -> Runner:
        laid_out = False

        def tuned_run(
            state: State, data: tuple[Array, ...], order: Array, learning_rate: Any
        ) -> tuple[State, Array]:
            nonlocal laid_out
            largest = order.shape[-1] * max(array.size for array in leaves(state[0]))
            if not laid_out:  # later states consist of the same arrays
                state = _by_columns(state) if largest <= F_ORDER_MAX_MACS else state
                laid_out = True
            with self.threads(largest):
                state, total = run(state, data, order, learning_rate)
            _flush_subnormals(state[1:])
            return state, total

        return tuned_run

    def asarray(self, x: Any, dtype: Any = None, copy: bool | None = None) -> Array:
        array = super().asarray(x, dtype, copy)
        # A copy is stored row by row, even if training stored the weights column by column.
        return np.ascontiguousarray(array) if copy and array.ndim else array

    def settings(self) -> dict[str, Any]:
        build = np.show_config(mode="dicts")
        library = build["Build Dependencies"]["blas"] if build else {}
        return super().settings() | {
            "threads": _threads(),
            "blas": f"{library.get('name', 'unknown')} {library.get('version', '')}".strip(),
            "kernels": blas.kernels(),
            "forced": blas.forced(),
            "warning": blas.warning(),
        }

    @classmethod
    def availability(cls) -> Availability:
        return replace(super().availability(), kernels=blas.kernels(), warning=blas.warning())


class _SharedLimit:
    """A limit of one BLAS thread for pools whose limit is global to the process.

    The first training that enters sets the limit and the last one that leaves restores the
    former limit. If each restored the limit that it found, of two that overlap the second would
    restore the limit of 1.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.limit: Any = None

    def __enter__(self) -> None:
        with self.lock:
            if not self.users:
                self.limit = _shared_pools().limit(limits=1, user_api="blas")
                _let_others_set()
            self.users += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.users -= 1
            if not self.users:
                self.limit.restore_original_limits()
                _let_others_set()


_shared_limit = _SharedLimit()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run BLAS in one thread."""
    with _own_pools().limit(limits=1, user_api="blas"), _shared_limit:
        yield


def _let_others_set() -> None:
    """Let a thread restore a limit that another one set; threadpoolctl 3.8 and later forbid it."""
    for library in _shared_pools().lib_controllers:
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread()


def _by_columns(state: State) -> State:
    """Store the weights and the optimizer's arrays for them column by column."""
    weights = {each.shape for each in leaves(state[0]) if each.ndim == 2}
    return rebuilt(
        state,
        (np.asfortranarray(each) if each.shape in weights else each for each in leaves(state)),
    )


def _flush_subnormals(state: State) -> None:
    """Set subnormal numbers to zero, in place.

    The moments of a weight whose gradient stays zero become subnormal, and a processor takes ten
    times as long for each subnormal number.
    """
    for array in leaves(state):
        if array.ndim > 0 and array.dtype.kind == "f":
            array[np.abs(array) < np.finfo(array.dtype).smallest_normal] = 0.0


def _threads() -> int | None:
    """Return the number of threads of NumPy's BLAS; None if threadpoolctl does not know it."""
    pools = blas.thread_pools().select(user_api="blas").info()
    return max((pool["num_threads"] for pool in pools), default=None)


@cache
def _shared_pools() -> Any:
    """Return the pools whose limit is global to the process: OpenBLAS in NumPy's wheels."""
    return blas.thread_pools().select(threading_layer="pthreads")


@cache
def _own_pools() -> Any:
    """Return the pools with a limit for each calling thread: MKL and libraries on OpenMP."""
    shared = [library.filepath for library in _shared_pools().lib_controllers]
    paths = [library.filepath for library in blas.thread_pools().lib_controllers]
    return blas.thread_pools().select(filepath=[path for path in paths if path not in shared])

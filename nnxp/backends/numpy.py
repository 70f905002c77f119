"""NumPy on the CPU."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any

import array_api_compat.numpy
import numpy as np

from nnxp.arrays import Array
from nnxp.backends.base import Backend
from nnxp.executors import Runner, State
from nnxp.nested import leaves, rebuilt

MULTITHREAD_MIN_MACS = 2**24
"""Multiply-adds of a step's largest product from which BLAS may use all its threads. Below it they
cost as much as they save, and many times that where other programs want the same cores."""

F_ORDER_MAX_MACS = 10**6
"""Multiply-adds of a step's largest product up to which weights lie column by column in training.
OpenBLAS has special kernels for products so small: 784-30 in batches of 10 takes 11 us instead of
15, and any dz W^T half its time."""


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
        # Overflow shows in the loss, which the trainer watches on every backend alike.
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
            if not laid_out:  # and every state after is made of these arrays
                state = _by_columns(state) if largest <= F_ORDER_MAX_MACS else state
                laid_out = True
            with self.threads(largest):
                state, total = run(state, data, order, learning_rate)
            _flush_subnormals(state[1:])
            return state, total

        return tuned_run

    def asarray(self, x: Any, dtype: Any = None, copy: bool | None = None) -> Array:
        array = super().asarray(x, dtype, copy)
        # A copy lies row by row, however a training laid its weights.
        return np.ascontiguousarray(array) if copy and array.ndim else array

    def settings(self) -> dict[str, Any]:
        build = np.show_config(mode="dicts")
        blas = build["Build Dependencies"]["blas"] if build else {}
        return super().settings() | {
            "threads": _threads(),
            "blas": f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip(),
        }


class _SharedLimit:
    """One thread for pools that have a single limit for all threads of the process.

    The first training to enter sets the limit and the last to leave restores what there was
    before. If each restored what it found, one that began beside another would leave the limit.
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
    """Let a thread restore the limit that another one set: from 3.8 on threadpoolctl forbids it."""
    for library in _shared_pools().lib_controllers:
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread()


def _by_columns(state: State) -> State:
    """Lay the weights, and the arrays that the optimizer keeps for them, column by column."""
    weights = {each.shape for each in leaves(state[0]) if each.ndim == 2}
    return rebuilt(
        state,
        (np.asfortranarray(each) if each.shape in weights else each for each in leaves(state)),
    )


def _flush_subnormals(state: State) -> None:
    """Set subnormal numbers to zero, in place.

    The moments of a weight that gets no gradient any more become subnormal for good, and a
    processor takes ten times as long over each.
    """
    for array in leaves(state):
        if array.ndim > 0 and array.dtype.kind == "f":
            array[np.abs(array) < np.finfo(array.dtype).smallest_normal] = 0.0


def _threads() -> int | None:
    """Of NumPy's BLAS; None where it is not one that can be asked."""
    return max((pool["num_threads"] for pool in _thread_pools().info()), default=None)


@cache
def _thread_pools() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@cache
def _shared_pools() -> Any:
    """Those whose limit is the whole process's: OpenBLAS in NumPy's wheels."""
    return _thread_pools().select(threading_layer="pthreads")


@cache
def _own_pools() -> Any:
    """Those that have a limit for each thread that calls them: MKL, and what runs on OpenMP."""
    shared = [library.filepath for library in _shared_pools().lib_controllers]
    paths = [library.filepath for library in _thread_pools().lib_controllers]
    return _thread_pools().select(filepath=[path for path in paths if path not in shared])

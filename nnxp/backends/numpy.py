"""NumPy on the CPU."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import array_api_compat.numpy
import numpy as np

from nnxp.arrays import Array
from nnxp.backends import blas, threads
from nnxp.backends.base import Availability, Backend, Threads
from nnxp.backends.staging import Layout, SharedStaging, Staging
from nnxp.executors import Runner, State
from nnxp.nested import leaves, rebuilt

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

    @classmethod
    def check_threads(cls, threads: Threads) -> None:
        pass

    def limit_threads(self, multiply_adds: int) -> AbstractContextManager[Any]:
        if self.threads == "all":
            return nullcontext()
        if isinstance(self.threads, int):
            return threads.limited(self.threads)
        return threads.limited(threads.chosen(multiply_adds))

    def tuned(self, run: Runner) -> Runner:
        weights: list[Array] = []  # of the first state: later ones have the same shapes
        chooser = threads.Chooser(self.threads)

        def tuned_run(
            state: State, data: tuple[Array, ...], order: Array, learning_rate: Any
        ) -> tuple[State, Array]:
            nonlocal weights
            steps, batch = order.shape
            if not weights:
                weights = [array for array in leaves(state[0]) if array.ndim == 2]
                weights = weights or [leaves(state[0])[0].reshape(-1, 1)]  # a perceptron's
                largest = batch * max(weight.size for weight in weights)
                state = _by_columns(state) if largest <= F_ORDER_MAX_MACS else state
            with chooser.chunk(steps, batch, weights):
                return run(state, data, order, learning_rate)

        return tuned_run

    def asarray(self, x: Any, dtype: Any = None, copy: bool | None = None) -> Array:
        array = super().asarray(x, dtype, copy)
        # A copy is stored row by row, even if training stored the weights column by column.
        return np.ascontiguousarray(array) if copy and array.ndim else array

    def staging(self, layout: Layout) -> Staging:
        return SharedStaging(self, layout)

    def flush_subnormals(self, state: Any) -> None:
        # The moments of a weight whose gradient stays zero become subnormal, and a processor takes
        # ten times as long for each subnormal number.
        for array in leaves(state):
            if array.ndim > 0 and array.dtype.kind == "f":
                array[np.abs(array) < np.finfo(array.dtype).smallest_normal] = 0.0

    def copied(self, arrays: Any) -> Any:
        # As `asarray`, which takes longer to look at a small array than to copy it.
        return rebuilt(arrays, [np.array(array, order="C") for array in leaves(arrays)])

    def read(self, scalars: list[Array]) -> Array:
        return np.array(scalars, dtype=np.float64)

    def settings(self) -> dict[str, Any]:
        build = np.show_config(mode="dicts")
        library = build["Build Dependencies"]["blas"] if build else {}
        return super().settings() | {
            "threads": threads.count(),
            "blas": f"{library.get('name', 'unknown')} {library.get('version', '')}".strip(),
            "kernels": blas.kernels(),
            "forced": blas.forced(),
            "warning": blas.warning(),
        }

    @classmethod
    def availability(cls) -> Availability:
        return replace(super().availability(), kernels=blas.kernels(), warning=blas.warning())


def _by_columns(state: State) -> State:
    """Store the weights and the optimizer's arrays for them column by column."""
    weights = {each.shape for each in leaves(state[0]) if each.ndim == 2}
    return rebuilt(
        state,
        (np.asfortranarray(each) if each.shape in weights else each for each in leaves(state)),
    )

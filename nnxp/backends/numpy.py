"""NumPy on the CPU."""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import array_api_compat.numpy
import numpy as np

from nnxp.backends import replay
from nnxp.backends.base import Backend, Runner, Step

WORTH_ALL_THREADS = 2**24
"""Multiply-adds of a step's largest product from which BLAS may use all its threads. Below it they
cost as much as they save, and many times that where other programs want the same cores."""


class NumPyBackend(Backend):
    name = "numpy"
    install = "pip install numpy"
    executors = ("replay", "eager")

    @classmethod
    def load(cls) -> tuple[Any, str]:
        return array_api_compat.numpy, np.__version__

    @classmethod
    def cure(cls, device: str) -> str:
        return "; backends cupy, torch and jax reach GPUs"

    def context(self) -> AbstractContextManager[Any]:
        # Overflow shows in the loss, which the trainer watches on every backend alike.
        return np.errstate(all="ignore")

    def threads(self, multiply_adds: int) -> AbstractContextManager[Any]:
        if multiply_adds >= WORTH_ALL_THREADS:
            return nullcontext()
        limit: AbstractContextManager[Any] = _thread_pools().limit(limits=1, user_api="blas")
        return limit

    def chunk_runner(self, step: Step) -> Runner:
        replays = self.executor == "replay"
        run_chunk = replay.runner(step) if replays else super().chunk_runner(step)

        def run(state: Any, data: Any, order: Any, learning_rate: Any) -> Any:
            parameters, _ = state
            largest = order.shape[-1] * max(array.size for array in replay.leaves(parameters))
            with self.threads(largest):
                return run_chunk(state, data, order, learning_rate)

        return run

    def settings(self) -> dict[str, Any]:
        build = np.show_config(mode="dicts")
        blas = build["Build Dependencies"]["blas"] if build else {}
        return super().settings() | {
            "threads": _threads(),
            "blas": f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip(),
        }


def _threads() -> int | None:
    """Of NumPy's BLAS; None where it is not one that can be asked."""
    return max((pool["num_threads"] for pool in _thread_pools().info()), default=None)


@cache
def _thread_pools() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()

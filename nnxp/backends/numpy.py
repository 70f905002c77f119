"""NumPy on the CPU."""

from contextlib import AbstractContextManager
from typing import Any

import array_api_compat.numpy
import numpy as np

from nnxp.backends import replay
from nnxp.backends.base import Backend, Runner, Step


class NumPyBackend(Backend):
    name = "numpy"
    install = "pip install numpy"

    @classmethod
    def load(cls) -> tuple[Any, str]:
        return array_api_compat.numpy, np.__version__

    def active(self) -> AbstractContextManager[Any]:
        # Overflow shows in the loss, which the trainer watches on every backend alike.
        return np.errstate(all="ignore")

    def runner(self, step: Step) -> Runner:
        replayed = replay.runner(step)

        def run(*chunk: Any) -> Any:
            with self.active():
                return replayed(*chunk)

        return run

    def settings(self) -> dict[str, Any]:
        build = np.show_config(mode="dicts")
        blas = build["Build Dependencies"]["blas"] if build else {}
        return {
            "threads": _threads(),
            "blas": f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip(),
        }


def _threads() -> int | None:
    """Of NumPy's BLAS; None where threadpoolctl, which alone can tell, is not installed."""
    try:
        from threadpoolctl import threadpool_info  # type: ignore  # it has no types
    except ImportError:
        return None
    return max((pool["num_threads"] for pool in threadpool_info()), default=None)

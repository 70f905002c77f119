"""A chunk of training steps on PyTorch, the step compiled by `torch.compile` into one graph."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any

from nnxp.arrays import Array, rows
from nnxp.errors import BackendError, first_line
from nnxp.executors import Host, Report
from nnxp.executors.eager import Runner, State, Step


def runner(step: Step, backend: Host, report: Report) -> Runner:
    """Run compiled steps, like `eager.run`.

    Compiling takes seconds, once for each size of batch, and on a CPU needs a C++ compiler.
    """
    return _compiled(step)


@lru_cache(maxsize=32)
def _compiled(step: Step) -> Runner:
    """The same function for the same step, so that it compiles once."""
    import torch

    def gather_and_step(
        state: State, data: tuple[Array, ...], indices: Array, learning_rate: Array
    ) -> tuple[State, Array]:
        return step(state, rows(data, indices), learning_rate)

    # A graph for each size: there are two at most, whole batches and the last. On a CPU a step of
    # a small network takes less than calling its kernels from Python does, hence the wrapper.
    compiled = torch.compile(
        gather_and_step, fullgraph=True, dynamic=False, options={"cpp_wrapper": True}
    )

    def run(
        state: State, data: tuple[Array, ...], order: Array, learning_rate: Any
    ) -> tuple[State, Array]:
        # A number would be compiled in, and each new rate compiled anew.
        rate = torch.asarray(learning_rate, dtype=data[0].dtype, device=data[0].device)
        total = torch.zeros_like(rate)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what Dynamo thinks of array-api-compat's caches
            for indices in order.unbind():
                try:
                    state, loss = compiled(state, data, indices, rate)
                except torch._dynamo.exc.TorchDynamoException as error:
                    raise BackendError(
                        f"torch cannot compile the step ({first_line(error)}): "
                        "install a C++ compiler, or use executor 'eager'"
                    ) from None
                total = total + loss
        return state, total

    return run

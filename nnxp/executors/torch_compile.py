"""A chunk of training steps on PyTorch, the step compiled by `torch.compile` into one graph."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any

from nnxp.arrays import Array, rows
from nnxp.errors import BackendError, first_line
from nnxp.executors import Host, Rate, Report, Runner, State, Step
from nnxp.nested import shapes

OPTIONS: dict[str, Any] = {"options": {"cpp_wrapper": True}}
"""Of `torch.compile`. On a CPU a step of a small network takes less than calling its kernels from
Python does, hence the wrapper."""


def runner(step: Step, backend: Host, report: Report) -> Runner:
    """Run compiled steps, like `eager.run`.

    Compiling takes seconds, once for each size of batch, and on a CPU needs a C++ compiler. The
    same step and shapes share a graph, unless 32 others were compiled since.
    """
    import torch

    def run(
        state: State, data: tuple[Array, ...], order: Array, learning_rate: Rate
    ) -> tuple[State, Array]:
        compiled = _compiled(step, shapes((state, data, order[:1])))
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


@lru_cache(maxsize=32)
def _compiled(step: Step, shapes: Any) -> Any:
    """The compiled step for these shapes."""
    import torch

    def gather_and_step(
        state: State, data: tuple[Array, ...], indices: Array, learning_rate: Array
    ) -> tuple[State, Array]:
        return step(state, rows(data, indices), learning_rate)

    # Dynamo keeps graphs by code object, and fails at the ninth: so each has a copy of its own.
    gather_and_step.__code__ = gather_and_step.__code__.replace()
    return torch.compile(gather_and_step, fullgraph=True, dynamic=False, **OPTIONS)

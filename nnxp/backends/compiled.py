"""A chunk of training steps on PyTorch, the step compiled by `torch.compile` into one graph."""

import warnings
from functools import lru_cache
from typing import Any

from nnxp.arrays import rows, shapes
from nnxp.errors import BackendError, first_line

OPTIONS: dict[str, Any] = {"options": {"cpp_wrapper": True}}
"""Of `torch.compile`. On a CPU a step of a small network takes less than calling its kernels from
Python does, hence the wrapper."""


def runner(step: Any) -> Any:
    """A function like `nnxp.backends.eager.run`.

    Compiling takes seconds, once for each size of batch, and on a CPU needs a C++ compiler. Of the
    same step and shapes the graph is the same, unless 32 others were compiled since.
    """
    import torch

    def run(state: Any, data: Any, order: Any, learning_rate: Any) -> tuple[Any, Any]:
        compiled = _step(step, shapes((state, data, order[:1])))
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
def _step(step: Any, shapes: Any) -> Any:
    """The compiled step for these shapes."""
    import torch

    def gather_and_step(state: Any, data: Any, indices: Any, learning_rate: Any) -> Any:
        parameters, optimizer_state = state
        *state, loss = step(parameters, optimizer_state, rows(data, indices), learning_rate)
        return tuple(state), loss

    # Dynamo keeps graphs by code object, and fails at the ninth: so each has a copy of its own.
    gather_and_step.__code__ = gather_and_step.__code__.replace()
    return torch.compile(gather_and_step, fullgraph=True, dynamic=False, **OPTIONS)

"""A chunk of training steps on PyTorch, the step compiled by `torch.compile` into one graph."""

import warnings
from functools import lru_cache
from typing import Any

from nnxp.arrays import rows
from nnxp.errors import BackendError, first_line


@lru_cache(maxsize=32)
def runner(step: Any) -> Any:
    """A function like `nnxp.backends.eager.run`. Of the same step the same: it compiles once.

    Compiling takes seconds, once for each size of batch, and on a CPU needs a C++ compiler.
    """
    import torch

    def gather_and_step(state: Any, data: Any, indices: Any, learning_rate: Any) -> Any:
        parameters, optimizer_state = state
        *state, loss = step(parameters, optimizer_state, rows(data, indices), learning_rate)
        return tuple(state), loss

    # A graph for each size: there are two at most, whole batches and the last. On a CPU a step of
    # a small network takes less than calling its kernels from Python does, hence the wrapper.
    compiled = torch.compile(
        gather_and_step, fullgraph=True, dynamic=False, options={"cpp_wrapper": True}
    )

    def run(state: Any, data: Any, order: Any, learning_rate: Any) -> tuple[Any, Any]:
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

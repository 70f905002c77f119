"""A chunk of training steps on PyTorch; `torch.compile` compiles the step into one graph."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from nnxp.arrays import Array, rows
from nnxp.concurrency import warnings_ignored
from nnxp.errors import BackendError, first_line
from nnxp.executors import Host, Rate, Report, Runner, State, Step
from nnxp.nested import leaves, shapes

OPTIONS: dict[str, Any] = {"options": {"cpp_wrapper": True}}
"""Options of `torch.compile`. The C++ wrapper is for small networks: on a CPU, their step takes
less time than calling its kernels from Python."""


def runner(step: Step, backend: Host, report: Report) -> Runner:
    """Return a function like `eager.run` that compiles `step`.

    Compiling takes seconds, once for each batch size, and on a CPU needs a C++ compiler. The last
    32 compiled steps are kept, one for each step and shapes.
    """
    import torch

    def run(
        state: State, data: tuple[Array, ...], order: Array, learning_rate: Rate
    ) -> tuple[State, Array]:
        compiled = _compiled(step, shapes((state, data, order[:1])))
        # A Python number would be compiled in, and each new rate would compile again.
        like = leaves(state)[0]
        rate = torch.asarray(learning_rate, dtype=like.dtype, device=like.device)
        total = torch.zeros_like(rate)
        with warnings_ignored():  # Dynamo warns about array-api-compat's caches
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
    """Compile the step for these shapes."""
    import torch

    def gather_and_step(
        state: State, data: tuple[Array, ...], indices: Array, learning_rate: Array
    ) -> tuple[State, Array]:
        return step(state, rows(data, indices), learning_rate)

    # Dynamo caches graphs by code object and fails at the ninth, so each gets its own copy.
    gather_and_step.__code__ = gather_and_step.__code__.replace()
    return torch.compile(gather_and_step, fullgraph=True, dynamic=False, **OPTIONS)

"""A chunk of training steps as one compiled JAX loop: `jit` of `lax.scan`."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

from nnxp.arrays import Array, rows
from nnxp.executors import Host, Report
from nnxp.executors.eager import Runner, State, Step


def runner(step: Step, backend: Host, report: Report) -> Runner:
    """Run compiled chunks of `step`, like `eager.run`.

    The state's buffers are donated: XLA updates the parameters in place.
    """
    return _compiled(step)


@lru_cache(maxsize=32)
def _compiled(step: Step) -> Runner:
    """The same function for the same step, so that training again does not compile again."""
    import jax
    import jax.numpy as jnp

    @partial(jax.jit, donate_argnums=0)
    def run(
        state: State, data: tuple[Array, ...], order: Array, learning_rate: Array
    ) -> tuple[State, Array]:
        def body(carry: Any, indices: Array) -> Any:
            state, total = carry
            state, loss = step(state, rows(data, indices), learning_rate)
            return (state, total + loss), None

        zero = jnp.zeros((), dtype=data[0].dtype)
        return jax.lax.scan(body, (state, zero), order)[0]

    return run

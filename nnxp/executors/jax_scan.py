"""A chunk of training steps as one compiled JAX loop: `jit` of `lax.scan`.

`jax.jit` keeps a program for every shape that its function was called with, 3 MB each, as long as
the function lives. So each program here has a function of its own in an LRU cache: a search over
many network shapes takes the memory of `PROGRAMS` programs, and a recent shape does not compile
again.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

from nnxp.arrays import Array, rows
from nnxp.executors import Host, Rate, Report, Runner, State, Step
from nnxp.nested import leaves, shapes

PROGRAMS = 32
"""Programs that the cache keeps. A training has three at most: two lengths of chunk, and the last,
smaller batch."""


def runner(step: Step, backend: Host, report: Report) -> Runner:
    """Return a function like `eager.run` that compiles chunks of `step`.

    The state's buffers are donated: XLA updates the parameters in place.
    """

    def run(
        state: State, data: tuple[Array, ...], order: Array, learning_rate: Rate
    ) -> tuple[State, Array]:
        program = _compiled(step, shapes((state, data, order)))
        return program(state, data, order, learning_rate)

    return run


@lru_cache(maxsize=PROGRAMS)
def _compiled(step: Step, shapes: Any) -> Runner:
    """Compile the chunk for these shapes."""
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

        zero = jnp.zeros((), dtype=leaves(state)[0].dtype)
        return jax.lax.scan(body, (state, zero), order)[0]

    return run

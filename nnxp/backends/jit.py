"""Compiled JAX programs, one for each shape of their arguments; the last used are kept.

`jax.jit` keeps a program for every shape that its function has met, 3 MB each, as long as the
function lives. So each program here has a function of its own, and an LRU cache holds them: a
search over many network shapes takes the memory of `PROGRAMS` of them, and a shape that comes back
soon does not compile again.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

from nnxp.arrays import rows, shapes

PROGRAMS = 32
"""Programs of each kind that are kept. A training has three at most: two lengths of chunk, and the
last, smaller batch."""


def runner(step: Any) -> Any:
    """The compiled form of `nnxp.backends.eager.run` for this step.

    The state's buffers are donated: XLA updates the parameters in place.
    """

    def run(state: Any, data: Any, order: Any, learning_rate: Any) -> Any:
        program = _steps(step, shapes((state, data, order)))
        return program(state, data, order, learning_rate)

    return run


@lru_cache(maxsize=PROGRAMS)
def _steps(step: Any, shapes: Any) -> Any:
    import jax
    import jax.numpy as jnp

    @partial(jax.jit, donate_argnums=0)
    def run(state: Any, data: Any, order: Any, learning_rate: Any) -> Any:
        def body(carry: Any, indices: Any) -> Any:
            (parameters, optimizer_state), total = carry
            batch = rows(data, indices)
            *state, loss = step(parameters, optimizer_state, batch, learning_rate)
            return (tuple(state), total + loss), None

        zero = jnp.zeros((), dtype=data[0].dtype)
        return jax.lax.scan(body, (state, zero), order)[0]

    return run


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function like `function`, pure and of nested lists of arrays, compiled for each shape."""

    def run(*arguments: Any) -> Any:
        return _compiled(function, shapes(arguments))(*arguments)

    return run


@lru_cache(maxsize=PROGRAMS)
def _compiled(function: Callable[..., Any], shapes: Any) -> Any:
    import jax

    # jax.jit knows functions by identity, and keeps what it compiled as long as they live.
    return jax.jit(lambda *arguments: function(*arguments))


@lru_cache(maxsize=32)
def repeater(function: Any) -> Any:
    """The compiled form of `nnxp.backends.base.Backend.repeat` for this function.

    In every turn one element of each matrix is another, set in place: what hangs on the turn XLA
    can neither compute once, before the loop, nor leave out, since the loop carries all of it.
    (It looks through `optimization_barrier`.) Nothing else is added: the matrices are copied
    once, before the first turn.
    """
    import jax
    import jax.numpy as jnp

    def run(arrays: Any, times: Any) -> Any:
        def body(turn: Any, carry: Any) -> Any:
            arrays = jax.tree.map(lambda a: a.at[0, 0].set(1e-6 * turn.astype(a.dtype)), carry[0])
            return arrays, function(*arrays)

        results = jax.tree.map(jnp.zeros_like, jax.eval_shape(function, *arrays))
        return jax.lax.fori_loop(0, times, body, (arrays, results))[1]

    return jax.jit(run)

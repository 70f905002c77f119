"""A chunk of training steps as one compiled JAX loop: `jit` of `lax.scan`."""

from functools import lru_cache, partial
from typing import Any

from nnxp.arrays import rows


@lru_cache(maxsize=32)
def runner(step: Any) -> Any:
    """The compiled form of `nnxp.backends.eager.run` for this step.

    One per step function, so that training again does not compile again. The state's buffers
    are donated: XLA updates the parameters in place.
    """
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


@lru_cache(maxsize=32)
def compiled(function: Any) -> Any:
    """`jax.jit` of a function; of the same function the same, so that it compiles once."""
    import jax

    return jax.jit(function)


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

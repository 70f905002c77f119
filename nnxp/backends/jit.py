"""A chunk of training steps as one compiled JAX loop: `jit` of `lax.scan`."""

from functools import lru_cache, partial
from typing import Any


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
        def body(carry: Any, rows: Any) -> Any:
            (parameters, optimizer_state), total = carry
            batch = tuple(jnp.take(array, rows, axis=0) for array in data)
            *state, loss = step(parameters, optimizer_state, batch, learning_rate)
            return (tuple(state), total + loss), None

        zero = jnp.zeros((), dtype=data[0].dtype)
        return jax.lax.scan(body, (state, zero), order)[0]

    return run

"""Trains with JAX by hand, `jit` of `lax.scan` over a chunk of steps: JAX at its fastest.

It sums the loss of the steps, which a training wants to know and nnxp sums too.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from peers.jax_jit import JAXJit, loss

from nnxp.benchmark.workloads import LEARNING_RATE


class JAXScan(JAXJit):
    """Makes one call per chunk; the parameters' buffers are donated."""

    name = "JAX jit + scan"
    total: Any = None

    def train(self, order: np.ndarray) -> None:
        self.state, self.total = _steps(self.state, self.data, order.astype(np.int32))

    def wait(self) -> None:
        jax.block_until_ready((self.state, self.total, self.data))


@partial(jax.jit, donate_argnums=0)
def _steps(parameters: Any, data: Any, order: jax.Array) -> tuple[Any, jax.Array]:
    def body(carry: tuple[Any, jax.Array], rows: jax.Array) -> tuple[Any, None]:
        parameters, total = carry
        x, classes = (jnp.take(array, rows, axis=0) for array in data)
        value, gradients = jax.value_and_grad(loss)(parameters, x, classes)
        new = jax.tree.map(lambda p, g: p - LEARNING_RATE * g, parameters, gradients)
        return (new, total + value), None

    return jax.lax.scan(body, (parameters, jnp.zeros(())), order)[0]

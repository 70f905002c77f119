"""Trains with JAX by hand, `jit` of one step, as its tutorials do."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nnxp.benchmark.workloads import LEARNING_RATE, Workload

jax.config.update("jax_default_matmul_precision", "highest")  # float32 on a GPU too


def jax_device(name: str | None) -> jax.Device:
    """Return JAX's device called "cpu", "cuda" or "cuda:1"; None means "cpu"."""
    platform, _, index = (name or "cpu").partition(":")
    return jax.devices(platform)[int(index or 0)]


class JAXJit:
    """Makes one call per step, which gathers the batch; the parameters' buffers are donated."""

    name = "JAX jit"
    note = ""

    def __init__(self, workload: Workload, device: str | None = None) -> None:
        self.device = jax_device(device)
        self.state = jax.device_put(workload.parameters, self.device)
        x, classes = workload.data
        self.data = jax.device_put((x, classes.astype(np.int32)), self.device)

    def train(self, order: np.ndarray) -> None:
        for rows in order.astype(np.int32):
            self.state = _jitted(self.state, self.data, rows)

    def wait(self) -> None:
        jax.block_until_ready((self.state, self.data))

    def parameters(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(np.asarray(weight), np.asarray(bias)) for weight, bias in self.state]

    def describe(self) -> dict[str, Any]:
        return {
            "library": "jax",
            "version": jax.__version__,
            "device": str(self.device),
            "dtype": "float32",
            "tf32": False,
        }


def loss(parameters: Any, x: jax.Array, classes: jax.Array) -> jax.Array:
    """Return the mean softmax cross-entropy."""
    for weight, bias in parameters[:-1]:
        x = jax.nn.relu(x @ weight + bias)
    weight, bias = parameters[-1]
    log_likelihood = jax.nn.log_softmax(x @ weight + bias)
    return -jnp.take_along_axis(log_likelihood, classes[:, None], axis=1).mean()


def step(parameters: Any, data: Any, rows: jax.Array) -> Any:
    """Return the parameters after a step of SGD on these rows of the data."""
    x, classes = (jnp.take(array, rows, axis=0) for array in data)
    gradients = jax.grad(loss)(parameters, x, classes)
    return jax.tree.map(lambda p, g: p - LEARNING_RATE * g, parameters, gradients)


_jitted = partial(jax.jit, donate_argnums=0)(step)

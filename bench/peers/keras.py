"""Trains with Keras 3 on JAX, its fastest backend on a CPU: `fit`, compiled.

Thousands of samples per second, on two cores that other processes used too; medians of `fit` on
JAX, of `fit` on TensorFlow (on `tiny` and `small` with one call per epoch, which is faster there
than one per chunk), and the best of `fit` and `train_on_batch` on PyTorch:

    tiny 120, 50, 7    small 130, 60, 35    medium 49, 33, 30    wide 24, 23, 23

On JAX, `train_on_batch` reaches 17 on `tiny` and 53 on `small`.
"""

import os
from typing import Any

import numpy as np

os.environ["KERAS_BACKEND"] = "jax"  # read when Keras is imported

import jax
import keras
from keras import layers
from peers.jax_jit import jax_device

from nnxp.benchmark.workloads import LEARNING_RATE, Workload


class Keras:
    """Calls `fit` once per chunk, without `shuffle`, so that the batches keep their order."""

    name = "Keras"
    note = ""

    def __init__(self, workload: Workload, device: str | None = None) -> None:
        self.device = jax_device(device)
        jax.config.update("jax_default_device", self.device)
        x, classes = workload.data
        self.x, self.classes = x, classes.astype(np.int32)
        self.batch_size = workload.batch_size
        *hidden, outputs = workload.sizes[1:]
        self.model = keras.Sequential(
            [
                keras.Input((workload.sizes[0],)),
                *(layers.Dense(size, activation="relu") for size in hidden),
                layers.Dense(outputs),
            ]
        )
        self.model.set_weights([array for layer in workload.parameters for array in layer])
        self.model.compile(
            optimizer=keras.optimizers.SGD(LEARNING_RATE),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=True,
            steps_per_execution=workload.chunk,
        )

    def train(self, order: np.ndarray) -> None:
        rows = order.reshape(-1)
        self.model.fit(
            self.x[rows],
            self.classes[rows],
            batch_size=self.batch_size,
            shuffle=False,
            verbose=0,
        )

    def wait(self) -> None:
        jax.block_until_ready([variable.value for variable in self.model.variables])

    def parameters(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return [tuple(layer.get_weights()) for layer in self.model.layers]

    def describe(self) -> dict[str, Any]:
        return {
            "library": "keras",
            "version": f"{keras.__version__}, JAX {jax.__version__}",
            "device": str(self.device),
            "dtype": "float32",
            "tf32": False,
        }

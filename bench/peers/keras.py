"""Keras 3 on JAX, its fastest backend on a CPU: `fit`, compiled.

Thousands of samples a second, on two cores that others used too; medians of `fit` on JAX, of `fit`
on TensorFlow (on `tiny` and `small` an epoch a call, which suits it better than a chunk), and the
best of `fit` and `train_on_batch` on PyTorch:

    tiny 120, 50, 7    small 130, 60, 35    medium 49, 33, 30    wide 24, 23, 23

On JAX, `train_on_batch` comes to 17 on `tiny` and 53 on `small`.
"""

import os
from typing import Any

import numpy as np

os.environ["KERAS_BACKEND"] = "jax"  # read when Keras is imported

import jax
import keras
from keras import layers

from nnxp.benchmark.workloads import LEARNING_RATE, Workload

jax.config.update("jax_default_matmul_precision", "highest")  # float32 on a GPU too


class Keras:
    """One `fit` a chunk, without `shuffle`, so that it takes the batches in their order."""

    name = "Keras"
    note = ""

    def __init__(self, workload: Workload, device: str | None = None) -> None:
        platform, _, index = (device or "cpu").partition(":")
        self.device = jax.devices(platform)[int(index or 0)]
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

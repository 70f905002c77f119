"""The workloads that everything here is timed on: networks, batch sizes, data, batch orders.

Whoever trains a workload starts from the same parameters, on the same data in the same order, drawn
from seeds: a process that makes them anew has the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count, pairwise

import numpy as np

from nnxp import datasets
from nnxp.data import batches
from nnxp.errors import InputError, unknown_name
from nnxp.initializers import he
from nnxp.randomness import Purpose, generator

LEARNING_RATE = 0.05
"""Of every workload: plain SGD."""


@dataclass(frozen=True)
class Workload:
    """A ReLU network with softmax cross-entropy, trained by plain SGD in float32.

    Args:
        name: what the command line calls it.
        sizes: units per layer, inputs first.
        batch_size: samples a step.
        chunk: steps that are handed over at once; fewer where a step is long.
        samples: rows of the data.
        gpu: too large for a CPU, unless asked for.
        source: of the data: "made", or "mnist", which takes 784 inputs and 10 outputs.

    Raises:
        InputError: a chunk takes more rows than there are, or the data has other sizes.
    """

    name: str
    sizes: tuple[int, ...]
    batch_size: int
    chunk: int = batches.STEPS_PER_CHUNK
    samples: int = 60_000
    gpu: bool = False
    source: str = "made"

    def __post_init__(self) -> None:
        if self.chunk * self.batch_size > self.samples:
            raise InputError(
                f"workload {self.name}: {self.chunk} batches of {self.batch_size} are more than "
                f"its {self.samples} samples"
            )
        if self.source not in ("made", "mnist"):
            raise unknown_name("data", self.source, ("made", "mnist"))
        if self.source == "mnist" and (self.sizes[0], self.sizes[-1]) != (784, 10):
            raise InputError(
                f"workload {self.name} has {self.sizes[0]} inputs, MNIST 784: give --data made"
            )

    @cached_property
    def parameters(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """What training starts from: He's weights and zero biases, float32."""
        rng = generator(0, Purpose.PARAMETERS)
        return [
            (weight.astype(np.float32), bias.astype(np.float32))
            for weight, bias in (he(rng, *fans) for fans in pairwise(self.sizes))
        ]

    @cached_property
    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """x, (samples, features), float32 in [0, 1), and classes, (samples,), int64.

        Made, to MNIST's shape: four pixels in five are black. The classes are a linear map's, so
        that there is something to learn.

        Raises:
            DataError: MNIST was asked for, and cannot be had.
        """
        if self.source == "mnist":
            mnist = datasets.load("mnist")
            return mnist.x[: self.samples], mnist.y[: self.samples]
        rng = generator(0, Purpose.SAMPLES)
        x = rng.random((self.samples, self.sizes[0]), dtype=np.float32)
        x = np.maximum(x - np.float32(0.8), np.float32(0)) * np.float32(5)
        teacher = rng.standard_normal((self.sizes[0], self.sizes[-1]), dtype=np.float32)
        # The mean is taken out, or one class would win everywhere.
        return x, np.argmax((x - x.mean(axis=0)) @ teacher, axis=1)

    def quick(self) -> Workload:
        """The same network on little data: to see that everything runs, not how fast."""
        chunk = min(self.chunk, 4)
        return replace(self, chunk=chunk, samples=max(2048, chunk * self.batch_size))

    def orders(self) -> Iterator[np.ndarray]:
        """Chunks of batches without end, (chunk, batch_size), int64: epoch after epoch."""
        size = self.chunk * self.batch_size
        for epoch in count(1):
            order = batches.shuffled(self.samples, 0, epoch)
            for start in range(0, self.samples - size + 1, size):
                yield order[start : start + size].reshape(self.chunk, self.batch_size)


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("tiny", (784, 30, 10), 10),
        Workload("small", (784, 128, 10), 64),
        Workload("medium", (784, 512, 512, 10), 128),
        Workload("wide", (784, 1024, 1024, 10), 1024, chunk=16),
        Workload("huge", (4096, 4096, 4096, 4096, 10), 4096, chunk=8, samples=32_768, gpu=True),
    )
}


def workload(name: str) -> Workload:
    """The workload called `name`.

    Raises:
        InputError: there is none.
    """
    if name not in WORKLOADS:
        raise unknown_name("workload", name, WORKLOADS)
    return WORKLOADS[name]

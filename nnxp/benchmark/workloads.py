"""Defines the workloads of all benchmarks: networks, batch sizes, data and batch orders.

Parameters, data and orders are drawn from seeds, so every process that makes a workload has the
same ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count, pairwise

import numpy as np

from nnxp import datasets, options
from nnxp.data import batches
from nnxp.errors import InputError, unknown_name
from nnxp.initializers import he
from nnxp.randomness import Purpose, generator

LEARNING_RATE = 0.05
"""The learning rate of every workload, for plain SGD."""


@dataclass(frozen=True)
class Workload:
    """A ReLU network with softmax cross-entropy, trained by plain SGD in float32.

    Args:
        name: its name on the command line.
        sizes: units per layer, inputs first.
        batch_size: samples per step.
        chunk: steps per call of `train`; fewer where a step is long. A contender may cut them.
        samples: rows of the data.
        gpu: whether it is too large for a CPU, so that a CPU trains it only if it is named.
        source: where the data come from: "made", or "mnist", which has 784 inputs and 10 outputs.

    Raises:
        InputError: a size is not a whole number of 1 or more, a chunk takes more rows than there
            are, or the data have other sizes.
    """

    name: str
    sizes: tuple[int, ...]
    batch_size: int
    chunk: int = batches.STEPS_PER_CHUNK
    samples: int = 60_000
    gpu: bool = False
    source: str = "made"

    def __post_init__(self) -> None:
        one = options.whole(1)
        options.check_fields(
            self,
            sizes=options.several(one, least=2),
            batch_size=one,
            chunk=one,
            samples=one,
            source=options.name("data", ("made", "mnist")),
        )
        if self.chunk * self.batch_size > self.samples:
            raise InputError(
                f"workload {self.name}: {self.chunk} batches of {self.batch_size} are more than "
                f"its {self.samples} samples"
            )
        if self.source == "mnist" and (self.sizes[0], self.sizes[-1]) != (784, 10):
            raise InputError(
                f"workload {self.name} has {self.sizes[0]} inputs, MNIST 784: give --data made"
            )

    @cached_property
    def parameters(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The initial parameters: He's weights and zero biases, float32."""
        rng = generator(0, Purpose.PARAMETERS)
        return [
            (weight.astype(np.float32), bias.astype(np.float32))
            for weight, bias in (he(rng, *fans) for fans in pairwise(self.sizes))
        ]

    @cached_property
    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """x, (samples, features), float32 in [0, 1), and classes, (samples,), int64.

        Made data are like MNIST: four pixels in five are black. The classes are those of a linear
        map, so that a network can learn them.

        Raises:
            DataError: the data are MNIST's, which cannot be loaded.
        """
        if self.source == "mnist":
            mnist = datasets.load("mnist")
            return mnist.x[: self.samples], mnist.y[: self.samples]
        rng = generator(0, Purpose.SAMPLES)
        x = rng.random((self.samples, self.sizes[0]), dtype=np.float32)
        x = np.maximum(x - np.float32(0.8), np.float32(0)) * np.float32(5)
        teacher = rng.standard_normal((self.sizes[0], self.sizes[-1]), dtype=np.float32)
        # Without subtracting the mean, one class would win everywhere.
        return x, np.argmax((x - x.mean(axis=0)) @ teacher, axis=1)

    def quick(self) -> Workload:
        """Return the same network on little data: to see that everything runs, not how fast."""
        chunk = min(self.chunk, 4)
        return replace(self, chunk=chunk, samples=max(2048, chunk * self.batch_size))

    def orders(self) -> Iterator[np.ndarray]:
        """Yield chunks of batches without end, (chunk, batch_size), int64, epoch after epoch."""
        size = self.chunk * self.batch_size
        for epoch in count(1):
            order = batches.shuffled(self.samples, 0, epoch)
            for start in range(0, self.samples - size + 1, size):
                yield order[start : start + size].reshape(self.chunk, self.batch_size)


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("tiny", (784, 30, 10), 10, chunk=256),
        Workload("small", (784, 128, 10), 64, chunk=256),
        Workload("medium", (784, 512, 512, 10), 128, chunk=50),
        Workload("wide", (784, 1024, 1024, 10), 1024, chunk=16),
        Workload("huge", (4096, 4096, 4096, 4096, 10), 4096, chunk=8, samples=32_768, gpu=True),
    )
}


def workload(name: str) -> Workload:
    """Return the workload called `name`.

    Raises:
        InputError: the name is unknown.
    """
    if name not in WORKLOADS:
        raise unknown_name("workload", name, WORKLOADS)
    return WORKLOADS[name]


def select(names: Iterable[str], gpu: bool) -> list[Workload]:
    """Return the workloads called `names`, each once.

    Args:
        names: none for all that suit the device.
        gpu: whether the device is a GPU, which all workloads suit.

    Raises:
        InputError: a name is unknown.
    """
    names = list(names) or [each.name for each in WORKLOADS.values() if gpu or not each.gpu]
    return [workload(name) for name in dict.fromkeys(names)]

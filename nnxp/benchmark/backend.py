"""Trains a workload with nnxp on one of its backends, and times the step's bare products."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from nnxp import backends, objectives
from nnxp.arrays import Array, index_dtype, to_numpy
from nnxp.benchmark.contender import Entry, MissingError
from nnxp.benchmark.workloads import LEARNING_RATE, Workload
from nnxp.data import checks
from nnxp.data.prepare import device_targets
from nnxp.errors import BackendError
from nnxp.network import MLP
from nnxp.optimizers import SGD
from nnxp.randomness import Purpose, generator
from nnxp.state import first_state
from nnxp.step import training_step


def entry(backend: str, device: str | None = None, tf32: bool = False) -> Entry:
    """Return the entry of a backend.

    Args:
        backend: a name of `nnxp.backends.BACKENDS`; "torch:compiled" for another executor than
            the backend's own choice.
        device: where it trains; NumPy always trains on the CPU.
        tf32: whether it trains in TF32 where the device can.
    """
    device = "cpu" if backends.parse(backend)[0] == "numpy" else device
    options = {"backend": backend, "tf32": tf32}
    return Entry(backend, "nnxp.benchmark.backend:Trainer", device, options)


class Trainer:
    """Takes the steps of `nnxp.train`, chunk by chunk."""

    note = ""

    def __init__(
        self,
        workload: Workload,
        device: str | None = None,
        *,
        backend: str | backends.Backend,
        tf32: bool = False,
    ) -> None:
        self.workload = workload
        if isinstance(backend, backends.Backend):
            self.name, self.backend = backend.name, backend
        else:
            self.name = backend
            try:
                self.backend = backends.get(backend, device)
            except BackendError as error:
                raise MissingError(str(error)) from error
            if tf32 and self.backend.has_tf32():
                self.backend = backends.get(backend, device, tf32=True)
        network = MLP(workload.sizes, backend=self.backend, parameters=workload.parameters)
        objective, optimizer = objectives.get("auto", network.output), SGD(LEARNING_RATE)
        x, classes = workload.data
        spec = network.spec
        self.steps = spec.chunk_steps(workload.batch_size)
        targets = checks.targets(classes, objective.loss, len(x), workload.sizes[-1])
        self.data = spec.on_device(x), device_targets(spec, targets)
        self.fallbacks: list[str] = []
        fuses = self.backend.execution.fuses
        step = training_step(network.hidden, objective, optimizer, fuses=fuses)
        self.run = self.backend.runner(step, self.fallbacks)
        self.state = first_state(network, optimizer)
        self.indices = index_dtype(self.backend.xp)

    def train(self, order: np.ndarray) -> None:
        for start in range(0, len(order), self.steps):
            part = order[start : start + self.steps]
            rows = self.backend.asarray(part, dtype=self.indices)
            self.state, _ = self.run(self.state, self.data, rows, LEARNING_RATE)

    def wait(self) -> None:
        with self.backend.active():
            self.backend.synchronize((self.data, self.state))

    def parameters(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(to_numpy(weight), to_numpy(bias)) for weight, bias in self.state.parameters]

    def describe(self) -> dict[str, Any]:
        with self.backend.active(), self.backend.limit_threads(largest_product(self.workload)):
            return {
                "library": self.backend.name,
                "executor": self.backend.executor,
                "fallbacks": self.fallbacks,
                "version": self.backend.version,
                "device": self.backend.device_name,
                "dtype": "float32",
                **self.backend.settings(),
            }

    def floor(self) -> Products:
        return Products(self.backend, self.workload)

    def device_memory(self) -> tuple[int, int] | None:
        return self.backend.device_memory()


class Products:
    """Computes the matrix products of a workload's step and nothing else: no step takes less time.

    There are 3 L - 1 for L layers, on arrays of the step's shapes, made beforehand.
    `Backend.repeat` repeats them in the way that the backend runs a chunk of steps.
    """

    def __init__(self, backend: backends.Backend, workload: Workload) -> None:
        rng = generator(0, Purpose.SAMPLES)

        def matrices(shapes: Any) -> list[Array]:
            """Draw matrices whose products have entries of about one."""
            return [
                backend.asarray(
                    rng.standard_normal(shape, dtype=np.float32) / np.float32(shape[0]) ** 0.5,
                    copy=True,
                )
                for shape in shapes
            ]

        self.backend = backend
        self.largest = largest_product(workload)
        self.arrays = [
            matrices((workload.batch_size, size) for size in workload.sizes[:-1]),
            matrices(pairwise(workload.sizes)),
            matrices((workload.batch_size, size) for size in workload.sizes[1:]),
        ]
        self.results: Any = None

    def train(self, order: np.ndarray) -> None:
        with self.backend.limit_threads(self.largest):  # as many as the step uses
            self.results = self.backend.repeat(products, self.arrays, len(order))

    def wait(self) -> None:
        self.backend.synchronize(self.results)


def largest_product(workload: Workload) -> int:
    """Return the multiply-adds of a step's largest matrix product."""
    sizes = pairwise(workload.sizes)
    return workload.batch_size * max(fan_in * fan_out for fan_in, fan_out in sizes)


def products(x: list[Array], weights: list[Array], dz: list[Array]) -> list[Array]:
    """Return x W and x^T dz for each layer and, after the first, dz W^T.

    Args:
        x: each layer's input, (batch, fan_in).
        weights: (fan_in, fan_out).
        dz: the gradient with respect to each layer's pre-activation, (batch, fan_out).
    """
    results = []
    for layer, weight in enumerate(weights):
        results += [x[layer] @ weight, x[layer].T @ dz[layer]]
        if layer > 0:
            results.append(dz[layer] @ weight.T)
    return results

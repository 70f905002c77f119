"""Times a step, a chunk and an epoch of training, by backend and workload.

Run some by `pytest bench/test_training.py -k "chunk and small"`.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import pytest

import nnxp
from nnxp import backends
from nnxp.benchmark import Workload, reference_loss
from nnxp.benchmark.backend import Trainer
from nnxp.benchmark.workloads import LEARNING_RATE


@pytest.mark.parametrize("length", ["step", "chunk"])
def test_steps(benchmark: Any, backend: backends.Backend, workload: Workload, length: str) -> None:
    """Time one step per call, or a chunk of steps as `nnxp.train` runs them."""
    trainer = Trainer(workload, backend=backend)
    order = next(workload.orders())[: 1 if length == "step" else None]

    def run() -> None:
        trainer.train(order)
        trainer.wait()

    run()
    assert loss(trainer, workload) == pytest.approx(reference(workload, len(order)), rel=1e-4)
    benchmark.group = f"{length}, {workload.name}"
    benchmark(run)
    assert np.isfinite(loss(trainer, workload))


def test_epoch(benchmark: Any, backend: backends.Backend, workload: Workload) -> None:
    """Time `nnxp.train`, with its checks and the transfer of the data to the device."""
    x, classes = workload.data
    benchmark.group = f"epoch, {workload.name}"

    def run() -> nnxp.History:
        network = nnxp.MLP(workload.sizes, backend=backend, parameters=workload.parameters)
        return nnxp.train(
            network,
            x,
            classes,
            optimizer=nnxp.SGD(LEARNING_RATE),
            epochs=1,
            batch_size=workload.batch_size,
        )

    history = benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    assert np.isfinite(history.epochs[-1].loss)


def loss(trainer: Trainer, workload: Workload) -> float:
    return reference_loss.loss(trainer.parameters(), *workload.data)


@lru_cache
def reference(workload: Workload, steps: int) -> float:
    """Return NumPy's loss after the first steps."""
    trainer = Trainer(workload, backend="numpy")
    trainer.train(next(workload.orders())[:steps])
    return loss(trainer, workload)

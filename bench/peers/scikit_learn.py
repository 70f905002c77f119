"""Trains with scikit-learn: `MLPClassifier`, solver "sgd"."""

from typing import Any

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier

from nnxp.benchmark.workloads import LEARNING_RATE, Workload


class ScikitLearn:
    """Calls `partial_fit` once per chunk.

    `partial_fit` runs the loop of `fit`: without `shuffle` it takes the chunk's batches in their
    order, and checks its input once. With float32 data it computes in float32.
    """

    name = "scikit-learn"
    note = ""

    def __init__(self, workload: Workload, device: str | None = None) -> None:
        self.x, self.classes = workload.data
        self.model = MLPClassifier(
            workload.sizes[1:-1],
            solver="sgd",
            learning_rate_init=LEARNING_RATE,
            batch_size=workload.batch_size,
            alpha=0.0,
            momentum=0.0,
            nesterovs_momentum=False,
            shuffle=False,
        )
        # Its weights exist, and can be set, only after a first fit.
        first = slice(workload.batch_size)
        classes = np.arange(workload.sizes[-1])
        self.model.partial_fit(self.x[first], self.classes[first], classes=classes)
        self.model.coefs_ = [weight.copy() for weight, _ in workload.parameters]
        self.model.intercepts_ = [bias.copy() for _, bias in workload.parameters]

    def train(self, order: np.ndarray) -> None:
        rows = order.reshape(-1)
        self.model.partial_fit(self.x[rows], self.classes[rows])

    def wait(self) -> None:
        pass

    def parameters(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return list(zip(self.model.coefs_, self.model.intercepts_, strict=True))

    def describe(self) -> dict[str, Any]:
        return {
            "library": "scikit-learn",
            "version": sklearn.__version__,
            "device": "cpu",
            "dtype": str(self.model.coefs_[0].dtype),
        }

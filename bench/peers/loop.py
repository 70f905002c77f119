"""Trains with the books' first program: backpropagation sample by sample, in column vectors.

This is the algorithm of M. Nielsen's Neural Networks and Deep Learning, chapters 1 and 2, with the
workloads' ReLU, softmax and cross-entropy.
"""

from typing import Any

import numpy as np

from nnxp.benchmark.workloads import LEARNING_RATE, Workload


class Loop:
    """Keeps the books' layout: data in a list of columns, weights of (fan_out, fan_in)."""

    name = "per-sample loop"
    note = ""

    def __init__(self, workload: Workload, device: str | None = None) -> None:
        x, classes = workload.data
        one_hot = np.eye(workload.sizes[-1], dtype=np.float32)[classes]
        self.data = list(zip(x[:, :, None], one_hot[:, :, None], strict=True))
        self.weights = [weight.T.copy() for weight, _ in workload.parameters]
        self.biases = [bias[:, None].copy() for _, bias in workload.parameters]

    def train(self, order: np.ndarray) -> None:
        for rows in order:
            self.update([self.data[row] for row in rows])

    def update(self, batch: list[tuple[np.ndarray, np.ndarray]]) -> None:
        """Take one step of gradient descent: sum the samples' gradients one by one."""
        dweights = [np.zeros_like(weight) for weight in self.weights]
        dbiases = [np.zeros_like(bias) for bias in self.biases]
        for x, t in batch:
            gradients = self.backpropagate(x, t)
            dweights = [s + g for s, (g, _) in zip(dweights, gradients, strict=True)]
            dbiases = [s + g for s, (_, g) in zip(dbiases, gradients, strict=True)]
        rate = LEARNING_RATE / len(batch)
        self.weights = [w - rate * g for w, g in zip(self.weights, dweights, strict=True)]
        self.biases = [b - rate * g for b, g in zip(self.biases, dbiases, strict=True)]

    def backpropagate(self, x: np.ndarray, t: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return one sample's gradients, (dweight, dbias) per layer."""
        outputs = [x]
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            outputs.append(np.maximum(weight @ outputs[-1] + bias, np.float32(0)))
        z = self.weights[-1] @ outputs[-1] + self.biases[-1]
        y = np.exp(z - z.max())
        delta = y / y.sum() - t
        gradients = [(delta @ outputs[-1].T, delta)]
        for weight, output, before in zip(
            self.weights[:0:-1], outputs[:0:-1], outputs[-2::-1], strict=True
        ):
            delta = weight.T @ delta * (output > 0)
            gradients.append((delta @ before.T, delta))
        return gradients[::-1]

    def wait(self) -> None:
        pass

    def parameters(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(w.T, b[:, 0]) for w, b in zip(self.weights, self.biases, strict=True)]

    def describe(self) -> dict[str, Any]:
        return {
            "library": "numpy",
            "version": np.__version__,
            "device": "cpu",
            "dtype": str(self.weights[0].dtype),
        }

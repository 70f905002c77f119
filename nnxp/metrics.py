"""How good predictions are: accuracy for classes, R^2 for real values. On the host, in NumPy."""

import numpy as np

from nnxp.objectives import PROBABILITIES, Objective


def metric(
    objective: Objective, outputs: np.ndarray, targets: np.ndarray, classes: bool
) -> tuple[str, float]:
    """The metric that fits the targets, by name and value.

    Accuracy for classes, one-hot rows and 0/1 labels; R^2 for real values.

    Args:
        objective: the network's loss and output activation.
        outputs: the network's, (samples, outputs).
        targets: as `nnxp.inputs.targets` returns them.
        classes: whether they were given as classes, one a sample, whatever they look like now.
    """
    if not classes and objective.loss != "categorical_cross_entropy":
        zeros_and_ones = bool(np.isin(targets, (0.0, 1.0)).all())
        binary = objective.loss == "binary_cross_entropy"
        several = targets.shape[1] > 1
        one_hot = zeros_and_ones and several and bool((targets.sum(axis=1) == 1).all())
        if binary or not one_hot:
            if zeros_and_ones and (binary or objective.output in PROBABILITIES):
                return "accuracy", accuracy(outputs > objective.threshold, targets > 0.5)
            return "r2", r2(outputs, targets)
    wanted = np.argmax(targets, axis=1) if targets.ndim == 2 else targets
    return "accuracy", accuracy(np.argmax(outputs, axis=1), wanted)


def accuracy(predicted: np.ndarray, targets: np.ndarray) -> float:
    """The share of rows that are right in every column."""
    right = predicted == targets
    return float(np.mean(right.reshape(right.shape[0], -1).all(axis=1)))


def r2(predicted: np.ndarray, targets: np.ndarray) -> float:
    """R^2 = 1 - sum (t - y)^2 / sum (t - mean t)^2, averaged over outputs.

    1 is perfect, 0 as good as always predicting the mean. An output whose targets never vary
    counts 1 if it is predicted exactly and 0 otherwise.
    """
    residual = np.sum((targets - predicted) ** 2, axis=0, dtype=np.float64)
    total = np.sum((targets - targets.mean(axis=0)) ** 2, axis=0, dtype=np.float64)
    constant = np.where(residual == 0, 1.0, 0.0)
    return float(
        np.mean(np.where(total > 0, 1 - residual / np.where(total > 0, total, 1), constant))
    )

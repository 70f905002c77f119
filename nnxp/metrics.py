"""How good predictions are: accuracy for classes, R^2 for real values. On the host, in NumPy."""

import numpy as np

from nnxp.objectives import PROBABILITIES, Objective


def metric(objective: Objective, outputs: np.ndarray, targets: np.ndarray) -> tuple[str, float]:
    """The metric that fits the targets, by name and value.

    Accuracy where the targets are classes, one-hot rows or 0/1 labels; R^2 otherwise.

    Args:
        objective: the network's loss and output activation.
        outputs: the network's, (samples, outputs).
        targets: as `nnxp.inputs.targets` returns them.
    """
    if targets.ndim == 1:
        return "accuracy", accuracy(classes(outputs, objective.threshold), targets)
    labels = objective.loss != "quadratic" or objective.output in PROBABILITIES
    if np.isin(targets, (0.0, 1.0)).all():
        one_hot = targets.shape[1] > 1 and (targets.sum(axis=1) == 1).all()
        if one_hot and objective.loss != "binary_cross_entropy":
            return "accuracy", accuracy(np.argmax(outputs, axis=1), np.argmax(targets, axis=1))
        if labels:
            return "accuracy", accuracy(outputs > objective.threshold, targets > 0.5)
    return "r2", r2(outputs, targets)


def classes(outputs: np.ndarray, threshold: float) -> np.ndarray:
    """The predicted class of each row: the largest output, or whether the only one says yes."""
    if outputs.shape[1] == 1:
        return (outputs[:, 0] > threshold).astype(np.int64)
    return np.argmax(outputs, axis=1)


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

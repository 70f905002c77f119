"""Metrics of predictions: accuracy for classes; R^2, RMSE and MAE for real values.

They are computed on the host, in NumPy.
"""

import numpy as np

from nnxp.objectives import PROBABILITIES, Objective


def measure(
    objective: Objective,
    outputs: np.ndarray,
    targets: np.ndarray,
    classes: bool,
    scale: np.ndarray | float = 1.0,
) -> dict[str, float]:
    """Compute the metrics that fit the targets, by name; the first is the main metric.

    They are accuracy for classes, one-hot rows and 0/1 labels; R^2, RMSE and MAE for real values.

    Args:
        objective: the network's loss and output activation.
        outputs: the network's outputs, (samples, outputs).
        targets: as `nnxp.data.checks.targets` returns them.
        classes: whether the caller gave the targets as classes, one per sample.
        scale: the factor from the unit of outputs and targets to the targets' own unit,
            (outputs,), or one number for all. R^2 does not depend on it.
    """
    if objective.is_log_rate:
        with np.errstate(over="ignore"):
            outputs = np.exp(outputs)
    if not classes and objective.loss != "categorical_cross_entropy":
        zeros_and_ones = bool(np.isin(targets, (0.0, 1.0)).all())
        binary = objective.loss == "binary_cross_entropy"
        several = targets.shape[1] > 1
        one_hot = zeros_and_ones and several and bool((targets.sum(axis=1) == 1).all())
        if binary or not one_hot:
            if zeros_and_ones and (binary or objective.output in PROBABILITIES):
                return {"accuracy": accuracy(outputs > objective.threshold, targets > 0.5)}
            with np.errstate(over="ignore", invalid="ignore"):  # the metrics show it
                return {
                    "r2": r2(outputs, targets),
                    "rmse": rmse(outputs, targets, scale),
                    "mae": mae(outputs, targets, scale),
                }
    labels = np.argmax(targets, axis=1) if targets.ndim == 2 else targets
    return {"accuracy": accuracy(np.argmax(outputs, axis=1), labels)}


def accuracy(predicted: np.ndarray, targets: np.ndarray) -> float:
    """Return the share of rows that are right in every column."""
    right = predicted == targets
    return float(np.mean(right.reshape(right.shape[0], -1).all(axis=1)))


def r2(predicted: np.ndarray, targets: np.ndarray) -> float:
    """R^2 = 1 - sum (t - y)^2 / sum (t - mean t)^2, averaged over outputs.

    1 is perfect; 0 is as good as always predicting the mean. An output whose targets are constant
    counts as 1 if it is predicted exactly and as 0 otherwise.
    """
    residual = np.sum((targets - predicted) ** 2, axis=0, dtype=np.float64)
    # For equal values, rounding may make the mean differ from them, and so the sum from 0.
    varies = targets.max(axis=0) > targets.min(axis=0)
    total = np.sum((targets - targets.mean(axis=0)) ** 2, axis=0, dtype=np.float64)
    varies &= total > 0
    constant = np.where(residual == 0, 1.0, 0.0)
    return float(np.mean(np.where(varies, 1 - residual / np.where(varies, total, 1), constant)))


def rmse(predicted: np.ndarray, targets: np.ndarray, scale: np.ndarray | float = 1.0) -> float:
    """RMSE = scale sqrt(mean (t - y)^2), averaged over outputs, in the targets' unit."""
    squares = np.mean((targets - predicted) ** 2, axis=0, dtype=np.float64)
    return float(np.mean(scale * np.sqrt(squares)))


def mae(predicted: np.ndarray, targets: np.ndarray, scale: np.ndarray | float = 1.0) -> float:
    """MAE = scale mean |t - y|, averaged over outputs, in the targets' unit."""
    return float(np.mean(scale * np.mean(np.abs(targets - predicted), axis=0, dtype=np.float64)))


def format_figure(value: float) -> str:
    """Format a loss or a metric: four decimals below 100, five digits above.

    Very small and very large values get an exponent.
    """
    size = abs(value)
    if not (size == 0 or 1e-4 <= size < 99_999.5):
        return f"{value:.4e}"
    steps = ((99.99995, 4), (999.995, 2), (9_999.95, 1))
    decimals = next((places for limit, places in steps if size < limit), 0)
    return f"{value:.{decimals}f}"


def format_count(value: float) -> str:
    """Format with three digits: 937, 29.5k, 138k, 1.38M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:
            return three_digits(value / size) + unit
    return three_digits(value)


def three_digits(value: float) -> str:
    """Format with three digits, at most two of them after the point."""
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"

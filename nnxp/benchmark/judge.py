"""The loss that contenders are compared by: plain NumPy in float64, the same for all."""

import numpy as np

ROWS = 1024
"""How many of the data's first rows are judged on."""


def loss(
    parameters: list[tuple[np.ndarray, np.ndarray]], x: np.ndarray, classes: np.ndarray
) -> float:
    """The mean softmax cross-entropy of a ReLU network on the first rows of the data.

        -mean(log p), p = softmax(z) at the class

    Written apart from nnxp's kernels, which are among what is judged.

    Args:
        parameters: (weight, bias) per layer, (fan_in, fan_out) and (fan_out,).
        x: (samples, features).
        classes: (samples,), integers.
    """
    y, labels = x[:ROWS].astype(np.float64), classes[:ROWS]
    with np.errstate(all="ignore"):  # what has diverged shows in the loss
        for layer, (weight, bias) in enumerate(parameters):
            z = y @ weight.astype(np.float64) + bias.astype(np.float64)
            y = z if layer == len(parameters) - 1 else np.maximum(z, 0.0)
        shifted = y - y.max(axis=1, keepdims=True)
        log_sums = np.log(np.exp(shifted).sum(axis=1))
        return float(np.mean(log_sums - shifted[np.arange(len(labels)), labels]))

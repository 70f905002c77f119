"""Computes the loss by which contenders are compared: plain NumPy in float64, one for all."""

import numpy as np

ROWS = 1024
"""The loss is that of this many first rows of the data."""


def loss(
    parameters: list[tuple[np.ndarray, np.ndarray]], x: np.ndarray, classes: np.ndarray
) -> float:
    """-mean(log p), p = softmax(z) at the class: a ReLU network's loss on the first rows.

    It does not use nnxp's kernels, because it checks them.

    Args:
        parameters: (weight, bias) per layer, (fan_in, fan_out) and (fan_out,).
        x: (samples, features).
        classes: (samples,), integers.
    """
    y, labels = x[:ROWS].astype(np.float64), classes[:ROWS]
    with np.errstate(all="ignore"):  # divergence shows in the loss
        for layer, (weight, bias) in enumerate(parameters):
            z = y @ weight.astype(np.float64) + bias.astype(np.float64)
            y = z if layer == len(parameters) - 1 else np.maximum(z, 0.0)
        shifted = y - y.max(axis=1, keepdims=True)
        log_sums = np.log(np.exp(shifted).sum(axis=1))
        return float(np.mean(log_sums - shifted[np.arange(len(labels)), labels]))

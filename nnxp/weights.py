"""Weights that were trained elsewhere, from an npz archive of W1, b1, W2, b2, ..."""

from __future__ import annotations

import os

import numpy as np

from nnxp import npz
from nnxp.errors import DataError


def read(
    path: str | os.PathLike[str], dtype: str = "float32"
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Read (weight, bias) of each layer and check that the shapes fit.

    Args:
        path: an npz archive with `W1`, (inputs, units), `b1`, (units,) or any shape of as many
            numbers, `W2`, (units of layer 1, units), and so on; the order does not matter.
        dtype: "float32" or "float64", in which every value must be finite.

    Returns:
        One (weight, bias) per layer, (fan_in, fan_out) and (fan_out,), in the file's own dtypes.

    Raises:
        DataError: the file is missing or damaged, or an array is missing, is not numeric, is not
            finite or has a shape that does not fit the layer before it.
    """
    arrays = npz.load(path)
    layers = max((int(n[1:]) for n in arrays if n[:1] in "Wb" and n[1:].isdecimal()), default=0)
    if not layers:
        raise DataError(f"{path}: has no W1, b1, ...; it has {', '.join(arrays) or 'nothing'}")
    parameters: list[tuple[np.ndarray, np.ndarray]] = []
    for i in range(1, layers + 1):
        for name in (f"W{i}", f"b{i}"):
            _check(path, arrays, name, dtype)
        weight, bias = arrays[f"W{i}"], arrays[f"b{i}"].reshape(-1)
        fan_in = parameters[-1][0].shape[1] if parameters else weight.shape[0] if weight.ndim else 0
        if weight.shape != (fan_in, bias.size):
            raise DataError(
                f"{path}: W{i} is {weight.shape}; after the layer before it and with b{i} it must "
                f"be {(fan_in, bias.size)}, rows the inputs"
            )
        parameters.append((weight, bias))
    return parameters


def _check(
    path: str | os.PathLike[str], arrays: dict[str, np.ndarray], name: str, dtype: str
) -> None:
    if name not in arrays:
        raise DataError(f"{path}: has no {name}")
    if arrays[name].dtype.kind not in "fiu":
        raise DataError(f"{path}: {name} is {arrays[name].dtype}, not numbers")
    with np.errstate(over="ignore"):
        finite = np.isfinite(arrays[name].astype(dtype)).all()
    if not finite:
        raise DataError(f"{path}: {name} holds values that are not finite in {dtype}")

"""An npz archive of W1, b1, W2, b2, ..."""

from __future__ import annotations

from pathlib import Path

from nnxp import npz
from nnxp.errors import DataError
from nnxp.weights.layout import Layer, Weights, oriented


def read(path: Path, layout: str | None) -> Weights:
    """Read `W1`, 2-d, `b1`, of any shape with a number per unit, `W2`, ...; see `weights.read`."""
    arrays = npz.load(path)
    count = max((int(n[1:]) for n in arrays if n[:1] in "Wb" and n[1:].isdecimal()), default=0)
    if not count:
        raise DataError(f"{path}: has no W1, b1, ...; it has {', '.join(arrays) or 'nothing'}")
    layers = []
    for i in range(1, count + 1):
        for name in (f"W{i}", f"b{i}"):
            if name not in arrays:
                raise DataError(f"{path}: has no {name}")
            if arrays[name].dtype.kind not in "fiu":
                raise DataError(f"{path}: {name} is {arrays[name].dtype}, not numbers")
        if arrays[f"W{i}"].ndim != 2:
            raise DataError(f"{path}: W{i} is {arrays[f'W{i}'].shape}, not a matrix")
        layers.append(Layer(f"W{i}", arrays[f"W{i}"], arrays[f"b{i}"].reshape(-1)))
    return oriented(path, layers, None, layout)

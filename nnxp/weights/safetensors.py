"""A safetensors file: a PyTorch state_dict, or arrays that are named likewise."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nnxp.errors import DataError, first_line
from nnxp.weights.layout import Weights, ordered, oriented, paired


def read(path: Path, layout: str | None) -> Weights:
    """Read `NAME.weight` and `NAME.bias`, or `NAME.kernel` and `NAME.bias`; see `weights.read`.

    PyTorch's own files say so ("format": "pt"), and have (out, in). A "kernel" is (in, out), as in
    Keras and Flax.
    """
    import safetensors

    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if "nnxp" in metadata:
                raise DataError(f"{path}: is a model of nnxp already: load it as it is")
            arrays = {name: _array(path, file, name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise DataError(f"{path}: not a readable safetensors file ({first_line(error)})") from None
    kernels = any(name.rpartition(".")[2] == "kernel" for name in arrays)
    fixed = None
    if kernels:
        fixed = "in-out", "they are called kernel, as in Keras and Flax"
    elif metadata.get("format") == "pt":
        fixed = "out-in", "the file is a PyTorch state_dict"
    layers = paired(path, arrays, "kernel" if kernels else "weight", "bias")
    return oriented(path, ordered(path, layers), fixed, layout)


def _array(path: Path, file: object, name: str) -> np.ndarray:
    try:
        array = file.get_tensor(name)  # type: ignore[attr-defined]
    except (TypeError, KeyError, AttributeError) as error:  # NumPy has no bfloat16
        raise DataError(
            f"{path}: {name}: NumPy has not its type ({first_line(error)}): save it as float32"
        ) from None
    if array.dtype.kind not in "fiu":
        raise DataError(f"{path}: {name} is {array.dtype}: save it as float32")
    return array

"""A safetensors file: a PyTorch state_dict, or arrays that are named likewise."""

from __future__ import annotations

from pathlib import Path

from nnxp import safetensors
from nnxp.errors import DataError
from nnxp.weights.layout import Weights, ordered, oriented, paired

DTYPES = ("F16", "F32", "F64", "I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64")
"""The types of numbers that NumPy has, by their names in the file."""


def read(path: Path, layout: str | None) -> Weights:
    """Read `NAME.weight` and `NAME.bias`, or `NAME.kernel` and `NAME.bias`; see `weights.read`.

    PyTorch's own files say so ("format": "pt"), and have (out, in). A "kernel" is (in, out), as in
    Keras and Flax.
    """
    try:
        with path.open("rb") as file:
            header = safetensors.read_header(file)
            if "nnxp" in header.metadata:
                raise DataError(f"{path}: is a model of nnxp already: load it as it is")
            for name, dtype in header.dtypes.items():
                if dtype not in DTYPES:
                    raise DataError(f"{path}: {name} is {dtype}: save it as float32, F32")
            arrays = safetensors.arrays(header.content + safetensors.read_body(file, header))
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{path}: not a readable safetensors file ({error})") from None
    kernels = any(name.rpartition(".")[2] == "kernel" for name in arrays)
    fixed = None
    if kernels:
        fixed = "in-out", "they are called kernel, as in Keras and Flax"
    elif header.metadata.get("format") == "pt":
        fixed = "out-in", "the file is a PyTorch state_dict"
    layers = paired(path, arrays, "kernel" if kernels else "weight", "bias")
    return oriented(path, ordered(path, layers), fixed, layout)

"""Weights that were trained elsewhere: a file for each format, and one for the layout of matrices.

Files are data: nothing in them is executed, and sizes that they declare are checked before memory
is taken.
"""

from __future__ import annotations

import importlib
import logging
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nnxp import files, options
from nnxp.errors import DataError, printable, unknown_name
from nnxp.weights.layout import LAYOUTS, AmbiguousLayoutError, Layer, Weights

__all__ = ["LAYOUTS", "AmbiguousLayoutError", "Layer", "Weights", "read"]

log = logging.getLogger("nnxp")

_PICKLE = (
    "is a pickle, as torch.save writes it, which could run code: nnxp does not open it. Save the "
    "weights with safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
)


def _layout(value: Any) -> str:
    if value not in LAYOUTS:
        raise unknown_name("layout", value, LAYOUTS)
    return str(value)


_LAYOUT = options.Rule(f"one of {', '.join(LAYOUTS)}", _layout)


@options.checked(dtype=options.DTYPE, layout=options.optional(_LAYOUT))
def read(
    path: str | os.PathLike[str], dtype: str = "float32", layout: str | None = None
) -> Weights:
    """Read the layers of a network, in (fan_in, fan_out) whatever their layout in the file.

    The format is recognised by the content:

        npz          `W1`, `b1`, `W2`, `b2`, ...; biases of any shape
        safetensors  a PyTorch state_dict: `0.weight`, `0.bias`, ..., or any other names in pairs
        HDF5         Keras: `.weights.h5`, or a whole model, `.h5`
        .keras       Keras: a whole model, whose activations are taken too
        ONNX         a chain of Gemm, or MatMul and Add, with activations between, which are taken

    Args:
        path: the file.
        dtype: "float32" or "float64", in which every value must be finite.
        layout: "in-out" if a matrix is (fan_in, fan_out), "out-in" if it is (fan_out, fan_in); None
            to take it from the format or the shapes. Keras, ONNX and PyTorch's state_dicts have one
            of their own, which this does not change.

    Returns:
        The layers, the activations if the file has them, and the layout with its reason.

    Raises:
        AmbiguousLayoutError: every matrix is square, and the format has no layout of its own.
        DataError: the file is missing, damaged or of an unknown format, or has a layer of another
            kind, or an array is missing, is not finite or does not fit the layer before it.
        InputError: `dtype` or `layout` is not known, or what reads the format is not installed.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from nnxp import weights
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "weights.npz")
        ...     np.savez(path, W1=np.ones((4, 2)), b1=np.zeros(2))
        ...     found = weights.read(path)
        >>> [each.shape for each in found.parameters[0]]
        [(4, 2), (2,)]
    """
    path = Path(options.PATH("path", path))
    try:
        with files.open_to_read(path) as file:
            start = file.read(16)
        module = _format(path, start)
        found: Weights = importlib.import_module(f"nnxp.weights.{module}").read(path, layout)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except MemoryError:
        raise DataError(f"{path}: takes more memory than there is") from None
    except DataError as error:  # it may quote the file
        raise type(error)(printable(str(error))) from None
    found = replace(
        found,
        names=tuple(map(printable, found.names)),
        layout=printable(found.layout),
        unknown=found.unknown and printable(found.unknown),
    )
    for name, (weight, bias) in zip(found.names, found.parameters, strict=True):
        _check(path, f"the weight {name}", weight, dtype)
        _check(path, f"the bias of {name}", bias, dtype)
    log.info("%s: %s", path, found.layout)
    return found


def _format(path: Path, start: bytes) -> str:
    """Return the module for a file that starts with these bytes."""
    if start.startswith(b"PK"):
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError):
            return "npz"  # whose error says what is wrong
        if any(name.endswith("data.pkl") for name in names):
            raise DataError(f"{path}: {_PICKLE}")
        return "keras" if "model.weights.h5" in names else "npz"
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return "keras"
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise DataError(f"{path}: {_PICKLE}")
    if start[8:9] == b"{":
        return "safetensors"
    if path.suffix.lower() == ".onnx":
        return "onnx"
    if path.suffix.lower() == ".npz":
        return "npz"
    raise DataError(f"{path}: not a file of weights: npz, safetensors, Keras (.h5, .keras) or ONNX")


def _check(path: Path, name: str, array: np.ndarray, dtype: str) -> None:
    with np.errstate(over="ignore"):
        finite = np.isfinite(array.astype(dtype)).all()
    if not finite:
        raise DataError(f"{path}: {name} holds values that are not finite in {dtype}")

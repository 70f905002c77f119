"""Keras: the weights of `save_weights` (HDF5), and whole models, `.keras` or HDF5."""

from __future__ import annotations

import io
import math
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from nnxp import extras, strict_json
from nnxp.errors import DataError, NnxpError, first_line, shown
from nnxp.names import ActivationName
from nnxp.npz import LARGEST_RATIO, SMALLEST_BOMB
from nnxp.weights.layout import Layer, Weights, oriented

FIXED = "in-out", "it is Keras's layout"
WITHOUT_WEIGHTS = ("InputLayer", "Dropout", "Activation")
"""The classes of layers besides Dense that a model may have; Dropout acts in training only."""
ACTIVATIONS: dict[str, ActivationName] = {
    "linear": "identity", "relu": "relu", "sigmoid": "sigmoid", "tanh": "tanh", "elu": "elu",
    "silu": "silu", "swish": "silu", "softplus": "softplus", "softsign": "softsign",
    "softmax": "softmax",
}  # fmt: skip
"""Keras's activations that nnxp has. Not gelu and leaky_relu, whose formulas differ."""


def read(path: Path, layout: str | None) -> Weights:
    """Read the Dense layers of a chain; see `weights.read`."""
    try:
        content, config = _content(path)
        h5py = extras.require("h5py", "reading Keras's weights", "keras")
        with h5py.File(io.BytesIO(content), "r") as file:
            _check_links(path, file, len(content))
            if config is None and isinstance(text := file.attrs.get("model_config"), str):
                config = strict_json.loads(text)
            said = (None, None, None) if config is None else _activations(path, config)
            found = oriented(path, _layers(path, file), FIXED, layout)
    except NnxpError:
        raise
    except Exception as error:  # a damaged file can fail in any part of HDF5, zip or JSON
        raise DataError(f"{path}: not a readable file of Keras ({first_line(error)})") from None
    if said[0] is not None and len(said[0]) != len(found.parameters) - 1:
        raise DataError(
            f"{path}: describes {len(said[0]) + 1} Dense layers and has {len(found.parameters)}"
        )
    return Weights(found.names, found.parameters, found.layout, *said)


def _content(path: Path) -> tuple[bytes, Any]:
    """Return the HDF5 part of a file, and the model's description if it is a `.keras` archive."""
    if not zipfile.is_zipfile(path):
        return path.read_bytes(), None
    with zipfile.ZipFile(path) as archive:
        parts = [archive.getinfo(name) for name in ("model.weights.h5", "config.json")]
        _check_size(path, sum(part.file_size for part in parts), path.stat().st_size)
        weights, config = (archive.read(part) for part in parts)
    return weights, strict_json.loads(config)


def _check_size(path: Path, unpacked: int, size: int) -> None:
    if unpacked > SMALLEST_BOMB and unpacked > LARGEST_RATIO * size:
        raise DataError(
            f"{path}: would unpack into {unpacked:,} bytes, over {LARGEST_RATIO} times its size"
        )


def _check_links(path: Path, file: Any, size: int) -> None:
    """Refuse what names other files, and data sets that claim more than the file can hold."""
    unpacked, folders = 0, [file]
    seen = set()
    for folder in folders:  # grows: HDF5 may have circles
        for name in folder:
            link = folder.get(name, getlink=True)
            if type(link).__name__ != "HardLink":
                raise DataError(f"{path}: {folder.name}/{name} is a link to somewhere else")
            item = folder[name]
            if item.id in seen:
                raise DataError(f"{path}: {item.name} stands in two places")
            seen.add(item.id)
            if hasattr(item, "keys"):
                folders.append(item)
            elif item.external or item.is_virtual:
                raise DataError(f"{path}: {item.name} lies in another file")
            else:  # a chunk is unpacked as a whole, though little of it may belong to the array
                unpacked += max(item.nbytes, math.prod(item.chunks or ()) * item.dtype.itemsize)
    _check_size(path, unpacked, size)


def _layers(path: Path, file: Any) -> list[Layer]:
    """Return the layers in the order of the network."""
    named = file.get("model_weights", file)
    found = _by_names(named) if "layer_names" in named.attrs else _by_numbers(path, file)
    layers = []
    for name, arrays in found:
        shapes = [array.shape for array in arrays]
        if not shapes:
            continue
        if [len(shape) for shape in shapes] == [2]:
            raise DataError(
                f"{path}: layer {name} has no bias; nnxp's layers have: set one of zeros"
            )
        if [len(shape) for shape in shapes] != [2, 1]:
            raise DataError(
                f"{path}: layer {name} has arrays of {', '.join(map(str, shapes))}: only Dense "
                "layers can be imported"
            )
        layers.append(Layer(name, *arrays))
    if not layers:
        raise DataError(f"{path}: has no Dense layers of Keras")
    return layers


def _by_numbers(path: Path, file: Any) -> list[tuple[str, list[np.ndarray]]]:
    """Read `layers/dense_1/vars/0` of Keras 3, which numbers the layers of a class in order."""
    found = []
    folder = file.get("layers", {})
    for name in sorted(folder, key=lambda name: [int(n) for n in re.findall(r"\d+", name)]):
        inner = [each for each in folder[name] if each not in ("vars", "seed_generator")]
        if inner:
            raise DataError(f"{path}: layer {name} has {inner[0]} inside: only Dense layers can be "
                            "imported")  # fmt: skip
        arrays = folder[name].get("vars", {})
        found.append((name, [np.asarray(arrays[i]) for i in sorted(arrays, key=int)]))
    return found


def _by_names(folder: Any) -> list[tuple[str, list[np.ndarray]]]:
    """Read `NAME/...` of Keras 2, and of Keras 3 in `.h5`, where attributes give the order."""
    return [
        (name, [np.asarray(folder[name][each]) for each in _texts(folder[name], "weight_names")])
        for name in _texts(folder, "layer_names")
    ]


def _texts(folder: Any, attribute: str) -> list[str]:
    texts = folder.attrs[attribute]
    return [text.decode() if isinstance(text, bytes) else str(text) for text in texts]


def _activations(
    path: Path, config: Any
) -> tuple[tuple[ActivationName, ...] | None, ActivationName | None, str | None]:
    """Return the activations of the Dense layers, and what is wrong with one that nnxp has not.

    Raises:
        DataError: the model is no chain of Dense layers.
    """
    names: list[str] = []
    for layer in config["config"]["layers"]:
        kind, settings = layer["class_name"], layer["config"]
        if kind != "Dense" and kind not in WITHOUT_WEIGHTS:
            raise DataError(
                f"{path}: layer {settings.get('name')} is {kind}: only Dense layers, Dropout and "
                "Activation can be imported"
            )
        if len(layer.get("inbound_nodes", ())) > 1:
            raise DataError(f"{path}: layer {settings['name']} is used twice: no chain of layers")
        if kind == "Dense":
            names.append(settings["activation"])
        elif kind == "Activation" and names[-1:] == ["linear"]:
            names[-1] = settings["activation"]
        elif kind == "Activation":
            raise DataError(f"{path}: layer {settings['name']} is not after a Dense layer without "
                            "activation")  # fmt: skip
    if len(config["config"].get("output_layers", [0])) > 1 and not _is_one(config):
        raise DataError(f"{path}: the model has several outputs: no chain of layers")
    unknown = next((name for name in names if name not in ACTIVATIONS), None)
    if unknown is not None:
        return None, None, f"{path}: Keras's activation {shown(unknown)} is none of nnxp's"
    *hidden, output = [ACTIVATIONS[name] for name in names]
    return tuple(hidden), output, None


def _is_one(config: Any) -> bool:
    """Return whether `output_layers` is one layer, ["dense", 0, 0], and not a list of several."""
    return isinstance(config["config"]["output_layers"][0], str)

"""Models on disk: a safetensors file whose one metadata entry describes the network.

The tensors are `layers.0.weight`, (fan_in, fan_out), `layers.0.bias`, (fan_out,), and so on, and
`metadata.0`, `metadata.1`, ... for arrays that the model's own metadata holds; in its place there
stands {"tensor": "metadata.0"}.
The metadata entry `nnxp` is JSON: the format's number, sizes, activations, dtype, loss, how
targets were scaled, the model's own metadata, and a SHA-256 of the whole file as it is with the
digest's digits at zero.
Loading parses data and runs nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnxp.errors import InputError, ModelError
from nnxp.files import write
from nnxp.names import ActivationName, DTypeName
from nnxp.target_scaling import LARGEST, SMALLEST, TargetScaling

FORMAT = 1
_NO_DIGEST = "0" * 64


@dataclass(frozen=True, eq=False)
class Model:
    """The content of a model file: what `nnxp.MLP` is made of, on the host."""

    sizes: tuple[int, ...]
    hidden: tuple[ActivationName, ...]
    output: ActivationName
    dtype: DTypeName
    loss: str
    parameters: list[tuple[np.ndarray, np.ndarray]]
    """(weight, bias) per layer, (fan_in, fan_out) and (fan_out,)."""
    target_scaling: TargetScaling | None
    metadata: dict[str, Any]
    """Anything that JSON can hold, and NumPy arrays."""

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """The parameters by their names in the file."""
        return {
            f"layers.{i}.{name}": np.ascontiguousarray(array)
            for i, layer in enumerate(self.parameters)
            for name, array in zip(("weight", "bias"), layer, strict=True)
        }


def check_finite(path: object, tensors: dict[str, np.ndarray]) -> None:
    """Raise ModelError unless all tensors of the file at `path` are finite."""
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise ModelError(f"{path}: {name} holds values that are not finite: train anew")


def save(model: Model, path: str | os.PathLike[str]) -> None:
    """Write `model` to `path`, at once or not at all.

    Raises:
        InputError: its metadata holds something that JSON cannot.
        ModelError: a parameter is not finite.
        OSError: the folder or the disk refuses; what was at `path` is still there.
    """
    import safetensors.numpy

    tensors = model.tensors
    description = {
        "format": FORMAT,
        "sha256": _NO_DIGEST,
        "sizes": model.sizes,
        "hidden": model.hidden,
        "output": model.output,
        "dtype": model.dtype,
        "loss": model.loss,
        "target_scaling": model.target_scaling and asdict(model.target_scaling),
        "metadata": _take_arrays(model.metadata, tensors),
    }
    try:
        text = json.dumps(description, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"the network's metadata is not JSON: {error}") from None
    check_finite(path, tensors)
    content = safetensors.numpy.save(tensors, metadata={"nnxp": text})
    digest = hashlib.sha256(content).hexdigest()
    write(path, content.replace(_NO_DIGEST.encode(), digest.encode(), 1))


def load(path: str | os.PathLike[str]) -> Model:
    """Read the model that `save` wrote to `path`.

    Raises:
        ModelError: the file is missing, damaged, or not an nnxp model.
    """
    import safetensors
    import safetensors.numpy

    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from None
    description = _description(path, content)
    digest = str(description.get("sha256"))
    blank = content.replace(digest.encode(), _NO_DIGEST.encode(), 1)
    if hashlib.sha256(blank).hexdigest() != digest:
        raise ModelError(f"{path}: damaged: its content does not match its checksum")
    if description.get("format") != FORMAT:
        raise ModelError(
            f"{path}: format {description.get('format')}; this nnxp reads {FORMAT}: update nnxp"
        )
    try:
        tensors = safetensors.numpy.load(content)
        layers = len(description["sizes"]) - 1
        parameters = [
            (tensors[f"layers.{i}.weight"], tensors[f"layers.{i}.bias"]) for i in range(layers)
        ]
        metadata = dict(_put_arrays(description["metadata"], tensors))
        model = Model(
            tuple(description["sizes"]),
            tuple(description["hidden"]),
            description["output"],
            description["dtype"],
            description["loss"],
            parameters,
            _target_scaling(description, metadata),
            metadata,
        )
    except (KeyError, TypeError, ValueError, AttributeError, safetensors.SafetensorError) as error:
        raise unusable(path, error) from None
    check_finite(path, tensors)
    return model


def unusable(path: object, error: Exception) -> ModelError:
    """The error for a file whose values make no network."""
    return ModelError(f"{path}: not a model that nnxp can use ({error})")


def _target_scaling(description: dict[str, Any], metadata: dict[str, Any]) -> TargetScaling | None:
    """Raises ValueError where it does not fit the network."""
    # Files written before the release of 0.1 keep it in the metadata.
    earlier = metadata.pop("target_preprocessing", None)
    known = description.get("target_scaling")
    known = earlier if known is None else known
    if known is None:
        return None
    scaling, outputs = TargetScaling(known["shift"], known["scale"]), description["sizes"][-1]
    if len(scaling.scale) != outputs:
        raise ValueError(f"target scaling of {len(scaling.scale)} for {outputs} outputs")
    if not (
        np.abs(scaling.shift).max() <= LARGEST
        and min(scaling.scale) >= SMALLEST
        and scaling.unit <= LARGEST
    ):
        raise ValueError(f"target scaling is {scaling.describe()}, out of {SMALLEST} to {LARGEST}")
    return scaling


def describe(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What the file at `path` says of its network: "sizes", "hidden", "output", "metadata", ...

    Nothing is checked but that it is an nnxp model: None if not. Only the file's header is read.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(8)
            length = min(int.from_bytes(start, "little"), os.fstat(file.fileno()).st_size)
            return _description(Path(path), start + file.read(length))
    except (ModelError, OSError):
        return None


def _take_arrays(value: Any, tensors: dict[str, np.ndarray]) -> Any:
    """`value` with a reference for each array in it, which goes to `tensors`."""
    if isinstance(value, np.ndarray):
        name = f"metadata.{sum(known.startswith('metadata.') for known in tensors)}"
        tensors[name] = np.ascontiguousarray(value)
        return {"tensor": name}
    if isinstance(value, dict):
        return {key: _take_arrays(each, tensors) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_take_arrays(each, tensors) for each in value]
    return value


def _put_arrays(value: Any, tensors: dict[str, np.ndarray]) -> Any:
    """What `_take_arrays` made `value` of."""
    if isinstance(value, dict):
        if list(value) == ["tensor"] and str(value["tensor"]).startswith("metadata."):
            return tensors[value["tensor"]]
        return {key: _put_arrays(each, tensors) for key, each in value.items()}
    return [_put_arrays(each, tensors) for each in value] if isinstance(value, list) else value


def _description(path: Path, content: bytes) -> dict[str, Any]:
    """The JSON object that describes the network, from the file's header."""
    try:
        (length,) = struct.unpack_from("<Q", content)
        header = json.loads(content[8 : 8 + length].decode())
        description = json.loads(header["__metadata__"]["nnxp"])
        if not isinstance(description, dict):
            raise TypeError
    except (struct.error, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise ModelError(f"{path}: not an nnxp model; 'nnxp train' makes one") from None
    return description

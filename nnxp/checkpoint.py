"""Model files: safetensors with one metadata entry, `nnxp`, that describes the network.

The tensors are `layers.0.weight`, (fan_in, fan_out), `layers.0.bias`, (fan_out,), and so on. Arrays
in the model's own metadata are the tensors `metadata.0`, `metadata.1`, ..., and the metadata refers
to them as {"tensor": "metadata.0"}.
The entry `nnxp` is JSON: the format's number, sizes, activations, dtype, loss, target scaling, the
model's own metadata, what it needs besides nnxp (registered activations and losses), and a SHA-256
of the whole file with zeros for the digits of the SHA-256.
Loading a file parses data and never runs code.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnxp.errors import InputError, ModelError
from nnxp.files import open_to_read, read, write
from nnxp.kernels import ACTIVATIONS
from nnxp.names import ActivationName, DTypeName
from nnxp.objectives import LOSSES
from nnxp.target_scaling import LARGEST, SMALLEST, TargetScaling

log = logging.getLogger("nnxp")

FORMAT = 1
_NO_DIGEST = "0" * 64
TRAINING = "training"
"""The entry of the metadata with the state of a training; see `nnxp.resuming`."""


@dataclass(frozen=True, eq=False)
class Model:
    """The content of a model file, from which `MLP.load` builds a network; on the host."""

    sizes: tuple[int, ...]
    hidden: tuple[ActivationName, ...]
    output: ActivationName
    dtype: DTypeName
    loss: str
    parameters: list[tuple[np.ndarray, np.ndarray]]
    """(weight, bias) per layer, (fan_in, fan_out) and (fan_out,)."""
    target_scaling: TargetScaling | None
    metadata: dict[str, Any]
    """JSON values and NumPy arrays."""

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """The parameters, by their names in the file."""
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
    """Write `model` to `path`, completely or not at all.

    Raises:
        InputError: its metadata holds something other than JSON values and NumPy arrays, or an
            activation or the loss is a pair of functions without a registered name.
        ModelError: a parameter is not finite.
        OSError: the folder or the disk refuses; a file that was at `path` is unchanged.
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
        "metadata": _extract_arrays(model.metadata, tensors),
    }
    needs = ACTIVATIONS.needs((*model.hidden, model.output)) + LOSSES.needs([model.loss])
    if needs:
        description["needs"] = needs
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
        content = read(path)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from None
    description = _description(path, content)
    digest = str(description.get("sha256"))
    without_digest = content.replace(digest.encode(), _NO_DIGEST.encode(), 1)
    if hashlib.sha256(without_digest).hexdigest() != digest:
        raise ModelError(f"{path}: damaged: its content does not match its checksum")
    if description.get("format") != FORMAT:
        raise ModelError(
            f"{path}: format {description.get('format')}; this nnxp reads {FORMAT}: update nnxp"
        )
    _check_needs(path, description.get("needs", []))
    try:
        tensors = safetensors.numpy.load(content)
        layers = len(description["sizes"]) - 1
        parameters = [
            (tensors[f"layers.{i}.weight"], tensors[f"layers.{i}.bias"]) for i in range(layers)
        ]
        metadata = dict(_restore_arrays(description["metadata"], tensors))
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


def _check_needs(path: Path, needs: Any) -> None:
    """Raise ModelError unless all that a file needs besides nnxp is registered here."""
    registries = {each.kind: each for each in (ACTIVATIONS, LOSSES)}
    try:
        # Iteration leaves out pieces without a name, of which a file says nothing.
        missing = [each for each in needs if each["name"] not in [*registries[each["kind"]]]]
        for each in missing[:1]:
            raise ModelError(
                f"{path}: needs the {each['kind']} {each['name']!r} of {each['source']}, which is "
                f"not registered here: install or import it, or call "
                f"nnxp.register_{each['kind']}({each['name']!r}, ...) first"
            )
        for each in needs:
            here = registries[each["kind"]].source(each["name"])
            if here != each["source"]:
                log.info(
                    "%s: the %s %r is that of %s, and was that of %s when the model was saved",
                    path, each["kind"], each["name"], here, each["source"],
                )  # fmt: skip
    except (KeyError, TypeError) as error:
        raise unusable(path, error) from None


def unusable(path: object, error: Exception) -> ModelError:
    """Return the error for a file whose values do not describe a network."""
    return ModelError(f"{path}: not a model that nnxp can use ({error})")


def _target_scaling(description: dict[str, Any], metadata: dict[str, Any]) -> TargetScaling | None:
    """Return the target scaling; raise ValueError if it does not fit the network."""
    # Files written before the release of 0.1 have it in the metadata.
    in_metadata = metadata.pop("target_preprocessing", None)
    stored = description.get("target_scaling")
    stored = in_metadata if stored is None else stored
    if stored is None:
        return None
    scaling, outputs = TargetScaling(stored["shift"], stored["scale"]), description["sizes"][-1]
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
    """Read the description of the model at `path`: "sizes", "hidden", "output", "metadata", ...

    Only the file's header is read, and nothing else is checked. Return None if the file is not an
    nnxp model.
    """
    try:
        with open_to_read(path) as file:
            start = file.read(8)
            length = min(int.from_bytes(start, "little"), os.fstat(file.fileno()).st_size)
            return _description(Path(path), start + file.read(length))
    except (ModelError, OSError):
        return None


def _extract_arrays(value: Any, tensors: dict[str, np.ndarray]) -> Any:
    """Return `value` with a reference in place of each array, and add the arrays to `tensors`."""
    if isinstance(value, np.ndarray):
        name = f"metadata.{sum(known.startswith('metadata.') for known in tensors)}"
        tensors[name] = np.asarray(value, order="C")  # `ascontiguousarray` has no 0-d arrays
        return {"tensor": name}
    if isinstance(value, dict):
        return {key: _extract_arrays(each, tensors) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_extract_arrays(each, tensors) for each in value]
    return value


def _restore_arrays(value: Any, tensors: dict[str, np.ndarray]) -> Any:
    """Return `value` with the arrays of `tensors` in place of the references to them."""
    if isinstance(value, dict):
        if list(value) == ["tensor"] and str(value["tensor"]).startswith("metadata."):
            return tensors[value["tensor"]]
        return {key: _restore_arrays(each, tensors) for key, each in value.items()}
    return [_restore_arrays(each, tensors) for each in value] if isinstance(value, list) else value


def _description(path: Path, content: bytes) -> dict[str, Any]:
    """Parse the JSON object in the file's header that describes the network."""
    try:
        (length,) = struct.unpack_from("<Q", content)
        header = json.loads(content[8 : 8 + length].decode())
        description = json.loads(header["__metadata__"]["nnxp"])
        if not isinstance(description, dict):
            raise TypeError
    except (struct.error, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise ModelError(f"{path}: not an nnxp model; 'nnxp train' makes one") from None
    return description

"""Model files: safetensors with one metadata entry, `nnxp`, that describes the network.

The tensors are `layers.0.weight`, (fan_in, fan_out), `layers.0.bias`, (fan_out,), and so on. Arrays
in the model's own metadata are the tensors `metadata.0`, `metadata.1`, ..., and the metadata refers
to them as {"tensor": "metadata.0"}.
The entry `nnxp` is JSON: the format's number, sizes, activations, dtype, loss, target scaling, the
model's own metadata, what it needs besides nnxp (registered activations and losses), and a SHA-256
of the whole file with zeros for the digits of the SHA-256.
Loading a file parses data and never runs code. A file is refused if it has a name that this nnxp
does not know, other than those inside the model's own metadata.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nnxp import safetensors, strict_json
from nnxp.errors import InputError, ModelError, first_line, printable, shown
from nnxp.files import open_to_read, write
from nnxp.kernels import ACTIVATIONS
from nnxp.names import ActivationName, DTypeName
from nnxp.objectives import LOSSES
from nnxp.target_scaling import LARGEST, SMALLEST, TargetScaling

log = logging.getLogger("nnxp")

FORMAT = 1
_NO_DIGEST = "0" * 64
_ZEROS = _NO_DIGEST.encode()
_ENTRIES = ("format", "sha256", "sizes", "hidden", "output", "dtype", "loss", "target_scaling",
            "metadata", "needs")  # fmt: skip
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
        InputError: its metadata holds something other than JSON values and NumPy arrays, or more
            than `load` reads, or an activation or the loss is a pair of functions without a
            registered name.
        ModelError: a parameter is not finite.
        OSError: the folder or the disk refuses; a file that was at `path` is unchanged.
    """
    tensors = model.tensors
    needs = ACTIVATIONS.needs((*model.hidden, model.output)) + LOSSES.needs([model.loss])
    try:
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
        text = json.dumps(description | ({"needs": needs} if needs else {}), allow_nan=False)
        strict_json.loads(text)  # what could not be loaded is not written
        content = safetensors.dump(tensors, {"nnxp": text})
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"the network's metadata is not JSON that can be loaded: {first_line(error)}"
        ) from None
    check_finite(path, tensors)
    digest = hashlib.sha256(content).hexdigest()
    write(path, content.replace(_ZEROS, digest.encode(), 1))


def load(path: str | os.PathLike[str]) -> Model:
    """Read the model that `save` wrote to `path`.

    Raises:
        ModelError: the file is missing, damaged, or not an nnxp model.
    """
    path = Path(path)
    try:
        with open_to_read(path) as file:
            header, description = _description(path, file)
            try:
                body = safetensors.read_body(file, header)
            except ValueError as error:
                raise ModelError(f"{path}: damaged: {error}") from None
        _check_digest(path, description.get("sha256"), header, body)
        if description.get("format") != FORMAT:
            raise ModelError(
                f"{path}: format {shown(description.get('format'))}; this nnxp reads {FORMAT}: "
                "update nnxp"
            )
        check_names(path, "its description", description, _ENTRIES)
        check_names(path, "its header", header.metadata, ("nnxp",))
        _check_needs(path, description.get("needs", []))
        return _model(path, description, safetensors.arrays(header.content + body))
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from None
    except MemoryError:
        raise ModelError(f"{path}: takes more memory than there is") from None
    except ModelError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise unusable(path, error) from None


def _check_digest(path: Path, digest: Any, header: safetensors.Header, body: bytes) -> None:
    """Raise ModelError unless a file has the checksum that it should have."""
    digest = str(digest)
    found = hashlib.sha256(header.content.replace(digest.encode(errors="replace"), _ZEROS, 1))
    found.update(body)
    if found.hexdigest() != digest:
        raise ModelError(f"{path}: damaged: its content does not match its checksum")


def check_names(path: object, where: str, found: Iterable[str], known: Collection[str]) -> None:
    """Raise ModelError if something is found that this nnxp does not know."""
    for name in found:
        if name not in known:
            raise ModelError(
                f"{path}: {where} has {shown(name)}, which this nnxp does not know: update nnxp"
            )


def _model(path: Path, description: dict[str, Any], tensors: dict[str, np.ndarray]) -> Model:
    """Make the content of a description and its tensors."""
    sizes, names = tuple(description["sizes"]), set()
    parameters = []
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        weight, bias = (tensors[name] for name in (f"layers.{i}.weight", f"layers.{i}.bias"))
        if weight.shape != (fan_in, fan_out) or bias.shape != (fan_out,):
            raise ValueError(
                f"layers.{i} has {weight.shape} and {bias.shape}, for {fan_in} to {fan_out} units"
            )
        names |= {f"layers.{i}.weight", f"layers.{i}.bias"}
        parameters.append((weight, bias))
    metadata = dict(_restore_arrays(description["metadata"], tensors, names))
    check_names(path, "it", tensors, names)
    check_finite(path, tensors)
    return Model(
        sizes,
        tuple(description["hidden"]),
        description["output"],
        description["dtype"],
        description["loss"],
        parameters,
        _target_scaling(path, description, metadata),
        metadata,
    )


def _check_needs(path: Path, needs: Any) -> None:
    """Raise ModelError unless all that a file needs besides nnxp is registered here."""
    registries = {each.kind: each for each in (ACTIVATIONS, LOSSES)}
    try:
        for each in needs:
            check_names(path, "a need", each, ("kind", "name", "source"))
        # Iteration leaves out pieces without a name, of which a file says nothing.
        missing = [each for each in needs if each["name"] not in [*registries[each["kind"]]]]
        for each in missing[:1]:
            kind, name, source = each["kind"], shown(each["name"]), printable(str(each["source"]))
            raise ModelError(
                f"{path}: needs the {kind} {name} of {source}, which is not registered here: "
                f"install or import it, or call nnxp.register_{kind}({name}, ...) first"
            )
        for each in needs:
            here = registries[each["kind"]].source(each["name"])
            if here != each["source"]:
                log.info(
                    "%s: the %s %r is that of %s, and was that of %s when the model was saved",
                    path, each["kind"], each["name"], here, printable(str(each["source"])),
                )  # fmt: skip
    except (KeyError, TypeError) as error:
        raise unusable(path, error) from None


def unusable(path: object, error: Exception) -> ModelError:
    """Return the error for a file whose values do not describe a network."""
    return ModelError(f"{path}: not a model that nnxp can use ({first_line(error)})")


def _target_scaling(
    path: Path, description: dict[str, Any], metadata: dict[str, Any]
) -> TargetScaling | None:
    """Return the target scaling; raise ValueError if it does not fit the network."""
    if "target_scaling" in description:
        stored = description["target_scaling"]
        check_names(path, "its target scaling", stored or (), ("shift", "scale"))
    else:  # files written before the release of 0.1 have it in the metadata
        stored = metadata.pop("target_preprocessing", None)
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
            return _description(Path(path), file)[1]
    except (ModelError, OSError):
        return None


def _description(path: Path, file: BinaryIO) -> tuple[safetensors.Header, dict[str, Any]]:
    """Read the header of an open file, and in it the JSON object that describes the network."""
    try:
        header = safetensors.read_header(file)
        description = strict_json.loads(header.metadata["nnxp"])
        if not isinstance(description, dict):
            raise TypeError("its description is no object")
    except (ValueError, KeyError, TypeError) as error:
        why = "no description" if isinstance(error, KeyError) else printable(first_line(error))
        raise ModelError(f"{path}: not an nnxp model ({why}); 'nnxp train' makes one") from None
    return header, description


def _extract_arrays(value: Any, tensors: dict[str, np.ndarray]) -> Any:
    """Return `value` with a reference in place of each array, and add the arrays to `tensors`."""
    if isinstance(value, np.ndarray):
        name = f"metadata.{sum(known.startswith('metadata.') for known in tensors)}"
        tensors[name] = np.asarray(value, order="C")  # `ascontiguousarray` has no 0-d arrays
        return {"tensor": name}
    if isinstance(value, dict):
        if _is_reference(value):
            raise ValueError(f"{shown(value)} would be taken for an array")
        return {key: _extract_arrays(each, tensors) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_extract_arrays(each, tensors) for each in value]
    return value


def _restore_arrays(value: Any, tensors: dict[str, np.ndarray], names: set[str]) -> Any:
    """Return `value` with arrays in place of the references to them, whose names go to `names`."""
    if isinstance(value, dict):
        if _is_reference(value):
            names.add(value["tensor"])
            return tensors[value["tensor"]]
        return {key: _restore_arrays(each, tensors, names) for key, each in value.items()}
    if isinstance(value, list):
        return [_restore_arrays(each, tensors, names) for each in value]
    return value


def _is_reference(value: dict[str, Any]) -> bool:
    return list(value) == ["tensor"] and str(value["tensor"]).startswith("metadata.")

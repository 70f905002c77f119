"""What a model file says of the data that its network was trained on, checked before it is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnxp import options
from nnxp.datasets import features, targets
from nnxp.datasets.splits import is_split
from nnxp.errors import ModelError, shown
from nnxp.preprocessing import KINDS, Preprocessing


@options.checked(
    network_metadata=options.instance(dict, "a model's metadata, a dict"),
    sizes=options.several(options.whole(1), least=2),
)
def described(network_metadata: dict[str, Any], sizes: Sequence[int]) -> dict[str, Any]:
    """Check the entries of a model's metadata that `Dataset.metadata` writes; return those present.

    Args:
        network_metadata: the model's metadata.
        sizes: the sizes of its network's layers.

    Raises:
        ModelError: a value has a wrong type or does not fit the network, so another program wrote
            the file.
    """
    values = {key: network_metadata.get(key) for key in _DESCRIPTION}
    for key, fits in _DESCRIPTION.items():
        if values[key] is not None and not fits(values[key]):
            raise ModelError(
                f"the model's metadata has {key} {shown(values[key])}: not one of nnxp's"
            )
    classes = values["classes"]
    if classes is not None and len(classes) != sizes[-1]:
        raise ModelError(f"the model names {len(classes)} classes for {sizes[-1]} outputs")
    encoding = features.from_metadata(values["encoding"])
    named = values["features"]
    made = None if encoding is None else encoding.features
    if encoding and named is not None and len(named) != len(encoding.categories):
        raise ModelError(
            f"the model encodes {len(encoding.categories)} columns and names {len(named)}"
        )
    taken = Preprocessing(**values["preprocessing"]).features if values["preprocessing"] else None
    if None not in (made, taken) and made != taken:
        raise ModelError(
            f"the model's preprocessing takes {taken} features, and its columns make {made}"
        )
    columns = _columns(values["preprocessing"])
    columns = made if columns is None else columns
    if columns not in (None, sizes[0]):
        raise ModelError(
            f"the model's preprocessing makes {columns} features for {sizes[0]} inputs"
        )
    return {key: value for key, value in values.items() if value is not None}


def _is_preprocessing(value: Any) -> bool:
    if not (
        isinstance(value, dict)
        and {"kind", "shift", "scale"} <= set(value) <= {"kind", "shift", "scale", "matrix"}
        and value["kind"] in KINDS
    ):
        return False
    shift, scale, matrix = _finite(value["shift"]), _finite(value["scale"]), value.get("matrix")
    if shift is None or scale is None or shift.shape != scale.shape:
        return False
    if value["kind"] in ("none", "pixels"):
        with np.errstate(over="ignore", under="ignore"):
            scale = scale.astype(np.float32)  # the dtype in which `Preprocessing.apply` divides
    if not (np.isfinite(scale) & (scale > 0)).all():
        return False
    whitens = value["kind"] in ("pca", "zca")
    return _is_matrix(matrix, shift.shape) if whitens else matrix is None


def _finite(value: Any) -> np.ndarray | None:
    """Convert a finite number or a list of them to float64, 0-d or 1-d; else return None."""
    return np.asarray(_FIGURES.convert(value)) if _FIGURES.accepts(value) else None


def _is_matrix(value: Any, features: tuple[int, ...]) -> bool:
    return (
        isinstance(value, np.ndarray)
        and value.ndim == 2
        and value.dtype.kind == "f"
        and value.shape[:1] == features
    )


def _columns(preprocessing: dict[str, Any] | None) -> int | None:
    """Return the number of features after preprocessing; None if it takes any number."""
    if preprocessing is None:
        return None
    if preprocessing.get("matrix") is not None:
        return int(preprocessing["matrix"].shape[1])
    shift = preprocessing["shift"]
    return len(shift) if isinstance(shift, (list, tuple)) else None


_FIGURES = options.one_or_each(options.FINITE)
_STRINGS = options.several(options.TEXT, least=0)
_LENGTHS = options.several(options.whole(1), least=0)
_DESCRIPTION = {
    "task": targets.TASKS.__contains__,
    "classes": _STRINGS.accepts,
    "features": _STRINGS.accepts,
    "target": lambda value: isinstance(value, str),
    "shape": _LENGTHS.accepts,
    "encoding": features.is_encoding,
    "preprocessing": _is_preprocessing,
    "split": is_split,
}

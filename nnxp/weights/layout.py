"""Which way matrices lie, and in which order layers follow: by the format, or by their shapes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nnxp.errors import DataError
from nnxp.names import ActivationName

LAYOUTS = {"in-out": "(in, out)", "out-in": "(out, in)"}
"""The layouts, and what they are called in text."""
MOST_UNNUMBERED = 6
"""The most layers whose order is searched by their shapes."""


class AmbiguousLayoutError(DataError):
    """Every matrix is square, so that each could be (in, out) or (out, in)."""


class Layer(NamedTuple):
    """One layer of a file."""

    name: str
    weight: np.ndarray
    """2-d, as it lies in the file."""
    bias: np.ndarray
    """1-d."""


@dataclass(frozen=True, eq=False)
class Weights:
    """What a file says about a network."""

    names: tuple[str, ...]
    """What each layer is called there."""
    parameters: list[tuple[np.ndarray, np.ndarray]]
    """(weight, bias) per layer, (fan_in, fan_out) and (fan_out,), in the file's own dtypes."""
    layout: str
    """A sentence on the layout that was taken, and why."""
    hidden: tuple[ActivationName, ...] | None = None
    """The hidden layers' activations; None if the file does not have them."""
    output: ActivationName | None = None
    """The output layer's, likewise."""
    unknown: str | None = None
    """What is wrong with an activation that nnxp has not; then both have to be given."""


def oriented(
    path: Path, layers: Sequence[Layer], fixed: tuple[str, str] | None, asked: str | None
) -> Weights:
    """Turn each matrix to (fan_in, fan_out).

    Args:
        path: the file, for errors.
        layers: in their order.
        fixed: the layout that the format itself has, and why; None if it has none.
        asked: the layout that the user gave, if any.

    Raises:
        AmbiguousLayoutError: either layout fits.
        DataError: none does.
    """
    if asked is not None and fixed is not None and asked != fixed[0]:
        raise DataError(f"{path}: layout {asked} contradicts the file: {fixed[1]}")
    told = asked if fixed is None else fixed[0]
    fitting = [each for each in LAYOUTS if misfit(layers, each) is None]
    if told is None and len(fitting) == 2:
        first = layers[0]
        raise AmbiguousLayoutError(
            f"{path}: every matrix is square, as weight {first.name} of {first.weight.shape}: say "
            "with --layout, in Python layout=, whether they are in-out, (in, out), or out-in, "
            "(out, in) as PyTorch's"
        )
    taken = told or (fitting[0] if fitting else "in-out")
    if problem := misfit(layers, taken):
        raise DataError(f"{path}: {problem}")
    parameters = [
        (weight if taken == "in-out" else np.ascontiguousarray(weight.T), bias)
        for _, weight, bias in layers
    ]
    names = tuple(layer.name for layer in layers)
    return Weights(names, parameters, _reason(layers, taken, fixed, asked))


def misfit(layers: Sequence[Layer], layout: str) -> str | None:
    """Return what is wrong with the shapes in this layout; None if they fit."""
    before: int | None = None
    for name, weight, bias in layers:
        shape = weight.shape if layout == "in-out" else weight.shape[::-1]
        fan_in = shape[0] if before is None else before
        if shape != (fan_in, bias.size):
            right = (fan_in, bias.size) if layout == "in-out" else (bias.size, fan_in)
            return (
                f"weight {name} is {weight.shape}; after the layer before it and with a bias of "
                f"{bias.size} it must be {right}, {LAYOUTS[layout]}"
            )
        before = bias.size
    return None


def _reason(
    layers: Sequence[Layer], taken: str, fixed: tuple[str, str] | None, asked: str | None
) -> str:
    text = f"weights are {LAYOUTS[taken]}"
    if fixed is not None:
        return f"{text}: {fixed[1]}"
    if asked is not None:
        return f"{text}, as was said"
    name, weight, bias = next(each for each in layers if len(set(each.weight.shape)) == 2)
    like = ", as PyTorch's" if taken == "out-in" else ""
    return f"{text}{like}: weight {name} is {weight.shape} and its bias has {bias.size}"


def paired(path: Path, arrays: dict[str, np.ndarray], weight: str, bias: str) -> list[Layer]:
    """Return the layers of arrays that are called "layer.weight" and "layer.bias".

    Raises:
        DataError: an array belongs to a layer of another kind, or has no partner.
    """
    layers = {}
    for name, array in arrays.items():
        layer, _, kind = name.rpartition(".")
        if kind == weight and array.ndim == 2:
            partner = f"{layer}.{bias}".lstrip(".")
            if partner not in arrays:
                raise DataError(
                    f"{path}: {name} has no {partner}; nnxp's layers have biases: add zeros if "
                    "the layer has none"
                )
            if arrays[partner].ndim != 1:
                raise DataError(f"{path}: {partner} is {arrays[partner].shape}, not a vector")
            layers[layer or weight] = Layer(layer or weight, array, arrays[partner])
    known = {f"{layer}.{kind}".lstrip(".") for layer in layers for kind in (weight, bias)}
    known |= {kind for kind in (weight, bias) if weight in layers}
    for name in sorted(arrays.keys() - known, key=lambda name: _rank(name, arrays)):
        raise DataError(f"{path}: {name} is {_foreign(name, arrays[name])}")
    if not layers:
        raise DataError(f"{path}: has no layers, such as 0.{weight} and 0.{bias}")
    return list(layers.values())


def _rank(name: str, arrays: dict[str, np.ndarray]) -> tuple[bool, str]:
    return name.endswith(".bias"), name  # a weight says better what its layer is


_KINDS = (
    (r"running_mean|running_var|num_batches_tracked|moving_", "of a BatchNorm layer"),
    (r"weight_(ih|hh)|bias_(ih|hh)|recurrent", "of a recurrent layer"),
    (r"in_proj|attn", "of an attention layer"),
)
_RANKS = {1: "a vector, as of a normalisation", 3: "a 1-d convolution", 4: "a convolution",
          5: "a 3-d convolution"}  # fmt: skip


def _foreign(name: str, array: np.ndarray) -> str:
    kind = next((text for pattern, text in _KINDS if re.search(pattern, name)), None)
    kind = kind or _RANKS.get(array.ndim, "of no layer that nnxp knows")
    return f"{array.shape}, {kind}: only fully connected layers can be imported"


def ordered(path: Path, layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers in the order of a network, which files do not keep.

    It is that of the numbers in their names, as in "fc1" and "fc2". Where names differ otherwise,
    as in "fc1" and "out", it is the one order in which the shapes fit.

    Raises:
        DataError: no order fits, or more than one.
    """
    numbered = sorted(layers, key=lambda layer: _numbers(layer.name))
    if len({_template(layer.name) for layer in layers}) == 1:
        return numbered
    if len(layers) > MOST_UNNUMBERED:
        raise DataError(f"{path}: {_unordered(layers)}")
    orders = [order for order in permutations(numbered) if _keeps_numbers(order)]
    fitting = [
        order for order in orders if any(misfit(order, layout) is None for layout in LAYOUTS)
    ]
    if len(fitting) > 1:
        raise DataError(f"{path}: {_unordered(layers)}")
    return list(fitting[0]) if fitting else numbered


def _unordered(layers: Iterable[Layer]) -> str:
    names = ", ".join(layer.name for layer in layers)
    return (
        f"cannot tell in which order {names} follow: rename them in the file to layers.0, "
        "layers.1, and so on"
    )


def _keeps_numbers(order: Iterable[Layer]) -> bool:
    """Return whether layers whose names differ in numbers only are in the order of these."""
    by_template: dict[str, list[list[int]]] = {}
    for layer in order:
        by_template.setdefault(_template(layer.name), []).append(_numbers(layer.name))
    return all(a <= b for numbers in by_template.values() for a, b in pairwise(numbers))


def _template(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", name)]

"""What a network consists of, and the memory that it takes: the table of `MLP.summary`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from nnxp import html
from nnxp.data.placement import NetworkSpec, bytes_text
from nnxp.kernels import ACTIVATIONS, saved
from nnxp.nested import leaves
from nnxp.optimizers import Optimizer, Parameters

_HEADINGS = ("layer", "activation", "weight", "output", "parameters", "memory")


@dataclass(frozen=True)
class LayerSummary:
    """One layer: z = x W + b, y = activation(z)."""

    activation: str
    weight: tuple[int, int]
    """The shape of W, (fan_in, fan_out)."""
    output: tuple[int, int]
    """The shape of y for a batch, (batch, fan_out)."""
    parameters: int
    """The numbers in W and b."""
    bytes: int
    """The memory of W and b."""


@dataclass(frozen=True, repr=False)
class Summary:
    """The layers of a network, and the memory of its training, which Python prints as a table.

    The figures are exact for what training keeps from step to step and from the forward to the
    backward pass. The library needs more for intermediate results, and what it loads.

    Attributes:
        title: sizes, dtype and backend.
        layers: one `LayerSummary` for each layer.
        batch_size, optimizer: those of the training.
        parameters: the number of parameters.
        parameter_bytes: their memory, and that of their gradients.
        optimizer_bytes: the memory of the optimizer's state.
        activation_bytes: the memory of what backpropagation needs of a batch: the input, each
            hidden layer's output (for some activations its pre-activation, too) and the last
            pre-activation. Dropout adds its masks, and the outputs multiplied by them.

    Example:
        >>> import nnxp
        >>> summary = nnxp.MLP([64, 32, 10]).summary()
        >>> summary.parameters, summary.layers[0].weight
        (2410, (64, 32))
    """

    title: str
    layers: tuple[LayerSummary, ...]
    batch_size: int
    optimizer: str
    parameters: int
    parameter_bytes: int
    optimizer_bytes: int
    activation_bytes: int

    @property
    def total_bytes(self) -> int:
        """The memory of parameters, gradients, the optimizer's state and the activations."""
        return 2 * self.parameter_bytes + self.optimizer_bytes + self.activation_bytes

    def __repr__(self) -> str:
        table = _aligned([_HEADINGS, *self._rows(), self._last_row()], right=(0, 4, 5))
        memory = _aligned(self._memory(), right=(1,))
        return "\n".join([self.title, "", *table, "", self._training(), *memory])

    def _repr_html_(self) -> str:
        """Return the tables for notebooks."""
        table = html.table([*self._rows(), self._last_row()], _HEADINGS)
        title, training = (f"<p>{escape(text)}</p>" for text in (self.title, self._training()))
        return "\n".join([title, *table, training, *html.table(self._memory())])

    def _rows(self) -> list[tuple[str, ...]]:
        inputs = self.batch_size, self.layers[0].weight[0]
        rows: list[tuple[str, ...]] = [("0", "input", "", str(inputs), "", "")]
        for number, layer in enumerate(self.layers, 1):
            shapes = str(layer.weight), str(layer.output)
            numbers = f"{layer.parameters:,}", bytes_text(layer.bytes)
            rows.append((str(number), layer.activation, *shapes, *numbers))
        return rows

    def _last_row(self) -> tuple[str, ...]:
        return "", "in all", "", "", f"{self.parameters:,}", bytes_text(self.parameter_bytes)

    def _training(self) -> str:
        return f"training with {self.optimizer} in batches of {self.batch_size}"

    def _memory(self) -> list[tuple[str, str]]:
        sizes = {
            "parameters": self.parameter_bytes,
            "gradients": self.parameter_bytes,
            "optimizer state": self.optimizer_bytes,
            "activations": self.activation_bytes,
            "in all": self.total_bytes,
        }
        return [(name, bytes_text(size)) for name, size in sizes.items()]


def summarize(
    network: NetworkSpec,
    activations: Sequence[str],
    parameters: Parameters,
    batch_size: int,
    optimizer: Optimizer,
) -> Summary:
    """Return the summary of a network; see `MLP.summary`.

    Args:
        network: its sizes, dtype and backend.
        activations: the name of each layer's activation.
        parameters: one (weight, bias) per layer.
        batch_size, optimizer: those of a training.
    """
    layers = tuple(
        LayerSummary(
            activation,
            (fan_in, fan_out),
            (batch_size, fan_out),
            (fan_in + 1) * fan_out,
            network.itemsize * (fan_in + 1) * fan_out,
        )
        for activation, (fan_in, fan_out) in zip(activations, pairwise(network.sizes), strict=True)
    )
    units = network.sizes[0] + network.sizes[-1]
    for layer in layers[:-1]:
        _, backward = ACTIVATIONS[layer.activation]
        units += layer.weight[1] * len(saved(backward, None, None))  # (y,) or (y, z)
    with network.backend.active():
        state = leaves(optimizer.init(parameters))
    sizes = "-".join(map(str, network.sizes))
    return Summary(
        f"MLP {sizes}, {network.dtype}, {network.backend.describe()}",
        layers,
        batch_size,
        type(optimizer).__name__,
        sum(layer.parameters for layer in layers),
        sum(layer.bytes for layer in layers),
        sum(prod(array.shape) * _itemsize(array) for array in state),
        network.itemsize * batch_size * units,
    )


def _itemsize(array: Any) -> int:
    """Return the bytes of a number of any library's array."""
    return np.dtype(str(array.dtype).rpartition(".")[2]).itemsize


def _aligned(rows: Sequence[Sequence[str]], right: Sequence[int]) -> list[str]:
    """Return a line for each row; the columns of these numbers stand to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            f"{text:>{width}}" if number in right else f"{text:<{width}}"
            for number, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]

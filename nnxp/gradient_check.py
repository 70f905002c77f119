"""Backpropagation checked against central differences, array by array."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nnxp import objectives, options
from nnxp.arrays import to_numpy
from nnxp.data import checks
from nnxp.names import LossName
from nnxp.network import MLP, backpropagate, propagate

TOLERANCE = 1e-6
"""The largest relative error that passes."""


@dataclass(frozen=True)
class Check:
    """The comparison of one parameter array."""

    name: str
    """"layers.0.weight", "layers.0.bias", ..."""
    shape: tuple[int, ...]
    checked: int
    """How many of its elements were compared; the norms below are over these."""
    difference: float
    """||backpropagation - central differences||."""
    size: float
    """max(||backpropagation||, ||central differences||)."""
    rounding: float
    """What `difference` can be by the rounding of the two losses alone."""

    @property
    def error(self) -> float:
        """The relative error, difference / size; 0 where both gradients are 0."""
        return self.difference / self.size if self.size else self.difference

    @property
    def passed(self) -> bool:
        """Whether the relative error is within `TOLERANCE`, or the difference within `rounding`."""
        return self.error <= TOLERANCE or self.difference <= self.rounding


@options.checked(
    network=options.instance(MLP, "an nnxp.MLP"),
    step=options.POSITIVE,
    elements=options.whole(1),
    seed=options.whole(0),
)
def gradcheck(
    network: MLP,
    x: Any,
    targets: Any,
    loss: LossName = "auto",
    *,
    step: float = 1e-6,
    elements: int = 200,
    seed: int = 0,
) -> list[Check]:
    """Compare the gradients of `network` with (L(w + h) - L(w - h)) / 2h, in float64.

    Args:
        network: left as it is; its parameters are taken in float64.
        x: (batch, features); a few samples are enough.
        targets: see `nnxp.train`.
        loss: a loss's name; "auto" fits the output activation.
        step: h.
        elements: how many elements of each array are compared, drawn by `seed`; all where it has
            no more.
        seed: of that draw.

    Returns:
        One `Check` per parameter array. A right derivative has a relative error of 1e-8 or so, by
        the rounding of the losses; one above 1e-6 is a mistake in a kernel, or a kink within h of
        a pre-activation. Of a gradient that is itself as small as rounding, the difference counts.

    Raises:
        InputError: a shape, label, number or option is not valid.
        BackendError: the backend does not compute in float64.

    Source: Nielsen, chapter 2, equation 46, with central differences.
    """
    precise = MLP(
        network.sizes, network.hidden, network.output,
        backend=network.backend, dtype="float64", parameters=network.parameters,
    )  # fmt: skip
    objective = objectives.get(loss, network.output)
    spec = precise.spec
    x = spec.on_device(checks.matrix(x, network.sizes[0]))
    t = spec.targets(checks.targets(targets, objective.loss, x.shape[0], network.sizes[-1]))
    with precise.backend.active():
        _, gradients = backpropagate(precise.parameters, precise.hidden, objective, x, t)
    host = [[to_numpy(array).copy() for array in layer] for layer in precise.parameters]
    rng = np.random.default_rng(seed)

    def value() -> float:
        with precise.backend.active():
            z, _ = propagate(precise.parameters, precise.hidden, x)
            return float(objective.value(z, t))

    # A loss is exact to a few units in its last place, or in that of 1: it is made of such numbers.
    rounding = 4 * np.finfo(np.float64).eps * max(1.0, abs(value())) / step
    found = []
    for i, layer in enumerate(host):
        for name, array, gradient in zip(("weight", "bias"), layer, gradients[i], strict=True):
            flat = array.reshape(-1)
            drawn = rng.permutation(flat.size)[:elements]
            numeric = np.empty(len(drawn))
            for k, place in enumerate(drawn):
                before = flat[place]
                losses = []
                for moved in (before + step, before - step):
                    flat[place] = moved
                    precise.parameters = host
                    losses.append(value())
                flat[place] = before
                numeric[k] = (losses[0] - losses[1]) / (2 * step)
            analytic = to_numpy(gradient).reshape(-1)[drawn]
            found.append(
                Check(
                    f"layers.{i}.{name}",
                    array.shape,
                    len(drawn),
                    difference=float(np.linalg.norm(analytic - numeric)),
                    size=float(max(np.linalg.norm(analytic), np.linalg.norm(numeric))),
                    rounding=rounding * len(drawn) ** 0.5,
                )
            )
    return found

"""Backpropagation checked against central differences, array by array."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nnxp import inputs, options
from nnxp.arrays import to_numpy
from nnxp.network import MLP, backpropagate, device_features, device_targets, propagate
from nnxp.objectives import objective

TOLERANCE = 1e-6


@dataclass(frozen=True)
class Check:
    """How one parameter array fared."""

    name: str
    """"layers.0.weight", "layers.0.bias", ..."""
    shape: tuple[int, ...]
    checked: int
    """How many of its elements were compared."""
    error: float
    """||backpropagation - differences|| / max(||both||), over those elements."""

    @property
    def passed(self) -> bool:
        """Whether the error is within `TOLERANCE`."""
        return self.error <= TOLERANCE


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
    loss: str = "auto",
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
        One `Check` per parameter array. A sound derivative errs by 1e-8 or so; more than 1e-6 is
        a mistake in a kernel, or a kink within h of a pre-activation.

    Raises:
        InputError: a shape, label, number or option is not valid.
        BackendError: the backend does not compute in float64.

    Source: Nielsen, chapter 2, equation 46, with central differences.
    """
    precise = MLP(
        network.sizes, network.hidden, network.output,
        backend=network.backend, dtype="float64", parameters=network.parameters,
    )  # fmt: skip
    goal = objective(loss, network.output)
    x = device_features(precise, x)
    t = device_targets(precise, inputs.targets(targets, goal.loss, x.shape[0], network.sizes[-1]))
    with precise.backend.active():
        _, gradients = backpropagate(precise.parameters, precise.hidden, goal, x, t)
    host = [[to_numpy(array).copy() for array in layer] for layer in precise.parameters]
    rng = np.random.default_rng(seed)

    def value() -> float:
        with precise.backend.active():
            z, _ = propagate(precise.parameters, precise.hidden, x)
            return float(goal.value(z, t))

    checks = []
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
            checks.append(
                Check(f"layers.{i}.{name}", array.shape, len(drawn), _error(analytic, numeric))
            )
    return checks


def _error(analytic: np.ndarray, numeric: np.ndarray) -> float:
    """The relative error; differences of less than 1e-9 are rounding, not a gradient."""
    difference = float(np.linalg.norm(analytic - numeric))
    size = float(max(np.linalg.norm(analytic), np.linalg.norm(numeric)))
    return 0.0 if difference <= 1e-9 * len(numeric) ** 0.5 else difference / size

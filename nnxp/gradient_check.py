"""A check of backpropagation against central differences, array by array."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nnxp import objectives, options
from nnxp.arrays import to_numpy
from nnxp.data import checks
from nnxp.names import LossName
from nnxp.network import MLP, backpropagate, propagate
from nnxp.registry import Piece

TOLERANCE = 1e-6
"""The largest relative error that passes."""


@dataclass(frozen=True)
class Check:
    """The comparison of one parameter array.

    Example:
        >>> import nnxp
        >>> check = nnxp.gradcheck(nnxp.MLP([2, 3, 1], "tanh", "sigmoid"), [[0.1, 0.2]], [1])[0]
        >>> check.name, check.shape, check.checked, check.passed
        ('layers.0.weight', (2, 3), 6, True)
    """

    name: str
    """"layers.0.weight", "layers.0.bias", ..."""
    shape: tuple[int, ...]
    checked: int
    """The number of elements that were compared; the norms below are over these."""
    difference: float
    """||backpropagation - central differences||."""
    size: float
    """max(||backpropagation||, ||central differences||)."""
    rounding: float
    """The largest `difference` that rounding of the two losses alone can cause."""

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
    loss: LossName | Piece = "auto",
    *,
    step: float = 1e-6,
    elements: int = 200,
    seed: int = 0,
) -> list[Check]:
    """Compare the gradients of `network` with (L(w + h) - L(w - h)) / 2h, in float64.

    Args:
        network: the network, which is not changed; its parameters are converted to float64.
        x: (batch, features); a few samples are enough.
        targets: see `nnxp.train`.
        loss: a loss, see `nnxp.train`; "auto" fits the output activation.
        step: h, positive.
        elements: the number of elements to compare in each array, 1 or more, drawn at random; in
            a smaller array, all.
        seed: the seed of this draw.

    Returns:
        One `Check` per parameter array. A right derivative has a relative error of about 1e-8,
        from rounding of the losses. An error above 1e-6 means a mistake in a kernel, or a kink
        within h of a pre-activation. If a gradient is itself as small as rounding, compare its
        `difference` with `rounding`.

    Raises:
        InputError: a shape, label, number or option is not valid.
        BackendError: the backend cannot compute in float64.

    Source: Nielsen, chapter 2, equation 46, with central differences.

    Example:
        >>> import nnxp
        >>> network = nnxp.MLP([3, 4, 2], "tanh")
        >>> checks = nnxp.gradcheck(network, [[0.1, 0.2, 0.3], [0.3, -0.2, 0.1]], [0, 1])
        >>> [(check.name, check.passed) for check in checks][:2]
        [('layers.0.weight', True), ('layers.0.bias', True)]
    """
    precise = MLP(
        network.sizes, network.hidden, network.output,
        backend=network.backend, dtype="float64", parameters=network.parameters,
    )  # fmt: skip
    objective = objectives.get(loss, network.output)
    spec = precise.spec
    x = spec.features(x)
    t = spec.targets(checks.targets(targets, objective.loss, x.shape[0], network.sizes[-1]))
    with precise.backend.active():
        _, gradients = backpropagate(precise.parameters, precise.hidden, objective, x, t)
    host = [[to_numpy(array).copy() for array in layer] for layer in precise.parameters]
    rng = np.random.default_rng(seed)

    def value() -> float:
        with precise.backend.active():
            z, _ = propagate(precise.parameters, precise.hidden, x)
            return float(objective.value(z, t))

    # A loss has an error of a few units in the last place of its terms, which are about 1.
    rounding = 4 * np.finfo(np.float64).eps * max(1.0, abs(value())) / step
    results = []
    for i, layer in enumerate(host):
        for name, array, gradient in zip(("weight", "bias"), layer, gradients[i], strict=True):
            flat = array.reshape(-1)
            indices = rng.permutation(flat.size)[:elements]
            numeric = np.empty(len(indices))
            for k, index in enumerate(indices):
                original = flat[index]
                losses = []
                for shifted in (original + step, original - step):
                    flat[index] = shifted
                    precise.parameters = host
                    losses.append(value())
                flat[index] = original
                numeric[k] = (losses[0] - losses[1]) / (2 * step)
            analytic = to_numpy(gradient).reshape(-1)[indices]
            results.append(
                Check(
                    f"layers.{i}.{name}",
                    array.shape,
                    len(indices),
                    difference=float(np.linalg.norm(analytic - numeric)),
                    size=float(max(np.linalg.norm(analytic), np.linalg.norm(numeric))),
                    rounding=rounding * len(indices) ** 0.5,
                )
            )
    return results

"""The solver "lbfgs": SciPy's L-BFGS-B on nnxp's loss and gradients, all samples at once."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from nnxp import objectives, target_scaling
from nnxp.arrays import Array, to_numpy
from nnxp.data import checks
from nnxp.data.prepare import device_targets
from nnxp.names import LossName
from nnxp.network import MLP, backpropagate
from nnxp.objectives import Objective
from nnxp.optimizers import Parameters
from nnxp.registry import cached
from nnxp.regularization import Regularization


def minimize(
    network: MLP,
    x: Array,
    targets: Any,
    *,
    loss: LossName,
    sample_weight: Any,
    l2: float,
    scale_targets: bool | str,
    tol: float,
    max_iter: int,
    max_fun: int,
    verbose: int,
) -> Any:
    """Train `network` by L-BFGS-B, in place.

    Args:
        network, x, targets, loss, sample_weight, scale_targets: see `nnxp.train`.
        l2: the strength of the penalty 1/2 l2 ||W||^2.
        tol: training ends when no element of the gradient is larger.
        max_iter, max_fun: the most iterations, and evaluations of the loss.
        verbose: whether to print the loss of each iteration.

    Returns:
        SciPy's `OptimizeResult`.

    Raises:
        InputError: a shape, label or number is not valid.
    """
    from scipy.optimize import minimize as scipy_minimize

    spec, backend = network.spec, network.backend
    objective = objectives.get(loss, network.output)
    x = spec.features(x)
    t = checks.targets(targets, objective.loss, x.shape[0], network.sizes[-1])
    network.target_scaling = target_scaling.choose(
        scale_targets, objective, network.target_scaling, t, network.dtype
    )
    if network.target_scaling is not None:
        t = network.target_scaling.apply(t)
    batch = [x, device_targets(spec, t)]
    if sample_weight is not None:
        weight = checks.sample_weight(sample_weight, x.shape[0])
        batch.append(spec.targets(checks.unit_mean(weight)))
    network.loss = objective.loss
    scaling = network.target_scaling
    unit = 1.0 if scaling is None else scaling.loss_unit(objective.loss)

    function = backend.compiled(_loss_and_gradients(network.hidden, objective, l2))
    dtype = backend.dtype(network.dtype)
    layers = list(pairwise(network.sizes))
    multiply_adds = x.shape[0] * spec.largest_weight

    def unpack(packed: np.ndarray) -> Parameters:
        parameters, start = [], 0
        for fan_in, fan_out in layers:
            middle = start + fan_in * fan_out
            weight = packed[start:middle].reshape(fan_in, fan_out)
            start = middle + fan_out
            bias = packed[middle:start]
            parameters.append(tuple(backend.asarray(each, dtype=dtype) for each in (weight, bias)))
        return parameters

    def evaluate(packed: np.ndarray) -> tuple[float, np.ndarray]:
        with backend.active(), backend.limit_threads(multiply_adds):
            value, gradients = function(unpack(packed), *batch)
            return float(value), _packed(gradients)

    iteration = 0

    def show(intermediate_result: Any) -> None:  # SciPy looks for this name
        nonlocal iteration
        iteration += 1
        print(f"Iteration {iteration}, loss = {unit * intermediate_result.fun:.8f}")

    result = scipy_minimize(
        evaluate,
        _packed(network.parameters),
        method="L-BFGS-B",
        jac=True,
        callback=show if verbose else None,
        options={"maxfun": max_fun, "maxiter": max_iter, "gtol": tol},
    )
    result.fun *= unit
    network.parameters = unpack(result.x)
    return result


@cached(maxsize=16)
def _loss_and_gradients(
    hidden: tuple[str, ...], objective: Objective, l2: float
) -> Callable[..., tuple[Array, Parameters]]:
    """Return the pure function (parameters, x, targets[, sample_weight]) -> (loss, gradients).

    Equal arguments give the same function, as in `nnxp.step.training_step`.
    """
    regularization = Regularization(l2=l2)

    def function(parameters: Parameters, x: Array, *others: Array) -> tuple[Array, Parameters]:
        loss, gradients = backpropagate(parameters, hidden, objective, x, *others)
        penalized: tuple[Array, Parameters] = regularization.penalize(
            loss, parameters, gradients, x.shape[0]
        )
        return penalized

    return function


def _packed(parameters: Parameters) -> np.ndarray:
    """Return all numbers of weights and biases, by layer, as one float64 vector."""
    flat = [to_numpy(array).reshape(-1) for layer in parameters for array in layer]
    return np.concatenate(flat).astype(np.float64, copy=False)

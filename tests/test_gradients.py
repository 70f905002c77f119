"""Backpropagation against central differences and against torch's autograd, in float64."""

from itertools import pairwise, product

import numpy as np
import pytest
from conftest import require, turning
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from test_kernels import torch_loss, torch_reference

from nnxp import MLP
from nnxp.kernels import ACTIVATIONS
from nnxp.network import backpropagate, propagate
from nnxp.objectives import LOSSES, PROBABILITIES, RATES, Objective

KINKED = {"relu", "leaky_relu", "leaky_tanh", "step"}


def drawn(rng, sizes, hidden, output, loss, batch):
    """A network with everything in general position, and a batch for it."""
    network = MLP(sizes, hidden, output, dtype="float64", backend="numpy")
    network.parameters = [
        (rng.standard_normal((i, o)) / i**0.5, 0.5 * rng.standard_normal(o))
        for i, o in pairwise(sizes)
    ]
    x = rng.standard_normal((batch, sizes[0]))
    targets = rng.random((batch, sizes[-1])) + 0.1
    targets /= targets.sum(axis=1, keepdims=True)
    if loss == "categorical_cross_entropy" and rng.random() < 0.5:
        targets = rng.integers(0, sizes[-1], batch)
    weight = rng.random(batch) if rng.random() < 0.5 else None
    return network, x, targets, weight


def pre_activations(network, x):
    """Every layer's z."""
    _, tape = propagate(network.parameters, network.hidden, x)
    return [x @ w + b for (x, _, _), (w, b) in zip(tape, network.parameters, strict=True)]


def central_differences(parameters, loss, h=1e-6):
    """The gradient, one parameter at a time."""
    gradients = []
    for layer in parameters:
        for array in layer:
            gradient = np.zeros_like(array)
            for i in np.ndindex(array.shape):
                before = array[i]
                array[i] = before + h
                above = loss()
                array[i] = before - h
                gradient[i] = (above - loss()) / (2 * h)
                array[i] = before
            gradients.append(gradient)
    return gradients


def near_a_kink(network, x, targets, loss):
    """Whether the derivative might not exist within reach of a difference."""
    zs = pre_activations(network, x)
    # The Poisson loss bends steeply where a rate is almost 0.
    reach = 1e-2 if loss == "poisson" and network.output == "relu" else 1e-4
    if any(
        name in KINKED and np.abs(z).min() < reach
        for z, name in zip(zs, (*network.hidden, network.output), strict=True)
    ):
        return True
    if loss not in ("mae", "huber"):
        return False
    error = np.abs(ACTIVATIONS[network.output][0](zs[-1]) - targets)
    return np.abs(error - (loss == "huber")).min() < 1e-4


def check_against_central_differences(network, x, targets, weight, loss):
    objective = Objective(loss, network.output)

    def value():
        z, _ = propagate(network.parameters, network.hidden, x)
        return float(objective.value(z, targets, weight))

    loss_, gradients = backpropagate(
        network.parameters, network.hidden, objective, x, targets, weight
    )
    assert float(loss_) == pytest.approx(value(), rel=1e-12)
    numeric = central_differences(network.parameters, value)
    found = [array for layer in gradients for array in layer]
    # Central differences lose the loss's own digits, so a gradient that is nearly nothing is
    # compared with those.
    scale = max(1e-3 * abs(float(loss_)), *(np.abs(g).max() for g in numeric))
    for analytic, reference in zip(found, numeric, strict=True):
        assert np.abs(analytic - reference).max() <= 1e-6 * scale


def check_against_torch(network, x, targets, weight, loss):
    import torch

    output = network.output
    parameters = [
        tuple(torch.tensor(array, requires_grad=True) for array in layer)
        for layer in network.parameters
    ]
    y = torch.tensor(x)
    for (w, b), name in zip(parameters, (*network.hidden, output), strict=True):
        y = torch_reference(name)(y @ w + b)
    name = loss
    if "cross_entropy" in loss and output not in PROBABILITIES:
        name += "_with_logits"
    elif loss == "poisson" and output not in RATES:
        name += "_with_log_rate"
    expected = torch_loss(
        name, y, torch.tensor(targets), torch.tensor(1.0 if weight is None else weight)
    )
    expected.backward()

    value, gradients = backpropagate(
        network.parameters, network.hidden, Objective(loss, output), x, targets, weight
    )
    assert float(value) == pytest.approx(expected.item(), rel=1e-12)
    found = [array for layer in gradients for array in layer]
    theirs = [
        (0 * each if each.grad is None else each.grad).detach().numpy()
        for layer in parameters
        for each in layer
    ]
    scale = max(1.0, *(np.abs(each).max() for each in theirs))
    for gradient, reference in zip(found, theirs, strict=True):
        assert np.abs(gradient - reference).max() <= 1e-12 * scale


def any_network(data):
    """A network of 0 to 4 hidden layers with any activations, a loss, and a batch of 1 to 33."""
    layers = data.draw(st.integers(0, 4))
    sizes = [data.draw(st.integers(1, 4)) for _ in range(layers + 1)] + [
        data.draw(st.integers(2, 4))
    ]
    hidden = [data.draw(st.sampled_from(list(ACTIVATIONS))) for _ in range(layers)]
    output = data.draw(st.sampled_from(list(ACTIVATIONS)))
    loss = data.draw(st.sampled_from(list(LOSSES)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    batch = data.draw(st.integers(1, 33))
    network, *arguments = drawn(rng, sizes, hidden, output, loss, batch)
    return network, loss, *arguments


@pytest.mark.promise("gradients")
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_network_has_the_gradient_that_central_differences_see(cases, data):
    network, loss, *arguments = any_network(data)
    assume(not near_a_kink(network, *arguments[:2], loss))
    check_against_central_differences(network, *arguments, loss)
    cases.tried += 1


@pytest.mark.promise("gradients")
@pytest.mark.parametrize(
    ("output", "loss", "hidden"), turning(product(ACTIVATIONS, LOSSES), ACTIVATIONS)
)
def test_every_activation_with_every_loss(hidden, output, loss):
    draws = (
        drawn(np.random.default_rng(seed), [3, 4, 3], hidden, output, loss, 4) for seed in range(9)
    )
    network, *arguments = next(each for each in draws if not near_a_kink(*each[:3], loss))
    check_against_central_differences(network, *arguments, loss)


@pytest.mark.promise("gradients")
@pytest.mark.parametrize(
    ("output", "loss", "hidden"),
    turning(product([name for name in ACTIVATIONS if name != "step"], LOSSES), ACTIVATIONS),
)
def test_every_activation_with_every_loss_as_torch_has_it(hidden, output, loss):
    require("torch")
    rng = np.random.default_rng(3)
    network, *arguments = drawn(rng, [3, 5, 4, 4], hidden, output, loss, 6)
    check_against_torch(network, *arguments, loss)


@pytest.mark.promise("gradients")
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_network_has_the_gradient_of_torch(cases, data):
    require("torch")
    network, loss, *arguments = any_network(data)
    # Where an activation jumps or bends, each may take another slope; torch has none for a step.
    assume("step" not in (*network.hidden, network.output))
    assume(not near_a_kink(network, *arguments[:2], loss))
    check_against_torch(network, *arguments, loss)
    cases.tried += 1


def test_a_wrong_derivative_is_caught(monkeypatch):
    forward, _ = ACTIVATIONS["tanh"]
    monkeypatch.setitem(ACTIVATIONS, "tanh", (forward, lambda dy, y: dy * (1 - y)))
    rng = np.random.default_rng(0)
    network, *arguments = drawn(rng, [3, 4, 3], "tanh", "identity", "quadratic", 4)
    with pytest.raises(AssertionError):
        check_against_central_differences(network, *arguments, "quadratic")

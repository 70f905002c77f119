import sys
from functools import wraps

import numpy as np
import pytest

import nnxp
from nnxp import MLP, gradcheck
from nnxp.arrays import to_numpy
from nnxp.gradient_check import TOLERANCE
from nnxp.kernels import ACTIVATIONS


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return rng.standard_normal((8, 5)), rng.integers(0, 3, 8)


def test_a_sound_network_passes_on_every_backend(backend, batch):
    network = MLP([5, 6, 4, 3], ["tanh", "sigmoid"], backend=backend)
    before = [to_numpy(a).copy() for layer in network.parameters for a in layer]
    checks = gradcheck(network, *batch)
    assert [check.name for check in checks] == [
        f"layers.{i}.{name}" for i in range(3) for name in ("weight", "bias")
    ]
    assert all(check.passed and check.checked == np.prod(check.shape) for check in checks)
    assert network.dtype == "float32"
    after = [to_numpy(a) for layer in network.parameters for a in layer]
    for now, then in zip(after, before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name not in ("step", "identity")])
def test_a_broken_derivative_is_caught(monkeypatch, batch, name):
    forward, backward = ACTIVATIONS[name]

    @wraps(backward)
    def broken(dy, *saved):
        return 1.001 * backward(dy, *saved)

    monkeypatch.setitem(ACTIVATIONS, name, (forward, broken))
    checks = gradcheck(MLP([5, 6, 3], name, backend="numpy"), *batch)
    # The mistake is in what flows through the hidden layer, so below it and nowhere else.
    assert [check.passed for check in checks] == [False, False, True, True]
    assert checks[0].error > 100 * TOLERANCE


def test_the_function_is_nnxps_own_and_its_module_has_the_rest(batch):
    assert nnxp.gradcheck is gradcheck
    assert nnxp.gradcheck(MLP([5, 3], backend="numpy"), *batch)[0].passed
    assert sys.modules["nnxp.gradient_check"].gradcheck is gradcheck


def test_the_true_difference_is_told_where_a_derivative_is_right(backend, batch):
    for check in gradcheck(MLP([5, 6, 4, 3], "tanh", backend=backend), *batch):
        assert 0 < check.difference < 1e-8
        assert check.error == check.difference / check.size < 1e-6


def test_a_gradient_that_is_0_has_no_error_and_one_below_rounding_passes(batch):
    dead = gradcheck(MLP([5, 6, 3], "step", backend="numpy"), *batch)[0]
    assert (dead.difference, dead.error, dead.passed) == (0, 0, True)
    vanished = gradcheck(MLP([5, *[20] * 8, 3], "sigmoid", backend="numpy"), *batch)[0]
    assert vanished.error > TOLERANCE
    assert 0 < vanished.difference <= vanished.rounding
    assert vanished.passed


def test_rounding_grows_with_the_loss_and_with_a_smaller_step(batch):
    x, _ = batch
    linear, targets = MLP([5, 1], output="identity", backend="numpy"), 1e5 * x[:, :1]
    large, small = (gradcheck(linear, x, targets, step=step)[0] for step in (1e-3, 1e-8))
    assert large.error < TOLERANCE
    assert small.rounding > 1
    assert small.passed


def test_large_arrays_are_sampled(batch):
    network = MLP([5, 60, 3], "tanh", backend="numpy")
    checks = gradcheck(network, *batch, elements=20)
    assert [check.checked for check in checks] == [20, 20, 20, 3]


def test_a_loss_that_is_not_a_number_does_not_pass(monkeypatch, batch):
    forward, _ = ACTIVATIONS["tanh"]
    monkeypatch.setitem(ACTIVATIONS, "tanh", (forward, lambda dy, y: dy * np.nan))
    checks = gradcheck(MLP([5, 6, 3], "tanh", backend="numpy"), *batch)
    assert not checks[0].passed

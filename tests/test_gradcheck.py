import numpy as np
import pytest

from nnxp import MLP, gradcheck
from nnxp.arrays import to_numpy
from nnxp.gradcheck import TOLERANCE
from nnxp.kernels import ACTIVATIONS


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return rng.standard_normal((8, 5)), rng.integers(0, 3, 8)


def test_a_sound_network_passes_on_every_backend(backend, batch):
    network = MLP([5, 6, 4, 3], ["tanh", "sigmoid"], backend=backend)
    before = [to_numpy(a).copy() for layer in network.parameters for a in layer]
    checks = gradcheck.gradcheck(network, *batch)
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
    monkeypatch.setitem(ACTIVATIONS, name, (forward, lambda dy, y: 1.001 * backward(dy, y)))
    checks = gradcheck.gradcheck(MLP([5, 6, 3], name, backend="numpy"), *batch)
    # The mistake is in what flows through the hidden layer, so below it and nowhere else.
    assert [check.passed for check in checks] == [False, False, True, True]
    assert checks[0].error > 100 * TOLERANCE


def test_large_arrays_are_sampled(batch):
    network = MLP([5, 60, 3], "tanh", backend="numpy")
    checks = gradcheck.gradcheck(network, *batch, elements=20)
    assert [check.checked for check in checks] == [20, 20, 20, 3]


def test_a_loss_that_is_not_a_number_does_not_pass(monkeypatch, batch):
    forward, _ = ACTIVATIONS["tanh"]
    monkeypatch.setitem(ACTIVATIONS, "tanh", (forward, lambda dy, y: dy * np.nan))
    checks = gradcheck.gradcheck(MLP([5, 6, 3], "tanh", backend="numpy"), *batch)
    assert not checks[0].passed

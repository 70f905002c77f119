"""The learning-rate range test: its rates train well, and the network stays as it is."""

import math

import numpy as np
import pytest
from conftest import require

import nnxp
from nnxp import MLP, SGD, Adam, InputError, backends, find_learning_rate
from nnxp.arrays import to_numpy


@pytest.fixture(scope="module")
def digits():
    return nnxp.datasets.load("digits")


def weights(network):
    return [to_numpy(array).copy() for layer in network.parameters for array in layer]


def validation_loss(digits, optimizer):
    network = MLP([64, 32, 10], backend="numpy")
    try:
        history = nnxp.train(
            network, digits.x, digits.y, optimizer=optimizer, epochs=5, batch_size=32,
            validation=0.2,
        )  # fmt: skip
    except nnxp.DivergenceError:
        return math.inf
    return history.epochs[-1].validation_loss


@pytest.mark.parametrize("make", [SGD, lambda rate: SGD(rate, momentum=0.9), Adam])
def test_the_suggested_rate_trains_nearly_as_well_as_the_best(digits, make):
    found = find_learning_rate(
        MLP([64, 32, 10], backend="numpy"), digits.x, digits.y, batch_size=32, optimizer=make(0.1)
    )
    ours = validation_loss(digits, make(found.suggestion))
    factors = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    losses = [validation_loss(digits, make(found.suggestion * factor)) for factor in factors]
    assert ours < 1.5 * min(losses)
    assert losses[0] > 3 * ours < losses[-1]  # most rates are far worse


def test_the_curve_is_that_of_steps_at_these_rates(digits):
    """Compared with trainings of one epoch, whose single batch is that of the step."""
    x, y = digits.x[:24], digits.y[:24]
    found = find_learning_rate(
        MLP([64, 16, 10], backend="numpy", dtype="float64"), x, y, batch_size=None,
        steps=20, lowest=0.01, highest=0.5, optimizer=SGD(1.0, momentum=0.5),
    )  # fmt: skip
    network, history = MLP([64, 16, 10], backend="numpy", dtype="float64"), nnxp.History()
    nnxp.train(
        network, x, y, batch_size=None, epochs=20, optimizer=SGD(1.0, momentum=0.5),
        schedule=lambda base, epoch, epochs, history: float(found.rates[epoch - 1]),
        resume=history,
    )  # fmt: skip
    np.testing.assert_allclose(found.rates, np.geomspace(0.01, 0.5, 20))
    np.testing.assert_allclose(found.losses, [each.loss for each in history.epochs], rtol=1e-9)
    assert "20 steps from 0.01 to 0.5" in repr(found)


def test_the_network_does_not_change(backend):
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((40, 3)), 1e4 * rng.standard_normal((40, 1))
    network = MLP([3, 8, 1], output="identity", backend=backend)
    before = weights(network)
    found = find_learning_rate(network, x, t, batch_size=8, loss="mae", steps=30)
    for array, expected in zip(weights(network), before, strict=True):
        np.testing.assert_array_equal(array, expected)
    assert network.target_scaling is None
    assert network.loss == "quadratic"
    # The losses are in the targets' own unit.
    assert found.losses[0] == pytest.approx(np.abs(t).mean(), rel=0.5)


def test_streamed_data_and_every_option_of_a_step(digits):
    require("numpy")
    options = {
        "optimizer": "adam", "regularization": nnxp.Regularization(l2=1e-4, dropout=0.2),
        "clip_norm": 5.0, "sample_weight": np.arange(len(digits.y)) % 2 + 1.0, "seed": 3,
    }  # fmt: skip
    curves = [
        find_learning_rate(
            MLP([64, 16, 10], backend=backends.get("numpy", executor=executor)), digits.x, digits.y,
            batch_size=32, steps=60, stream=stream, **options,
        )
        for executor, stream in (("replay", False), ("replay", True), ("eager", False))
    ]  # fmt: skip
    for each in curves[1:]:
        np.testing.assert_allclose(each.losses, curves[0].losses, rtol=1e-3)


def test_a_loss_that_falls_at_no_rate_suggests_none(digits):
    x, t = np.zeros((200, 4)), np.random.default_rng(0).standard_normal((200, 1))
    found = find_learning_rate(
        MLP([4, 1], output="identity", backend="numpy"), x, t, batch_size=16, highest=1e-3
    )
    assert found.suggestion is None


def test_a_range_that_is_too_low_is_said(digits, caplog):
    with caplog.at_level("INFO", "nnxp"):
        found = find_learning_rate(
            MLP([64, 16, 10], backend="numpy"), digits.x, digits.y, batch_size=32, highest=0.1
        )
    assert "the loss still falls at the highest rate, 0.1: a higher one" in caplog.text
    assert found.still_falls
    assert not found.has_diverged


def test_what_it_does_not_take_is_said(digits):
    network = MLP([64, 10], backend="numpy")
    for wrong, message in (
        ({"lowest": 1.0, "highest": 0.1}, "lowest must be less than highest, not 1 and 0.1"),
        ({"scale_targets": "yes"}, 'scale_targets must be "auto", True or False'),
        ({"steps": 3}, "steps must be a whole number, 20 or more"),
        ({"loss": "quadratc"}, "did you mean 'quadratic'"),
    ):
        with pytest.raises(InputError, match=message):
            find_learning_rate(network, digits.x, digits.y, batch_size=32, **wrong)

"""Regression in the targets' own unit, whatever its size."""

import logging

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.preprocessing import StandardScaler

from nnxp import MLP, SGD, Adam, InputError, Regularization, train
from nnxp.arrays import to_numpy
from nnxp.gradient_check import gradcheck
from nnxp.target_scaling import TargetScaling

RNG = np.random.default_rng(0)
X = RNG.standard_normal((200, 3))
PLANE = np.tanh(X @ [1.0, -2.0, 0.5]) + 0.1 * X[:, 0]
PRICES = 1e4 + 3e3 * PLANE
UNITS = np.stack([PRICES, 0.001 * X[:, 1], 5 + X[:, 2]], axis=1)


def network(outputs=1, **options):
    return MLP([3, 8, outputs], "tanh", "identity", **{"backend": "numpy"} | options)


def fit(net, targets, **options):
    return train(net, X, targets, **{"epochs": 30, "batch_size": 20} | options)


def test_prices_are_learnt_and_predicted_in_their_own_unit(backend):
    net = network(backend=backend)
    history = fit(net, PRICES, validation=(X, PRICES))
    predicted = to_numpy(net.predict(backend.asarray(X)))[:, 0]
    assert r2_score(PRICES, predicted) > 0.9
    np.testing.assert_allclose(to_numpy(net.forward(X))[:, 0], predicted, rtol=1e-5)
    figures = net.evaluate(X, PRICES)
    rmse = root_mean_squared_error(PRICES, predicted)
    assert list(figures) == ["loss", "r2", "rmse", "mae"]
    assert figures["rmse"] == pytest.approx(rmse, rel=1e-4)
    assert figures["mae"] == pytest.approx(mean_absolute_error(PRICES, predicted), rel=1e-4)
    assert figures["r2"] == pytest.approx(r2_score(PRICES, predicted), rel=1e-4)
    assert figures["loss"] == pytest.approx(rmse**2 / 2, rel=1e-4)
    last = history.epochs[-1]
    assert last.validation_loss == pytest.approx(figures["loss"], rel=1e-6)
    assert last.validation_metric == pytest.approx(figures["r2"], rel=1e-6)
    assert history.metric == "r2"


def test_several_outputs_each_in_its_own_unit(backend):
    """So is the loss of an epoch, which is computed within the steps."""
    net = network(3, backend=backend)
    fit(net, UNITS)
    predicted = to_numpy(net.predict(backend.asarray(X)))
    for column in range(3):
        assert r2_score(UNITS[:, column], predicted[:, column]) > 0.8
    weight = RNG.uniform(0.5, 2.0, 200)
    history = fit(net, UNITS, optimizer=SGD(0.0), epochs=1, sample_weight=weight)
    errors = (0.5 * (predicted - UNITS) ** 2).sum(axis=1)
    assert history.epochs[0].loss == pytest.approx(np.average(errors, weights=weight), rel=1e-3)
    figures = net.evaluate(X, UNITS)
    assert figures["loss"] == pytest.approx(errors.mean(), rel=1e-3)
    assert figures["rmse"] == pytest.approx(root_mean_squared_error(UNITS, predicted), rel=1e-3)


@pytest.mark.parametrize("factor", [1e-20, 1e-4, 1.0, 1e4, 1e15])
def test_the_unit_changes_figures_and_nothing_else(factor):
    """Training in another unit is the same training: R^2 and relative predictions are equal."""
    plain, other = network(dtype="float64"), network(dtype="float64")
    first = fit(plain, PLANE, validation=0.2, epochs=5)
    second = fit(other, factor * PLANE, validation=0.2, epochs=5)
    np.testing.assert_allclose(other.predict(X), factor * plain.predict(X), rtol=1e-9)
    for one, two in zip(first.epochs, second.epochs, strict=True):
        assert two.loss == pytest.approx(factor**2 * one.loss, rel=1e-9)
        assert two.validation_loss == pytest.approx(factor**2 * one.validation_loss, rel=1e-9)
        assert two.validation_metric == pytest.approx(one.validation_metric, rel=1e-9)


@pytest.mark.parametrize("targets", [PRICES, UNITS], ids=["one output", "three"])
@pytest.mark.parametrize("loss", ["mae", "huber"])
def test_robust_losses_are_scaled_too(loss, targets, backend):
    targets = targets.reshape(200, -1)
    net = network(targets.shape[1], backend=backend)
    fit(net, targets, loss=loss, epochs=10, optimizer=Adam(0.03))
    predicted = to_numpy(net.predict(X))
    assert r2_score(targets, predicted) > 0.8
    errors, unit = np.abs(predicted - targets), net.target_scaling.unit
    if loss == "huber":
        errors = np.where(errors <= unit, errors**2 / 2, unit * (errors - unit / 2))
    figures = net.evaluate(X, targets)
    assert figures["loss"] == pytest.approx(errors.sum(axis=1).mean(), rel=1e-3)
    history = fit(net, targets, loss=loss, optimizer=SGD(0.0), epochs=1)
    assert history.epochs[0].loss == pytest.approx(figures["loss"], rel=1e-3)


def test_a_loss_that_scaled_targets_do_not_have_is_refused():
    net = network()
    fit(net, PRICES, epochs=1)
    with pytest.raises(InputError, match=r"'poisson' .*scaled in training: take quadratic, mae"):
        net.evaluate(X, PRICES, loss="poisson")


def test_scaled_by_the_rows_that_are_trained_on():
    seen = []
    net = network()
    fit(net, PRICES, validation=0.5, epochs=1, callbacks=[lambda n, _: seen.append(n)])
    scaler = StandardScaler().fit(PRICES[:, None])
    assert net.target_scaling.scale[0] != scaler.scale_[0]
    every = TargetScaling.fit(PRICES[:, None], "float32")
    assert every.shift == pytest.approx(scaler.mean_)
    assert every.scale == pytest.approx(scaler.scale_)


def test_penalties_count_in_the_same_unit():
    """Of one output the loss that is told is unit^2 times the one that is minimised."""
    net, unit = network(dtype="float64"), None
    fit(net, PRICES, epochs=1)
    unit = net.target_scaling.unit
    squares = sum(float((w**2).sum()) for w, _ in net.parameters)
    plain = net.evaluate(X, PRICES)["loss"]
    history = fit(net, PRICES, optimizer=SGD(0.0), epochs=1, regularization=Regularization(l2=0.1))
    assert history.epochs[0].loss == pytest.approx(plain + unit**2 * 0.05 * squares)


def test_training_again_goes_on_in_the_same_unit_unless_told(caplog):
    caplog.set_level(logging.INFO, "nnxp")
    net = network()
    fit(net, PRICES)
    first = net.target_scaling
    assert "targets are scaled for training: mean 9868, deviation 2551" in caplog.text
    before = net.predict(X)
    fit(net, PRICES[:100].repeat(2) * 1.5, epochs=1, optimizer=SGD(0.0))
    assert net.target_scaling is first
    np.testing.assert_array_equal(net.predict(X), before)
    fit(net, 1.5 * PRICES, epochs=1, scale_targets=True)
    assert net.target_scaling.unit == pytest.approx(1.5 * first.unit)
    fit(net, PLANE, epochs=1, scale_targets=False)
    assert net.target_scaling is None


@pytest.mark.parametrize(
    ("outputs", "output", "loss", "targets"),
    [
        (1, "sigmoid", "quadratic", np.clip(PLANE, 0, 1)),
        (1, "identity", "auto", (PLANE > 0).astype(float)),
        (3, "identity", "quadratic", RNG.integers(0, 3, 200)),
        (3, "identity", "quadratic", np.eye(3)[RNG.integers(0, 3, 200)]),
        (1, "identity", "binary_cross_entropy", np.clip(PLANE, 0, 1)),
    ],
)
def test_what_is_not_a_real_value_in_a_unit_is_left_alone(outputs, output, loss, targets):
    net = MLP([3, 8, outputs], "tanh", output, backend="numpy")
    fit(net, targets, epochs=1, loss=loss)
    assert net.target_scaling is None


def test_scaling_where_it_cannot_be_is_refused():
    net = MLP([3, 2], backend="numpy")
    with pytest.raises(InputError, match="scale_targets=True needs output 'identity'"):
        fit(net, RNG.integers(0, 2, 200), scale_targets=True)


@pytest.mark.parametrize(
    ("targets", "dtype", "says"),
    [
        (1e-170 * PLANE, "float32", "deviate by .*e-171 only.* float32: .* or dtype float64"),
        (1e-170 * PLANE, "float64", "deviate by .*e-171 only.* float64: take another unit$"),
        (1e39 * PLANE, "float32", "go up to .*39, too large for float32: .* or dtype float64"),
        (1e160 * PLANE, "float64", "go up to .*160, too large for float64: take another unit$"),
    ],
)
def test_a_unit_beyond_the_dtype_is_refused_before_training(targets, dtype, says):
    net = network(dtype=dtype)
    before = [w.copy() for w, _ in net.parameters]
    with pytest.raises(InputError, match=says):
        fit(net, targets)
    for now, then in zip(net.parameters, before, strict=True):
        np.testing.assert_array_equal(now[0], then)


def test_a_target_that_never_varies_is_predicted():
    net = network()
    fit(net, np.full(200, 12345.6))
    np.testing.assert_allclose(net.predict(X), 12345.6, atol=0.5)


def test_a_model_file_keeps_it(tmp_path, backend):
    net = network(3, backend=backend)
    fit(net, UNITS, epochs=2)
    net.save(tmp_path / "model.safetensors")
    again = MLP.load(tmp_path / "model.safetensors", backend=backend)
    assert again.target_scaling == net.target_scaling
    np.testing.assert_array_equal(to_numpy(again.predict(X)), to_numpy(net.predict(X)))
    assert again.evaluate(X, UNITS) == net.evaluate(X, UNITS)


def test_gradients_are_those_of_the_scaled_targets():
    net = network(dtype="float64")
    fit(net, PRICES, epochs=1)
    loss, gradients = net.loss_and_gradients(X, PRICES)
    scaled = net.target_scaling.apply(PRICES[:, None])
    plain = network(dtype="float64", parameters=net.parameters)
    expected_loss, expected = plain.loss_and_gradients(X, scaled)
    assert loss == expected_loss
    for layer, expected_layer in zip(gradients, expected, strict=True):
        for gradient, expected_gradient in zip(layer, expected_layer, strict=True):
            np.testing.assert_array_equal(gradient, expected_gradient)
    assert all(check.passed for check in gradcheck(plain, X[:8], scaled[:8]))

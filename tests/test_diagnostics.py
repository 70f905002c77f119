"""What `diagnose=True` measures, against the same figures computed the long way in NumPy."""

import json

import numpy as np
import pytest

import nnxp
from nnxp import MLP, SGD, Adam, Regularization, datasets, diagnostics, train
from nnxp.arrays import to_numpy
from nnxp.data import batches


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((50, 4)), rng.integers(0, 3, 50)


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits")


def outputs(network, x):
    """The hidden layers' outputs, (samples, units) each."""
    found = []
    for (weight, bias), name in zip(network.parameters[:-1], network.hidden, strict=True):
        z = x @ to_numpy(weight) + to_numpy(bias)
        x = {"relu": np.maximum(z, 0), "sigmoid": 1 / (1 + np.exp(-z)), "tanh": np.tanh(z)}[name]
        found.append(x)
    return found


def still(network, data, batch_size, **options):
    """The diagnosis of an epoch in which nothing changes."""
    rule = SGD(0.0)
    history = train(
        network, *data, optimizer=rule, epochs=1, batch_size=batch_size, diagnose=True, **options
    )
    return history.epochs[0].diagnosis


@pytest.mark.parametrize("batch_size", [5, 8, None])
def test_a_unit_is_dead_if_no_sample_of_the_whole_set_reaches_it(backend, data, batch_size):
    x, _ = data
    network = MLP([4, 40, 3], backend=backend, dtype="float64", seed=1)
    (weight, bias), last = network.parameters
    # The first unit is reached by one sample alone, wherever the shuffling puts it; the second by
    # none; the others' chances lie between.
    z = x @ to_numpy(weight)
    highest = np.sort(z, axis=0)[::-1]
    bias = np.linspace(0, -4, 40)
    bias[0], bias[1] = -highest[1, 0], -highest[0, 1]
    network.parameters = [(to_numpy(weight), bias), tuple(map(to_numpy, last))]
    expected = np.mean(outputs(network, x)[0].max(axis=0) == 0)
    assert 0.05 < expected < 0.95
    layer, _ = still(network, data, batch_size).layers
    assert layer.dead == pytest.approx(expected)
    assert layer.saturated is None


@pytest.mark.parametrize(("name", "steepest"), [("sigmoid", 0.25), ("tanh", 1.0)])
def test_a_unit_is_saturated_if_its_mean_slope_is_a_twentieth(backend, data, name, steepest):
    network = MLP([4, 40, 3], name, backend=backend, dtype="float64", seed=1)
    (weight, _), last = network.parameters
    bias = np.linspace(0, 6, 40)
    network.parameters = [(to_numpy(weight), bias), tuple(map(to_numpy, last))]
    y = outputs(network, data[0])[0]
    slope = y * (1 - y) if name == "sigmoid" else 1 - y * y
    expected = np.mean(slope.mean(axis=0) <= steepest / 20)
    assert 0.05 < expected < 0.95
    layer, _ = still(network, data, 8).layers
    assert layer.saturated == pytest.approx(expected)
    assert layer.dead is None


RULES = {
    "sgd": (SGD(0.1), Regularization()),
    "penalties": (SGD(0.1), Regularization(l1=0.01, l2=0.1, max_norm=0.5)),
    "momentum": (SGD(0.1, momentum=0.9), Regularization()),
    "adam": (Adam(0.01), Regularization()),
}


@pytest.mark.parametrize("rule", RULES)
def test_gradients_and_updates_are_those_of_the_next_step(backend, data, rule):
    """On the epoch's last batch: the update is what a second training makes of it."""
    optimizer, regularization = RULES[rule]
    options = {"optimizer": optimizer, "regularization": regularization, "batch_size": 50}
    x, t = data

    def trained(epochs):
        network = MLP([4, 6, 3], ["tanh"], backend=backend, dtype="float64", seed=2)
        return network, train(network, x, t, epochs=epochs, diagnose=True, **options)

    (before, history), (after, _) = trained(3), trained(4)
    _, gradients = before.loss_and_gradients(x, t)
    measured = history.epochs[-1].diagnosis
    for layer, (old, _), (new, _), (dweight, _) in zip(
        measured.layers, before.parameters, after.parameters, gradients, strict=True
    ):
        old, new, dweight = to_numpy(old), to_numpy(new), to_numpy(dweight)
        assert layer.gradient == pytest.approx(np.linalg.norm(dweight), rel=1e-9)
        expected = np.linalg.norm(new - old) / np.linalg.norm(old)
        assert layer.update == pytest.approx(expected, rel=1e-7)
    first, last = (layer.gradient for layer in measured.layers)
    assert measured.gradient_ratio == pytest.approx(first / last)


def test_of_a_smaller_last_batch_too(data):
    x, t = data
    network = MLP([4, 6, 3], backend="numpy", dtype="float64")
    layers = still(network, data, 8, seed=3).layers
    last = batches.shuffled(50, 3, 1)[-2:]
    _, gradients = network.loss_and_gradients(x[last], t[last])
    for layer, (dweight, _) in zip(layers, gradients, strict=True):
        assert layer.gradient == pytest.approx(np.linalg.norm(dweight))


@pytest.mark.parametrize("rule", RULES)
def test_to_measure_changes_nothing(backend, data, rule):
    optimizer, regularization = RULES[rule]
    trained = []
    for diagnose in (False, True):
        network = MLP([4, 6, 5, 3], ["relu", "sigmoid"], backend=backend, dtype="float64")
        train(
            network,
            *data,
            optimizer=optimizer,
            regularization=Regularization(
                regularization.l1, regularization.l2, regularization.max_norm, dropout=0.3
            ),
            epochs=2,
            batch_size=8,
            sample_weight=np.linspace(0, 1, 50),
            diagnose=diagnose,
        )
        trained.append([to_numpy(array) for layer in network.parameters for array in layer])
    for plain, watched in zip(*trained, strict=True):
        # A compiler may order the same sums otherwise; the others compute the same bits.
        tolerance = 1e-12 if network.backend.name == "jax" else 0
        np.testing.assert_allclose(watched, plain, rtol=tolerance, atol=tolerance)


@pytest.mark.promise("no wait")
@pytest.mark.parametrize("diagnose", [False, True])
def test_a_chunk_reads_the_device_once(conversions, monkeypatch, data, diagnose):
    reads = []
    network = MLP([4, 6, 5, 3], ["relu", "sigmoid"], backend="array-api-strict", device="device1")
    read = network.backend.read
    monkeypatch.setattr(network.backend, "read", lambda x: reads.append(x) or read(x))
    before = conversions.count
    train(network, *data, epochs=3, batch_size=8, diagnose=diagnose)
    assert len(reads) == 3  # the last, smaller batch is read with the chunk before it
    assert conversions.count == before


def kinds(history):
    return {
        (found.kind, found.layer) for epoch in history.epochs for found in epoch.diagnosis.findings
    }


def diagnosed(digits, sizes, rate, epochs=5, **options):
    network = MLP([64, *sizes, 10], backend="numpy", **options)
    rule = SGD(rate)
    return train(
        network, digits.x, digits.y, optimizer=rule, epochs=epochs, batch_size=32, diagnose=True
    )


@pytest.mark.parametrize("hidden", ["relu", "tanh", "sigmoid", "leaky_relu"])
def test_a_network_that_learns_has_no_findings(digits, hidden):
    history = diagnosed(digits, [32], 0.1, epochs=10, hidden=hidden)
    assert history.epochs[-1].loss < 0.7 * history.epochs[0].loss
    assert not kinds(history)


def test_units_die_at_a_high_rate(digits):
    history = diagnosed(digits, [128, 64], 1.5)
    assert ("dead", 1) in kinds(history)
    layer = history.epochs[-1].diagnosis.layers[0]
    assert layer.dead >= 0.4
    message = history.epochs[-1].diagnosis.findings[0].message
    assert f"{layer.dead:.0%}" in message
    assert "lower the learning rate (1.5)" in message
    # The cure cures.
    assert not kinds(diagnosed(digits, [128, 64], 0.1))
    assert history.epochs[-1].loss > 2


def test_gradients_vanish_through_ten_sigmoid_layers(digits):
    history = diagnosed(digits, [30] * 10, 0.1, hidden="sigmoid")
    assert kinds(history) == {("vanishing", None)}
    assert history.epochs[-1].diagnosis.gradient_ratio < 1e-5
    assert history.epochs[-1].loss > 2.2  # it has learnt nothing
    cured = diagnosed(digits, [30] * 10, 0.03, hidden="relu", initializer="he", epochs=10)
    assert ("vanishing", None) not in kinds(cured)
    assert cured.epochs[-1].loss < 1


def test_gradients_explode_through_twenty_layers_of_large_weights(digits):
    options = {"hidden": "tanh", "initializer": "normal"}
    history = diagnosed(digits, [30] * 20, 1e-6, epochs=1, **options)
    assert ("exploding", None) in kinds(history)


def test_units_saturate_from_large_weights(digits):
    big = datasets.load("digits", preprocess="none")
    history = diagnosed(big, [30], 0.01, hidden="tanh", initializer="normal")
    assert ("saturated", 1) in kinds(history)


def test_a_large_update_is_found(digits):
    assert ("large update", 1) in kinds(diagnosed(digits, [30], 5.0, hidden="sigmoid"))


def test_a_loss_that_is_not_finite_ends_training_with_the_cure(digits):
    with pytest.raises(nnxp.DivergenceError, match=r"lower the learning rate \(30\)"):
        diagnosed(digits, [128, 64], 30.0, hidden="leaky_relu")


def test_without_it_nothing_is_measured(data):
    history = train(MLP([4, 3], backend="numpy"), *data, epochs=1, batch_size=8)
    assert history.epochs[0].diagnosis is None


def test_a_network_without_hidden_layers_has_gradients_too(backend, data):
    history = train(MLP([4, 3], backend=backend), *data, epochs=1, batch_size=8, diagnose=True)
    (layer,) = history.epochs[0].diagnosis.layers
    assert layer.activation == "softmax"
    assert layer.gradient > 0
    assert history.epochs[0].diagnosis.gradient_ratio == 1.0


def test_a_gradient_of_zero_has_no_ratio_and_the_report_stays_json(data):
    network = MLP([4, 3, 3], backend="numpy")
    network.parameters = [(np.zeros((4, 3)), np.zeros(3)), (np.zeros((3, 3)), np.zeros(3))]
    history = train(network, *data, optimizer=SGD(0.0), epochs=1, batch_size=8, diagnose=True)
    assert history.epochs[0].diagnosis.gradient_ratio is None
    assert json.loads(history.to_json())[0]["diagnosis"]["layers"][0]["dead"] == 1.0


def test_a_large_batch_is_probed_by_a_part_of_it(monkeypatch, data):
    monkeypatch.setattr(diagnostics, "PROBE_ROWS", 7)
    x, t = data
    network = MLP([4, 6, 3], backend="numpy", dtype="float64")
    layers = still(network, data, None, seed=3).layers
    part = batches.shuffled(50, 3, 1)[:7]
    _, gradients = network.loss_and_gradients(x[part], t[part])
    for layer, (dweight, _) in zip(layers, gradients, strict=True):
        assert layer.gradient == pytest.approx(np.linalg.norm(dweight))

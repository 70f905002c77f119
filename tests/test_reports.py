"""Reports of trainings."""

import json
import platform

import numpy as np
import pytest

import nnxp
from nnxp import MLP, SGD, plots, reports


@pytest.fixture
def trained(backend):
    rng = np.random.default_rng(0)
    network = MLP([4, 5, 3], hidden="tanh", output="softmax", backend=backend, seed=0)
    x, y = rng.standard_normal((20, 4)), rng.integers(0, 3, 20)
    history = nnxp.train(
        network, x, y, optimizer=SGD(0.1), epochs=2, batch_size=5, validation=0.25, diagnose=True
    )
    return network, history


def test_a_report_says_what_was_trained_where_and_how(trained):
    network, history = trained
    given = {"optimizer": "sgd", "learning_rate": 0.1}
    report = reports.training(
        network, history, data="made", options=given, test={"loss": 0.5, "accuracy": 0.75}
    )
    backend = network.backend
    assert (report["backend"], report["device"]) == (backend.name, backend.device_name)
    assert report["executor"] == backend.executor
    assert report["versions"] == {
        "nnxp": nnxp.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        backend.name: backend.version,
    }
    assert (report["data"], report["dtype"], report["sizes"]) == ("made", "float32", [4, 5, 3])
    assert report["options"] == {
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "hidden": [5],
        "activation": ["tanh"],
        "output_activation": "softmax",
        "loss": "categorical_cross_entropy",
    }
    assert report["test"] == {"loss": 0.5, "accuracy": 0.75}
    assert [epoch["loss"] for epoch in report["history"]] == [e.loss for e in history.epochs]


def test_json_holds_a_report(trained):
    text = json.dumps(reports.training(*trained), allow_nan=False)
    first = json.loads(text)["history"][0]
    assert first["epoch"] == 1
    assert len(first["diagnosis"]["layers"]) == 2


def test_what_network_and_history_know_replaces_what_was_said():
    network = MLP([2, 3, 2], hidden="relu", output="softmax", backend="numpy")
    history = nnxp.train(
        network, np.eye(2), [0, 1], loss="quadratic", optimizer=SGD(0.1), epochs=1, batch_size=2
    )
    said = {"hidden": [99], "activation": "step", "output_activation": "auto", "loss": "auto"}
    options = reports.training(network, history, options=said)["options"]
    assert options == {
        "hidden": [3], "activation": ["relu"], "output_activation": "softmax", "loss": "quadratic"
    }  # fmt: skip
    assert said["hidden"] == [99]  # the caller's options stay


def test_fall_backs_are_in_the_report(trained):
    network, history = trained
    history.fallbacks.append("eager steps: a reason")
    assert "eager steps: a reason" in reports.training(network, history)["fallbacks"]


def test_a_report_without_test_data_and_name_says_so():
    network = MLP([2, 2], output="softmax", backend="numpy")
    report = reports.training(
        network, nnxp.train(network, np.eye(2), [0, 1], optimizer=SGD(0.1), epochs=1, batch_size=2)
    )
    assert (report["data"], report["test"]) == ("", {})


def test_a_report_that_json_held_can_be_drawn(trained):
    pytest.importorskip("matplotlib")
    given = {"optimizer": "sgd", "learning_rate": 0.1, "batch_size": 5, "task": "classify"}
    report = json.loads(json.dumps(reports.training(*trained, data="made", options=given)))
    loss, accuracy = plots.history(report).axes
    assert "accuracy" in accuracy.get_title()
    assert list(loss.lines[0].get_ydata()) == [epoch.loss for epoch in trained[1].epochs]

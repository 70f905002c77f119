"""Reports of trainings."""

import json

import pytest

import nnxp
from nnxp import MLP, reports


def test_a_report_says_what_was_trained_and_how(backend):
    data = nnxp.datasets.load("moons")
    network = MLP([2, 4, 2], "tanh", backend=backend)
    history = nnxp.train(network, data.x, data.y, epochs=2, batch_size=40, validation=0.1)
    test = network.evaluate(data.x_test, data.y_test)
    given = {"optimizer": "sgd", "learning_rate": 0.1, "batch_size": 40, "loss": "auto"}
    report = reports.training(network, history, data="moons", options=given, test=test)
    assert json.loads(json.dumps(report)) == report
    assert report["options"] == given | {
        "hidden": [4], "activation": ["tanh"], "output_activation": "softmax",
        "loss": "categorical_cross_entropy",
    }  # fmt: skip
    assert given["loss"] == "auto"
    assert (report["backend"], report["device"]) == (backend.name, backend.device_name)
    assert report["versions"]["nnxp"] == nnxp.__version__
    assert report["versions"][backend.name] == backend.version
    assert report["history"] == history.to_list()
    assert report["test"] == test


def test_a_report_can_be_drawn():
    pytest.importorskip("matplotlib")
    data = nnxp.datasets.load("moons")
    network = MLP([2, 2], backend="numpy")
    history = nnxp.train(network, data.x, data.y, epochs=2, batch_size=None)
    given = {"optimizer": "sgd", "learning_rate": 0.1, "batch_size": None, "task": "classify"}
    report = reports.training(network, history, data="moons", options=given)
    assert nnxp.plots.history(report).axes

"""What a training returns, and how it is printed, shown and monitored."""

import json
import re

import pytest

import nnxp
from nnxp.history import LONGEST_TABLE, Epoch, History


def history(count, metric="accuracy"):
    figures = (0.5, 0.25) if metric else (None, None)
    epochs = [Epoch(n, 2 / n, *figures, 0.01, 12345.6, 0.1) for n in range(1, count + 1)]
    return History(metric, epochs, loss="quadratic")


def test_a_history_is_one_line():
    assert repr(history(0)) == "<History: no epochs>"
    assert repr(history(1, None)) == "<History: 1 epoch, loss 2.0000>"
    assert repr(history(1000)) == (
        "<History: 1000 epochs, loss 0.0020, validation loss 0.5000, validation accuracy 0.2500>"
    )


def test_a_notebook_shows_a_table_of_the_epochs():
    table = history(2)._repr_html_()
    assert re.findall("<th>(.*?)</th>", table) == [
        "epoch", "loss", "val. loss", "val. accuracy", "seconds", "samples/s"
    ]  # fmt: skip
    assert re.findall("<td>(.*?)</td>", table)[6:] == [
        "2", "1.0000", "0.5000", "0.2500", "0.010", "12,346"
    ]  # fmt: skip
    assert "val." not in history(2, None)._repr_html_()
    assert "<table>" not in history(0)._repr_html_()


def test_the_table_of_a_long_training_shows_both_ends():
    first = re.findall("<tr><td>(.*?)</td>", history(10_000)._repr_html_())
    assert len(first) == LONGEST_TABLE + 1
    assert first[0] == "1"
    assert first[LONGEST_TABLE // 2] == "…"
    assert first[-1] == "10000"


def test_a_table_tells_fallbacks_and_is_html():
    fallen = history(1)
    fallen.fallbacks.append("steps run eagerly: a < b")
    assert "<p>steps run eagerly: a &lt; b</p>" in fallen._repr_html_()


def test_a_history_is_json_and_knows_its_loss(backend):
    x, t = [[0.0], [1.0]], [0.0, 2.0]
    network = nnxp.MLP([1, 1], output="identity", backend=backend)
    trained = nnxp.train(network, x, t, epochs=3, batch_size=None, validation=(x, t))
    assert (trained.loss, trained.metric) == ("quadratic", "r2")
    assert [row["epoch"] for row in json.loads(trained.to_json())] == [1, 2, 3]
    assert trained == History("r2", trained.epochs, loss="quadratic")


def test_what_is_monitored_falls_as_training_gets_better():
    of_accuracy, of_error = history(1), history(1, "rmse")
    of_error.larger_is_better = False
    (epoch,) = of_accuracy.epochs
    assert of_accuracy.monitored(epoch, "loss") == 2
    assert of_accuracy.monitored(epoch, "validation_metric") == -0.25
    assert of_error.monitored(epoch, "validation_metric") == 0.25
    with pytest.raises(nnxp.InputError, match="validation_loss needs validation data"):
        of_accuracy.monitored(history(1, None).epochs[0], "validation_loss")

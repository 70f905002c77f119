import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    mean_absolute_error,
    mean_absolute_percentage_error,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)

import nnxp
from nnxp import InputError, objectives
from nnxp.metrics import Metric, accuracy, format_figure, mae, measure, r2, rmse

seeds = st.integers(0, 2**32 - 1)


@given(seeds)
def test_accuracy_is_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    predicted, targets = rng.integers(0, 3, (2, 20))
    assert accuracy(targets, predicted) == accuracy_score(targets, predicted)
    labels = rng.integers(0, 2, (2, 20, 2))
    assert accuracy(*labels) == accuracy_score(*labels)


@given(seeds, st.booleans())
def test_r2_is_scikit_learns(seed, constant):
    rng = np.random.default_rng(seed)
    predicted, targets = rng.standard_normal((2, 15, 2))
    if constant:
        targets[:, 0] = 0.5
    assert r2(targets, predicted) == pytest.approx(r2_score(targets, predicted), abs=1e-9)


def test_r2_of_a_constant_that_binary_cannot_hold_is_zero():
    """The mean of twenty times 0.1 is another number, and the sum of squares not 0."""
    targets = np.full((20, 1), 0.1)
    assert targets.mean(axis=0) != 0.1
    assert r2(targets, targets + 1e-3) == 0


@given(seeds)
def test_rmse_and_mae_are_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    pair = rng.uniform(0.1, 1e4, 2) * rng.standard_normal((2, 15, 2))
    assert rmse(*pair) == pytest.approx(root_mean_squared_error(*pair))
    assert mae(*pair) == pytest.approx(mean_absolute_error(*pair))


def test_r2_of_a_constant_predicted_exactly_is_one():
    ones = np.ones((4, 1))
    assert r2(ones, ones) == r2_score(ones, ones) == 1


EYE = np.eye(3)
LABELS = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 1.0]])


@pytest.mark.parametrize(
    ("output", "loss", "targets", "classes", "expected"),
    [
        ("softmax", "auto", np.array([0, 1, 1]), True, ("accuracy", 2 / 3)),
        ("sigmoid", "auto", EYE[[0, 1, 1]], True, ("accuracy", 2 / 3)),
        ("identity", "quadratic", EYE[[0, 1, 1]], True, ("accuracy", 2 / 3)),
        ("softmax", "auto", EYE[[0, 1, 1]], False, ("accuracy", 2 / 3)),
        ("softmax", "auto", EYE[[0, 1, 1]] * 0.4 + 0.2, False, ("accuracy", 2 / 3)),
        ("sigmoid", "auto", LABELS, False, ("accuracy", 1 / 3)),
        ("sigmoid", "auto", LABELS[:2], False, ("accuracy", 1 / 2)),
        ("identity", "binary_cross_entropy", EYE[:, :1], False, ("accuracy", 1 / 3)),
        ("identity", "quadratic", EYE * 2, False, ("r2", None)),
        ("sigmoid", "quadratic", EYE * 0.5, False, ("r2", None)),
        ("identity", "quadratic", EYE[:, :1], False, ("r2", None)),
    ],
)
def test_the_metric_fits_the_targets(output, loss, targets, classes, expected):
    """Row 1 says yes to two labels, and its largest is the first."""
    outputs = np.array([[0.9, 0.6, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.7]])[: len(targets)]
    if targets.ndim == 2:
        outputs = outputs[:, : targets.shape[1]]
    figures = measure(objectives.get(loss, output), outputs, targets, classes)
    (name, value), *others = figures.items()
    assert [other for other, _ in others] == (["rmse", "mae"] if name == "r2" else [])
    assert name == expected[0]
    assert value == pytest.approx(r2_score(targets, outputs) if name == "r2" else expected[1])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0000"), (1e-5, "1.0000e-05"), (0.98765, "0.9877"), (99.9999, "99.9999"),
        (99.99996, "100.00"), (-123.456, "-123.46"), (1234.5678, "1234.6"), (54321.98, "54322"),
        (99_999.6, "1.0000e+05"), (1.23456e9, "1.2346e+09"), (float("nan"), "nan"),
    ],
)  # fmt: skip
def test_large_figures_have_five_digits(value, text):
    assert format_figure(value) == text


def test_a_poisson_network_predicts_rates_or_their_logarithms():
    counts = np.array([[0.0], [2.0], [5.0]])
    rates = counts + 0.3
    for output, outputs in (("softplus", rates), ("identity", np.log(rates))):
        figures = measure(objectives.get("poisson", output), outputs, counts, False)
        assert figures["mae"] == pytest.approx(0.3)


# --- metrics by name

RNG = np.random.default_rng(0)
OF_CLASSES = ["accuracy", "balanced_accuracy", "f1", "roc_auc"]


def probabilities(samples, classes):
    raw = RNG.random((samples, classes))
    return raw / raw.sum(axis=1, keepdims=True)


def test_metrics_of_several_classes_are_scikit_learns():
    y, t = probabilities(60, 4), RNG.integers(0, 4, 60)
    found = measure(objectives.get("auto", "softmax"), y, t, True, OF_CLASSES)
    predicted = y.argmax(axis=1)
    assert found == pytest.approx({
        "accuracy": accuracy_score(t, predicted),
        "balanced_accuracy": balanced_accuracy_score(t, predicted),
        "f1": f1_score(t, predicted, average="macro"),
        "roc_auc": roc_auc_score(t, y, multi_class="ovr", average="macro"),
    })  # fmt: skip


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_metrics_of_two_classes_are_scikit_learns(output):
    p, t = RNG.random(60), RNG.integers(0, 2, 60)
    y = np.stack([1 - p, p], axis=1) if output == "softmax" else p[:, None]
    targets = t if output == "softmax" else t[:, None].astype(float)
    found = measure(objectives.get("auto", output), y, targets, y.shape[1] > 1, OF_CLASSES)
    assert found == pytest.approx({
        "accuracy": accuracy_score(t, p > 0.5),
        "balanced_accuracy": balanced_accuracy_score(t, p > 0.5),
        "f1": f1_score(t, p > 0.5),
        "roc_auc": roc_auc_score(t, p),
    })  # fmt: skip


def test_roc_auc_of_two_classes_is_that_of_the_rare_one_s_output():
    """The other's is 1 in float32 where this one's still differs."""
    p, t = (10 ** RNG.uniform(-12, -6, 60)).astype("float32"), RNG.integers(0, 2, 60)
    y = np.stack([1 - p, p], axis=1)
    found = measure(objectives.get("auto", "softmax"), y, t, True, ["roc_auc"])
    assert found["roc_auc"] == pytest.approx(roc_auc_score(t, p))


def test_metrics_of_several_labels_are_scikit_learns():
    y, t = RNG.random((60, 3)), RNG.integers(0, 2, (60, 3)).astype(float)
    found = measure(objectives.get("auto", "sigmoid"), y, t, False, ["f1", "roc_auc"])
    expected = {"f1": f1_score(t, y > 0.5, average="macro"), "roc_auc": roc_auc_score(t, y)}
    assert found == pytest.approx(expected)
    with pytest.raises(InputError, match=r"metric 'balanced_accuracy': .*multilabel"):
        measure(objectives.get("auto", "sigmoid"), y, t, False, ["balanced_accuracy"])


def test_roc_auc_is_of_the_classes_that_the_targets_have():
    y, t = probabilities(60, 4), RNG.integers(0, 3, 60)
    objective = objectives.get("auto", "softmax")
    areas = [roc_auc_score(t == label, y[:, label]) for label in range(3)]
    found = measure(objective, y, t, True, ["roc_auc"])
    assert found["roc_auc"] == pytest.approx(np.mean(areas))
    with pytest.raises(InputError, match="roc_auc needs two classes"):
        measure(objective, y, np.full(60, 2), True, ["roc_auc"])


def test_names_are_in_the_order_given_and_each_once():
    y, t = RNG.random((9, 2)), RNG.random((9, 2))
    objective = objectives.get("auto", "identity")
    assert list(measure(objective, y, t, False, ["MAE", "auto", "r2"])) == ["mae", "r2", "rmse"]
    for wrong, says in (
        ("acuracy", "did you mean 'accuracy'"),
        ("f1", "metric 'f1' is for classes or 0/1 labels, and the targets are real values: take "
         "r2, rmse, mae"),
        (3, "a metric must be a name or a function, not 3"),
        (float, "not the class float"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=says):
            measure(objective, y, t, False, [wrong])


def test_two_metrics_of_one_name_are_refused():
    """One would hide the other."""
    y = RNG.random((9, 2))
    pair = [lambda t, y: 1.0, lambda t, y: 2.0]
    with pytest.raises(InputError, match="two metrics are called 'metric'"):
        measure(objectives.get("auto", "identity"), y, y, False, pair)
    with pytest.raises(InputError, match="another name than 'loss'"):
        Metric("loss", lambda outcome: 1.0)


def test_scikit_learns_functions_are_metrics():
    """They have what is right first, and a smaller error is better."""
    t = 1 + RNG.random((9, 2))
    y = t + 0.1
    found = measure(objectives.get("auto", "identity"), y, t, False,
                    [mean_absolute_percentage_error, lambda t, y: float(t[0, 0])])  # fmt: skip
    expected = mean_absolute_percentage_error(t, y)
    assert found == {"mean_absolute_percentage_error": expected, "metric": t[0, 0]}
    assert not nnxp.metrics.get(mean_absolute_percentage_error).larger_is_better
    assert nnxp.metrics.get(f1_score).larger_is_better
    for name, metric in nnxp.metrics.METRICS.items():
        assert metric.larger_is_better == (name not in ("rmse", "mae"))


def test_a_missing_scikit_learn_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    x, t = RNG.random((9, 2)), RNG.integers(0, 2, 9)
    network = nnxp.MLP([2, 2], backend="numpy")
    for name in OF_CLASSES[1:]:
        with pytest.raises(InputError, match=rf"metric '{name}' .*pip install \"nnxp\[sklearn\]\""):
            nnxp.train(network, x, t, epochs=1, batch_size=2, validation=(x, t), metric=name)
    assert set(network.evaluate(x, t)) == {"loss", "accuracy"}


# --- the metric of a training


def test_a_training_has_the_metric_that_was_chosen(backend):
    x, t = RNG.standard_normal((80, 3)), 1e4 * RNG.standard_normal((80, 1))
    network = nnxp.MLP([3, 4, 1], output="identity", backend=backend)
    scores = []
    for metric in ("mae", mean_absolute_error, Metric("own", lambda o: o.outputs[0, 0], False)):
        history = nnxp.train(
            network, x, t, epochs=1, batch_size=16, validation=(x, t), metric=metric,
            scale_targets=True,
        )  # fmt: skip
        assert not history.larger_is_better
        scores.append((history.metric, history.epochs[0].validation_metric))
        figures = network.evaluate(x, t, metrics=[metric])
        assert list(figures.items())[1] == scores[-1]
    assert [name for name, _ in scores] == ["mae", "mean_absolute_error", "own"]
    assert scores[2][1] == pytest.approx(float(network.predict(x)[0, 0]), rel=1e-5)
    assert scores[0][1] > 1000  # in the targets' own unit


def test_a_metric_that_fails_is_said_before_the_first_step():
    x, t = RNG.random((30, 2)), np.arange(30) % 3
    network, steps = nnxp.MLP([2, 3], output="softmax", backend="numpy"), []
    for metric, says in (
        (f1_score, "metric 'f1_score': ValueError: Target is multiclass"),
        (lambda t, y: "good", "metric 'metric': ValueError"),
        ("r2", "metric 'r2' is for real values"),
    ):
        with pytest.raises(InputError, match=says):
            nnxp.train(network, x, t, epochs=1, batch_size=2, validation=0.5, metric=metric,
                       progress=steps.append)  # fmt: skip
    with pytest.raises(InputError, match="metric needs validation data"):
        nnxp.train(network, x, t, epochs=1, batch_size=2, metric="f1", progress=steps.append)
    history = nnxp.train(network, x, t, epochs=1, batch_size=2, validation=0.5)
    with pytest.raises(InputError, match="resume: its metric was 'accuracy', not 'f1'"):
        nnxp.train(network, x, t, epochs=1, batch_size=2, validation=0.5, metric="f1",
                   resume=history, progress=steps.append)  # fmt: skip
    assert steps == []

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    mean_absolute_error,
    r2_score,
    root_mean_squared_error,
)

from nnxp import objectives
from nnxp.metrics import accuracy, format_figure, mae, measure, r2, rmse

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

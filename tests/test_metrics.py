import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, r2_score

from nnxp.metrics import accuracy, metric, r2
from nnxp.objectives import objective

seeds = st.integers(0, 2**32 - 1)


@given(seeds)
def test_accuracy_is_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    predicted, targets = rng.integers(0, 3, (2, 20))
    assert accuracy(predicted, targets) == accuracy_score(targets, predicted)
    labels = rng.integers(0, 2, (2, 20, 2))
    assert accuracy(*labels) == accuracy_score(labels[1], labels[0])


@given(seeds, st.booleans())
def test_r2_is_scikit_learns(seed, constant):
    rng = np.random.default_rng(seed)
    predicted, targets = rng.standard_normal((2, 15, 2))
    if constant:
        targets[:, 0] = 0.5
    assert r2(predicted, targets) == pytest.approx(r2_score(targets, predicted), abs=1e-9)


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
    name, value = metric(objective(loss, output), outputs, targets, classes)
    assert name == expected[0]
    assert value == pytest.approx(r2_score(targets, outputs) if name == "r2" else expected[1])

import numpy as np
import pytest

from nnxp import MLP, InputError, inputs
from nnxp.arrays import is_array, namespace


@pytest.fixture
def network():
    return MLP([3, 2], backend="numpy")


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (np.ones((4, 5)), r"x has shape \(4, 5\), the network takes \(samples, 3\)"),
        (np.ones(3), r"one sample is a batch of one: x\[None, :\]"),
        (np.ones((0, 3)), "x has no rows"),
        ([[1, 2, 3], [4, 5]], "x is ragged"),
        ([["a", "b", "c"]], "x must be numbers, not str"),
        ([[1.0, np.nan, 3.0]], "x holds nan at row 0, column 1"),
        ([[1.0, 2.0, 3.0], [4.0, 5.0, -np.inf]], "x holds -inf at row 1, column 2"),
        (np.full((1, 3), 1e300), "x holds inf at row 0, column 0"),  # beyond float32
    ],
)
def test_features_are_checked(network, x, says):
    with pytest.raises(InputError, match=says):
        network.predict(x)


def test_nan_is_found_on_the_device(backend):
    x = np.zeros((4, 3), dtype=np.float32)
    x[2, 1] = np.nan
    with pytest.raises(InputError, match="x holds nan at row 2, column 1"):
        MLP([3, 2], backend=backend).predict(backend.asarray(x))


def test_large_finite_values_whose_sum_overflows_are_let_through(network):
    x = np.full((10, 3), 3e38, dtype=np.float32)
    x[5:] = -3e38
    x[:, 1:] = 0
    assert network.predict(np.full((2, 3), 2e38, dtype=np.float32)).shape == (2, 2)


def test_integers_and_booleans_are_numbers(backend):
    network = MLP([2, 2], backend=backend)
    y = network.forward(np.array([[1, 0]], dtype=np.uint8))
    assert namespace(y) is backend.xp
    np.testing.assert_array_equal(
        network.predict([[True, False]]), network.predict(np.array([[1.0, 0.0]]))
    )


def targets(t, loss, outputs=3):
    return inputs.targets(t, loss, np.asarray(t).shape[0], outputs)


def test_classes_become_what_the_loss_takes():
    assert targets([0, 2], "categorical_cross_entropy").dtype == np.int64
    for loss in ("quadratic", "binary_cross_entropy"):
        np.testing.assert_array_equal(targets([0, 2], loss), [[1, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(targets([0.0, 2.0], "categorical_cross_entropy"), [0, 2])


def test_one_output_takes_a_flat_array():
    assert targets([0.5, 2], "quadratic", outputs=1).shape == (2, 1)


def test_targets_come_from_any_library(library):
    t = library.asarray(np.array([0, 2]))
    assert is_array(t)
    encoded = inputs.targets(t, "categorical_cross_entropy", 2, 3)
    np.testing.assert_array_equal(encoded, [0, 2])


@pytest.mark.parametrize(
    ("t", "loss", "outputs", "says"),
    [
        ([0, 3], "categorical_cross_entropy", 3, r"targets\[1\] is 3: .* takes classes 0 to 2"),
        ([-1, 0], "categorical_cross_entropy", 3, r"targets\[0\] is -1"),
        ([0.5, 1], "categorical_cross_entropy", 3, r"targets\[0\] is 0.5"),
        (["cat", "dog"], "categorical_cross_entropy", 3, "encode text labels as classes 0, 1, 2"),
        ([np.nan, 1], "quadratic", 1, "targets holds nan at row 0"),
        (np.ones((2, 4)), "quadratic", 3, r"targets have shape \(2, 4\), the network's .*\(2, 3\)"),
        (np.ones((2, 1)), "quadratic", 3, r"integer classes are given as \(samples,\)"),
        ([[0, 2]], "binary_cross_entropy", 2, r"targets\[0, 1\] is 2: .* values from 0 to 1"),
        (
            [[1, 1]],
            "categorical_cross_entropy",
            2,
            r"targets\[0\] sums to 2: .* rows that sum to 1",
        ),
    ],
)
def test_targets_are_checked(t, loss, outputs, says):
    with pytest.raises(InputError, match=says):
        targets(t, loss, outputs)


def test_a_different_number_of_targets_names_both_shapes():
    with pytest.raises(InputError, match=r"targets have shape \(3,\), x has 2 rows"):
        inputs.targets([0, 1, 1], "quadratic", 2, 2)

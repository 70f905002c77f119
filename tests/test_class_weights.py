"""Weights of classes: scikit-learn's, for names of any kind."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_sample_weight

from nnxp import InputError
from nnxp.class_weights import class_weights, sample_weights

NAMES = np.array(["cat", "dog", "eel"])


@pytest.mark.parametrize("given", ["balanced", {"cat": 3.0, "eel": 0.0}, {"cat": 2}])
def test_weights_are_scikit_learns(given):
    y = np.random.default_rng(0).choice(3, 50, p=[0.7, 0.2, 0.1])
    for part in (y, y[y != 1]):  # a class may be missing
        expected = compute_sample_weight(given, NAMES[part])
        np.testing.assert_allclose(sample_weights(given, part, NAMES), expected)


def test_balanced_classes_have_the_same_total_weight():
    y = np.array([0, 0, 0, 0, 1, 1, 2])
    weights = sample_weights("Balanced", y, range(3))
    np.testing.assert_allclose(np.bincount(y, weights), 7 / 3)


def test_a_name_that_is_no_class_is_said():
    y = np.array([0, 1, 2])
    with pytest.raises(InputError, match="a weight for 'owl', which is no class, and none for dog"):
        class_weights({"owl": 2.0, "cat": 1.0, "eel": 1.0}, y, NAMES)
    for wrong in ("equal", 3.0, [1.0, 2.0, 3.0]):
        with pytest.raises(InputError, match='must be "balanced" or a dictionary'):
            class_weights(wrong, y, NAMES)
    # As in scikit-learn: a part of the data need not have every class.
    assert class_weights({"cat": 1, "dog": 2, "eel": 3, "owl": 4}, y, NAMES).tolist() == [1, 2, 3]

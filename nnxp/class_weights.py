"""Weights of classes, as weights of samples: rare classes may count more in the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nnxp import options
from nnxp.arrays import to_numpy
from nnxp.data import checks
from nnxp.errors import InputError, shown

_CLASSES = options.Rule("a list of the names of classes", lambda value: [*value])


@options.checked(classes=_CLASSES)
def class_weights(
    class_weight: str | Mapping[Any, float], y: np.ndarray, classes: Sequence[Any]
) -> np.ndarray:
    """Return the weight of each class, (classes,), float64.

    "balanced" gives class c the weight samples / (k n_c), where n_c samples are of it, and k
    classes have samples: then all classes have the same total weight.

    Args:
        class_weight: "balanced", or the weight of classes by name; others have the weight 1.
        y: the class of each sample, (samples,), as an index of `classes`.
        classes: the name of each class.

    Raises:
        InputError: it is something else, or a name is none of a class, and some class has no
            weight.

    Source: King and Zeng, Logistic regression in rare events data, 2001; scikit-learn.

    Example:
        >>> import numpy as np
        >>> from nnxp.class_weights import class_weights
        >>> class_weights("balanced", np.array([0, 0, 0, 1]), ["no", "yes"]).round(3).tolist()
        [0.667, 2.0]
    """
    y = _indices(y, len(classes))
    if isinstance(class_weight, str) and class_weight.lower() == "balanced":
        counts = np.bincount(y, minlength=len(classes))
        return len(y) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    if not isinstance(class_weight, Mapping):
        raise InputError(
            f'class_weight must be "balanced" or a dictionary of weights, not {shown(class_weight)}'
        )
    unknown = [name for name in class_weight if name not in classes]
    left = [name for name in classes if name not in class_weight]
    if unknown and left:
        raise InputError(
            f"class_weight has a weight for {shown(unknown[0])}, which is no class, and none for "
            f"{', '.join(map(str, left[:5]))}"
        )
    weight = options.NOT_NEGATIVE
    return np.array(
        [weight(f"class_weight of {name}", class_weight.get(name, 1.0)) for name in classes]
    )


def _indices(y: Any, classes: int) -> np.ndarray:
    """Check that `y` is (samples,), indices of classes; return it as integers.

    Raises:
        InputError: it is something else.
    """
    y = to_numpy(checks.numbers(y, "y"))
    if y.ndim != 1 or not len(y):
        raise InputError(f"y has shape {y.shape}; give the class of each sample, (samples,)")
    wrong = ~np.isin(y, np.arange(classes))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(f"y[{row}] is {y[row]}: give indices of the {classes} classes, from 0")
    return y.astype(np.int64)


@options.checked(classes=_CLASSES)
def sample_weights(
    class_weight: str | Mapping[Any, float], y: np.ndarray, classes: Sequence[Any]
) -> np.ndarray:
    """Return the weight of each sample's class, (samples,), float64; see `class_weights`.

    `nnxp.train` takes them as `sample_weight`.

    Example:
        >>> import numpy as np
        >>> from nnxp.class_weights import sample_weights
        >>> sample_weights({"no": 2.0, "yes": 0.5}, np.array([0, 1, 1]), ["no", "yes"]).tolist()
        [2.0, 0.5, 0.5]
    """
    return class_weights(class_weight, y, classes)[_indices(y, len(classes))]

"""Weights of classes, as weights of samples: rare classes may count more in the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nnxp.errors import InputError, shown


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
    return np.array([class_weight.get(name, 1.0) for name in classes], dtype=np.float64)


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
    return class_weights(class_weight, y, classes)[y]

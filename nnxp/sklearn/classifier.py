"""`MLPClassifier`: classes of any type, and several labels for each sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import type_of_target, unique_labels

from nnxp.arrays import Array, device, index_dtype, is_array, namespace, to_numpy
from nnxp.class_weights import sample_weights
from nnxp.names import ActivationName
from nnxp.network import MLP
from nnxp.sklearn.base import BaseMLP, Samples, set_parameters


class MLPClassifier(ClassifierMixin, BaseMLP):
    """scikit-learn's MLPClassifier on any backend of nnxp: change the import.

    The parameters up to `max_fun`, the methods and the fitted attributes are those of
    `sklearn.neural_network.MLPClassifier`, with the same names, defaults and meaning. From equal
    random states, both learn the same, except for rounding. Only sample weights differ: they have a
    mean of one over all samples, and in scikit-learn in every batch.

    Args:
        activation: also any other activation of nnxp, or a list with one for each hidden layer.
        loss: "log_loss", or a loss of nnxp: "quadratic", ...
        backend, device: see `nnxp.MLP`; None for the library and device of X, under scikit-learn's
            `array_api_dispatch`, else nnxp's default.
        dtype: "float32" or "float64"; None for X's own.
        class_weight: the weights of the classes as a dictionary, or "balanced"; for several labels,
            a list with a dictionary for each label. They multiply `sample_weight`.
        initializer: one of `nnxp.MLP`; "auto" is scikit-learn's.
        dropout: the share of each hidden layer's units to drop, one or a list.
        augment: how to deform images while training, "rotate=12" or another `augment` of
            `nnxp.train`; X has pixels as features.
        callbacks: see `nnxp.train`; each `partial_fit` is a training that they start and finish.
        scoring: the score on which early stopping depends: a scorer or its name; None for accuracy.

    Attributes:
        network_: the `nnxp.MLP`.
        history_: the `nnxp.History` of the last training by sgd or adam.
        converged_: whether the last training met its criterion.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> from nnxp.sklearn import MLPClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> MLPClassifier(solver="lbfgs", random_state=0).fit(X, y).score(X, y) > 0.95
        True
    """

    _metric = "accuracy"

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        loss: str = "log_loss",
        backend: Any = None,
        device: str | None = None,
        dtype: Any = None,
        class_weight: Any = None,
        initializer: str = "auto",
        dropout: Any = 0.0,
        augment: Any = None,
        callbacks: Any = (),
        scoring: Any = None,
    ) -> None:
        set_parameters(self, locals())

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Any:
        """Fit the network to features and classes.

        Args:
            X: (samples, features), dense or sparse.
            y: classes, (samples,), numbers or strings; or 0/1 labels, (samples, labels).
            sample_weight: (samples,), not negative.
            X_val, y_val, sample_weight_val: data to validate on, instead of `validation_fraction`.

        Raises:
            ValueError: a parameter or an array is not valid, or training diverged.
        """
        return self._fit(X, y, sample_weight, Samples(X_val, y_val, sample_weight_val))

    @available_if(lambda estimator: estimator._check_solver())
    def partial_fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        classes: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Any:
        """Train for one epoch on these data, from where the training before ended.

        With `early_stopping`, the score is that on `X_val`, or on a share of `X`. When it has not
        improved for more than `n_iter_no_change` calls, `converged_` is True, and the network has
        the parameters of the best score; another call goes on from there.

        Args:
            X, y, sample_weight, X_val, y_val, sample_weight_val: see `fit`.
            classes: all classes, for the first call.

        Raises:
            ValueError: `classes` is missing or changed, or as `fit`.
        """
        self._check_classes(y, classes)
        validation = Samples(X_val, y_val, sample_weight_val)
        return self._fit(X, y, sample_weight, validation, incremental=True)

    def predict(self, X: Any) -> Array:
        """Return the class of each row, (samples,), or its labels, (samples, labels)."""
        binarizer = getattr(self, "_label_binarizer", None)  # none yet is an error below
        if binarizer is not None and binarizer.y_type_.startswith("multilabel"):
            y = self._outputs("predict", X)
            if isinstance(y, np.ndarray):
                return binarizer.inverse_transform(y)
            xp = namespace(y)
            return xp.astype(y > 0.5, index_dtype(xp))
        codes = self._predict("predict", X, MLP.predict_classes)
        xp = namespace(codes)
        if len(self.classes_) == 1:
            codes = xp.zeros_like(codes)
        if self.classes_.dtype.kind not in "biuf":  # only NumPy has strings
            return self.classes_[to_numpy(codes)]
        return xp.take(xp.asarray(self.classes_, device=device(codes)), codes, axis=0)

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class or label, (samples, classes)."""
        return self._probabilities("predict_proba", X)

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithm of `predict_proba`."""
        y = self._probabilities("predict_log_proba", X)
        return namespace(y).log(y)

    def _probabilities(self, method: str, X: Any) -> Array:
        y = self._outputs(method, X)
        if self.n_outputs_ > 1:
            return y
        xp, positive = namespace(y), y[:, 0]
        return xp.stack([1 - positive, positive], axis=1)

    def _check_classes(self, y: Any, classes: Any) -> None:
        """Check `classes` of `partial_fit`."""
        first = not hasattr(self, "classes_")
        if first and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if first:
            y = _host(y)
            multilabel = type_of_target(y).startswith("multilabel")
            self._set_classes(y if multilabel else unique_labels(_host(classes)))
        elif classes is not None and not np.array_equal(
            self._label_binarizer.classes_, unique_labels(_host(classes))
        ):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to partial_fit, was: "
                f"{self.classes_!r}"
            )

    def _set_classes(self, y: Any) -> None:
        self._label_binarizer = LabelBinarizer().fit(y)
        self.classes_ = self._label_binarizer.classes_

    def _check_targets(self, X: Any, y: Any, *, first: bool, incremental: bool) -> Any:
        X, y = self._validate(X, y, first=first)
        y = _host(y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if not hasattr(self, "classes_") or (not self.warm_start and not incremental):
            self._set_classes(y)
            return X, y
        classes = unique_labels(y)
        if self.warm_start and not incremental:
            if set(classes) != set(self._label_binarizer.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous "
                    f"call to fit. Previously got {self.classes_}, `y` has {classes}"
                )
        elif len(np.setdiff1d(classes, self._label_binarizer.classes_)):
            raise ValueError(
                "`y` has classes not in `self.classes_`. "
                f"`self.classes_` has {self.classes_}. 'y' has {classes}."
            )
        return X, y

    def _encode(self, y: np.ndarray) -> np.ndarray:
        binarizer = self._label_binarizer
        if binarizer.y_type_ == "multiclass":
            return np.searchsorted(binarizer.classes_, y)
        return binarizer.transform(y)

    def _output(self, y: np.ndarray) -> tuple[int, ActivationName]:
        if self._label_binarizer.y_type_ == "multiclass":
            return len(self.classes_), "softmax"
        return y.shape[1] if y.ndim == 2 else 1, "sigmoid"

    def _strata(self, y: np.ndarray) -> np.ndarray | None:
        # scikit-learn stratifies two classes only.
        return y if self._label_binarizer.y_type_ == "binary" else None

    def _with_class_weights(self, data: Samples, incremental: bool) -> np.ndarray | None:
        if self.class_weight is None:
            return data.weight
        if incremental and isinstance(self.class_weight, str):
            raise ValueError(
                f"class_weight={self.class_weight!r} is not supported for partial_fit: the classes "
                "of a part say little about all. Use compute_class_weight of "
                "sklearn.utils.class_weight on all classes, and give its weights as a dictionary"
            )
        by_class = self._class_weights(data.y)
        return by_class if data.weight is None else data.weight * by_class

    def _class_weights(self, y: np.ndarray) -> np.ndarray:
        """Return the weight of each sample's class, (samples,); of several labels, the product."""
        binarizer, weights = self._label_binarizer, self.class_weight
        if not binarizer.y_type_.startswith("multilabel"):
            return sample_weights(weights, np.searchsorted(self.classes_, y), self.classes_)
        labels = self._encode(y)
        each = [weights] * labels.shape[1] if isinstance(weights, str) else weights
        if not isinstance(each, (list, tuple)) or len(each) != labels.shape[1]:
            raise ValueError(
                f"class_weight must be 'balanced' or a list of {labels.shape[1]} dictionaries, one "
                f"for each label, not {weights!r}"
            )
        columns = zip(each, labels.T, strict=True)
        return np.prod([sample_weights(one, column, (0, 1)) for one, column in columns], axis=0)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _host(y: Any) -> Any:
    """Return an array on the host; sparse labels as they are."""
    return to_numpy(y) if is_array(y) or not hasattr(y, "toarray") else y

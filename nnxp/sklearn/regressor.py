"""`MLPRegressor`: one real value for each sample, or several."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import column_or_1d
from sklearn.utils.metaestimators import available_if

from nnxp.arrays import Array, namespace, to_numpy
from nnxp.names import ActivationName
from nnxp.sklearn.base import BaseMLP, Samples, set_parameters


class MLPRegressor(RegressorMixin, BaseMLP):
    """scikit-learn's MLPRegressor on any backend of nnxp: change the import.

    The parameters up to `max_fun`, the methods and the fitted attributes are those of
    `sklearn.neural_network.MLPRegressor`, with the same names, defaults and meaning. From equal
    random states, both learn the same, except for rounding. For sample weights, see
    `MLPClassifier`. For several outputs, losses are sums over them; scikit-learn follows the
    gradient of the sum, but shows the mean, to which its `tol` refers.

    Args:
        loss: "squared_error", "poisson", or a loss of nnxp.
        activation, backend, device, dtype, initializer, dropout, augment, callbacks: see
            `MLPClassifier`.
        scoring: the score on which early stopping depends: a scorer or its name; None for R^2.
        scale_targets: train on targets of mean 0 and deviation 1; predictions and losses are in the
            targets' own unit. See `nnxp.train`.

    Attributes:
        network_, history_, converged_: see `MLPClassifier`.

    Example:
        >>> from sklearn.datasets import load_diabetes
        >>> from nnxp.sklearn import MLPRegressor
        >>> X, y = load_diabetes(return_X_y=True)
        >>> model = MLPRegressor(
        ...     learning_rate_init=0.01, scale_targets=True, early_stopping=True, random_state=0
        ... )
        >>> model.fit(X, y).score(X, y) > 0.5
        True
    """

    _metric = "r2"

    def __init__(
        self,
        loss: str = "squared_error",
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
        backend: Any = None,
        device: str | None = None,
        dtype: Any = None,
        initializer: str = "auto",
        dropout: Any = 0.0,
        augment: Any = None,
        callbacks: Any = (),
        scoring: Any = None,
        scale_targets: bool = False,
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
        """Fit the network to features and real values.

        Args:
            X: (samples, features), dense or sparse.
            y: (samples,) or (samples, outputs).
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
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Any:
        """Train for one epoch on these data, from where the training before ended.

        With `early_stopping`, see `MLPClassifier.partial_fit`.
        """
        validation = Samples(X_val, y_val, sample_weight_val)
        return self._fit(X, y, sample_weight, validation, incremental=True)

    def predict(self, X: Any) -> Array:
        """Return the values of each row, (samples,) or (samples, outputs)."""
        y = self._outputs("predict", X)
        if self.out_activation_ == "exp":  # the network learns logarithms of rates
            y = namespace(y).exp(y)
        return y[:, 0] if y.shape[1] == 1 else y

    def _check_targets(self, X: Any, y: Any, *, first: bool, incremental: bool) -> Any:
        X, y = self._validate(X, y, first=first, y_numeric=True)
        y = to_numpy(y)
        return X, column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y

    def _encode(self, y: np.ndarray) -> np.ndarray:
        return y if y.ndim == 2 else y[:, None]

    def _output(self, y: np.ndarray) -> tuple[int, ActivationName]:
        return y.shape[1] if y.ndim == 2 else 1, "identity"

    def _out_activation(self, p: SimpleNamespace, output: str) -> str:
        return "exp" if p.loss == "poisson" else output

    def _loss_offset(
        self, p: SimpleNamespace, targets: np.ndarray, weight: np.ndarray | None
    ) -> float:
        """Return the mean of t log t - t, without which nnxp's Poisson loss is not the deviance."""
        if p.loss != "poisson":
            return 0.0
        terms = targets * np.log(np.where(targets > 0, targets, 1.0)) - targets
        return float(np.average(terms.sum(axis=1), weights=weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

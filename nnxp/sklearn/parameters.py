"""The parameters of the estimators: the values that each takes, and their names in nnxp."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np

from nnxp import augmentation, backends, initializers, options
from nnxp.optimizers import SGD, Adam, Optimizer

_ACTIVATION_NAMES = {"logistic": "sigmoid"}
_LOSS_NAMES = {"log_loss": "auto", "squared_error": "quadratic"}


def check(parameters: dict[str, Any]) -> SimpleNamespace:
    """Return an estimator's parameters in the types and under the names that nnxp uses.

    Raises:
        InputError: a parameter does not take its value; it is a ValueError.
    """
    return SimpleNamespace(
        **{name: _RULES[name](name, value) for name, value in parameters.items() if name in _RULES}
    )


def optimizer(p: SimpleNamespace) -> Optimizer:
    """Return the optimizer of checked parameters, with scikit-learn's formulas."""
    if p.solver == "adam":
        return Adam(p.learning_rate_init, p.beta_1, p.beta_2, p.epsilon, raw_epsilon=True)
    nesterov = p.nesterovs_momentum and p.momentum > 0
    return SGD(p.learning_rate_init, p.momentum, nesterov, rate_in_velocity=True)


def _activation(value: Any) -> Any:
    """Translate one name or one for each layer; `nnxp.MLP` checks them, and takes what it takes."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return tuple(_translated(each, _ACTIVATION_NAMES) for each in value)
    return _translated(value, _ACTIVATION_NAMES)


def _translated(value: Any, names: dict[str, str]) -> Any:
    """Return nnxp's name for scikit-learn's; what is no name, unchanged."""
    if not isinstance(value, str):
        return value
    value = value.lower().replace("-", "_")
    return names.get(value, value)


def _hidden_layer_sizes(value: Any) -> tuple[int, ...]:
    if isinstance(value, (str, bytes)):
        raise TypeError
    sizes = tuple(value) if hasattr(value, "__iter__") else (value,)
    return tuple(options.whole(1).convert(size) for size in sizes)


def _batch_size(value: Any) -> Any:
    return value if isinstance(value, str) and value == "auto" else options.whole(1).convert(value)


def _epochs(value: Any) -> float:
    infinite = isinstance(value, (float, np.floating)) and value == math.inf
    return math.inf if infinite else options.whole(1).convert(value)


def _verbose(value: Any) -> int:
    return int(value) if isinstance(value, np.bool_) else max(0, int(value))


_RULES = {
    "hidden_layer_sizes": options.Rule(
        "a whole number, 1 or more, or a list of such", _hidden_layer_sizes
    ),
    "activation": options.Rule("an activation, or a list of such", _activation),
    "loss": options.Rule("a loss", lambda value: _translated(value, _LOSS_NAMES)),
    "solver": options.name("solver", ("lbfgs", "sgd", "adam")),
    "alpha": options.NOT_NEGATIVE,
    "batch_size": options.Rule('"auto" or a whole number, 1 or more', _batch_size),
    "learning_rate": options.name("learning_rate", ("constant", "invscaling", "adaptive")),
    "learning_rate_init": options.POSITIVE,
    "power_t": options.NOT_NEGATIVE,
    "max_iter": options.whole(1),
    "shuffle": options.TRUTH,
    "tol": options.NOT_NEGATIVE,
    "verbose": options.Rule("True, False or a whole number", _verbose),
    "warm_start": options.TRUTH,
    "momentum": options.SHARE,
    "nesterovs_momentum": options.TRUTH,
    "early_stopping": options.TRUTH,
    "validation_fraction": options.SHARE,
    "beta_1": options.SHARE,
    "beta_2": options.SHARE,
    "epsilon": options.POSITIVE,
    "n_iter_no_change": options.Rule("a whole number, 1 or more, or infinite", _epochs),
    "max_fun": options.whole(1),
    "backend": backends.BACKEND,
    "device": backends.DEVICE,
    "dtype": options.optional(options.DTYPE),
    "initializer": initializers.INITIALIZER,
    "dropout": options.one_or_each(options.SHARE),
    "augment": options.optional(augmentation.AUGMENT),
    "callbacks": options.FUNCTIONS,
    "scale_targets": options.TRUTH,
}

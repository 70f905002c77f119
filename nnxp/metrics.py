"""Metrics of predictions by name: of classes, of labels, of real values.

They are computed on the host, in NumPy, and some by scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from nnxp import options
from nnxp.concurrency import warnings_ignored
from nnxp.errors import InputError, described, shown, unknown_name
from nnxp.objectives import PROBABILITIES, Objective
from nnxp.registry import AUTO

CLASSES, LABELS, VALUES = "classes", "0/1 labels", "real values"
"""What targets are: one of several classes; 0/1 labels, one or more; real values."""


class Outcome(NamedTuple):
    """What a network predicts of some samples, beside what is true of them."""

    kind: str
    """`CLASSES`, `LABELS` or `VALUES`."""
    targets: np.ndarray
    """Classes, (samples,), 0, 1, ...; labels, (samples, labels), or (samples,) if there is one; or
    real values, (samples, outputs)."""
    predictions: np.ndarray
    """The same of the network."""
    outputs: np.ndarray
    """The network's outputs, (samples, outputs)."""


def outcome(objective: Objective, outputs: np.ndarray, targets: np.ndarray, kind: str) -> Outcome:
    """Return what a network predicts, in the form of the targets.

    Args:
        objective: the network's loss and output activation.
        outputs: the network's outputs, (samples, outputs), in the targets' unit.
        targets: as `nnxp.data.checks.targets` returns them.
        kind: what `kind` says of them.
    """
    if kind == CLASSES:
        labels = np.argmax(targets, axis=1) if targets.ndim == 2 else targets
        return Outcome(kind, labels, np.argmax(outputs, axis=1), outputs)
    if kind == LABELS:
        one = slice(None) if targets.shape[1] > 1 else 0
        yes = outputs > objective.threshold
        return Outcome(kind, targets[:, one] > 0.5, yes[:, one], outputs)
    if objective.is_log_rate:
        with np.errstate(over="ignore"):
            outputs = np.exp(outputs)
    return Outcome(kind, targets, outputs, outputs)


def kind(objective: Objective, targets: np.ndarray, classes: bool) -> str:
    """Return what targets are: `CLASSES`, `LABELS` or `VALUES`.

    Args:
        objective: the network's loss and output activation.
        targets: as `nnxp.data.checks.targets` returns them.
        classes: whether the caller gave the targets as classes, one per sample.
    """
    if classes or objective.loss == "categorical_cross_entropy":
        return CLASSES
    zeros_and_ones = bool(np.isin(targets, (0.0, 1.0)).all())
    binary = objective.loss == "binary_cross_entropy"
    several = targets.shape[1] > 1
    if zeros_and_ones and several and not binary and (targets.sum(axis=1) == 1).all():
        return CLASSES  # one-hot rows
    return LABELS if zeros_and_ones and (binary or objective.output in PROBABILITIES) else VALUES


@dataclass(frozen=True)
class Metric:
    """A metric with a name.

    Args:
        name: stands in tables, reports and `nnxp.History.metric`.
        measure: measure(outcome) computes it of an `Outcome`.
        larger_is_better: whether training is better where it is larger.
        kinds: the targets that it is for, of `CLASSES`, `LABELS` and `VALUES`.

    Raises:
        InputError: a value is not valid.

    Example:
        >>> from nnxp.metrics import Metric
        >>> worst = Metric("worst", lambda o: abs(o.targets - o.outputs).max(), False)
    """

    name: str
    measure: Callable[[Outcome], float]
    larger_is_better: bool = True
    kinds: tuple[str, ...] = (CLASSES, LABELS, VALUES)

    def __post_init__(self) -> None:
        options.check_fields(
            self, name=options.TEXT, measure=options.FUNCTION, larger_is_better=options.TRUTH
        )
        if self.name == "loss":
            raise InputError("a metric has another name than 'loss', which is that of the loss")

    def __call__(self, outcome: Outcome) -> float:
        """Compute the metric.

        Raises:
            InputError: the metric is not for such targets, or raises an error.
        """
        if outcome.kind not in self.kinds:
            others = (name for name, each in METRICS.items() if outcome.kind in each.kinds)
            raise InputError(
                f"metric {self.name!r} is for {' or '.join(self.kinds)}, and the targets are "
                f"{outcome.kind}: take {', '.join(others)}"
            )
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # the metrics show it
                return float(self.measure(outcome))
        except (InputError, MemoryError):
            raise
        except Exception as error:  # a user's function may raise anything
            raise InputError(f"metric {self.name!r}: {described(error)}") from None


def accuracy(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Return the share of rows that are right in every column.

    Example:
        >>> import numpy as np
        >>> from nnxp.metrics import accuracy
        >>> accuracy(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 1]))
        0.75
    """
    right = predictions == targets
    return float(np.mean(right.reshape(right.shape[0], -1).all(axis=1)))


def r2(targets: np.ndarray, predictions: np.ndarray) -> float:
    """R^2 = 1 - sum (t - y)^2 / sum (t - mean t)^2, averaged over outputs.

    1 is perfect; 0 is as good as always predicting the mean. An output whose targets are constant
    counts as 1 if it is predicted exactly and as 0 otherwise.

    Example:
        >>> import numpy as np
        >>> from nnxp.metrics import r2
        >>> t = np.array([[1.0], [2.0], [3.0]])
        >>> r2(t, t), r2(t, np.full((3, 1), 2.0))
        (1.0, 0.0)
    """
    residual = np.sum((targets - predictions) ** 2, axis=0, dtype=np.float64)
    # For equal values, rounding may make the mean differ from them, and so the sum from 0.
    varies = targets.max(axis=0) > targets.min(axis=0)
    total = np.sum((targets - targets.mean(axis=0)) ** 2, axis=0, dtype=np.float64)
    varies &= total > 0
    constant = np.where(residual == 0, 1.0, 0.0)
    return float(np.mean(np.where(varies, 1 - residual / np.where(varies, total, 1), constant)))


def rmse(targets: np.ndarray, predictions: np.ndarray) -> float:
    """RMSE = sqrt(mean (t - y)^2), averaged over outputs, in the targets' unit.

    Example:
        >>> import numpy as np
        >>> from nnxp.metrics import rmse
        >>> rmse(np.array([[1.0], [2.0]]), np.array([[4.0], [-1.0]]))
        3.0
    """
    return float(np.mean(np.sqrt(np.mean((targets - predictions) ** 2, axis=0, dtype=np.float64))))


def mae(targets: np.ndarray, predictions: np.ndarray) -> float:
    """MAE = mean |t - y|, averaged over outputs, in the targets' unit.

    Example:
        >>> import numpy as np
        >>> from nnxp.metrics import mae
        >>> mae(np.array([[1.0], [2.0]]), np.array([[4.0], [1.0]]))
        2.0
    """
    return float(np.mean(np.abs(targets - predictions), dtype=np.float64))


def _balanced_accuracy(outcome: Outcome) -> float:
    """Return the mean of the classes' recalls: the share of each that is found."""
    scores = _scikit_learn("balanced_accuracy")
    # A class may be predicted that the targets do not have.
    with warnings_ignored("y_pred contains classes not in y_true"):
        return scores.balanced_accuracy_score(outcome.targets, outcome.predictions)


def _f1(outcome: Outcome) -> float:
    """Return F1 of the second of two classes; of more, or of several labels, their mean (macro)."""
    two = outcome.outputs.shape[1] == (2 if outcome.kind == CLASSES else 1)
    return _scikit_learn("f1").f1_score(
        outcome.targets,
        outcome.predictions,
        average="binary" if two else "macro",
        zero_division=0.0,
    )


def _roc_auc(outcome: Outcome) -> float:
    """Return the area under the ROC curve of the outputs.

    Of more than two classes, or of several labels, it is the mean (macro) over those that the
    targets have, each against the rest.
    """
    scores, outputs = _scikit_learn("roc_auc"), outcome.outputs
    if outcome.kind == CLASSES:
        truth = np.eye(outputs.shape[1])[outcome.targets]
        if outputs.shape[1] == 2:
            truth, outputs = truth[:, 1:], outputs[:, 1:]
    else:
        truth = outcome.targets.reshape(outputs.shape)
    known = truth.min(axis=0) < truth.max(axis=0)
    if not known.any():
        raise InputError("roc_auc needs two classes, and the targets have one: take accuracy")
    return scores.roc_auc_score(truth[:, known], outputs[:, known], average="macro")


def _scikit_learn(name: str) -> Any:
    """Import `sklearn.metrics` for a metric."""
    try:
        from sklearn import metrics
    except ModuleNotFoundError:
        raise InputError(
            f'metric {name!r} needs scikit-learn: pip install "nnxp[sklearn]"'
        ) from None
    return metrics


def _of_predictions(function: Callable[[Any, Any], float]) -> Callable[[Outcome], float]:
    return lambda outcome: function(outcome.targets, outcome.predictions)


_SORTED = (CLASSES, LABELS)
METRICS = {
    each.name: each
    for each in (
        Metric("accuracy", _of_predictions(accuracy), kinds=_SORTED),
        Metric("balanced_accuracy", _balanced_accuracy, kinds=_SORTED),
        Metric("f1", _f1, kinds=_SORTED),
        Metric("roc_auc", _roc_auc, kinds=_SORTED),
        Metric("r2", _of_predictions(r2), kinds=(VALUES,)),
        Metric("rmse", _of_predictions(rmse), larger_is_better=False, kinds=(VALUES,)),
        Metric("mae", _of_predictions(mae), larger_is_better=False, kinds=(VALUES,)),
    )
}
"""Every metric with a name of its own."""
FITTING = {CLASSES: ("accuracy",), LABELS: ("accuracy",), VALUES: ("r2", "rmse", "mae")}
"""The metrics that "auto" stands for, the main one first."""


def get(metric: Any) -> Metric:
    """Return the metric for a name or a function; a `Metric` as it is.

    A function is called as those of scikit-learn, function(targets, predictions). As there, a
    smaller value is better where its name ends in "_error", "_loss" or "_deviance".

    Raises:
        InputError: no metric has this name, or it is something else.
    """
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str):
        name = metric.lower().replace("-", "_")
        if name not in METRICS:
            raise unknown_name("metric", metric, [AUTO, *METRICS])
        return METRICS[name]
    if not callable(metric) or isinstance(metric, type):
        raise InputError(f"a metric must be a name or a function, not {shown(metric)}")
    name = getattr(getattr(metric, "func", metric), "__name__", "")
    name = name if name.isidentifier() else "metric"  # a lambda
    smaller = name.endswith(("_error", "_loss", "_deviance"))
    return Metric(name, _of_predictions(metric), larger_is_better=not smaller)


def choose(metrics: Iterable[Any], kind: str) -> list[Metric]:
    """Return the metrics of names and functions, each once; "auto" is those that fit the targets.

    Args:
        metrics: what `get` takes, or "auto".
        kind: what the targets are.

    Raises:
        InputError: two of them have one name, or see `get`.
    """
    found: dict[str, Metric] = {}
    for each in metrics:
        for metric in map(get, FITTING[kind] if _is_auto(each) else (each,)):
            if found.setdefault(metric.name, metric) != metric:
                raise InputError(
                    f"two metrics are called {metric.name!r}: give one another name, with "
                    "nnxp.metrics.Metric"
                )
    return list(found.values())


def check(
    metric: Metric, objective: Objective, targets: np.ndarray, kind: str, outputs: int
) -> None:
    """Raise InputError if a metric does not work on these targets, by trying right predictions."""
    right = targets if targets.ndim == 2 else np.eye(outputs)[targets]
    with warnings_ignored():
        metric(outcome(objective, right, targets, kind))


def _is_auto(metric: Any) -> bool:
    return isinstance(metric, str) and metric.lower() == AUTO


METRIC = options.Rule(
    f"a metric's name, {', '.join(METRICS)} or auto, or a function",
    lambda value: AUTO if _is_auto(value) else get(value),
)


def measure(
    objective: Objective,
    outputs: np.ndarray,
    targets: np.ndarray,
    classes: bool,
    metrics: Iterable[Any] = ("auto",),
) -> dict[str, float]:
    """Compute metrics by name, in their order.

    Args:
        objective: the network's loss and output activation.
        outputs: the network's outputs, (samples, outputs), in the targets' unit.
        targets: as `nnxp.data.checks.targets` returns them.
        classes: whether the caller gave the targets as classes, one per sample.
        metrics: names and functions, see `choose`.

    Raises:
        InputError: a metric is not known, is not for such targets, or raises an error.
    """
    found = outcome(objective, outputs, targets, kind(objective, targets, classes))
    return {metric.name: metric(found) for metric in choose(metrics, found.kind)}


def format_figure(value: float) -> str:
    """Format a loss or a metric: four decimals below 100, five digits above.

    Very small and very large values get an exponent.
    """
    size = abs(value)
    if not (size == 0 or 1e-4 <= size < 99_999.5):
        return f"{value:.4e}"
    steps = ((99.99995, 4), (999.995, 2), (9_999.95, 1))
    decimals = next((places for limit, places in steps if size < limit), 0)
    return f"{value:.{decimals}f}"


def format_count(value: float) -> str:
    """Format with three digits: 937, 29.5k, 138k, 1.38M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:
            return three_digits(value / size) + unit
    return three_digits(value)


def three_digits(value: float) -> str:
    """Format with three digits, at most two of them after the point."""
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"

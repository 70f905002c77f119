"""The history of a training, and the figures of an epoch that can be monitored."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any

from nnxp import html, options
from nnxp.arrays import to_numpy
from nnxp.diagnostics import Diagnosis
from nnxp.errors import InputError
from nnxp.metrics import format_figure
from nnxp.nested import leaves, rebuilt

MONITORS = ("loss", "validation_loss", "validation_metric")
"""The figures that schedules and callbacks can monitor."""
MONITOR = options.name("monitor", MONITORS)
"""The rule for the name of one of `MONITORS`."""
LONGEST_TABLE = 40
"""The most rows of a history's table in a notebook, which then shows both ends."""


@dataclass(frozen=True)
class Epoch:
    """The figures of one epoch.

    Example:
        >>> import nnxp
        >>> network = nnxp.MLP([2, 1], output="sigmoid")
        >>> history = nnxp.train(network, [[0, 1], [1, 0]], [0, 1], epochs=3, batch_size=1)
        >>> last = history.epochs[-1]
        >>> last.epoch, last.learning_rate, last.validation_loss
        (3, 0.1, None)
    """

    epoch: int
    """1, 2, 3, ..."""
    loss: float
    """The mean over the epoch's samples, each computed before its batch's step."""
    validation_loss: float | None
    validation_metric: float | None
    """The metric on the validation data after the epoch; see `History.metric`."""
    seconds: float
    """Training time, without validation."""
    samples_per_second: float
    learning_rate: float
    """The rate that the schedule computed."""
    diagnosis: Diagnosis | None = None
    """Dead units, gradients and updates; None without `diagnose`."""

    def figures(self, metric: str | None) -> dict[str, float | None]:
        """Return the epoch as numbers by name, for logs; a metric has its own name.

        Args:
            metric: the name of the validation metric; None for no validation figures.
        """
        validation: dict[str, float | None] = {}
        if metric is not None:
            validation["validation_loss"] = self.validation_loss
            validation[f"validation_{metric}"] = self.validation_metric
        return {
            "epoch": self.epoch,
            "loss": self.loss,
            **validation,
            "learning_rate": self.learning_rate,
            "seconds": self.seconds,
            "samples_per_second": self.samples_per_second,
        }

    def columns(self, metric: str | None) -> dict[str, str]:
        """Return a table row as a dictionary: column heading to formatted figure.

        Args:
            metric: the name of the validation metric; None for no validation columns.
        """
        figures = {"epoch": str(self.epoch), "loss": format_figure(self.loss)}
        if metric is not None:
            pair = {"loss": self.validation_loss, metric: self.validation_metric}
            for name, value in pair.items():
                figures[f"val. {name}"] = "" if value is None else format_figure(value)
        return figures | {
            "seconds": f"{self.seconds:.3f}",
            "samples/s": f"{self.samples_per_second:,.0f}",
        }


@dataclass(repr=False)
class History:
    """All epochs of a training.

    A notebook shows it as a table, and `nnxp.plots.history` draws it.

    Example:
        >>> import nnxp
        >>> network = nnxp.MLP([2, 1], output="sigmoid")
        >>> history = nnxp.train(network, [[0, 1], [1, 0]], [0, 1], epochs=3, batch_size=1)
        >>> [round(epoch.loss, 2) for epoch in history.epochs]
        [0.94, 0.89, 0.85]
        >>> history.to_list()[0]["samples_per_second"] > 0
        True
    """

    metric: str | None = None
    """The name of the validation metric: "accuracy", "r2", the one that `nnxp.train` was given; or
    None without validation data."""
    epochs: list[Epoch] = field(default_factory=list)
    fallbacks: list[str] = field(default_factory=list)
    """Which steps did not run on the backend's executor, and why; empty if all of them did."""
    loss: str | None = None
    """The name of the loss: "quadratic", "binary_cross_entropy", "categorical_cross_entropy"."""
    larger_is_better: bool = True
    """Whether the network is better where the validation metric is larger."""
    best_epoch: int | None = None
    """The number of the epoch whose parameters `EarlyStopping` gave back to the network; None if
    the network has those of the last."""
    resumable: Any = field(default=None, repr=False, compare=False)
    """What `nnxp.train(resume=...)` goes on from: the optimizer's state and the number of steps, on
    the device. None if training was interrupted; set it to None to free its memory."""
    steps: int = field(default=0, compare=False)
    """The number of steps so far."""
    _plateaus: dict[Any, Any] = field(default_factory=dict, init=False, compare=False)
    """The state of each `nnxp.schedules.Plateau` after the epochs so far."""

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes, with arrays on the host: they pickle, and load on any device."""
        state = vars(self).copy()
        if self.resumable is not None:
            state["resumable"] = rebuilt(self.resumable, map(to_numpy, leaves(self.resumable)))
        return state

    def monitored(self, epoch: Epoch, monitor: str) -> float:
        """Return the figure called `monitor` of an epoch, negated if larger values are better.

        Raises:
            InputError: the figure needs validation data, and there is none.
        """
        value: float | None = getattr(epoch, monitor)
        check_monitor(monitor, has_validation=value is not None)
        assert value is not None
        return -value if monitor == "validation_metric" and self.larger_is_better else value

    def to_list(self) -> list[dict[str, Any]]:
        """Return the epochs as plain dictionaries."""
        return [asdict(epoch) for epoch in self.epochs]

    def to_json(self) -> str:
        """Return the epochs as a JSON list of objects."""
        return json.dumps(self.to_list(), indent=2)

    def __repr__(self) -> str:
        """Return one line: the number of epochs and the figures of the last."""
        if not self.epochs:
            return "<History: no epochs>"
        last, count = self.epochs[-1], len(self.epochs)
        figures = {"loss": last.loss, "validation loss": last.validation_loss}
        figures[f"validation {self.metric}"] = last.validation_metric
        texts = [
            f"{name} {format_figure(value)}" for name, value in figures.items() if value is not None
        ]
        return f"<History: {count} epoch{'s' * (count > 1)}, {', '.join(texts)}>"

    def _repr_html_(self) -> str:
        """Return a table with a row for each epoch, for notebooks."""
        rows = [list(epoch.columns(self.metric).values()) for epoch in self.epochs]
        if len(rows) > LONGEST_TABLE:
            end = LONGEST_TABLE // 2
            rows = [*rows[:end], ["…"] * len(rows[0]), *rows[-end:]]
        head = [*self.epochs[0].columns(self.metric)] if rows else []
        lines = [f"<p>{escape(repr(self))}</p>"]
        if rows:
            lines += html.table(rows, head)
        lines += [f"<p>{escape(fallback)}</p>" for fallback in self.fallbacks]
        return "\n".join(lines)


def check_monitor(monitor: str, has_validation: bool) -> None:
    """Raise InputError if the figure called `monitor` needs validation data that is not there."""
    if monitor.startswith("validation") and not has_validation:
        raise InputError(f"{monitor} needs validation data: give a validation share or set")

"""Learning-rate schedules: the rate of each epoch.

A schedule is called as `schedule(base, epoch, epochs, history)` before each epoch and returns the
learning rate for it. It is a pure function of its arguments: `base` is the optimizer's rate,
`epoch` counts from 1 to `epochs`, `history` holds the epochs so far.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Protocol

from nnxp import options
from nnxp.errors import unknown_name
from nnxp.history import MONITOR, History


class Schedule(Protocol):
    """The interface of a schedule.

    Example:
        >>> import nnxp
        >>> network = nnxp.MLP([2, 1], output="sigmoid")
        >>> history = nnxp.train(
        ...     network, [[0, 1], [1, 0]], [0, 1], epochs=3, batch_size=1, optimizer=nnxp.SGD(1.0),
        ...     schedule=lambda base, epoch, epochs, history: base / epoch,
        ... )
        >>> [round(epoch.learning_rate, 2) for epoch in history.epochs]
        [1.0, 0.5, 0.33]
    """

    def __call__(self, base: float, epoch: int, epochs: int, history: History) -> float:
        """Return the learning rate of `epoch`."""
        ...


@dataclass(frozen=True)
class Constant:
    """rate = base.

    Example:
        >>> from nnxp import schedules
        >>> schedule = schedules.Constant()
        >>> [round(schedule(1.0, epoch, 5, None), 3) for epoch in range(1, 6)]
        [1.0, 1.0, 1.0, 1.0, 1.0]
    """

    def __call__(self, base: float, epoch: int, epochs: int, history: History) -> float:
        """Return `base`."""
        return base


@dataclass(frozen=True)
class Step:
    """rate = base factor^floor((epoch - 1) / every).

    Args:
        every: the number of epochs between two steps, 1 or more.
        factor: the factor by which each step multiplies the rate, positive.

    Raises:
        InputError: a value is out of its range.

    Example:
        >>> from nnxp import schedules
        >>> schedule = schedules.Step(every=2, factor=0.5)
        >>> [round(schedule(1.0, epoch, 5, None), 3) for epoch in range(1, 6)]
        [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    every: int = 10
    factor: float = 0.5

    def __post_init__(self) -> None:
        options.check_fields(self, every=options.whole(1), factor=options.POSITIVE)

    def __call__(self, base: float, epoch: int, epochs: int, history: History) -> float:
        """Return the learning rate by the formula of the class."""
        return base * self.factor ** ((epoch - 1) // self.every)


@dataclass(frozen=True)
class Exponential:
    """rate = base factor^(epoch - 1).

    Args:
        factor: the factor by which each epoch multiplies the rate, positive.

    Raises:
        InputError: `factor` is out of its range.

    Example:
        >>> from nnxp import schedules
        >>> schedule = schedules.Exponential(0.5)
        >>> [round(schedule(1.0, epoch, 5, None), 3) for epoch in range(1, 6)]
        [1.0, 0.5, 0.25, 0.125, 0.062]
    """

    factor: float = 0.95

    def __post_init__(self) -> None:
        options.check_fields(self, factor=options.POSITIVE)

    def __call__(self, base: float, epoch: int, epochs: int, history: History) -> float:
        """Return the learning rate by the formula of the class."""
        return base * self.factor ** (epoch - 1)


@dataclass(frozen=True)
class Cosine:
    """A linear warm-up to base, then half a cosine wave down to `floor` base.

        rate = base epoch / (warmup + 1)                             while epoch <= warmup
        rate = base (floor + (1 - floor) (1 + cos(pi p)) / 2)        after it,

    where p goes from 0 in the first epoch after the warm-up to 1 in the last epoch.

    Args:
        warmup: the number of epochs of the warm-up, 0 or more.
        floor: the last epoch's rate as a share of base, in [0, 1].

    Raises:
        InputError: a value is out of its range.

    Source: Loshchilov and Hutter, SGDR, 2017; for the warm-up, Goyal et al., Accurate, large
    minibatch SGD, 2017.

    Example:
        >>> from nnxp import schedules
        >>> schedule = schedules.Cosine(warmup=1)
        >>> [round(schedule(1.0, epoch, 5, None), 3) for epoch in range(1, 6)]
        [0.5, 1.0, 0.75, 0.25, 0.0]
    """

    warmup: int = 0
    floor: float = 0.0

    def __post_init__(self) -> None:
        options.check_fields(
            self, warmup=options.whole(0), floor=options.number(0.0, 1.0, closed="both")
        )

    def __call__(self, base: float, epoch: int, epochs: int, history: History) -> float:
        """Return the learning rate by the formula of the class."""
        if epoch <= self.warmup:
            return base * epoch / (self.warmup + 1)
        progress = (epoch - self.warmup - 1) / max(epochs - self.warmup - 1, 1)
        return base * (self.floor + (1 - self.floor) * (1 + math.cos(math.pi * progress)) / 2)


@dataclass(frozen=True)
class Plateau:
    """rate <- rate factor whenever `monitor` has not improved for `patience` epochs.

    Args:
        monitor: "loss", "validation_loss" or "validation_metric"; the last improves when it rises
            or, as RMSE and MAE do, when it falls.
        patience: the number of epochs without an improvement before the rate falls, 1 or more.
        factor: the factor by which the rate is multiplied, in (0, 1).

    Raises:
        InputError: a value is out of its range; in training, there is no validation data.

    Example:
        >>> import nnxp
        >>> network = nnxp.MLP([2, 1], output="sigmoid")
        >>> history = nnxp.train(  # what it learns makes the validation loss rise
        ...     network, [[0, 1]], [1], epochs=8, batch_size=1, validation=([[0, 1]], [0]),
        ...     schedule=nnxp.schedules.Plateau(patience=3),
        ... )
        >>> [epoch.learning_rate for epoch in history.epochs]
        [0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.025]
    """

    monitor: str = "validation_loss"
    patience: int = 3
    factor: float = 0.5

    def __post_init__(self) -> None:
        options.check_fields(
            self,
            monitor=MONITOR,
            patience=options.whole(1),
            factor=options.number(0.0, 1.0, closed="neither"),
        )

    def __call__(self, base: float, epoch: int, epochs: int, history: History) -> float:
        """Return the learning rate by the formula of the class."""
        # The history keeps the state, so that a training reads each epoch once.
        past, key = history.epochs, (self, base)
        start: tuple[int, Any, float, int, float] = 0, None, math.inf, 0, base
        count, last, best, waited, rate = history._plateaus.get(key, start)
        if count and (count > len(past) or past[count - 1] is not last):  # the epochs were changed
            count, last, best, waited, rate = start
        for last in past[count:]:
            value = history.monitored(last, self.monitor)
            waited = 0 if value < best else waited + 1
            best = min(best, value)
            if waited == self.patience:
                rate, waited = rate * self.factor, 0
        history._plateaus[key] = len(past), last, best, waited, rate
        return rate


SCHEDULES: dict[str, type] = {
    "constant": Constant,
    "step": Step,
    "exponential": Exponential,
    "cosine": Cosine,
    "plateau": Plateau,
}


@options.checked(text=options.TEXT)
def get(text: str) -> Schedule:
    """Return the schedule for a text: "step", "cosine,warmup=5", "step,every=10,factor=0.5".

    Raises:
        InputError: no schedule has this name, or it does not take an option or its value.

    Example:
        >>> from nnxp import schedules
        >>> schedules.get("cosine,warmup=2")
        Cosine(warmup=2, floor=0.0)
    """
    name, *given = (part.strip() for part in text.split(","))
    if name not in SCHEDULES:
        raise unknown_name("schedule", name, SCHEDULES)
    fields = {field.name: field for field in dataclasses.fields(SCHEDULES[name])}
    arguments: dict[str, Any] = {}
    for option in given:
        key, _, value = (part.strip() for part in option.partition("="))
        if key not in fields:
            raise unknown_name(f"option of schedule {name}", key, fields)
        arguments[key] = options.from_text(value)
    schedule: Schedule = SCHEDULES[name](**arguments)
    return schedule

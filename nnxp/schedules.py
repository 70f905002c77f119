"""Learning-rate schedules: what the rate is in each epoch.

A schedule is called as `schedule(base, epoch, epochs, history)` before each epoch and returns the
learning rate for it. It is a pure function of what happened so far: `base` is the optimizer's
rate, `epoch` counts 1 .. `epochs`, `history` holds the epochs before.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Protocol

from nnxp import options
from nnxp.errors import unknown_name
from nnxp.history import MONITOR, History, monitored


class Schedule(Protocol):
    """What the trainer asks of a schedule."""

    def __call__(self, base: float, epoch: int, epochs: int, history: History) -> float:
        """The learning rate of `epoch`."""
        ...


@dataclass(frozen=True)
class Constant:
    """The optimizer's rate throughout."""

    def __call__(self, base: float, epoch: int, epochs: int, history: History) -> float:
        """`base`."""
        return base


@dataclass(frozen=True)
class Step:
    """rate = base factor^floor((epoch - 1) / every).

    Args:
        every: epochs between two steps.
        factor: what each step multiplies the rate by.
    """

    every: int = 10
    factor: float = 0.5

    def __post_init__(self) -> None:
        options.check_fields(self, every=options.whole(1), factor=options.POSITIVE)

    def __call__(self, base: float, epoch: int, epochs: int, history: History) -> float:
        """See the class."""
        return base * self.factor ** ((epoch - 1) // self.every)


@dataclass(frozen=True)
class Exponential:
    """rate = base factor^(epoch - 1)."""

    factor: float = 0.95

    def __post_init__(self) -> None:
        options.check_fields(self, factor=options.POSITIVE)

    def __call__(self, base: float, epoch: int, epochs: int, history: History) -> float:
        """See the class."""
        return base * self.factor ** (epoch - 1)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine wave down from base to `floor` base, after a straight way up to base.

        rate = base epoch / (warmup + 1)                                     while epoch <= warmup
        rate = base (floor + (1 - floor) (1 + cos(pi p)) / 2)                after it,

    where p goes from 0 in the first epoch after the warm-up to 1 in the last.

    Args:
        warmup: epochs on the way up.
        floor: the last epoch's rate, as a share of base.

    Source: Loshchilov and Hutter, SGDR, 2017; the warm-up, Goyal et al., Accurate, large
    minibatch SGD, 2017.
    """

    warmup: int = 0
    floor: float = 0.0

    def __post_init__(self) -> None:
        options.check_fields(
            self, warmup=options.whole(0), floor=options.number(0.0, 1.0, closed="both")
        )

    def __call__(self, base: float, epoch: int, epochs: int, history: History) -> float:
        """See the class."""
        if epoch <= self.warmup:
            return base * epoch / (self.warmup + 1)
        progress = (epoch - self.warmup - 1) / max(epochs - self.warmup - 1, 1)
        return base * (self.floor + (1 - self.floor) * (1 + math.cos(math.pi * progress)) / 2)


@dataclass(frozen=True)
class Plateau:
    """Multiply the rate by `factor` whenever `monitor` has not improved for `patience` epochs.

    Args:
        monitor: what must fall: "loss" or "validation_loss"; or rise: "validation_metric".
        patience: epochs without an improvement before the rate is reduced.
        factor: what it is multiplied by.
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
        """See the class."""
        # What the epochs came to is kept with them, so that a training reads each once.
        past, key = history.epochs, (self, base)
        start: tuple[int, Any, float, int, float] = 0, None, math.inf, 0, base
        count, last, best, waited, rate = history._plateaus.get(key, start)
        if count and (count > len(past) or past[count - 1] is not last):  # they were changed
            count, last, best, waited, rate = start
        for last in past[count:]:
            value = monitored(last, self.monitor)
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


def get(text: str) -> Schedule:
    """The schedule that `text` describes: "step", "cosine,warmup=5", "step,every=10,factor=0.5".

    Raises:
        InputError: no schedule has this name, or it does not take one of the options.
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
    made: Schedule = SCHEDULES[name](**arguments)
    return made

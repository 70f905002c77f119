"""Declarative checks and conversions of options: one rule per option.

    @checked(epochs=whole(0), batch_size=optional(whole(1)))
    def train(*, epochs, batch_size): ...

A rule returns the value in the type that the function needs (an int for a NumPy integer), or raises
an error that names the option, the value and the valid values. A wrong option fails before any work
starts.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from nnxp.errors import InputError, shown, unknown_name

LARGEST = 2**63 - 1
"""The largest whole number that an option takes: the largest int64."""

_REFUSALS = (TypeError, ValueError, OverflowError)

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Rule:
    """A rule for the values of one option.

    Args:
        takes: a phrase that follows "must be": "a whole number, 1 or more".
        convert: convert(value) returns the value in the type that the function needs. It raises
            TypeError, ValueError or OverflowError if the option does not take the value. An
            InputError is raised unchanged.
    """

    takes: str
    convert: Callable[[Any], Any]

    def __call__(self, name: str, value: Any) -> Any:
        """Convert a value of the option called `name`.

        Raises:
            InputError: the option does not take the value.
        """
        try:
            return self.convert(value)
        except InputError:
            raise
        except _REFUSALS:
            raise InputError(f"{name} must be {self.takes}, not {shown(value)}") from None

    def accepts(self, value: Any) -> bool:
        """Whether the option takes the value: for what a file holds."""
        try:
            self.convert(value)
        except _REFUSALS:
            return False
        return True


def checked(**rules: Rule) -> Callable[[Function], Function]:
    """Decorate a function to pass each named argument through its rule, except defaults."""

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        assert set(rules) <= set(signature.parameters), set(rules) - set(signature.parameters)

        @functools.wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            try:
                bound = signature.bind(*args, **options)
            except TypeError:
                return function(*args, **options)  # Python's own error names the function
            for name in bound.arguments.keys() & rules.keys():
                bound.arguments[name] = rules[name](name, bound.arguments[name])
            return function(*bound.args, **bound.kwargs)

        return call  # type: ignore[return-value]

    return decorate


def check_fields(record: Any, **rules: Rule) -> None:
    """Pass the fields of a dataclass, frozen or not, through their rules."""
    for name, rule in rules.items():
        label = f"{type(record).__name__}: {name}"
        object.__setattr__(record, name, rule(label, getattr(record, name)))


def whole(low: int, high: int = LARGEST) -> Rule:
    """Return a rule for a whole number from `low` to `high`, as an int; not True and not 1.0."""

    def convert(value: Any) -> int:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
        if not low <= number <= high:
            raise ValueError
        return number

    limits = f"{low} or more" if high == LARGEST else f"from {low} to {high}"
    return Rule(f"a whole number, {limits}", convert)


def number(low: float = 0.0, high: float = math.inf, closed: str = "left") -> Rule:
    """Return a rule for a finite number in an interval, as a float.

    It converts, because a `np.float64` would upcast float32 arrays.

    Args:
        low, high: the ends of the interval; both infinite, or `high` alone, for an open end.
        closed: "left", "both" or "neither": the ends that belong to the interval.
    """
    if low == -math.inf:
        closed = "neither"
    left = operator.le if closed in ("left", "both") else operator.lt
    right = operator.le if closed == "both" else operator.lt

    def convert(value: Any) -> float:
        if isinstance(value, (bool, np.bool_, str, bytes)):
            raise TypeError
        converted = float(value)
        if not (left(low, converted) and right(converted, high)):
            raise ValueError
        return converted

    if low == -math.inf:
        return Rule("a finite number", convert)
    if high == math.inf:
        return Rule(f"a finite number, {low:g} or more" if left is operator.le else
                    f"a finite number above {low:g}", convert)  # fmt: skip
    brackets = ("[" if left is operator.le else "(", "]" if right is operator.le else ")")
    return Rule(f"a number in {brackets[0]}{low:g}, {high:g}{brackets[1]}", convert)


def name(kind: str, known: Iterable[str]) -> Rule:
    """Return a rule for one of the names in `known`, in lower case with underscores.

    `kind` is what they name, for the error.
    """
    known = tuple(known)

    def convert(value: Any) -> str:
        canonical = value.lower().replace("-", "_") if isinstance(value, str) else None
        if canonical not in known:
            raise unknown_name(kind, value, known)
        return canonical

    return Rule(f"one of {', '.join(known)}", convert)


def made(takes: str, fits: Callable[[Any], bool], by_name: Callable[[str], Any]) -> Rule:
    """Return a rule for an object with fits(object), or a name for by_name(name) to make it of."""

    def convert(value: Any) -> Any:
        if isinstance(value, str):
            return by_name(value)
        if isinstance(value, type) or not fits(value):
            raise TypeError
        return value

    return Rule(takes, convert)


def instance(kind: type, takes: str) -> Rule:
    """Return a rule for an instance of the class `kind`."""

    def convert(value: Any) -> Any:
        if not isinstance(value, kind):
            raise TypeError
        return value

    return Rule(takes, convert)


def optional(rule: Rule) -> Rule:
    """Return a rule for None or a value that `rule` takes."""
    return Rule(f"{rule.takes}, or None", lambda x: None if x is None else rule.convert(x))


def several(rule: Rule, least: int) -> Rule:
    """Return a rule for a list of `least` or more values that `rule` takes, as a tuple."""

    def convert(value: Any) -> tuple[Any, ...]:
        if isinstance(value, (str, bytes, dict, set, frozenset)):  # no list, though each iterates
            raise TypeError
        converted = tuple(rule.convert(each) for each in value)
        if len(converted) < least:
            raise ValueError
        return converted

    return Rule(f"a list of {least} or more, each {rule.takes}", convert)


def one_or_each(rule: Rule) -> Rule:
    """Return a rule for a value that `rule` takes, or a list of such values, as a tuple."""

    def convert(value: Any) -> Any:
        if isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) == 1:
            return tuple(rule.convert(each) for each in value)
        return rule.convert(value)

    return Rule(f"{rule.takes}, or a list of such", convert)


def from_text(text: str) -> Any:
    """`text` as a whole number or a number where it is one, for a rule to judge."""
    for convert in (int, float):
        with suppress(ValueError):
            return convert(text)
    return text


def per_layer(values: Any, layers: int, what: str) -> tuple[Any, ...]:
    """One value per hidden layer, from what `one_or_each` returned: one for all, or a tuple.

    Raises:
        InputError: the tuple has another number of values; `what` says what they are.
    """
    each = values if isinstance(values, tuple) else (values,) * layers
    if len(each) != layers:
        raise InputError(f"{len(each)} {what} for {layers} hidden layers")
    return each


def _truth(value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError
    return bool(value)


def _path(value: Any) -> str:
    path = os.fspath(value)
    if not isinstance(path, str):
        raise TypeError
    if "\0" in path:
        raise ValueError
    return path


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _function(value: Any) -> Any:
    if not callable(value) or isinstance(value, type):
        raise TypeError
    return value


def _dtype(value: Any) -> str:
    """Return the name of a dtype, which may also be given as NumPy's dtype."""
    name = value if isinstance(value, str) else np.dtype(value).name
    if value is None or name not in ("float32", "float64"):
        raise ValueError
    return name


TRUTH = Rule("True or False", _truth)
TEXT = Rule("a string", _text)
PATH = Rule("a string or a path", _path)
TEXTS = Rule("a list of strings", several(TEXT, 0).convert)
FUNCTION = Rule("a function", _function)
FUNCTIONS = Rule("a list of functions, [f] for a single one", several(FUNCTION, 0).convert)
DTYPE = Rule("float32 or float64", _dtype)
FINITE = number(-math.inf)
NOT_NEGATIVE = number(0.0)
POSITIVE = number(0.0, closed="neither")
SHARE = number(0.0, 1.0)

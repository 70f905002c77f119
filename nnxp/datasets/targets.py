"""From targets as people write them to targets as networks take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nnxp.datasets.tables import finite_number
from nnxp.errors import DataError
from nnxp.names import TaskName

TASKS = ("classify", "multilabel", "regress")


MOST_CLASSES = 20
"""Whole numbers of more distinct values are amounts, unless the task says otherwise."""
ROWS_PER_CLASS = 2
"""On average, at least; whole numbers that hardly recur are amounts too."""


class Encoded(NamedTuple):
    """Targets in numbers, and what they were taken for."""

    task: TaskName
    classes: tuple[str, ...] | None
    """The name of each class; None for other tasks, and where a model numbers them."""
    parts: list[np.ndarray]
    """Classes as int64, (samples,), anything else as float64, (samples, outputs)."""
    guessed: bool
    """Whether the task was told from the targets, and another would have been possible."""


def encode(
    name: str,
    parts: list[np.ndarray],
    task: TaskName | None = None,
    known_classes: Sequence[str] | None = None,
    numbered: bool = False,
) -> Encoded:
    """Task, class names, and each part's targets in numbers.

    Args:
        name: of the data set, for messages.
        parts: the targets to train on and, where they come apart, to test on: numbers or text,
            (samples,) or (samples, outputs).
        task: "classify", "multilabel", "regress", or None to tell from the targets:
            text is classes; whole numbers are classes if there are no more than two distinct
            ones, or `MOST_CLASSES` at most in `ROWS_PER_CLASS` rows or more each, on average, and
            values to regress on otherwise, as are all other numbers; rows of 0 and 1 are classes
            if each holds a single 1, and labels otherwise.
        known_classes: the class names of a trained model; no other label may occur.
        numbered: whether a trained model knows its classes by number alone: whole numbers are
            then classes as they stand.

    Raises:
        DataError: a target does not fit the task or is none of the known classes; or no task is
            given, and targets that would be regressed on have text among them.
    """
    flat = [part.reshape(-1) if part.shape[1:] == (1,) else part for part in parts]
    parts = [_numbers_or_text(part) for part in flat]
    guessed = False
    if task is None:
        task, guessed = _guess_task(name, parts)
    if task == "classify":
        parts = [_from_one_hot(name, part) if part.ndim == 2 else part for part in parts]
        if numbered:
            return Encoded(task, None, [_as_numbered(name, part) for part in parts], guessed)
        classes = tuple(known_classes or map(_class_name, np.unique(parts[0])))
        if known_classes:  # "01" is a class of its own, where the model learnt it as text
            parts = [part if part.ndim == 1 else new for part, new in zip(flat, parts, strict=True)]
        parts = [_number_classes(name, part, classes) for part in parts]
        return Encoded(task, classes, parts, guessed)
    for part in parts:
        if part.dtype.kind == "U":
            row = next(row for row, text in enumerate(part) if finite_number(text) is None)
            raise DataError(
                f"{name}: target {row} is {str(part[row])!r}, not a number to regress on"
            )
    return Encoded(task, None, [part.reshape(len(part), -1) for part in parts], guessed)


def _from_one_hot(name: str, y: np.ndarray) -> np.ndarray:
    rows = np.isin(y, (0, 1)).all(axis=1) & (y.sum(axis=1) == 1)
    if not rows.all():
        row = int(np.argmin(rows))
        raise DataError(f"{name}: target row {row} has not exactly one 1: several labels a row")
    return np.argmax(y, axis=1).astype(np.float64)


def _as_numbered(name: str, y: np.ndarray) -> np.ndarray:
    if y.dtype.kind == "U":
        raise DataError(f"{name}: text targets, and the model knows its classes by number: 0, 1, 2")
    return y.astype(np.int64) if (y == np.floor(y)).all() else y


def _numbers_or_text(y: np.ndarray) -> np.ndarray:
    """float64, or text where not all of it is numbers."""
    if y.dtype.kind != "U":
        return y.astype(np.float64)
    numbers = [finite_number(text) for text in y]
    return y if None in numbers else np.array(numbers, dtype=np.float64)


def _guess_task(name: str, parts: list[np.ndarray]) -> tuple[TaskName, bool]:
    """The task that targets tell, and whether they would allow another; see `encode`."""
    y = parts[0]
    if y.ndim == 1:
        if any(part.dtype.kind == "U" for part in parts):
            _check_text(name, y)
            return "classify", False
        whole = all((part == np.floor(part)).all() for part in parts)
        return "classify" if whole and _are_classes(y) else "regress", True
    if not all(np.isin(part, (0, 1)).all() for part in parts):
        return "regress", False
    one_hot = all((part.sum(axis=1) == 1).all() for part in parts)
    return "classify" if one_hot else "multilabel", True


def _are_classes(whole: np.ndarray) -> bool:
    """Whether whole numbers, (samples,), are few enough to be the names of classes."""
    distinct = len(np.unique(whole))
    few = distinct <= MOST_CLASSES and ROWS_PER_CLASS * distinct <= len(whole)
    return distinct <= 2 or few


def _check_text(name: str, y: np.ndarray) -> None:
    """Refuse numbers to regress on that a single "n/a" among them would make classes."""
    values = [finite_number(str(text)) for text in y]
    numbers = np.array([value for value in values if value is not None])
    whole = (numbers == np.floor(numbers)).all()
    if 2 * len(numbers) >= len(y) and None in values and not (whole and _are_classes(numbers)):
        row = values.index(None)
        raise DataError(
            f"{name}: target {row} is {str(y[row])!r}, and most others are numbers: fill it in, "
            "leave the row out, or give the task classify"
        )


def _value(label: object) -> object:
    """A label as a number, where it is one."""
    number = finite_number(str(label))
    return label if number is None else number


def _class_name(label: object) -> str:
    return f"{label:.17g}" if isinstance(label, float) else str(label)


def _number_classes(name: str, y: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    number = {label: i for i, label in enumerate(classes)}
    labels = [str(label) if str(label) in number else _class_name(_value(label)) for label in y]
    for row, label in enumerate(labels):
        if label not in number:
            known = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
            raise DataError(
                f"{name}: target {row} is {label!r}, which is none of the classes {known}"
            )
    return np.array([number[label] for label in labels], dtype=np.int64)

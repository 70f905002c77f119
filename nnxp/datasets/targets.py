"""Encoding of targets: from numbers and text in files to arrays for networks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from nnxp.datasets.texts import finite_number, finite_numbers, written
from nnxp.errors import DataError
from nnxp.names import TaskName

TASKS = ("classify", "multilabel", "regress")

MOST_CLASSES = 20
"""Whole numbers with more distinct values are regressed on, unless the task is given."""
ROWS_PER_CLASS = 2
"""Whole numbers with fewer rows per value, on average, are also regressed on."""


class Encoded(NamedTuple):
    """Targets as numbers, and the task."""

    task: TaskName
    classes: tuple[str, ...] | None
    """The name of each class; None for other tasks, and if a model numbers its classes."""
    parts: list[np.ndarray]
    """Classes as int64, (samples,); other targets as float64, (samples, outputs)."""
    guessed: bool
    """Whether the task was guessed from the targets, which also allow another."""


def encode(
    name: str,
    parts: list[np.ndarray],
    task: TaskName | None = None,
    known_classes: Sequence[str] | None = None,
    numbered: bool = False,
    texts: Sequence[np.ndarray] | None = None,
) -> Encoded:
    """Find the task and the class names, and convert the targets to numbers.

    Args:
        name: the name of the data set, for messages.
        parts: the targets to train on and, if they are separate, to test on: numbers or text,
            (samples,) or (samples, outputs).
        task: "classify", "multilabel", "regress", or None to guess from the targets. Text is
            classes. Whole numbers are classes if there are at most two distinct ones, or at most
            `MOST_CLASSES` with an average of `ROWS_PER_CLASS` rows or more each. Other numbers
            are regressed on. Rows of 0 and 1 are classes if each has a single 1, and labels
            otherwise.
        known_classes: the class names of a trained model; other labels are refused.
        numbered: whether a trained model has numbers for its classes and no names: whole numbers
            are then classes.
        texts: the targets as they are written, for `known_classes`; by default `parts`.

    Raises:
        DataError: a target does not fit the task or is none of the known classes; or no task is
            given, and there is text among numbers to regress on.
    """
    flat = [part.reshape(-1) if part.shape[1:] == (1,) else part for part in parts]
    texts = flat if texts is None else texts
    parts = [_numbers_or_text(part) for part in flat]
    guessed = False
    if task is None:
        task, guessed = _guess_task(name, parts)
    if task == "classify":
        parts = [_from_one_hot(name, part) if part.ndim == 2 else part for part in parts]
        if numbered:
            return Encoded(task, None, [_as_numbered(name, part) for part in parts], guessed)
        classes = tuple(known_classes or map(_class_name, np.unique(parts[0])))
        if known_classes:  # "01" is a class of its own if the model learnt it as text
            parts = [
                part if part.ndim == 1 else new for part, new in zip(texts, parts, strict=True)
            ]
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
    """Convert targets to float64 if all are numbers; else return them as text."""
    if y.dtype.kind != "U":
        return y.astype(np.float64)
    numbers = finite_numbers(y.tolist())
    return y if numbers is None else numbers


def _guess_task(name: str, parts: list[np.ndarray]) -> tuple[TaskName, bool]:
    """Guess the task from the targets; return it and whether another is possible."""
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
    """Return whether whole numbers, (samples,), have few enough values to be classes."""
    return _few(len(np.unique(whole)), len(whole))


def _few(distinct: int, rows: int) -> bool:
    few = distinct <= MOST_CLASSES and ROWS_PER_CLASS * distinct <= rows
    return distinct <= 2 or few


def amounts_with_text(counts: Mapping[str, int]) -> bool:
    """Return whether texts are numbers to regress on with others such as "n/a" among them.

    They would be classes, or categories, for one mistake.

    Args:
        counts: how often there is each text.
    """
    values = {text: finite_number(text) for text in counts}
    numbers = {number for number in values.values() if number is not None}
    rows = sum(counts[text] for text, number in values.items() if number is not None)
    few = all(number.is_integer() for number in numbers) and _few(len(numbers), rows)
    return None in values.values() and 2 * rows >= sum(counts.values()) and not few


def _check_text(name: str, y: np.ndarray) -> None:
    texts = [str(text) for text in y]
    if amounts_with_text(Counter(texts)):
        row = next(row for row, text in enumerate(texts) if finite_number(text) is None)
        raise DataError(
            f"{name}: target {row} is {texts[row]!r}, and most others are numbers: fill it in, "
            "leave the row out, or give the task classify"
        )


def _value(label: object) -> object:
    """Convert a label to a number if it is one."""
    number = finite_number(str(label))
    return label if number is None else number


def _class_name(label: object) -> str:
    return written(label) if isinstance(label, float) else str(label)


def _number_classes(name: str, y: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    index = {label: i for i, label in enumerate(classes)}
    # Few labels stand in many rows.
    distinct, places = np.unique(y, return_inverse=True) if y.dtype != object else (y, None)
    labels = [
        str(label) if str(label) in index else _class_name(_value(label)) for label in distinct
    ]
    numbers = np.array([index.get(label, -1) for label in labels], dtype=np.int64)
    found = numbers if places is None else numbers[places]
    if (found < 0).any():
        row = int(np.argmax(found < 0))
        label = labels[row if places is None else places[row]]
        known = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
        raise DataError(f"{name}: target {row} is {label!r}, which is none of the classes {known}")
    return found

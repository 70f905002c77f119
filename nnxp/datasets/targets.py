"""From targets as people write them to targets as networks take them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnxp.datasets.tables import finite_number
from nnxp.errors import DataError

TASKS = ("classify", "multilabel", "regress")


def encode(
    name: str,
    parts: list[np.ndarray],
    task: str | None = None,
    known_classes: Sequence[str] | None = None,
    numbered: bool = False,
) -> tuple[str, tuple[str, ...] | None, list[np.ndarray]]:
    """Task, class names, and each part's targets in numbers.

    Args:
        name: of the data set, for messages.
        parts: the targets to train on and, where they come apart, to test on: numbers or text,
            (samples,) or (samples, outputs).
        task: "classify", "multilabel", "regress", or None to tell from the targets: text and
            whole numbers are classes.
        known_classes: the class names of a trained model; no other label may occur.
        numbered: whether a trained model knows its classes by number alone: whole numbers are
            then classes as they stand.

    Returns:
        Classes as int64, (samples,), anything else as float64, (samples, outputs).

    Raises:
        DataError: a target does not fit the task or is none of the known classes.
    """
    flat = [part.reshape(-1) if part.shape[1:] == (1,) else part for part in parts]
    parts = [_numbers_or_text(part) for part in flat]
    task = task or _guess_task(parts)
    if task == "classify":
        parts = [_from_one_hot(name, part) if part.ndim == 2 else part for part in parts]
        if numbered:
            return task, None, [_as_numbered(name, part) for part in parts]
        classes = tuple(known_classes or map(_class_name, np.unique(parts[0])))
        if known_classes:  # "01" is a class of its own, where the model learnt it as text
            parts = [part if part.ndim == 1 else new for part, new in zip(flat, parts, strict=True)]
        return task, classes, [_number_classes(name, part, classes) for part in parts]
    for part in parts:
        if part.dtype.kind == "U":
            row = next(row for row, text in enumerate(part) if finite_number(text) is None)
            raise DataError(
                f"{name}: target {row} is {str(part[row])!r}, not a number to regress on"
            )
    return task, None, [part.reshape(len(part), -1) for part in parts]


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


def _guess_task(parts: list[np.ndarray]) -> str:
    if parts[0].ndim == 1:
        text_or_whole = (p.dtype.kind == "U" or (p == np.floor(p)).all() for p in parts)
        return "classify" if all(text_or_whole) else "regress"
    if not all(np.isin(part, (0, 1)).all() for part in parts):
        return "regress"
    one_hot = all((part.sum(axis=1) == 1).all() for part in parts)
    return "classify" if one_hot else "multilabel"


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

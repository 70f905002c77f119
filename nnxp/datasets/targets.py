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
) -> tuple[str, tuple[str, ...] | None, list[np.ndarray]]:
    """Task, class names, and each part's targets in numbers.

    Args:
        name: of the data set, for messages.
        parts: the targets to train on and, where they come apart, to test on: numbers or text,
            (samples,) or (samples, outputs).
        task: "classify", "multilabel", "regress", or None to tell from the targets: text and
            whole numbers are classes.
        known_classes: the class names of a trained model; no other label may occur.

    Returns:
        Classes as int64, (samples,), anything else as float64, (samples, outputs).

    Raises:
        DataError: a target does not fit the task or is none of the known classes.
    """
    parts = [_numbers_or_text(part) for part in parts]
    task = task or _guess_task(parts)
    if task == "classify":
        if parts[0].ndim == 2:
            parts = [np.argmax(part, axis=1).astype(np.float64) for part in parts]
        classes = tuple(known_classes or map(_class_name, np.unique(parts[0])))
        return task, classes, [_number_classes(name, part, classes) for part in parts]
    for part in parts:
        if part.dtype.kind == "U":
            row = next(row for row, text in enumerate(part) if finite_number(text) is None)
            raise DataError(
                f"{name}: target {row} is {str(part[row])!r}, not a number to regress on"
            )
    return task, None, [part.reshape(len(part), -1) for part in parts]


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
    if parts[0].shape[1] == 1 or not all(np.isin(part, (0, 1)).all() for part in parts):
        return "regress"
    one_hot = all((part.sum(axis=1) == 1).all() for part in parts)
    return "classify" if one_hot else "multilabel"


def _class_name(label: object) -> str:
    return f"{label:.17g}" if isinstance(label, float) else str(label)


def _number_classes(name: str, y: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    number = {label: i for i, label in enumerate(classes)}
    labels = [_class_name(label) for label in y]
    for row, label in enumerate(labels):
        if label not in number:
            known = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
            raise DataError(
                f"{name}: target {row} is {label!r}, which is none of the classes {known}"
            )
    return np.array([number[label] for label in labels], dtype=np.int64)

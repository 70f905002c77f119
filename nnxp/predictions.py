"""Predictions as a table: the class or the values of each sample, beside the network's outputs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import numpy as np

from nnxp import options
from nnxp.arrays import to_numpy
from nnxp.data import checks
from nnxp.errors import InputError
from nnxp.names import TaskName

PART_ROWS = 2**11
"""Rows whose lines are made at once."""


@options.checked(
    classes=options.optional(options.TEXTS), task=options.name("task", get_args(TaskName))
)
def to_csv(outputs: Any, classes: Sequence[str] | None = None, *, task: str = "classify") -> str:
    """Write the outputs of a network as csv: a header, then a line for each sample.

    For classes, each line has the class with the largest output, then every output. For other
    tasks and for a single output, it has the outputs alone. Numbers have nine significant digits,
    enough to restore every float32.

    Args:
        outputs: what `MLP.predict` returned, (samples, outputs), an array of any library.
        classes: the name of each output; None for the numbers 0, 1, 2, ...
        task: "classify", "multilabel" or "regress"; ignored if `classes` is given.

    Raises:
        InputError: the outputs are not a matrix, or the number of names is not that of outputs.

    Example:
        >>> from nnxp import predictions
        >>> print(predictions.to_csv([[0.25, 0.75]], ["cat", "dog"]), end="")
        prediction,cat,dog
        dog,0.25,0.75
    """
    return "".join(csv_parts(outputs, classes, task=task))


def csv_parts(
    outputs: Any, classes: Sequence[str] | None = None, *, task: str = "classify"
) -> Iterator[str]:
    """Return the parts of `to_csv`: the text of millions of rows takes more memory than they do.

    Args:
        outputs, classes, task: see `to_csv`.

    Raises:
        InputError: see `to_csv`; before the first part.

    Example:
        >>> from nnxp import predictions
        >>> list(predictions.csv_parts([[0.25, 0.75]], ["cat", "dog"]))
        ['prediction,cat,dog\\n', 'dog,0.25,0.75\\n']
    """
    rows = to_numpy(checks.numbers(outputs, "outputs"))
    if rows.ndim != 2:
        raise InputError(f"outputs must be (samples, outputs), not {rows.shape}")
    count = rows.shape[1]
    if classes and len(classes) != count:
        raise InputError(f"{len(classes)} names of classes for {count} outputs")
    if not classes and task == "classify" and count > 1:
        classes = [str(number) for number in range(count)]
    return _parts(rows, classes)


def _parts(rows: np.ndarray, classes: Sequence[str] | None) -> Iterator[str]:
    """Yield the header and then the lines of `PART_ROWS` rows at once."""
    count = rows.shape[1]
    named = [f"prediction_{i}" for i in range(count)] if count > 1 else ["prediction"]
    yield _csv([["prediction", *classes] if classes else named])
    for start in range(0, len(rows), PART_ROWS):
        part = rows[start : start + PART_ROWS]
        lines = [[f"{value:.9g}" for value in row] for row in part.tolist()]
        if classes:
            for line, largest in zip(lines, np.argmax(part, axis=1), strict=True):
                line.insert(0, classes[largest])
        yield _csv(lines)


def _csv(lines: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()

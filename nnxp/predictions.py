"""Predictions as a table: the class or the values of each sample, beside the network's outputs."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np

from nnxp import options
from nnxp.arrays import to_numpy
from nnxp.data import checks
from nnxp.errors import InputError
from nnxp.names import TaskName


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
    rows = to_numpy(checks.numbers(outputs, "outputs"))
    if rows.ndim != 2:
        raise InputError(f"outputs must be (samples, outputs), not {rows.shape}")
    count = rows.shape[1]
    if classes and len(classes) != count:
        raise InputError(f"{len(classes)} names of classes for {count} outputs")
    if not classes and task == "classify" and count > 1:
        classes = [str(number) for number in range(count)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    numbers = ([f"{value:.9g}" for value in row] for row in rows.tolist())
    if classes:
        largest = np.argmax(rows, axis=1)
        writer.writerow(["prediction", *classes])
        writer.writerows([classes[i], *row] for i, row in zip(largest, numbers, strict=True))
    else:
        named = [f"prediction_{i}" for i in range(count)]
        writer.writerow(named if count > 1 else ["prediction"])
        writer.writerows(numbers)
    return text.getvalue()

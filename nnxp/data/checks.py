"""Checks of incoming data: shapes, dtypes, labels and numbers, once, before any kernel runs."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from nnxp.arrays import Array, is_array, namespace, to_numpy
from nnxp.backends.base import Backend
from nnxp.data import sources
from nnxp.errors import InputError, NnxpError, first_line

CHECKED_ELEMENTS = 2**22
"""Elements of data on the host that are checked at once: a few megabytes."""


def features(x: Any, fan_in: int, backend: Backend, dtype: Any) -> Array:
    """Check that `x` is (samples, fan_in), finite, with a row; return it on the device.

    Raises:
        InputError: names both shapes, or the row, column and value.
    """
    return on_device(matrix(x, fan_in), backend, dtype)


def matrix(x: Any, fan_in: int) -> Array:
    """Check that `x` is (samples, fan_in) with a row; return it, values unchecked.

    Data on disk that is too large to be loaded becomes a `nnxp.data.sources.Source`, all else an
    array.
    """
    source = sources.find(x)
    x = numbers(x, "x") if source is None else source
    try:
        shape = tuple(map(int, x.shape))
    except (TypeError, ValueError):  # a lazy array of unknown length
        raise InputError(f"x has shape {x.shape}: compute it first, to a known length") from None
    if len(shape) != 2 or shape[1] != fan_in:
        cure = " (one sample is a batch of one: x[None, :])" if shape == (fan_in,) else ""
        raise InputError(f"x has shape {shape}, the network takes (samples, {fan_in}){cure}")
    if shape[0] == 0:
        raise InputError("x has no rows")
    return x


def numbers(x: Any, name: str) -> Array:
    """Check that `x`, called `name`, holds real numbers; return it as an array, on its device.

    Raises:
        InputError: it holds other values, or masked ones.
    """
    if not is_array(x) or isinstance(x, np.ndarray):
        return _host(x, name)
    kinds = ("bool", "integral", "real floating")
    real, _ = converted(x, name, lambda x: (namespace(x).isdtype(x.dtype, kinds), x.shape))
    if not real:
        raise InputError(f"{name} must be real numbers, not {x.dtype}")
    return x


def on_device(x: Array, backend: Backend, dtype: Any) -> Array:
    """Move a `matrix` to the backend's device and check that every value is finite."""
    # NumPy's warnings are off: a value too large for float32 becomes infinite, which raises below.
    with backend.active(), np.errstate(over="ignore", invalid="ignore"):
        x = converted(x, "x", partial(backend.asarray, dtype=dtype))
        # NumPy checks the host's memory: JAX would compile a sum for each new shape.
        _check_finite(to_numpy(x) if backend.device_name == "cpu" else x, "x")
    return x


def on_host(x: Array, dtype: str) -> np.ndarray | sources.Source:
    """Return a `matrix` as a NumPy array or source; check that all values are finite in `dtype`.

    This works by blocks, because the array may be mapped from a file and larger than the memory.
    """
    if isinstance(x, sources.Source):
        sources.check_rows(x, dtype)
        return x
    x = _host(x, "x")
    rows = max(1, CHECKED_ELEMENTS // x.shape[1])
    for start in range(0, x.shape[0] if x.dtype.kind not in "bui" else 0, rows):
        with np.errstate(over="ignore", invalid="ignore"):
            _check_finite(x[start : start + rows].astype(dtype, copy=False), "x", start)
    return x


def targets(t: Any, loss: str, samples: int, outputs: int) -> np.ndarray:
    """Check targets; return them on the host in the form that the loss's kernel takes.

    Args:
        t: integer classes, (samples,); 0/1 or real values, (samples, outputs); for one output
            also (samples,).
        loss: the loss's name.
        samples: the number of rows of x.
        outputs: the number of units of the network's last layer.

    Returns:
        Classes, (samples,), int64, for categorical cross-entropy; otherwise float64,
        (samples, outputs), classes as one-hot rows.

    Raises:
        InputError: names both shapes, or the row and value, and what to do.
    """
    t = _float64(_host(t, "targets"))
    if t.ndim not in (1, 2) or t.shape[0] != samples:
        raise InputError(f"targets have shape {t.shape}, x has {samples} rows")
    _check_finite(t, "targets")
    if t.ndim == 1 and outputs > 1:
        classes = _classes(t, outputs)
        return classes if loss == "categorical_cross_entropy" else np.eye(outputs)[classes]
    if t.ndim == 1:
        t = t[:, None]
    if t.shape[1] != outputs:
        raise InputError(
            f"targets have shape {t.shape}, the network's output {(samples, outputs)}"
            + ("; integer classes are given as (samples,)" if t.shape[1] == 1 else "")
        )
    t = t.astype(np.float64, copy=False)
    if loss in ("binary_cross_entropy", "categorical_cross_entropy"):
        _check_probabilities(t, loss)
    elif loss == "poisson":
        _check_range(t, t < 0, "poisson takes counts, 0 or more")
    return t


def are_classes(t: Any, outputs: int) -> bool:
    """Return whether targets are classes: one of several outputs for each sample."""
    return outputs > 1 and (t.ndim if hasattr(t, "ndim") else np.ndim(t)) == 1


def sample_weight(weight: Any, samples: int) -> np.ndarray:
    """Check sample weights; return them on the host, (samples,), float64.

    Raises:
        InputError: wrong shape, or a negative or non-finite weight.
    """
    weight = _float64(_host(weight, "sample_weight")).astype(np.float64)
    if weight.shape != (samples,):
        raise InputError(f"sample_weight has shape {weight.shape}, x has {samples} rows")
    _check_finite(weight, "sample_weight")
    if (weight < 0).any():
        row = int(np.argmax(weight < 0))
        raise InputError(f"sample_weight[{row}] is {weight[row]:g}: weights are not negative")
    return weight


def unit_mean(weight: np.ndarray, train_rows: np.ndarray | None = None) -> np.ndarray:
    """Scale weights to a mean of one, so that the learning rate keeps its meaning.

    The mean is over the rows `train_rows`; None means all.

    Raises:
        InputError: all these weights are zero.
    """
    train_weight = weight if train_rows is None else weight[train_rows]
    if not train_weight.any():
        raise InputError("sample_weight is zero everywhere: nothing is left to train on")
    weight = weight / weight.max()  # so that no sum overflows
    train_weight = weight if train_rows is None else weight[train_rows]
    scaled: np.ndarray = weight / train_weight.mean()
    return scaled


def _frame(frame: Any, name: str) -> np.ndarray:
    """Convert a DataFrame by columns, because NumPy makes objects of one with several dtypes."""
    columns = []
    names = frame.column_names if hasattr(frame, "column_names") else frame.columns
    for i, column in enumerate(names):
        series = frame.iloc[:, i] if hasattr(frame, "iloc") else frame[column]
        try:
            values = np.asarray(series)
            if any(isinstance(value, str) for value in values.flat):  # NumPy would parse it
                raise TypeError
            columns.append(values.astype(np.float64))
        except (TypeError, ValueError):
            raise InputError(
                f"{name} has a column {column!r} that is not of numbers, or misses some: leave it "
                "out, or see one_hot and impute of nnxp.datasets.load, which takes a DataFrame"
            ) from None
    return np.column_stack(columns)


def _host(x: Any, name: str) -> np.ndarray:
    given = x
    if hasattr(x, "toarray"):
        raise InputError(f"{name} is sparse: give {name}.toarray()")
    _check_unmasked(x, name)
    if is_array(x):
        x = converted(x, name, to_numpy)
    else:
        try:
            x = np.asarray(x)
        except ValueError:
            raise InputError(f"{name} is ragged: its rows differ in length") from None
        except TypeError as error:
            raise InputError(f"{name} does not convert to NumPy: {error}") from None
    if x.dtype.kind == "O" and hasattr(given, "columns"):
        x = _frame(given, name)
    if x.dtype.kind not in "buif":
        raise InputError(
            f"{name} must be numbers, not {x.dtype.name}"
            + (": encode text labels as classes 0, 1, 2, ..." if name == "targets" else "")
        )
    return x


def _float64(x: np.ndarray) -> np.ndarray:
    """Convert wider floating numbers to float64, with infinity on overflow; return others as is."""
    if x.dtype.kind != "f" or x.dtype.itemsize <= 8:
        return x
    with np.errstate(over="ignore"):
        return x.astype(np.float64)


def converted(x: Any, name: str, convert: Callable[[Any], Any]) -> Any:
    """Return convert(x). Libraries raise many kinds of errors; this raises one line.

    Raises:
        InputError: `x`, called `name`, does not convert.
    """
    try:
        return convert(x)
    except (NnxpError, MemoryError):
        raise
    except Exception as error:
        kind = getattr(x, "dtype", type(x).__name__)
        raise InputError(
            f"{name}, {kind}, does not convert ({first_line(error)}): "
            f"make it a dense float32 or float64 array first"
        ) from None


def _check_unmasked(x: Any, name: str) -> None:
    """Raise InputError if `x` is a masked array, or a list of some, with masked values."""
    rows = x if isinstance(x, (list, tuple)) else [x]
    masked = sum(
        int(np.ma.getmaskarray(row).sum()) for row in rows if isinstance(row, np.ma.MaskedArray)
    )
    if masked:
        raise InputError(
            f"{name} is a masked array with {masked} masked values, and a network has no use for "
            f"a mask: fill them in ({name}.filled(value)), or leave out their rows"
        )


def check_outputs(y: Array, first_row: int = 0, numbers: np.ndarray | None = None) -> None:
    """Raise InputError unless all outputs, (rows, outputs), are finite.

    Finite features may overflow inside a network.

    Args:
        y: (rows, outputs).
        first_row: the number of the first row in the caller's x.
        numbers: the number of each row there, if the rows are not consecutive.
    """
    if (place := _not_finite(y)) is not None:
        (row, *_), value = place
        number = row + first_row if numbers is None else int(numbers[row])
        raise InputError(
            f"the output for row {number} of x (from 0) is {value}: its features are too "
            f"large for {np.dtype(to_numpy(y).dtype).name}: scale them as those that the network "
            "was trained on"
        )


def _check_finite(x: Array, name: str, first_row: int = 0) -> None:
    if (first := _not_finite(x)) is not None:
        (row, *column), value = first
        place = f"row {row + first_row}" + "".join(f", column {i}" for i in column)
        raise InputError(
            f"{name} holds {value} at {place} (rows and columns from 0): remove it or fill it in"
        )


def _not_finite(x: Array) -> tuple[tuple[int, ...], Any] | None:
    """Return the index and value of the first number that is not finite; None if all are."""
    xp = namespace(x)
    if not xp.isdtype(x.dtype, "real floating"):
        return None
    # A finite sum shows that every term is finite, and needs no mask of x's size. A sum may also
    # overflow with finite terms, so then every term is checked.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(to_numpy(xp.sum(x))):
            return None
    host = to_numpy(x)
    bad = np.argwhere(~np.isfinite(host))
    return (tuple(map(int, bad[0])), host[tuple(bad[0])]) if len(bad) else None


def _classes(t: np.ndarray, outputs: int) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # a value outside int64 changes, and so raises below
        classes = t.astype(np.int64)
    wrong = (classes != t) | (classes < 0) | (classes >= outputs)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"targets[{row}] is {t[row]}: a network with {outputs} outputs takes classes "
            f"0 to {outputs - 1}"
        )
    return classes


def _check_range(t: np.ndarray, wrong: np.ndarray, takes: str) -> None:
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        raise InputError(
            f"targets[{row}, {column}] is {t[row, column]:g}: {takes}; "
            "for real values use the quadratic loss"
        )


def _check_probabilities(t: np.ndarray, loss: str) -> None:
    _check_range(t, (t < 0) | (t > 1), f"{loss} takes values from 0 to 1")
    if loss == "categorical_cross_entropy":
        sums = t.sum(axis=1)
        wrong = np.abs(sums - 1) > 1e-3
        if wrong.any():
            row = int(np.argmax(wrong))
            raise InputError(
                f"targets[{row}] sums to {sums[row]:g}: {loss} takes rows that sum to 1; "
                "for several labels a row use sigmoid outputs with binary_cross_entropy"
            )

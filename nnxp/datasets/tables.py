"""Tables with named columns, from files or DataFrames: which are features, and which the target."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nnxp.datasets import parquet
from nnxp.datasets.csv_files import DELIMITERS, CsvFile
from nnxp.datasets.features import Encoding
from nnxp.datasets.frames import Frame
from nnxp.datasets.raw import Raw
from nnxp.datasets.targets import MOST_CLASSES, ROWS_PER_CLASS, amounts_with_text
from nnxp.datasets.texts import MISSING, as_objects, finite_number, finite_numbers
from nnxp.errors import DataError

__all__ = ["DELIMITERS", "FILES", "Table", "open_file", "open_frame", "read", "read_like"]

FILES = (".csv", ".tsv", ".parquet")
"""The suffixes of files with named columns."""

MOST_CATEGORIES = 1000
"""The most categories of a column: each becomes a feature."""


class Table(Protocol):
    """What has named columns: a `CsvFile` or a `Frame`."""

    name: str
    names_place: str
    header: tuple[str, ...]
    typed: bool
    """Whether a column is of numbers or text by itself; the fields of a csv are all text."""

    @property
    def delimiter(self) -> str | None:
        """The character between the fields of a text file."""

    @property
    def decimal(self) -> str | None:
        """The decimal sign in a text file."""

    def read(self, names: Sequence[str], as_text: Collection[str]) -> dict[str, np.ndarray]:
        """Read columns: numbers, NaN where one is missing, or text, empty where one is."""

    def locate(self, row: int, name: str) -> tuple[str, str]:
        """Return the place of a row, and what it has in a column."""


def open_file(path: Path, delimiter: str | None = None) -> Table:
    """Open a file of a suffix in `FILES`; `delimiter` is for text files.

    Raises:
        InputError: the file needs a library that is not installed.
        DataError: the file is missing or damaged.
    """
    return (
        parquet.open_file(path) if path.suffix.lower() == ".parquet" else CsvFile(path, delimiter)
    )


def open_frame(frame: Any) -> Table:
    """Open a DataFrame."""
    return Frame(frame)


def read(
    table: Table,
    target: str | None = None,
    *,
    drop: Collection[str] = (),
    one_hot: bool = False,
    one_hot_columns: Collection[str] = (),
    impute: bool = False,
) -> Raw:
    """Read a table to train on.

    Args:
        table: the table.
        target: the target column; the last by default.
        drop: the columns to leave out.
        one_hot: whether text features are allowed. Their categories are those of all rows.
        one_hot_columns: columns whose numbers are categories too.
        impute: whether features may be missing.

    Raises:
        DataError: names the place, the column and the value.
    """
    _check_names(table)
    columns = set(table.header)
    target = target if target is not None else table.header[-1]
    for name in (target, *drop, *one_hot_columns):
        if name not in columns:
            raise DataError(
                f"{table.names_place}: no column {name!r}; there are {_listed(table.header)}"
            )
    for name in (*drop, *one_hot_columns):
        if name == target:
            raise DataError(f"{table.names_place}: {name!r} is the target, and no feature")
    names = [name for name in table.header if name not in {target, *drop}]
    if not names:
        divided = f", of those that {table.delimiter!r} divides" if table.delimiter else ""
        raise DataError(
            f"{table.names_place}: one column only{divided}: features and a target are needed"
        )
    found = _columns(table, names, target, one_hot_columns)
    categories: dict[str, tuple[str, ...] | None] = dict.fromkeys(names)
    for name in names:
        if found[name].dtype == object and (one_hot or name in one_hot_columns):
            categories[name] = _categories(table, name, found[name], name in one_hot_columns)
    return _raw(table, found, target, categories, set(names) if impute else set())


def read_like(
    table: Table,
    target: str | None,
    features: Sequence[str] | None,
    encoding: Encoding | None,
    count: int | None = None,
) -> Raw:
    """Read a table for a trained model; the target may be absent.

    Args:
        table: the table.
        target: the target column; for a model without names of features, by default the last.
        features: the columns that the model was trained on, of which alone are read; None if they
            have no names.
        encoding: how the model takes text and missing values.
        count: the number of features, if they have no names: a table with this many columns has no
            target.

    Raises:
        DataError: names the place, the column and the value.
    """
    _check_names(table)
    if features is None:
        if count != len(table.header):
            return read(table, target, impute=encoding is not None)
        features, target = table.header, None
    columns = set(table.header)
    for name in features:
        if name not in columns:
            raise DataError(
                f"{table.names_place}: no column {name!r}, which the model was trained on; there "
                f"are {_listed(table.header)}"
            )
    target = target if target in columns else None
    categories: dict[str, tuple[str, ...] | None] = dict.fromkeys(features)
    fillable: set[str] = set()
    if encoding is not None:
        categories = dict(zip(features, encoding.categories, strict=True))
        fillable = {
            name for name, fill in zip(features, encoding.fill, strict=True) if fill is not None
        }
    encoded = [name for name, each in categories.items() if each is not None]
    if target is not None and not table.typed:
        encoded.append(target)  # "01" may be one of the model's classes
    found = _columns(table, features, target, encoded)
    return _raw(table, found, target, categories, fillable, trained=True)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")


def _check_names(table: Table) -> None:
    (common, times), *_ = Counter(table.header).most_common(1) or [("", 0)]
    if not times:
        raise DataError(f"{table.names_place}: has no columns")
    if times > 1:
        cure = "rename one" if finite_number(common) is None else "the first line must name them"
        raise DataError(f"{table.names_place}: two columns are called {common!r}: {cure}")


def _columns(
    table: Table, names: Sequence[str], target: str | None, as_text: Collection[str]
) -> dict[str, np.ndarray]:
    """Read the features and the target."""
    if target is None:
        return table.read(names, as_text)
    columns = table.read([*names, target], as_text)
    y = columns[target]
    if not table.typed and y.dtype != object and not np.isfinite(y).all():
        # In targets, words such as NA are no missing numbers: they may be classes.
        columns |= table.read([target], {target})
    return columns


def _raw(
    table: Table,
    columns: dict[str, np.ndarray],
    target: str | None,
    categories: dict[str, tuple[str, ...] | None],
    fillable: set[str],
    trained: bool = False,
) -> Raw:
    """Check columns and put them together.

    Args:
        table: the table.
        columns: the features and the target.
        target: the name of the target, if there is one.
        categories: the categories of each feature; None for numbers.
        fillable: the features that may have missing values.
        trained: whether the categories are those of a trained model.
    """
    numbers = {
        name: columns[name] if each is None else _numbers_of(columns[name], each)
        for name, each in categories.items()
    }
    _check_features(table, columns, numbers, categories, fillable, trained)
    y = y_text = None
    if target is not None:
        y, y_text = _targets(table, columns[target], target)
    encoded = any(each is not None for each in categories.values())
    return Raw(
        table.name, _side_by_side(list(numbers.values())), y, (len(numbers),), from_file=True,
        features=tuple(numbers), target=target, header=None if table.typed else table.header,
        categories=tuple(categories.values()) if encoded else None,
        y_text=y_text, delimiter=table.delimiter, decimal=table.decimal,
    )  # fmt: skip


def _targets(table: Table, y: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Return targets as numbers if all are, else as text; and as text if they were read as that."""
    if y.dtype == object and table.decimal == ",":
        y = as_objects([_with_point(text) for text in y])
    _check_target(table, y, name)
    if y.dtype != object:
        return y, None
    numbers = None if table.typed else finite_numbers(y)
    return (np.array(y.tolist()), None) if numbers is None else (numbers, y)


def _with_point(text: str) -> str:
    """Write a number with a decimal point in place of a comma; leave other text as it is."""
    changed = text.replace(",", ".")
    return text if finite_number(changed) is None else changed


def _numbers_of(texts: np.ndarray, categories: tuple[str, ...]) -> np.ndarray:
    """Number texts by their categories: NaN for a missing one, infinity for one of no category."""
    numbers = {category: float(i) for i, category in enumerate(categories)} | {"": np.nan}
    index = defaultdict(lambda: np.inf, numbers)
    return np.fromiter(map(index.__getitem__, texts), np.float64, len(texts))


def _side_by_side(columns: list[np.ndarray]) -> np.ndarray:
    """Return columns as a matrix; by blocks, which the processor's cache holds."""
    x = np.empty((len(columns[0]), len(columns)))
    rows = max(1, 2**16 // len(columns))
    for start in range(0, len(x), rows):
        part = [column[start : start + rows] for column in columns]
        np.stack(part, axis=1, out=x[start : start + rows])
    return x


def _categories(table: Table, name: str, texts: np.ndarray, named: bool) -> tuple[str, ...]:
    """Return the categories of a column, in order."""
    counts = Counter(texts.tolist())
    if not named and _amounts_with_text(table, counts):
        row = next(
            i for i, text in enumerate(texts) if text not in MISSING and not _is_number(table, text)
        )
        raise _refusal(
            table, row, name,
            "and most others are numbers: fill it in, leave the column out (drop, --drop), or name "
            "it (one_hot_columns, --one-hot-columns)",
        )  # fmt: skip
    categories = sorted(set(counts) - {""})
    if len(categories) > MOST_CATEGORIES:
        problem = f"more than the {MOST_CATEGORIES:,} that become features"
    elif not named and len(categories) > max(MOST_CLASSES, len(texts) / ROWS_PER_CLASS):
        problem = "which tell rows apart more than categories"
    else:
        return tuple(categories)
    raise DataError(
        f"{table.names_place}: {name!r} has {len(categories):,} different texts in {len(texts):,} "
        f"rows, {problem}: leave it out (drop, --drop)"
        + ("" if named else ", or name it (one_hot_columns, --one-hot-columns)")
    )


def _check_features(
    table: Table,
    columns: dict[str, np.ndarray],
    numbers: dict[str, np.ndarray],
    categories: dict[str, tuple[str, ...] | None],
    fillable: set[str],
    trained: bool,
) -> None:
    """Raise DataError for the first row with a value that cannot be trained on."""
    found = []
    for place, (name, values) in enumerate(numbers.items()):
        if values.dtype == object:  # text where numbers are needed
            wrong = np.array([not _is_number(table, text) for text in values])
            missing = np.array([text in _missing(table) for text in values])
        else:
            wrong = ~np.isfinite(values)
            missing = np.isnan(values)
        if name in fillable:
            wrong &= ~missing
        if wrong.any():
            row = int(np.argmax(wrong))
            found.append((row, place, name, bool(missing[row])))
    if not found:
        return
    row, _, name, missing_there = min(found)
    known = categories[name]
    if missing_there:
        cure = "the model was trained to fill no value in" if trained else "impute, --impute"
        problem = f"missing: fill it in ({cure}), or leave row or column out"
    elif known is not None:
        among = ", ".join(map(repr, known[:10])) + (", ..." if len(known) > 10 else "")
        problem = f"none of the categories that the model knows, {among}"
    elif numbers[name].dtype != object:
        problem = "not a finite number: fill it in, or leave row or column out"
    elif trained:
        problem = "not a finite number, and the model was trained on numbers there"
    elif not table.typed and _amounts_with_text(table, Counter(columns[name])):
        problem = "not a finite number: fill it in, or leave row or column out (drop, --drop)"
    else:
        what = "text" if table.typed else "not a finite number"
        problem = (
            f"{what}: one-hot encode it (one_hot, --one-hot), or leave the column out "
            "(drop, --drop)"
        )
    raise _refusal(table, row, name, problem)


def _is_number(table: Table, text: str) -> bool:
    return not table.typed and finite_number(text, table.decimal or ".") is not None


def _missing(table: Table) -> Collection[str]:
    """Return what stands for a missing number where a column has text too."""
    return {""} if table.typed else MISSING


def _amounts_with_text(table: Table, counts: Mapping[str, int]) -> bool:
    """Return whether a column of text has amounts, but for a few texts and missing values."""
    point = _with_point if table.decimal == "," else str
    return amounts_with_text(
        {point(text): count for text, count in counts.items() if text not in MISSING}
    )


def _check_target(table: Table, y: np.ndarray, name: str) -> None:
    """Check that no target is missing and, if all are numbers, that all are finite."""
    if y.dtype != object:
        wrong = ~np.isfinite(y)
    elif finite_numbers(y) is not None:
        return
    else:
        numbers = all(_parses(text) for text in y if text)
        wrong = np.array([not text or (numbers and finite_number(text) is None) for text in y])
    if wrong.any():
        problem = "not a finite number: fill it in, or leave the row out"
        raise _refusal(table, int(np.argmax(wrong)), name, problem)


def _parses(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _refusal(table: Table, row: int, name: str, problem: str) -> DataError:
    """Return the error for a value: its place, the column, the value and what is wrong with it."""
    place, text = table.locate(row, name)
    if not text:
        problem = problem.partition(": ")[2]
    return DataError(
        f"{place}: {name!r} is {repr(text[:40]) + ',' if text else 'empty:'} {problem}"
    )

"""DataFrames of pandas, polars and other libraries: columns as numbers or text."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np

from nnxp.datasets.texts import as_objects, written
from nnxp.errors import DataError


def is_frame(value: object) -> bool:
    """Return whether `value` is a DataFrame or a table of Arrow."""
    if isinstance(value, type) or not hasattr(value, "__getitem__"):
        return False
    return hasattr(value, "column_names") or (
        # In this order: to ask a LazyFrame of polars for its columns warns.
        hasattr(value, "to_numpy") and hasattr(value, "columns")
    )


class Frame:
    """A DataFrame, or a table of Arrow.

    Attributes:
        name: what errors call it.
        names_place: the place of the names, for errors.
        header: the name of each column.
    """

    typed = True
    delimiter: str | None = None
    decimal: str | None = None

    def __init__(self, frame: Any, name: str = "DataFrame") -> None:
        """Take a frame as it is.

        Args:
            frame: a DataFrame of pandas or polars, or another object whose columns have `to_numpy`.
            name: what errors call it.
        """
        self.name = self.names_place = name
        self._frame = frame
        keys = list(frame.column_names if hasattr(frame, "column_names") else frame.columns)
        self.header = tuple(str(key).strip() for key in keys)
        self._keys = dict(zip(self.header, keys, strict=True))

    def read(self, names: Sequence[str], as_text: Collection[str]) -> dict[str, np.ndarray]:
        """Read columns.

        Args:
            names: the columns, each of another name.
            as_text: those that are text, also if they have numbers.

        Returns:
            float64, NaN where a value is missing; or strings, dtype object, empty where a value is
            missing. Columns of categories are text, also if the categories are numbers.

        Raises:
            DataError: a column has dates or other values that are no numbers and no text, or there
                are no rows.
        """
        return {name: self._column(name, name in as_text) for name in names}

    def locate(self, row: int, name: str) -> tuple[str, str]:
        """Return the place of a row, "DataFrame, row 3 (from 0)", and what it has in a column."""
        place = f"{self.name}, row {row} (from 0)"
        index = getattr(self._frame, "index", None)
        if index is not None and (label := index[row]) != row:
            place += f", index {label!r}"
        return place, str(self._series(name).to_numpy()[row])

    def _series(self, name: str) -> Any:
        return self._frame[self._keys[name]]

    def _column(self, name: str, as_text: bool) -> np.ndarray:
        series = self._series(name)
        kind = str(getattr(series, "dtype", getattr(series, "type", "")))
        values = series.to_numpy()
        if not len(values):
            raise DataError(f"{self.name}: has no rows")
        if values.ndim != 1:
            pass  # a struct
        elif values.dtype.kind in "buif":
            numbers = values.astype(np.float64)
            categories = as_text or kind.startswith(("category", "dictionary"))
            return as_objects(list(map(_text, numbers.tolist()))) if categories else numbers
        elif values.dtype.kind in "OUT":
            found = [_value(value) for value in values.tolist()]
            strange = next((each for each in found if isinstance(each, type)), None)
            if strange is None:
                if as_text or any(isinstance(each, str) and each for each in found):
                    return as_objects(list(map(_text, found)))
                return np.array([each or math.nan if each == "" else each for each in found], float)
            kind = strange.__name__
        raise DataError(
            f"{self.names_place}: {name!r} has values of type {kind}, not numbers or text: make "
            "numbers of them, such as days, or leave the column out (drop, --drop)"
        )


def _value(value: Any) -> Any:
    """Return a number, a text or, for anything else, its type; "" for what is missing."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, (Real, Decimal, np.bool_)):
        number = float(value)
        return "" if math.isnan(number) else number
    return type(value)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if math.isnan(value) else written(value)

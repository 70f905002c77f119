"""Numbers and missing values as files write them."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

MISSING = frozenset(
    {
        "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
        "<NA>", "?", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
    }
)  # fmt: skip
"""What a column of numbers may have instead of one: the list of pandas, and "?" of the UCI sets.

In a column of text only an empty field is missing: NA may be Namibia, and None no garage."""


def finite_number(text: str, decimal: str = ".") -> float | None:
    """Parse a finite number; return None for any other text, such as "nan", "inf" or "1_000"."""
    number = _number(text, decimal)
    return number if number is not None and math.isfinite(number) else None


def _number(text: str, decimal: str) -> float | None:
    if decimal != ".":
        text = "" if "." in text else text.replace(decimal, ".")
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def finite_numbers(texts: Collection[str]) -> np.ndarray | None:
    """Parse texts if all are finite numbers; None if one is not."""
    try:
        numbers = np.fromiter(map(float, texts), np.float64, len(texts))
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() and "_" not in "".join(texts) else None


def parse(texts: list[str], decimal: str = ".") -> np.ndarray:
    """Parse a column of a text file: numbers if it has nothing else, and text otherwise.

    Args:
        texts: the fields, in any number of spaces.
        decimal: the decimal sign.

    Returns:
        float64, NaN where a value is missing and infinity where a number is not finite; or strings
        without the spaces, dtype object, empty where a value is missing.
    """
    if decimal == "." and (numbers := finite_numbers(texts)) is not None:
        return numbers
    found = []
    for text in texts:
        number = math.nan if text.strip() in MISSING else _number(text, decimal)
        if number is None:
            return as_objects([text.strip() for text in texts])
        # Only what is missing may be filled in, and "NAN" or "1e999" is not.
        found.append(number if math.isfinite(number) or text.strip() in MISSING else math.inf)
    return np.array(found, dtype=np.float64)


def as_objects(texts: list[str]) -> np.ndarray:
    """Return strings as an array of objects, whose memory does not depend on the longest."""
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array


def written(number: float) -> str:
    """Write a number as the name of a category or a class: 3.0 as "3"."""
    return f"{number:.17g}"

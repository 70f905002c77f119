"""Parse JSON that others wrote: bounded in size and depth, and without what JSON does not have."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from nnxp.errors import shown

MOST_VALUES = 2**21
"""The most values in a text, an object counted as six of them: then it is parsed in about a second
and takes less than 200 MB in Python."""
DEEPEST = 100
"""The most lists and objects inside each other, which functions that call themselves can follow."""
_TOO_DEEP = f"deeper than {DEEPEST} lists or objects"


def loads(text: str | bytes, *, finite: bool = True) -> Any:
    """Parse a text, UTF-8 if it is bytes.

    Args:
        text: the text.
        finite: whether to refuse numbers that are not: what Python writes as NaN and Infinity.

    Raises:
        ValueError: it is not JSON, has a key twice, a number that is not finite, more than about
            `MOST_VALUES` values, or lists deeper than `DEEPEST`.
    """
    text = text if isinstance(text, str) else text.decode()
    # Counted before anything is made of it, so those in strings count, too.
    if text.count(",") + text.count("[") + 6 * text.count("{") > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES:,} values")
    try:
        numbers: Any = {"parse_float": _finite, "parse_constant": _refuse} if finite else {}
        value = json.loads(text, object_pairs_hook=_object, **numbers)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    _check_depth(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"has {shown(key)} twice")
            seen.add(key)
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{shown(text)} is no finite number")
    return number


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for each in level
            if isinstance(each, (dict, list))
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    if any(isinstance(each, (dict, list)) for each in level):
        raise ValueError(_TOO_DEEP)

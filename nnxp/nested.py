"""Nested tuples and lists of arrays, such as the state of a training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from nnxp.arrays import Array


def leaves(nested: Any) -> list[Array]:
    """Return the arrays of nested tuples and lists, in order."""
    if isinstance(nested, (list, tuple)):
        return [leaf for each in nested for leaf in leaves(each)]
    return [nested]


def rebuilt(nested: Any, others: Iterable[Array]) -> Any:
    """Replace the leaves of `nested` by others, in the same order; keep named tuples."""
    return _rebuilt(nested, iter(others))


def _rebuilt(nested: Any, others: Iterator[Array]) -> Any:
    if isinstance(nested, (list, tuple)):
        parts = [_rebuilt(each, others) for each in nested]
        return type(nested)(*parts) if hasattr(nested, "_fields") else type(nested)(parts)
    return next(others)


def shapes(nested: Any) -> Any:
    """Return the shapes of nested arrays as nested tuples, which hash; None for a number."""
    if isinstance(nested, (list, tuple)):
        return tuple(map(shapes, nested))
    return tuple(nested.shape) if hasattr(nested, "shape") else None

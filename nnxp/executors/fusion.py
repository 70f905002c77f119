"""Groups of recorded calls that may run as one loop, so that they pass over memory once.

A GPU takes longer to start a kernel than to compute a small network's layer, and a CPU takes longer
to fetch a large layer from memory than to multiply it. nnxp's kernels do not change: fusion works
on the recorded calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from nnxp.arrays import Array
from nnxp.executors.recording import ArrayOps, Call


class Group:
    """Elementwise calls, in order, on arrays of one shape; or a single call of any kind."""

    def __init__(self, call: Call, library: ArrayOps) -> None:
        self.calls = [call]
        self.library = library

    def admit(self, call: Call) -> bool:
        """Append the call and return True, if it may run in the same loop.

        If one call writes an element that another reads or writes, both must reach it in the same
        iteration.
        """
        place = self.library.place
        may_join = (
            self.calls[0].is_elementwise
            and call.is_elementwise
            and call.writes.shape == self.calls[0].writes.shape
            and all(place(a) == place(b) for a, b in self.conflicts(call))
        )
        if may_join:
            self.calls.append(call)
        return may_join

    def conflicts(self, call: Call) -> Iterator[tuple[Array, Array]]:
        """Yield pairs of an array of the group and one of the call whose order matters.

        They share memory, and at least one of them is written.
        """
        for mine in self.calls:
            pairs = [(mine.writes, call.writes)]
            pairs += [(mine.writes, each) for each in call.reads if is_array(each)]
            pairs += [(each, call.writes) for each in mine.reads if is_array(each)]
            for a, b in pairs:
                if self.library.module.may_share_memory(a, b):
                    yield a, b


AnyGroup = TypeVar("AnyGroup", bound=Group)


def groups(
    calls: Iterable[Call], library: ArrayOps, kind: Callable[[Call, ArrayOps], AnyGroup]
) -> list[AnyGroup]:
    """Group the calls. Running the groups in order has the same effect as running the calls.

    Args:
        calls: recorded by a library that does not reuse memory.
        library: the library that recorded them.
        kind: makes a group of one call.
    """
    result: list[AnyGroup] = []
    for call in calls:
        for group in reversed(result):
            if group.admit(call):
                break
            if any(True for _ in group.conflicts(call)):
                result.append(kind(call, library))
                break
        else:
            result.append(kind(call, library))
    return result


def is_array(operand: Any) -> bool:
    """Return whether the operand of a call is an array and not a number."""
    return hasattr(operand, "shape")

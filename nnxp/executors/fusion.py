"""Elementwise calls of a recorded step put together, to go over memory once instead of often.

A GPU takes longer to start a kernel than a small network's layer takes to compute, and a CPU
longer to fetch a large layer from memory than to multiply it. The kernels stay as they are: what
is put together is found among the calls that were recorded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nnxp.arrays import Array
from nnxp.executors.recording import ArrayOps, Call, Function, Made


class Group:
    """Calls in their order that go over arrays of one shape, element by element: or a lone call."""

    def __init__(self, call: Call) -> None:
        self.calls = [call]

    def admits(self, call: Call, library: ArrayOps) -> bool:
        """Whether the group may do this call, too.

        If either reads an element that the other writes, or writes it too, both must come to it at
        the same place of their loops.
        """
        first = self.calls[0]
        return (
            first.formula is not None
            and call.formula is not None
            and call.writes.shape == first.writes.shape
            and all(library.place(a) == library.place(b) for a, b in self._conflicts(call, library))
        )

    def conflicts(self, call: Call, library: ArrayOps) -> bool:
        """Whether the order of the group and this call matters."""
        return any(True for _ in self._conflicts(call, library))

    def _conflicts(self, call: Call, library: ArrayOps) -> Iterable[tuple[Array, Array]]:
        """Pairs of arrays that share memory, and one of each pair is written."""
        for mine in self.calls:
            pairs = [(mine.writes, call.writes)]
            pairs += [(mine.writes, each) for each in call.reads if _is_array(each)]
            pairs += [(each, call.writes) for each in mine.reads if _is_array(each)]
            for a, b in pairs:
                if library.module.may_share_memory(a, b):
                    yield a, b


def groups(calls: Iterable[Call], library: ArrayOps) -> list[Group]:
    """The calls, grouped; to do the groups in their order is to do the calls."""
    found: list[Group] = []
    for call in calls:
        joined = False
        for group in reversed(found):
            if group.admits(call, library):
                group.calls.append(call)
                joined = True
            if joined or group.conflicts(call, library):
                break
        if not joined:
            found.append(Group(call))
    return found


def fused(
    calls: Iterable[Call], kept: list[Array], library: ArrayOps, fuse: Function
) -> list[Made]:
    """Functions and their arguments that do what the calls do.

    Args:
        calls: a step's, recorded by a library that does not reuse memory.
        kept: the arrays that what comes after the calls reads.
        library: that recorded them.
        fuse: makes one kernel of an elementwise function and the arrays that it is for; None if
            it cannot.
    """
    found = groups(calls, library)
    result = []
    for group in found:
        if len(group.calls) == 1:
            result.append(group.calls[0].made)
            continue
        read_after = [
            each
            for other in found
            if other is not group
            for call in other.calls
            for each in call.reads
            if _is_array(each)
        ]
        together, arguments = _one(group.calls, [*read_after, *kept], library)
        kernel = fuse(together, arguments)
        if kernel is None:
            result += [call.made for call in group.calls]
        else:
            result.append((kernel, arguments))
    return result


def _one(calls: list[Call], read_after: list[Array], library: ArrayOps) -> Made:
    """A function of all calls, and its arguments: what they read, and where they write."""
    arguments: dict[Any, Any] = {}
    written: dict[Any, Any] = {}
    for call in calls:
        for each in call.reads:
            if _is_array(each) and library.place(each) not in written:
                arguments.setdefault(library.place(each), each)
        written[library.place(call.writes)] = call.writes
    # The others are no more than a register.
    outputs = {
        place: array
        for place, array in written.items()
        if any(library.module.may_share_memory(array, each) for each in read_after)
    }
    arguments.update(outputs)
    formulas: list[Any] = [
        (
            call.formula,
            [
                (library.place(each), None) if _is_array(each) else (None, each)
                for each in call.reads
            ],
            library.place(call.writes),
            call.writes.dtype,
        )
        for call in calls
    ]
    places = list(arguments)

    def together(*values: Any) -> None:
        known = dict(zip(places, values, strict=True))
        targets = {place: known[place] for place in outputs}
        for formula, operands, place, dtype in formulas:
            value = formula(*(known.get(p, number) for p, number in operands))
            known[place] = value if value.dtype == dtype else value.astype(dtype)
        for place, target in targets.items():
            target[...] = known[place]

    return together, tuple(arguments.values())


def _is_array(operand: Any) -> bool:
    return hasattr(operand, "shape")

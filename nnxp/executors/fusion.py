"""Fusion of elementwise calls of a recorded step, so that they pass over memory once.

A GPU takes longer to start a kernel than to compute a small network's layer, and a CPU takes longer
to fetch a large layer from memory than to multiply it. nnxp's kernels do not change: fusion works
on the recorded calls.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nnxp.arrays import Array
from nnxp.executors.recording import ArrayOps, Call, Function, Made


class Group:
    """Elementwise calls, in order, on arrays of one shape; or a single call of any kind."""

    def __init__(self, call: Call) -> None:
        self.calls = [call]

    def admits(self, call: Call, library: ArrayOps) -> bool:
        """Return whether this call may join the group.

        If one writes an element that the other reads or writes, both must reach it in the same
        iteration of their loops.
        """
        first = self.calls[0]
        return (
            first.formula is not None
            and call.formula is not None
            and call.writes.shape == first.writes.shape
            and all(library.place(a) == library.place(b) for a, b in self._conflicts(call, library))
        )

    def conflicts(self, call: Call, library: ArrayOps) -> bool:
        """Return whether the order of the group and this call matters."""
        return any(True for _ in self._conflicts(call, library))

    def _conflicts(self, call: Call, library: ArrayOps) -> Iterable[tuple[Array, Array]]:
        """Yield pairs of arrays that share memory and of which at least one is written."""
        for mine in self.calls:
            pairs = [(mine.writes, call.writes)]
            pairs += [(mine.writes, each) for each in call.reads if _is_array(each)]
            pairs += [(each, call.writes) for each in mine.reads if _is_array(each)]
            for a, b in pairs:
                if library.module.may_share_memory(a, b):
                    yield a, b


def groups(calls: Iterable[Call], library: ArrayOps) -> list[Group]:
    """Group the calls. Running the groups in order has the same effect as running the calls."""
    result: list[Group] = []
    for call in calls:
        joined = False
        for group in reversed(result):
            if group.admits(call, library):
                group.calls.append(call)
                joined = True
            if joined or group.conflicts(call, library):
                break
        if not joined:
            result.append(Group(call))
    return result


def fused(
    calls: Iterable[Call], kept: list[Array], library: ArrayOps, fuse: Function
) -> list[Made]:
    """Return functions and their arguments that have the same effect as the calls.

    Args:
        calls: the calls of a step, recorded by a library that does not reuse memory.
        kept: the arrays that are read after the calls.
        library: the library that recorded them.
        fuse: fuse(function, arrays) returns one kernel for an elementwise function and its
            arrays, or None if it cannot.
    """
    grouped = groups(calls, library)
    result = []
    for group in grouped:
        if len(group.calls) == 1:
            result.append(group.calls[0].made)
            continue
        read_after = [
            each
            for other in grouped
            if other is not group
            for call in other.calls
            for each in call.reads
            if _is_array(each)
        ]
        function, arguments = _combine(group.calls, [*read_after, *kept], library)
        kernel = fuse(function, arguments)
        if kernel is None:
            result += [call.made for call in group.calls]
        else:
            result.append((kernel, arguments))
    return result


def _combine(calls: list[Call], read_after: list[Array], library: ArrayOps) -> Made:
    """Combine calls into one function; return it and its arguments, inputs and outputs."""
    arguments: dict[Any, Any] = {}
    written: dict[Any, Any] = {}
    for call in calls:
        for each in call.reads:
            if _is_array(each) and library.place(each) not in written:
                arguments.setdefault(library.place(each), each)
        written[library.place(call.writes)] = call.writes
    # Other results stay in registers.
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

    def combined(*arrays: Any) -> None:
        values = dict(zip(places, arrays, strict=True))
        targets = {place: values[place] for place in outputs}
        for formula, operands, place, dtype in formulas:
            value = formula(*(values.get(p, number) for p, number in operands))
            values[place] = value if value.dtype == dtype else value.astype(dtype)
        for place, target in targets.items():
            target[...] = values[place]

    return combined, tuple(arguments.values())


def _is_array(operand: Any) -> bool:
    return hasattr(operand, "shape")

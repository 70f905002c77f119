"""A chunk of training steps on NumPy: recorded once, then replayed in the same memory.

A small network spends most of a step's time between NumPy's calls. A large one spends much of it on
memory that the system maps for every result. A replay avoids both, like a CUDA graph on a GPU.

A step that cannot be recorded runs by `eager`, and the reason is reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from typing import Any

import numpy as np

from nnxp.arrays import Array
from nnxp.errors import described
from nnxp.executors import Host, Rate, Report, Runner, State, Step, eager
from nnxp.executors.fusion import Group, groups
from nnxp.executors.recording import ArrayOps, Call, Made, Program, UnrecordableError
from nnxp.nested import leaves, shapes

_Calls = list[Made]

_NUMPY = ArrayOps()
_BLOCK = 2**17
"""Bytes of a block of an array, so that six blocks fit in a core's cache."""
_MIN_BLOCKED_CALLS = 6
"""Elementwise calls on the same arrays from which blocks are faster; Adam has ten."""


def runner(step: Step, backend: Host, report: Report) -> Runner:
    """Return a function like `eager.run` that records `step` and replays it."""
    programs: dict[Hashable, tuple[Program, _Calls] | None] = {}
    last: State = None
    last_shapes: Any = None

    def run(
        state: State, data: tuple[Array, ...], order: Array, learning_rate: Rate
    ) -> tuple[State, Array]:
        if not order.shape[0]:
            return eager.run(step, state, data, order, learning_rate)
        # One program for full batches and one for the last, smaller batch of an epoch. Both work
        # on the arrays of the first state, which every returned state consists of.
        nonlocal last, last_shapes
        if state is not last:
            last, last_shapes = state, shapes(state)
        key = (order.shape[1], last_shapes, *(array.shape for array in data))
        if key not in programs:
            try:
                programs[key] = _program(step, state, data, order)
            except Exception as error:  # if the step itself fails, `eager` raises its error
                programs[key] = None
                report(f"steps run eagerly: they cannot be recorded ({described(error)})")
        recorded = programs[key]
        if recorded is None:
            return eager.run(step, state, data, order, learning_rate)
        return _replay(*recorded, state, data, order, learning_rate)

    return run


def _program(
    step: Step, state: State, data: tuple[Array, ...], order: Array
) -> tuple[Program, _Calls]:
    """Record `step` for this batch size."""
    state_arrays = leaves(state)
    for leaf in state_arrays:
        if not isinstance(leaf, np.ndarray):
            raise UnrecordableError(f"the state holds a {type(leaf).__name__}, not an array")
    before = [leaf.copy() for leaf in state_arrays]
    try:
        program = Program(step, state, data, order[0], _NUMPY)
        return program, list(_by_blocks(program.calls))
    finally:  # undo the step that the recording ran
        for leaf, old in zip(state_arrays, before, strict=True):
            np.copyto(leaf, old)


def _replay(
    program: Program,
    calls: _Calls,
    state: State,
    data: tuple[Array, ...],
    order: Array,
    learning_rate: Rate,
) -> tuple[State, Array]:
    program.load_state(state, learning_rate)
    gathers = [(array.take, batch) for array, batch in zip(data, program.batch, strict=True)]
    for rows in order:
        for take, batch in gathers:
            take(rows, 0, batch, "clip")  # "clip" avoids a buffer; all rows are in range
        for function, arguments in calls:
            function(*arguments)
    return program.state, program.total.copy()


def _by_blocks(calls: list[Call]) -> Iterator[Made]:
    """Yield the calls; split many elementwise calls on large matrices into blocks of rows."""
    shapes = Counter(call.writes.shape for call in calls if _is_large(call))
    if max(shapes.values(), default=0) < _MIN_BLOCKED_CALLS:
        yield from (call.made for call in calls)  # grouping takes longer than recording
        return
    for group in groups(calls, _NUMPY, Group):
        matrix = group.calls[0].writes
        if len(group.calls) < _MIN_BLOCKED_CALLS or not _is_large(group.calls[0]):
            yield from (call.made for call in group.calls)
            continue
        rows = max(1, _BLOCK * len(matrix) // matrix.nbytes)
        for start in range(0, len(matrix), rows):
            block = slice(start, start + rows)
            for call in group.calls:
                reads = [_cut(array, matrix.shape, block) for array in call.reads]
                yield call.make(reads, call.writes[block])


def _is_large(call: Call) -> bool:
    """Return whether the call is elementwise, on a matrix larger than a block."""
    return call.is_elementwise and call.writes.ndim == 2 and call.writes.nbytes > _BLOCK


def _cut(array: Array, shape: tuple[int, ...], block: slice) -> Array:
    """Return the part of an operand that a block of rows of the result needs."""
    return array[block] if array.ndim == 2 and len(array) == shape[0] else array

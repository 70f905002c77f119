"""A chunk of training steps on NumPy: recorded once, then replayed into the same memory.

On a small network most of a step's time goes between NumPy's calls, on a large one much of it into
memory that the system maps anew for every result. A replay has neither. It is what a CUDA graph is
to a GPU.

A step that cannot be recorded is run as it is, by `eager`, and the reason is reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator

import numpy as np

from nnxp.arrays import Array
from nnxp.errors import described
from nnxp.executors import Host, Rate, Report, Runner, State, Step, eager
from nnxp.executors.fusion import groups
from nnxp.executors.recording import ArrayOps, Call, Made, Program, UnrecordableError
from nnxp.nested import leaves

_Calls = list[Made]

_NUMPY = ArrayOps()
_BLOCK = 2**17
"""Bytes of an array to work on at a time, so that half a dozen such blocks fit a core's cache."""
_WORTH_BLOCKS = 6
"""Elementwise calls on the same arrays from which working by blocks pays; Adam has ten."""


def runner(step: Step, backend: Host, report: Report) -> Runner:
    """Replay `step`, like `eager.run`. Keeps what it recorded, and reports what it could not."""
    programs: dict[Hashable, tuple[Program, _Calls] | None] = {}

    def run(
        state: State, data: tuple[Array, ...], order: Array, learning_rate: Rate
    ) -> tuple[State, Array]:
        if not order.shape[0]:
            return eager.run(step, state, data, order, learning_rate)
        # One program for whole batches and one for an epoch's smaller last; both work on the
        # arrays of the state that the first was given, which every state returned is made of.
        key = (order.shape[1], *(array.shape for array in (*leaves(state), *data)))
        if key not in programs:
            try:
                programs[key] = _program(step, state, data, order)
            except Exception as error:  # if it is the step that is wrong, `eager` will say so
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
    """Record what `step` does to batches of this size."""
    own = leaves(state)
    for leaf in own:
        if not isinstance(leaf, np.ndarray):
            raise UnrecordableError(f"the state holds a {type(leaf).__name__}, not an array")
    before = [leaf.copy() for leaf in own]
    try:
        program = Program(step, state, data, order[0], _NUMPY)
        return program, list(_by_blocks(program.calls))
    finally:  # recording ran a step
        for leaf, old in zip(own, before, strict=True):
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
            take(rows, 0, batch, "clip")  # writes straight into the batch; all are in range
        for function, arguments in calls:
            function(*arguments)
    return program.state, program.total.copy()


def _by_blocks(calls: list[Call]) -> Iterator[Made]:
    """The calls; long rows of elementwise ones on large matrices a block of rows at a time."""
    shapes = Counter(call.writes.shape for call in calls if _is_large(call))
    if max(shapes.values(), default=0) < _WORTH_BLOCKS:
        yield from (call.made for call in calls)  # to group them takes longer than to record them
        return
    for group in groups(calls, _NUMPY):
        matrix = group.calls[0].writes
        if len(group.calls) < _WORTH_BLOCKS or not _is_large(group.calls[0]):
            yield from (call.made for call in group.calls)
            continue
        rows = max(1, _BLOCK * len(matrix) // matrix.nbytes)
        for start in range(0, len(matrix), rows):
            block = slice(start, start + rows)
            for call in group.calls:
                reads = [_cut(array, matrix.shape, block) for array in call.reads]
                yield call.make(reads, call.writes[block])


def _is_large(call: Call) -> bool:
    """Whether it goes, element by element, over a matrix of more than a block."""
    elementwise = call.formula is not None
    return elementwise and call.writes.ndim == 2 and call.writes.nbytes > _BLOCK


def _cut(array: Array, shape: tuple[int, ...], block: slice) -> Array:
    """The part of an operand that goes with a block of rows of the result's shape."""
    return array[block] if array.ndim == 2 and len(array) == shape[0] else array

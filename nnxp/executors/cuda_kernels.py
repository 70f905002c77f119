"""Groups of recorded calls that one CUDA kernel can run.

A kernel works on a matrix. Its calls are elementwise, or reduce the matrix along one axis, or
compute with the results of these reductions. So the loss of a batch is one kernel, from the last
bias to the gradient. `cuda_source` writes the kernels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from nnxp.arrays import Array
from nnxp.executors.cuda_source import (
    ELEMENTWISE,
    FLOATING,
    REDUCTIONS,
    TYPES,
    Element,
    Kind,
    Launch,
    Statement,
    launch,
)
from nnxp.executors.fusion import Group, is_array
from nnxp.executors.recording import ArrayOps, Call


class Kernel(Group):
    """Calls that one kernel can run; or a single call of any kind.

    Attributes:
        shape: that of the matrix.
        axis: the axis that reductions go along; None if there is none. A reduction has one result
            for each index of the other axis.
        statements: the calls; empty if the kernel cannot run the only call.
    """

    def __init__(self, call: Call, library: ArrayOps) -> None:
        super().__init__(call, library)
        self.shape = (0, 0)
        self.axis: int | None = None
        self.statements: list[Statement] = []
        if _is_known(call):
            self.shape = _as_matrix((call.reads[0] if call.axes else call.writes).shape)
            statement = self._statement(call)
            if statement is not None and 0 not in self.shape:
                self._append(call, statement)

    def admit(self, call: Call) -> bool:
        """Append the call and return True, if the kernel can run it too."""
        statement = self._statement(call) if self.statements and _is_known(call) else None
        if statement is None or any(self._races(each, statement) for each in self.statements):
            return False
        self.calls.append(call)
        self._append(call, statement)
        return True

    def kept(self, read_later: Sequence[Array]) -> set[Element]:
        """Return the written elements that share memory with arrays that are read later."""
        share = self.library.module.may_share_memory
        return {
            each.writes
            for each in self.statements
            if any(share(each.writes.array, array) for array in read_later)
        }

    def launch(self, read_later: Sequence[Array]) -> Launch:
        """Return the source and the launch of a kernel that writes only what is read later."""
        return launch(self.shape, self.axis, self.statements, self.kept(read_later))

    def _append(self, call: Call, statement: Statement) -> None:
        self.statements.append(statement)
        if call.axes:
            self.axis = _axis(call)

    def _races(self, mine: Statement, other: Statement) -> bool:
        """Return whether one of them writes what the other reads or writes in another thread.

        A thread has its own elements of the matrix and its own results.
        """
        pairs = [(mine.writes, other.writes)]
        pairs += [(mine.writes, each) for each in other.elements]
        pairs += [(each, other.writes) for each in mine.elements]
        share = self.library.module.may_share_memory
        return any(one != two and share(one.array, two.array) for one, two in pairs)

    def _statement(self, call: Call) -> Statement | None:
        """Return the call as a statement about elements of the matrix; None if it is not one."""
        if call.axes:
            axis = _axis(call)
            if self.axis not in (None, axis) or _as_matrix(call.reads[0].shape) != self.shape:
                return None
            # A vector of results is a column if rows are reduced.
            return self._made(call, Kind.REDUCTION, False, axis == 1)
        rows, columns = self.shape
        results = {None: None, 0: (1, columns), 1: (rows, 1)}[self.axis]
        upright = self.axis == 1 and call.writes.ndim == 1 and call.writes.size == rows
        shape = _as_matrix(call.writes.shape, upright)
        if shape == results:
            statement = self._made(call, Kind.RESULT, upright, upright)
            if statement is None or shape != self.shape or not self._needs_loop(statement):
                return statement
        return self._made(call, Kind.LOOP, upright, upright) if shape == self.shape else None

    def _needs_loop(self, result: Statement) -> bool:
        """Return whether a statement works on what a loop computes, not only on results."""
        in_loops = {each.writes for each in self.statements if each.kind is Kind.LOOP}
        return bool(in_loops & {result.writes, *result.elements})

    def _made(
        self, call: Call, kind: Kind, upright_reads: bool, upright_writes: bool
    ) -> Statement | None:
        reads = [self._element(x, upright_reads) if is_array(x) else x for x in call.reads]
        writes = self._element(call.writes, upright_writes)
        if writes is None or None in reads:
            return None
        return Statement(str(call.name), tuple(reads), writes, kind)

    def _element(self, array: Array, upright: bool) -> Element | None:
        address, shape, strides, dtype = self.library.place(array)
        if any(stride % dtype.itemsize for stride in strides):
            return None
        steps = _as_matrix(tuple(stride // dtype.itemsize for stride in strides), upright, 0)
        lengths = _as_matrix(shape, upright)
        down, across = (0 if n == 1 else step for n, step in zip(lengths, steps, strict=True))
        return Element(address, (down, across), dtype.name, array)


def is_better(kernel: Kernel) -> bool:
    """Return whether the kernel does better than the library's own calls.

    The library's reductions copy their results into the array that is meant for them.
    """
    return len(kernel.statements) > 1 or kernel.axis is not None


def split_totals(calls: Iterable[Call], library: ArrayOps) -> Iterator[Call]:
    """Yield the calls; reduce whole matrices along their rows first, and then the results.

    Many blocks of threads share the first step, and both steps may join other kernels.
    """
    for call in calls:
        if call.name and len(call.axes) == 2 and _is_known(call._replace(axes=(1,))):
            rows = library.module.empty(call.reads[0].shape[0], dtype=call.writes.dtype)
            for reads, writes, axis in (call.reads, rows, 1), ((rows,), call.writes, 0):
                keepdims = writes.ndim == 2
                make = partial(library.reduction, call.name, axis, keepdims)
                yield Call(make, reads, writes, call.name, (axis,))
        else:
            yield call


def _axis(call: Call) -> int:
    """Return the axis of a matrix that a call reduces; a vector is one row."""
    return 1 if call.reads[0].ndim == 1 else call.axes[0]


def _is_known(call: Call) -> bool:
    """Return whether a kernel can run a call of this kind."""
    arrays = [call.writes, *(each for each in call.reads if is_array(each))]
    if not all(each.ndim <= 2 and each.dtype.name in TYPES for each in arrays):
        return False
    if call.axes:
        x, result = arrays[1], call.writes
        is_float = x.dtype == result.dtype and x.dtype.kind == "f"
        return call.name in REDUCTIONS and len(call.axes) == 1 and x.ndim > 0 and is_float
    is_float = all(each.dtype.kind == "f" for each in arrays[1:])
    return call.name in ELEMENTWISE and (is_float or call.name not in FLOATING)


def _as_matrix(shape: tuple[int, ...], upright: bool = False, fill: int = 1) -> tuple[int, int]:
    """Return a shape, or strides, with two axes: a vector is a row, or if `upright` a column."""
    if len(shape) == 2:
        return shape
    vector = shape[0] if shape else fill
    return (vector, fill) if upright else (fill, vector)

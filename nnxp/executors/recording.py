"""Recording of a training step as a list of calls of an array library.

The step runs once on `Recorded` arrays, which compute each operation and record its call with the
arrays that it reads and writes. Repeating the calls repeats the step: the same arithmetic in the
same order gives the same bits, without the Python code around it and without an allocation.
`replay` repeats the calls on NumPy; `cupy_graph` fuses them and captures them in a CUDA graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import array_api_compat.numpy
import numpy as np

from nnxp.arrays import Array
from nnxp.errors import NnxpError
from nnxp.executors import Rate, State, Step
from nnxp.nested import leaves, rebuilt

Function = Callable[..., Any]
Made = tuple[Function, tuple[Any, ...]]
"""A function, and the arguments to call it with."""
DType = Any
"""Of the array library."""
Axis = int | tuple[int, ...] | None
"""None for all."""


SPREAD_SIZE = 256
"""Elements from which NumPy compares an array with a number more slowly than with an array."""


class Call(NamedTuple):
    """A call of the library that reads arrays and numbers and writes one array."""

    make: Callable[..., tuple[Callable[..., Any], tuple[Any, ...]]]
    """make(reads, writes) returns the function to call and its arguments."""
    reads: tuple[Any, ...]
    writes: Any
    name: str | None = None
    """The operation, if the call is elementwise or a reduction: NumPy's name, or "copy"."""
    axes: tuple[int, ...] = ()
    """The axes of a reduction."""

    @property
    def is_elementwise(self) -> bool:
        """Whether element by element of the result depends on the same elements of the operands."""
        return self.name is not None and not self.axes

    @property
    def made(self) -> Made:
        """The function to call and its arguments."""
        return self.make(self.reads, self.writes)


class UnrecordableError(NnxpError):
    """The step does something that a repetition of its calls would not repeat."""


class ArrayOps:
    """The calls of an array library: here NumPy's; a subclass overrides what differs."""

    module: Any = np
    xp: Any = array_api_compat.numpy
    reuses_memory = True
    """Whether result buffers are reused once unreferenced."""

    def __init__(self) -> None:
        self._spreads: dict[Any, Array] = {}
        self.namespace = _Namespace(self)
        self.array_type = type("Recorded", (Recorded,), {"__slots__": (), "library": self})

    def empty(self, size: int) -> Array:
        """Allocate `size` bytes."""
        return self.module.empty(size, dtype=self.module.uint8)

    def place(self, array: Array) -> Any:
        """Return an array's address, shape, strides and dtype, which identify it."""
        address = array.__array_interface__["data"][0]
        return address, array.shape, array.strides, array.dtype

    def number(self, value: Any, dtype: DType) -> Any:
        """Convert a Python number to the operand of a ufunc whose arrays have this dtype."""
        return np.asarray(value, dtype=dtype)

    # The methods below make a call: from its operands and the array `out` for its result they
    # return a function and its arguments.

    def ufunc(self, function: Function, operands: Sequence[Array], out: Array) -> Made:
        if function in (np.maximum, np.minimum):  # only these need `out` by name
            operands = [self._spread(each, out) for each in operands]
            return partial(function, *operands, out=out), ()
        return function, (*operands, out)

    def _spread(self, operand: Array, like: Array) -> Array:
        """Return a number as an array of the result's layout, of which NumPy's extrema are faster.

        With a number they take one element at a time, with an array as many as a register holds.
        """
        if not isinstance(operand, np.ndarray) or operand.ndim or operand.dtype.kind != "f":
            return operand
        if like.size < SPREAD_SIZE or not like.flags.forc:
            return operand
        key = float(operand), operand.dtype
        if key not in self._spreads or self._spreads[key].size < like.size:
            self._spreads[key] = np.full(like.size, operand, operand.dtype)
        order = "C" if like.flags.c_contiguous else "F"
        return self._spreads[key][: like.size].reshape(like.shape, order=order)

    def product(self, operands: Sequence[Array], out: Array) -> Made:
        a, b = operands
        if a.shape[-1] == 1 and a.ndim == b.ndim == 2:  # BLAS is slow on an outer product
            return np.multiply, (a, b, out)
        return np.matmul, (a, b, out)

    def reduction(
        self, name: str, axis: Axis, keepdims: bool, operands: Sequence[Array], out: Array
    ) -> Made:
        function = {"sum": np.add, "max": np.maximum, "min": np.minimum}[name].reduce
        return function, (*operands, axis, None, out, keepdims)

    def take(self, axis: Axis, operands: Sequence[Array], out: Array) -> Made:
        # "clip" writes straight into `out`; all indices are in range.
        return np.take, (*operands, axis, out, "clip")

    def cast(self, operands: Sequence[Array], out: Array) -> Made:
        return self.module.copyto, (out, *operands, "unsafe")

    def where(self, operands: Sequence[Array], out: Array) -> Made:
        return _where, (self.module.copyto, *operands, out)

    def fill(self, operands: Sequence[Any], out: Array) -> Made:
        return self.module.copyto, (out, *operands)

    def joined(self, function: Function, axis: Axis, operands: Sequence[Array], out: Array) -> Made:
        return partial(function, operands, axis=axis, out=out), ()


def _where(copyto: Function, condition: Array, x: Array, y: Array, out: Array) -> None:
    copyto(out, y)
    copyto(out, x, "same_kind", condition)


class Program:
    """The calls of one step for one batch size, and the arrays that they work on.

    Args:
        step: see `nnxp.executors.Step`.
        state: overwritten with the state after one step.
        data: arrays of one row per sample, from which batches are taken.
        rows: (batch,), the samples of the recorded step.
        library: makes the calls of the arrays' library.
        learning_rate: of the recorded step.

    Raises:
        UnrecordableError: the step does something that cannot be recorded.
    """

    def __init__(
        self,
        step: Step,
        state: State,
        data: tuple[Array, ...],
        rows: Array,
        library: ArrayOps,
        learning_rate: Rate = 0.0,
    ) -> None:
        module = library.module
        self.state = state
        self.leaves = leaves(state)
        self.learning_rate = module.zeros((), dtype=self.leaves[0].dtype)
        self.total = module.zeros((), dtype=self.leaves[0].dtype)
        self.learning_rate[...] = learning_rate
        self.batch = [module.take(array, rows, axis=0) for array in data]
        self.calls = self._record(step, library)

    def load_state(self, state: State, learning_rate: Rate) -> None:
        """Set the state and the learning rate, and set the sum of the losses to 0."""
        copyto = self._library.module.copyto
        if state is not self.state:
            for target, source in zip(self.leaves, leaves(state), strict=True):
                if source is not target:
                    copyto(target, source)
        self.learning_rate[...] = learning_rate
        self.total[...] = 0

    def _record(self, step: Step, library: ArrayOps) -> list[Call]:
        """Run one step and return its calls."""
        self._library = library
        tape = _Tape(library, leaves(self.state[0]))
        given = [tape.varying(leaf) for leaf in self.leaves]
        batch = tuple(tape.varying(array) for array in self.batch)
        rate = tape.varying(self.learning_rate)
        new_state, loss = step(rebuilt(self.state, given), batch, rate)
        returned = leaves(new_state)
        for mine, new in zip(self.leaves, returned, strict=True):
            if new.array is mine:
                continue
            if any(library.module.may_share_memory(new.array, leaf) for leaf in self.leaves):
                raise UnrecordableError("the step returns one array of its state as another")
            tape.call(library.cast, (new.array,), mine, "copy")
        add = partial(library.ufunc, library.module.add)
        tape.call(add, (self.total, loss.array), self.total, "add")
        return tape.calls


class _Tape:
    """The calls so far, and free memory, to which the step has no reference any more."""

    def __init__(self, library: ArrayOps, parameters: list[Array]) -> None:
        self.library = library
        self.calls: list[Call] = []
        self.free: dict[int, list[Array]] = {}
        self.columns = {a.shape for a in parameters if a.ndim == 2 and not a.flags.c_contiguous}

    def call(
        self,
        make: Callable[..., Made],
        reads: Sequence[Array],
        writes: Array,
        name: str | None = None,
        axes: tuple[int, ...] = (),
    ) -> None:
        """Make a call, run it and record it."""
        call = Call(make, tuple(reads), writes, name, axes)
        function, arguments = call.made
        function(*arguments)
        self.calls.append(call)

    def varying(self, array: Array) -> Recorded:
        """Wrap an array whose values differ from step to step."""
        return self.library.array_type(self, array, varies=True)

    def result(self, like: Array, dtype: DType = None, order: str | None = None) -> Recorded:
        """Allocate a result of this shape, and of the same dtype and layout unless given.

        NumPy gives a result the layout of its operands. With another layout than in an eager step
        it would be summed in another order, and a reshape would need a copy.
        """
        dtype = np.dtype(dtype or like.dtype)
        order = order or _order(like)
        block = _Block(self, math.prod(like.shape) * dtype.itemsize)
        array = block.memory.view(dtype).reshape(like.shape, order=order)
        return self.library.array_type(self, array, True, block)

    def product_order(self, left: Array, value: Any) -> str:
        """Return a product's layout: a weight's gradient, x^T dz, has the layout of the weight."""
        return _order(left) if value.shape in self.columns else "C"


def _order(array: Array) -> str:
    """Return an array's layout: "F", by columns, or "C", by rows."""
    return "F" if array.ndim == 2 and array.strides[0] < array.strides[1] else "C"


class _Block:
    """Memory that returns to the tape when no array uses it any more."""

    def __init__(self, tape: _Tape, size: int) -> None:
        self.free = tape.free.setdefault(size, []) if tape.library.reuses_memory else None
        self.memory = self.free.pop() if self.free else tape.library.empty(size)

    def __del__(self) -> None:
        if self.free is not None:
            self.free.append(self.memory)


class Recorded:
    """An array that records the operations on it.

    The values of arrays that vary differ from step to step. The others are computed once, from
    constants only.
    """

    __slots__ = ("array", "block", "tape", "varies")
    __array_ufunc__ = None  # NumPy's arrays leave operations to this class
    library: ArrayOps

    def __init__(self, tape: Any, array: Array, varies: bool, block: _Block | None = None) -> None:
        self.tape = tape
        self.array = array
        self.varies = varies
        self.block = block

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        return self.library.namespace

    shape = property(lambda self: self.array.shape)
    dtype = property(lambda self: self.array.dtype)
    ndim = property(lambda self: self.array.ndim)
    size = property(lambda self: self.array.size)

    @property
    def device(self) -> Any:
        return getattr(self.array, "device", "cpu")

    def view(self, array: Array) -> Recorded:
        """Wrap a view of the same memory."""
        if not self.library.module.may_share_memory(array, self.array):
            raise UnrecordableError("an index that makes a copy")
        return type(self)(self.tape, array, self.varies, self.block)

    def constant(self, array: Array) -> Recorded:
        """Wrap an array that was computed from constants only."""
        return type(self)(None, array, False)

    def changed_by(self, function: Callable[[Array], object]) -> Recorded:
        """Record `function(array)`, which may overwrite the array: a call that nothing reorders."""
        if not self.varies:
            raise UnrecordableError("a constant is overwritten")
        self.tape.call(lambda _, out: (function, (out,)), (self.array,), self.array)
        return self

    @property
    def T(self) -> Recorded:
        return self.view(self.array.T)

    def __getitem__(self, key: Any) -> Recorded:
        return self.view(self.array[key])

    def __neg__(self) -> Recorded:
        return _elementwise(self.library.module.negative, self)

    def __matmul__(self, other: Recorded) -> Recorded:
        value = self.array @ other.array
        if not (self.varies or other.varies):
            return self.constant(value)
        tape = self.tape or other.tape
        out: Recorded = tape.result(value, order=tape.product_order(self.array, value))
        tape.call(self.library.product, (self.array, other.array), out.array)
        return out

    def _value(self, *_: Any, **__: Any) -> Any:
        raise UnrecordableError("a value is read")

    __bool__ = __float__ = __int__ = __index__ = __array__ = __setitem__ = _value


def _elementwise(function: Function, *operands: Array) -> Recorded:
    """Apply a ufunc to arrays and Python numbers; the result has memory of its own."""
    some, tape, arrays = _operands(operands)
    value = function(*arrays)
    if tape is None:
        return some.constant(some.library.module.asarray(value))
    out: Recorded = tape.result(value)
    tape.call(partial(some.library.ufunc, function), arrays, out.array, _ufunc_name(function))
    return out


def _in_place(function: Function, target: Recorded, other: Any) -> Recorded:
    _, tape, arrays = _operands((target, other))
    if tape is not None and not target.varies:
        raise UnrecordableError("a constant is overwritten")
    place, share = target.library.place, target.library.module.may_share_memory
    for each in arrays[1:]:
        # Repeated in parts, as fused calls are, it would read what it has just written.
        overlaps = hasattr(each, "shape") and share(each, target.array)
        if overlaps and place(each) != place(target.array):
            raise UnrecordableError("an array is changed by another view of itself")
    make = partial(target.library.ufunc, function)
    if tape is None:
        call, arguments = make(arrays, target.array)
        call(*arguments)
    else:
        tape.call(make, arrays, target.array, _ufunc_name(function))
    return target


def _ufunc_name(ufunc: Any) -> str:
    """Return a ufunc's name in NumPy."""
    name: str = ufunc.__name__
    return name.removeprefix("cupy_")


def _operands(operands: tuple[Any, ...]) -> tuple[Recorded, _Tape | None, list[Array]]:
    """Return a recorded operand, the tape if any operand varies, and a ufunc's arguments."""
    recorded = [each for each in operands if isinstance(each, Recorded)]
    some = next((each for each in recorded if each.varies), recorded[0])
    dtype = recorded[0].dtype
    arrays = []
    for each in operands:
        if isinstance(each, Recorded):
            arrays.append(each.array)
        elif isinstance(each, bool):
            raise UnrecordableError("a truth value among numbers")
        elif isinstance(each, (int, float)) and (isinstance(each, int) or dtype.kind == "f"):
            arrays.append(some.library.number(each, dtype))
        else:
            raise UnrecordableError(f"{type(each).__name__} with {dtype}")
    return some, some.tape if some.varies else None, arrays


class _Namespace:
    """The part of the standard that can be recorded; any other function ends the recording."""

    def __init__(self, library: ArrayOps) -> None:
        self.library = library

    def sum(self, x: Recorded, /, *, axis: Axis = None, keepdims: bool = False) -> Recorded:
        return self._reduction("sum", x, axis, keepdims)

    def max(self, x: Recorded, /, *, axis: Axis = None, keepdims: bool = False) -> Recorded:
        return self._reduction("max", x, axis, keepdims)

    def min(self, x: Recorded, /, *, axis: Axis = None, keepdims: bool = False) -> Recorded:
        return self._reduction("min", x, axis, keepdims)

    def mean(self, x: Recorded, /, *, axis: Axis = None, keepdims: bool = False) -> Any:
        total: Any = self._reduction("sum", x, axis, keepdims)
        return total / (x.size // total.size)

    def _reduction(self, name: str, x: Recorded, axis: Axis, keepdims: bool) -> Recorded:
        make = partial(self.library.reduction, name, axis, keepdims)
        function, arguments = make((x.array,), None)
        value = function(*arguments)
        if not x.varies:
            return x.constant(self.library.module.asarray(value))
        out: Recorded = x.tape.result(value)
        axes = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        x.tape.call(make, (x.array,), out.array, name, tuple(each % x.ndim for each in axes))
        return out

    def astype(self, x: Recorded, dtype: DType, /, *, copy: bool = True) -> Recorded:
        if not x.varies:
            return x.constant(x.array.astype(dtype))
        if not copy and x.dtype == dtype:
            return x
        out: Recorded = x.tape.result(x.array, dtype)
        x.tape.call(self.library.cast, (x.array,), out.array, "copy")
        return out

    def where(self, condition: Recorded, x: Recorded, y: Recorded, /) -> Recorded:
        operands = condition.array, x.array, y.array
        value = self.library.module.where(*operands)
        out: Recorded = condition.tape.result(value)
        condition.tape.call(self.library.where, operands, out.array, "where")
        return out

    def clip(self, x: Recorded, /, min: float | None = None, max: float | None = None) -> Recorded:
        if min is not None:
            x = _elementwise(self.library.module.maximum, x, min)
        return x if max is None else _elementwise(self.library.module.minimum, x, max)

    def take(self, x: Recorded, indices: Recorded, /, *, axis: int | None = None) -> Recorded:
        operands = x.array, indices.array
        out: Recorded = x.tape.result(self.library.module.take(*operands, axis=axis))
        x.tape.call(partial(self.library.take, axis), operands, out.array)
        return out

    def reshape(self, x: Recorded, /, shape: tuple[int, ...]) -> Recorded:
        value = x.array.reshape(shape)
        if self.library.module.may_share_memory(value, x.array):
            return x.view(value)
        if not x.varies:
            return x.constant(value)
        out: Recorded = x.tape.result(value)
        x.tape.call(self.library.cast, (x.array,), out.array.reshape(x.shape), "copy")
        return out

    def expand_dims(self, x: Recorded, /, *, axis: int = 0) -> Recorded:
        return x.view(self.library.module.expand_dims(x.array, axis))

    def concat(self, arrays: Sequence[Recorded], /, *, axis: int = 0) -> Recorded:
        return self._joined(self.library.module.concatenate, arrays, axis)

    def stack(self, arrays: Sequence[Recorded], /, *, axis: int = 0) -> Recorded:
        return self._joined(self.library.module.stack, arrays, axis)

    def _joined(self, function: Function, arrays: Sequence[Recorded], axis: int) -> Recorded:
        parts = tuple(each.array for each in arrays)
        varying = [each for each in arrays if each.varies]
        value = function(parts, axis=axis)
        if not varying:
            constant: Recorded = arrays[0].constant(value)
            return constant
        out: Recorded = varying[0].tape.result(value)
        varying[0].tape.call(partial(self.library.joined, function, axis), parts, out.array)
        return out

    def zeros_like(self, x: Recorded, /) -> Recorded:
        return self._filled(x, 0)

    def ones_like(self, x: Recorded, /) -> Recorded:
        return self._filled(x, 1)

    def _filled(self, x: Recorded, value: int) -> Recorded:
        """Fill an array in each step, because the step may write into it."""
        if not x.varies:
            return x.constant(self.library.module.full_like(x.array, value))
        out: Recorded = x.tape.result(x.array)
        number = self.library.number(value, x.dtype)
        x.tape.call(self.library.fill, (number,), out.array, "copy")
        return out

    def __getattr__(self, name: str) -> Any:
        ufunc = getattr(self.library.module, name, None)
        if isinstance(ufunc, self.library.module.ufunc):
            return partial(_elementwise, ufunc)
        function = getattr(self.library.xp, name)
        if name in _CREATION:
            return partial(self._constant, function)
        if isinstance(function, type) or not callable(function):  # a dtype, a constant
            return function
        return partial(self._unknown, name, function)

    def _unknown(self, name: str, function: Function, *arguments: Any, **options: Any) -> Any:
        """Call a function that takes no recorded array, such as `finfo`."""
        if any(isinstance(each, Recorded) for each in arguments):
            raise UnrecordableError(f"{name} is not recorded")
        return function(*arguments, **options)

    def _constant(self, function: Function, *arguments: Any, **options: Any) -> Recorded:
        return self.library.array_type(None, function(*arguments, **options), False)


_CREATION = ("arange", "empty", "full", "ones", "zeros")


_OPERATORS = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "true_divide",
    "pow": "power",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "lshift": "left_shift",
    "rshift": "right_shift",
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}
"""Python's operators and their ufuncs; all except the comparisons also work in place."""
_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")


def _add_operator(operator: str, name: str) -> None:
    """Add an operator to `Recorded` in its forms: a + b, 1 + b and a += b."""

    def of(array: Recorded) -> Array:
        return getattr(array.library.module, name)

    setattr(Recorded, f"__{operator}__", lambda a, b: _elementwise(of(a), a, b))
    if operator not in _COMPARISONS:
        setattr(Recorded, f"__r{operator}__", lambda b, a: _elementwise(of(b), a, b))
        setattr(Recorded, f"__i{operator}__", lambda a, b: _in_place(of(a), a, b))


for _operator, _name in _OPERATORS.items():
    _add_operator(_operator, _name)

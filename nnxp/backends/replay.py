"""A chunk of training steps on NumPy: recorded once, then replayed into the same memory.

On a small network most of a step's time goes between NumPy's calls, on a large one much of it into
memory that the system maps anew for every result. So one step is run on `Recorded` arrays, which
compute as they go and write down each call of NumPy with the arrays that it reads and writes. Every
step then repeats the calls: the same arithmetic in the same order, hence the same bits, without
the Python around it and without an allocation. It is what a CUDA graph is to a GPU.

A step that does what is not known here is run as it is, by `eager`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import array_api_compat.numpy
import numpy as np

from nnxp.backends import eager

_Calls = list[tuple[Callable[..., Any], tuple[Any, ...]]]


def runner(step: Any) -> Any:
    """A function like `eager.run` that replays `step`. It keeps what it recorded."""
    programs: dict[Any, _Program | None] = {}

    def run(state: Any, data: Any, order: Any, learning_rate: Any) -> Any:
        # One program for whole batches and one for an epoch's smaller last; both work on the
        # arrays of the state that the first was given, which every state returned is made of.
        key = (order.shape[1], *(array.shape for array in (*leaves(state), *data)))
        if key not in programs:
            programs[key] = _program(step, state, data, order)
        program = programs[key]
        if program is None:
            return eager.run(step, state, data, order, learning_rate)
        return program.run(state, data, order, learning_rate)

    return run


class _Unrecordable(Exception):
    """The step asks for something that a replay could not repeat."""


def _program(step: Any, state: Any, data: Any, order: Any) -> _Program | None:
    """What `step` does to batches of this size; None where that cannot be recorded."""
    own = leaves(state)
    if not len(order) or not all(isinstance(leaf, np.ndarray) for leaf in own):
        return None
    before = [leaf.copy() for leaf in own]
    try:
        return _Program(step, state, data, order[0])
    except Exception:  # if it is the step that is wrong, `eager` will say so
        return None
    finally:  # recording ran a step
        for leaf, old in zip(own, before, strict=True):
            np.copyto(leaf, old)


class _Program:
    """The calls of one step for one size of batch, and the arrays that they work on."""

    def __init__(self, step: Any, state: Any, data: Any, rows: Any) -> None:
        self.state = state
        self.leaves = leaves(state)
        self.learning_rate = np.zeros((), dtype=self.leaves[0].dtype)
        self.total = np.zeros((), dtype=self.leaves[0].dtype)
        self.batch = [array[rows] for array in data]
        self.calls = self._record(step)

    def run(self, state: Any, data: Any, order: Any, learning_rate: Any) -> Any:
        for mine, given in zip(self.leaves, leaves(state), strict=True):
            if given is not mine:
                np.copyto(mine, given)
        self.learning_rate[...] = learning_rate
        self.total[...] = 0
        gather = [(array.take, batch) for array, batch in zip(data, self.batch, strict=True)]
        for rows in order:
            for take, batch in gather:
                take(rows, 0, batch, "clip")  # writes straight into the batch; all are in range
            for function, arguments in self.calls:
                function(*arguments)
        return self.state, self.total.copy()

    def _record(self, step: Any) -> _Calls:
        """Run one step, and return its calls."""
        tape = _Tape()
        given = [tape.live(leaf) for leaf in self.leaves]
        parameters, others = _rebuilt(self.state, iter(given))
        batch = tuple(tape.live(array) for array in self.batch)
        rate = tape.live(self.learning_rate)
        new_parameters, new_others, loss = step(parameters, others, batch, rate)
        returned = leaves((new_parameters, new_others))
        for mine, new in zip(self.leaves, returned, strict=True):
            if new.array is mine:
                continue
            if any(np.may_share_memory(new.array, leaf) for leaf in self.leaves):
                raise _Unrecordable("the step returns one array of its state as another")
            tape.call(np.copyto, mine, new.array)
        tape.call(np.add, self.total, loss.array, self.total)
        return tape.calls


class _Tape:
    """The calls so far, and memory to reuse: what nothing of the step refers to any more."""

    def __init__(self) -> None:
        self.calls: _Calls = []
        self.free: dict[int, list[np.ndarray]] = {}

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Do it, and write it down."""
        function(*arguments)
        self.calls.append((function, arguments))

    def live(self, array: np.ndarray) -> Recorded:
        """An array that is another in each step."""
        return Recorded(self, array, live=True)

    def result(self, like: Any) -> Recorded:
        """A place for what looks like `like`, an array or a NumPy scalar."""
        block = _Block(self, like.nbytes)
        return Recorded(self, block.memory.view(like.dtype).reshape(like.shape), True, block)


class _Block:
    """Memory that goes back to the tape with the last array in it."""

    def __init__(self, tape: _Tape, size: int) -> None:
        self.free = tape.free.setdefault(size, [])
        self.memory = self.free.pop() if self.free else np.empty(size, dtype=np.uint8)

    def __del__(self) -> None:
        self.free.append(self.memory)


class Recorded:
    """A NumPy array that writes down what is done to it.

    `live` arrays differ from step to step; the others were made of constants alone, once.
    """

    __slots__ = ("array", "block", "is_live", "tape")
    __array_ufunc__ = None  # NumPy's own arrays leave operations with this one to it

    def __init__(
        self, tape: Any, array: np.ndarray, live: bool, block: _Block | None = None
    ) -> None:
        self.tape = tape
        self.array = array
        self.is_live = live
        self.block = block

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        return _namespace

    shape = property(lambda self: self.array.shape)
    dtype = property(lambda self: self.array.dtype)
    ndim = property(lambda self: self.array.ndim)
    size = property(lambda self: self.array.size)
    device = property(lambda self: "cpu")

    def view(self, array: np.ndarray) -> Recorded:
        """The same memory in another shape."""
        if not np.may_share_memory(array, self.array):
            raise _Unrecordable("a new shape that needs a copy")
        return Recorded(self.tape, array, self.is_live, self.block)

    @property
    def T(self) -> Recorded:
        return self.view(self.array.T)

    def __getitem__(self, key: Any) -> Recorded:
        return self.view(self.array[key])

    def __neg__(self) -> Recorded:
        return _elementwise(np.negative, self)

    def _value(self, *_: Any, **__: Any) -> Any:
        raise _Unrecordable("a value is read")

    __bool__ = __float__ = __int__ = __index__ = __array__ = __setitem__ = _value


def _elementwise(function: Any, *operands: Any) -> Recorded:
    """A ufunc of arrays and Python numbers, into memory of its own."""
    tape, arrays, live = _operands(operands)
    value = function(*arrays)
    if not live:
        return Recorded(tape, np.asarray(value), False)
    out = tape.result(value)
    tape.call(*_into(function, arrays, out.array))
    return out


def _into(function: Any, arrays: list[np.ndarray], out: np.ndarray) -> tuple[Any, ...]:
    if function in (np.maximum, np.minimum):  # these alone take `out` by name only
        return (partial(function, *arrays, out=out),)
    return (function, *arrays, out)


def _in_place(function: Any, target: Recorded, other: Any) -> Recorded:
    tape, arrays, live = _operands((target, other))
    if live and not target.is_live:
        raise _Unrecordable("a constant is overwritten")
    if live:
        tape.call(*_into(function, arrays, target.array))
    else:
        function(*arrays, target.array)
    return target


def _operands(operands: tuple[Any, ...]) -> tuple[Any, list[np.ndarray], bool]:
    """The tape, the operands as arrays, a number in the dtype that it takes beside them."""
    recorded = [each for each in operands if isinstance(each, Recorded)]
    dtype = recorded[0].dtype
    arrays = []
    for each in operands:
        if isinstance(each, Recorded):
            arrays.append(each.array)
        elif isinstance(each, bool):
            raise _Unrecordable("a truth value among numbers")
        elif isinstance(each, (int, float)) and (isinstance(each, int) or dtype.kind == "f"):
            arrays.append(np.asarray(each, dtype=dtype))
        else:
            raise _Unrecordable(f"{type(each).__name__} with {dtype}")
    live = [each for each in recorded if each.is_live]
    return live[0].tape if live else None, arrays, bool(live)


def _reduction(function: Any, x: Recorded, *, axis: Any = None, keepdims: bool = False) -> Recorded:
    value = function(x.array, axis, None, None, keepdims)
    if not x.is_live:
        return Recorded(x.tape, np.asarray(value), False)
    out = x.tape.result(value)
    x.tape.call(function, x.array, axis, None, out.array, keepdims)
    return out


class _Namespace:
    """The part of the standard that steps are recorded in; what it lacks ends the recording."""

    sum = staticmethod(partial(_reduction, np.add.reduce))
    max = staticmethod(partial(_reduction, np.maximum.reduce))
    min = staticmethod(partial(_reduction, np.minimum.reduce))

    @staticmethod
    def mean(x: Recorded, *, axis: Any = None, keepdims: bool = False) -> Any:
        total: Any = _reduction(np.add.reduce, x, axis=axis, keepdims=keepdims)
        return total / (x.size // total.size)

    @staticmethod
    def astype(x: Recorded, dtype: Any, /, *, copy: bool = True) -> Recorded:
        if not x.is_live:
            return Recorded(x.tape, x.array.astype(dtype), False)
        if not copy and x.dtype == dtype:
            return x
        out = x.tape.result(np.empty(x.shape, dtype=dtype))
        x.tape.call(np.copyto, out.array, x.array, "unsafe")
        return out

    @staticmethod
    def where(condition: Recorded, x: Recorded, y: Recorded, /) -> Recorded:
        out = condition.tape.result(np.where(condition.array, x.array, y.array))
        condition.tape.call(np.copyto, out.array, y.array)
        condition.tape.call(np.copyto, out.array, x.array, "same_kind", condition.array)
        return out

    @staticmethod
    def clip(x: Recorded, /, min: float | None = None, max: float | None = None) -> Recorded:
        if min is not None:
            x = _elementwise(np.maximum, x, min)
        return x if max is None else _elementwise(np.minimum, x, max)

    @staticmethod
    def take(x: Recorded, indices: Recorded, /, *, axis: int | None = None) -> Recorded:
        out = x.tape.result(np.take(x.array, indices.array, axis))
        x.tape.call(np.take, x.array, indices.array, axis, out.array, "clip")
        return out

    @staticmethod
    def reshape(x: Recorded, /, shape: tuple[int, ...]) -> Recorded:
        return x.view(x.array.reshape(shape))

    @staticmethod
    def expand_dims(x: Recorded, /, *, axis: int = 0) -> Recorded:
        return x.view(np.expand_dims(x.array, axis))

    @staticmethod
    def concat(arrays: Any, /, *, axis: int = 0) -> Recorded:
        return _joined(np.concatenate, arrays, axis)

    @staticmethod
    def stack(arrays: Any, /, *, axis: int = 0) -> Recorded:
        return _joined(np.stack, arrays, axis)

    @staticmethod
    def zeros_like(x: Recorded, /) -> Recorded:
        return _filled(x, 0)

    @staticmethod
    def ones_like(x: Recorded, /) -> Recorded:
        return _filled(x, 1)

    def __getattr__(self, name: str) -> Any:
        ufunc = getattr(np, name, None)
        if isinstance(ufunc, np.ufunc):
            return partial(_elementwise, ufunc)
        function = getattr(array_api_compat.numpy, name)
        return _constant(function) if name in _CREATION else function


_CREATION = ("arange", "empty", "full", "ones", "zeros")
_namespace = _Namespace()


def _joined(function: Any, arrays: Any, axis: int) -> Recorded:
    parts = [each.array for each in arrays]
    live = [each for each in arrays if each.is_live]
    value = function(parts, axis=axis)
    if not live:
        return Recorded(None, value, False)
    out = live[0].tape.result(value)
    live[0].tape.call(partial(function, parts, axis=axis, out=out.array))
    return out


def _filled(x: Recorded, value: int) -> Recorded:
    """Filled anew in each step, for the step may write into it."""
    if not x.is_live:
        return Recorded(x.tape, np.full_like(x.array, value), False)
    out: Recorded = x.tape.result(x.array)
    x.tape.call(np.copyto, out.array, value)
    return out


def _constant(function: Any) -> Any:
    def make(*arguments: Any, **options: Any) -> Recorded:
        return Recorded(None, function(*arguments, **options), False)

    return make


def _give_operators(function: Any, name: str, *, in_place: bool = False) -> None:
    """`Recorded` an operator in its forms: a + b, 1 + b and, if it has one, a += b."""
    setattr(Recorded, f"__{name}__", lambda a, b: _elementwise(function, a, b))
    setattr(Recorded, f"__r{name}__", lambda b, a: _elementwise(function, a, b))
    if in_place:
        setattr(Recorded, f"__i{name}__", lambda a, b: _in_place(function, a, b))


_OPERATORS: dict[str, tuple[np.ufunc, bool]] = {
    # the ufunc, and whether it can be done in place
    "add": (np.add, True),
    "sub": (np.subtract, True),
    "mul": (np.multiply, True),
    "truediv": (np.true_divide, True),
    "pow": (np.power, True),
    "and": (np.bitwise_and, True),
    "or": (np.bitwise_or, True),
    "xor": (np.bitwise_xor, True),
    "lshift": (np.left_shift, True),
    "rshift": (np.right_shift, True),
    "matmul": (np.matmul, False),
    "eq": (np.equal, False),
    "ne": (np.not_equal, False),
    "lt": (np.less, False),
    "le": (np.less_equal, False),
    "gt": (np.greater, False),
    "ge": (np.greater_equal, False),
}
for _name, (_ufunc, _has_in_place) in _OPERATORS.items():
    _give_operators(_ufunc, _name, in_place=_has_in_place)


def leaves(state: Any) -> list[Any]:
    """The arrays of nested lists and tuples, in order."""
    if isinstance(state, (list, tuple)):
        return [leaf for each in state for leaf in leaves(each)]
    return [state]


def _rebuilt(state: Any, others: Iterator[Any]) -> Any:
    """`state` with other leaves."""
    if isinstance(state, (list, tuple)):
        return type(state)(_rebuilt(each, others) for each in state)
    return next(others)

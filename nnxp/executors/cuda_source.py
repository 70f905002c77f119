"""CUDA C of a kernel that runs statements about the elements of a matrix.

Without a reduction, each thread computes one element. With reductions along an axis, the threads of
a block share one or a few indices of the other axis and loop along this one. A loop ends where the
result of a reduction is needed. Intermediate values stay in registers. A sum has one order, so two
runs give the same bits. Sizes are arguments: one compiled kernel serves all batch sizes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

import numpy as np

from nnxp.arrays import Array

ELEMENTWISE = {
    "absolute": "abs({0})",
    "add": "{0} + {1}",
    "bitwise_and": "{0} & {1}",
    "bitwise_or": "{0} | {1}",
    "bitwise_xor": "{0} ^ {1}",
    "copy": "{0}",
    "cos": "cos({0})",
    "divide": "{0} / {1}",
    "equal": "{0} == {1}",
    "exp": "exp({0})",
    "expm1": "expm1({0})",
    "floor": "floor({0})",
    "greater": "{0} > {1}",
    "greater_equal": "{0} >= {1}",
    "left_shift": "{0} << {1}",
    "less": "{0} < {1}",
    "less_equal": "{0} <= {1}",
    "log": "log({0})",
    "log1p": "log1p({0})",
    "logical_and": "{0} && {1}",
    "logical_not": "!{0}",
    "logical_or": "{0} || {1}",
    "maximum": "maximum({0}, {1})",
    "minimum": "minimum({0}, {1})",
    "multiply": "{0} * {1}",
    "negative": "-{0}",
    "not_equal": "{0} != {1}",
    "power": "pow({0}, {1})",
    "right_shift": "{0} >> {1}",
    "sin": "sin({0})",
    "sign": "{0} > 0 ? 1 : {0} < 0 ? -1 : {0} == 0 ? 0 : {0}",
    "sqrt": "sqrt({0})",
    "square": "{0} * {0}",
    "subtract": "{0} - {1}",
    "tan": "tan({0})",
    "tanh": "tanh({0})",
    "true_divide": "{0} / {1}",
    "where": "{0} ? {1} : {2}",
}
"""The elementwise operations: NumPy's name, and CUDA C of operands of their common type."""
FLOATING = {
    "cos", "divide", "exp", "expm1", "floor", "log", "log1p", "power", "sin", "sqrt", "tan", "tanh",
    "true_divide",
}  # fmt: skip
"""Operations that C does in another type than NumPy if the operands are integers."""
REDUCTIONS = {"max": ("maximum", -np.inf), "min": ("minimum", np.inf), "sum": ("plus", 0.0)}
"""The function of two partial results, and the result of no elements."""
_WRAPPING = {"add", "left_shift", "multiply", "negative", "square", "subtract"}
"""Operations that may overflow: C defines what comes of unsigned integers only."""
TYPES = {
    "bool": "bool",
    "uint8": "unsigned char",
    "int32": "int",
    "int64": "long long",
    "float32": "float",
    "float64": "double",
}
"""The C type of each dtype that a kernel can read and write."""

NAME = "nnxp_fused"
OPTIONS = ("--fmad=false",)
"""Options that round a multiplication before the addition after it, as single calls do."""
THREADS = 256
"""Threads of a block, without reductions."""
MOST_THREADS = 1024
COLUMNS = 8
"""Columns that the threads of a block share: they lie side by side and are read together."""

_FUNCTIONS = """\
template <typename T> __device__ T plus(T a, T b) { return a + b; }
// NaN, if one of the two is.
template <typename T> __device__ T maximum(T a, T b) { return a > b || a != a ? a : b; }
template <typename T> __device__ T minimum(T a, T b) { return a < b || a != a ? a : b; }
"""
_REDUCE = """
template <typename T, T (*combined)(T, T)> __device__ T reduced(T value) {
    __shared__ T shared[THREADS];
    __syncthreads();  // all threads have read the result of the reduction before
    shared[threadIdx.x] = value;
    for (int half = THREADS / 2; half >= LANES; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half)
            shared[threadIdx.x] = combined(shared[threadIdx.x], shared[threadIdx.x + half]);
    }
    __syncthreads();
    return shared[threadIdx.x % LANES];
}
"""


class Kind(Enum):
    """Where a statement stands."""

    LOOP = "in a loop over the elements"
    REDUCTION = "a sum or extremum over the elements, in a loop"
    RESULT = "between the loops, on results of reductions"


@dataclass(frozen=True)
class Element:
    """Element (i, j) of an array, at `address` + i `steps[0]` + j `steps[1]`.

    A step is 0 along an axis of length 1: the array is the same for every index of the matrix.
    """

    address: int
    steps: tuple[int, int]
    dtype: str
    array: Array = field(compare=False)


class Statement(NamedTuple):
    """An operation on elements and Python numbers that writes an element."""

    name: str
    reads: tuple[Any, ...]
    writes: Element
    kind: Kind

    @property
    def elements(self) -> list[Element]:
        """Those that it reads."""
        return [each for each in self.reads if isinstance(each, Element)]


class Launch(NamedTuple):
    """A kernel's source, and what to launch it with."""

    source: str
    blocks: int
    threads: int
    arguments: tuple[Any, ...]


def launch(
    shape: tuple[int, int],
    axis: int | None,
    statements: Sequence[Statement],
    kept: set[Element],
) -> Launch:
    """Return the source and the launch of a kernel.

    Args:
        shape: the matrix.
        axis: the axis of the reductions; None if there is none.
        statements: in order. No thread writes what another one reads or writes.
        kept: the written elements that are read after the kernel.
    """
    return _Source(shape, axis, statements, kept).launch()


class _Source:
    """Writes a kernel; see `launch`."""

    def __init__(
        self,
        shape: tuple[int, int],
        axis: int | None,
        statements: Sequence[Statement],
        kept: set[Element],
    ) -> None:
        self.shape, self.axis, self.statements, self.kept = shape, axis, statements, kept
        self.written = {each.writes for each in statements}
        self.parameters: dict[str, Any] = {}
        """The declaration of each parameter, and its argument."""
        self.pointers: dict[Element, str] = {}
        self.values: dict[Element, str] = {}
        """The variables of results, and of elements that a loop reads and does not change."""
        self.head: list[str] = []
        self.variables = 0
        elements = [each for one in statements for each in (one.writes, *one.elements)]
        furthest = max(_reach(each, shape) for each in elements)
        short = max(furthest, shape[0] * shape[1]) < 2**31 - MOST_THREADS
        self.index = np.int32 if short else np.int64

    def launch(self) -> Launch:
        """Return the source and its launch."""
        rows, columns = self.shape
        if self.axis is None:
            threads, functions = THREADS, _FUNCTIONS
            blocks = -(-rows * columns // threads)
            body = self._elementwise()
        else:
            lanes = COLUMNS if self.axis == 0 else 1
            length, others = self.shape[self.axis], self.shape[1 - self.axis]
            threads = min(MOST_THREADS, max(32, lanes << (length - 1).bit_length()))
            blocks = -(-others // lanes)
            functions = f"const int LANES = {lanes};\n{_FUNCTIONS}{_REDUCE}"
            body = self._reducing()
        self._parameter("const Index rows", self.index(rows))
        self._parameter("const Index columns", self.index(columns))
        source = [
            f"typedef {TYPES[np.dtype(self.index).name]} Index;",
            f"const int THREADS = {threads};",
            functions,
            f'extern "C" __global__ __launch_bounds__({threads})',
            f"void {NAME}({', '.join(self.parameters)}) {{",
            *_indented(body),
            "}\n",
        ]
        return Launch("\n".join(source), blocks, threads, tuple(self.parameters.values()))

    def _elementwise(self) -> list[str]:
        """Return the body of a kernel without reductions."""
        lines = self._element_lines(self.statements, set(), {})
        indices = {"i": "n / columns", "j": "n % columns"}
        return [
            "const Index n = (Index)blockIdx.x * THREADS + threadIdx.x;",
            "if (n >= rows * columns) return;",
            *(
                f"const Index {name} = {value};"
                for name, value in indices.items()
                if any(re.search(rf"\b{name}\b", line) for line in lines)
            ),
            *lines,
        ]

    def _reducing(self) -> list[str]:
        """Return the body of a kernel with reductions."""
        body: list[str] = []
        sections = list(_sections(self.statements))
        for number, section in enumerate(sections):
            if section[0].kind is Kind.RESULT:
                for each in section:
                    self.values[each.writes] = self._assigned(each, self.values, body)
            else:
                later = {e for one in sections[number + 1 :] for each in one for e in each.elements}
                body += self._loop(section, later)
        stores = [
            self._stored(each, name)
            for each, name in self.values.items()
            if each in self.kept & self.written
        ]
        if stores:
            body.append("__syncthreads();  // all threads have read the results of the step before")
            body += ["if (is_there && threadIdx.x < LANES) {", *_indented(stores), "}"]
        other, others = ("j", "columns") if self.axis == 0 else ("i", "rows")
        return [
            f"Index {other} = (Index)blockIdx.x * LANES + threadIdx.x % LANES;",
            f"const bool is_there = {other} < {others};",
            f"if (!is_there) {other} = {others} - 1;  // takes part in the reductions only",
            *self.head,
            *body,
        ]

    def _loop(self, section: list[Statement], later: set[Element]) -> list[str]:
        """Return a loop and its reductions."""
        reductions = [each for each in section if each.kind is Kind.REDUCTION]
        partial = {each.writes: self._variable() for each in reductions}
        lines = []
        for each in reductions:
            kind, nothing = TYPES[each.writes.dtype], REDUCTIONS[each.name][1]
            lines.append(f"{kind} {partial[each.writes]} = {self._number(nothing, kind)};")
        along, length = ("i", "rows") if self.axis == 0 else ("j", "columns")
        first = f"Index {along} = threadIdx.x / LANES"
        condition = f"is_there && {along} < {length}"
        lines.append(f"for ({first}; {condition}; {along} += THREADS / LANES) {{")
        lines += _indented(self._element_lines(section, later, partial))
        lines.append("}")
        for each in section:
            self.values.pop(each.writes, None)
        for each in reductions:
            kind, function = TYPES[each.writes.dtype], REDUCTIONS[each.name][0]
            result = self.values[each.writes] = self._variable()
            reduced = f"reduced<{kind}, {function}<{kind}>>({partial[each.writes]})"
            lines.append(f"const {kind} {result} = {reduced};")
        return lines

    def _element_lines(
        self, section: Sequence[Statement], later: set[Element], partial: dict[Element, str]
    ) -> list[str]:
        """Return the lines that compute one element of the matrix, and store what is read later."""
        lines: list[str] = []
        values = dict(self.values)
        computed = {}
        for each in section:
            if each.kind is Kind.REDUCTION:
                total, function = partial[each.writes], REDUCTIONS[each.name][0]
                value = self._value(each.reads[0], values, lines)
                lines.append(f"{total} = {function}({total}, {value});")
            else:
                name = self._assigned(each, values, lines)
                values[each.writes] = computed[each.writes] = name
        stored = self.kept | later
        return lines + [self._stored(e, name) for e, name in computed.items() if e in stored]

    def _assigned(self, statement: Statement, values: dict[Element, str], lines: list[str]) -> str:
        """Append the lines that compute a statement; return the variable of its result."""
        kind = compute = _operand_type(statement)
        if kind in ("int", "long long") and statement.name in _WRAPPING:
            compute = f"unsigned {kind}"
        operands = []
        for number, each in enumerate(statement.reads):
            if isinstance(each, Element):
                is_condition = statement.name == "where" and number == 0
                value = self._value(each, values, lines)
                operands.append(f"({'bool' if is_condition else compute}){value}")
            else:
                operands.append(f"({compute}){self._number(each, kind)}")
        expression = ELEMENTWISE[statement.name].format(*operands)
        if compute != kind:
            expression = f"({kind})({expression})"
        name, result = self._variable(), TYPES[statement.writes.dtype]
        lines.append(f"const {result} {name} = ({result})({expression});")
        return name

    def _value(self, element: Element, values: dict[Element, str], lines: list[str]) -> str:
        """Return the variable of an element; append the line that loads it, if there is none."""
        if element not in values:
            constant = self.axis is not None and not element.steps[self.axis]
            if constant and element not in self.written:
                values, lines = self.values, self.head
            if element not in values:
                name, kind = self._variable(), TYPES[element.dtype]
                lines.append(f"const {kind} {name} = {self._place(element)};")
                values[element] = name
        return values[element]

    def _stored(self, element: Element, name: str) -> str:
        return f"{self._place(element)} = {name};"

    def _place(self, element: Element) -> str:
        """Return the element in memory."""
        if element not in self.pointers:
            name = self.pointers[element] = f"p{len(self.pointers)}"
            self._parameter(f"{TYPES[element.dtype]}* const {name}", element.array)
        name = self.pointers[element]
        if self.axis is None and element.steps == _contiguous(self.shape):
            return f"{name}[n]"
        terms = []
        for index, step in zip("ij", element.steps, strict=True):
            if step == 1:
                terms.append(index)
            elif step:
                self._parameter(f"const Index {name}_{index}", self.index(step))
                terms.append(f"{index} * {name}_{index}")
        return f"{name}[{' + '.join(terms) or 0}]"

    def _number(self, value: float, kind: str) -> str:
        dtype = next(each for each, other in TYPES.items() if other == kind)
        name = f"n{len(self.parameters)}"
        self._parameter(f"const {kind} {name}", np.dtype(dtype).type(value))
        return name

    def _parameter(self, declaration: str, argument: Any) -> None:
        self.parameters[declaration] = argument

    def _variable(self) -> str:
        self.variables += 1
        return f"v{self.variables}"


def _sections(statements: Sequence[Statement]) -> Iterator[list[Statement]]:
    """Yield statements that share a loop, or stand between two loops.

    A loop ends before the result of one of its reductions is read.
    """
    section: list[Statement] = []
    in_loop = False
    reduced: set[Element] = set()
    for each in statements:
        loops = each.kind is not Kind.RESULT
        if section and (loops != in_loop or reduced.intersection(each.elements)):
            yield section
            section, reduced = [], set()
        in_loop = loops
        section.append(each)
        if each.kind is Kind.REDUCTION:
            reduced.add(each.writes)
    yield section


def _operand_type(statement: Statement) -> str:
    """Return the common type of a statement's operands."""
    dtypes = [each.dtype for each in statement.elements[statement.name == "where" :]]
    return TYPES[np.result_type(*dtypes).name if dtypes else statement.writes.dtype]


def _reach(element: Element, shape: tuple[int, int]) -> int:
    """Return the furthest index in memory."""
    return sum(abs(step) * n for step, n in zip(element.steps, shape, strict=True))


def _contiguous(shape: tuple[int, int]) -> tuple[int, int]:
    rows, columns = shape
    return columns if rows > 1 else 0, 1 if columns > 1 else 0


def _indented(lines: Sequence[str]) -> list[str]:
    return ["    " + line for line in lines]


def gathering(rows: Array, arrays: Sequence[Array], batch: Sequence[Array]) -> Launch:
    """Return a kernel that copies these rows of each array, into a contiguous array of the batch.

    Args:
        rows: (batch,), integers.
        arrays: (samples,) or (samples, columns).
        batch: as many, of the same dtype, with the rows that are copied.
    """
    kinds = [TYPES[each.dtype.name] for each in arrays]
    parameters = [f"const {TYPES[rows.dtype.name]}* const rows", "const long long size"]
    widths = [each.size // len(each) for each in batch]
    arguments: list[Any] = [rows, np.int64(len(rows) * sum(widths))]
    parameters.append("const long long columns")
    arguments.append(np.int64(sum(widths)))
    body = [
        "const long long n = (long long)blockIdx.x * THREADS + threadIdx.x;",
        "if (n >= size) return;",
        "const long long i = n / columns, row = rows[i];",
        "long long j = n % columns;",
    ]
    for k, (kind, array, target) in enumerate(zip(kinds, arrays, batch, strict=True)):
        parameters += [f"const {kind}* const from{k}", f"{kind}* const to{k}"]
        parameters += [f"const long long {name}{k}" for name in ("down", "across", "width")]
        steps = [stride // array.dtype.itemsize for stride in array.strides]
        sizes = np.asarray([steps[0], steps[1] if array.ndim == 2 else 0, widths[k]], np.int64)
        arguments += [array, target, *sizes]
        copied = f"to{k}[i * width{k} + j] = from{k}[row * down{k} + j * across{k}];"
        body += [f"if (j < width{k}) {{", f"    {copied}", "    return;", "}", f"j -= width{k};"]
    source = [
        f"const int THREADS = {THREADS};",
        f'extern "C" __global__ void {NAME}({", ".join(parameters)}) {{',
        *_indented(body),
        "}\n",
    ]
    blocks = -(-len(rows) * sum(widths) // THREADS)
    return Launch("\n".join(source), blocks, THREADS, tuple(arguments))

"""Groups of calls: to run them is to run the calls, with far fewer kernels."""

from functools import partial
from itertools import product

import kernels_in_python
import numpy as np
import pytest
from conftest import REGULARIZATIONS, RULES, turning
from hypothesis import given, settings
from hypothesis import strategies as st

import nnxp
from nnxp import SGD, Adam, objectives
from nnxp.executors import cuda_kernels, eager, fusion, recording
from nnxp.executors.cuda_kernels import Kernel
from nnxp.executors.recording import Call
from nnxp.kernels import ACTIVATIONS
from nnxp.nested import leaves
from nnxp.objectives import LOSSES
from nnxp.state import first_state
from nnxp.step import training_step


class Library(recording.ArrayOps):
    """NumPy, with a place of its own for each result, and numbers that stay numbers."""

    reuses_memory = False

    def number(self, value, dtype):
        return value


LIBRARY = Library()


def compiled(calls, kept):
    """Return functions that have the effect of the calls: the kernels, and calls of the library."""
    kernels = fusion.groups(cuda_kernels.split_totals(calls, LIBRARY), LIBRARY, Kernel)
    functions = []
    for kernel in kernels:
        others = (call for other in kernels if other is not kernel for call in other.calls)
        later = [each for call in others for each in call.reads if fusion.is_array(each)]
        if cuda_kernels.is_better(kernel):
            kept_elements = kernel.kept([*later, *kept])
            functions.append(
                kernels_in_python.launch(
                    kernel.shape, kernel.axis, kernel.statements, kept_elements
                ).source
            )
        else:
            functions += [partial(made[0], *made[1]) for made in (c.made for c in kernel.calls)]
    return functions


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((83, 6)).astype(np.float32), rng.integers(0, 3, 83)


def assert_compiled_is_eager(step, state, data):
    """The calls of the step and its functions, after ten steps that came to the same result."""
    order = np.random.default_rng(1).permutation(83)[:80].reshape(10, 8)
    rate = np.float32(0.1)
    with np.errstate(all="ignore"):
        expected, total = eager.run(step, state(), data, order, rate)
        start = state()
        program = recording.Program(step, start, data, order[0], LIBRARY, rate)
        functions = compiled(program.calls, [*program.leaves, program.total])
        program.load_state(state(), rate)
        for rows in order:
            for array, batch in zip(data, program.batch, strict=True):
                array.take(rows, 0, batch)
            for function in functions:
                function()
    for one, other in zip(
        [*program.leaves, program.total], [*leaves(expected), total], strict=True
    ):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    return program.calls, functions


@pytest.mark.parametrize(
    ("activation", "rule", "regularization"),
    turning(ACTIVATIONS, product(RULES, REGULARIZATIONS), times=3),
)
def test_every_step_compiled_is_an_eager_one(data, activation, rule, regularization):
    rule, regularization = RULES[rule], REGULARIZATIONS[regularization]
    network = nnxp.MLP([6, 5, 4, 3], activation, backend="numpy")
    objective = objectives.get("auto", network.output)
    step = training_step(network.hidden, objective, rule, regularization, 1)
    calls, functions = assert_compiled_is_eager(step, lambda: first_state(network, rule), data)
    assert len(functions) < 0.6 * len(calls)


@pytest.mark.parametrize(
    ("loss", "output", "one_hot", "weighted"),
    turning(product(LOSSES, ACTIVATIONS), product([False, True], repeat=2)),
)
def test_every_objective_fused(data, loss, output, one_hot, weighted):
    x, t = data
    one_hot = one_hot or loss != "categorical_cross_entropy"
    arrays = [x, np.eye(3, dtype=np.float32)[t] if one_hot else t]
    if weighted:
        arrays.append(np.linspace(0, 2, len(x), dtype=np.float32))
    network = nnxp.MLP([6, 5, 3], "tanh", output, backend="numpy")
    step = training_step(network.hidden, objectives.get(loss, output), SGD(0.1))
    assert_compiled_is_eager(step, lambda: first_state(network, SGD(0.1)), tuple(arrays))


@pytest.mark.parametrize(
    ("rule", "options", "most"),
    [
        (SGD(0.1), {}, 12),
        (SGD(0.1, momentum=0.9), {}, 12),
        (Adam(0.1), {}, 12),
        (SGD(0.1), {"l2": 0.01, "max_norm": 2.0, "dropout": 0.5}, 23),
    ],
)
def test_a_step_is_a_dozen_kernels(data, rule, options, most):
    """And one more that gathers the batch. Each kernel takes a GPU two to three microseconds."""
    network = nnxp.MLP([6, 5, 3], backend="numpy")
    regularization = nnxp.Regularization(**options)
    step = training_step(network.hidden, objectives.get("auto", "softmax"), rule, regularization, 0)
    x, t = data
    _, functions = assert_compiled_is_eager(
        step, lambda: first_state(network, rule), (x, np.eye(3, dtype=np.float32)[t])
    )
    assert len(functions) == most


# --- which calls go together, in what order


def call(function, *reads, out):
    """A recorded ufunc; of another function: a call of any other kind."""
    if isinstance(function, np.ufunc):
        return Call(partial(LIBRARY.ufunc, function), reads, out, function.__name__)
    return Call(lambda r, w: (function, (*r, w)), reads, out)


def reduced(name, x, out, *axes):
    """A recorded reduction."""
    keepdims = x.ndim == out.ndim > 0
    axis = axes[0] if len(axes) == 1 else None
    return Call(partial(LIBRARY.reduction, name, axis, keepdims), (x,), out, name, axes)


def a_sum(x, out):
    np.copyto(out, x.sum())


def grouped(*calls, kind=fusion.Group):
    """Which of the calls, by their numbers, are in each group."""
    number = {id(each.writes): i for i, each in enumerate(calls)}
    assert len(number) == len(calls) or all(calls)
    found = fusion.groups(calls, LIBRARY, kind)
    where = {id(each): i for i, each in enumerate(calls)}
    return [[where[id(each)] for each in group.calls] for group in found]


def arrays(*shapes, dtype=np.float64):
    return [np.arange(1, 1 + np.prod(shape), dtype=dtype).reshape(shape) for shape in shapes]


def test_calls_of_one_shape_go_together_and_others_apart():
    a, b, c, small = arrays((3, 4), (3, 4), (3, 4), (4,))
    one, two = call(np.add, a, 1.0, out=b), call(np.exp, b, out=c)
    assert grouped(one, two) == [[0, 1]]
    assert grouped(one, call(np.exp, small, out=small.copy())) == [[0], [1]]
    assert grouped(one, call(a_sum, b, out=np.zeros(()))) == [[0], [1]]
    # Of a call that is done as a whole nothing joins the group.
    assert grouped(call(a_sum, a, out=b), call(np.exp, b, out=c)) == [[0], [1]]


def test_a_call_passes_those_that_it_has_nothing_to_do_with():
    a, b, c, d = arrays(*[(3, 4)] * 4)
    (total,) = arrays(())
    one, between, two = (
        call(np.add, a, 1.0, out=b), call(a_sum, b, out=total), call(np.exp, a, out=c)
    )  # fmt: skip
    assert grouped(one, between, two) == [[0, 2], [1]]
    reads = call(np.multiply, a, total, out=d)  # what the one between writes
    assert grouped(one, between, reads) == [[0], [1], [2]]
    overwrites = call(np.exp, a, out=b)  # what the one between reads
    assert grouped(one, between, overwrites) == [[0], [1], [2]]
    writes_too = call(a_sum, a, out=b)
    assert grouped(call(np.add, a, 1.0, out=c), writes_too, call(np.exp, a, out=b)) == [
        [0], [1], [2]
    ]  # fmt: skip


def test_the_nearest_group_is_joined():
    a, b, c, d = arrays(*[(3, 4)] * 4)
    (total,) = arrays(())
    found = grouped(
        call(np.add, a, 1.0, out=b),
        call(a_sum, b, out=total),
        call(np.multiply, a, total, out=c),
        call(np.exp, a, out=d),
    )
    assert found == [[0], [1], [2, 3]]


CONFLICTS = {
    # of a (4, 4), what is read and what is written; and whether it may be in one loop
    "in place after a read": (lambda a: a, lambda a: a, True),
    "transposed": (lambda a: a.T, lambda a: a, False),
    "shifted": (lambda a: a[:3], lambda a: a[1:], False),
    "shifted back": (lambda a: a[1:], lambda a: a[:3], False),
    "the same in another shape": (lambda a: a.reshape(2, 8), lambda a: a.reshape(2, 8), True),
    "backwards": (lambda a: a[::-1], lambda a: a, False),
    "one row for all": (lambda a: a[0], lambda a: a, False),
    "one element": (lambda a: a[0, 0, ...], lambda a: a, False),
    "apart": (lambda a: a[:2], lambda a: a[2:], True),
}


@pytest.mark.parametrize("name", CONFLICTS)
@pytest.mark.parametrize("writes_first", [False, True])
def test_what_shares_memory_is_in_one_loop_only_at_the_same_place(name, writes_first):
    """Whichever of the two comes first, and whatever comes of it."""
    reads, writes, together = CONFLICTS[name]
    (a,) = arrays((4, 4))
    out = np.zeros(writes(a).shape)
    calls = [call(np.negative, reads(a), out=out), call(np.add, writes(a), 0.5, out=writes(a))]
    if writes_first:
        calls.reverse()
    for kind in fusion.Group, Kernel:
        assert grouped(*calls, kind=kind) == ([[0, 1]] if together else [[0], [1]])
    expected = a.copy(), out.copy()
    for each in calls:
        function, arguments = each.made
        function(*arguments)
    came_to = a.copy(), out.copy()
    a[...], out[...] = expected
    for function in compiled(calls, [a, out]):
        function()
    np.testing.assert_array_equal(a, came_to[0])
    np.testing.assert_array_equal(out, came_to[1])


# --- calls that reduce, and what is done with the results

MATRIX, ROW, COLUMN, SCALAR = (3, 4), (4,), (3,), ()


def test_a_reduction_is_in_one_kernel_with_what_it_needs_and_what_needs_it():
    a, b, c = arrays(*[MATRIX] * 3)
    (row, bias), (column, kept), total = arrays(ROW, ROW), arrays((3, 1), COLUMN), np.zeros(())
    softmax = [
        call(np.add, a, bias, out=a),
        reduced("max", a, column, 1),
        call(np.subtract, a, column, out=b),
        call(np.exp, b, out=c),
        reduced("sum", c, kept, 1),
        call(np.log, kept, out=kept),
        call(np.true_divide, c, column, out=c),
    ]
    assert grouped(*softmax, kind=Kernel) == [[0, 1, 2, 3, 4, 5, 6]]
    update = [
        call(np.multiply, a, b, out=a),
        reduced("sum", a, row, 0),
        call(np.multiply, row, 0.5, out=row),
        call(np.subtract, bias, row, out=bias),
    ]
    assert grouped(*update, kind=Kernel) == [[0, 1, 2, 3]]
    both = [reduced("sum", a, kept, 1), reduced("sum", a, row, 0)]
    assert grouped(*both, kind=Kernel) == [[0], [1]]
    mean = [reduced("sum", kept, total, 0), call(np.true_divide, total, 3.0, out=total)]
    assert grouped(*mean, kind=Kernel) == [[0, 1]]
    for calls in softmax, update, both, mean:
        assert_same(calls, [a, b, c, row, bias, column, kept, total])


def test_a_result_that_another_block_reads_ends_the_kernel():
    a, b = arrays(MATRIX, MATRIX)
    (row,), square = arrays(ROW), arrays((4, 4))[0]
    # The results of columns, a row, are added to every row, by the threads of all columns: fine.
    assert grouped(
        reduced("sum", a, row, 0), call(np.add, a, row, out=b), kind=Kernel
    ) == [[0, 1]]  # fmt: skip
    # The results of rows, read along a row, are those of other blocks.
    calls = [reduced("sum", square, row, 1), call(np.add, square, row, out=square)]
    assert grouped(*calls, kind=Kernel) == [[0], [1]]
    assert_same(calls, [square, row])
    # Transposed, each block would read what another one writes.
    calls = [call(np.add, square, 1.0, out=square), reduced("sum", square.T, row, 1)]
    assert grouped(*calls, kind=Kernel) == [[0], [1]]
    assert_same(calls, [square, row])


def test_a_whole_matrix_is_reduced_in_two_steps():
    a, total = arrays(MATRIX)[0], np.zeros(())
    calls = [call(np.square, a, out=a), reduced("sum", a, total, 0, 1)]
    kernels = fusion.groups(cuda_kernels.split_totals(calls, LIBRARY), LIBRARY, Kernel)
    assert [[each.name for each in kernel.calls] for kernel in kernels] == [
        ["square", "sum"], ["sum"]
    ]  # fmt: skip
    assert_same(calls, [a, total])


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1), (4, 4)])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("keepdims", [False, True])
def test_axes_of_length_one(shape, axis, keepdims):
    """A matrix of one row has the shape of the results of its columns."""
    a, b = arrays(shape, shape)
    out = np.zeros_like(a.sum(axis=axis, keepdims=keepdims))
    other = out.copy()
    calls = [
        call(np.add, a, 1.0, out=b),
        reduced("sum", b, out, axis),
        call(np.multiply, out, 2.0, out=other),
        call(np.add, b, 3.0, out=b),
        call(np.add, other, out, out=out),
    ]
    assert_same(calls, [a, b, out, other])


def test_only_what_is_read_later_is_written():
    a, b, c, d = arrays(*[MATRIX] * 4)
    row = np.zeros(4)
    calls = [
        call(np.add, a, 1.0, out=b),  # read in the kernel only
        call(np.negative, b, out=c),  # kept
        call(np.exp, c, out=d),  # read by no call
        reduced("sum", b, row, 0),
    ]
    (kernel,) = fusion.groups(calls, LIBRARY, Kernel)
    given = [each for each in kernel.launch([c, row]).arguments if isinstance(each, np.ndarray)]
    assert [any(x is each for each in given) for x in (a, b, c, d, row)] == [
        True, False, True, False, True
    ]  # fmt: skip
    before = b.copy(), d.copy()
    for function in compiled(calls, [c, row]):
        function()
    np.testing.assert_array_equal(b, before[0])
    np.testing.assert_array_equal(d, before[1])
    for view in (b.T, b[1:], b.reshape(-1)):
        arguments = kernel.launch([view]).arguments
        assert any(each is b for each in arguments)


def test_what_a_kernel_cannot_run_is_a_call():
    a, whole = arrays(MATRIX, MATRIX)
    number, long = np.arange(12).reshape(MATRIX), np.zeros((2, 3, 4))
    for one in (
        call(a_sum, a, out=whole),
        call(np.hypot, a, a, out=whole),
        call(np.sqrt, number, out=whole),
        call(np.add, long, 1.0, out=long),
        reduced("sum", number, np.zeros(4, dtype=int), 0),
        call(np.add, a.astype(np.float16), 1.0, out=a.astype(np.float16)),
        call(np.add, np.zeros((0, 3)), 1.0, out=np.zeros((0, 3))),
    ):
        assert Kernel(one, LIBRARY).statements == []
        assert grouped(one, call(np.add, a, 1.0, out=a), kind=Kernel) == [[0], [1]]


def test_a_register_has_the_precision_of_the_memory_that_it_stands_for():
    (a,) = arrays((4,), dtype=np.float32)
    precise, out = np.full(4, 1 / 3), np.zeros(4, dtype=np.float32)
    calls = [call(np.add, a, precise, out=a), call(np.subtract, a, 1.0, out=out)]
    (kernel,) = fusion.groups(calls, LIBRARY, Kernel)
    source = kernel.launch([out]).source
    assert "const float v3 = (float)((double)v1 + (double)v2);" in source
    assert_same(calls, [a, out])


def assert_same(calls, state):
    """The kernels of the calls leave what the calls leave."""
    before = [array.copy() for array in state]
    for each in calls:
        function, arguments = each.made
        function(*arguments)
    expected = [array.copy() for array in state]
    for array, value in zip(state, before, strict=True):
        array[...] = value
    for function in compiled(calls, state):
        function()
    for one, other in zip(state, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


# --- any program


UNARY = [np.negative, np.abs, np.sqrt, np.square]
BINARY = [np.add, np.subtract, np.multiply, np.maximum]
VIEWS = [
    lambda x: x,
    lambda x: x.T if x.ndim == 2 and x.shape[0] == x.shape[1] else x,
    lambda x: x[::-1],
    lambda x: x[:1],
    lambda x: x[1:] if len(x) > 1 else x,
    lambda x: x[0, ...],
]


@st.composite
def programs(draw):
    """What a program does: of numbers, so that two runs of it find their own arrays."""
    kinds = st.sampled_from(["unary", "binary", "number", "in place", "sum", "rows"])
    number = st.integers(0, 59)
    return draw(st.lists(st.tuples(kinds, number, number, number, number), max_size=25))


def shape_of(*operands):
    """What a ufunc of them has; None where they do not go together."""
    try:
        return np.broadcast_shapes(*map(np.shape, operands))
    except ValueError:
        return None


def recorded(program):
    """The calls of a program and the arrays that they work on; run once, as recording does."""
    rng = np.random.default_rng(0)
    memory = [rng.standard_normal(shape) for shape in [(4, 4), (4, 4), (4,), ()]]
    first = [array.copy() for array in memory]
    kept, calls = list(memory), []

    def do(each):
        function, arguments = each.made
        with np.errstate(all="ignore"):
            function(*arguments)
        calls.append(each)

    for kind, i, j, f, v in program:
        x, y = memory[i % len(memory)], memory[j % len(memory)]
        if x.ndim:
            x = VIEWS[v % len(VIEWS)](x)
        if kind == "in place":
            if shape_of(x, y) == x.shape:
                do(call(BINARY[f % 4], x, y, out=x))
            continue
        if kind == "sum":
            out = np.zeros(())
            do(reduced("sum", x, out, *range(x.ndim)) if x.ndim else call(a_sum, x, out=out))
        elif kind == "rows":
            if x.ndim < 2:
                continue
            axis, keepdims = f % 2, bool(j % 2)
            out = np.zeros(x.max(axis=axis, keepdims=keepdims).shape)
            do(reduced("max" if v % 2 else "sum", x, out, axis))
        else:
            if kind == "unary":
                function, reads = UNARY[f % 4], (x,)
            else:
                function, reads = BINARY[f % 4], (x, y if kind == "binary" else 0.75)
            shape = shape_of(*reads)
            if shape is None:
                continue
            out = np.zeros(shape)
            do(call(function, *reads, out=out))
        memory.append(out)
    return calls, kept, first, memory


@settings(max_examples=400, deadline=None)
@given(programs(), st.integers(0, 2**32 - 1))
def test_any_program_compiled_comes_to_the_same(program, keeps):
    calls, state, first, memory = recorded(program)
    also = [array for i, array in enumerate(memory) if keeps >> i % 32 & 1]

    def start():
        for array, value in zip(state, first, strict=True):
            array[...] = value
        for array in memory[len(state) :]:
            array[...] = np.nan

    functions = compiled(calls, [*state, *also])
    with np.errstate(all="ignore"):
        start()
        for _ in range(2):  # a step begins with what the one before it left
            for each in calls:
                function, arguments = each.made
                function(*arguments)
        expected = [array.copy() for array in (*state, *also)]
        start()
        for _ in range(2):
            for function in functions:
                function()
    for one, other in zip((*state, *also), expected, strict=True):
        finite = other[np.isfinite(other)]
        np.testing.assert_allclose(
            one, other, rtol=0, atol=1e-9 * (1 + np.abs(finite).max(initial=0))
        )

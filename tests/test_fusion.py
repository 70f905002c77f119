"""Groups of calls: to do them is to do the calls, with far fewer functions, and no bit differs."""

from functools import partial

import numpy as np
import pytest
from conftest import REGULARIZATIONS, RULES
from hypothesis import given, settings
from hypothesis import strategies as st

import nnxp
from nnxp import SGD, Adam, objectives
from nnxp.executors import eager, fusion, recording
from nnxp.executors.recording import Call
from nnxp.kernels import ACTIVATIONS
from nnxp.nested import leaves
from nnxp.objectives import LOSSES
from nnxp.state import first_state
from nnxp.step import training_step


class Library(recording.ArrayOps):
    """NumPy, each result at a place of its own."""

    reuses_memory = False


LIBRARY = Library()


def identity(function, arrays):
    return function


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((83, 6)).astype(np.float32), rng.integers(0, 3, 83)


def assert_fused_is_eager(step, state, data, fuse=identity):
    """The calls of the step and its functions, after ten steps that came to the same bits."""
    order = np.random.default_rng(1).permutation(83)[:80].reshape(10, 8)
    rate = np.float32(0.1)
    with np.errstate(all="ignore"):
        expected, total = eager.run(step, state(), data, order, rate)
        start = state()
        program = recording.Program(step, start, data, order[0], LIBRARY, rate)
        functions = fusion.fused(program.calls, [*program.leaves, program.total], LIBRARY, fuse)
        program.load_state(state(), rate)
        for rows in order:
            for array, batch in zip(data, program.batch, strict=True):
                array.take(rows, 0, batch)
            for function, arguments in functions:
                function(*arguments)
    for one, other in zip(program.leaves, leaves(expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(program.total, total)
    return program.calls, functions


@pytest.mark.parametrize("regularization", REGULARIZATIONS.values(), ids=REGULARIZATIONS)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_step_fused_has_the_bits_of_an_eager_one(data, activation, rule, regularization):
    network = nnxp.MLP([6, 5, 4, 3], activation, backend="numpy")
    objective = objectives.get("auto", network.output)
    step = training_step(network.hidden, objective, rule, regularization, 1)
    calls, functions = assert_fused_is_eager(step, lambda: first_state(network, rule), data)
    assert len(functions) < 0.8 * len(calls)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("output", ACTIVATIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_objective_fused(data, loss, output, one_hot, weighted):
    x, t = data
    one_hot = one_hot or loss != "categorical_cross_entropy"
    arrays = [x, np.eye(3, dtype=np.float32)[t] if one_hot else t]
    if weighted:
        arrays.append(np.linspace(0, 2, len(x), dtype=np.float32))
    network = nnxp.MLP([6, 5, 3], "tanh", output, backend="numpy")
    step = training_step(network.hidden, objectives.get(loss, output), SGD(0.1))
    assert_fused_is_eager(step, lambda: first_state(network, SGD(0.1)), tuple(arrays))


def test_a_plain_step_is_a_score_of_functions(data):
    """Of 784-128-10, as notes on GPUs have it; more are more to launch."""
    network = nnxp.MLP([6, 5, 3], backend="numpy")
    step = training_step(network.hidden, objectives.get("auto", "softmax"), SGD(0.1))
    calls, functions = assert_fused_is_eager(step, lambda: first_state(network, SGD(0.1)), data)
    assert len(calls) >= 30
    assert len(functions) <= 24


def test_what_cannot_be_fused_is_done_call_by_call(data):
    network = nnxp.MLP([6, 5, 3], backend="numpy")
    step = training_step(network.hidden, objectives.get("auto", "softmax"), Adam(0.1))
    asked = []

    def none(function, arrays):
        asked.append(arrays)

    def every_other(function, arrays):
        asked.append(arrays)
        return function if len(asked) % 2 else None

    start = lambda: first_state(network, Adam(0.1))  # noqa: E731
    calls, functions = assert_fused_is_eager(step, start, data, none)
    assert len(functions) == len(calls)
    assert asked
    calls, functions = assert_fused_is_eager(step, start, data, every_other)
    assert len(functions) < len(calls)


# --- which calls go together, in what order


def call(function, *reads, out):
    """A recorded ufunc; of a lambda: one that is done as a whole, no formula."""
    if isinstance(function, np.ufunc):
        return Call(partial(LIBRARY.ufunc, function), reads, out, function)
    return Call(lambda r, w: (function, (*r, w)), reads, out, None)


def a_sum(x, out):
    np.copyto(out, x.sum())


def grouped(*calls):
    """Which of the calls, by their numbers, are in each group."""
    number = {id(each.writes): i for i, each in enumerate(calls)}
    assert len(number) == len(calls) or all(calls)
    found = fusion.groups(calls, LIBRARY)
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
    assert grouped(*calls) == ([[0, 1]] if together else [[0], [1]])
    expected = a.copy(), out.copy()
    for each in calls:
        function, arguments = each.made
        function(*arguments)
    came_to = a.copy(), out.copy()
    a[...], out[...] = expected
    for function, arguments in fusion.fused(calls, [a, out], LIBRARY, identity):
        function(*arguments)
    np.testing.assert_array_equal(a, came_to[0])
    np.testing.assert_array_equal(out, came_to[1])


# --- what a kernel is given


def given_to(calls, kept):
    """The arguments of the first group's kernel."""
    asked = []

    def fuse(function, arrays):
        asked.append(arrays)
        return function

    functions = fusion.fused(calls, kept, LIBRARY, fuse)
    return asked[0], functions


def has(arguments, array):
    return any(each is array for each in arguments)


def test_only_what_is_needed_later_is_written():
    a, b, c, d, e = arrays(*[(3, 4)] * 5)
    (total,) = arrays(())
    calls = [
        call(np.add, a, 1.0, out=b),  # read within the group alone
        call(np.exp, b, out=c),  # read by the sum
        call(np.negative, c, out=d),  # kept
        call(np.negative, d, out=e),  # read by nobody
        call(a_sum, c, out=total),
    ]
    before = b.copy(), e.copy()
    asked, functions = given_to(calls, [d, total])
    assert len(functions) == 2
    assert len(asked) == 3
    assert has(asked, a)
    assert has(asked, c)
    assert has(asked, d)
    for function, arguments in functions:
        function(*arguments)
    np.testing.assert_array_equal(b, before[0])
    np.testing.assert_array_equal(e, before[1])
    np.testing.assert_array_equal(c, np.exp(a + 1.0))
    np.testing.assert_array_equal(d, -c)
    assert total == c.sum()


def test_what_a_view_of_it_is_read_through_is_written():
    a, b = arrays((3, 4), (3, 4))
    for view in (b.T, b[1:], b.reshape(-1)):
        total = np.zeros(())
        calls = [
            call(np.add, a, 1.0, out=b), call(np.exp, b, out=np.zeros((3, 4))),
            call(a_sum, view, out=total),
        ]  # fmt: skip
        asked, _ = given_to(calls, [])
        assert has(asked, b)


def test_what_the_next_step_reads_first_is_written():
    """A state is read at the beginning of a step and written at its end."""
    state, gradient = arrays((3, 4), (3, 4))
    (total,) = arrays(())
    calls = [
        call(a_sum, state, out=total),
        call(np.multiply, gradient, total, out=gradient),
        call(np.subtract, state, gradient, out=state),
    ]
    expected, function = state.copy(), fusion.fused(calls, [], LIBRARY, identity)
    expected -= gradient * expected.sum()
    for made, arguments in function:
        made(*arguments)
    np.testing.assert_array_equal(state, expected)


def test_an_array_read_before_and_after_it_is_written():
    a, b, c = arrays((4,), (4,), (4,))
    calls = [
        call(np.add, a, 0.0, out=b),
        call(np.multiply, a, 2.0, out=a),
        call(np.add, a, 0.0, out=c),
    ]
    before = a.copy()
    ((function, arguments),) = fusion.fused(calls, [a, b, c], LIBRARY, identity)
    function(*arguments)
    np.testing.assert_array_equal(b, before)
    np.testing.assert_array_equal(a, before * 2)
    np.testing.assert_array_equal(c, before * 2)


def test_a_register_has_the_precision_of_the_memory_that_it_stands_for():
    (a,) = arrays((4,), dtype=np.float32)
    precise = np.full(4, 1 / 3)
    out = np.zeros(4, dtype=np.float32)
    calls = [
        call(np.add, a, precise, out=a),
        call(np.subtract, a, 1.0, out=out),
    ]
    expected = (a + precise).astype(np.float32) - np.float32(1.0)
    ((function, arguments),) = fusion.fused(calls, [out], LIBRARY, identity)
    function(*arguments)
    np.testing.assert_array_equal(out, expected)


def test_constants_are_given_or_baked_in():
    a, table, out = arrays((2, 4), (4,), (2, 4))
    calls = [call(np.multiply, a, table, out=out), call(np.add, out, 3.0, out=out)]
    asked, functions = given_to(calls, [out])
    assert len(asked) == 3
    assert has(asked, table)
    ((function, arguments),) = functions
    function(*arguments)
    np.testing.assert_array_equal(out, a * table + 3.0)


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
            do(call(a_sum, x, out=out))
        elif kind == "rows":
            if x.ndim < 2:
                continue
            out = np.zeros(x.shape[1])
            do(call(lambda a, out: np.copyto(out, a.sum(axis=0)), x, out=out))
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
def test_any_program_fused_comes_to_the_same_bits(program, keeps):
    calls, state, first, memory = recorded(program)
    also = [array for i, array in enumerate(memory) if keeps >> i % 32 & 1]

    def start():
        for array, value in zip(state, first, strict=True):
            array[...] = value
        for array in memory[len(state) :]:
            array[...] = np.nan

    functions = fusion.fused(calls, [*state, *also], LIBRARY, identity)
    assert len(functions) <= len(calls)
    with np.errstate(all="ignore"):
        start()
        for _ in range(2):  # a step begins with what the one before it left
            for each in calls:
                function, arguments = each.made
                function(*arguments)
        expected = [array.copy() for array in (*state, *also)]
        start()
        for _ in range(2):
            for function, arguments in functions:
                function(*arguments)
    for one, other in zip((*state, *also), expected, strict=True):
        np.testing.assert_array_equal(one, other)

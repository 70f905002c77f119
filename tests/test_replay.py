"""Replayed steps against eager ones: the same bits, and eager where a step cannot be recorded."""

import gc

import numpy as np
import pytest
from conftest import REGULARIZATIONS, RULES

import nnxp
from nnxp import SGD, Adam, Regularization
from nnxp.arrays import namespace
from nnxp.backends import eager, recording, replay
from nnxp.kernels import ACTIVATIONS
from nnxp.objectives import LOSSES, objective
from nnxp.training import first_state, training_step


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((203, 6)).astype(np.float32), rng.integers(0, 3, 203)


@pytest.fixture
def recorded(monkeypatch):
    """Every program that is made while the test runs, None where a step was not recorded."""
    programs = []
    make = replay._program
    monkeypatch.setattr(replay, "_program", lambda *a: programs.append(make(*a)) or programs[-1])
    return programs


def chunks():
    """Whole batches in two chunks, then an epoch's smaller last batch."""
    order = np.random.default_rng(1).permutation(203)
    whole = order[:200].reshape(25, 8)
    return [whole[:9], whole[9:], order[200:].reshape(1, 3)]


def both(step, state, data, orders, rates=(0.1,) * 9):
    """The states and losses that eager and replayed runs come to."""
    found = []
    for run in (lambda *chunk: eager.run(step, *chunk), replay.runner(step)):
        now, totals = state(), []
        with np.errstate(all="ignore"):
            for order, rate in zip(orders, rates, strict=False):
                now, total = run(now, data, order, rate)
                totals.append(float(total))
        found.append((recording.leaves(now), totals))
    return found


def assert_same(found):
    (eager_leaves, eager_totals), (leaves, totals) = found
    for expected, array in zip(eager_leaves, leaves, strict=True):
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)
    np.testing.assert_array_equal(totals, eager_totals)


@pytest.mark.parametrize("regularization", REGULARIZATIONS)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_step_is_recorded_and_equals_eager_bit_for_bit(
    recorded, data, activation, rule, regularization
):
    network = nnxp.MLP([6, 5, 4, 3], activation, backend="numpy")
    optimizer = RULES[rule]
    goal = objective("auto", network.output)
    step = training_step(network.hidden, goal, optimizer, REGULARIZATIONS[regularization], 1)
    assert_same(both(step, lambda: first_state(network, optimizer), data, chunks()))
    assert len(recorded) == 2  # one for the whole batches and one for the last
    assert None not in recorded


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("output", ACTIVATIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_objective_is_recorded(recorded, data, loss, output, one_hot, weighted):
    x, t = data
    one_hot = one_hot or loss != "categorical_cross_entropy"
    arrays = [x, np.eye(3, dtype=np.float32)[t] if one_hot else t]
    if weighted:
        arrays.append(np.linspace(0, 2, len(x), dtype=np.float32))
    network = nnxp.MLP([6, 5, 3], "tanh", output, backend="numpy")
    step = training_step(network.hidden, objective(loss, output), SGD(0.1))
    assert_same(both(step, lambda: first_state(network, SGD(0.1)), tuple(arrays), chunks()))
    assert None not in recorded


def test_the_learning_rate_may_change_between_chunks(recorded, data):
    network = nnxp.MLP([6, 5, 3], backend="numpy")
    for rule in RULES.values():
        step = training_step(network.hidden, objective("auto", "softmax"), rule)
        found = both(step, lambda: first_state(network, rule), data, chunks(), (0.5, 0.01, 0.2))  # noqa: B023
        if rule.weight_decay:  # 1 - rate * decay is then computed in float32, not in float64
            for expected, array in zip(found[0][0], found[1][0], strict=True):
                np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-7)
        else:
            assert_same(found)
    assert None not in recorded


def test_training_with_diagnostics_dropout_and_weights_is_recorded(recorded, data):
    x, t = data
    network = nnxp.MLP([6, 5, 4, 3], ["relu", "sigmoid"], backend="numpy")
    nnxp.train(
        network, x, t, epochs=3, batch_size=8, diagnose=True, optimizer=Adam(),
        regularization=Regularization(dropout=0.2), sample_weight=np.ones(len(x)),
    )  # fmt: skip
    assert len(recorded) == 2
    assert None not in recorded


def test_a_replay_takes_up_a_state_that_it_did_not_return(data):
    """As the diagnostics give it a new one each epoch."""
    network = nnxp.MLP([6, 5, 3], backend="numpy")
    step = training_step(network.hidden, objective("auto", "softmax"), SGD(0.1))
    run = replay.runner(step)
    first, *_ = chunks()
    ours, _ = run(first_state(network, SGD(0.1)), data, first, 0.1)
    once = [leaf.copy() for leaf in recording.leaves(ours)]
    again, _ = run(first_state(network, SGD(0.1)), data, first, 0.1)
    for expected, array in zip(once, recording.leaves(again), strict=True):
        np.testing.assert_array_equal(array, expected)


def step_of(change):
    """A step that does `change` to a single weight, (2,), and returns its sum as the loss."""

    def step(parameters, state, batch, rate):
        ((weight,),) = parameters
        weight = change(namespace(weight), weight, batch[0])
        return [(weight,)], state, namespace(weight).sum(weight)

    return step


def state():
    return [(np.array([1.0, -2.0]),)], []


X = (np.arange(12.0).reshape(6, 2),)
ORDERS = [np.array([[0, 3], [1, 2], [5, 4]])]


def constant_overwritten(xp, weight, x):
    total = xp.zeros((2,), dtype=weight.dtype)
    total += weight
    return total


RECORDABLE = {
    "where": lambda xp, w, x: xp.where(w > 0, w * 0.5, w + xp.sum(x, axis=0)),
    "clip": lambda xp, w, x: xp.clip(w + x[0, ...], min=-1.0, max=2.5),
    "take": lambda xp, w, x: w + xp.take(x, xp.astype(x[:, 0] > 2, xp.int64), axis=0)[0, ...],
    "mean": lambda xp, w, x: w + xp.mean(x, axis=0) - xp.mean(x),
    "stack": lambda xp, w, x: xp.sum(xp.stack([w, x[0, ...], x[1, ...]]), axis=0),
    "concat": lambda xp, w, x: xp.concat([w[:1], x[0, 1:]]),
    "constants": lambda xp, w, x: w * (xp.arange(2, dtype=w.dtype) + xp.ones_like(w)),
    "reversed operators": lambda xp, w, x: 1.0 - (2.0 / (1.0 + w * w)),
    "transposed": lambda xp, w, x: w @ x.T @ x * 0.01,
    "max and min": lambda xp, w, x: w + xp.max(x, axis=0) - xp.min(x),
    "a new array in place of the old": lambda xp, w, x: w + 0.0,
}
UNRECORDABLE = {
    "a value is read": lambda xp, w, x: w * 2.0 if float(xp.sum(x)) > 9 else w,
    "a truth value is read": lambda xp, w, x: w + 1.0 if xp.sum(w) > 0 else w - 1.0,
    "an unknown function": lambda xp, w, x: w + xp.cumulative_sum(x[:, 0])[:2],
    "a constant is overwritten": constant_overwritten,
}


@pytest.mark.parametrize("change", RECORDABLE)
def test_what_steps_may_do(recorded, change):
    assert_same(both(step_of(RECORDABLE[change]), state, X, ORDERS))
    assert None not in recorded


@pytest.mark.parametrize("change", UNRECORDABLE)
def test_what_cannot_be_recorded_runs_eagerly_from_the_same_state(recorded, change):
    assert_same(both(step_of(UNRECORDABLE[change]), state, X, ORDERS))
    assert recorded == [None]


def test_a_step_that_swaps_its_state_runs_eagerly(recorded):
    def step(parameters, state, batch, rate):
        ((a, b),) = parameters
        a += 1.0
        return [(b, a)], state, namespace(a).sum(a)

    def start():
        return [(np.array([1.0]), np.array([5.0]))], []

    assert_same(both(step, start, X, ORDERS))
    assert recorded == [None]


def test_an_error_of_the_step_is_raised_as_it_is():
    def step(parameters, state, batch, rate):
        raise RuntimeError("of the step")

    with pytest.raises(RuntimeError, match="of the step"):
        replay.runner(step)(state(), X, ORDERS[0], 0.1)


def test_an_empty_chunk_does_nothing():
    step = step_of(RECORDABLE["mean"])
    now, total = replay.runner(step)(state(), X, np.zeros((0, 2), dtype=np.int64), 0.1)
    assert now[0][0][0].tolist() == [1.0, -2.0]
    assert float(total) == 0


def test_memory_is_reused_within_a_step():
    """Twenty results one after the other need the room of two."""

    def chain(xp, weight, x):
        for _ in range(20):
            weight = weight * 1.0 + 0.0
        return weight

    leaves = [(np.zeros(1000),)], []
    program = recording.Program(step_of(chain), leaves, X, np.array([0, 1]), recording.Library())
    gc.collect()
    results = [call.writes for call in program.calls if call.formula in (np.multiply, np.add)]
    memory = {array.__array_interface__["data"][0] for array in results if array.size == 1000}
    assert len([array for array in results if array.size == 1000]) == 40
    assert len(memory) <= 3


def test_two_trainings_do_not_share_their_arrays(data):
    """The step function is the same one; what is recorded belongs to a training."""
    x, t = data
    networks = [nnxp.MLP([6, 5, 3], backend="numpy", seed=seed) for seed in (0, 1)]
    alone = nnxp.MLP([6, 5, 3], backend="numpy", seed=0)
    nnxp.train(alone, x, t, epochs=2, batch_size=8)

    def meanwhile(network, history):
        nnxp.train(networks[1], x, t, epochs=1, batch_size=8)

    nnxp.train(networks[0], x, t, epochs=2, batch_size=8, callbacks=[meanwhile])
    for expected, layer in zip(alone.parameters, networks[0].parameters, strict=True):
        np.testing.assert_array_equal(layer[0], expected[0])


def calls_of(change, weight, data=X):
    """What a step of `change` comes to, by blocks."""
    start = [(weight,)], []
    program = recording.Program(step_of(change), start, data, np.array([0, 1]), recording.Library())
    return program, list(replay._by_blocks(program.calls))


def test_long_rows_of_calls_on_large_matrices_go_by_blocks_to_the_same_bits():
    def many(xp, weight, x):
        return weight + xp.sqrt(xp.exp(weight * 0.5) * x[0, :1] + 1.0) / 3.0 - 0.25

    rng = np.random.default_rng(0)
    weight = rng.standard_normal((3000, 20))
    expected = many(np, weight, X[0][[0, 1]])
    program, calls = calls_of(many, weight.copy())
    assert len(calls) > len(program.calls) + 20  # 480,000 bytes are four blocks of each call
    program.take_up(([(weight,)], []), 0.1)
    for function, arguments in calls:
        function(*arguments)
    np.testing.assert_array_equal(program.leaves[0], expected)


def test_short_rows_and_small_matrices_go_whole_and_are_not_even_grouped(monkeypatch):
    """To group the calls of Adam took longer than to train on a thousand samples."""
    monkeypatch.setattr(replay, "groups", None)
    for change, shape in [
        (lambda xp, w, x: w * 2.0 + 1.0, (3000, 20)),
        (lambda xp, w, x: w * 2.0 + 1.0 - w * 3.0 + 0.5 + 0.1 + 0.2, (30, 20)),
    ]:
        program, calls = calls_of(change, np.ones(shape))
        assert len(calls) == len(program.calls)


def test_an_outer_product_is_not_left_to_blas(monkeypatch):
    a, b, out = np.ones((3, 1)), np.ones((1, 4)), np.empty((3, 4))
    assert recording.Library().product((a, b), out)[0] is np.multiply
    assert recording.Library().product((np.ones((3, 2)), np.ones((2, 4))), out)[0] is np.matmul


def laid_out(batch_size, executor="replay"):
    """A weight's layout while it is trained, and the network."""
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((256, 50)).astype(np.float32), rng.integers(0, 3, 256)
    network = nnxp.MLP([50, 100, 3], backend=nnxp.backends.get("numpy", executor=executor))
    step = training_step(network.hidden, objective("auto", "softmax"), Adam())
    run = network.backend.runner(step)
    order = np.arange(256).reshape(-1, batch_size)
    state, _ = run(first_state(network, Adam()), (x, t), order, 0.1)
    nnxp.train(network, x, t, epochs=2, batch_size=batch_size)
    return [leaf.flags.f_contiguous for leaf in recording.leaves(state) if leaf.ndim == 2], network


@pytest.mark.parametrize("executor", ["replay", "eager"])
def test_small_weights_lie_by_columns_only_while_they_are_trained(executor):
    by_columns, small = laid_out(8, executor)
    assert by_columns == [True] * 6  # weights and both moments of Adam
    large, _ = laid_out(256, executor)
    assert large == [False] * 6  # 50 x 100 in batches of 256
    assert all(weight.flags.c_contiguous for weight, _ in small.parameters)


def test_both_layouts_learn_the_same(monkeypatch):
    _, by_columns = laid_out(8)
    monkeypatch.setattr("nnxp.backends.numpy.BETTER_BY_COLUMNS", 0)
    _, by_rows = laid_out(8)
    for one, other in zip(by_columns.parameters, by_rows.parameters, strict=True):
        np.testing.assert_allclose(one[0], other[0], rtol=1e-3, atol=1e-4)


def test_moments_that_fade_away_end_at_zero():
    """0.9 of the smallest subnormal number rounds to itself, and each costs ten times as much."""
    tiny = np.float32(1e-40)
    parameters = [(np.full((2, 2), tiny), np.zeros(2, dtype=np.float32))]
    moment = np.array([tiny, -tiny, 2e-38, 0.0], dtype=np.float32)

    def step(parameters, state, batch, rate):
        return parameters, state, namespace(batch[0]).sum(batch[0])

    run = nnxp.backends.get("numpy").runner(step)
    (kept, (moment,)), _ = run((parameters, (moment,)), X, ORDERS[0], 0.1)
    assert moment.tolist() == [0.0, 0.0, np.float32(2e-38), 0.0]
    assert (kept[0][0] == tiny).all()  # parameters are the network's own affair

"""Replayed steps against eager ones: the same bits, and eager where a step cannot be recorded."""

import gc
from functools import cache
from itertools import product

import numpy as np
import pytest
from conftest import REGULARIZATIONS, RULES, turning
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import nnxp
from nnxp import SGD, Adam, Regularization, objectives
from nnxp.arrays import namespace
from nnxp.backends import numpy as numpy_backend
from nnxp.executors import eager, recording, replay
from nnxp.kernels import ACTIVATIONS
from nnxp.nested import leaves
from nnxp.objectives import LOSSES
from nnxp.state import first_state
from nnxp.step import training_step

NUMPY = nnxp.backends.get("numpy")


@cache
def columns_change_bits():
    """Whether a product that is written by columns has other bits than one written by rows.

    With OpenBLAS's kernels for Haswell it has, and eager steps make theirs by rows.
    """
    rng = np.random.default_rng(0)
    for dtype, units in product((np.float32, np.float64), (3, 5)):
        x, dz = (rng.standard_normal((8, n)).astype(dtype) for n in (12, units))
        by_columns = np.empty((12, units), dtype, order="F")
        if not np.array_equal(np.matmul(x.T, dz, by_columns), x.T @ dz):
            return True
    return False


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((203, 6)).astype(np.float32), rng.integers(0, 3, 203)


def chunks():
    """Whole batches in two chunks, then an epoch's smaller last batch."""
    order = np.random.default_rng(1).permutation(203)
    whole = order[:200].reshape(25, 8)
    return [whole[:9], whole[9:], order[200:].reshape(1, 3)]


def both(step, state, data, orders):
    """The states and losses that eager and replayed runs come to, and the fall-backs."""
    found, fallbacks = [], []
    replayed = replay.runner(step, NUMPY, fallbacks.append)
    for run in (lambda *chunk: eager.run(step, *chunk), replayed):
        now, totals = state(), []
        with np.errstate(all="ignore"):
            for order in orders:
                now, total = run(now, data, order, 0.1)
                totals.append(float(total))
        found.append((leaves(now), totals))
    return found, fallbacks


def assert_same(found):
    (eager_leaves, eager_totals), (replayed, totals) = found
    for expected, array in zip(eager_leaves, replayed, strict=True):
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)
    np.testing.assert_array_equal(totals, eager_totals)


def trained(executor, sizes, targets, *, hidden="relu", output="softmax", dtype="float32", **how):
    """The parameters and losses that a training comes to, and its history."""
    backend = nnxp.backends.get("numpy", executor=executor)
    network = nnxp.MLP(sizes, hidden, output, backend=backend, dtype=dtype)
    x = np.random.default_rng(0).standard_normal((len(targets), sizes[0]))
    history = nnxp.train(network, x, targets, **{"epochs": 2, "batch_size": 8} | how)
    parameters = [array for layer in network.parameters for array in layer]
    return (parameters, [epoch.loss for epoch in history.epochs]), history


def assert_replayed(sizes, targets, **how):
    """Every step of a training is replayed, to the same bits as eagerly."""
    with pytest.MonkeyPatch.context() as patched:
        if columns_change_bits():
            patched.setattr(numpy_backend, "F_ORDER_MAX_MACS", 0)
        expected, _ = trained("eager", sizes, targets, **how)
        patched.setattr(replay, "eager", None)  # so that nothing falls back unseen
        found, history = trained("replay", sizes, targets, **how)
    assert history.fallbacks == []
    if getattr(how.get("optimizer"), "weight_decay", 0) and "schedule" in how:
        # 1 - rate * decay is computed in float32, not in float64.
        for one, other in zip(found[0], expected[0], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    else:
        assert_same([expected, found])


def targets_of(kind, outputs, samples=203):
    classes = np.random.default_rng(2).integers(0, outputs, samples)
    return {"classes": classes, "one-hot": np.eye(outputs)[classes]}[kind]


@pytest.mark.parametrize(
    ("activation", "rule", "regularization"),
    turning(ACTIVATIONS, product(RULES, REGULARIZATIONS), times=3),
)
def test_every_activation_and_optimizer_is_replayed(activation, rule, regularization):
    assert_replayed(
        [6, 5, 4, 3],
        targets_of("classes", 3),
        hidden=activation,
        optimizer=RULES[rule],
        regularization=REGULARIZATIONS[regularization],
        seed=1,
    )


@pytest.mark.parametrize(
    ("loss", "output", "kind", "weighted"),
    turning(product(LOSSES, ACTIVATIONS), product(["classes", "one-hot"], [False, True])),
)
def test_every_objective_is_replayed(loss, output, kind, weighted):
    # 6 features a quarter of which are 2 outputs at most: classes stay classes.
    sizes = [6, 5, 3] if kind == "classes" else [12, 5, 3]
    weights = {"sample_weight": np.linspace(0, 2, 203)} if weighted else {}
    how = {"loss": loss, "output": output, "hidden": "tanh", "optimizer": SGD(0.01), **weights}
    if kind == "classes" and loss != "categorical_cross_entropy":
        sizes, kind = [6, 5, 1], "classes"
        targets = targets_of("classes", 2)
    else:
        targets = targets_of(kind, 3)
    assert_replayed(sizes, targets, **how)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_stored_by_columns_are_replayed_to_rounding(monkeypatch, rule, dtype):
    monkeypatch.setattr(numpy_backend, "F_ORDER_MAX_MACS", 10**6)
    how = {"optimizer": RULES[rule], "regularization": Regularization(l1=0.01), "dtype": dtype}
    targets = targets_of("one-hot", 3)
    (expected, _), _ = trained("eager", [12, 8, 3], targets, **how)
    (found, _), history = trained("replay", [12, 8, 3], targets, **how)
    assert history.fallbacks == []
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6 if dtype == "float32" else 1e-14)


LAYOUTS = {
    "l1": {"regularization": Regularization(l1=0.01)},
    "l2": {"regularization": Regularization(l2=0.01)},
    "l2 with Adam": {"regularization": Regularization(l2=0.01), "optimizer": Adam()},
    "max-norm": {"regularization": Regularization(max_norm=0.5)},
    "dropout": {"regularization": Regularization(dropout=0.3)},
    "diagnose": {"diagnose": True},
    "diagnose, l1 and dropout": {
        "diagnose": True, "regularization": Regularization(l1=0.01, dropout=(0.2, 0.4))
    },
    "sample weights": {"sample_weight": np.linspace(0, 2, 203)},
    "momentum": {"optimizer": SGD(0.1, momentum=0.9)},
    "a rate that changes": {"schedule": nnxp.schedules.Step(1)},
    "a rate that changes and decay": {
        "schedule": nnxp.schedules.Step(1), "optimizer": Adam(weight_decay=0.01)
    },
    "validation": {"validation": 0.2, "schedule": nnxp.schedules.Plateau()},
    "streamed": {"stream": True},
    "streamed sample weights, l1": {
        "stream": True, "sample_weight": np.linspace(0, 2, 203),
        "regularization": Regularization(l1=0.01),
    },
    "early stopping": {
        "callbacks": [nnxp.EarlyStopping("loss", patience=1)], "progress": lambda samples: None
    },
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "batch_size", [pytest.param(1, marks=pytest.mark.slow), 7, 8, 9, None], ids=str
)
@pytest.mark.parametrize("options", LAYOUTS)
def test_a_batch_as_large_as_a_layer_is_replayed_with_every_option(options, batch_size, dtype):
    """What is computed must not be taken for a weight because it has the shape of one."""
    how = {"batch_size": batch_size, "dtype": dtype} | LAYOUTS[options]
    assert_replayed([9, 8, 7, 8], targets_of("classes", 8), **how)


@pytest.mark.parametrize("options", ["l1", "diagnose, l1 and dropout", "streamed"])
@pytest.mark.parametrize("scale_targets", [True, False])
@pytest.mark.parametrize("outputs", [1, 8])
def test_scaled_targets_are_replayed(outputs, scale_targets, options):
    """Each output of another scale, so that losses have units of their own."""
    targets = np.random.default_rng(2).standard_normal((203, outputs)) * np.arange(1.0, outputs + 1)
    how = {"output": "identity", "scale_targets": scale_targets, "optimizer": SGD(0.01)}
    assert_replayed([9, 8, 7, outputs], targets, **how | LAYOUTS[options])


@pytest.mark.slow
@pytest.mark.parametrize("output", ["softmax", "sigmoid", "identity"])
@pytest.mark.parametrize("sizes", [[1, 8], [8, 1], [8, 8], [8, 8, 8], [1, 8, 8], [8, 1, 8, 1]])
@pytest.mark.parametrize("options", ["l1", "l2 with Adam"])
def test_layers_of_one_unit_and_no_hidden_layer_are_replayed(options, sizes, output):
    if output == "softmax" and sizes[-1] == 1:
        output = "tanh"
    targets = np.random.default_rng(3).integers(0, 2, (203, sizes[-1]))
    if output == "softmax":
        targets = targets_of("classes", 8)
    for batch_size in (1, 8):
        how = {"batch_size": batch_size, "output": output} | LAYOUTS[options]
        assert_replayed(sizes, targets, **{"hidden": "sigmoid"} | how)


@st.composite
def configurations(draw):
    width = st.integers(1, 6)
    sizes = draw(st.lists(width, min_size=2, max_size=5))
    samples = draw(st.integers(1, 40))
    hidden = draw(st.lists(st.sampled_from(sorted(ACTIVATIONS)), min_size=3, max_size=3))
    kind = draw(st.sampled_from(["classes", "one-hot", "labels", "values"]))
    losses = {
        "classes": ["categorical_cross_entropy"], "one-hot": list(LOSSES),
        "labels": ["binary_cross_entropy", "quadratic"], "values": ["quadratic"],
    }  # fmt: skip
    loss = draw(st.sampled_from(losses[kind]))
    assume(loss != "categorical_cross_entropy" or sizes[-1] > 1)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    classes = rng.integers(0, sizes[-1], samples)
    targets = {
        "classes": classes,
        "one-hot": np.eye(sizes[-1])[classes],
        "labels": rng.integers(0, 2, (samples, sizes[-1])),
        "values": rng.standard_normal((samples, sizes[-1])),
    }[kind]
    share = st.sampled_from([0.0, 0.3])
    regularization = Regularization(
        draw(st.sampled_from([0.0, 0.01])),
        draw(st.sampled_from([0.0, 0.01])),
        draw(st.sampled_from([None, 0.5])),
        tuple(draw(st.lists(share, min_size=len(sizes) - 2, max_size=len(sizes) - 2))),
    )
    return sizes, targets, {
        "hidden": hidden[: len(sizes) - 2],
        "output": draw(st.sampled_from(sorted(ACTIVATIONS))),
        "loss": loss,
        "optimizer": draw(st.sampled_from([SGD(0.001), *RULES.values()])),
        "batch_size": draw(st.sampled_from([*sizes, 1, None])),
        "regularization": regularization,
        "diagnose": draw(st.booleans()),
        "dtype": draw(st.sampled_from(["float32", "float64"])),
        **draw(st.sampled_from([{}, {"sample_weight": rng.uniform(0.1, 2, samples)}])),
    }  # fmt: skip


@settings(deadline=None, max_examples=50)
@given(configurations())
def test_every_configuration_is_replayed(configuration):
    assert_configuration_replayed(configuration)


@pytest.mark.slow
@settings(deadline=None, max_examples=500)
@given(configurations())
def test_many_more_configurations_are_replayed(configuration):
    assert_configuration_replayed(configuration)


def assert_configuration_replayed(configuration):
    sizes, targets, how = configuration
    try:
        trained("eager", sizes, targets, **how)
    except nnxp.DivergenceError:
        return
    assert_replayed(sizes, targets, **how)


@pytest.mark.parametrize("batch_size", [1, 8, 9])
@pytest.mark.parametrize("optimizer", RULES.values(), ids=RULES)
def test_what_is_added_to_a_weight_lies_as_the_weight_does(monkeypatch, optimizer, batch_size):
    """Else each step would go through one of the two across its rows."""
    programs = []
    make = replay._program
    monkeypatch.setattr(replay, "_program", lambda *a: programs.append(make(*a)) or programs[-1])
    how = {"batch_size": batch_size, "optimizer": optimizer}
    trained("replay", [9, 8, 7], targets_of("classes", 7), **how)
    updates = 0
    for call in programs[0][0].calls:
        if (
            call.is_elementwise
            and call.writes.shape in [(9, 8), (8, 7)]
            and not in_rows(call.writes)
        ):
            updates += 1
            assert not any(in_rows(each) for each in call.reads if each.shape == call.writes.shape)
    assert updates >= 2


def in_rows(array):
    return array.flags.c_contiguous


def test_the_learning_rate_of_a_wide_layer_by_blocks_is_replayed():
    """Adam on a matrix of more than a block, by rows and by columns."""
    for batch_size in (20, 400):
        how = {"batch_size": batch_size, "optimizer": Adam(), "epochs": 3}
        assert_replayed([300, 200, 3], targets_of("classes", 3, 400), **how)


def test_a_replay_takes_up_a_state_that_it_did_not_return(data):
    """As the diagnostics give it a new one each epoch."""
    network = nnxp.MLP([6, 5, 3], backend="numpy")
    step = training_step(network.hidden, objectives.get("auto", "softmax"), SGD(0.1))
    run = replay.runner(step, NUMPY, print)
    first, *_ = chunks()
    ours, _ = run(first_state(network, SGD(0.1)), data, first, 0.1)
    once = [leaf.copy() for leaf in leaves(ours)]
    again, _ = run(first_state(network, SGD(0.1)), data, first, 0.1)
    for expected, array in zip(once, leaves(again), strict=True):
        np.testing.assert_array_equal(array, expected)


def step_of(change):
    """A step that does `change` to a single weight, (2,), and returns its sum as the loss."""

    def step(state, batch, rate):
        ((weight,),) = state
        weight = change(namespace(weight), weight, batch[0])
        return ((weight,),), namespace(weight).sum(weight)

    return step


def state():
    return ((np.array([1.0, -2.0]),),)


X = (np.arange(12.0).reshape(6, 2),)
ORDERS = [np.array([[0, 3], [1, 2], [5, 4]])]


def constant_overwritten(xp, weight, x):
    total = xp.zeros((2,), dtype=weight.dtype)
    total += weight
    return total


def reversed_added(xp, weight, x):
    weight += weight[::-1]
    return weight


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
    "reshaped": lambda xp, w, x: (
        w + xp.sum(xp.reshape(x.T, (-1,))[:3]) + xp.reshape(x.T, (4,))[1:2]
    ),
    "a new array in place of the old": lambda xp, w, x: w + 0.0,
}
UNRECORDABLE = {
    "a value is read": (
        lambda xp, w, x: w * 2.0 if float(xp.sum(x)) > 9 else w, "a value is read"
    ),
    "a truth value is read": (
        lambda xp, w, x: w + 1.0 if xp.sum(w) > 0 else w - 1.0, "a value is read"
    ),
    "an unknown function": (
        lambda xp, w, x: w + xp.cumulative_sum(x[:, 0])[:2], "cumulative_sum is not recorded"
    ),
    "a constant is overwritten": (constant_overwritten, "a constant is overwritten"),
    "an array changed by a view of itself": (
        reversed_added, "an array is changed by another view of itself"
    ),
    "an index that copies": (
        lambda xp, w, x: w + x[np.array([0]), :][0, ...], "an index that makes a copy"
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", RECORDABLE)
def test_what_steps_may_do(change):
    found, fallbacks = both(step_of(RECORDABLE[change]), state, X, ORDERS)
    assert_same(found)
    assert fallbacks == []


@pytest.mark.parametrize("change", UNRECORDABLE)
def test_what_cannot_be_recorded_runs_eagerly_from_the_same_state(change):
    function, reason = UNRECORDABLE[change]
    found, fallbacks = both(step_of(function), state, X, ORDERS)
    assert_same(found)
    assert fallbacks == [f"steps run eagerly: they cannot be recorded ({reason})"]


def test_a_step_that_swaps_its_state_runs_eagerly():
    def step(state, batch, rate):
        ((a, b),) = state
        a += 1.0
        return ((b, a),), namespace(a).sum(a)

    def start():
        return ((np.array([1.0]), np.array([5.0])),)

    found, fallbacks = both(step, start, X, ORDERS)
    assert_same(found)
    assert len(fallbacks) == 1
    assert "(the step returns one array of its state as another)" in fallbacks[0]


def reads_a_value(z):
    return z * 0.5 if namespace(z).max(z) > 1e9 else namespace(z).tanh(z)


def test_a_training_that_falls_back_says_so_once_with_the_reason(monkeypatch, caplog, data):
    monkeypatch.setitem(ACTIVATIONS, "tanh", (reads_a_value, ACTIVATIONS["tanh"][1]))
    network = nnxp.MLP([6, 5, 3], "tanh", backend=nnxp.backends.get("numpy"))
    with caplog.at_level("INFO", "nnxp"):
        history = nnxp.train(network, *data, epochs=2, batch_size=8)  # 3 in the last batch
    line = "steps run eagerly: they cannot be recorded (a value is read)"
    assert history.fallbacks == [line]
    assert [each.message for each in caplog.records].count(line) == 1


def test_an_error_of_the_step_is_raised_as_it_is():
    def step(state, batch, rate):
        raise RuntimeError("of the step")

    with pytest.raises(RuntimeError, match="of the step"):
        replay.runner(step, NUMPY, print)(state(), X, ORDERS[0], 0.1)


def test_an_empty_chunk_does_nothing():
    step = step_of(RECORDABLE["mean"])
    nothing = np.zeros((0, 2), dtype=np.int64)
    now, total = replay.runner(step, NUMPY, print)(state(), X, nothing, 0.1)
    assert now[0][0].tolist() == [1.0, -2.0]
    assert float(total) == 0


def test_memory_is_reused_within_a_step():
    """Twenty results one after the other need the room of two."""

    def chain(xp, weight, x):
        for _ in range(20):
            weight = weight * 1.0 + 0.0
        return weight

    start = ((np.zeros(1000),),)
    program = recording.Program(step_of(chain), start, X, np.array([0, 1]), recording.ArrayOps())
    gc.collect()
    results = [call.writes for call in program.calls if call.name in ("multiply", "add")]
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
    library = recording.ArrayOps()
    program = recording.Program(step_of(change), ((weight,),), data, np.array([0, 1]), library)
    return program, list(replay._by_blocks(program.calls))


def test_long_rows_of_calls_on_large_matrices_go_by_blocks_to_the_same_bits():
    def many(xp, weight, x):
        return weight + xp.sqrt(xp.exp(weight * 0.5) * x[0, :1] + 1.0) / 3.0 - 0.25

    rng = np.random.default_rng(0)
    weight = rng.standard_normal((3000, 20))
    expected = many(np, weight, X[0][[0, 1]])
    program, calls = calls_of(many, weight.copy())
    assert len(calls) > len(program.calls) + 20  # 480,000 bytes are four blocks of each call
    program.load_state(([(weight,)], []), 0.1)
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
    assert recording.ArrayOps().product((a, b), out)[0] is np.multiply
    assert recording.ArrayOps().product((np.ones((3, 2)), np.ones((2, 4))), out)[0] is np.matmul


def laid_out(batch_size, executor="replay"):
    """A weight's layout while it is trained, and the network."""
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((256, 50)).astype(np.float32), rng.integers(0, 3, 256)
    network = nnxp.MLP([50, 100, 3], backend=nnxp.backends.get("numpy", executor=executor))
    step = training_step(network.hidden, objectives.get("auto", "softmax"), Adam())
    run = network.backend.runner(step)
    order = np.arange(256).reshape(-1, batch_size)
    state, _ = run(first_state(network, Adam()), (x, t), order, 0.1)
    nnxp.train(network, x, t, epochs=2, batch_size=batch_size)
    return [leaf.flags.f_contiguous for leaf in leaves(state) if leaf.ndim == 2], network


@pytest.mark.parametrize("executor", ["replay", "eager"])
def test_small_weights_lie_by_columns_only_while_they_are_trained(executor):
    by_columns, small = laid_out(8, executor)
    assert by_columns == [True] * 6  # weights and both moments of Adam
    large, _ = laid_out(256, executor)
    assert large == [False] * 6  # 50 x 100 in batches of 256
    assert all(weight.flags.c_contiguous for weight, _ in small.parameters)


def test_both_layouts_learn_the_same(monkeypatch):
    _, by_columns = laid_out(8)
    monkeypatch.setattr("nnxp.backends.numpy.F_ORDER_MAX_MACS", 0)
    _, by_rows = laid_out(8)
    for one, other in zip(by_columns.parameters, by_rows.parameters, strict=True):
        np.testing.assert_allclose(one[0], other[0], rtol=1e-3, atol=1e-4)


def test_moments_that_fade_away_end_at_zero():
    """0.9 of the smallest subnormal number rounds to itself, and each costs ten times as much."""
    network = nnxp.MLP([2, 3, 2], "identity", backend="numpy")
    x, t = np.zeros((4, 2), dtype=np.float32), [0, 1, 0, 1]  # the first weights get no gradient
    how = {"batch_size": None, "optimizer": Adam(0.0)}
    history = nnxp.train(network, x, t, epochs=1, **how)
    first = [array for array in leaves(history.resumable) if array.shape == (2, 3)]
    assert len(first) == 2  # both moments
    for array in first:
        array[...] = np.float32(1e-40)
    nnxp.train(network, x, t, epochs=62, resume=history, **how)
    assert all(leaves(history.resumable)[0].ravel() > 0)
    nnxp.train(network, x, t, epochs=1, resume=history, **how)  # the 64th step
    assert not any(leaves(history.resumable)[0].ravel())

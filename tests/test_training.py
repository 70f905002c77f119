import json
import pickle
import re

import numpy as np
import pytest
from conftest import require
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import completed

from nnxp import (
    MLP,
    SGD,
    Adam,
    DivergenceError,
    InputError,
    Regularization,
    backends,
    objectives,
    train,
)
from nnxp.arrays import index_dtype, is_array, to_numpy
from nnxp.data import batches
from nnxp.nested import leaves, rebuilt
from nnxp.network import backpropagate
from nnxp.objectives import LOSSES
from nnxp.state import first_state
from nnxp.step import training_step


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((203, 6))
    return x, (x[:, 0] + x[:, 1] > 0).astype(int) + (x[:, 2] > 1)


def arrays(parameters):
    return [to_numpy(array) for layer in parameters for array in layer]


RULES = [SGD(0.1), SGD(0.05, momentum=0.9, nesterov=True), Adam(0.01, weight_decay=0.01)]


@pytest.mark.promise("same result")
@pytest.mark.parametrize("rule", RULES, ids=["sgd", "nesterov", "adam"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-4)])
def test_backends_agree_after_100_steps(backend, data, rule, dtype, tolerance):
    trained = []
    for each in ("numpy", backend):
        network = MLP([6, 9, 7, 3], ("relu", "tanh"), dtype=dtype, seed=4, backend=each)
        # 203 samples in batches of 8 are 26 steps an epoch, the last of them a smaller one.
        train(network, *data, optimizer=rule, epochs=4, batch_size=8, seed=4)
        trained.append(arrays(network.parameters))
    for reference, array in zip(*trained, strict=True):
        assert np.linalg.norm(array - reference) <= tolerance * np.linalg.norm(reference)


@pytest.mark.slow
@pytest.mark.promise("same result")
@pytest.mark.parametrize("rule", RULES, ids=["sgd", "nesterov", "adam"])
def test_each_of_100_steps_agrees_in_float32(backend, data, rule, cases):
    """From NumPy's state, so that differences of earlier steps do not add up."""
    step = training_step(("relu", "tanh"), objectives.get("auto", "softmax"), rule)
    state = first_state(MLP([6, 9, 7, 3], ("relu", "tanh"), seed=4, backend="numpy"), rule)
    order = np.random.default_rng(0).integers(0, len(data[0]), (100, 8))
    for number, rows in enumerate(order):
        batch = data[0][rows].astype(np.float32), data[1][rows]
        there = rebuilt(state, [backend.asarray(array, copy=True) for array in leaves(state)])
        with backend.active():
            there, _ = step(there, tuple(map(backend.asarray, batch)), 0.1)
        state, _ = step(state, batch, 0.1)
        with cases(f"step {number}"):
            for mine, theirs in zip(leaves(state), map(to_numpy, leaves(there)), strict=True):
                assert np.linalg.norm(theirs - mine) <= 1e-5 * np.linalg.norm(mine)


@pytest.mark.promise("no wait")
@pytest.mark.parametrize("rule", RULES, ids=["sgd", "nesterov", "adam"])
def test_nothing_in_a_chunk_of_steps_waits_for_the_device(conversions, data, rule):
    gpu = backends.get("array-api-strict", "device1")
    network = MLP([6, 8, 3], backend=gpu)
    x = gpu.asarray(data[0], dtype=gpu.xp.float32)
    t = gpu.asarray(data[1], dtype=index_dtype(gpu.xp))
    order = gpu.asarray(np.arange(200).reshape(100, 2))
    run = gpu.runner(training_step(("relu",), objectives.get("auto", "softmax"), rule))
    state = first_state(network, rule)
    state, total = run(state, (x, t), order, 0.1)
    assert conversions.count == 0
    assert str(state.parameters[0][0].device) == str(total.device) == str(gpu.device)


@pytest.mark.parametrize(
    "rule",
    # So large an epsilon, for without one Adam's step does not depend on the gradient's scale.
    [SGD(0.7), SGD(0.7, momentum=0.5), Adam(0.3, epsilon=0.1)],
    ids=["sgd", "momentum", "adam"],
)
def test_one_epoch_is_the_steps_written_out(backend, rule):
    """The trainer against a loop of plain NumPy, as the books have it."""
    rng = np.random.default_rng(1)
    x, t = rng.standard_normal((10, 3)), rng.integers(0, 2, 10)
    network = MLP([3, 2], output="sigmoid", dtype="float64", seed=5, backend=backend)
    weight, bias = (to_numpy(array).copy() for array in network.parameters[0])
    parameters = [weight, bias]
    history = train(network, x, t, loss="quadratic", optimizer=rule, epochs=1, batch_size=4)
    order, losses = batches.shuffled(10, 0, 1), []
    first, second = ([np.zeros_like(p) for p in parameters] for _ in range(2))
    for number, start in enumerate((0, 4, 8), 1):
        rows = order[start : start + 4]
        y = 1 / (1 + np.exp(-(x[rows] @ parameters[0] + parameters[1])))
        error = y - np.eye(2)[t[rows]]
        losses.extend(0.5 * (error**2).sum(axis=1))
        delta = error * y * (1 - y) / len(rows)
        for i, gradient in enumerate((x[rows].T @ delta, delta.sum(axis=0))):
            if isinstance(rule, Adam):
                first[i] = 0.9 * first[i] + 0.1 * gradient
                second[i] = 0.999 * second[i] + 0.001 * gradient**2
                size = np.sqrt(second[i] / (1 - 0.999**number)) + 0.1
                gradient = first[i] / (1 - 0.9**number) / size
            else:
                gradient = first[i] = rule.momentum * first[i] + gradient
            parameters[i] = parameters[i] - rule.learning_rate * gradient
    for array, expected in zip(network.parameters[0], parameters, strict=True):
        np.testing.assert_allclose(to_numpy(array), expected, rtol=1e-10)
    assert history.epochs[0].loss == pytest.approx(np.mean(losses), rel=1e-12)


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic"])
def test_batch_gradient_descent_is_scikit_learns(data, activation):
    from sklearn.neural_network import MLPClassifier

    x, t = data
    theirs = MLPClassifier(
        (5,), activation=activation, solver="sgd", alpha=0, batch_size=len(x), shuffle=False,
        learning_rate_init=0.3, momentum=0, random_state=0,
    )  # fmt: skip
    theirs.partial_fit(x, t, classes=[0, 1, 2])
    start = [(w.copy(), b.copy()) for w, b in zip(theirs.coefs_, theirs.intercepts_, strict=True)]
    for _ in range(5):
        theirs.partial_fit(x, t)
    hidden = {"logistic": "sigmoid"}.get(activation, activation)
    network = MLP([6, 5, 3], hidden, dtype="float64", parameters=start, backend="numpy")
    train(network, x, t, optimizer=SGD(0.3), epochs=5, batch_size=None)
    for ours, weight, bias in zip(
        network.parameters, theirs.coefs_, theirs.intercepts_, strict=True
    ):
        np.testing.assert_allclose(ours[0], weight, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(ours[1], bias, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("batch_size", "steps"), [(None, 1), (1, 203), (8, 26), (1000, 1)])
def test_batch_stochastic_and_mini_batch(data, batch_size, steps):
    seen = []

    class Counting(type(backends.get("numpy"))):
        def runner(self, step, fallbacks):
            run = super().runner(step, fallbacks)
            return lambda *chunk: (seen.extend(chunk[2]), run(*chunk))[1]

    train(MLP([6, 3], backend=Counting()), *data, epochs=1, batch_size=batch_size)
    assert len(seen) == steps
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.arange(203))


def test_training_leaves_the_callers_arrays_alone(library, data):
    x, t = library.asarray(data[0]), library.asarray(data[1])
    network = MLP([6, 4, 3], backend=library.backend, dtype="float64")
    held = network.parameters
    before = [array.copy() for array in arrays(held)]
    train(network, x, t, epochs=1, batch_size=16)
    np.testing.assert_array_equal(to_numpy(x), data[0])
    np.testing.assert_array_equal(to_numpy(t), data[1])
    for array, old in zip(arrays(held), before, strict=True):
        np.testing.assert_array_equal(array, old)
    assert not np.array_equal(arrays(network.parameters)[0], before[0])


def test_two_runs_with_one_seed_are_equal_bit_for_bit(backend, data):
    runs = []
    for _ in range(2):
        network = MLP([6, 5, 3], backend=backend, seed=1)
        history = train(network, *data, epochs=2, batch_size=10, seed=1, validation=0.2)
        runs.append((arrays(network.parameters), [e.loss for e in history.epochs]))
    for first, second in zip(runs[0][0], runs[1][0], strict=True):
        np.testing.assert_array_equal(first, second)
    assert runs[0][1] == runs[1][1]


def test_history_counts_and_measures(data):
    network = MLP([6, 5, 3], backend="numpy")
    history = train(network, *data, epochs=3, batch_size=10, validation=data)
    assert [epoch.epoch for epoch in history.epochs] == [1, 2, 3]
    assert history.metric == "accuracy"
    last = history.epochs[-1]
    figures = network.evaluate(*data)
    assert (last.validation_loss, last.validation_metric) == (
        figures["loss"],
        figures["accuracy"],
    )
    assert last.samples_per_second == pytest.approx(203 / last.seconds)
    plain = json.loads(history.to_json())
    assert list(plain[0]) == [
        "epoch", "loss", "validation_loss", "validation_metric", "seconds", "samples_per_second",
        "learning_rate", "diagnosis",
    ]  # fmt: skip
    assert plain == history.to_list()


def test_without_validation_there_is_no_metric(data):
    history = train(MLP([6, 3], backend="numpy"), *data, epochs=1, batch_size=10)
    assert history.metric is history.epochs[0].validation_metric is None


def test_validation_is_kept_out_of_training(backend, data):
    """What is held out does not change what is learnt: its targets may be anything."""
    x, t = data
    network = MLP([6, 3], backend=backend)
    train(network, x, t, epochs=1, batch_size=10, validation=0.25)
    kept, held = batches.split(t, 0.25, 0)
    other = MLP([6, 3], backend=backend)
    train(other, x[kept], t[kept], epochs=1, batch_size=10, validation=(x[held], t[held]))
    for first, second in zip(arrays(network.parameters), arrays(other.parameters), strict=True):
        np.testing.assert_array_equal(first, second)


def test_callbacks_see_every_epoch_and_may_end_training(data):
    epochs = []

    def stop_after_two(network, history):
        epochs.append(history.epochs[-1].epoch)
        assert is_array(network.predict(data[0]))
        return len(epochs) == 2

    history = train(
        MLP([6, 3], backend="numpy"), *data, epochs=9, batch_size=50, callbacks=[stop_after_two]
    )
    assert epochs == [1, 2]
    assert len(history.epochs) == 2


def test_progress_adds_up_to_every_sample(data):
    counts = []
    train(MLP([6, 3], backend="numpy"), *data, epochs=2, batch_size=2, progress=counts.append)
    assert sum(counts) == 2 * 203
    assert max(counts) <= 64 * 2


def test_divergence_is_said_and_the_last_good_parameters_are_kept(backend, data):
    network = MLP([6, 8, 1], output="identity", backend=backend)
    x, t = data[0], data[1].astype(float)
    train(network, x, t, optimizer=SGD(0.01), epochs=1, batch_size=10)
    kept = arrays(network.parameters)
    with pytest.raises(DivergenceError, match=r"the loss is (nan|inf) in epoch 1, step \d+: the"):
        train(network, x, t, optimizer=SGD(1e3), epochs=9, batch_size=10)
    for now, then in zip(arrays(network.parameters), kept, strict=True):
        np.testing.assert_array_equal(now, then)


def test_a_last_step_that_diverges_is_noticed_though_no_loss_shows_it(backend, data):
    """The epoch's only loss is that of the parameters before the step."""
    network = MLP([6, 3], backend=backend)
    kept = arrays(network.parameters)
    with pytest.raises(
        DivergenceError, match=r"epoch 1, step 1: its update of the \w+ of layer 1 is"
    ):
        train(network, 1e3 * data[0], data[1], optimizer=SGD(3e38), epochs=1, batch_size=None)
    for now, then in zip(arrays(network.parameters), kept, strict=True):
        np.testing.assert_array_equal(now, then)


def test_a_loss_that_overflows_is_noticed_though_the_parameters_are_finite(backend, data):
    network = MLP([6, 1], output="identity", backend=backend)
    with pytest.raises(DivergenceError, match=r"the loss is inf in epoch 1, step 1: the outputs"):
        train(network, data[0], np.full(203, 1e30), optimizer=SGD(1e-35), scale_targets=False,
              epochs=1, batch_size=50)  # fmt: skip


def test_sample_weights_are_repetitions(backend, data):
    x, t = data[0][:20], data[1][:20]
    counts = np.arange(20) % 3
    weighted, repeated = (MLP([6, 3], backend=backend, dtype="float64") for _ in range(2))
    train(weighted, x, t, epochs=3, batch_size=None, sample_weight=counts)
    rows = np.repeat(np.arange(20), counts)
    train(repeated, x[rows], t[rows], epochs=3, batch_size=None)
    for first, second in zip(arrays(weighted.parameters), arrays(repeated.parameters), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("unit", [1e308, 1e-308])
def test_sample_weights_may_be_in_any_unit(data, unit):
    weights = np.linspace(0.1, 1, 203)
    one, other = (MLP([6, 3], backend="numpy") for _ in range(2))
    train(one, *data, epochs=1, batch_size=20, sample_weight=weights)
    train(other, *data, epochs=1, batch_size=20, sample_weight=unit * weights)
    for first, second in zip(arrays(one.parameters), arrays(other.parameters), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-7)


TARGETS = {
    "classes": ("softmax", lambda x: (x[:, 0] > 0).astype(int), 2),
    "boolean": ("sigmoid", lambda x: x[:, 0] > 0, 1),
    "one-hot": ("softmax", lambda x: np.eye(2)[(x[:, 0] > 0).astype(int)], 2),
    "labels": ("sigmoid", lambda x: (x[:, :2] > 0).astype(int), 2),
    "values": ("identity", lambda x: x[:, :2] - x[:, 1:3], 2),
    "one value": ("identity", lambda x: x[:, 0] - x[:, 1], 1),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_every_kind_of_target_is_learnt(backend, data, kind):
    output, make, outputs = TARGETS[kind]
    network = MLP([6, 16, outputs], "tanh", output, backend=backend)
    history = train(network, data[0], make(data[0]), epochs=10, batch_size=16, optimizer=Adam(0.02))
    figures = network.evaluate(data[0], make(data[0]))
    assert figures["r2" if "value" in kind else "accuracy"] > 0.9
    assert history.epochs[-1].loss < 0.5 * history.epochs[0].loss


@settings(max_examples=20, deadline=None)
@given(
    rate=st.just(0.0),
    batch_size=st.integers(1, 40),
    seed=st.integers(0, 999),
)
def test_a_learning_rate_of_zero_trains_nothing(rate, batch_size, seed):
    rng = np.random.default_rng(seed)
    network = MLP([3, 4, 2], seed=seed, backend="numpy")
    before = arrays(network.parameters)
    train(
        network, rng.standard_normal((30, 3)), rng.integers(0, 2, 30), optimizer=SGD(rate),
        epochs=2, batch_size=batch_size, seed=seed,
    )  # fmt: skip
    for now, then in zip(arrays(network.parameters), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"epochs": -1}, "epochs must be a whole number, 0 or more, not -1"),
        ({"epochs": 1.5}, "not 1.5"),
        ({"batch_size": 0}, "batch_size must be a whole number, 1 or more, or None, not 0"),
        ({"stream": "no"}, "stream must be True or False, or None, not 'no'"),
        ({"batch_size": 2.0}, "not 2.0"),
        ({"seed": -3}, "seed must be a whole number, 0 or more, not -3"),
        ({"validation": 1.0}, r"validation must be a share of the data in \[0, 1\) or .*, not 1.0"),
        ({"validation": -0.1}, "not -0.1"),
        ({"validation": 0.999}, "leaves none of 203 rows"),
        ({"loss": "hinge"}, "unknown loss 'hinge'"),
        ({"sample_weight": [1.0]}, r"sample_weight has shape \(1,\), x has 203 rows"),
        ({"sample_weight": np.zeros(203)}, "zero everywhere"),
        ({"sample_weight": -np.ones(203)}, r"sample_weight\[0\] is -1"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_trained(data, options, says):
    network = MLP([6, 3], backend="numpy")
    before = arrays(network.parameters)
    with pytest.raises(InputError, match=says):
        train(network, *data, **{"epochs": 1, "batch_size": 8, **options})
    for now, then in zip(arrays(network.parameters), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize(
    ("name", "fuses"),
    [("numpy", False), ("numpy:eager", False), ("torch", False), ("torch:compiled", True),
     ("jax", True), ("jax:eager", False)],
)  # fmt: skip
def test_a_compiler_gets_the_rate_beside_the_weights_and_classes_as_they_are(
    name, fuses, data, monkeypatch
):
    """It fuses both; to other executors the rate costs two passes over each matrix."""
    require(name.partition(":")[0])
    if name == "torch:compiled":
        from nnxp.executors import torch_compile

        monkeypatch.setattr(torch_compile, "OPTIONS", {"backend": "eager"})  # nothing in C++
    seen = set()

    def watched(*arguments):
        seen.add((arguments[7] is None, arguments[4].ndim))  # the scale and the targets
        return backpropagate(*arguments)

    monkeypatch.setattr("nnxp.step.backpropagate", watched)
    x = np.concatenate([data[0], data[0]], axis=1)  # so wide that rows of classes are worth it
    losses = []
    for each in ("numpy", name):
        seen.clear()
        network = MLP([12, 4, 3], ("leaky_relu",), backend=each)
        history = train(network, x, data[1], epochs=1, batch_size=50)
        losses.append([epoch.loss for epoch in history.epochs])
    assert seen == {(fuses, 1 if fuses else 2)}
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_training_again_does_not_make_another_step():
    """A backend that compiles keeps what it compiled by the step function."""
    objective = objectives.get("auto", "softmax")
    for one, same, other in (
        (SGD(0.1), SGD(0.2), SGD(0.1, momentum=0.5)),
        (Adam(0.1), Adam(0.2), Adam(0.1, beta1=0.5)),
    ):
        step = training_step(("relu",), objective, one)
        assert step is training_step(
            ("relu",), objective, same
        )  # the rate is an argument of the step
        assert step is not training_step(("relu",), objective, other)


def test_every_epoch_has_an_order_of_its_own(data):
    seen = []

    class Counting(type(backends.get("numpy"))):
        def runner(self, step, fallbacks):
            run = super().runner(step, fallbacks)
            return lambda *chunk: (seen.append(chunk[2].ravel()), run(*chunk))[1]

    train(MLP([6, 3], backend=Counting()), *data, epochs=2, batch_size=203)
    assert not np.array_equal(*seen)


def test_callbacks_may_come_from_a_generator(data):
    calls = []
    train(
        MLP([6, 3], backend="numpy"), *data, epochs=3, batch_size=50,
        callbacks=iter([lambda network, history: calls.append(history)]),
    )  # fmt: skip
    assert len(calls) == 3


def test_jax_gives_the_states_buffers_away(data):
    """Donated, so that XLA updates the parameters in place."""
    require("jax")
    jax_backend = backends.get("jax", "cpu")
    network = MLP([6, 3], backend=jax_backend)
    state = first_state(network, SGD(0.1))
    x, t = jax_backend.asarray(data[0].astype(np.float32)), jax_backend.asarray(data[1])
    order = jax_backend.asarray(np.arange(20).reshape(2, 10))
    run = jax_backend.runner(training_step((), objectives.get("auto", "softmax"), SGD(0.1)))
    run(state, (x, t), order, 0.1)
    assert state[0][0][0].is_deleted()
    assert not network.parameters[0][0].is_deleted()


def test_jax_multiplies_in_full_float32():
    require("jax")
    import jax

    with backends.get("jax", "cpu").active():
        assert jax.config.jax_default_matmul_precision == "highest"


@pytest.mark.promise("same result")
def test_jax_trains_the_same_as_users_have_it_without_x64():
    """Every other test has x64 on, and so int64 indices."""
    require("jax")
    import sys

    code = (
        "import numpy as np, nnxp\n"
        "x = np.random.default_rng(0).standard_normal((50, 4)); t = np.arange(50) % 3\n"
        "losses = []\n"
        "for backend in ('numpy', 'jax'):\n"
        "    network = nnxp.MLP([4, 8, 3], backend=backend)\n"
        "    history = nnxp.train(network, x, t, epochs=3, batch_size=8, optimizer=nnxp.Adam(),\n"
        "        regularization=nnxp.Regularization(dropout=0.3), validation=0.2)\n"
        "    losses.append([epoch.loss for epoch in history.epochs])\n"
        "np.testing.assert_allclose(*losses, rtol=1e-5)\n"
    )
    completed([sys.executable, "-W", "error", "-c", code], check=True)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("output", ["softmax", "sigmoid", "identity"])
def test_classes_are_told_by_the_largest_output_whatever_the_loss(data, output, loss):
    network = MLP([6, 5, 3], output=output, backend="numpy")
    history = train(network, *data, loss=loss, epochs=1, batch_size=10, validation=data)
    expected = np.mean(np.argmax(network.predict(data[0]), axis=1) == data[1])
    assert network.evaluate(*data)["accuracy"] == expected
    assert history.epochs[0].validation_metric == expected


@pytest.mark.parametrize("rule", [SGD(0.1, momentum=0.9), Adam(0.01)], ids=["momentum", "adam"])
def test_a_resumed_training_is_one_training(backend, data, rule):
    options = {
        "optimizer": rule,
        "batch_size": 32,
        "regularization": Regularization(dropout=0.2),
        "schedule": "exponential",
    }
    whole, halves = (MLP([6, 8, 3], backend=backend, dtype="float64") for _ in range(2))
    expected = train(whole, *data, epochs=4, **options)
    history = train(halves, *data, epochs=2, **options)
    history = pickle.loads(pickle.dumps(history))
    resumed = train(halves, *data, epochs=2, resume=history, **options)
    assert resumed is history
    assert [each.epoch for each in history.epochs] == [1, 2, 3, 4]
    for ours, theirs in zip(history.epochs, expected.epochs, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-12)
    again = train(halves, *data, epochs=1, optimizer=rule, batch_size=32)
    assert again.epochs[0].loss != pytest.approx(history.epochs[0].loss, rel=1e-3)


def test_a_history_of_another_optimizer_is_no_history_to_resume(data):
    network = MLP([6, 3, 3])
    history = train(network, *data, optimizer=SGD(0.1), epochs=1, batch_size=32)
    with pytest.raises(InputError, match="resume: the history is of another network or optimizer"):
        train(network, *data, optimizer=Adam(), epochs=1, batch_size=32, resume=history)


def test_the_order_of_the_rows_is_the_callers(data):
    losses = {}
    for name, shuffle in {
        "as they are": False,
        "by a function": lambda samples, epoch: np.arange(samples),
        "backwards": lambda samples, epoch: np.arange(samples)[::-1],
        "anew": True,
    }.items():
        history = train(MLP([6, 3, 3]), *data, epochs=2, batch_size=32, shuffle=shuffle)
        losses[name] = history.epochs[-1].loss
    assert losses["as they are"] == losses["by a function"]
    assert len(set(losses.values())) == 3


@pytest.mark.parametrize(
    ("shuffle", "message"),
    [
        ("no", "shuffle must be True, False, \"blocks\" or a function, not 'no'"),
        (lambda samples, epoch: [0, 1], "must return 203 whole numbers, not int64 of shape (2,)"),
        (lambda samples, epoch: np.ones(samples), "must return 203 whole numbers, not float64"),
        (lambda samples, epoch: np.arange(samples) + 1, "must return rows from 0 to 202, not 203"),
        (lambda samples, epoch: np.arange(samples) - 1, "must return rows from 0 to 202, not -1"),
    ],
)
def test_an_order_that_is_none_is_an_error(data, shuffle, message):
    with pytest.raises(InputError, match=re.escape(message)):
        train(MLP([6, 3, 3]), *data, epochs=1, batch_size=32, shuffle=shuffle)

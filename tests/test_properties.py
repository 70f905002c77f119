"""Laws that hold for whatever is drawn: each test is one law, each drawn input one case.

The draws are the same in every run. The long form of each law, with more of them, is `slow`; a
quarter of them, without --every-case.
"""

import inspect
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import nnxp
from nnxp import MLP, class_weights, initializers, kernels, linalg, metrics, plots, schedules
from nnxp.arrays import to_numpy
from nnxp.data import batches
from nnxp.history import History
from nnxp.kernels import ACTIVATIONS
from nnxp.optimizers import OPTIMIZERS
from nnxp.preprocessing import standardize
from nnxp.randomness import Purpose, generator
from nnxp.regularization import Regularization
from nnxp.target_scaling import TargetScaling

pytestmark = pytest.mark.promise("properties")

QUICK, LONG = 5, 100
SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(1, 6)
BATCHES = st.integers(1, 12)
HIDDEN = st.sampled_from([name for name in ACTIVATIONS if name not in ("step", "softmax")])
OUTPUT = st.sampled_from(["softmax", "sigmoid", "identity"])
RULE = st.sampled_from(list(OPTIMIZERS))


def law(*drawn, long=LONG):
    """Return a decorator that makes a test of a function of drawn values, and of `backend`."""

    def decorate(function):
        needs_backend = next(iter(inspect.signature(function).parameters)) == "backend"

        def run(cases, examples, *backend):
            # A library that compiles takes a second for each new shape.
            examples = 2 if backend and backend[0].name == "jax" else examples
            examples = examples if cases.every else min(examples, max(QUICK, examples // 4))

            @settings(
                max_examples=examples, derandomize=True, deadline=None, database=None,
                suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            @given(st.tuples(*drawn))
            def check(values):
                function(*backend, *values)
                cases.tried += 1

            check()

        if needs_backend:

            def test(backend, cases, examples):
                run(cases, examples, backend)
        else:

            def test(cases, examples):
                run(cases, examples)

        test.__doc__, test.__name__ = function.__doc__, function.__name__
        lengths = [
            pytest.param(QUICK, id="quick"),
            pytest.param(long, id="long", marks=pytest.mark.slow),
        ]
        return pytest.mark.parametrize("examples", lengths)(test)

    return decorate


def network(seed, sizes, hidden="tanh", output="softmax", backend="numpy", dtype="float64"):
    """A network with weights and biases in general position."""
    rng = np.random.default_rng(seed)
    if getattr(backend, "name", "") == "jax" or getattr(backend, "device_name", "") == "mps":
        dtype = "float32"
    parameters = [
        (rng.standard_normal((i, o)) / i**0.5, rng.standard_normal(o)) for i, o in pairwise(sizes)
    ]
    return MLP(sizes, hidden, output, parameters=parameters, backend=backend, dtype=dtype)


def data(seed, samples, features, classes):
    """Features, and a class for each row."""
    rng = np.random.default_rng([seed, 1])
    return rng.standard_normal((samples, features)), rng.integers(0, classes, samples)


def arrays(net):
    return [to_numpy(array) for layer in net.parameters for array in layer]


def gradients(net, x, targets, **options):
    """The gradient, as one vector."""
    _, found = net.loss_and_gradients(x, targets, **options)
    return np.concatenate([to_numpy(a).ravel() for layer in found for a in layer])


def trained(seed, sizes, x, t, backend="numpy", hidden="tanh", output="softmax", **options):
    net = network(seed, sizes, hidden, output, backend)
    history = nnxp.train(net, x, t, **({"epochs": 2, "batch_size": 4, "seed": 1} | options))
    return arrays(net), [each.loss for each in history.epochs]


def same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def close(one, other, tolerance=1e-10):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


# --- files


@law(SEEDS, SIZES, HIDDEN, OUTPUT, st.sampled_from(["float32", "float64"]))
def test_save_load_save_gives_the_same_bytes(seed, size, hidden, output, dtype):
    with tempfile.TemporaryDirectory() as folder:
        first, second = (Path(folder, name) for name in ("a.safetensors", "b.safetensors"))
        network(seed, [size, 4, 3], hidden, output, dtype=dtype).save(first)
        MLP.load(first).save(second)
        assert first.read_bytes() == second.read_bytes()


@law(SEEDS, SIZES, HIDDEN, OUTPUT)
def test_a_loaded_network_predicts_the_same_bits(seed, size, hidden, output):
    net = network(seed, [size, 4, 3], hidden, output)
    x, _ = data(seed, 5, size, 3)
    with tempfile.TemporaryDirectory() as folder:
        net.save(Path(folder, "a.safetensors"))
        same([MLP.load(Path(folder, "a.safetensors")).predict(x)], [net.predict(x)])


@law(SEEDS, st.integers(2, 5))
def test_csv_npz_and_parquet_hold_the_same_data(seed, columns):
    import pyarrow as pa
    import pyarrow.parquet

    rng = np.random.default_rng(seed)
    x = rng.standard_normal((30, columns)) * 10.0 ** rng.integers(-3, 4, columns)
    y = np.arange(30) % 3
    names = [f"c{i}" for i in range(columns)]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"d.{kind}") for kind in ("csv", "parquet", "npz")]
        lines = [
            ",".join([*map(repr, map(float, row)), str(c)]) for row, c in zip(x, y, strict=True)
        ]
        paths[0].write_text("\n".join([",".join([*names, "y"]), *lines]))
        pyarrow.parquet.write_table(pa.table([*x.T, y], names=[*names, "y"]), paths[1])
        np.savez(paths[2], x=x, y=y)
        found = [nnxp.datasets.load(path, target=None) for path in paths]
    for each in found[1:]:
        same((each.x, each.y, each.x_test, each.y_test),
             (found[0].x, found[0].y, found[0].x_test, found[0].y_test))  # fmt: skip


# --- prediction


@law(SEEDS, SIZES, HIDDEN, OUTPUT, BATCHES)
def test_permuted_rows_give_permuted_predictions(backend, seed, size, hidden, output, samples):
    net = network(seed, [size, 5, 3], hidden, output, backend)
    x, _ = data(seed, samples, size, 3)
    order = np.random.default_rng(seed).permutation(samples)
    y = to_numpy(net.predict(x))
    close([to_numpy(net.predict(x[order]))], [y[order]], 1e-5 if y.dtype == np.float32 else 1e-12)


@law(SEEDS, SIZES, BATCHES)
def test_probabilities_are_positive_and_sum_to_one(backend, seed, size, samples):
    y = to_numpy(network(seed, [size, 4], backend=backend).predict(data(seed, samples, size, 4)[0]))
    assert (y > 0).all()
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-6 if y.dtype == np.float32 else 1e-14)


@law(SEEDS, BATCHES, SIZES, st.floats(-50, 50))
def test_softmax_does_not_change_with_a_shift_of_its_input(backend, seed, samples, size, shift):
    z, _ = data(seed, samples, size, 2)
    z, shift = np.round(z * 64) / 64, np.round(shift * 64) / 64  # sums without rounding
    softmax = ACTIVATIONS["softmax"][0]
    given, shifted = (backend.asarray(a.astype(np.float32)) for a in (z, z + shift))
    same([to_numpy(softmax(shifted))], [to_numpy(softmax(given))])


@law(SEEDS, SIZES, HIDDEN, BATCHES)
def test_hidden_units_may_change_places(backend, seed, size, hidden, samples):
    net = network(seed, [size, 7, 3], hidden, "identity", backend)
    (w1, b1), (w2, b2) = [tuple(map(to_numpy, layer)) for layer in net.parameters]
    order = np.random.default_rng(seed).permutation(7)
    x, _ = data(seed, samples, size, 3)
    before = to_numpy(net.predict(x))
    net.parameters = [(w1[:, order], b1[order]), (w2[order], b2)]
    close([to_numpy(net.predict(x))], [before], 1e-4 if before.dtype == np.float32 else 1e-11)


@law(SEEDS, SIZES, BATCHES)
def test_a_linear_network_is_its_product_matrix(seed, size, samples):
    net = network(seed, [size, 5, 4, 3], "identity", "identity")
    (w1, b1), (w2, b2), (w3, b3) = net.parameters
    x, _ = data(seed, samples, size, 3)
    close([net.predict(x)], [x @ (w1 @ w2 @ w3) + ((b1 @ w2 + b2) @ w3 + b3)])


@law(SEEDS, SIZES, BATCHES)
def test_softmax_of_two_classes_is_a_sigmoid_of_their_difference(seed, size, samples):
    two = network(seed, [size, 2])
    ((weight, bias),) = two.parameters
    one = MLP([size, 1], output="sigmoid", backend="numpy", dtype="float64",
              parameters=[(weight[:, 1:] - weight[:, :1], bias[1:] - bias[:1])])  # fmt: skip
    x, _ = data(seed, samples, size, 2)
    close([one.predict(x)[:, 0]], [two.predict(x)[:, 1]], 1e-13)


@law(SEEDS, SIZES, BATCHES, st.floats(0.1, 10))
def test_a_factor_moves_from_one_relu_layer_to_the_next(seed, size, samples, factor):
    net = network(seed, [size, 5, 3], "relu", "identity")
    (w1, b1), (w2, b2) = net.parameters
    x, _ = data(seed, samples, size, 3)
    before = net.predict(x)
    net.parameters = [(factor * w1, factor * b1), (w2 / factor, b2)]
    close([net.predict(x)], [before])


@law(SEEDS, SIZES, HIDDEN)
def test_the_predicted_class_is_that_of_the_largest_output(seed, size, hidden):
    net = network(seed, [size, 4, 3], hidden)
    x, _ = data(seed, 9, size, 3)
    same([net.predict_classes(x)], [net.predict(x).argmax(axis=1)])


@pytest.mark.slow
@law(SEEDS, SIZES, HIDDEN, long=12)  # each compiles, for a second or two
def test_an_exported_network_predicts_what_it_does_here(seed, size, hidden):
    import onnxruntime

    from nnxp import onnx

    net = network(seed, [size, 4, 3], hidden, dtype="float32")
    x, _ = data(seed, 6, size, 3)
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(net, Path(folder, "a.onnx"))
        session = onnxruntime.InferenceSession(Path(folder, "a.onnx"))
        found = session.run(None, {session.get_inputs()[0].name: x.astype(np.float32)})
    assert any(
        each.shape == (6, 3) and np.allclose(each, net.predict(x), atol=2e-6) for each in found
    )


# --- gradients


@law(SEEDS, SIZES, HIDDEN, st.integers(2, 12))
def test_the_gradient_of_a_batch_is_the_mean_of_its_rows(seed, size, hidden, samples):
    net = network(seed, [size, 4, 3], hidden)
    x, t = data(seed, samples, size, 3)
    rows = [gradients(net, x[i : i + 1], t[i : i + 1]) for i in range(samples)]
    close([gradients(net, x, t)], [np.mean(rows, axis=0)])


@law(SEEDS, SIZES, HIDDEN, st.integers(2, 12))
def test_the_order_of_the_rows_does_not_change_the_gradient(seed, size, hidden, samples):
    net = network(seed, [size, 4, 3], hidden)
    x, t = data(seed, samples, size, 3)
    order = np.random.default_rng(seed).permutation(samples)
    close([gradients(net, x[order], t[order])], [gradients(net, x, t)])


@law(SEEDS, SIZES, HIDDEN, BATCHES)
def test_one_hot_rows_are_classes(seed, size, hidden, samples):
    net = network(seed, [size, 4, 3], hidden)
    x, t = data(seed, samples, size, 3)
    close([gradients(net, x, np.eye(3)[t])], [gradients(net, x, t)], 1e-13)


@law(SEEDS, st.integers(3, 10))
def test_a_sample_of_weight_two_is_two_samples(seed, samples):
    x, t = data(seed, samples, 4, 3)
    weight = np.ones(samples)
    weight[0] = 2
    options = {"batch_size": None, "shuffle": False, "epochs": 3}
    once, _ = trained(seed, [4, 5, 3], x, t, sample_weight=weight, **options)
    twice, _ = trained(seed, [4, 5, 3], np.vstack([x[:1], x]), np.append(t[:1], t), **options)
    close(once, twice)


@law(SEEDS, st.floats(0.01, 100))
def test_all_weights_times_a_factor_are_the_same_weights(seed, factor):
    x, t = data(seed, 9, 4, 3)
    weight = np.random.default_rng(seed).random(9) + 0.1
    close(trained(seed, [4, 3], x, t, sample_weight=weight)[0],
          trained(seed, [4, 3], x, t, sample_weight=factor * weight)[0])  # fmt: skip


@law(SEEDS, SIZES, HIDDEN)
def test_the_gradient_check_passes(seed, size, hidden):
    assume(hidden not in ("relu", "leaky_relu", "leaky_tanh"))  # kinks
    x, t = data(seed, 5, size, 3)
    assert all(each.passed for each in nnxp.gradcheck(network(seed, [size, 4, 3], hidden), x, t))


@law(SEEDS, BATCHES)
def test_softmax_gradients_of_cross_entropy_sum_to_zero(backend, seed, samples):
    z, t = data(seed, samples, 4, 4)
    found = kernels.categorical_cross_entropy_with_logits_gradient(
        backend.asarray(z.astype(np.float32)), backend.asarray(np.eye(4, dtype=np.float32)[t])
    )
    np.testing.assert_allclose(to_numpy(found).sum(axis=1), 0, atol=1e-6)


# --- training


@law(SEEDS, RULE)
def test_a_learning_rate_of_zero_changes_nothing(backend, seed, rule):
    x, t = data(seed, 9, 3, 2)
    net = network(seed, [3, 4, 2], backend=backend)
    before = arrays(net)
    options = {"epochs": 2, "batch_size": 4, "optimizer": rule}
    nnxp.train(net, x, t, schedule=lambda *_: 0.0, **options)
    same(arrays(net), before)


@law(SEEDS)
def test_dropout_of_no_share_is_no_dropout(seed):
    x, t = data(seed, 9, 3, 2)
    same(trained(seed, [3, 4, 2], x, t, regularization=Regularization(dropout=0.0))[0],
         trained(seed, [3, 4, 2], x, t)[0])  # fmt: skip


@law(SEEDS)
def test_a_penalty_of_zero_is_no_penalty(seed):
    x, t = data(seed, 9, 3, 2)
    same(trained(seed, [3, 4, 2], x, t, regularization=Regularization(l1=0.0, l2=0.0))[0],
         trained(seed, [3, 4, 2], x, t)[0])  # fmt: skip


@law(SEEDS, st.floats(0.001, 0.1))
def test_l2_shrinks_the_weights_of_plain_descent_by_a_factor(seed, l2):
    """w - r (g + l2 w) = (1 - r l2) w - r g."""
    x, t = data(seed, 6, 3, 2)
    options = {"epochs": 1, "batch_size": None, "optimizer": nnxp.SGD(0.5)}
    before = arrays(network(seed, [3, 2]))
    (free, _), _ = trained(seed, [3, 2], x, t, **options)
    (held, _), _ = trained(seed, [3, 2], x, t, regularization=Regularization(l2=l2), **options)
    close([held], [free - 0.5 * l2 * before[0]])


@law(SEEDS, st.floats(0.1, 2))
def test_no_unit_exceeds_the_max_norm(backend, seed, bound):
    x, t = data(seed, 12, 3, 2)
    found, _ = trained(
        seed, [3, 4, 2], x, t, backend, optimizer=nnxp.SGD(1.0),
        regularization=Regularization(max_norm=bound),
    )  # fmt: skip
    for weight in found[::2]:
        assert (np.linalg.norm(weight, axis=0) <= bound * (1 + 1e-6)).all()


@law(SEEDS, st.floats(1e-3, 1))
def test_a_step_is_no_longer_than_the_clipped_gradient(seed, bound):
    x, t = data(seed, 6, 3, 2)
    before = arrays(network(seed, [3, 4, 2]))
    after, _ = trained(
        seed, [3, 4, 2], 10 * x, t, epochs=1, batch_size=None, optimizer=nnxp.SGD(1.0),
        clip_norm=bound,
    )  # fmt: skip
    step = np.concatenate([(b - a).ravel() for a, b in zip(after, before, strict=True)])
    assert np.linalg.norm(step) <= bound * (1 + 1e-9)


@law(SEEDS, RULE, st.integers(1, 4))
def test_a_training_that_goes_on_is_one_training(seed, rule, first):
    x, t = data(seed, 11, 3, 2)
    options = {"batch_size": 4, "optimizer": rule, "regularization": Regularization(dropout=0.3)}
    whole, parts = (network(seed, [3, 4, 2]) for _ in range(2))
    nnxp.train(whole, x, t, epochs=5, **options)
    history = nnxp.train(parts, x, t, epochs=first, **options)
    nnxp.train(parts, x, t, epochs=5 - first, resume=history, **options)
    same(arrays(parts), arrays(whole))


@law(SEEDS, RULE, st.integers(1, 4))
def test_a_training_from_a_checkpoint_is_one_training(seed, rule, first):
    x, t = data(seed, 11, 3, 2)
    options = {"batch_size": 4, "optimizer": rule}
    whole, parts = (network(seed, [3, 4, 2]) for _ in range(2))
    nnxp.train(whole, x, t, epochs=5, **options)
    with tempfile.TemporaryDirectory() as folder:
        nnxp.train(network(seed, [3, 4, 2]), x, t, epochs=first, checkpoint=folder, **options)
        nnxp.train(parts, x, t, epochs=5, resume=folder, **options)
    same(arrays(parts), arrays(whole))


@law(SEEDS, RULE)
def test_streamed_data_is_data(backend, seed, rule):
    x, t = data(seed, 21, 3, 2)
    found = [trained(seed, [3, 4, 2], x, t, backend, optimizer=rule, stream=stream)
             for stream in (True, False)]  # fmt: skip
    same(found[0][0], found[1][0])
    close([found[0][1]], [found[1][1]], 1e-6)


@law(SEEDS, st.integers(1, 30))
def test_the_length_of_chunks_does_not_change_the_parameters(seed, most):
    x, t = data(seed, 41, 3, 2)
    expected, _ = trained(seed, [3, 4, 2], x, t, optimizer="adam")
    with pytest.MonkeyPatch.context() as patch:
        original = batches.chunks
        patch.setattr(
            "nnxp.data.batches.chunks",
            lambda order, size, longest=0, done=0: original(order, size, most, done),
        )
        found, _ = trained(seed, [3, 4, 2], x, t, optimizer="adam")
    same(found, expected)


@law(SEEDS, st.floats(0.5, 3), st.floats(-5, 5))
def test_scaled_targets_have_scaled_predictions(seed, scale, shift):
    """The training sees the same standardised targets."""
    x, _ = data(seed, 12, 3, 2)
    t = x[:, :1] + x[:, 1:2] ** 2
    found = []
    for targets in (t, scale * t + shift):
        net = network(seed, [3, 4, 1], output="identity")
        nnxp.train(net, x, targets, epochs=3, batch_size=4, scale_targets=True)
        found.append(net.predict(x))
    close([found[1]], [scale * found[0] + shift], 1e-8)


@law(SEEDS)
def test_diagnosed_shares_are_shares(seed):
    x, t = data(seed, 12, 3, 2)
    net = network(seed, [3, 4, 2], "relu")
    history = nnxp.train(net, x, t, epochs=2, batch_size=4, diagnose=True)
    for epoch in history.epochs:
        for layer in epoch.diagnosis.layers:
            for share in (layer.dead, layer.saturated):
                assert share is None or 0 <= share <= 1


@law(SEEDS, st.integers(2, 4))
def test_a_perceptron_comes_to_an_end_on_separable_data(backend, seed, features):
    rng = np.random.default_rng(seed)
    direction = rng.standard_normal(features)
    x = rng.standard_normal((40, features))
    x = x[np.abs(x @ direction) > 0.2 * np.linalg.norm(direction)]
    assume(len(x) > 1)
    t = (x @ direction > 0).astype(int)
    neuron = nnxp.Perceptron(features, backend=backend)
    neuron.train(x, t)
    same([to_numpy(neuron.predict(x))], [t])


# --- random numbers


@law(SEEDS, st.integers(0, 1000), st.integers(0, 3), BATCHES, SIZES)
def test_every_backend_has_the_same_dropout_mask(backend, seed, step, layer, samples, units):
    def mask(xp, asarray):
        y = asarray(np.ones((samples, units), np.float32))
        number = xp.asarray(step, dtype=xp.int32)
        if hasattr(number, "device") and asarray is not np.asarray:
            number = asarray(np.asarray(step, np.int32))
        return to_numpy(kernels.dropout_mask(y, 0.3, seed, number, layer))

    same([mask(backend.xp, backend.asarray)], [mask(np, np.asarray)])


@law(SEEDS, st.integers(0, 1000), st.integers(2, 12), SIZES)
def test_the_mask_of_a_row_does_not_depend_on_the_rows_below(seed, step, samples, units):
    number = np.asarray(step, np.int32)
    whole, part = (
        kernels.dropout_mask(np.ones((n, units)), 0.5, seed, number, 0) for n in (samples, 2)
    )
    same([whole[:2]], [part])


@law(SEEDS, st.floats(0.05, 0.95))
def test_a_mask_drops_its_share_and_keeps_the_mean(seed, share):
    mask = kernels.dropout_mask(np.ones((200, 100)), share, seed, np.asarray(3, np.int32), 1)
    assert abs((mask == 0).mean() - share) < 0.02  # 5 deviations of 20000 draws
    assert set(np.unique(mask)) <= {0.0, 1 / (1 - share)}


@law(SEEDS, st.integers(1, 5))
def test_generators_of_other_purposes_and_epochs_differ(seed, epoch):
    purposes = (Purpose.SPLIT, Purpose.BATCHES)
    pairs = [(purpose, each) for purpose in purposes for each in (epoch, epoch + 1)]
    draws = [generator(seed, *pair).integers(2**62) for pair in pairs]
    assert len(set(draws)) == 4
    assert generator(seed, Purpose.BATCHES, epoch).integers(2**62) == draws[2]


@law(SEEDS, st.integers(1, 40), st.integers(1, 40))
def test_orthogonal_weights_are_orthonormal(seed, fan_in, fan_out):
    weight, bias = initializers.orthogonal(np.random.default_rng(seed), fan_in, fan_out)
    product = weight.T @ weight if fan_in >= fan_out else weight @ weight.T
    np.testing.assert_allclose(product, np.eye(min(fan_in, fan_out)), atol=1e-12)
    assert not bias.any()


@law(SEEDS, st.integers(20, 60), st.integers(50, 90))
def test_drawn_weights_have_their_bounds_and_moments(seed, fan_in, fan_out):
    rng = np.random.default_rng(seed)
    limit = np.sqrt(6 / (fan_in + fan_out))
    weight, _ = initializers.xavier(rng, fan_in, fan_out)
    assert np.abs(weight).max() <= limit
    assert weight.std() == pytest.approx(limit / 3**0.5, rel=0.1)
    assert initializers.he(rng, fan_in, fan_out)[0].std() == pytest.approx(
        (2 / fan_in) ** 0.5, rel=0.1
    )
    assert initializers.normal(rng, fan_in, fan_out)[0].std() == pytest.approx(1, rel=0.1)


# --- data


@law(SEEDS, st.integers(1, 60), st.integers(1, 9))
def test_an_epoch_visits_each_row_once(seed, samples, batch):
    order = batches.shuffled(samples, seed, 1)
    visited = np.concatenate([chunk.ravel() for chunk in batches.chunks(order, batch, 4)])
    same([visited, np.sort(visited)], [order, np.arange(samples)])


@law(SEEDS, st.integers(2, 60), st.floats(0, 1))
def test_a_split_is_disjoint_and_complete(seed, samples, share):
    labels = np.random.default_rng(seed).integers(0, 3, samples)
    kept, held = batches.split(labels, share, seed)
    same([np.sort(np.concatenate([kept, held]))], [np.arange(samples)])
    if share < 1:
        assert set(labels[kept]) == set(labels)  # each label keeps a row


@law(SEEDS, SIZES)
def test_standardised_features_have_no_mean_and_deviation_one(seed, size):
    x = 3 * data(seed, 30, size, 2)[0] + 7
    done = standardize(x)
    y = done.apply(x)
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=0), 1, rtol=1e-5)
    np.testing.assert_allclose(done.invert(y), x, rtol=1e-5, atol=1e-5)


@law(SEEDS, SIZES)
def test_scaled_targets_come_back(seed, size):
    t = 1e3 * data(seed, 30, size, 2)[0] + 7
    scaling = TargetScaling.fit(t, "float64")
    close([scaling.invert(scaling.apply(t))], [t])


@law(SEEDS, st.integers(1, 5), st.sampled_from(["pca", "zca"]))
def test_whitened_features_have_covariance_one(seed, size, method):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((80, size)) @ (rng.standard_normal((size, size)) + 3 * np.eye(size)) + 2
    mean, weight = linalg.whitening(x, method)
    y = (x - mean) @ weight
    np.testing.assert_allclose(y.T @ y / (len(y) - 1), np.eye(size), atol=1e-8)


@law(SEEDS, st.integers(1, 4), st.integers(0, 3))
def test_gram_schmidt_gives_a_basis_of_the_range(backend, seed, columns, more):
    a = data(seed, columns + more, columns, 2)[0].astype(np.float32)
    a = np.hstack([a, a[:, :1]])  # a column that depends on the first
    q, rank = map(to_numpy, linalg.gram_schmidt(backend.asarray(a)))
    assert rank == columns
    np.testing.assert_allclose(q.T @ q, np.diag([1.0] * columns + [0.0]), atol=1e-5)
    np.testing.assert_allclose(q @ (q.T @ a), a, atol=1e-5)


@law(SEEDS, st.integers(2, 5))
def test_balanced_classes_have_the_same_total_weight(seed, classes):
    y = np.append(np.arange(classes), np.random.default_rng(seed).integers(0, classes, 30))
    weight = class_weights.sample_weights("balanced", y, list(range(classes)))
    totals = np.bincount(y, weights=weight)
    np.testing.assert_allclose(totals, len(y) / classes)


# --- metrics and schedules


def outcome(outputs, targets):
    return metrics.Outcome(outputs, outputs.argmax(axis=1), targets, metrics.CLASSES)


@law(SEEDS, st.integers(2, 5), st.integers(1, 30))
def test_accuracy_does_not_change_with_the_names_of_classes(seed, classes, samples):
    rng = np.random.default_rng(seed)
    t, y, names = *rng.integers(0, classes, (2, samples)), rng.permutation(classes)
    found = metrics.accuracy(t, y)
    assert 0 <= found <= 1
    assert metrics.accuracy(names[t], names[y]) == found
    assert metrics.accuracy(t, t) == 1


@law(SEEDS, st.floats(0.1, 9), st.floats(-9, 9))
def test_r2_does_not_change_with_the_unit(seed, scale, shift):
    t, y = np.random.default_rng(seed).standard_normal((2, 20, 1))
    found = metrics.r2(t, y)
    assert found <= 1
    assert metrics.r2(scale * t + shift, scale * y + shift) == pytest.approx(
        found, rel=1e-9, abs=1e-9
    )


@law(SEEDS, st.floats(0.1, 9))
def test_errors_have_the_unit_of_the_targets(seed, scale):
    t, y = np.random.default_rng(seed).standard_normal((2, 20, 2))
    for error in (metrics.rmse, metrics.mae):
        assert error(scale * t, scale * y) == pytest.approx(scale * error(t, y))
    assert metrics.mae(t, y) <= metrics.rmse(t, y)


@law(SEEDS, st.floats(0.2, 5))
def test_the_area_under_the_curve_sees_only_the_order(seed, power):
    rng = np.random.default_rng(seed)
    y, t = rng.random((30, 1)), np.append([0, 1], rng.integers(0, 2, 28))[:, None]
    net = [metrics.measure(nnxp.objectives.Objective("binary_cross_entropy", "sigmoid"), each, t,
                           False, ["roc_auc"])["roc_auc"] for each in (y, y**power)]  # fmt: skip
    assert net[0] == net[1]
    assert 0 <= net[0] <= 1


@law(SEEDS, st.integers(2, 4))
def test_a_confusion_matrix_counts_every_sample(seed, classes):
    x, t = data(seed, 25, 3, classes)
    net = network(seed, [3, classes])
    found = plots._confusion(net, x, t)
    same([found.sum(axis=1)], [np.bincount(t, minlength=classes)])
    assert np.trace(found) / 25 == metrics.accuracy(t, net.predict_classes(x))


@law(st.floats(1e-4, 1), st.integers(2, 40), st.integers(0, 5))
def test_rates_stay_between_zero_and_the_first(base, epochs, warmup):
    for schedule in (schedules.Cosine(warmup=warmup), schedules.Step(3), schedules.Constant()):
        rates = [schedule(base, epoch, epochs, History()) for epoch in range(1, epochs + 1)]
        assert all(0 <= rate <= base * (1 + 1e-12) for rate in rates)
        after = rates[warmup:] if isinstance(schedule, schedules.Cosine) else rates
        assert all(b <= a * (1 + 1e-12) for a, b in pairwise(after))

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nnxp.data.batches
import nnxp.perceptron
from nnxp import (
    MLP,
    SGD,
    DivergenceError,
    InputError,
    NnxpError,
    NotSeparableError,
    Perceptron,
    train,
)
from nnxp.arrays import device, namespace, to_numpy

X = [[0, 0], [0, 1], [1, 0], [1, 1]]
GATES = {  # targets, epochs, weight, bias; checked by hand for AND and OR
    "AND": ([0, 0, 0, 1], 6, [2, 1], -2),
    "OR": ([0, 1, 1, 1], 4, [1, 1], 0),
    "NAND": ([1, 1, 1, 0], 6, [-2, -1], 3),
}
XOR = [0, 1, 1, 0]


def parameters(neuron):
    return [*to_numpy(neuron.weight), float(to_numpy(neuron.bias))]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("gate", GATES)
def test_gates_are_learnt(backend, gate, dtype):
    t, epochs, weight, bias = GATES[gate]
    neuron = Perceptron(2, backend=backend, dtype=dtype)
    assert neuron.weight.dtype == getattr(backend.xp, dtype)
    assert neuron.train(X, t) == epochs
    assert parameters(neuron) == [*weight, bias]
    np.testing.assert_array_equal(neuron.predict(X), t)
    assert neuron.train(X, t) == 1  # the weights were right from the start


@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_xor_is_refused_as_soon_as_the_weights_come_back(backend, rate):
    neuron = Perceptron(2, backend=backend)
    with pytest.raises(NotSeparableError, match=r"after epoch 3 are those after epoch 2.* no hyp"):
        neuron.train(X, XOR, learning_rate=rate)
    assert issubclass(NotSeparableError, NnxpError)


def test_a_network_of_two_layers_learns_xor(backend):
    network = MLP([2, 4, 1], "tanh", "sigmoid", backend=backend, seed=0)
    train(network, X, XOR, optimizer=SGD(1.0), epochs=100, batch_size=None)
    np.testing.assert_array_equal(network.predict_classes(X), XOR)
    assert network.evaluate(X, XOR)["loss"] < 0.1


def separable(seed, samples=60, features=5):
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((samples, features)), rng.standard_normal(features)
    score = x @ w + 0.3
    x = x[np.abs(score) > 0.2]
    t = (x @ w + 0.3 > 0).astype(int)
    first = int(np.argmax(t))
    return np.roll(x, -first, axis=0), np.roll(t, -first)


def test_the_weights_are_scikit_learns(backend):
    """With a first sample of class 1: on a tie, which zero weights give, the two differ."""
    from sklearn.linear_model import Perceptron as Theirs

    x, t = separable(2)
    neuron = Perceptron(5, backend=backend, dtype="float64")
    epochs = neuron.train(x, t)
    assert epochs > 3
    for passes in (epochs - 1, epochs - 2):  # the last epoch changes nothing, that before it does
        theirs = Theirs(max_iter=passes, tol=None, shuffle=False).fit(x, t)
        same = np.allclose(parameters(neuron), [*theirs.coef_[0], *theirs.intercept_], rtol=1e-12)
        assert same == (passes == epochs - 1)
    np.testing.assert_array_equal(neuron.predict(x), t)


points = st.lists(st.tuples(*[st.integers(-2, 2)] * 2, st.integers(0, 1)), min_size=1, max_size=6)


@settings(max_examples=150, deadline=None)
@given(points)
def test_it_refuses_what_linear_programming_refuses(rows):
    from scipy.optimize import linprog

    x, t = np.array(rows, dtype=float)[:, :2], np.array(rows)[:, 2]
    outward = np.column_stack((x, np.ones(len(x)))) * (1 - 2 * t[:, None])
    possible = linprog(np.zeros(3), outward, -np.ones(len(x)), bounds=(None, None)).status == 0
    neuron = Perceptron(2, backend="numpy")
    refusal = ""
    try:
        neuron.train(x, t, epochs=10_000)
    except NotSeparableError as error:
        refusal = str(error)
    assert bool(refusal) == ("no hyperplane" in refusal) != possible
    assert (neuron.predict(x) == t).all() == possible


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_corrections_stay_within_novikoffs_bound(seed):
    x, t = separable(seed)
    neuron = Perceptron(5, dtype="float64", backend="numpy")
    epochs = neuron.train(x, t)
    w = np.array(parameters(neuron))
    rows = np.column_stack((x, np.ones(len(x))))
    margin = np.abs(rows @ w).min() / np.linalg.norm(w)
    assert epochs - 1 <= (np.linalg.norm(rows, axis=1).max() / margin) ** 2


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.125, 0.5, 4.0]))
def test_from_zero_the_rate_only_scales(seed, rate):
    x, t = separable(seed)
    one, other = Perceptron(5, backend="numpy"), Perceptron(5, backend="numpy")
    assert one.train(x, t) == other.train(x, t, learning_rate=rate)
    np.testing.assert_array_equal(np.array(parameters(one)) * rate, parameters(other))


@pytest.mark.promise("no wait")
def test_one_read_per_epoch_and_none_inside(conversions, monkeypatch):
    reads = []

    def counted(array):
        reads.append(array.shape)
        return to_numpy(array)

    neuron = Perceptron(2, backend="array-api-strict", device="device1")
    monkeypatch.setattr(nnxp.perceptron, "to_numpy", counted)
    assert neuron.train(X, GATES["AND"][0]) == 6
    assert reads == [(4,)] * 6  # two weights, the bias, the errors
    assert conversions.count == 0


def test_no_chunk_is_longer_than_a_graph_should_hold(monkeypatch):
    """A chunk that is captured takes kilobytes a step: all of the data at once took gigabytes."""
    opened, lengths = nnxp.backends.get("numpy"), []
    runner = opened.runner

    def watched(step):
        run = runner(step)
        return lambda state, data, order, rate: (
            lengths.append(len(order)) or run(state, data, order, rate)
        )

    monkeypatch.setattr(opened, "runner", watched)
    x, t = separable(2, samples=300)
    neuron = Perceptron(5, backend=opened)
    epochs = neuron.train(x, t)
    assert sum(lengths) == epochs * len(x)
    assert max(lengths) <= nnxp.data.batches.STEPS_PER_CHUNK
    np.testing.assert_array_equal(neuron.predict(x), t)


def test_predict_returns_what_it_was_given(library, backend):
    neuron = Perceptron(2, backend=backend)
    neuron.train(X, GATES["OR"][0])
    x = library.asarray(np.array(X, dtype=np.float32))
    y = neuron.predict(x)
    assert namespace(y) is library.xp
    assert device(y) == device(x)
    assert y.dtype == library.xp.int32
    np.testing.assert_array_equal(to_numpy(y), GATES["OR"][0])


def test_what_rounding_stops_is_not_called_inseparable():
    neuron = Perceptron(1, backend="numpy")
    neuron.bias = neuron.bias - 2.0**25  # in float32, one more is no more
    with pytest.raises(NotSeparableError, match="float32 is too coarse for this x"):
        neuron.train([[0.0]], [1])


def test_too_few_epochs_prove_nothing():
    neuron = Perceptron(2, backend="numpy")
    with pytest.raises(NotSeparableError, match="not separated in 5 epochs, 1 of 4 samples"):
        neuron.train(X, GATES["AND"][0], epochs=5)
    assert neuron.train(X, GATES["AND"][0]) == 1  # it was there, and did not know


def test_overflow_is_divergence(backend):
    with pytest.raises(DivergenceError, match="no longer finite in epoch 1: lower the learning"):
        Perceptron(1, backend=backend).train([[3e38], [-3e38]], [1, 1], learning_rate=10)


@pytest.mark.parametrize(
    ("x", "t", "options", "says"),
    [
        (X, [0, 1, 2, 1], {}, r"targets\[2\] is 2: a perceptron takes 0 and 1"),
        (X, [-1, -1, -1, 1], {}, r"targets\[0\] is -1: .* t > 0 makes them"),
        (X, [0, 0.5, 0, 1], {}, r"targets\[1\] is 0.5"),
        (X, [0, 1], {}, r"targets have shape \(2,\), x has 4 rows"),
        ([[0, 0, 1]], [1], {}, r"x has shape \(1, 3\), .* takes \(samples, 2\)"),
        ([[0, np.nan]], [1], {}, "x holds nan at row 0, column 1"),
        (X, XOR, {"epochs": 0}, "epochs must be a whole number, 1 or more, not 0"),
        (X, XOR, {"learning_rate": 0}, "learning_rate must be a finite number above 0, not 0"),
        (X, XOR, {"learning_rate": np.inf}, "not inf"),
    ],
)
def test_wrong_input_is_refused(x, t, options, says):
    neuron = Perceptron(2, backend="numpy")
    with pytest.raises(InputError, match=says):
        neuron.train(x, t, **options)
    assert parameters(neuron) == [0, 0, 0]


@pytest.mark.parametrize("features", [0, 2.5, True])
def test_wrong_sizes_are_refused(features):
    with pytest.raises(InputError, match="features must be a whole number, 1 or more"):
        Perceptron(features)

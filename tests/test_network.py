import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnxp import MLP, SGD, InputError, objectives, train
from nnxp.arrays import is_array, namespace, to_numpy
from nnxp.data import placement

# The three-layer network of Saitoh, Deep Learning from Scratch, chapter 3.
BOOK = [
    ([[0.1, 0.3, 0.5], [0.2, 0.4, 0.6]], [0.1, 0.2, 0.3]),
    ([[0.1, 0.4], [0.2, 0.5], [0.3, 0.6]], [0.1, 0.2]),
    ([[0.1, 0.3], [0.2, 0.4]], [0.1, 0.2]),
]


def test_the_books_network_gives_the_books_numbers(backend):
    network = MLP(
        [2, 3, 2, 2], "sigmoid", "identity", backend=backend, dtype="float64", parameters=BOOK
    )
    y = network.predict(np.array([[1.0, 0.5]]))
    np.testing.assert_allclose(y, [[0.31682708, 0.69627909]], atol=5e-9)


def test_predictions_are_scikit_learns_with_the_same_weights():
    from sklearn.neural_network import MLPClassifier

    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((50, 4)), rng.integers(0, 3, 50)
    theirs = MLPClassifier((6, 5), activation="tanh", solver="sgd").partial_fit(
        x, t, classes=[0, 1, 2]
    )
    ours = MLP(
        [4, 6, 5, 3],
        "tanh",
        dtype="float64",
        parameters=list(zip(theirs.coefs_, theirs.intercepts_, strict=True)),
    )
    np.testing.assert_allclose(ours.predict(x), theirs.predict_proba(x), rtol=1e-12)
    np.testing.assert_array_equal(ours.predict_classes(x), theirs.predict(x))
    assert ours.evaluate(x, t)["accuracy"] == theirs.score(x, t)


def test_predict_returns_what_it_was_given(library, backend):
    """Any library's arrays into any backend's network, and back."""
    network = MLP([3, 4, 2], backend=backend)
    x = library.asarray(np.ones((5, 3), dtype=np.float32))
    for y in (network.predict(x), network.predict_classes(x)):
        assert namespace(y) is library.xp
        assert y.device == x.device
    np.testing.assert_allclose(
        to_numpy(network.predict(x)), to_numpy(network.forward(x)), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("output", "loss"),
    [("softmax", "categorical_cross_entropy"), ("identity", "quadratic")],
)
def test_evaluation_over_several_blocks_is_that_of_all_rows(backend, monkeypatch, output, loss):
    """Blocks of 4, 4 and 3 rows: none counts for more than its rows."""
    monkeypatch.setattr(placement, "BLOCK_ELEMENTS", 5 * 4)
    rng = np.random.default_rng(0)
    x, weight, bias = rng.standard_normal((11, 5)), rng.standard_normal((5, 3)), np.arange(3.0)
    network = MLP([5, 3], output=output, dtype="float64", parameters=[(weight, bias)],
                  backend=backend)  # fmt: skip
    z = x @ weight + bias
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    classes, values = rng.integers(0, 3, 11), 9 * rng.standard_normal((11, 3))
    if output == "softmax":
        found = network.evaluate(x, classes)
        assert found["accuracy"] == np.mean(np.argmax(z, axis=1) == classes)
        expected, y = -np.log(p[np.arange(11), classes]).mean(), p
    else:
        found = network.evaluate(x, values)
        error = z - values
        assert found["rmse"] == pytest.approx(np.sqrt((error**2).mean(axis=0)).mean(), rel=1e-12)
        assert found["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-12)
        expected, y = 0.5 * (error**2).sum(axis=1).mean(), z
    assert found["loss"] == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(network.predict(x), y, rtol=1e-11)
    np.testing.assert_array_equal(network.predict_classes(x), np.argmax(z, axis=1))
    with pytest.raises(InputError, match=r"row 9 of x \(from 0\) is"):
        network.predict(np.where(np.arange(11)[:, None] == 9, 1e308, x))


def test_forward_stays_on_the_networks_device(backend):
    network = MLP([3, 2], backend=backend)
    y = network.forward([[1.0, 2.0, 3.0]])
    assert namespace(y) is backend.xp
    assert y.device == network.parameters[0][0].device


def test_lists_are_arrays_too():
    assert type(MLP([2, 2], backend="numpy").predict([[0, 1]])) is np.ndarray


def test_predict_works_through_large_inputs_in_batches(monkeypatch):
    import nnxp.network

    widest = []
    original = nnxp.network.propagate

    def recorded(parameters, hidden, x):
        widest.append(x.shape[0])
        return original(parameters, hidden, x)

    monkeypatch.setattr(nnxp.network, "propagate", recorded)
    network = MLP([2, 2**18, 2], backend="numpy")
    x = np.random.default_rng(0).standard_normal((40, 2))
    assert network.predict(x).shape == (40, 2)
    assert sum(widest) == 40
    assert max(widest) == 2**22 // 2**18


@pytest.mark.parametrize(
    ("output", "outputs", "classes"),
    [("sigmoid", 1, [0, 1]), ("identity", 1, [0, 1]), ("softmax", 2, [1, 0])],
)
def test_predict_classes(backend, output, outputs, classes):
    """One unit says yes above its threshold; several compete."""
    network = MLP([1, outputs], output=output, backend=backend)
    network.parameters = [([[1.0] + [-1.0] * (outputs - 1)], [0.0] * outputs)]
    # 0.3 lies between the two thresholds that there are, 0 and 1/2.
    x = np.array([[-0.3], [0.3]], dtype=np.float32)
    np.testing.assert_array_equal(network.predict_classes(x), classes)


def test_loss_and_gradients_follow_the_gradient_downhill(backend):
    network = MLP([3, 4, 2], "tanh", backend=backend, dtype="float64")
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((6, 3)), rng.integers(0, 2, 6)
    loss, gradients = network.loss_and_gradients(x, t)
    assert type(loss) is float
    network.parameters = [
        tuple(p - 0.1 * g for p, g in zip(layer, gradient, strict=True))
        for layer, gradient in zip(network.parameters, gradients, strict=True)
    ]
    assert network.loss_and_gradients(x, t)[0] < loss


def test_sample_weights_weigh(backend):
    network = MLP([3, 2], backend=backend, dtype="float64")
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((3, 3)), np.array([0, 1, 1])
    weighted = network.loss_and_gradients(x, t, sample_weight=[2, 1, 0])
    repeated = network.loss_and_gradients(x[[0, 0, 1]], t[[0, 0, 1]])
    assert weighted[0] == pytest.approx(repeated[0], rel=1e-12)
    for ours, theirs in zip(weighted[1][0], repeated[1][0], strict=True):
        np.testing.assert_allclose(to_numpy(ours), to_numpy(theirs), rtol=1e-12)


def test_parameters_are_copied_in_and_out_of_shape_refused():
    network = MLP([2, 2], backend="numpy")
    weight = np.ones((2, 2), dtype=np.float32)
    network.parameters = [(weight, np.zeros(2))]
    weight[:] = 5
    assert (network.parameters[0][0] == 1).all()
    with pytest.raises(InputError, match=r"parameters have shapes .*\(3, 2\).*, the network's are"):
        network.parameters = [(np.ones((3, 2)), np.zeros(2))]


def test_evaluate_is_the_loss_and_the_metric(backend):
    network = MLP([2, 2], backend=backend, dtype="float64")
    network.parameters = [(np.eye(2), np.zeros(2))]
    x = [[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]]
    figures = network.evaluate(x, [0, 1, 1])
    assert figures["accuracy"] == pytest.approx(2 / 3)
    expected = np.mean([np.log1p(np.exp(-2)), np.log1p(np.exp(-1)), 3 + np.log1p(np.exp(-3))])
    assert figures["loss"] == pytest.approx(expected, rel=1e-12)
    assert network.evaluate(x, [0, 1, 1], "quadratic")["loss"] != figures["loss"]


def test_a_network_pickles_with_its_backend(backend):
    network = MLP([3, 2], backend=backend)
    again = pickle.loads(pickle.dumps(network))
    x = np.ones((2, 3), dtype=np.float32)
    np.testing.assert_array_equal(again.predict(x), network.predict(x))
    assert again.backend.describe() == backend.describe()


def test_repr_says_what_and_where():
    assert repr(MLP([4, 3, 2], backend="numpy")).startswith(
        "<MLP 4 -> 3 relu -> 2 softmax, float32, numpy "
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (([4],), r"sizes must be a list of 2 or more.* not \[4\]"),
        (([4, 0],), r"each a whole number, 1 or more, not \[4, 0\]"),
        (([4, 2.5],), r"not \[4, 2.5\]"),
        (([4, True],), r"not \[4, True\]"),
        (([4, 3, 2], "rleu"), "unknown activation 'rleu': did you mean 'relu'"),
        (([4, 3, 2], ["relu", "tanh"]), "2 hidden activations for 1 hidden layer"),
        (([4, 2], "relu", "sofmax"), "did you mean 'softmax'"),
    ],
)
def test_wrong_arguments_are_refused(arguments, says):
    with pytest.raises(InputError, match=says):
        MLP(*arguments, backend="numpy")


def test_one_activation_per_hidden_layer():
    network = MLP([2, 3, 4, 1], ["tanh", "leaky-relu"], "sigmoid", backend="numpy")
    assert network.hidden == ("tanh", "leaky_relu")


@pytest.mark.parametrize("dtype", ["float16", "int32", "complex64"])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(InputError, match=f"dtype must be float32 or float64, not '{dtype}'"):
        MLP([2, 2], dtype=dtype, backend="numpy")


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 30))
def test_permuted_rows_give_permuted_predictions(seed, rows):
    rng = np.random.default_rng(seed)
    network = MLP([4, 6, 3], "tanh", dtype="float64", seed=seed, backend="numpy")
    x, order = rng.standard_normal((rows, 4)), rng.permutation(rows)
    np.testing.assert_allclose(network.predict(x[order]), network.predict(x)[order], rtol=1e-12)


@pytest.mark.promise("properties")
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_permuted_hidden_units_give_the_same_network(seed):
    rng = np.random.default_rng(seed)
    network = MLP([4, 6, 3], dtype="float64", seed=seed, backend="numpy")
    x, order = rng.standard_normal((5, 4)), rng.permutation(6)
    (w1, b1), (w2, b2) = network.parameters
    permuted = MLP(
        [4, 6, 3],
        dtype="float64",
        backend="numpy",
        parameters=[(w1[:, order], b1[order]), (w2[order], b2)],
    )
    np.testing.assert_allclose(permuted.predict(x), network.predict(x), rtol=1e-12)


def test_auto_loss_fits_the_output():
    assert objectives.get("auto", "softmax").loss == "categorical_cross_entropy"
    assert objectives.get("auto", "sigmoid").loss == "binary_cross_entropy"
    assert (
        objectives.get("auto", "identity").loss
        == objectives.get("auto", "tanh").loss
        == "quadratic"
    )
    assert objectives.get("binary-cross-entropy", "tanh").loss == "binary_cross_entropy"
    with pytest.raises(InputError, match="unknown loss 'quadrat': did you mean 'quadratic'"):
        objectives.get("quadrat", "softmax")


def test_evaluate_uses_the_loss_that_was_trained_with():
    network = MLP([2, 2], output="sigmoid", backend="numpy")
    x, t = np.eye(2), [0, 1]
    train(network, x, t, loss="quadratic", optimizer=SGD(0.1), epochs=1, batch_size=2)
    assert network.evaluate(x, t) == network.evaluate(x, t, "quadratic")
    assert is_array(network.parameters[0][0])


def test_nothing_of_the_context_leaks_while_blocks_are_consumed():
    before = np.geterr()
    blocks = MLP([3, 2], backend="numpy")._forward_blocks(np.ones((4, 3), dtype=np.float32))
    next(blocks)
    assert np.geterr() == before


def test_an_open_backend_on_another_device_is_refused():
    from nnxp import BackendError, backends

    opened = backends.get("array-api-strict", "cpu")
    with pytest.raises(BackendError, match="open already: device 'device1' is another"):
        MLP([2, 2], backend=opened, device="device1")


def test_what_is_assumed_to_be_finite_is_not_checked_but_outputs_are(backend):
    network = MLP([2, 3, 2], hidden="sigmoid", backend=backend)
    x = np.array([[0.5, 1.0], [2.0, 3.0]])
    np.testing.assert_array_equal(network.predict(x, assume_finite=True), network.predict(x))
    np.testing.assert_array_equal(
        network.predict_classes(x, assume_finite=True), network.predict_classes(x)
    )
    x[1, 0] = np.nan
    with pytest.raises(InputError, match="x holds nan at row 1"):
        network.predict(x)
    with pytest.raises(InputError, match="row 1"):
        network.predict(x, assume_finite=True)

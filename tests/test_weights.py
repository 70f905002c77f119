"""Weights that were trained elsewhere, through `MLP.from_weights` and `nnxp.weights.read`."""

import numpy as np
import pytest

from nnxp import MLP, weights
from nnxp.arrays import to_numpy
from nnxp.errors import DataError, InputError

LAYERS = {
    "W1": [[0.1, 0.3, 0.5], [0.2, 0.4, 0.6]], "b1": [0.1, 0.2, 0.3],
    "W2": [[0.1, 0.4], [0.2, 0.5], [0.3, 0.6]], "b2": [0.1, 0.2],
}  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.npz"


def save(path, changes=None):
    """Write LAYERS with changes; None leaves an array out."""
    merged = LAYERS | (changes or {})
    np.savez(path, **{name: value for name, value in merged.items() if value is not None})


def test_a_network_of_foreign_weights_computes_the_matrix_form(path, backend):
    save(path)
    network = MLP.from_weights(path, "sigmoid", "identity", backend=backend)
    x = np.array([[1.0, 0.5], [-2.0, 3.0]])
    (w1, b1, w2, b2) = (np.asarray(LAYERS[name]) for name in ("W1", "b1", "W2", "b2"))
    expected = 1 / (1 + np.exp(-(x @ w1 + b1))) @ w2 + b2
    assert network.sizes == (2, 3, 2)
    np.testing.assert_allclose(to_numpy(network.predict(x)), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_network_has_the_dtype_and_the_values_of_the_file(path, dtype):
    save(path)
    network = MLP.from_weights(path, dtype=dtype, backend="numpy")
    assert (network.dtype, network.hidden, network.output) == (dtype, ("relu",), "softmax")
    for i, (weight, bias) in enumerate(network.parameters, 1):
        assert weight.dtype == bias.dtype == dtype
        np.testing.assert_array_equal(weight, np.asarray(LAYERS[f"W{i}"], dtype))
        np.testing.assert_array_equal(bias, np.asarray(LAYERS[f"b{i}"], dtype))


def test_layers_are_in_the_order_of_their_numbers_not_of_the_file_or_the_alphabet(path):
    sizes = range(1, 13)  # W10 comes before W2 in the alphabet
    layers = {f"W{i}": np.full((i, i + 1), i) for i in sizes}
    layers |= {f"b{i}": np.full(i + 1, -i) for i in sizes}
    np.savez(path, **dict(reversed(layers.items())))
    found = weights.read(path).parameters
    assert [int(weight[0, 0]) for weight, _ in found] == list(sizes)
    assert [int(bias[0]) for _, bias in found] == [-i for i in sizes]


def test_whole_numbers_biases_of_any_shape_and_other_arrays_are_taken(path):
    np.savez(path, W1=np.ones((2, 3), np.int8), b1=np.ones((1, 3), np.float16), note=["Wx"])
    ((weight, bias),) = weights.read(path).parameters
    assert (weight.dtype, bias.dtype, bias.shape) == (np.int8, np.float16, (3,))
    assert MLP.from_weights(path, backend="numpy").sizes == (2, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"W2": None}, "has no W2"),
        ({"b1": None}, "has no b1"),
        ({"W4": np.ones((2, 2))}, "has no W3"),
        (dict.fromkeys(LAYERS), "has no W1, b1, ...; it has nothing"),
        (dict.fromkeys(LAYERS) | {"kernel": [1.0]}, "it has kernel"),
        ({"W2": np.ones((2, 3))}, r"W2 is \(2, 3\); .* must be \(3, 2\)"),
        ({"b1": np.ones(4)}, r"W1 is \(2, 3\); .* must be \(2, 4\)"),
        ({"W1": np.ones(3)}, r"W1 is \(3,\)"),
        ({"W1": 3.0}, r"W1 is \(\)"),
        ({"W1": np.ones((1, 2, 3))}, r"W1 is \(1, 2, 3\)"),
        ({"b2": ["a", "b"]}, "b2 is <U1, not numbers"),
        ({"b2": [1j, 2j]}, "b2 is complex128, not numbers"),
        ({"b2": [True, False]}, "b2 is bool, not numbers"),
        ({"b2": [0.0, np.inf]}, "the bias of W2 holds values that are not finite in float32"),
        ({"W1": np.full((2, 3), 1e39)}, "the weight W1 holds values that are not finite"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused_by_name(path, changes, message):
    save(path, changes)
    with pytest.raises(DataError, match=rf"weights\.npz: .*{message}"):
        MLP.from_weights(path, backend="numpy")


def test_values_that_only_float64_holds_are_taken_in_float64(path):
    save(path, {"b2": [1e39, -1e39]})
    network = MLP.from_weights(path, backend="numpy", dtype="float64")
    np.testing.assert_array_equal(network.parameters[1][1], [1e39, -1e39])


def test_names_are_checked_like_those_of_a_new_network(path):
    save(path)
    with pytest.raises(InputError, match="reul"):
        MLP.from_weights(path, "reul")
    with pytest.raises(InputError, match="float16"):
        MLP.from_weights(path, dtype="float16")
    with pytest.raises(DataError, match="No such file"):
        MLP.from_weights(path.with_name("nowhere.npz"))

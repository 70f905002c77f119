"""Networks of weights that were trained elsewhere."""

import numpy as np
import pytest

from nnxp import MLP, DataError, InputError, weights

BOOK = {
    "W1": [[0.1, 0.3, 0.5], [0.2, 0.4, 0.6]], "b1": [0.1, 0.2, 0.3],
    "W2": [[0.1, 0.4], [0.2, 0.5], [0.3, 0.6]], "b2": [0.1, 0.2],
    "W3": [[0.1, 0.3], [0.2, 0.4]], "b3": [0.1, 0.2],
}  # fmt: skip


def test_the_books_network_predicts_what_they_print_on_every_backend(tmp_path, backend):
    np.savez(tmp_path / "book.npz", **BOOK)
    network = MLP.from_weights(tmp_path / "book.npz", "sigmoid", "identity", backend=backend)
    assert network.sizes == (2, 3, 2, 2)
    assert network.hidden == ("sigmoid", "sigmoid")
    np.testing.assert_allclose(
        network.predict(np.array([[1.0, 0.5]])), [[0.31682708, 0.69627909]], atol=1e-7
    )


def test_the_order_in_the_file_and_the_shape_of_biases_do_not_matter(tmp_path):
    turned = dict(reversed(BOOK.items())) | {"b1": [[0.1, 0.2, 0.3]]}
    np.savez(tmp_path / "book.npz", **turned)
    for (weight, bias), layer in zip(weights.read(tmp_path / "book.npz"), "123", strict=True):
        np.testing.assert_array_equal(weight, BOOK[f"W{layer}"])
        np.testing.assert_array_equal(bias, BOOK[f"b{layer}"])


def test_what_is_finite_in_the_wider_dtype_alone_is_refused_in_the_other(tmp_path):
    np.savez(tmp_path / "large.npz", W1=[[1e39]], b1=[0.0])
    assert MLP.from_weights(tmp_path / "large.npz", dtype="float64").parameters[0][0][0, 0] == 1e39
    with pytest.raises(
        DataError, match=r"large\.npz: W1 holds values that are not finite in float32"
    ):
        MLP.from_weights(tmp_path / "large.npz")


def test_names_are_checked(tmp_path):
    np.savez(tmp_path / "book.npz", **BOOK)
    with pytest.raises(InputError, match="did you mean 'relu'"):
        MLP.from_weights(tmp_path / "book.npz", "relo")
    with pytest.raises(InputError, match="dtype must be float32 or float64"):
        MLP.from_weights(tmp_path / "book.npz", dtype="float16")

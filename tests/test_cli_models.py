"""`nnxp evaluate`, `predict`, `describe`, `import-weights` and `gradcheck`."""

import io
import os
import re
import shutil

import numpy as np
import pytest
from command_line import BOOK, fail, figure, succeed, table
from conftest import require
from processes import python

import nnxp


def test_evaluate_takes_the_digits_if_no_data_is_named(trained_digits, report):
    assert figure(succeed(trained_digits, "evaluate", "model.safetensors")) == pytest.approx(
        report["test"]["accuracy"], abs=5e-5
    )


def test_predict_writes_a_row_per_test_sample(trained_digits, report):
    header, rows = table(succeed(trained_digits, "predict", "model.safetensors", "digits"))
    assert header == ["prediction", *"0123456789"]
    assert len(rows) == 360
    outputs = np.array([row[1:] for row in rows], dtype=float)
    np.testing.assert_allclose(outputs.sum(axis=1), 1, atol=1e-5)
    predicted = np.array([int(row[0]) for row in rows])
    np.testing.assert_array_equal(predicted, outputs.argmax(axis=1))
    truth = nnxp.datasets.load("digits").y_test
    assert (predicted == truth).mean() == pytest.approx(report["test"]["accuracy"])


def test_predict_to_a_file_writes_what_it_prints(trained_digits, tmp_path):
    text = succeed(trained_digits, "predict", "model.safetensors", "digits")
    out = tmp_path / "out.csv"
    said = succeed(trained_digits, "predict", "model.safetensors", "digits", "--output", out)
    assert out.read_text() == text
    assert str(out) in said
    assert "360" in said


def test_a_model_without_class_names_takes_classes_by_their_number(tmp_path):
    """Whichever of them happen to occur in the file."""
    x, t = np.eye(4).repeat(5, axis=0), np.arange(4).repeat(5)
    network = nnxp.MLP([4, 4], backend="numpy")
    nnxp.train(network, x, t, epochs=50, batch_size=4)
    network.save(tmp_path / "model.safetensors")
    np.savez(tmp_path / "some.npz", x=x[5:], y=t[5:])
    assert "accuracy 1.0000" in succeed(tmp_path, "evaluate", "model.safetensors", "some.npz")


@pytest.mark.parametrize(
    "metadata",
    [
        {"preprocessing": {"kind": "foo", "who": 1}},
        {"preprocessing": {"kind": "pixels", "shift": "a", "scale": 1}},
        {"preprocessing": {"kind": "standardize", "shift": [0, 0], "scale": [1]}},
        {"preprocessing": {"kind": "pca", "shift": [0, 0], "scale": [1, 1], "matrix": 1}},
        {"preprocessing": {"kind": "pca", "shift": [0], "scale": [1], "matrix": np.eye(2)}},
        {"preprocessing": {"kind": "pca", "shift": [0] * 64, "scale": [1] * 64}},
        {"preprocessing": {"kind": "standardize", "shift": [0] * 3, "scale": [1] * 3}},
        {"preprocessing": {"kind": "standardize", "shift": [0] * 64, "scale": [1] * 63 + [0]}},
        {"preprocessing": {"kind": "standardize", "shift": [0] * 64, "scale": [1] * 63 + [-1]}},
        {"preprocessing": {"kind": "standardize", "shift": 10**400, "scale": 1}},
        {"preprocessing": {"kind": "pixels", "shift": 0, "scale": 0.0}},
        {"preprocessing": {"kind": "pixels", "shift": 0, "scale": 1e-300}},
        {"preprocessing": {"kind": "pixels", "shift": 0, "scale": 1e300}},
        {"shape": 64},
        {"shape": [-8, -8]},
        {"classes": 5},
        {"classes": ["a"]},
        {"task": "my task"},
        {"features": "abc"},
        {"split": 0.2},
        {"split": {"share": 0.2, "seed": 0}},
        {"split": {"share": 2, "seed": 0, "content": 64 * "0"}},
        {"split": {"share": 0.2, "seed": -1, "content": 64 * "0"}},
        {"split": {"share": 0.2, "seed": True, "content": 64 * "0"}},
        {"split": {"share": 0.2, "seed": 0, "content": "abc"}},
    ],
    ids=lambda metadata: str(metadata)[:100],
)
@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_metadata_of_another_kind_is_refused(tmp_path, metadata, command):
    network = nnxp.MLP([64, 10], backend="numpy")
    network.metadata = metadata
    network.save(tmp_path / "model.safetensors")
    fail(tmp_path, command, "model.safetensors", "digits")


@pytest.fixture(scope="module", params=["float32", "float64"])
def book(tmp_path_factory, request):
    """A folder with the books' three-layer network, as they print it."""
    folder = tmp_path_factory.mktemp("book")
    np.savez(folder / "weights.npz", **BOOK)
    options = ["--hidden-activation", "sigmoid", "--output-activation", "identity"]
    options += ["--dtype", request.param, "--save", "book.safetensors"]
    text = succeed(folder, "import-weights", "weights.npz", *options)
    assert "2-3-2-2" in text
    assert "book.safetensors" in text
    np.savez(folder / "x.npz", x=[[1.0, 0.5]])
    (folder / "x.csv").write_text("x1,x2\n1.0,0.5\n")
    return folder


@pytest.mark.parametrize("data", ["x.npz", "x.csv"])
def test_the_books_three_layer_network_predicts_what_they_print(book, data):
    _, rows = table(succeed(book, "predict", "book.safetensors", data))
    assert [float(value) for value in rows[0][-2:]] == pytest.approx(
        [0.31682708, 0.69627909], abs=1e-7
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"W2": None}, ["W2"]),
        ({"b3": None}, ["b3"]),
        ({"W2": np.ones((2, 3))}, ["W2", "(2, 3)", "(3, 2)"]),
        ({"b1": np.ones(4)}, ["W1"]),
        ({"W1": np.ones(3)}, ["W1", "(3,)"]),
        ({"W1": np.float64(3)}, ["W1"]),
        ({"W3": np.array([["a", "b"]] * 2)}, ["W3"]),
        ({"W3": np.full((2, 2), np.nan)}, ["W3"]),
        ({"W3": np.full((2, 2), 1e39)}, ["W3"]),
        ({"W1": np.array([[{}] * 3] * 2)}, ["weights.npz"]),
        ({f"{kind}{i}": None for kind in "Wb" for i in (1, 2, 3)}, ["W1"]),
    ],
    ids=["no W2", "no b3", "turned", "b1", "1-d", "0-d", "text", "nan", "1e39", "objects", "empty"],
)
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path, changes, words):
    merged = BOOK | changes
    np.savez(tmp_path / "weights.npz", **{k: v for k, v in merged.items() if v is not None})
    line = fail(tmp_path, "import-weights", "weights.npz")
    for word in ("weights.npz", *words):
        assert word in line
    assert not (tmp_path / "model.safetensors").exists()


def test_import_weights_does_not_overwrite_what_is_no_model_either(tmp_path):
    np.savez(tmp_path / "weights.npz", **BOOK)
    before = (tmp_path / "weights.npz").read_bytes()
    fail(tmp_path, "import-weights", "weights.npz", "--save", "weights.npz")
    assert (tmp_path / "weights.npz").read_bytes() == before


def test_imported_weights_do_not_replace_a_model_of_another_network(trained_digits, tmp_path):
    shutil.copy(trained_digits / "model.safetensors", tmp_path)
    np.savez(tmp_path / "weights.npz", **BOOK)
    assert "--overwrite" in fail(tmp_path, "import-weights", "weights.npz")
    text = succeed(tmp_path, "import-weights", "weights.npz", "--overwrite")
    assert text.startswith("saved model.safetensors in place of the model that was there: 2-3-2-2")


def test_import_weights_says_which_layout_it_took_and_why(tmp_path):
    np.savez(tmp_path / "weights.npz", W1=np.ones((3, 2)), b1=np.ones(3))
    text = succeed(tmp_path, "import-weights", "weights.npz")
    assert ": 2-3, no hidden layer, softmax" in text
    reason = "weight W1 is (3, 2) and its bias has 3"
    assert f"weights are (out, in), as PyTorch's: {reason}" in " ".join(text.split())


def test_import_weights_asks_for_the_layout_of_square_matrices(tmp_path, monkeypatch):
    square = np.array([[1.0, 2.0], [3.0, 4.0]])
    np.savez(tmp_path / "weights.npz", W1=square, b1=np.zeros(2))
    assert "--layout" in fail(tmp_path, "import-weights", "weights.npz")
    assert "unknown layout" in fail(tmp_path, "import-weights", "weights.npz", "--layout", "rows")
    succeed(tmp_path, "import-weights", "weights.npz", "--layout", "in-out")
    taken = nnxp.MLP.load(tmp_path / "model.safetensors", "numpy").parameters[0][0]
    np.testing.assert_array_equal(taken, square)

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stdin", Terminal("rows\nout-in\n"))
    text = succeed(tmp_path, "import-weights", "weights.npz")
    assert "every matrix is square" in text
    assert text.count("layout, in-out or out-in: ") == 2
    taken = nnxp.MLP.load(tmp_path / "model.safetensors", "numpy").parameters[0][0]
    np.testing.assert_array_equal(taken, square.T)
    monkeypatch.setattr("sys.stdin", Terminal(""))
    assert "every matrix is square" in fail(tmp_path, "import-weights", "weights.npz")


@pytest.mark.slow
def test_gradcheck_says_so_and_exits_with_1_where_a_derivative_is_wrong(tmp_path):
    text = succeed(tmp_path, "gradcheck", "--activation", "sigmoid")
    assert "layers.0.weight" in text
    assert re.search(r"layers.0.weight +\(8, 6\) +48 +[1-9].\de-1[01] +[1-9].\de-(08|09)\n", text)
    assert text.endswith("all within 1e-06\n")
    text = succeed(tmp_path, "gradcheck", "--activation", "sigmoid", "--hidden", "30," * 7 + "30")
    assert re.search(r"layers.0.weight .* too small to tell\n", text)
    assert text.endswith("or a gradient as small as rounding errors\n")
    code = (
        "import sys\nfrom nnxp import cli, kernels\n"
        "forward, _ = kernels.ACTIVATIONS['tanh']\n"
        "kernels.ACTIVATIONS['tanh'] = forward, lambda dy, y: dy * (1 - y)\n"
        "sys.argv = ['nnxp', 'gradcheck', '--backend', 'numpy']\ncli.main()"
    )
    done = python(code, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.count("WRONG") == 4
    assert done.stderr.count("\n") == 1
    assert "layers.0.weight" in done.stderr


@pytest.mark.parametrize("samples", ["0", "-1", "99999999999999999999", "1e3"])
def test_gradcheck_draws_no_more_samples_than_it_can_hold(tmp_path, samples):
    assert "--samples" in fail(tmp_path, "gradcheck", "--samples", samples)


def test_a_saved_model_can_be_checked(tmp_path):
    succeed(tmp_path, "train", "--epochs", 1, "--activation", "tanh", "--quiet")
    text = succeed(tmp_path, "gradcheck", "model.safetensors")
    assert re.search(r"layers.0.weight +\(64, 128\) +200 ", text)


@pytest.fixture
def mnist():
    folder = os.environ.get("NNXP_DATA_DIR")
    if not folder or not os.path.isdir(os.path.join(folder, "mnist")):
        pytest.skip("NNXP_DATA_DIR names no folder with mnist in it")
    return os.path.abspath(folder)


def test_mnist_is_learnt_in_an_epoch(tmp_path, mnist):
    options = ["--hidden", 30, "--epochs", 1, "--batch-size", 32]
    text = succeed(tmp_path, "train", "mnist", *options, NNXP_DATA_DIR=mnist)
    assert figure(text.partition("\ntest ")[2]) >= 0.92
    again = succeed(tmp_path, "evaluate", "model.safetensors", "mnist", "--data-dir", mnist)
    assert figure(again) == figure(text.partition("\ntest ")[2])


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax", "array-api-strict"])
def test_the_pretrained_weights_are_right_on_9352_of_10000(tmp_path, mnist, backend):
    require(backend)
    file = os.path.join(mnist, "pretrained", "mnist-784-50-100-10-sigmoid.npz")
    if not os.path.isfile(file):
        pytest.skip("NNXP_DATA_DIR has no pretrained weights")
    succeed(tmp_path, "import-weights", file, "--hidden-activation", "sigmoid")
    options = ["--data-dir", mnist, "--backend", backend]
    text = succeed(tmp_path, "evaluate", "model.safetensors", "mnist", *options)
    assert figure(text) == 0.9352
    assert "10,000 samples" in text


# --- describe


def test_describe_shows_what_a_model_is(tmp_path, trained_digits):
    text = succeed(trained_digits, "describe", "model.safetensors", "--batch-size", 8)
    network = nnxp.MLP.load(trained_digits / "model.safetensors", "numpy")
    assert text.startswith(
        "trained on digits; loss categorical cross entropy; task classify\n"
        "classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9\npreprocessing of the features: pixels\n"
    )
    assert text.endswith(f"\n{network.summary(8)!r}\n")
    rows = "".join(f"{i},{1000 * i + 3}\n" for i in range(40))
    (tmp_path / "t.csv").write_text("length,price\n" + rows)
    succeed(tmp_path, "train", "t.csv", "--epochs", 1, "--quiet")
    text = succeed(tmp_path, "describe", "model.safetensors", "--optimizer", "adam")
    assert "features: length\ntarget: price\n" in text
    assert "targets are scaled: mean " in text
    assert "training with Adam in batches of 32" in text
    nnxp.MLP([2, 2], backend="numpy").save(tmp_path / "bare.safetensors")
    text = succeed(tmp_path, "describe", "bare.safetensors")
    assert text.startswith("trained on unknown data; loss categorical cross entropy\n\nMLP 2-2")
    assert "No such file" in fail(tmp_path, "describe", "nosuch.safetensors")
    assert "unknown optimizer" in fail(tmp_path, "describe", "bare.safetensors", "--optimizer", "x")


def test_evaluate_computes_the_metrics_that_are_named(trained_digits):
    text = succeed(trained_digits, "evaluate", "model.safetensors", "--metrics", "f1, accuracy")
    assert re.search(r"digits: f1 0\.\d+, accuracy 0\.\d+, loss", text)
    line = fail(trained_digits, "evaluate", "model.safetensors", "--metrics", "f1,rmse")
    assert "metric 'rmse' is for real values" in line
    line = fail(trained_digits, "evaluate", "model.safetensors", "--metrics", "")
    assert "unknown metric ''" in line

"""`nnxp.weights.layout`: which way matrices lie, and in which order layers follow."""

import logging
from itertools import pairwise

import numpy as np
import pytest

from nnxp import MLP, weights
from nnxp.errors import DataError, InputError
from nnxp.weights.layout import Layer, ordered

RNG = np.random.default_rng(0)


def arrays(sizes, turned=False):
    """W1, b1, ... of a network, as an npz archive has them."""
    found = {}
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes), 1):
        weight = RNG.standard_normal((fan_in, fan_out))
        found |= {f"W{i}": weight.T if turned else weight, f"b{i}": RNG.standard_normal(fan_out)}
    return found


@pytest.mark.parametrize("sizes", [(3, 3, 2), (2, 4, 4), (5, 7), (4, 4, 4, 3)])
@pytest.mark.parametrize("turned", [False, True])
def test_one_matrix_that_is_not_square_tells_the_layout_of_all(tmp_path, sizes, turned, caplog):
    made = arrays(sizes, turned)
    np.savez(tmp_path / "w.npz", **made)
    with caplog.at_level(logging.INFO, "nnxp"):
        found = weights.read(tmp_path / "w.npz")
    for i, (weight, _) in enumerate(found.parameters, 1):
        np.testing.assert_array_equal(weight, made[f"W{i}"].T if turned else made[f"W{i}"])
    name = "(out, in), as PyTorch's" if turned else "(in, out)"
    first = next(i for i in range(len(sizes) - 1) if sizes[i] != sizes[i + 1])
    shape = made[f"W{first + 1}"].shape
    reason = f"weight W{first + 1} is {shape} and its bias has {sizes[first + 1]}"
    assert found.layout == f"weights are {name}: {reason}"
    assert found.layout in caplog.text


def test_square_matrices_are_asked_for(tmp_path):
    made = arrays((3, 3, 3))
    np.savez(tmp_path / "w.npz", **made)
    with pytest.raises(weights.AmbiguousLayoutError, match=r"w\.npz: every .* W1 .*--layout"):
        MLP.from_weights(tmp_path / "w.npz")
    for layout in weights.LAYOUTS:
        network = MLP.from_weights(tmp_path / "w.npz", layout=layout, dtype="float64")
        expected = made["W1"] if layout == "in-out" else made["W1"].T
        np.testing.assert_array_equal(network.parameters[0][0], expected)
    with pytest.raises(InputError, match="in-out"):
        MLP.from_weights(tmp_path / "w.npz", layout="rows")


def test_a_layout_that_does_not_fit_is_an_error(tmp_path):
    np.savez(tmp_path / "w.npz", **arrays((3, 4, 2)))
    with pytest.raises(DataError, match=r"W1 is \(3, 4\); .* must be \(4, 4\), \(out, in\)"):
        weights.read(tmp_path / "w.npz", layout="out-in")


def layer(name, fan_in, fan_out):
    return Layer(name, np.ones((fan_in, fan_out)), np.ones(fan_out))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["10 2 3", "2 5 2", "0 4 5"], "0 2 10"),
        (["net.2 5 2", "net.0 5 5"], "net.0 net.2"),
        (["fc1 8 5", "out 4 3", "fc2 5 4"], "fc1 fc2 out"),
        (["fc1 5 5", "fc2 5 5", "head 5 2"], "fc1 fc2 head"),
        (["decoder 2 6", "encoder 6 2"], None),  # either may be first
        (["decoder 2 5", "encoder 6 2"], "encoder decoder"),
        (["a 3 3", "b 3 3"], None),
        ([f"{name} {i} {i + 1}" for i, name in enumerate("abcdefgh", 1)], None),
    ],
)
def test_layers_follow_by_their_numbers_or_as_their_shapes_fit(tmp_path, given, expected):
    layers = [layer(name, int(a), int(b)) for name, a, b in map(str.split, given)]
    if expected is None:
        with pytest.raises(DataError, match=r"order .* follow: rename them"):
            ordered(tmp_path, layers)
    else:
        assert " ".join(each.name for each in ordered(tmp_path, layers)) == expected


@pytest.mark.parametrize("start", [b"\x80\x02}q\x00.", b"\x80\x04\x95", b"PK"])
def test_pickles_are_refused_with_the_cure(tmp_path, start):
    import zipfile

    path = tmp_path / "model.pt"
    if start == b"PK":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model/data.pkl", b"\x80\x02.")
    else:
        path.write_bytes(start)
    with pytest.raises(DataError, match=r"model\.pt: is a pickle.*safetensors\.torch\.save_file"):
        weights.read(path)


@pytest.mark.parametrize("name", ["w.bin", "w.npz", "w.onnx", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"x", b"no weights at all, only text" * 9])
def test_other_files_are_refused_in_a_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name) as raised:
        weights.read(tmp_path / name)
    assert "\n" not in str(raised.value)

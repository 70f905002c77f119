"""`nnxp.weights.safetensors`, against PyTorch."""

from itertools import pairwise

import numpy as np
import pytest
import safetensors.numpy
from conftest import require

from nnxp import MLP, weights
from nnxp.errors import DataError

RNG = np.random.default_rng(0)


def save(path, arrays, metadata=None):
    safetensors.numpy.save_file(
        {name: np.ascontiguousarray(array, "float32") for name, array in arrays.items()},
        path,
        metadata,
    )
    return path


def linear(name, fan_in, fan_out):
    return {
        f"{name}.weight": RNG.standard_normal((fan_out, fan_in)),
        f"{name}.bias": RNG.standard_normal(fan_out),
    }


@pytest.mark.parametrize("sizes", [(5, 7, 3), (4, 4, 4), (5, 8, 8, 8, 2), (6, 2)])
def test_a_state_dict_of_pytorch_computes_the_same(tmp_path, sizes):
    require("torch")
    import safetensors.torch
    import torch

    torch.manual_seed(0)
    layers = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [torch.nn.Linear(fan_in, fan_out), torch.nn.Tanh()]
    model = torch.nn.Sequential(*layers[:-1])
    path = tmp_path / "state.safetensors"
    safetensors.torch.save_file(model.state_dict(), path, {"format": "pt"})
    network = MLP.from_weights(path, "tanh", "identity", backend="numpy")
    x = RNG.standard_normal((20, sizes[0])).astype("float32")
    expected = model(torch.asarray(x)).detach().numpy()
    np.testing.assert_allclose(network.predict(x), expected, rtol=0, atol=1e-6)


def test_twelve_layers_are_in_the_order_of_their_numbers(tmp_path):
    arrays = {}
    for i in range(12):
        arrays |= linear(f"net.{i}", 4, 4)
    found = weights.read(save(tmp_path / "s.safetensors", arrays, {"format": "pt"}))
    assert found.names == tuple(f"net.{i}" for i in range(12))
    for i, (weight, _) in enumerate(found.parameters):
        np.testing.assert_array_equal(weight, arrays[f"net.{i}.weight"].T.astype("float32"))


def test_pytorchs_own_files_tell_the_layout_of_square_matrices(tmp_path):
    arrays = linear("fc1", 3, 3)
    found = weights.read(save(tmp_path / "s.safetensors", arrays, {"format": "pt"}))
    assert found.layout == "weights are (out, in): the file is a PyTorch state_dict"
    with pytest.raises(weights.AmbiguousLayoutError):
        weights.read(save(tmp_path / "s.safetensors", arrays))
    with pytest.raises(DataError, match="in-out contradicts the file"):
        weights.read(save(tmp_path / "s.safetensors", arrays, {"format": "pt"}), layout="in-out")


def test_kernels_are_those_of_keras_and_flax(tmp_path):
    arrays = {"params.Dense_0.kernel": np.eye(3) + 1, "params.Dense_0.bias": np.ones(3)}
    found = weights.read(save(tmp_path / "s.safetensors", arrays))
    np.testing.assert_array_equal(found.parameters[0][0], arrays["params.Dense_0.kernel"])
    assert "kernel" in found.layout


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"conv.weight": np.ones((8, 1, 3, 3))}, r"conv.weight is \(8, 1, 3, 3\), a convolution"),
        ({"bn.running_mean": np.ones(3)}, r"bn.running_mean .* of a BatchNorm layer"),
        ({"norm.weight": np.ones(3), "norm.bias": np.ones(3)}, "norm.weight .* normalisation"),
        ({"rnn.weight_ih_l0": np.ones((3, 3))}, "rnn.weight_ih_l0 .* recurrent"),
        ({"emb.weight": np.ones((9, 3))}, "emb.weight has no emb.bias"),
        ({"fc.bias": np.ones(3)}, "fc.bias"),
        ({"0.weight": np.ones((3, 5))}, r"0.weight|weight 0"),
        ({"0.bias": np.ones((4, 1))}, r"0.bias is \(4, 1\)"),
        ({"0.bias": np.full(4, np.nan)}, "the bias of 0 holds values that are not finite"),
    ],
)
def test_layers_of_another_kind_are_named(tmp_path, more, message):
    arrays = linear("0", 5, 4) | linear("2", 4, 3) | more
    with pytest.raises(DataError, match=rf"s\.safetensors: .*{message}"):
        weights.read(save(tmp_path / "s.safetensors", arrays, {"format": "pt"}))


def test_a_model_of_nnxp_is_not_imported(tmp_path):
    MLP([2, 2], backend="numpy").save(tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="is a model of nnxp already"):
        weights.read(tmp_path / "model.safetensors")


@pytest.mark.promise("nothing runs")
def test_names_reach_a_terminal_without_control_characters(tmp_path):
    path = save(tmp_path / "s.safetensors", linear("\x1b[31m\n", 5, 4) | {"\x1b.x": np.ones(2)})
    with pytest.raises(DataError, match=r"\\x1b\.x is"):
        weights.read(path)
    found = weights.read(save(path, linear("\x1b[31m\n", 5, 4)))
    assert found.names == (r"\x1b[31m\n",)
    assert found.layout.isprintable()


@pytest.mark.promise("damage")
def test_a_file_that_is_cut_at_any_byte_is_an_error_of_one_line(tmp_path, cases):
    path = save(tmp_path / "s.safetensors", linear("0", 5, 4))
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with cases(size):
            with pytest.raises(DataError, match=r"s\.safetensors") as raised:
                weights.read(path)
            assert str(raised.value).isprintable()


def test_bfloat16_is_refused_with_the_cure(tmp_path):
    import json
    import struct

    header = json.dumps(
        {"0.weight": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]},
         "0.bias": {"dtype": "BF16", "shape": [2], "data_offsets": [8, 12]}}
    ).encode()  # fmt: skip
    path = tmp_path / "s.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(12))
    with pytest.raises(DataError, match=r"(BF16|bfloat16).*save it as float32"):
        weights.read(path)

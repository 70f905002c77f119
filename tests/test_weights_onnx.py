"""`nnxp.weights.onnx`, against onnxruntime and PyTorch's exporter."""

import numpy as np
import pytest
from conftest import require

from nnxp import MLP, weights
from nnxp.errors import DataError
from nnxp.kernels import ACTIVATIONS

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape).astype("float32")


def save(path, nodes, constants, *, inputs=5, outputs=3, given=("x",)):
    """Write a graph from x, (batch, inputs), to y; nodes are (operator, inputs, output, settings).

    The output of the last one is y.
    """
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    made = [helper.make_node(op, ins.split(), [out], **more) for op, ins, out, more in nodes]
    graph = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info(name, kind, ["n", inputs]) for name in given],
        [helper.make_tensor_value_info(nodes[-1][2], kind, ["n", outputs])],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, path)
    return path


def assert_same(path, *names, outputs=None, **options):
    """nnxp's network of the file predicts as onnxruntime does."""
    network = MLP.from_weights(path, *names, backend="numpy", **options)
    session = onnxruntime.InferenceSession(path)
    x = 2 * normal(40, network.sizes[0])
    (expected,) = session.run(outputs, {session.get_inputs()[0].name: x})
    np.testing.assert_allclose(network.predict(x), expected, rtol=1e-6, atol=1e-6)
    return network


W1, B1, W2, B2 = normal(5, 4), normal(4), normal(4, 3), normal(3)
CONSTANTS = {"w1": W1, "b1": B1, "w2": W2, "b2": B2}
MATMUL = [
    ("MatMul", "x w1", "m1", {}),
    ("Add", "m1 b1", "z1", {}),
    ("Tanh", "z1", "y1", {}),
    ("MatMul", "y1 w2", "m2", {}),
    ("Add", "b2 m2", "z2", {}),
    ("Softmax", "z2", "y", {"axis": -1}),
]


def test_a_chain_of_products_and_sums(tmp_path):
    path = save(tmp_path / "m.onnx", MATMUL, CONSTANTS)
    network = assert_same(path)
    assert (network.hidden, network.output) == (("tanh",), "softmax")
    assert weights.read(path).layout == (
        "weights are (in, out): they are the right factors of products"
    )
    assert MLP.from_weights(path, "relu", "identity").hidden == ("relu",)


@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, 2.0)])
def test_gemm_with_its_attributes(tmp_path, trans_b, alpha, beta):
    constants = CONSTANTS | {"b2": B2.reshape(1, 3)}
    if trans_b:
        constants |= {"w1": W1.T.copy(), "w2": W2.T.copy()}
    settings = {"transB": trans_b, "alpha": alpha, "beta": beta}
    nodes = [
        ("Gemm", "x w1 b1", "z1", settings),
        ("Relu", "z1", "y1", {}),
        ("Gemm", "y1 w2 b2", "y", settings),
    ]
    network = assert_same(save(tmp_path / "m.onnx", nodes, constants))
    assert (network.hidden, network.output) == (("relu",), "identity")


def test_square_matrices_lie_as_the_operator_says(tmp_path):
    square = {"w1": normal(5, 5), "w2": normal(5, 5)}
    nodes = [("Gemm", "x w1", "z1", {"transB": 1}), ("Gemm", "z1 w2", "y", {})]
    path = save(tmp_path / "m.onnx", nodes, square, outputs=5)
    assert_same(path)
    assert "those of Gemm with transB=1 were transposed" in weights.read(path).layout
    path = save(tmp_path / "m.onnx", nodes[:1], square, outputs=5)
    assert weights.read(path).layout == "weights are (out, in): Gemm has transB=1"
    with pytest.raises(DataError, match="in-out contradicts the file: Gemm has transB=1"):
        weights.read(path, layout="in-out")


def test_constants_may_be_nodes_and_dropout_and_flatten_pass(tmp_path):
    nodes = [
        ("Constant", "", "w1", {"value": onnx.numpy_helper.from_array(W1.T.copy())}),
        ("Transpose", "w1", "w1t", {"perm": [1, 0]}),
        ("Flatten", "x", "flat", {"axis": 1}),
        ("MatMul", "flat w1t", "z1", {}),
        ("Dropout", "z1", "d1", {}),
        ("Sigmoid", "d1", "s1", {}),
        ("MatMul", "s1 w2", "m2", {}),
        ("Identity", "m2", "y", {}),
    ]
    network = assert_same(save(tmp_path / "m.onnx", nodes, {"w2": W2}))
    assert network.hidden == ("sigmoid",)
    assert not network.parameters[0][1].any()


def test_an_activation_of_several_operators_is_recognised_by_what_it_computes(tmp_path):
    nodes = [
        ("Gemm", "x w1 b1", "z", {}),
        ("Sigmoid", "z", "s", {}),
        ("Mul", "s z", "silu", {}),
        ("Gemm", "silu w2 b2", "y", {}),
    ]
    assert assert_same(save(tmp_path / "m.onnx", nodes, CONSTANTS)).hidden == ("silu",)


@pytest.mark.parametrize(
    ("operator", "settings", "nearest"),
    [("Gelu", {}, "gelu"), ("LeakyRelu", {"alpha": 0.02}, "leaky_relu"), ("Selu", {}, "")],
)
def test_activations_of_another_formula_have_to_be_given(tmp_path, operator, settings, nearest):
    nodes = [
        ("Gemm", "x w1 b1", "z", {}),
        (operator, "z", "y1", settings),
        ("Gemm", "y1 w2 b2", "y", {}),
    ]
    path = save(tmp_path / "m.onnx", nodes, CONSTANTS)
    with pytest.raises(DataError, match=rf"{operator} after w1: none of .*{nearest}.* give the"):
        MLP.from_weights(path, hidden="relu")
    assert MLP.from_weights(path, "gelu", "identity").hidden == ("gelu",)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_what_nnxp_exported_comes_back(tmp_path, name, dtype):
    pytest.importorskip("ndonnx")
    pytest.importorskip("onnxscript")
    from nnxp.onnx import save as export

    network = MLP([5, 6, 4], name, name, backend="numpy", dtype=dtype)
    export(network, tmp_path / "m.onnx")
    again = MLP.from_weights(tmp_path / "m.onnx", backend="numpy", dtype=dtype)
    assert (again.hidden, again.output) == ((name,), name)
    x = RNG.standard_normal((9, 5))
    np.testing.assert_array_equal(again.predict(x), network.predict(x))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["ReLU", "Tanh", "Sigmoid", "SiLU", "Softplus", "Softsign", "ELU"])
def test_what_pytorch_exports_computes_the_same(tmp_path, name):
    require("torch")
    pytest.importorskip("onnxscript")
    import torch

    layers = [torch.nn.Linear(5, 6), getattr(torch.nn, name)(), torch.nn.Linear(6, 3)]
    model, path = torch.nn.Sequential(*layers, torch.nn.Softmax(dim=-1)), tmp_path / "m.onnx"
    torch.onnx.export(model, (torch.zeros(2, 5),), path, external_data=False, verbose=False,
                      dynamic_shapes=({0: "batch"},))  # fmt: skip
    network = MLP.from_weights(path, backend="numpy")
    x = normal(20, 5)
    expected = model(torch.asarray(x)).detach().numpy()
    np.testing.assert_allclose(network.predict(x), expected, rtol=0, atol=1e-6)


# --- what is no chain


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([("Conv", "x w4", "y", {})], "operator Conv .* only chains"),
        ([("Sub", "x b5", "n", {}), ("Gemm", "n w1 b1", "y", {})], "Sub stands before the first"),
        ([("Tanh", "x", "y", {})], "Tanh stands before"),
        (
            [
                ("Cast", "x", "c", {"to": 7}),
                ("Cast", "c", "f", {"to": 1}),
                ("Gemm", "f w1 b1", "y", {}),
            ],
            "Cast stands before",
        ),
        ([("Identity", "x", "y", {})], "has no layers"),
        ([("Gemm", "x w1 b1", "z", {}), ("Mul", "z b1", "y", {})], r"Mul has a constant of \(4,\)"),
        ([("MatMul", "x x", "y", {})], "MatMul multiplies with or adds x"),
        ([("MatMul", "w1 x", "y", {})], "multiplies with or adds x"),
        ([("Gemm", "x w1 b1", "y", {"transA": 1})], "transA=1"),
        ([("MatMul", "x w4", "y", {})], r"has a weight of \(2, 5, 4, 1\)"),
        ([("Gemm", "x w1 b5", "y", {})], r"has a bias of \(5,\) for 4 units"),
        (
            [("Gemm", "x w5 b5", "z", {}), ("Add", "z x", "y", {})],
            "y is computed of .* no chain of layers",
        ),
        ([("Gemm", "x w2 b2", "z", {}), ("Gemm", "z w1 b1", "y", {})], "must be"),
        ([("BatchNormalization", "x b5 b5 b5 b5", "y", {})], "operator BatchNormalization"),
        ([("Tile", "x i2", "y", {})], "operator Tile"),
    ],
    ids=lambda value: value[0][0] if isinstance(value, list) else "",
)
def test_what_is_no_chain_of_layers_is_named(tmp_path, nodes, message):
    constants = CONSTANTS | {"w4": normal(2, 5, 4, 1), "w5": normal(5, 5), "b5": normal(5)}
    path = save(tmp_path / "m.onnx", nodes, constants | {"i2": np.array([2, 2])})
    with pytest.raises(DataError, match=rf"m\.onnx: .*{message}") as raised:
        weights.read(path)
    assert "\n" not in str(raised.value)


def test_two_inputs_are_no_chain(tmp_path):
    path = save(tmp_path / "m.onnx", MATMUL, CONSTANTS, given=("x", "also"))
    with pytest.raises(DataError, match="has 2 inputs"):
        weights.read(path)


@pytest.mark.promise("nothing runs")
def test_no_other_file_is_read(tmp_path):
    path = save(tmp_path / "m.onnx", MATMUL, CONSTANTS)
    model = onnx.load(path)
    (tmp_path / "secret.bin").write_bytes(W1.tobytes())
    tensor = next(each for each in model.graph.initializer if each.name == "w1")
    onnx.external_data_helper.set_external_data(tensor, str(tmp_path / "secret.bin"))
    tensor.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(DataError, match="w1 lies in another file"):
        weights.read(path)


@pytest.mark.promise("damage")
def test_a_size_below_zero_is_refused(tmp_path):
    """NumPy would take it for whatever fits."""
    path = save(tmp_path / "m.onnx", MATMUL, CONSTANTS)
    model = onnx.load(path)
    model.graph.initializer[0].dims[0] = -1
    path.write_bytes(model.SerializeToString())
    with pytest.raises(DataError, match=r"m\.onnx: w1 declares \(-1, 4\)"):
        weights.read(path)


@pytest.mark.promise("memory")
def test_a_tensor_that_claims_more_than_it_holds_is_an_error(tmp_path):
    path = save(tmp_path / "m.onnx", MATMUL, CONSTANTS)
    model = onnx.load(path)
    model.graph.initializer[0].dims[:] = [2**20, 2**20]
    path.write_bytes(model.SerializeToString())
    with pytest.raises(DataError, match=r"m\.onnx: not a readable ONNX model"):
        weights.read(path)


def test_a_graph_in_a_circle_ends(tmp_path):
    nodes = [
        ("Add", "m b1", "z", {}),
        ("Tanh", "z", "t", {}),
        ("MatMul", "t w", "m", {}),
        ("Tanh", "m", "y", {}),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"w": normal(4, 4), "b1": B1})
    with pytest.raises(DataError, match=r"m\.onnx"):
        weights.read(path)


@pytest.mark.promise("damage")
def test_damaged_files_are_errors_of_one_line(tmp_path):
    path = save(tmp_path / "m.onnx", MATMUL, CONSTANTS)
    content = path.read_bytes()
    for damaged in (content[:-50], content[: len(content) // 2], content[:10], b"\xff" * 100):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"m\.onnx") as raised:
            weights.read(path)
        assert "\n" not in str(raised.value)

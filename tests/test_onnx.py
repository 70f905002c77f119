"""`nnxp.onnx` and `nnxp export`, against onnxruntime."""

import warnings

import numpy as np
import pytest
from command_line import MOON_CSV, fail, succeed, table

import nnxp
from nnxp import preprocessing
from nnxp.arrays import namespace
from nnxp.errors import InputError, ModelError
from nnxp.kernels import ACTIVATIONS
from nnxp.onnx import OLDEST_OPSET, OPSET, save, to_onnx
from nnxp.target_scaling import TargetScaling

onnx = pytest.importorskip("onnx")
pytest.importorskip("ndonnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

RNG = np.random.default_rng(0)
START = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def _same_numbers_in_any_order_of_tests():
    RNG.bit_generator.state = START


def session(exported):
    onnxruntime.set_default_logger_severity(4)  # it warns of opsets that are newer than itself
    return onnxruntime.InferenceSession(exported.SerializeToString())


def run(exported, x):
    """The outputs of onnxruntime, by name."""
    runtime = session(exported)
    names = [output.name for output in runtime.get_outputs()]
    return dict(zip(names, runtime.run(names, {"X": x}), strict=True))


def operators(exported):
    return [node.op_type for node in exported.graph.node]


def assert_close(found, expected, dtype="float32"):
    """Within 1e-6 of values up to one, and of the largest beyond it; a dtype's own in float64."""
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    assert found.dtype == expected.dtype == dtype
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * max(1.0, np.abs(expected).max())


def network(hidden="relu", output="softmax", sizes=(5, 8, 3), **options):
    made = nnxp.MLP(sizes, hidden, output, backend="numpy", **options)
    layers = [(w, RNG.standard_normal(b.shape)) for w, b in made.parameters]
    made.parameters = layers
    return made


@pytest.fixture(scope="module")
def exported():
    """A network and its ONNX model, which takes a second to make."""
    made = network("relu", "softmax")
    return made, to_onnx(made)


@pytest.mark.parametrize("batch", [1, 2, 5000])
def test_a_batch_may_have_any_size(exported, batch):
    made, model = exported
    x = RNG.standard_normal((batch, 5)).astype("float32")
    found = run(model, x)
    assert list(found) == ["label", "probabilities"]
    assert_close(found["probabilities"], made.predict(x))
    np.testing.assert_array_equal(found["label"], made.predict_classes(x))


def test_a_batch_may_be_empty(exported):
    found = run(exported[1], np.empty((0, 5), "float32"))
    assert found["label"].shape == (0,)
    assert found["probabilities"].shape == (0, 3)


@pytest.mark.slow
def test_a_single_output_is_the_probability_of_class_1():
    made = network(output="sigmoid", sizes=(5, 1))
    x = RNG.standard_normal((50, 5)).astype("float32")
    found = run(to_onnx(made), x)
    assert_close(found["probabilities"], made.predict(x))
    np.testing.assert_array_equal(found["label"], made.predict_classes(x))
    assert set(found["label"].tolist()) == {0, 1}


@pytest.mark.slow
def test_infinities_of_large_inputs_do_not_become_nan():
    """As the kernels promise: exp never overflows."""
    made = network("sigmoid", "softmax")
    x = np.full((1, 5), 1e30, "float32")
    assert_close(run(to_onnx(made), x)["probabilities"], made.predict(x))


def test_the_graph_is_that_of_the_kernels_and_no_more(exported):
    exported = exported[1]
    assert operators(exported) == [
        "MatMul", "Add", "Max", "MatMul", "Add",
        "ReduceMax", "Sub", "Exp", "ReduceSum", "Div", "ArgMax",
    ]  # fmt: skip
    names = [each.name for each in exported.graph.initializer]
    assert {f"layers.{i}.{name}" for i in (0, 1) for name in ("weight", "bias")} <= set(names)
    assert exported.producer_name == "nnxp"
    assert exported.producer_version == nnxp.__version__
    assert "5-8-3" in exported.doc_string
    for value in (*exported.graph.input, *exported.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("output", "loss", "names"),
    [
        ("softmax", None, ["label", "probabilities"]),
        ("step", None, ["label", "probabilities"]),
        ("identity", "categorical_cross_entropy", ["label", "scores"]),
        ("identity", None, ["predictions"]),
        ("softplus", "poisson", ["predictions"]),
    ],
)
def test_outputs_are_called_after_what_they_are(output, loss, names):
    made = network("tanh", output)
    made.loss = loss or made.loss
    x = RNG.standard_normal((9, 5)).astype("float32")
    found = run(to_onnx(made), x)
    assert list(found) == names
    assert_close(found[names[-1]], made.predict(x))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", preprocessing.KINDS)
def test_preprocessing_is_in_the_graph(kind, dtype):
    raw = RNG.normal((1e6, 3.0, -20.0, 7.0), (5.0, 1e-3, 4.0, 1.0), (400, 4))
    raw[:, 3] = 7.0  # constant
    fitted = {
        "none": lambda: preprocessing.Preprocessing(),
        "pixels": lambda: preprocessing.pixels(255),
        "standardize": lambda: preprocessing.standardize(raw),
        "pca": lambda: preprocessing.whiten(raw, "pca"),
        "zca": lambda: preprocessing.whiten(raw, "zca"),
    }[kind]()
    if fitted.divides_in_float32:
        raw = RNG.integers(0, 256, raw.shape).astype("float32")
    prepared = fitted.apply(raw)
    made = network("tanh", sizes=(prepared.shape[1], 8, 3), dtype=dtype)
    made.metadata = {"preprocessing": vars(fitted)}
    found = run(to_onnx(made), raw)
    assert_close(found["probabilities"], made.predict(prepared), dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["standardize", "none"])
def test_missing_values_are_filled_in(kind, dtype):
    from nnxp.datasets.features import Encoding

    raw = RNG.normal((1e6, 3.0), (5.0, 1.0), (40, 2))
    fitted = preprocessing.standardize(raw)
    if kind == "none":
        fitted, raw = preprocessing.Preprocessing(), raw.astype("float32")
    raw[::3, 0] = np.nan
    encoding = Encoding((None, None), (1e6, None))
    made = network("tanh", sizes=(2, 8, 3), dtype=dtype)
    made.metadata = {"preprocessing": vars(fitted), "encoding": vars(encoding)}
    found = run(to_onnx(made), raw)
    expected = made.predict(fitted.apply(encoding.apply(raw)))
    assert_close(found["probabilities"], expected, dtype)


def test_text_is_no_input():
    made = network(sizes=(3, 3))
    encoding = {"categories": [None, ["Bergen", "Oslo"]], "fill": [None, None]}
    made.metadata = {"features": ["rooms", "city"], "encoding": encoding}
    with pytest.raises(InputError, match="columns 'city' are text"):
        to_onnx(made)


@pytest.mark.slow
def test_predictions_are_in_the_unit_of_the_targets():
    made = network("tanh", "identity", sizes=(5, 8, 2))
    made.target_scaling = TargetScaling((1e4, -3.0), (250.0, 1e-3))
    x = RNG.standard_normal((20, 5)).astype("float32")
    found, expected = run(to_onnx(made), x)["predictions"], made.predict(x)
    for column in (0, 1):
        assert_close(found[:, column], expected[:, column])


@pytest.mark.slow
def test_labels_are_names_where_the_model_has_names():
    made = network(sizes=(5, 3))
    made.parameters = [(np.eye(5, 3), np.zeros(3))]  # each class is the largest somewhere
    made.metadata = {"classes": ["setosa", "versicolor", "Ωmega, 3"], "task": "classify"}
    x = RNG.standard_normal((30, 5)).astype("float32")
    label = run(to_onnx(made), x)["label"]
    expected = [made.metadata["classes"][code] for code in made.predict_classes(x)]
    assert label.tolist() == expected
    assert len(set(expected)) == 3


@pytest.mark.slow
def test_labels_of_several_are_each_0_or_1():
    made = network(output="sigmoid")
    made.metadata = {"task": "multilabel"}
    x = RNG.standard_normal((30, 5)).astype("float32")
    found = run(to_onnx(made), x)
    np.testing.assert_array_equal(found["label"], made.predict(x) > 0.5)


def test_metadata_that_does_not_fit_is_an_error():
    made = network()
    made.metadata = {"classes": ["a"]}
    with pytest.raises(ModelError, match="1 classes for 3 outputs"):
        to_onnx(made)


# --- opsets


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_every_activation_agrees_with_onnxruntime_in_every_opset(name, dtype):
    """As hidden and as output. Of one trace, which takes seconds; the converter, milliseconds."""
    made = network(name, name, dtype=dtype)
    x = (3 * RNG.standard_normal((50, 5))).astype(dtype)
    traced = nnxp.onnx._traced(nnxp.onnx._plan(made))
    assert OLDEST_OPSET <= OPSET <= 22
    for opset in range(OLDEST_OPSET, onnx.defs.onnx_opset_version() + 1):
        exported = nnxp.onnx._finished(traced, opset)
        onnx.checker.check_model(exported, full_check=True)
        assert [each.version for each in exported.opset_import] == [opset]
        if opset <= 22:  # what onnxruntime 1.20 knows
            found = run(exported, x)
            (values,) = (found[key] for key in found if key != "label")
            assert_close(values, made.predict(x), dtype)
            if "label" in found:
                np.testing.assert_array_equal(found["label"], made.predict_classes(x))


@pytest.mark.slow
def test_an_older_opset_gives_an_older_file():
    made = network("sigmoid")
    made.metadata = {"classes": ["a", "b", "c"], "preprocessing": vars(preprocessing.pixels(255))}
    old, new = to_onnx(made, opset=OLDEST_OPSET), to_onnx(made)
    assert [each.version for each in old.opset_import] == [OLDEST_OPSET]
    assert [each.version for each in new.opset_import] == [OPSET]
    assert old.ir_version < new.ir_version
    x = RNG.standard_normal((9, 5)).astype("float32")
    for name, value in run(old, x).items():
        np.testing.assert_array_equal(value, run(new, x)[name])


@pytest.mark.parametrize(("opset", "words"), [(9, "opset 9"), (99, "14 to"), ("x", "opset")])
def test_an_unknown_opset_is_an_error(opset, words):
    with pytest.raises(InputError, match=words):
        to_onnx(network(), opset=opset)


# --- what is not nnxp's own


@pytest.fixture
def registered():
    """Register activations under names; forget them after the test."""
    names = []

    def register(name, forward):
        names.append(name)
        nnxp.register_activation(name, forward, lambda dy, y: dy)

    yield register
    for name in names:
        del ACTIVATIONS[name]


@pytest.mark.slow
def test_an_activation_of_the_users_own_is_traced(registered):
    registered("gaussian", lambda z: namespace(z).exp(-z * z))
    made = network("gaussian")
    x = RNG.standard_normal((9, 5)).astype("float32")
    assert_close(run(to_onnx(made), x)["probabilities"], made.predict(x))


@pytest.mark.slow
@pytest.mark.parametrize(
    "forward",
    [
        lambda z: np.exp(-np.asarray(z)),  # names a library
        lambda z: z if float(namespace(z).max(z)) > 0 else -z,  # reads a value
        lambda z: namespace(z).cos(z),  # ndonnx: in float64 only by way of float32
        lambda z: z + z.shape[0],  # another graph for each batch
    ],
    ids=["numpy", "value", "cos", "batch"],
)
def test_what_cannot_be_written_is_an_error_of_one_line(registered, forward):
    registered("own", forward)
    with pytest.raises(InputError, match=r"own, softmax: cannot be written as ONNX") as raised:
        to_onnx(network("own", dtype="float64"))
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_a_graph_that_predicts_otherwise_is_refused(registered):
    """As when a function draws numbers, or ndonnx has a defect."""
    numbers = iter(range(1, 1000))
    registered("own", lambda z: z * float(next(numbers)))
    with pytest.raises(InputError, match="predicts otherwise"):
        to_onnx(network("own", "identity"))


def test_other_things_are_not_models():
    with pytest.raises(InputError, match=r"nnxp.MLP or .* not 'model.safetensors'"):
        to_onnx("model.safetensors")


# --- estimators


def classifier(y, **options):
    sklearn = pytest.importorskip("nnxp.sklearn")
    x = RNG.standard_normal((len(y), 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sklearn.MLPClassifier((8,), max_iter=3, random_state=0, **options).fit(x, y), x


@pytest.mark.slow
@pytest.mark.parametrize(
    "y",
    [
        np.arange(60) % 3 * 10,
        np.asarray(["no", "yes"])[np.arange(60) % 2],
        np.asarray(["a", "b", "c"], dtype=object)[np.arange(60) % 3],
        (np.arange(60) % 2).astype(bool),
        np.arange(60) % 3 / 1.0,
        np.stack([np.arange(60) % 2, np.arange(60) % 3 == 0], axis=1).astype(int),
        np.ones(60, dtype=int),
    ],
    ids=["whole", "two", "objects", "bool", "float", "multilabel", "one"],
)
def test_a_classifier_gives_its_own_classes_and_probabilities(y):
    model, x = classifier(y)
    found = run(to_onnx(model), x)
    np.testing.assert_array_equal(found["label"], model.predict(x))
    assert_close(found["probabilities"], model.predict_proba(x), "float64")


@pytest.mark.slow
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
def test_a_regressor_gives_its_own_predictions(outputs, loss):
    sklearn = pytest.importorskip("nnxp.sklearn")
    x = RNG.standard_normal((60, 4)).astype("float32")
    y = np.abs(x[:, :outputs]) + 1
    scales = loss == "squared_error"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = sklearn.MLPRegressor(loss, max_iter=3, random_state=0, scale_targets=scales).fit(
            x, y if outputs > 1 else y[:, 0]
        )
    assert_close(run(to_onnx(model), x)["predictions"], model.predict(x))


def test_an_estimator_that_is_not_fitted_is_an_error():
    sklearn = pytest.importorskip("nnxp.sklearn")
    with pytest.raises(InputError, match="MLPClassifier is not fitted"):
        to_onnx(sklearn.MLPClassifier())


# --- files and the command line


@pytest.mark.slow
def test_a_saved_file_is_the_model(tmp_path):
    exported = save(network(), tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_bytes() == exported.SerializeToString()


def test_a_folder_that_refuses_leaves_the_old_file(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        save(network(), tmp_path / "nowhere" / "model.onnx")


def test_export_writes_a_model_that_predicts_what_predict_writes(trained_moons, tmp_path):
    path = tmp_path / "moons.onnx"
    text = succeed(trained_moons, "export", "model.safetensors", path, "--opset", 17)
    assert f"wrote {path}, opset 17, {path.stat().st_size:,} bytes" in text
    assert "X" in text
    assert "double[batch, 2]" in text
    assert "label" in text
    assert "probabilities" in text
    _, rows = table(succeed(trained_moons, "predict", "model.safetensors", "data.csv"))
    raw = np.array([row.split(",")[:2] for row in MOON_CSV.splitlines()[1:]], dtype=float)
    found = run(onnx.load(path), raw)
    assert found["label"].tolist() == [row[0] for row in rows]
    expected = np.array([row[1:] for row in rows], dtype="float32")
    assert_close(found["probabilities"], expected)


@pytest.mark.slow
def test_export_replaces_what_export_wrote_and_nothing_else(trained_digits, tmp_path):
    model, path = trained_digits / "model.safetensors", tmp_path / "digits.onnx"
    succeed(tmp_path, "export", model, path)
    assert "in place of" in succeed(tmp_path, "export", model, path)
    path.write_bytes(b"precious")
    assert "--overwrite" in fail(tmp_path, "export", model, path)
    assert path.read_bytes() == b"precious"
    succeed(tmp_path, "export", model, path, "--overwrite")
    before = model.read_bytes()
    fail(tmp_path, "export", model, model, "--overwrite")
    assert model.read_bytes() == before
    assert "opset 3" in fail(tmp_path, "export", model, path, "--opset", 3)
    assert "No such file" in fail(tmp_path, "export", "nowhere.safetensors", path)

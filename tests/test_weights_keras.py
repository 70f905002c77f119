"""`nnxp.weights.keras`, against Keras."""

import io
import json
import os
import warnings
import zipfile
import zlib
from importlib.util import find_spec

import numpy as np
import pytest

from nnxp import MLP, weights
from nnxp.errors import DataError

h5py = pytest.importorskip("h5py")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Keras's own

RNG = np.random.default_rng(0)


@pytest.fixture
def keras():
    library = next((each for each in ("torch", "jax") if find_spec(each)), None)
    if library is None or find_spec("keras") is None:
        pytest.skip("keras and a library for it are not installed")
    os.environ.setdefault("KERAS_BACKEND", library)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras
    return keras


def model_of(keras, sizes, hidden, output):
    """A model whose layers have names in no order, with what acts in training only between."""
    layers = [keras.Input((sizes[0],))]
    for i, size in enumerate(sizes[1:]):
        last = i == len(sizes) - 2
        layers.append(keras.layers.Dense(size, output if last else hidden, name=f"layer_{9 - i}",
                                         bias_initializer="random_normal"))  # fmt: skip
        if not last:
            layers.append(keras.layers.Dropout(0.5))
    return keras.Sequential(layers)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(5, 7, 3), (4, 4, 4), (3, 2, *[4] * 12, 2)])
@pytest.mark.parametrize("suffix", [".weights.h5", ".keras", ".h5"])
def test_a_model_of_keras_computes_the_same(tmp_path, keras, sizes, suffix):
    model = model_of(keras, sizes, "tanh", "softmax")
    path = tmp_path / f"model{suffix}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (model.save_weights if "weights" in suffix else model.save)(path)
    told = ("tanh", "softmax") if "weights" in suffix else ()  # else the file says it
    network = MLP.from_weights(path, *told, backend="numpy")
    assert network.sizes == sizes
    assert set(network.hidden) == {"tanh"}
    x = RNG.standard_normal((20, sizes[0])).astype("float32")
    expected = np.asarray(model.predict(x, verbose=0))
    np.testing.assert_allclose(network.predict(x), expected, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["linear", "relu", "sigmoid", "elu", "silu", "softplus",
                                  "softsign"])  # fmt: skip
def test_keras_activations_are_those_of_nnxp(tmp_path, keras, name):
    model = model_of(keras, (5, 8, 3), name, name)
    model.save(tmp_path / "model.keras")
    network = MLP.from_weights(tmp_path / "model.keras", backend="numpy")
    x = 3 * RNG.standard_normal((20, 5)).astype("float32")
    expected = np.asarray(model.predict(x, verbose=0))
    np.testing.assert_allclose(network.predict(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gelu", "leaky_relu", "selu"])
def test_activations_of_another_formula_have_to_be_given(tmp_path, keras, name):
    model_of(keras, (5, 8, 3), name, "linear").save(tmp_path / "model.keras")
    with pytest.raises(DataError, match=rf"activation '{name}' is none of nnxp's: give"):
        MLP.from_weights(tmp_path / "model.keras")
    network = MLP.from_weights(tmp_path / "model.keras", "gelu", "identity", backend="numpy")
    assert network.hidden == ("gelu",)


@pytest.mark.slow
def test_what_is_no_chain_of_dense_layers_is_named(tmp_path, keras):
    layers, path = keras.layers, tmp_path / "model.keras"
    given = keras.Input((4,))
    same = layers.Dense(4, name="same")
    models = {
        "normalization is Normalization": keras.Sequential(
            [given, layers.Normalization(name="normalization"), layers.Dense(4)]
        ),
        "add is Add": keras.Model(given, layers.Add(name="add")([given, layers.Dense(4)(given)])),
        "same is used twice": keras.Model(given, same(same(given))),
        "several outputs": keras.Model(given, [layers.Dense(4)(given), layers.Dense(4)(given)]),
        "not after": keras.Sequential([given, layers.Dense(4, "relu"), layers.Activation("tanh")]),
    }
    for message, model in models.items():
        model.save(path)
        with pytest.raises(DataError, match=rf"model\.keras: .*{message}"):
            weights.read(path)
    keras.Sequential([keras.Input((4,)), layers.BatchNormalization()]).save_weights(
        tmp_path / "model.weights.h5"
    )
    with pytest.raises(DataError, match=r"layer batch_normalization has arrays of \(4,\)"):
        weights.read(tmp_path / "model.weights.h5")


# --- files by hand


def written(path, layers):
    """Write layers as Keras's `save_weights` does."""
    with h5py.File(path, "w") as file:
        for name, arrays in layers.items():
            for i, array in enumerate(arrays):
                file[f"layers/{name}/vars/{i}"] = array
        file["optimizer/vars/0"] = np.ones((9, 9))
    return path


@pytest.fixture
def dense():
    return {
        "dense": (RNG.standard_normal((5, 4)), RNG.standard_normal(4)),
        **{f"dense_{i}": (RNG.standard_normal((4, 4)), np.full(4, i)) for i in range(1, 12)},
        "dropout": (),
    }


def test_layers_are_in_the_order_of_keras_numbers(tmp_path, dense):
    found = weights.read(written(tmp_path / "w.weights.h5", dense))
    assert [int(bias[0]) for _, bias in found.parameters[1:]] == list(range(1, 12))
    np.testing.assert_array_equal(found.parameters[0][0], dense["dense"][0])
    assert found.layout == "weights are (in, out): it is Keras's layout"


def test_weights_of_keras_2_are_in_the_order_of_its_attributes(tmp_path, dense):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        names = ["output", "dense"]  # not that of the alphabet
        file.attrs["layer_names"] = [name.encode() for name in names]
        for name, (weight, bias) in zip(names, [dense["dense"], dense["dense_1"]], strict=True):
            file[f"{name}/{name}/kernel:0"], file[f"{name}/{name}/bias:0"] = weight, bias
            file[name].attrs["weight_names"] = [f"{name}/{each}:0".encode() for each in
                                                ("kernel", "bias")]  # fmt: skip
    found = weights.read(tmp_path / "w.h5")
    assert found.names == ("output", "dense")
    np.testing.assert_array_equal(found.parameters[0][0], dense["dense"][0])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"conv2d": (np.ones((3, 3, 1, 8)), np.ones(8))}, r"conv2d has arrays of \(3, 3, 1, 8\)"),
        ({"dense_1": (np.ones((4, 4)),)}, "dense_1 has no bias"),
        ({"dense_1": (np.ones((3, 4)), np.ones(4))}, r"dense_1 is \(3, 4\); .* be \(4, 4\)"),
        ({"functional/layers/dense": (np.ones((4, 4)), np.ones(4))}, "functional has layers"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, dense, more, message):
    path = written(tmp_path / "w.weights.h5", dense | more)
    with pytest.raises(DataError, match=rf"w\.weights\.h5: .*{message}"):
        weights.read(path)


@pytest.mark.promise("nothing runs")
def test_nothing_outside_of_the_file_is_read(tmp_path, dense):
    path = written(tmp_path / "w.weights.h5", dense)
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["x"] = np.ones((4, 4))
    np.ones((4, 4)).tofile(tmp_path / "secret.raw")

    def external_link(file):
        file["layers/dense_3/vars/0"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "x")

    def soft_link(file):
        file["layers/dense_3/vars/0"] = h5py.SoftLink("/optimizer/vars/0")

    def raw(file):
        file["layers/dense_3/vars"].create_dataset(
            "0", (4, 4), "f8", external=[(str(tmp_path / "secret.raw"), 0, 128)]
        )

    def virtual(file):
        layout = h5py.VirtualLayout((4, 4), "f8")
        layout[...] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "x", (4, 4))
        file["layers/dense_3/vars"].create_virtual_dataset("0", layout)

    for change in (external_link, soft_link, raw, virtual):
        written(path, dense)
        with h5py.File(path, "r+") as file:
            del file["layers/dense_3/vars/0"]
            change(file)
        with pytest.raises(DataError, match=r"link to somewhere|lies in another file"):
            weights.read(path)


def test_a_circle_of_folders_ends(tmp_path, dense):
    path = written(tmp_path / "w.weights.h5", dense)
    with h5py.File(path, "r+") as file:
        file["layers/dense/vars/again"] = file["layers"]
    with pytest.raises(DataError, match="stands in two places"):
        weights.read(path)


@pytest.mark.promise("memory")
def test_a_chunk_may_not_be_larger_than_all_arrays(tmp_path, dense):
    """It is unpacked as a whole: here half a gigabyte, for 16 numbers."""
    path = written(tmp_path / "w.weights.h5", dense)
    with h5py.File(path, "r+") as file:
        del file["layers/dense_11/vars/0"]
        made = file.create_dataset("layers/dense_11/vars/0", (4, 4), "f4", compression="gzip",
                                   maxshape=(None, None), chunks=(2**14, 2**13))  # fmt: skip
        made.id.write_direct_chunk((0, 0), zlib.compress(bytes(2**20)))
    with pytest.raises(DataError, match=r"would unpack into 536,"):
        weights.read(path)


@pytest.mark.promise("memory")
def test_a_small_file_cannot_claim_gigabytes(tmp_path, dense):
    path = written(tmp_path / "w.weights.h5", dense)
    with h5py.File(path, "r+") as file:
        file.create_dataset("layers/dense_12/vars/0", (2**17, 2**17), "f4", chunks=(64, 64))
    with pytest.raises(DataError, match=r"would unpack into 68,"):
        weights.read(path)
    archive = tmp_path / "m.keras"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("config.json", "{}")
        file.writestr("model.weights.h5", b"\x89HDF\r\n\x1a\n" + bytes(2**26 + 2**20))
    with pytest.raises(DataError, match="would unpack into"):
        weights.read(archive)


@pytest.mark.promise("damage")
@pytest.mark.parametrize("size", [8, 100, 3000, -9])
def test_a_damaged_file_is_an_error_of_one_line(tmp_path, dense, size):
    path = written(tmp_path / "w.weights.h5", dense)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match=r"w\.weights\.h5") as raised:
        weights.read(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("config", ["", "[", "{}", "[]", '{"config": {"layers": [1]}}'])
def test_a_damaged_description_is_an_error_of_one_line(tmp_path, dense, config):
    content = io.BytesIO(written(tmp_path / "w.weights.h5", dense).read_bytes())
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as file:
        file.writestr("config.json", config)
        file.writestr("model.weights.h5", content.getvalue())
    with pytest.raises(DataError, match=r"m\.keras"):
        weights.read(tmp_path / "m.keras")


def test_a_description_of_fewer_layers_is_an_error(tmp_path, dense):
    layer = {"class_name": "Dense", "config": {"name": "dense", "activation": "relu"}}
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as file:
        file.writestr("config.json", json.dumps({"config": {"layers": [layer]}}))
        file.write(written(tmp_path / "w.weights.h5", dense), "model.weights.h5")
    with pytest.raises(DataError, match="describes 1 Dense layers and has 12"):
        weights.read(tmp_path / "m.keras")

"""Model files: what is saved comes back, damage is noticed, and a save is never torn."""

import hashlib
import io
import json
import os
import pickle
import stat
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from processes import python, started

import nnxp
from nnxp import files, strict_json
from nnxp.errors import DataError, InputError, ModelError, NnxpError
from nnxp.target_scaling import TargetScaling

METADATA = {"data": "größe.csv", "classes": ["u", "v"], "preprocessing": {"shift": [0.1, 1e-300]}}


def network(sizes=(2, 3, 2), seed=0, **options) -> nnxp.MLP:
    made = nnxp.MLP(sizes, "tanh", backend="numpy", device="cpu", seed=seed, **options)
    made.metadata = dict(METADATA)
    return made


def flat(model) -> list[np.ndarray]:
    return [nnxp.arrays.to_numpy(array) for layer in model.parameters for array in layer]


def assert_same(one, other):
    assert one.sizes == other.sizes
    assert one.hidden == other.hidden
    assert one.output == other.output
    assert one.dtype == other.dtype
    assert one.loss == other.loss
    assert one.metadata == other.metadata
    for a, b in zip(flat(one), flat(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def model(tmp_path):
    """The path of a small model."""
    path = tmp_path / "model.safetensors"
    network().save(path)
    return path


# --- round trips


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [(2, 1), (2, 3, 2), (1, 1, 1, 1), (64, 30, 20, 10)])
def test_what_is_saved_comes_back(tmp_path, sizes, dtype):
    saved = network(sizes, dtype=dtype)
    saved.loss = "quadratic"
    saved.save(tmp_path / "model")
    loaded = nnxp.MLP.load(tmp_path / "model", "numpy")
    assert_same(saved, loaded)
    x = np.random.default_rng(0).normal(size=(5, sizes[0]))
    np.testing.assert_array_equal(saved.predict(x), loaded.predict(x))


def test_each_layers_activation_comes_back(tmp_path):
    saved = nnxp.MLP((2, 3, 4, 1), ["relu", "leaky_tanh"], "sigmoid", backend="numpy")
    saved.save(tmp_path / "model")
    loaded = nnxp.MLP.load(tmp_path / "model", "numpy")
    assert loaded.hidden == ("relu", "leaky_tanh")
    assert loaded.output == "sigmoid"


def test_extreme_finite_weights_come_back_bit_for_bit(tmp_path):
    tiny, huge = np.finfo(np.float32).smallest_subnormal, np.finfo(np.float32).max
    weights = [([[tiny, -0.0, huge], [-huge, 1.0, -tiny]], [0.0, -0.0, 1e-45])]
    saved = nnxp.MLP((2, 3), backend="numpy", parameters=weights)
    saved.save(tmp_path / "model")
    loaded = nnxp.MLP.load(tmp_path / "model", "numpy")
    for a, b in zip(flat(saved), flat(loaded), strict=True):
        assert a.tobytes() == b.tobytes()


def test_saving_what_was_loaded_writes_the_same_bytes(model, tmp_path):
    nnxp.MLP.load(model, "numpy").save(tmp_path / "again")
    assert model.read_bytes() == (tmp_path / "again").read_bytes()


def test_saving_twice_writes_the_same_bytes(model, tmp_path):
    network().save(tmp_path / "again")
    assert model.read_bytes() == (tmp_path / "again").read_bytes()


def test_saving_does_not_change_the_network(tmp_path):
    saved, before = network(), network()
    saved.save(tmp_path / "model")
    assert_same(saved, before)


def test_a_loaded_network_can_be_trained_on(model):
    loaded = nnxp.MLP.load(model, "numpy")
    x = np.array([[0.0, 1.0], [1.0, 0.0]])
    history = nnxp.train(loaded, x, [0, 1], epochs=20, batch_size=None)
    assert history.epochs[-1].loss < history.epochs[0].loss


def require(library):
    """Skip without the library; fail if $NNXP_REQUIRE says that it must be here."""
    if library in os.environ.get("NNXP_REQUIRE", "").replace("-", "_").split(","):
        __import__(library)
    pytest.importorskip(library)


@pytest.mark.parametrize("backend", ["torch", "jax", "array-api-strict"])
def test_a_model_moves_between_backends(model, tmp_path, backend):
    require(backend.replace("-", "_"))
    loaded = nnxp.MLP.load(model, backend=backend, device="cpu")
    assert loaded.backend.name == backend
    assert_same(network(), loaded)
    loaded.save(tmp_path / "back")
    assert model.read_bytes() == (tmp_path / "back").read_bytes()


def test_the_file_is_safetensors_that_others_can_read(model):
    tensors = safetensors.numpy.load(model.read_bytes())
    assert {name: t.shape for name, t in tensors.items()} == {
        "layers.0.weight": (2, 3),
        "layers.0.bias": (3,),
        "layers.1.weight": (3, 2),
        "layers.1.bias": (2,),
    }


@pytest.mark.parametrize("value", [{1, 2}, float("nan"), np.float32(1), object()])
def test_metadata_that_is_not_json_is_refused_and_the_old_file_kept(model, value):
    old = model.read_bytes()
    changed = network()
    changed.metadata = {"bad": value}
    with pytest.raises(InputError, match="JSON"):
        changed.save(model)
    assert model.read_bytes() == old


# --- damage


def refused(path) -> str:
    with pytest.raises(ModelError) as error:
        nnxp.MLP.load(path, "numpy")
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.promise("damage")
def test_a_model_truncated_at_any_byte_is_refused(model, cases):
    whole = model.read_bytes()
    for length in range(len(whole)):
        model.write_bytes(whole[:length])
        with cases(length):
            refused(model)


@pytest.mark.promise("damage")
@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_a_model_with_any_bit_flipped_is_refused(model, stride, cases):
    """By 7: a bit of each byte, and each of its eight in turn."""
    whole = model.read_bytes()
    for bit in range(0, 8 * len(whole), stride):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        model.write_bytes(damaged)
        with cases(f"bit {bit}"):
            refused(model)


@pytest.mark.promise("damage")
def test_a_model_with_any_byte_missing_or_doubled_is_refused(model, cases):
    whole = model.read_bytes()
    for i in range(len(whole)):
        for damaged in (whole[:i] + whole[i + 1 :], whole[: i + 1] + whole[i:]):
            if damaged != whole:
                model.write_bytes(damaged)
                with cases(f"byte {i}"):
                    refused(model)


@pytest.mark.promise("damage")
def test_two_models_glued_together_are_refused(model):
    model.write_bytes(model.read_bytes() * 2)
    refused(model)


@pytest.mark.promise("damage")
def test_a_model_whose_blocks_were_zeroed_is_refused(model, cases):
    whole = model.read_bytes()
    for start in range(0, len(whole), 64):
        model.write_bytes(whole[:start] + bytes(min(64, len(whole) - start)) + whole[start + 64 :])
        with cases(f"bytes from {start}"):
            refused(model)


EARLIER = {"target_scaling": ...}
"""As files were before the release of 0.1: without this entry."""


def sign(content: bytes) -> bytes:
    """`content`, whose digest is all zeros, with the digest that it should have."""
    return content.replace(b"0" * 64, hashlib.sha256(content).hexdigest().encode(), 1)


def forge(path, tensors=None, **changes):
    """A file whose checksum is right and whose description or tensors are not."""
    network().save(path)
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    description = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["nnxp"])
    description |= {"sha256": "0" * 64} | changes
    kept = {name: value for name, value in description.items() if value is not ...}
    tensors = safetensors.numpy.load(content) | (tensors or {})
    tensors = {name: array for name, array in tensors.items() if array is not None}
    path.write_bytes(sign(safetensors.numpy.save(tensors, {"nnxp": json.dumps(kept)})))
    return path


def test_a_forged_file_with_nothing_changed_is_accepted(tmp_path):
    assert_same(nnxp.MLP.load(forge(tmp_path / "model"), "numpy"), network())


@pytest.mark.promise("stable")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("tensor", ["layers.0.weight", "layers.1.bias"])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path, tensor, value):
    shape = {"layers.0.weight": (2, 3), "layers.1.bias": (2,)}[tensor]
    array = np.zeros(shape, dtype=np.float32)
    array.reshape(-1)[-1] = value
    path = forge(tmp_path / "model", {tensor: array})
    assert tensor in refused(path)
    with pytest.raises(ModelError, match=tensor):
        nnxp.checkpoint.load(path)  # as a checkpoint is loaded, of which no network is made


def test_weights_that_the_networks_dtype_cannot_hold_are_refused_by_name(tmp_path):
    array = np.full((2, 3), 1e300)  # finite in the file, infinite in a float32 network
    assert "layers.0.weight" in refused(forge(tmp_path / "model", {"layers.0.weight": array}))


def test_an_array_in_the_metadata_comes_back_and_must_be_finite(tmp_path):
    made, path = network(), tmp_path / "model"
    made.metadata["deep"] = {"in": [1, np.array([[1.0, 2.0]])]}
    made.save(path)
    np.testing.assert_array_equal(
        nnxp.MLP.load(path, "numpy").metadata["deep"]["in"][1], [[1.0, 2.0]]
    )
    made.metadata["deep"]["in"][1][0, 1] = np.nan
    with pytest.raises(ModelError, match=r"metadata\.0"):
        made.save(path)


def test_arrays_of_any_order_come_back(tmp_path):
    """The library safetensors writes those of Fortran's order as if they were of C's."""
    made, path = network(), tmp_path / "model"
    arrays = [np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.arange(6)[::-2], np.array(7.0)]
    made.metadata["arrays"] = arrays
    model = made.as_model()
    turned = [(np.asfortranarray(weight), bias) for weight, bias in model.parameters]
    nnxp.checkpoint.save(replace(model, parameters=turned), path)
    found = nnxp.MLP.load(path, "numpy")
    before = [*flat(made), *arrays]
    for array, expected in zip([*flat(found), *found.metadata["arrays"]], before, strict=True):
        np.testing.assert_array_equal(array, expected, strict=True)


def test_metadata_that_look_like_the_place_of_the_checksum_come_back(tmp_path):
    made = network()
    made.metadata["zeros"] = ["0" * 64] * 2
    made.save(tmp_path / "model")
    assert nnxp.MLP.load(tmp_path / "model", "numpy").metadata == made.metadata


@pytest.mark.parametrize(
    "tensors",
    [
        {"layers.0.weight": None},
        {"layers.1.bias": None},
        {"layers.0.weight": np.zeros((3, 2), np.float32)},
        {"layers.0.bias": np.zeros((1,), np.float32)},
        {"layers.0.bias": np.zeros((), np.float32)},
        {"layers.0.bias": np.zeros((0,), np.float32)},
    ],
    ids=["no weight", "no bias", "turned", "short", "scalar", "empty"],
)
def test_tensors_that_do_not_fit_the_sizes_are_refused(tmp_path, tensors):
    path = forge(tmp_path / "model", tensors)
    refused(path)
    with pytest.raises(ModelError, match=r"layers\.[01]"):
        nnxp.checkpoint.load(path)  # as a checkpoint is loaded, of which no network is made


@pytest.mark.promise("damage")
@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"format": "1"},
        {"format": ...},
        {"sizes": ...},
        {"sizes": 3},
        {"sizes": []},
        {"sizes": [2]},
        {"sizes": [2, 3]},
        {"sizes": [2, 3, 2, 2]},
        {"sizes": [2, -3, 2]},
        {"sizes": [2, 3.5, 2]},
        {"sizes": [2, "3", 2]},
        {"sizes": [10**12, 10**12, 2]},
        {"sizes": {"a": 1}},
        {"hidden": ...},
        {"hidden": 5},
        {"hidden": ["no such"]},
        {"hidden": ["tanh", "tanh"]},
        {"hidden": [["tanh"]]},
        {"output": ...},
        {"output": None},
        {"output": "__import__('os')"},
        {"dtype": ...},
        {"dtype": "float16"},
        {"dtype": ["float32"]},
        {"dtype": "__class__"},
        {"loss": ...},
        {"loss": 5},
        {"loss": "no such"},
        {"metadata": ...},
        {"metadata": 5},
        {"metadata": [1]},
        {"metadata": None},
        {"target_scaling": 3},
        {"target_scaling": {"shift": [0.0, 0.0]}},
        {"target_scaling": {"shift": [0.0], "scale": [1.0]}},
        {"target_scaling": {"shift": [0.0, 0.0], "scale": [1.0, 0.0]}},
        {"target_scaling": {"shift": [0.0, 0.0], "scale": [1.0, -1.0]}},
        {"target_scaling": {"shift": [0.0, 0.0], "scale": [1.0, "1"]}},
        {"target_scaling": {"shift": [0.0, None], "scale": [1.0, 1.0]}},
        {"target_scaling": {"shift": [0.0, [1]], "scale": [1.0, 1.0]}},
        {"target_scaling": {"shift": 0.0, "scale": 1.0}},
        {"target_scaling": {"shift": [0.0, 0.0], "scale": [1.0, 1e308]}},
        {"target_scaling": {"shift": [0.0, 0.0], "scale": [1.0, 5e-324]}},
        {"target_scaling": {"shift": [0.0, 1e308], "scale": [1.0, 1.0]}},
        EARLIER | {"metadata": {"target_preprocessing": {"shift": [0.0], "scale": [1.0]}}},
        EARLIER
        | {"metadata": {"target_preprocessing": {"shift": [0.0, 0.0], "scale": [0.0, 1.0]}}},
        {"sha256": ...},
        {"sha256": 5},
        {"sha256": ""},
    ],
    ids=str,
)
def test_a_description_that_makes_no_sense_is_refused(tmp_path, changes):
    refused(forge(tmp_path / "model", **changes))


@pytest.mark.promise("damage")
def test_a_name_that_this_nnxp_does_not_know_is_refused(tmp_path, cases):
    path = tmp_path / "model"
    need = {"kind": "loss", "name": "mae", "source": "x"}
    unknown = {
        "'pickle'": forge(path, pickle="cos\nsystem").read_bytes(),
        "'layers.2.weight'": forge(path, {"layers.2.weight": np.zeros((2, 2))}).read_bytes(),
        "'metadata.0'": forge(path, {"metadata.0": np.zeros(2)}).read_bytes(),
        "'module'": forge(path, needs=[need | {"module": "os"}]).read_bytes(),
        "'matrix'": forge(
            path, target_scaling={"shift": [0.0] * 2, "scale": [1.0] * 2, "matrix": None}
        ).read_bytes(),
    }
    text = json.dumps(nnxp.checkpoint.describe(forge(path)) | {"sha256": "0" * 64})
    tensors = network().as_model().tensors
    unknown["'auto_map'"] = sign(safetensors.numpy.save(tensors, {"nnxp": text, "auto_map": "x"}))
    for name, content in unknown.items():
        path.write_bytes(content)
        with cases(name):
            assert f"has {name}, which this nnxp does not know: update nnxp" in refused(path)


@pytest.mark.promise("damage")
def test_a_description_with_a_key_twice_or_without_end_is_refused(tmp_path, cases):
    path = tmp_path / "model"
    forge(path)
    described = json.dumps(nnxp.checkpoint.describe(path) | {"sha256": "0" * 64})
    tensors = network().as_model().tensors
    for name, text in {
        "a key twice": described[:-1] + ', "loss": "quadratic"}',
        "a key twice in the metadata": described.replace('"data":', '"data": 1, "data":'),
        "NaN": described.replace("0.1", "NaN"),
        "an infinite number": described.replace("0.1", "1e999"),
        "too deep": described.replace("0.1", "[" * 200 + "]" * 200),
        "deeper than Python follows": described.replace("0.1", "[" * 10**5 + "]" * 10**5),
        "a list": f"[{described}]",
        "a text": json.dumps(described),
    }.items():
        assert text != described
        path.write_bytes(sign(safetensors.numpy.save(tensors, {"nnxp": text})))
        with cases(name):
            assert "not an nnxp model" in refused(path)
            assert nnxp.checkpoint.describe(path) is None


@pytest.mark.promise("memory")
@pytest.mark.parametrize("sizes", [[10**9, 10**9, 2], [2, 10**300, 2], [1] * 10**5])
def test_sizes_that_are_only_declared_take_no_memory(tmp_path, sizes):
    forge(tmp_path / "model", sizes=sizes)
    tracemalloc.start()
    try:
        refused(tmp_path / "model")
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


def test_the_models_own_metadata_may_have_any_names(tmp_path):
    made = network()
    made.metadata = {
        "pickle": {"__class__": "os.system", "tensor": "metadata.0", "nnxp": None},
        "target_preprocessing": {"shift": 3},
        "deep": json.loads("[" * 90 + "]" * 90),
        "long": "x" * 10**6,
        "text": "\x1b[31m \ud800",
    }
    made.save(tmp_path / "model")
    assert nnxp.MLP.load(tmp_path / "model", "numpy").metadata == made.metadata


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"tensor": "metadata.0"}, "would be taken for an array"),
        ({1: "a", "1": "b"}, "has '1' twice"),
        (json.loads("[" * 200 + "]" * 200), "deeper than 100"),
        ([0] * 1000, "more than 1,000 values"),
        (np.array(["text"]), "."),
        (np.array([object()]), "."),
    ],
    ids=["reference", "one key twice", "deep", "many", "array of text", "array of objects"],
)
def test_metadata_that_could_not_be_loaded_are_not_saved(model, value, message, monkeypatch):
    monkeypatch.setattr(strict_json, "MOST_VALUES", 1000)
    old, made = model.read_bytes(), network()
    made.metadata = {"bad": value}
    with pytest.raises(InputError, match=message):
        made.save(model)
    assert model.read_bytes() == old


def test_metadata_that_hold_themselves_are_not_saved(tmp_path):
    made = network()
    made.metadata["me"] = made.metadata
    with pytest.raises(InputError, match="JSON"):
        made.save(tmp_path / "model")


def test_the_entry_of_a_training_is_not_for_metadata(tmp_path):
    made = network()
    made.metadata["training"] = "mine"
    with pytest.raises(InputError, match="'training'"):
        made.save(tmp_path / "model")


def test_text_of_a_file_reaches_an_error_without_control_characters(tmp_path):
    need = {"kind": "loss", "name": "\x1b[2J", "source": "\x1b]0;x\x07\n"}
    for changes in ({"needs": [need]}, {"needs": [need | {"kind": "\x1b"}]}, {"\x1b": 1},
                    {"hidden": ["\x1b[31m"]}, {"dtype": "\x1b"}, {"format": "\x1b"}):  # fmt: skip
        assert refused(forge(tmp_path / "model", **changes)).isprintable()
    for name in ("\x1b[2J", "layers.0.weight\n"):
        assert refused(forge(tmp_path / "model", {name: np.zeros(1)})).isprintable()


def test_how_targets_were_scaled_is_read_from_earlier_files_too(tmp_path):
    done = {"kind": "standardize", "shift": [10.0, 20.0], "scale": [2.0, 4.0], "matrix": None}
    metadata = {"target_preprocessing": done, "task": "regress"}
    path = forge(tmp_path / "m", **EARLIER, metadata=metadata)
    again = nnxp.MLP.load(path, "numpy")
    assert again.target_scaling == TargetScaling((10.0, 20.0), (2.0, 4.0))
    assert again.metadata == {"task": "regress"}


def test_target_scaling_up_to_its_limits_is_read(tmp_path):
    limits = {"shift": [1e150, -1e150], "scale": [1e-150, 1.0]}
    found = nnxp.checkpoint.load(forge(tmp_path / "m", target_scaling=limits)).target_scaling
    assert found == TargetScaling((1e150, -1e150), (1e-150, 1.0))


def test_a_safetensors_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "foreign.safetensors"
    for metadata in (None, {"format": "pt"}, {"nnxp": "{}"}, {"nnxp": "[]"}, {"nnxp": "x"}):
        path.write_bytes(safetensors.numpy.save({"w": np.zeros(3, np.float32)}, metadata))
        refused(path)


def test_a_missing_model_and_a_folder_are_named(tmp_path):
    assert "No such file" in refused(tmp_path / "nowhere.safetensors")
    assert "directory" in refused(tmp_path).lower()


def zip_of(content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    return buffer.getvalue()


class Payload:
    """Unpickling this leaves a mark."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


def hostile_files(folder, mark):
    """Files of other kinds, called .safetensors, some of which would run code if they could."""
    payload = Payload(mark)
    objects = np.array([payload, payload], dtype=object)
    npy, npz = io.BytesIO(), io.BytesIO()
    np.save(npy, objects, allow_pickle=True)
    np.savez(npz, W1=objects)
    deep = b'{"__metadata__":' + b"[" * 100_000
    kinds = {
        "empty": b"",
        "text": b"hello",
        "python": f"open({str(mark)!r}, 'w')".encode(),
        "zeros": bytes(1000),
        "huge header": struct.pack("<Q", 2**63) + b"{}",
        "largest header": b"\xff" * 8 + b"{}",
        "deep header": struct.pack("<Q", len(deep)) + deep,
        "npy": npy.getvalue(),
        "npz": npz.getvalue(),
        "torch": zip_of(pickle.dumps(payload)),
        **{f"pickle {p}": pickle.dumps(payload, protocol=p) for p in range(6)},
        "pickle after a header": struct.pack("<Q", 2) + b"{}" + pickle.dumps(payload),
    }
    mark.unlink(missing_ok=True)
    paths = []
    for name, content in kinds.items():
        paths.append(folder / f"{name}.safetensors")
        paths[-1].write_bytes(content)
    return paths


@pytest.mark.promise("nothing runs")
def test_files_of_other_kinds_are_refused_and_not_run(tmp_path, cases):
    mark = tmp_path / "mark"
    for path in hostile_files(tmp_path, mark):
        with cases(path.name):
            refused(path)
            assert not mark.exists()


AUDITED = """
import sys
import nnxp
good, *hostile = sys.argv[1:]
nnxp.MLP.load(good, "numpy", "cpu")
events = []
sys.addaudithook(lambda event, args: events.append((event, args)) if watching else None)
for path in (good, *hostile):
    watching = True
    try:
        nnxp.MLP.load(path, "numpy", "cpu")
    except nnxp.errors.ModelError:
        assert path != good
    watching = False
    opened = [str(args[0]) for event, args in events if event == "open"]
    assert opened == [path], (path, opened)
    for event, args in events:
        assert event.partition(".")[0] not in (
            "import", "exec", "compile", "pickle", "marshal", "socket", "subprocess", "os",
            "ctypes", "shutil", "urllib", "code",
        ), (path, event, args)
    events.clear()
print("clean")
"""


@pytest.mark.promise("nothing runs")
def test_loading_opens_one_file_and_runs_nothing(tmp_path, model):
    hostile = hostile_files(tmp_path, tmp_path / "mark")
    done = python("watching = False\n" + AUDITED, model, *hostile)
    assert done.stderr == ""
    assert done.stdout == "clean\n"


# --- a save is old or new, never torn


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.promise("whole files")
def test_a_save_replaces_and_leaves_nothing_else(model):
    network(seed=1).save(model)
    assert_same(nnxp.MLP.load(model, "numpy"), network(seed=1))
    assert entries(model.parent) == [model.name]


@pytest.mark.promise("whole files")
def test_on_disk_the_file_is_synced_then_renamed_then_the_folder_synced(model, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(handle):
        found = os.fstat(handle)
        calls.append("fsync folder" if stat.S_ISDIR(found.st_mode) else f"fsync {found.st_size}")
        fsync(handle)

    def recorded_replace(source, target):
        calls.append("rename")
        assert os.path.dirname(source) == str(model.parent)
        assert str(target) == str(model)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    monkeypatch.setattr(os, "rename", recorded_replace)
    network(seed=1).save(model)
    assert calls == [f"fsync {model.stat().st_size}", "rename", "fsync folder"]


@pytest.mark.promise("whole files")
@pytest.mark.parametrize("function", ["replace", "fsync", "chmod", "fdopen"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_system_call_that_fails_leaves_the_old_file_alone(model, monkeypatch, function, error):
    old = model.read_bytes()

    def fail(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(type(error)):
            network(seed=1).save(model)
    assert model.read_bytes() == old
    assert entries(model.parent) == [model.name]


@pytest.mark.promise("whole files")
def test_a_folder_that_cannot_be_synced_leaves_the_whole_new_file(model, monkeypatch):
    fsync = os.fsync

    def fail_for_folders(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(5, "Input/output error")
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail_for_folders)
        with pytest.raises(OSError, match="Input/output error"):
            network(seed=1).save(model)
    assert_same(nnxp.MLP.load(model, "numpy"), network(seed=1))
    assert entries(model.parent) == [model.name]


WRITE_WITH_A_LIMIT = """
import os, pathlib, resource, signal, sys
from nnxp import files, strict_json
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path, new = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]).read_bytes()
old = path.read_bytes()
for limit in range(len(new)):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        files.write(path, new)
    except OSError:
        pass
    else:
        sys.exit(f"a limit of {limit} bytes went unnoticed")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    assert path.read_bytes() == old, limit
    assert os.listdir(path.parent) == [path.name], limit
files.write(path, new)
assert path.read_bytes() == new
"""


@pytest.mark.promise("whole files")
def test_a_disk_that_fills_up_at_any_byte_leaves_the_old_file(model, tmp_path_factory):
    new = tmp_path_factory.mktemp("new") / "model"
    network(seed=1).save(new)
    done = python(WRITE_WITH_A_LIMIT, model, new)
    assert done.stderr == ""
    assert done.returncode == 0


SAVE_AND_BE_KILLED = """
import os, pathlib, random, signal, sys, time
import nnxp
path, kills = pathlib.Path(sys.argv[1]), int(sys.argv[2])
models = [nnxp.MLP((300, 300, 300), backend="numpy", device="cpu", seed=seed) for seed in (0, 1)]
known = []
for model in models:
    model.save(path)
    known.append(path.read_bytes())
assert known[0] != known[1]
delays = random.Random(kills)
for _ in range(kills):
    saver = os.fork()  # a hundredth of the time that another process takes to start
    while not saver:
        for model in models:
            model.save(path)
    time.sleep(delays.uniform(0, 0.03))
    assert os.waitpid(saver, os.WNOHANG) == (0, 0)
    os.kill(saver, signal.SIGKILL)
    assert os.waitpid(saver, 0) == (saver, signal.SIGKILL)
    assert path.read_bytes() in known
"""


@pytest.mark.promise("whole files")
@pytest.mark.parametrize("kills", [10, pytest.param(500, marks=pytest.mark.slow)])
def test_a_kill_while_saving_leaves_the_old_file_or_the_new(tmp_path, kills):
    path = tmp_path / "model.safetensors"
    with started([sys.executable, "-c", SAVE_AND_BE_KILLED, path, str(kills)]) as process:
        assert process.wait(120) == 0
    nnxp.MLP((300, 300, 300), backend="numpy", device="cpu", seed=0).save(path)
    assert entries(tmp_path) == [path.name]  # also of what the kills left


def test_a_disk_that_is_full_is_an_error_that_names_the_file(model):
    code = (
        "import resource, signal, sys\nfrom nnxp import files\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
        "try: files.write(sys.argv[1], bytes(99))\n"
        "except OSError as error: print(error.filename, error.filename2)"
    )
    done = python(code, model)
    assert done.stdout == f"{model} None\n"


LOCKED = """
import os, sys
from nnxp import files, strict_json
handle, path = files._new_file(sys.argv[1])
print(os.path.basename(path), flush=True)
sys.stdin.readline()
"""


@pytest.mark.promise("whole files")
def test_what_killed_saves_left_is_swept_and_what_others_write_is_not(model):
    (model.parent / ".nnxp-keep-this").write_text("")
    (model.parent / ".nnxp-folder00").mkdir()
    before = entries(model.parent)
    command = [sys.executable, "-c", LOCKED, model.parent]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as saver:
        try:
            temporary = saver.stdout.readline().decode().strip()
            network(seed=1).save(model)
            assert entries(model.parent) == sorted([*before, temporary])
        finally:
            saver.kill()
    assert entries(model.parent) == sorted([*before, temporary])
    network(seed=2).save(model)
    assert entries(model.parent) == before
    assert_same(nnxp.MLP.load(model, "numpy"), network(seed=2))


def test_a_file_that_was_swept_before_it_was_locked_is_made_anew(model, monkeypatch):
    lock, swept = files._lock, []

    def late(handle):
        if not swept:
            (path,) = model.parent.glob(".nnxp-*")
            path.unlink()
            swept.append(path)
        return lock(handle)

    monkeypatch.setattr(files, "_lock", late)
    network(seed=1).save(model)
    assert swept
    assert_same(nnxp.MLP.load(model, "numpy"), network(seed=1))
    assert entries(model.parent) == [model.name]


def test_a_folder_without_locks_is_saved_to_and_not_swept(model, monkeypatch):
    left = model.parent / ".nnxp-abcd1234"
    left.write_text("")
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    network(seed=1).save(model)
    assert entries(model.parent) == [left.name, model.name]


def test_a_symbolic_link_stays_one(model):
    link = model.parent / "latest"
    link.symlink_to(model.name)
    network(seed=1).save(link)
    assert link.is_symlink()
    assert os.readlink(link) == model.name
    assert_same(nnxp.MLP.load(model, "numpy"), network(seed=1))


def test_a_symbolic_link_to_another_folder_is_followed(model, tmp_path):
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "latest"
    link.symlink_to(model)
    network(seed=1).save(link)
    assert link.is_symlink()
    assert_same(nnxp.MLP.load(model, "numpy"), network(seed=1))
    assert entries(link.parent) == ["latest"]


def test_a_symbolic_link_to_nothing_makes_its_target(tmp_path):
    link = tmp_path / "latest"
    link.symlink_to("model")
    network().save(link)
    assert link.is_symlink()
    assert_same(nnxp.MLP.load(tmp_path / "model", "numpy"), network())


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o664, 0o755])
def test_an_old_files_mode_is_kept(model, mode):
    model.chmod(mode)
    network(seed=1).save(model)
    assert stat.S_IMODE(model.stat().st_mode) == mode


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_files_mode_follows_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        network().save(tmp_path / "model")
        assert os.umask(umask) == umask  # and saving leaves it as it was
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == mode


def test_a_folder_that_is_not_there_is_an_error_and_not_made(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        network().save(tmp_path / "nowhere" / "model")
    assert entries(tmp_path) == []


def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        files.check_writable(tmp_path / "pipe", "--output")
        files.write(tmp_path / "pipe", b"content")
        assert os.read(reader, 100) == b"content"
        assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)
    finally:
        os.close(reader)


@pytest.mark.parametrize("name", ["a b.safetensors", "größe", "x" * 255, "-"])
def test_any_file_name_will_do(tmp_path, name):
    network().save(tmp_path / name)
    assert_same(nnxp.MLP.load(tmp_path / name, "numpy"), network())


def test_check_writable_says_no_where_write_would(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "nowhere" / "model", tmp_path / "file" / "model"):
        with pytest.raises(InputError, match=f"--save {path}"):
            files.check_writable(path, "--save")
        with pytest.raises(OSError, match="directory"):
            files.write(path, b"")
    assert entries(tmp_path) == ["file"]


def test_check_writable_changes_nothing(model):
    old, before = model.read_bytes(), entries(model.parent)
    files.check_writable(model, "--save")
    files.check_writable(model.parent / "new", "--save")
    assert model.read_bytes() == old
    assert entries(model.parent) == before


def test_model_errors_are_values_errors_of_nnxp_and_not_data_errors():
    assert issubclass(ModelError, NnxpError)
    assert issubclass(ModelError, ValueError)
    assert not issubclass(ModelError, DataError)

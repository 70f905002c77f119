"""Whatever a file holds, loading it runs nothing, opens nothing else, and takes little memory.

`hostile` makes the files, and `loading` loads them in processes of their own. Files that are
damaged rather than hostile are in the tests of each format.
"""

import importlib.util
import json
import re
import sys
from pathlib import Path

import hostile
import numpy as np
import pytest
import safetensors.numpy
from processes import completed

import nnxp

SECONDS = 1.5
"""The processor's time that a bomb may take; on a machine that does nothing else, it is half."""


def needs(library):
    return pytest.mark.skipif(
        importlib.util.find_spec(library) is None, reason=f"{library} is not installed"
    )


def loaded(mode, requests):
    """Load files in a process; see `loading`."""
    lines = "".join(json.dumps([loader, str(path)]) + "\n" for loader, path in requests)
    # Python 3.12 warns of forks in a process with threads, such as those of OpenBLAS.
    options = ["-W", "ignore::DeprecationWarning"]
    command = [sys.executable, *options, str(Path(__file__).with_name("loading.py")), mode]
    done = completed(command, input=lines, timeout=300)
    assert done.stderr == ""
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(requests)
    return answers


def written(folder, contents, suffix):
    """Write files; return their paths by name."""
    folder.mkdir()
    paths = {}
    for i, (name, content) in enumerate(contents.items()):
        paths[name] = folder / f"{i}{'.gz' if name.endswith('.gz') else suffix}"
        paths[name].write_bytes(content)
    return paths


def assert_refused(found, path):
    """What was raised is an error of nnxp: one line that names the file."""
    assert not found.startswith("!"), found
    assert found not in ("loaded", "no model"), found
    assert str(path) in found, found
    assert found.isprintable(), found
    assert len(found) < 1000, found


# --- nothing runs

SUFFIXES = {
    "model": [".safetensors", ".pt"],
    "description": [".safetensors"],
    "checkpoint": [".safetensors"],
    "weights": [".npz", ".safetensors", ".h5", ".keras", ".onnx", ".pt", ".pkl", ".zip", ""],
    "data": [".npz", ".csv", ".tsv", ".parquet", ".npy", ".h5"],
    "images": ["", ".gz"],
    "labels": ["", ".gz"],
}
"""What loads a file of each suffix."""
HARMLESS = {
    "a formula of spreadsheets": "data",
    "csv with escapes": "data",
    "safetensors with a module": "weights",
}
"""Files that are hostile elsewhere, and to this loader data like any other."""


def good_files(folder, loaders=tuple(SUFFIXES)):
    """A file for each of the loaders and suffix that has one, which must be loaded."""
    folder.mkdir()
    network = nnxp.MLP((5, 3), backend="numpy", device="cpu")
    x, y = np.random.default_rng(0).normal(size=(20, 5)), np.arange(20) % 2
    network.save(folder / "model.safetensors")
    nnxp.train(nnxp.MLP((5, 2), backend="numpy"), x, y, epochs=1, batch_size=8,
               checkpoint=nnxp.Checkpoints(folder / "runs"))  # fmt: skip
    (checkpoint,) = (folder / "runs").iterdir()
    weight, bias = np.ones((3, 5), np.float32), np.ones(3, np.float32)
    state = {"0.weight": weight, "0.bias": bias}
    (folder / "w.safetensors").write_bytes(safetensors.numpy.save(state, {"format": "pt"}))
    np.savez(folder / "w.npz", W1=weight.T, b1=bias)
    np.savez(folder / "x.npz", x=x, y=y)
    rows = "".join(f"{','.join(map(str, row))},{i % 2}\n" for i, row in enumerate(x))
    (folder / "x.csv").write_text("a,b,c,d,e,y\n" + rows)
    (folder / "large.csv").write_text("a,b,c,d,e,y\n" + rows * 600)
    (folder / "x-idx3-ubyte").write_bytes(hostile.idx((2, 3, 4), bytes(24)))
    (folder / "x-idx1-ubyte.gz").write_bytes(hostile.gzip.compress(hostile.idx((2,), b"\0\1")))
    found = [
        ("model", folder / "model.safetensors"),
        ("description", folder / "model.safetensors"),
        ("checkpoint", checkpoint),
        ("weights", folder / "w.safetensors"),
        ("weights", folder / "w.npz"),
        ("data", folder / "x.npz"),
        ("data", folder / "x.csv"),
        ("data", folder / "large.csv"),
        ("images", folder / "x-idx3-ubyte"),
        ("labels", folder / "x-idx1-ubyte.gz"),
    ]
    if "weights" not in loaders:
        return [each for each in found if each[0] in loaders]
    if importlib.util.find_spec("h5py"):
        import h5py

        for name in ("w.h5", "model.weights.h5"):
            with h5py.File(folder / name, "w") as file:
                file["layers/dense/vars/0"], file["layers/dense/vars/1"] = weight.T, bias
        dense = {"class_name": "Dense", "config": {"name": "d", "activation": "relu"}}
        config = json.dumps({"config": {"layers": [dense]}})
        content = (folder / "model.weights.h5").read_bytes()
        (folder / "w.keras").write_bytes(
            hostile.zipped({"config.json": config, "model.weights.h5": content})
        )
        with h5py.File(folder / "x.h5", "w") as file:
            file["x"], file["y"] = x, y
        found += [("weights", folder / "w.h5"), ("weights", folder / "w.keras")]
        found.append(("data", folder / "x.h5"))
    if importlib.util.find_spec("onnx"):
        tensor = hostile.onnx_tensor("w", (5, 3), weight.tobytes())
        model = hostile.onnx_model([("Gemm", "x w", "z"), ("Relu", "z", "y")], [tensor])
        (folder / "w.onnx").write_bytes(model.SerializeToString())
        found.append(("weights", folder / "w.onnx"))
    if importlib.util.find_spec("pyarrow"):
        import pyarrow as pa
        import pyarrow.parquet

        table = pa.table({"a": x[:, 0], "b": x[:, 1], "y": y})
        pyarrow.parquet.write_table(table, folder / "x.parquet")
        found.append(("data", folder / "x.parquet"))
    return found


MAKERS = {"h5py": hostile.hdf5_codes, "onnx": hostile.onnx_codes, "pyarrow": hostile.parquet_codes}
"""The library that makes these hostile files."""


@pytest.mark.promise("nothing runs")
@pytest.mark.parametrize(
    "loaders",
    [["model", "checkpoint"], pytest.param(list(SUFFIXES), marks=pytest.mark.slow)],
    ids=["models", "all"],
)
def test_files_that_hold_code_are_opened_and_do_nothing(tmp_path, cases, loaders):
    """Each under every suffix; after files of each kind as they should be, by the same loaders."""
    mark = tmp_path / "mark"
    good, codes = good_files(tmp_path / "good", loaders), hostile.codes(mark)
    assert len(codes) >= 45
    for library, make in MAKERS.items():
        if "weights" in loaders and importlib.util.find_spec(library):
            codes |= make(mark)
    mark.unlink(missing_ok=True)
    requests, names = list(good), ["good"] * len(good)
    for i, (name, content) in enumerate(codes.items()):
        for loader in loaders:
            for suffix in SUFFIXES[loader]:
                folder = tmp_path / f"{i}{loader}{suffix}"
                folder.mkdir()
                path = folder / (f"checkpoint-{1:012d}{suffix}")
                path.write_bytes(content)
                requests.append((loader, path))
                names.append(name)
    before = sorted(tmp_path.rglob("*"))
    answers = loaded("watch", requests)
    for (loader, path), name, (found, opened, others) in zip(requests, names, answers, strict=True):
        with cases(f"{name} as {loader} of {path.suffix or 'no suffix'}"):
            assert others == []
            assert set(opened) <= {str(path)}
            assert len(set(opened)) == 1 or loader not in (
                "model",
                "description",
                "checkpoint",
                "data",
            )
            if name == "good":
                assert found == "loaded"
            elif loader == "description":
                assert found in ("no model", "loaded")
            elif found != "loaded" or HARMLESS.get(name) != loader:
                assert_refused(found, path.parent if loader == "checkpoint" else path)
    assert not mark.exists()
    assert sorted(tmp_path.rglob("*")) == before


# --- memory

on_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux limits a process's memory"
)

FORMATS = {
    "safetensors": (("model", "weights"), ".safetensors", lambda: hostile.SAFETENSORS_BOMBS),
    "models": (("model",), ".safetensors", hostile.model_bombs),
    "npz": (("data", "weights"), ".npz", hostile.npz_bombs),
    "IDX": (("images",), "", hostile.idx_bombs),
    "csv": (("data",), ".csv", hostile.csv_bombs),
    "parquet": (("data",), ".parquet", hostile.parquet_bombs),
    "HDF5": (("weights",), ".h5", hostile.hdf5_bombs),
    "npy": (("data",), ".npy", hostile.npy_bombs),
    "HDF5 data": (("data",), ".h5", hostile.hdf5_data_bombs),
    ".keras": (("weights",), ".keras", hostile.keras_bombs),
    "ONNX": (("weights",), ".onnx", hostile.onnx_bombs),
}
LIBRARIES = {
    "parquet": ["pyarrow"],
    "HDF5": ["h5py"],
    "HDF5 data": ["h5py"],
    ".keras": ["h5py"],
    "ONNX": ["onnx"],
}
QUICK = ("IDX",)


def assert_refused_in_time(cases, requests, names, by_memory=False):
    """Each is refused by what it claims; also, if that is allowed, by a lack of memory."""
    for (_, path), name, (found, seconds) in zip(
        requests, names, loaded("limit", requests), strict=True
    ):
        with cases(name):
            assert_refused(found, path)
            assert seconds < SECONDS
            assert by_memory or not re.search("(?i)memory|malloc|allocate", found), found


@on_linux
@pytest.mark.promise("memory")
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            kind,
            marks=[pytest.mark.slow] * (kind not in QUICK)
            + [needs(library) for library in LIBRARIES.get(kind, ())],
        )
        for kind in FORMATS
    ],
)
def test_a_file_that_claims_much_is_refused_in_little_memory_and_time(tmp_path, cases, kind):
    """In 512 MB."""
    loaders, suffix, bombs = FORMATS[kind]
    paths = written(tmp_path / "bombs", bombs(), suffix)
    requests = [(loader, path) for loader in loaders for path in paths.values()]
    assert_refused_in_time(cases, requests, [*paths] * len(loaders))


@on_linux
@pytest.mark.slow
@pytest.mark.promise("memory")
def test_a_checkpoint_that_claims_much_is_refused_in_little_memory_and_time(tmp_path, cases):
    bombs, requests = hostile.checkpoint_bombs(), []
    for name, content in bombs.items():
        requests.append(("checkpoint", tmp_path / name / f"checkpoint-{1:012d}.safetensors"))
        requests[-1][1].parent.mkdir()
        requests[-1][1].write_bytes(content)
    assert_refused_in_time(cases, requests, list(bombs))


@pytest.mark.slow
@on_linux
@pytest.mark.promise("memory")
def test_a_file_of_terabytes_that_are_not_on_the_disk_is_refused(tmp_path, cases):
    requests = hostile.sparse_bombs(tmp_path)
    names = [path.name for _, path in requests]
    assert_refused_in_time(cases, requests, names, by_memory=True)


@pytest.mark.slow
@on_linux
@pytest.mark.promise("memory")
def test_ordinary_files_are_loaded_in_as_little_memory(tmp_path, cases):
    """So that it is not the memory that refuses the others."""
    requests = good_files(tmp_path / "good")
    for (loader, path), (found, _) in zip(requests, loaded("limit", requests), strict=True):
        with cases(f"{path.name} as {loader}"):
            assert found == "loaded"

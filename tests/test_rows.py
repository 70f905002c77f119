"""Files that are read by rows: npy, folders of shards, HDF5 and Zarr, loaded or left on disk."""

import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from processes import python

import nnxp
from nnxp import datasets
from nnxp.data import sources
from nnxp.data.sources import Source
from nnxp.errors import DataError, InputError

ROWS = 300


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    x = rng.normal(3.0, 2.0, size=(ROWS, 5)).astype(np.float32)
    return x, (x[:, 0] > 3).astype(np.int64)


def npy(folder, x, y):
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    return folder / "x.npy", {"targets_file": folder / "y.npy"}


def shards(folder, x, y):
    np.save(folder / "y.npy", y)
    (folder / "shards").mkdir()
    for i, rows in enumerate(np.split(x, [10, 150])):
        np.save(folder / "shards" / f"part-{i:03d}.npy", rows)
    (folder / "shards" / "_SUCCESS").touch()
    return folder / "shards", {"targets_file": folder / "y.npy"}


def parquet(folder, x, y):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    (folder / "tables").mkdir()
    cuts = [0, 100, 130, ROWS]
    for i, (a, b) in enumerate(pairwise(cuts)):
        columns = {f"c{j}": x[a:b, j] for j in range(5)} | {"label": y[a:b]}
        pq.write_table(pa.table(columns), folder / "tables" / f"{i}.parquet", row_group_size=40)
    return folder / "tables", {"target": "label"}


def hdf5(folder, x, y, **layout):
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "data.h5", "w") as file:
        file.create_dataset("x", data=x, **layout)
        file["y"] = y
    return folder / "data.h5", {}


def hdf5_chunks(folder, x, y):
    return hdf5(folder, x, y, chunks=(16, 5), compression="gzip")


def zarr_store(folder, x, y):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(folder / "data.zarr", mode="w")
    group.create_array("x", data=x, chunks=(16, 2))
    group.create_array("y", data=y)
    return folder / "data.zarr", {}


MADE = (npy, shards, parquet, hdf5, hdf5_chunks, zarr_store)
EXACT = (npy, shards, hdf5)


@pytest.mark.parametrize("make", MADE)
def test_every_format_is_the_data_of_an_npz(tmp_path, arrays, make):
    """Split, classes, preprocessing and rows, whether the features stay on disk or not."""
    x, y = arrays
    np.savez(tmp_path / "data.npz", x=x, y=y)
    wanted = datasets.load(tmp_path / "data.npz", seed=3)
    path, options = make(tmp_path, x, y)
    for stream in (False, True):
        found = datasets.load(path, seed=3, stream=stream, **options)
        assert isinstance(found.x, Source) == stream
        for part in ("x", "x_test", "y", "y_test"):
            np.testing.assert_array_equal(getattr(found, part)[0:999], getattr(wanted, part))
        assert (found.task, found.classes) == (wanted.task, wanted.classes)
        assert found.preprocessing.shift == wanted.preprocessing.shift
        assert found.preprocessing.scale == wanted.preprocessing.scale
        assert found.split.content != wanted.split.content
        network = nnxp.MLP([5, 4, 2], seed=1)
        nnxp.train(network, found.x, found.y, epochs=2, batch_size=16, validation=0.2)
        network.metadata = found.metadata()
        again = datasets.load(path, like=network.metadata, test_only=True, **options)
        assert again.trained_on
        np.testing.assert_array_equal(again.x_test[0:999], wanted.x_test)
        features = datasets.load_features(path, like=network.metadata)
        assert len(features) == ROWS
        assert (found.x.blocks is None) == (make in EXACT) if stream else True


def test_a_file_goes_from_the_command_line_to_predictions(tmp_path, arrays, monkeypatch):
    from command_line import fail, succeed

    monkeypatch.setattr(sources, "LOADED_BYTES", 1000)
    x, y = arrays
    npy(tmp_path, x, y)
    text = succeed(tmp_path, "train", "x.npy", "--targets", "y.npy", "--epochs", 2, "--hidden", 4,
                   "--shuffle-blocks", "--verbose", "--report", "report.json",
                   COLUMNS=200)  # fmt: skip
    assert "features stay on disk, 4.8 kB; shuffled: blocks of 240 rows at random" in text
    assert "read from x.npy in chunks of" in text
    assert "next: nnxp evaluate model.safetensors x.npy --targets y.npy" in text
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["options"]["shuffle_blocks"] is True
    told = succeed(tmp_path, "evaluate", "model.safetensors", "x.npy", "--targets", "y.npy")
    assert "60 samples, none of which was trained on" in told
    lines = succeed(tmp_path, "predict", "model.safetensors", "x.npy").splitlines()
    assert len(lines) == ROWS + 1
    assert "--targets" in fail(tmp_path, "train", "x.npy")
    assert "no.npy: No such file" in fail(tmp_path, "train", "x.npy", "--targets", "no.npy")
    assert "is for .npy" in fail(tmp_path, "train", "digits", "--targets", "y.npy")
    assert "takes data in memory" in fail(
        tmp_path, "train", "x.npy", "--targets", "y.npy", "--preprocess", "pca"
    )
    text = fail(tmp_path, "train", "x.npy", "--targets", "y.npy", "--report", "y.npy")
    assert "y.npy" in text
    assert (np.load(tmp_path / "y.npy") == y).all()


def test_targets_of_other_kinds(tmp_path, arrays):
    x, y = arrays
    npy(tmp_path, x, np.array(["no", "yes"])[y])
    found = datasets.load(tmp_path / "x.npy", targets_file=tmp_path / "y.npy")
    assert found.classes == ("no", "yes")
    npy(tmp_path, x, np.asfortranarray(x[:, :2] * 1.5))
    found = datasets.load(tmp_path / "x.npy", targets_file=tmp_path / "y.npy", stream=True)
    assert found.task == "regress"
    rows = found.split.rows(np.zeros(ROWS))[0]
    np.testing.assert_array_equal(found.y, (x[:, :2] * 1.5).astype(np.float64)[rows])


def test_images_are_rows_of_pixels(tmp_path, arrays):
    images = np.random.default_rng(0).integers(0, 256, (ROWS, 4, 3)).astype(np.uint8)
    for stream in (False, True):
        path, options = npy(tmp_path, images, arrays[1])
        found = datasets.load(path, stream=stream, preprocess="none", **options)
        flat = images.reshape(ROWS, 12).astype(np.float32)
        rows = found.split.rows(arrays[1])[0]
        np.testing.assert_array_equal(found.x[0:999], flat[rows])


def test_hdf5_by_other_names_and_with_a_test_part(tmp_path, arrays):
    h5py = pytest.importorskip("h5py")
    x, y = arrays
    path = tmp_path / "data.hdf5"
    with h5py.File(path, "w") as file:
        file["group/images"], file["labels"] = x, y
        file["away"] = h5py.ExternalLink("other.h5", "x")
        file["text"] = "text"
    options = {"features_name": "group/images", "target": "labels"}
    found = datasets.load(path, **options)
    assert found.x.shape == (240, 5)
    for names, text in (
        ({}, "has no dataset 'x'; there are away, group, labels, text"),
        ({"features_name": "group"}, "group is a group"),
        ({"features_name": "away"}, "away is a link to somewhere else"),
        ({"features_name": "text"}, r"text: is object \(\); it must be numbers"),
        ({"features_name": "labels", "target": "labels"}, "must be numbers, "),
        ({"features_name": "group/images"}, "has no targets"),
    ):
        with pytest.raises(DataError, match=text):
            datasets.load(path, **names)
    with h5py.File(path, "w") as file:
        file["x"], file["y"], file["x_test"], file["y_test"] = x, y, x[:30], y[:30]
    found = datasets.load(path, stream=True)
    assert (len(found.x), len(found.x_test), found.split) == (ROWS, 30, None)
    path.write_bytes(b"no HDF5")
    with pytest.raises(DataError, match="is no HDF5 file"):
        datasets.load(path)


def test_a_zarr_store_of_one_array_and_with_codecs_that_are_not_known(tmp_path, arrays):
    zarr = pytest.importorskip("zarr")
    x, y = arrays
    np.save(tmp_path / "y.npy", y)
    zarr.save_array(tmp_path / "x.zarr", x)
    found = datasets.load(tmp_path / "x.zarr", targets_file=tmp_path / "y.npy", stream=True)
    assert found.x.shape == (240, 5)
    group = zarr.open_group(tmp_path / "g.zarr", mode="w", zarr_format=2)
    group.create_array("x", data=x)
    group.create_array("y", data=y)
    assert len(datasets.load(tmp_path / "g.zarr").x) == 240
    described = tmp_path / "g.zarr" / "x" / ".zarray"
    content = json.loads(described.read_text())
    for change in ({"filters": [{"id": "pickle"}]}, {"compressor": {"id": "json2"}}):
        described.write_text(json.dumps(content | change))
        known = r"has a codec '(pickle|json2)' that nnxp does not read"
        with pytest.raises(DataError, match=known):
            datasets.load(tmp_path / "g.zarr")
    described.write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        datasets.load(tmp_path / "g.zarr")
    with pytest.raises(DataError, match="No such file"):
        datasets.load(tmp_path / "none.zarr")


def test_parquet_shards_that_do_not_fit(tmp_path, arrays):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    x, y = arrays
    folder, _ = parquet(tmp_path, x, y)
    with pytest.raises(DataError, match=r"0\.parquet: no column 'no'; there are c0, c1"):
        datasets.load(folder, target="no")
    float32 = pa.array([1.0], pa.float32())
    for name, table, text in (
        ("text", pa.table({f"c{i}": ["a"] for i in range(5)} | {"label": [1]}), "'c0' is string"),
        ("short", pa.table({"c0": [1.0], "label": [1]}), "no column 'c1', which .*0.parquet has"),
        ("null", pa.table({f"c{i}": float32 for i in range(5)} | {"label": [None]}), "is missing"),
        ("float64", pa.table({f"c{i}": [1.0] for i in range(5)} | {"label": [1]}), "5, float32"),
    ):
        path = folder / f"9{name}.parquet"
        pq.write_table(table, path)
        with pytest.raises(DataError, match=text):
            datasets.load(folder)
        path.unlink()
    (folder / "9.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"9\.parquet: is no parquet file, or damaged"):
        datasets.load(folder)


def test_npy_files_that_are_refused(tmp_path, arrays):
    x, y = arrays
    path, options = npy(tmp_path, x, y)

    def refused(text, error=DataError, where=path, **more):
        with pytest.raises(error, match=text):
            datasets.load(where, **{"stream": True} | options | more)

    np.save(tmp_path / "y.npy", y[:-1])
    refused("y.npy: has 299 targets, and there are 300 rows of features")
    np.save(tmp_path / "y.npy", y * np.nan)
    refused(r"y.npy: target \[0\] is nan")
    np.save(tmp_path / "y.npy", np.zeros((ROWS, 2, 2)))
    refused(r"the targets are float64 \(300, 2, 2\)")
    np.save(tmp_path / "y.npy", np.array([{}] * ROWS), allow_pickle=True)
    refused("y.npy: holds Python objects, which nnxp does not unpickle")
    np.save(tmp_path / "y.npy", y)
    np.save(path, np.array([[{}]] * ROWS), allow_pickle=True)
    refused("x.npy: holds Python objects")
    np.save(path, x[:, 0])
    refused(r"x.npy: is float32 \(300,\); it must be numbers, \(samples, features\)")
    np.save(path, np.asfortranarray(x))
    refused("stored column by column")
    np.save(path, np.array([["a", "b"]] * ROWS))
    refused("is <U1")
    np.save(path, x[:0])
    refused(r"\(0, 5\)")
    np.save(path, x)
    path.write_bytes(path.read_bytes()[:-8])
    refused("declares 6,000 bytes of numbers and has 5,992: it is cut")
    for content in (b"", b"\x93NUMPY\x09\x00", b"\x93NUMPY\x01\x00\x04\x00{[(\n", b"PK\x03\x04"):
        path.write_bytes(content)
        refused("not a readable npy file")
    (tmp_path / "empty").mkdir()
    refused("without npy or parquet files", where=tmp_path / "empty")
    (tmp_path / "empty" / "a.npy").touch()
    (tmp_path / "empty" / "b.csv").touch()
    refused("has a.npy and b.csv", where=tmp_path / "empty")
    refused("impute 'mean' is for tables", InputError, impute="mean")
    refused("'y' and targets_file '.*y.npy' are both targets", InputError, target="y")
    for option in ("target", "features_name"):
        with pytest.raises(InputError, match=f"{option} 'x' is for files of several arrays"):
            datasets.load(path, **{option: "x"})
    with pytest.raises(InputError, match=r"targets_file .* is for .npy"):
        datasets.load("moons", targets_file="y.npy")


def test_a_missing_value_is_named_with_its_file(tmp_path, arrays):
    x, y = arrays
    x[200, 1] = np.inf
    for stream in (False, True):
        for make in (npy, shards):
            (folder := tmp_path / f"{make.__name__}{stream}").mkdir()
            path, options = make(folder, x, y)
            row = r"row 50 of .*part-002\.npy" if make is shards else r"row 200 of .*x\.npy"
            with pytest.raises(InputError, match=f"x holds inf at {row}, column 1"):
                datasets.load(path, stream=stream, test_share=0.0, **options)


def test_libraries_that_are_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    monkeypatch.setitem(sys.modules, "zarr", None)
    (tmp_path / "x.h5").touch()
    for name, extra in (("x.h5", "hdf5"), ("x.zarr", "zarr")):
        with pytest.raises(InputError, match=rf'pip install "nnxp\[{extra}\]"'):
            datasets.load(tmp_path / name)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of memory")
def test_memory_by_blocks_does_not_grow_with_the_data(tmp_path):
    """470 MB of features are trained on, validated and tested in 400 MB, with a small buffer."""
    rows, features = 150_000, 784
    y = np.arange(rows) % 10
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (rows, features))
    for start in range(0, rows, 10_000):
        x[start : start + 10_000] = np.random.default_rng(start).random((1, features)) + 1
    np.save(tmp_path / "y.npy", y)
    path, options = tmp_path / "x.npy", {"targets_file": str(tmp_path / "y.npy")}
    del x
    code = f"""
import nnxp
from nnxp.data import sources
sources.BUFFER_BYTES = 2**25
def peak():
    return int(next(x for x in open("/proc/self/status") if x.startswith("VmHWM")).split()[1])
network = nnxp.MLP([784, 16, 10])
before = peak()
data = nnxp.datasets.load({str(path)!r}, **{options!r})
nnxp.train(network, data.x, data.y, epochs=1, batch_size=200, validation=0.1,
           shuffle="blocks")
network.evaluate(data.x_test, data.y_test)
print(peak() - before)
"""
    done = python(code, check=True, cwd=Path(nnxp.__file__).parents[1])
    assert int(done.stdout) * 1024 < 0.4e9

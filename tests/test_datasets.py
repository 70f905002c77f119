"""Data sets: the bundled ones, MNIST's files and their download, users' csv and npz files."""

import dataclasses
import gc
import gzip
import hashlib
import http.server
import io
import json
import os
import pickle
import re
import resource
import struct
import threading
import time
import warnings
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from command_line import fail
from processes import python

from nnxp import datasets
from nnxp.datasets import idx, mnist, moons
from nnxp.datasets.csv_files import CsvFile
from nnxp.errors import DataError, InputError

RNG = np.random.default_rng(7)


def one_line(error) -> str:
    """The message, which must be a single line."""
    message = str(error.value)
    assert message
    assert "\n" not in message
    return message


# --- digits and moons


def test_digits_have_the_sizes_of_the_uci_set():
    data = datasets.load("digits")
    assert data.x.shape == (1437, 64)
    assert data.x_test.shape == (360, 64)
    assert data.y.shape == (1437,)
    assert data.y_test.shape == (360,)
    assert data.shape == (8, 8)
    assert data.classes == tuple("0123456789")
    assert data.outputs == 10
    assert data.task == "classify"


def test_digits_are_pixels_from_0_to_1():
    data = datasets.load("digits")
    for x in (data.x, data.x_test):
        assert x.dtype == np.float32
        assert x.min() == 0
        assert x.max() == 1


def test_digits_are_those_of_scikit_learn_in_another_order():
    sklearn = pytest.importorskip("sklearn.datasets")
    theirs = sklearn.load_digits()
    data = datasets.load("digits")
    x = np.concatenate([data.x, data.x_test]) * 16
    y = np.concatenate([data.y, data.y_test])

    def rows(x, y):
        return sorted((*map(int, row), int(label)) for row, label in zip(x, y, strict=True))

    assert rows(x, y) == rows(theirs.data, theirs.target)


def test_every_digit_is_in_both_parts():
    data = datasets.load("digits")
    assert np.bincount(data.y).min() > 100
    assert np.bincount(data.y_test).min() > 20


def test_digits_are_the_same_at_every_load():
    first, second = datasets.load("digits"), datasets.load("digits", seed=5)
    for name in ("x", "y", "x_test", "y_test"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize("n", [4, 5, 200, 201])
def test_moons_without_noise_are_those_of_scikit_learn(n):
    sklearn = pytest.importorskip("sklearn.datasets")
    x, y = sklearn.make_moons(n, shuffle=False, noise=None)
    ours = moons.read(n, 0.0)
    np.testing.assert_allclose(ours.x, x, atol=1e-12)
    np.testing.assert_array_equal(ours.y, y)


def test_moons_keep_a_fifth_for_testing_half_of_it_from_each_moon():
    data = datasets.load("moons", n=200)
    assert data.x.shape == (160, 2)
    assert data.x_test.shape == (40, 2)
    np.testing.assert_array_equal(np.bincount(data.y_test), [20, 20])


def test_moons_noise_has_the_deviation_asked_for():
    clean, noisy = moons.read(20_000, 0.0), moons.read(20_000, 0.3)
    assert (noisy.x - clean.x).std() == pytest.approx(0.3, rel=0.02)
    assert (noisy.x - clean.x).mean() == pytest.approx(0, abs=0.01)


def test_moons_depend_on_the_seed_alone():
    np.testing.assert_array_equal(moons.read(seed=1).x, moons.read(seed=1).x)
    assert not np.array_equal(moons.read(seed=1).x, moons.read(seed=2).x)


@pytest.mark.promise("bad data")
@pytest.mark.parametrize(
    ("option", "value", "takes"),
    [
        ("n", 3, "a whole number, 4 or more"),
        ("n", -1, "a whole number, 4 or more"),
        ("n", 10.0, "a whole number"),
        ("n", True, "a whole number"),
        ("noise", -0.1, "a finite number, 0 or more"),
        ("noise", np.nan, "a finite number"),
        ("noise", "0.1", "a finite number"),
        ("seed", -1, "a whole number, 0 or more"),
        ("seed", 1.5, "a whole number"),
        ("seed", None, "a whole number"),
        ("test_share", 1.5, r"a number in \[0, 1\]"),
        ("test_share", "half", "a number"),
        ("target", 4, "a string, or None"),
        ("data_dir", 5, "a string or a path, or None"),
        ("like", "model.safetensors", "a model's metadata, a dict"),
        ("name_or_path", 5, "a string, a path or a DataFrame"),
        ("name_or_path", b"moons", "a string, a path or a DataFrame"),
    ],
)
def test_an_option_of_the_wrong_kind_is_one_line_that_names_it(option, value, takes):
    with pytest.raises(InputError, match=f"^{option} must be {takes}.*, not {value!r}$") as error:
        datasets.load(**{"name_or_path": "moons", option: value})
    one_line(error)


def test_numpys_numbers_are_taken_for_pythons():
    data = datasets.load("moons", n=np.int64(20), noise=np.float32(0), seed=np.uint8(1))
    assert len(data.x) + len(data.x_test) == 20


@pytest.mark.parametrize("option", ["task", "preprocess"])
@pytest.mark.parametrize("value", [5, True, ["pca"]])
def test_a_name_of_the_wrong_kind_is_refused(option, value):
    with pytest.raises(InputError, match=r"unknown (task|preprocessing) .*known are "):
        datasets.load("moons", **{option: value})


@pytest.mark.parametrize(("option", "value"), [("count", 0), ("like", None), ("data_dir", 5)])
def test_options_of_load_features_are_checked_too(option, value):
    with pytest.raises(InputError, match=f"^{option} must be "):
        datasets.load_features("moons", **{"like": {}, option: value})


@pytest.mark.parametrize(
    ("name", "nearest"), [("digitz", "digits"), ("moon", "moons"), ("MNIST", "mnist")]
)
def test_an_unknown_name_is_told_the_nearest(name, nearest):
    with pytest.raises(InputError, match=f"{name}.*did you mean '{nearest}'"):
        datasets.load(name)


@pytest.mark.promise("bad data")
@pytest.mark.parametrize("name", ["nowhere.csv", "nowhere.npz", "nowhere.txt", "no/where"])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(DataError, match=re.escape(str(tmp_path / name))):
        datasets.load(tmp_path / name)


def test_a_file_of_another_kind_is_told_which_are_read(tmp_path):
    (tmp_path / "data.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"\.csv, .*\.parquet, \.npz, .* and \.zarr, not .\.xlsx"):
        datasets.load(tmp_path / "data.xlsx")


# --- the IDX format


def idx_bytes(array) -> bytes:
    array = np.asarray(array, dtype=np.uint8)
    shape = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + shape + array.tobytes()


IMAGES = RNG.integers(0, 256, (2, 3, 4))
LABELS = np.array([3, 1, 4, 1, 5])


@pytest.mark.parametrize("array", [IMAGES, LABELS], ids=["images", "labels"])
@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
def test_idx_is_read_back(tmp_path, array, zipped):
    path = tmp_path / ("file.gz" if zipped else "file")
    path.write_bytes(gzip.compress(idx_bytes(array)) if zipped else idx_bytes(array))
    read = idx.read(path, array.ndim)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, array)


@pytest.mark.promise("bad data")
@pytest.mark.parametrize("array", [IMAGES, LABELS], ids=["images", "labels"])
@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
def test_idx_truncated_at_any_byte_is_refused(tmp_path, array, zipped):
    path = tmp_path / ("file.gz" if zipped else "file")
    whole = gzip.compress(idx_bytes(array)) if zipped else idx_bytes(array)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=re.escape(str(path))) as error:
            idx.read(path, array.ndim)
        one_line(error)


@pytest.mark.promise("bad data")
@pytest.mark.parametrize("array", [IMAGES, LABELS], ids=["images", "labels"])
def test_idx_with_any_bit_of_its_header_flipped_is_refused(tmp_path, array):
    path = tmp_path / "file"
    whole = idx_bytes(array)
    for bit in range(8 * (4 + 4 * array.ndim)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=re.escape(str(path))):
            idx.read(path, array.ndim)


@pytest.mark.promise("bad data")
def test_gzipped_idx_with_any_bit_flipped_is_refused_or_unharmed(tmp_path):
    path = tmp_path / "file.gz"
    whole = gzip.compress(idx_bytes(IMAGES), mtime=0)
    refused = 0
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            np.testing.assert_array_equal(idx.read(path, 3), IMAGES)
        except DataError:
            refused += 1
    assert refused > 4 * len(whole)  # all but a few fields of gzip's own header matter


@pytest.mark.promise("bad data")
@pytest.mark.parametrize("magic", [b"\x93NUM", b"\0\0\x0d\x03", b"PK\x03\x04", b"\0\0\0\0", b"{}"])
def test_idx_with_a_wrong_magic_number_is_refused(tmp_path, magic):
    path = tmp_path / "file"
    path.write_bytes(magic + idx_bytes(IMAGES)[4:])
    with pytest.raises(DataError, match=f"{re.escape(str(path))}.*not an IDX file"):
        idx.read(path, 3)


@pytest.mark.promise("bad data")
def test_idx_with_bytes_left_over_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(idx_bytes(IMAGES) + b"\0")
    with pytest.raises(DataError, match="more bytes"):
        idx.read(path, 3)


def test_a_gzip_file_without_the_suffix_is_told_its_name(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(idx_bytes(IMAGES)))
    with pytest.raises(DataError, match=r"rename it to file\.gz"):
        idx.read(path, 3)


def test_a_plain_file_with_the_gzip_suffix_is_refused(tmp_path):
    path = tmp_path / "file.gz"
    path.write_bytes(idx_bytes(IMAGES))
    with pytest.raises(DataError, match="not gzipped"):
        idx.read(path, 3)


@pytest.mark.promise("memory")
@pytest.mark.parametrize("dimensions", [1, 3])
@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
def test_a_header_that_declares_terabytes_fails_fast_and_small(tmp_path, zipped, dimensions):
    path = tmp_path / ("file.gz" if zipped else "file")
    content = bytes([0, 0, 8, dimensions]) + b"\xff\xff\xff\xff" * dimensions + b"\0" * 100
    path.write_bytes(gzip.compress(content) if zipped else content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    with pytest.raises(DataError, match="fewer bytes than the"):
        idx.read(path, dimensions)
    assert time.perf_counter() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kilobytes


# --- MNIST: folders


def mnist_arrays(training=12, test=5, ink=200):
    """Four small arrays as MNIST has them; `ink` tells one set from another."""
    images = np.zeros((training + test, 28, 28), dtype=np.uint8)
    images[:, 10:20, 10:20] = ink
    labels = np.arange(training + test) % 10
    return images[:training], labels[:training], images[training:], labels[training:]


def write_mnist(folder, arrays=None, zipped=True):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(mnist.FILES, arrays or mnist_arrays(), strict=True):
        content = idx_bytes(array)
        path = folder / (f"{name}.gz" if zipped else name)
        path.write_bytes(gzip.compress(content, mtime=0) if zipped else content)
    return folder


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """No set on this machine and no network: every place that is looked in is under tmp_path."""
    monkeypatch.delenv("NNXP_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setenv("NO_PROXY", "*")
    change_source(
        monkeypatch, debian=tmp_path / "debian" / "mnist", mirrors=("http://127.0.0.1:9/",)
    )
    return tmp_path


def change_source(monkeypatch, **changes):
    changed = dataclasses.replace(mnist.SETS["mnist"], **changes)
    monkeypatch.setitem(mnist.SETS, "mnist", changed)


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
def test_mnist_files_are_read_and_scaled(alone, zipped):
    arrays = mnist_arrays()
    write_mnist(alone / "data" / "mnist", arrays, zipped)
    data = datasets.load("mnist", alone / "data")
    np.testing.assert_array_equal(data.x, arrays[0].reshape(12, 784) / np.float32(255))
    np.testing.assert_array_equal(data.y, arrays[1])
    np.testing.assert_array_equal(data.x_test, arrays[2].reshape(5, 784) / np.float32(255))
    np.testing.assert_array_equal(data.y_test, arrays[3])
    assert data.shape == (28, 28)
    assert data.classes == tuple("0123456789")


def test_folders_are_searched_in_the_order_promised(alone, monkeypatch):
    places = {
        1: alone / "argument" / "mnist",
        2: alone / "environment" / "mnist",
        3: alone / "debian" / "mnist",
        4: alone / "cache" / "nnxp" / "mnist",
    }
    hashes = []
    for ink, folder in places.items():
        write_mnist(folder, mnist_arrays(ink=ink))
        hashes = [
            hashlib.sha256((folder / f"{name}.gz").read_bytes()).hexdigest() for name in mnist.FILES
        ]
    change_source(monkeypatch, hashes=tuple(f"sha256:{digest}" for digest in hashes))
    monkeypatch.setenv("NNXP_DATA_DIR", str(alone / "environment"))
    for ink, folder in places.items():
        data = datasets.load("mnist", alone / "argument")
        assert round(data.x.max() * 255) == ink
        for file in folder.iterdir():
            file.unlink()
    with pytest.raises(DataError, match="no network"):
        datasets.load("mnist", alone / "argument")


def test_a_data_folder_without_the_set_does_not_hide_the_next(alone, monkeypatch):
    (alone / "empty").mkdir()
    write_mnist(alone / "environment" / "mnist")
    monkeypatch.setenv("NNXP_DATA_DIR", str(alone / "environment"))
    assert len(datasets.load("mnist", alone / "empty").x) == 12


def test_fashion_mnist_has_a_folder_and_classes_of_its_own(alone):
    write_mnist(alone / "data" / "fashion-mnist")
    data = datasets.load("fashion-mnist", alone / "data")
    assert len(data.x) == 12
    assert data.classes[0] == "T-shirt/top"
    assert data.classes[9] == "Ankle boot"


def test_a_data_folder_that_does_not_exist_is_named(alone):
    with pytest.raises(DataError, match=r"nowhere.*no such folder"):
        datasets.load("mnist", alone / "nowhere")


@pytest.mark.promise("bad data")
@pytest.mark.parametrize("missing", mnist.FILES)
def test_a_set_with_a_file_missing_names_it(alone, missing):
    folder = write_mnist(alone / "data" / "mnist")
    (folder / f"{missing}.gz").unlink()
    with pytest.raises(DataError, match=f"{re.escape(str(folder))}.*{missing}"):
        datasets.load("mnist", alone / "data")


def swapped(x, y, x_test, y_test):
    return y, x, y_test, x_test


def fewer_labels(x, y, x_test, y_test):
    return x, y[:-1], x_test, y_test


def fewer_test_images(x, y, x_test, y_test):
    return x, y, x_test[:-1], y_test


def label_10(x, y, x_test, y_test):
    return x, np.where(np.arange(len(y)) == 4, 10, y), x_test, y_test


def test_label_255(x, y, x_test, y_test):
    return x, y, x_test, np.where(np.arange(len(y_test)) == 2, 255, y_test)


test_label_255.__test__ = False


def smaller_images(x, y, x_test, y_test):
    return x[:, :27], y, x_test, y_test


def no_images(x, y, x_test, y_test):
    return x[:0], y[:0], x_test, y_test


@pytest.mark.promise("bad data")
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (swapped, r"train-images.*1 dimensions, not 3.*changed places"),
        (fewer_labels, r"train-images\S* has 12 images, .*train-labels\S* has 11 labels"),
        (fewer_test_images, r"t10k-images\S* has 4 images, .*t10k-labels\S* has 5 labels"),
        (label_10, r"train-labels.*label 4 is 10, not 0 to 9"),
        (test_label_255, r"t10k-labels.*label 2 is 255, not 0 to 9"),
        (smaller_images, r"train-images.*27x28, not 28x28"),
        (no_images, r"train-images.*no images"),
    ],
)
def test_mnist_files_that_do_not_fit_are_refused(alone, damage, message):
    write_mnist(alone / "data" / "mnist", damage(*mnist_arrays()))
    with pytest.raises(DataError, match=message) as error:
        datasets.load("mnist", alone / "data")
    one_line(error)


@pytest.mark.promise("bad data")
def test_no_labels_file_outside_0_to_9_trains_silently_as_a_class(alone):
    x, y, x_test, y_test = mnist_arrays()
    for label in (10, 11, 128, 255):
        write_mnist(alone / "data" / "mnist", (x, np.append(y[:-1], label), x_test, y_test))
        with pytest.raises(DataError, match=str(label)):
            datasets.load("mnist", alone / "data")


# --- MNIST: download


class Mirror:
    """A web server on this machine: `answers` maps a file's path to its content."""

    def __init__(self):
        self.answers: dict[str, bytes] = {}
        self.requests: list[str] = []
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                mirror.requests.append(self.path)
                content = mirror.answers.get(self.path)
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def mirror(alone, monkeypatch):
    """A good mirror at /good/ whose hashes nnxp knows; nnxp asks /broken/ first."""
    served = Mirror()
    hashes = []
    for name, array in zip(mnist.FILES, mnist_arrays(), strict=True):
        content = gzip.compress(idx_bytes(array), mtime=0)
        served.answers[f"/good/{name}.gz"] = content
        hashes.append(f"sha256:{hashlib.sha256(content).hexdigest()}")
    change_source(
        monkeypatch, mirrors=(f"{served.url}/broken/", f"{served.url}/good/"), hashes=tuple(hashes)
    )
    # pooch leaves it to the garbage collector to close an answer that was refused, which is a
    # ResourceWarning: let it be collected here and nowhere else.
    gc.disable()
    yield served
    served.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    gc.enable()


def test_what_no_folder_has_comes_from_the_first_mirror_that_works(mirror):
    data = datasets.load("mnist")
    np.testing.assert_array_equal(data.y_test, mnist_arrays()[3])
    for name in mnist.FILES:
        assert mirror.requests.count(f"/good/{name}.gz") == 1


def test_a_mirror_that_is_not_there_is_passed_over(mirror, monkeypatch):
    change_source(monkeypatch, mirrors=("http://127.0.0.1:9/", f"{mirror.url}/good/"))
    assert len(datasets.load("mnist").x) == 12


def test_a_mirror_with_other_content_is_passed_over(mirror):
    for name in mnist.FILES:
        mirror.answers[f"/broken/{name}.gz"] = gzip.compress(b"something else")
    np.testing.assert_array_equal(datasets.load("mnist").y, mnist_arrays()[1])


def test_the_second_load_takes_the_cache(mirror):
    first = datasets.load("mnist")
    mirror.requests.clear()
    second = datasets.load("mnist")
    assert mirror.requests == []
    np.testing.assert_array_equal(first.x, second.x)


def test_a_damaged_file_in_the_cache_is_fetched_anew(mirror, alone):
    datasets.load("mnist")
    cached = alone / "cache" / "nnxp" / "mnist" / f"{mnist.FILES[1]}.gz"
    cached.write_bytes(cached.read_bytes()[:-3])
    mirror.requests.clear()
    np.testing.assert_array_equal(datasets.load("mnist").y, mnist_arrays()[1])
    assert set(mirror.requests) <= {f"/{m}/{mnist.FILES[1]}.gz" for m in ("broken", "good")}


def test_a_download_with_a_wrong_hash_is_refused_and_not_kept(mirror, alone):
    name = f"{mnist.FILES[0]}.gz"
    mirror.answers[f"/good/{name}"] = gzip.compress(idx_bytes(mnist_arrays(ink=99)[0]), mtime=0)
    with pytest.raises(DataError, match=f"cannot download {name}.*hash.*--data-dir") as error:
        datasets.load("mnist")
    one_line(error)
    assert not list((alone / "cache").rglob(name))


def test_a_download_cut_short_is_refused(mirror):
    name = f"/good/{mnist.FILES[3]}.gz"
    mirror.answers[name] = mirror.answers[name][:-1]
    with pytest.raises(DataError, match="cannot download t10k-labels") as error:
        datasets.load("mnist")
    one_line(error)


def test_a_mirror_without_the_file_is_told_with_its_answer(mirror):
    mirror.answers.clear()
    with pytest.raises(DataError, match=r"cannot download train-images.*404.*--data-dir"):
        datasets.load("mnist")


def test_without_network_one_line_says_what_to_do(alone, capfd):
    with pytest.raises(
        DataError, match=r"mnist: cannot download .*no network.*--data-dir or NNXP_DATA_DIR"
    ) as error:
        datasets.load("mnist")
    one_line(error)
    assert capfd.readouterr() == ("", "")


def test_a_cache_that_cannot_be_made_is_one_data_error(mirror, alone):
    (alone / "cache").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"mnist: cannot download .*--data-dir") as error:
        datasets.load("mnist")
    one_line(error)


def test_a_file_that_the_user_placed_need_not_have_the_mirrors_hash(alone):
    write_mnist(alone / "data" / "mnist", mnist_arrays(training=20))
    assert len(datasets.load("mnist", alone / "data").x) == 20


def test_the_hashes_of_mnist_are_those_of_the_original_files():
    assert mnist.SETS["mnist"].hashes == (
        "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    )
    assert all(len(source.mirrors) >= 2 for source in mnist.SETS.values())


# --- csv

GOOD = "a,b,y\n1,2,u\n3,4,v\n5,6,u\n7,8,v\n"


def load_csv(tmp_path, content, **options):
    path = tmp_path / "data.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return datasets.load(path, **options)


def rows_of(data):
    """Features and class names, training and test part together, sorted."""
    x = np.concatenate([data.x, data.x_test])
    names = [data.classes[i] for i in np.concatenate([data.y, data.y_test])]
    return sorted((*map(float, row), name) for row, name in zip(x, names, strict=True))


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        GOOD.encode("utf-8-sig"),
        GOOD.replace("\n", "\r\n"),
        GOOD.rstrip("\n"),
        GOOD.replace("\n", "\n\n"),
        GOOD.replace(",", " , "),
        GOOD.replace("a,b,y", '"a","b","y"').replace(",u", ',"u"'),
        GOOD.replace("1,2", "1.0,+2e0"),
        GOOD.replace("1,2", '"1","2"'),
    ],
    ids=["plain", "bom", "crlf", "no-last-newline", "blank-lines", "spaces", "quotes", "floats",
         "quoted-numbers"],
)  # fmt: skip
def test_csv_is_read_however_it_is_written(tmp_path, content):
    data = load_csv(tmp_path, content, preprocess="none")
    assert rows_of(data) == [(1, 2, "u"), (3, 4, "v"), (5, 6, "u"), (7, 8, "v")]
    assert data.classes == ("u", "v")
    assert data.features == ("a", "b")
    assert data.target == "y"


def test_csv_quotes_may_hold_commas_quotes_and_letters_of_any_script(tmp_path):
    text = 'a,"b, of ""it""",größe\n1,2,"x, y"\n3,4,д\n5,6,"x, y"\n7,8,д\n'
    data = load_csv(tmp_path, text)
    assert data.features == ("a", 'b, of "it"')
    assert data.target == "größe"
    assert set(data.classes) == {"x, y", "д"}


BAD_CSV = {
    "empty": ("", "is empty"),
    "one newline": ("\n", "is empty"),
    "header only": ("a,b,y\n", "no rows"),
    "header and blank lines": ("a,b,y\n\n\n", "no rows"),
    "header of numbers": ("1,2,3\n4,5,6\n", ":1: all numbers"),
    "one column": ("y\n1\n2\n", ":1: one column"),
    "spaces": ("a b y\n1 2 u\n", ":1: one column"),
    "two delimiters": ("a,b;c,d\n1,2;3,4\n", ":1: its delimiter may be comma or semicolon"),
    "two columns of one name": ("a,a,y\n1,2,u\n", ":1: .*'a'"),
    "feature called as the target": ("a,y,y\n1,2,u\n", ":1: .*'y'"),
    "row too short": ("a,b,y\n1,2,u\n3,v\n", ":3: 2 fields.* 3"),
    "row too long": ("a,b,y\n1,2,u,9\n3,4,v\n", ":2: 4 fields.* 3"),
    "row too long after blank lines": ("a,b,y\n\n\n1,2,u,9\n", ":4: 4 fields"),
    "decimal comma": ("a,b,y\n1,5,2,u\n", ":2: 4 fields"),
    "quoted decimal comma": ('a,b,y\n"1,5",2,u\n', ":2: 'a' is '1,5'"),
    "text in a number column": ("a,b,y\n1,2,u\n3,abc,v\n", ":3: 'b' is 'abc'"),
    "number with a unit": ("a,b,y\n1,2kg,u\n", ":2: 'b' is '2kg'"),
    "per cent": ("a,b,y\n5%,2,u\n", ":2: 'a' is '5%'"),
    "two points": ("a,b,y\n1.2.3,2,u\n", ":2: 'a' is '1.2.3'"),
    "hexadecimal": ("a,b,y\n0x10,2,u\n", ":2: 'a' is '0x10'"),
    "underscore": ("a,b,y\n1_000,2,u\n", ":2: 'a' is '1_000'"),
    "complex": ("a,b,y\n1j,2,u\n", ":2: 'a' is '1j'"),
    "empty cell": ("a,b,y\n1,2,u\n,4,v\n", ":3: 'a' is empty"),
    "cell of spaces": ("a,b,y\n1,  ,u\n", ":2: 'b' is empty"),
    "empty target": ("a,b,y\n1,2,u\n3,4,\n", ":3: 'y' is empty"),
    "nan": ("a,b,y\n1,2,u\n3,nan,v\n", ":3: 'b' is '?nan"),
    "NaN": ("a,b,y\n1,NaN,u\n", ":2: 'b' is '?NaN"),
    "-nan": ("a,b,y\n1,-nan,u\n", ":2: 'b' is '?-nan"),
    "NA": ("a,b,y\n1,NA,u\n", ":2: 'b' is 'NA'"),
    "inf": ("a,b,y\ninf,2,u\n", ":2: 'a' is '?inf"),
    "-Infinity": ("a,b,y\n-Infinity,2,u\n", ":2: 'a' is '?-Infinity"),
    "1e999": ("a,b,y\n1,1e999,u\n", ":2: 'b' is '?1e999"),
    "1e39, beyond float32": ("a,b,y\n1,1e39,u\n2,3,v\n4,5,u\n6,7,v\n", "1e\\+?39"),
    "nan among real targets": ("a,y\n1,0.5\n2,nan\n3,1.5\n", ":3: .*nan"),
    "inf among real targets": ("a,y\n1,0.5\n2,1.5\n3,inf\n", ":4: .*inf"),
    "1e999 among real targets": ("a,y\n1,0.5\n2,1e999\n3,1.5\n", ":3: .*1e999"),
    "quote never closed": ('a,b,y\n1,2,u\n3,"4,v\n5,6,u\n', ":[34]: "),
    "text after a quote": ('a,b,y\n"1"x,2,u\n', ":2: "),
    "NUL": ("a,b,y\n1,2,u\n3,\0,v\n", ":3: .*NUL"),
    "binary": (bytes(range(256)), "UTF-8|NUL"),
    "Latin-1": ("a,b,y\n1,2,größe\n".encode("latin-1"), "UTF-8"),
    "UTF-16": (GOOD.encode("utf-16"), "UTF-8"),
    "one class only": ("a,b,y\n1,2,u\n3,4,u\n5,6,u\n", "one class, 'u'"),
    "one number as class only": ("a,b,y\n1,2,0\n3,4,0\n5,6,0\n", "one class, '0'"),
    "one row": ("a,b,y\n1,2,u\n", "one class"),
    "byte order mark only": ("\ufeff", "is empty"),
    "byte order mark within": ("a,b,y\n1,2,u\n\ufeff3,4,v\n", r":3: 'a' is '\\ufeff3'"),
    "UTF-32": (GOOD.encode("utf-32"), ":1: not UTF-8"),
    "UTF-16 without a mark": (GOOD.encode("utf-16-le"), ":1: .*NUL"),
    "surrogate": (b"a,b,y\n1,2,\xed\xa0\x80\n", ":2: not UTF-8"),
    "overlong UTF-8": (b"a,b,y\n1,2,\xc0\x80\n", ":2: not UTF-8"),
    "UTF-8 cut": ("a,b,y\n1,2,ö".encode()[:-1], ":2: not UTF-8"),
    "carriage returns only": (GOOD.replace("\n", "\r"), ":1: a carriage return without"),
    "carriage return in a field": ("a,b,y\n1\r,2,u\n", ":2: a carriage return without"),
    "row too short, CRLF": ("a,b,y\r\n1,2,u\r\n3,v\r\n", ":3: 2 fields"),
    "stray quote": ('a,b,y\n1"2,3,u\n', ":2: 'a' is '1\"2'"),
    "backslash before a quote": ('a,b,y\n"1\\\\"",2,u\n3,4,v\n', ":3: a quote is never closed"),
    "quote at the end": ('a,b,y\n1,2,u\n3,4,"\n', ":3: a quote is never closed"),
    "quote never closed in the header": ('a,"b,y\n1,2,u\n', ":2: a quote is never closed"),
    "text after a quote in the header": ('a,"b"x,y\n1,2,u\n', ":1: "),
    "empty names": (",,\n1,2,u\n", ":1: two columns are called ''"),
    "NUL in the header": ("a,\0,y\n1,2,u\n", ":1: .*NUL"),
    "NULs at the end": (GOOD + "\0\0\0", ":6: .*NUL"),
    "end-of-file character": (GOOD + "\x1a", ":6: 1 fields"),
    "semicolons, row too short": ("a;b;y\n1;2;u\n3;v\n", ":3: 2 fields"),
    "tabs, row too long": ("a\tb\ty\n1\t2\tu\t5\n3\t4\tv\n", ":2: 4 fields"),
    "thousands": ('a,b,y\n"1,000",2,u\n', ":2: 'a' is '1,000'"),
    "date": ("a,b,y\n2024-01-31,2,u\n", ":2: 'a' is '2024-01-31'"),
    "truth": ("a,b,y\ntrue,2,u\n", ":2: 'a' is 'true'"),
    "minus sign of typographers": ("a,b,y\n\u22121,2,u\n", ":2: 'a' is '\u22121'"),
    "superscript": ("a,b,y\n1\u00b2,2,u\n", ":2: 'a' is '1\u00b2'"),
    "currency": ("a,b,y\n$5,2,u\n", r":2: 'a' is '\$5'"),
    "parentheses": ("a,b,y\n(5),2,u\n", r":2: 'a' is '\(5\)'"),
    "exponent without digits": ("a,b,y\n1e,2,u\n", ":2: 'a' is '1e'"),
    "two signs": ("a,b,y\n--1,2,u\n", ":2: 'a' is '--1'"),
    "two numbers": ("a,b,y\n1 2,3,u\n", ":2: 'a' is '1 2'"),
    "point alone": ("a,b,y\n.,2,u\n", r":2: 'a' is '\.'"),
    "null": ("a,b,y\nnull,2,u\n", ":2: 'a' is 'null'"),
    "question mark": ("a,b,y\n?,2,u\n", r":2: 'a' is '\?'"),
    "-1e999": ("a,b,y\n1,-1e999,u\n", ":2: 'b' is '?-1e999"),
    "400 digits": (f"a,b,y\n{'9' * 400},2,u\n", ":2: 'a' is '999"),
    "escape sequence": ("a,b,y\n\x1b[31m1,2,u\n", r":2: 'a' is '\\x1b"),
    "formula": ("a,b,y\n=1+2,2,u\n", r":2: 'a' is '=1\+2'"),
    "error of a spreadsheet": ("a,b,y\n#DIV/0!,2,u\n", ":2: 'a' is '#DIV/0!'"),
    "comment above": ("# made by hand\na,b,y\n1,2,u\n", ":1: one column"),
    "header again": ("a,b,y\n1,2,u\na,b,y\n3,4,v\n", ":3: 'a' is 'a'"),
    "total below": ("a,b,y\n1,2,u\n3,4,v\ntotal,,\n", ":4: 'a' is 'total'"),
    "index without a name": ("a,b,y\n0,1,2,u\n1,3,4,v\n", ":2: 4 fields"),
    "spreadsheet's sep": ("sep=,\na,b,y\n1,2,u\n", ":2: 3 fields"),
    "two tables": ("a,b,y\n1,2,u\n\nc,d\n3,4\n", ":4: 2 fields"),
    "conflict of git": ("a,b,y\n<<<<<<< HEAD\n1,2,u\n", ":2: 1 fields"),
    "gzip": (gzip.compress(GOOD.encode(), mtime=0), ":1: not UTF-8"),
    "zip": (b"PK\x03\x04" + bytes(50), ":1: .*NUL"),
    "HTML": ("<html>\n<body>1,2</body>\n</html>\n", ":1: one column"),
    "JSON": ('{"a": [1, 2], "y": ["u", "v"]}\n', "no rows"),
}


@pytest.mark.promise("bad data")
@pytest.mark.parametrize("case", BAD_CSV)
def test_a_bad_csv_is_refused_with_the_place(tmp_path, case):
    content, message = BAD_CSV[case]
    separator = "" if message.startswith(":") else ".*"
    with pytest.raises(DataError, match=rf"data\.csv{separator}{message}") as error:
        load_csv(tmp_path, content, preprocess="none")
    one_line(error)


@pytest.mark.promise("bad data")
def test_a_bad_csv_ends_the_command_with_status_2_and_a_line(tmp_path, cases):
    for case, (content, message) in BAD_CSV.items():
        (tmp_path / "data.csv").write_bytes(content if type(content) is bytes else content.encode())
        with cases(case):
            line = fail(tmp_path, "train", "data.csv", "--preprocess", "none")
            assert re.match(r"nnxp: data\.csv:", line)
            if line_number := re.match(r":\[?(\d+)", message):
                assert re.match(rf"nnxp: data\.csv:[{line_number[1]}]: ", line)
            assert os.listdir(tmp_path) == ["data.csv"]
    assert cases.tried > 90


@pytest.mark.promise("bad data")
def test_a_csv_field_of_a_megabyte_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"data\.csv:3: ") as error:
        load_csv(tmp_path, f"a,b,y\n1,2,u\n3,{'9' * 2**20},v\n")
    assert len(one_line(error)) < 500


@pytest.mark.promise("bad data")
def test_a_csv_line_of_20_megabytes_is_refused_fast(tmp_path):
    start = time.perf_counter()
    with pytest.raises(DataError, match=r"data\.csv:2: longer than"):
        load_csv(tmp_path, "a,b,y\n" + "1" * 20_000_000)
    assert time.perf_counter() - start < 2


LOAD_AND_MEASURE = """
import resource, sys, time
from nnxp import datasets
from nnxp.errors import DataError
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
start = time.process_time()
try:
    datasets.load(sys.argv[1])
except DataError as error:
    print(error)
assert time.process_time() - start < 5
# Of this process: getrusage counts what the process had that started this one.
(peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
assert int(peak) < 400_000, peak  # kilobytes
"""


@pytest.mark.promise("memory")
@pytest.mark.parametrize(
    ("start", "line"), [(b"", 1), (b"a,b,y\n", 2), (b"a,b,y\n" + b"1,2,u\n" * 10**6, 10**6 + 2)]
)
@pytest.mark.slow
def test_a_csv_line_of_a_gigabyte_is_refused_in_little_memory(tmp_path, start, line):
    path = tmp_path / "data.csv"
    with path.open("wb") as file:
        file.write(start)
        for _ in range(1024):
            file.write(b"1" * 2**20)
    done = python(LOAD_AND_MEASURE, path)
    path.unlink()
    assert done.stderr == ""
    assert f"data.csv:{line}: longer than 16,777,216 bytes" in done.stdout


@pytest.mark.promise("bad data")
def test_a_csv_that_is_cut_while_it_is_read_does_not_end_the_process(tmp_path):
    """A mapped file would: by SIGBUS."""
    path = tmp_path / "data.csv"
    path.write_text("a,b,y\n" + "1,2,u\n3,4,v\n" * 200_000)
    table = CsvFile(path)
    path.write_text("")
    assert len(table.read(["a"], ())["a"]) == 400_000


def test_a_header_of_50_000_columns_is_read_in_seconds(tmp_path):
    header = ",".join(f"c{i}" for i in range(50_000))
    rows = "".join("1," * 49_999 + f"{label}\n" for label in "uvuv")
    start = time.perf_counter()
    assert load_csv(tmp_path, f"{header}\n{rows}").x.shape[1] == 49_999
    assert time.perf_counter() - start < 5


@pytest.mark.promise("bad data")
@pytest.mark.parametrize("rows", [3, 5000])
def test_what_is_not_utf8_is_found_at_its_byte(tmp_path, rows):
    before = b"a,b,y\n" + b"1,2,uuuuuu\n" * rows + b"1,2,gr"
    with pytest.raises(DataError, match=rf"byte {len(before)}\b|:{rows + 2}:"):
        load_csv(tmp_path, before + "öße\n".encode("latin-1"))


@pytest.mark.promise("bad data")
def test_a_folder_called_csv_is_refused(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match=r"folder\.csv"):
        datasets.load(tmp_path / "folder.csv")


@pytest.mark.parametrize(
    ("column", "task", "classes"),
    [
        ("u v u v", "classify", ("u", "v")),
        ("1 0 1 0", "classify", ("0", "1")),
        ("1.0 2.0 1.0 2.0", "classify", ("1", "2")),
        ("yes 1 yes 1", "classify", ("1", "yes")),
        ("0.5 1.5 2 3", "regress", None),
    ],
)
def test_text_and_whole_numbers_are_classes_and_real_numbers_are_not(
    tmp_path, column, task, classes
):
    rows = "".join(f"{i},{value}\n" for i, value in enumerate(column.split()))
    data = load_csv(tmp_path, f"a,y\n{rows}")
    assert data.task == task
    assert data.classes == classes


YEARS = np.arange(1950, 2020)


@pytest.mark.parametrize(
    ("y", "task"),
    [
        (np.arange(1797) % 10, "classify"),  # digits
        (np.repeat([0, 1, 2], 50), "classify"),  # iris
        (np.resize([-1, 1], 30), "classify"),
        ([0, 1, 1], "classify"),
        ([7, 1000], "classify"),
        (np.resize([True, False], 9), "classify"),
        (np.resize(np.arange(3, 9), 1599), "classify"),  # marks of wine
        (np.resize(YEARS, 1000), "regress"),
        (RNG.integers(1000, 9000, 400) * 100, "regress"),  # prices
        (RNG.poisson(100, 5000), "regress"),  # counts
        (np.arange(1, 501), "regress"),  # numbers of rows
        ([100, 250, 180], "regress"),
        (np.repeat(np.arange(20), 2), "classify"),
        (np.repeat(np.arange(20), 2)[1:], "regress"),
        (np.repeat(np.arange(21), 50), "regress"),
        (np.resize([0.5, 1.5], 40), "regress"),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_whole_numbers_are_classes_if_few_and_recurring(tmp_path, y, task, kind):
    y = np.asarray(y)
    if kind == "csv":
        texts = [
            f"{i},{value}\n" for i, value in enumerate(y.astype(float) if y.dtype == bool else y)
        ]
        data = load_csv(tmp_path, "a,y\n" + "".join(texts))
    else:
        data = load_npz(tmp_path, {"x": np.arange(float(len(y)))[:, None], "y": y})
    assert data.task == task
    assert data.task_guessed
    told = {"classify": "regress", "regress": "classify"}[task]
    again = datasets.load(data.name, task=told)
    assert again.task == told
    assert not again.task_guessed


@pytest.mark.parametrize(
    ("y", "guessed"),
    [
        (np.array(list("uv" * 5)), False),
        (np.eye(2)[np.arange(10) % 2], True),
        (np.array([[0, 1, 1], [1, 0, 0]] * 5), True),
        (np.linspace(0, 1, 20).reshape(10, 2), False),
    ],
    ids=["text", "one-hot", "labels", "two reals"],
)
def test_it_is_a_guess_where_another_task_is_possible(tmp_path, y, guessed):
    assert load_npz(tmp_path, {"y": y}).task_guessed is guessed
    assert not datasets.load("digits").task_guessed


def test_a_word_among_amounts_does_not_make_them_classes(tmp_path):
    amounts = "".join(f"{i},{100 + 7 * i}\n" for i in range(30))
    text = f"a,y\n{amounts}30,n/a\n"
    with pytest.raises(DataError, match=r"data\.csv: target 30 is 'n/a', and most others") as error:
        load_csv(tmp_path, text)
    one_line(error)
    assert len(load_csv(tmp_path, text, task="classify").classes) == 31
    codes = "a,y\n" + "".join(f"{i},{['1', '2', '3', '4+'][i % 4]}\n" for i in range(40))
    assert load_csv(tmp_path, codes).classes == ("1", "2", "3", "4+")


def test_what_was_taken_for_granted_is_logged(tmp_path, caplog):
    caplog.set_level("INFO", "nnxp")
    rows = "".join(f"{i},{i % 8}\n" for i in range(24))
    load_csv(tmp_path, f"a,mark\n{rows}", test_share=0.75)
    path = tmp_path / "data.csv"
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: the first line is the header: a, mark",
        f"{path}: classify, 8 classes (guessed; see task)",
        f"{path}: 16 rows to test on, not 18: each class keeps a row to train on",
    ]
    caplog.clear()
    datasets.load("digits")
    assert not caplog.records


def test_the_first_line_is_in_the_data_set(tmp_path):
    """Data without a header loses a row, so it must be seen."""
    data = load_csv(tmp_path, "5.1,3.5,setosa\n4.9,3.0,setosa\n6.3,2.9,virginica\n")
    assert data.header == ("5.1", "3.5", "setosa")
    assert datasets.load("moons").header is None
    with pytest.raises(DataError, match=r"called '0.2': the first line must name them"):
        load_csv(tmp_path, "0.2,0.2,setosa\n4.9,3.0,setosa\n6.3,2.9,virginica\n")


def test_the_task_overrides_the_guess(tmp_path):
    text = "a,y\n1,1\n2,2\n3,3\n4,4\n5,5\n"
    assert load_csv(tmp_path, text, task="regress").task == "regress"
    real = "a,y\n1,0.5\n2,1.5\n3,0.5\n4,1.5\n"
    assert load_csv(tmp_path, real, task="classify").classes == ("0.5", "1.5")


@pytest.mark.parametrize("value", ["abc", "nan", "1e999", "inf"])
def test_regression_on_a_target_that_is_no_number_names_it(tmp_path, value):
    with pytest.raises(DataError, match=rf"data\.csv.*{value}"):
        load_csv(tmp_path, f"a,y\n1,0.5\n2,{value}\n3,1.5\n", task="regress")


def test_an_unknown_task_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"'regres'.*did you mean 'regress'"):
        load_csv(tmp_path, GOOD, task="regres")


def test_the_target_column_may_be_any(tmp_path):
    data = load_csv(tmp_path, "y,a,b\nu,1,2\nv,3,4\nu,5,6\nv,7,8\n", target="y", preprocess="none")
    assert rows_of(data) == [(1, 2, "u"), (3, 4, "v"), (5, 6, "u"), (7, 8, "v")]
    assert data.features == ("a", "b")


@pytest.mark.parametrize("target", ["z", "A"])
def test_a_target_column_that_is_not_there_is_named_with_those_that_are(tmp_path, target):
    with pytest.raises(DataError, match=rf"data\.csv:1: no column '{target}'; there are a, b, y"):
        load_csv(tmp_path, GOOD, target=target)


# --- npz


def arrays(**changes):
    good = {"x": np.arange(20.0).reshape(10, 2), "y": np.arange(10) % 2}
    return {name: array for name, array in (good | changes).items() if array is not None}


def load_npz(tmp_path, changes, **options):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays(**changes))
    return datasets.load(path, **options)


def test_npz_without_test_arrays_is_split(tmp_path):
    data = load_npz(tmp_path, {})
    assert data.x.shape == (8, 2)
    assert data.x_test.shape == (2, 2)


def test_npz_test_arrays_are_taken_as_they_are(tmp_path):
    x_test, y_test = np.ones((3, 2)), np.array([1, 0, 1])
    data = load_npz(tmp_path, {"x_test": x_test, "y_test": y_test}, preprocess="none")
    assert data.x.shape == (10, 2)
    np.testing.assert_array_equal(data.x_test, x_test)
    np.testing.assert_array_equal(data.y_test, y_test)


def test_npz_images_are_flattened_and_their_shape_kept(tmp_path):
    data = load_npz(tmp_path, {"x": np.arange(120).reshape(10, 3, 4)})
    assert data.x.shape == (8, 12)
    assert data.shape == (3, 4)


@pytest.mark.parametrize(
    ("y", "task", "outputs"),
    [
        (np.arange(10) % 3, "classify", 3),
        (np.array(list("uv" * 5)), "classify", 2),
        (np.eye(2)[np.arange(10) % 2], "classify", 2),
        (np.array([[0, 1, 1], [1, 0, 0]] * 5), "multilabel", 3),
        (np.linspace(0, 1, 10), "regress", 1),
        (np.linspace(0, 1, 20).reshape(10, 2), "regress", 2),
    ],
    ids=["integers", "text", "one-hot", "labels", "real", "two reals"],
)
def test_npz_targets_tell_the_task(tmp_path, y, task, outputs):
    data = load_npz(tmp_path, {"y": y})
    assert data.task == task
    assert data.outputs == outputs


WITH_NAN = np.where(np.arange(20).reshape(10, 2) == 7, np.nan, 1.0)
WITH_INF = np.where(np.arange(10) == 4, np.inf, 0.5)
OBJECTS = np.array([{"a": 1}] * 10, dtype=object)

BAD_NPZ = {
    "no x": ({"x": None}, "no array 'x'"),
    "no y": ({"y": None}, "no array 'y'"),
    "x_test alone": ({"x_test": np.ones((2, 2))}, "x_test and y_test"),
    "y_test alone": ({"y_test": np.ones(2)}, "x_test and y_test"),
    "nan in x": ({"x": WITH_NAN}, r"x\[3, 1\] is nan"),
    "inf in y": ({"y": WITH_INF}, r"y\[4\] is inf"),
    "nan in x_test": ({"x_test": WITH_NAN, "y_test": np.arange(10) % 2}, r"x_test\[3, 1\] is nan"),
    "beyond float32": ({"x": np.full((10, 2), 1e39)}, "1e39|1e\\+39"),
    "fewer y": ({"y": np.arange(9) % 2}, "10 rows.* 9"),
    "fewer y_test": ({"x_test": np.ones((3, 2)), "y_test": np.ones(2)}, "3 rows.* 2"),
    "x_test of another width": (
        {"x_test": np.ones((3, 4)), "y_test": np.arange(3) % 2}, r"\(10, 2\).*\(3, 4\)",
    ),
    "x of one dimension": ({"x": np.arange(10.0)}, r"x is float64 \(10,\)"),
    "x a scalar": ({"x": np.float64(1)}, "x is float64"),
    "no rows": ({"x": np.ones((0, 2)), "y": np.ones(0)}, r"\(0, 2\)"),
    "no columns": ({"x": np.ones((10, 0))}, r"\(10, 0\)"),
    "x of text": ({"x": np.array([["a", "b"]] * 10)}, "x is <U1"),
    "x complex": ({"x": np.ones((10, 2)) * 1j}, "x is complex128"),
    "x of dates": ({"x": np.zeros((10, 2), "datetime64[s]")}, "x is datetime64"),
    "y of dates": ({"y": np.zeros(10, "datetime64[s]")}, "y is datetime64"),
    "y a scalar": ({"y": np.float64(1)}, "y is float64"),
    "y of three dimensions": ({"y": np.ones((10, 2, 2))}, r"y is float64 \(10, 2, 2\)"),
    "y without columns": ({"y": np.ones((10, 0))}, r"\(10, 0\)"),
    "y of text in two columns": ({"y": np.array([["a", "b"]] * 10)}, r"y.*\(10, 2\)"),
    "one class": ({"y": np.ones(10)}, "one class, '1'"),
    "one class, one-hot": ({"y": np.eye(2)[np.zeros(10, int)]}, "one class"),
    "unknown label in y_test": (
        {"x_test": np.ones((3, 2)), "y_test": np.array([0, 1, 7])}, "'7'",
    ),
    "y_test of another kind": (
        {"x_test": np.ones((3, 2)), "y_test": np.ones((3, 2))}, r"y_test|\(3, 2\)",
    ),
    "objects in x": ({"x": np.full((10, 2), {}, dtype=object)}, "npz"),
    "objects in y": ({"y": OBJECTS}, "npz"),
    "objects beside x and y": ({"z": OBJECTS}, "npz"),
}  # fmt: skip


@pytest.mark.promise("bad data")
@pytest.mark.parametrize("case", BAD_NPZ)
def test_a_bad_npz_is_refused_with_the_array(tmp_path, case):
    changes, message = BAD_NPZ[case]
    with pytest.raises(DataError, match=rf"data\.npz.*({message})") as error:
        load_npz(tmp_path, changes, preprocess="none")
    one_line(error)


class Payload:
    """Unpickling this leaves a mark."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


def zip_with(name, content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.promise("nothing runs")
@pytest.mark.parametrize("kind", ["pickle", "pickle in a zip", "object array", "npy of objects"])
def test_a_pickle_called_npz_is_refused_and_not_run(tmp_path, kind):
    mark, path = tmp_path / "mark", tmp_path / "data.npz"
    payload = Payload(mark)
    objects = np.empty((10, 2), dtype=object)
    objects[:] = payload
    buffer = io.BytesIO()
    if kind == "npy of objects":
        np.save(buffer, objects, allow_pickle=True)
        path.write_bytes(buffer.getvalue())
    elif kind == "object array":
        np.savez(path, **arrays(x=objects))
    else:
        content = pickle.dumps(payload)
        path.write_bytes(content if kind == "pickle" else zip_with("x.npy", content))
    mark.unlink(missing_ok=True)
    with pytest.raises(DataError, match=r"data\.npz") as error:
        datasets.load(path)
    one_line(error)
    assert not mark.exists()


@pytest.mark.promise("bad data")
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a,b,y\n1,2,u\n",
        b"PK\x03\x04",
        zip_with("readme.txt", b"hello"),
        zip_with("x", b"no array"),
        zip_with("x.npy", b""),
        zip_with("x.npy", b"\x93NUMPY\x01\x00\x0a\x00{'descr': "),
        zip_with("../x.npy", b"\x93NUMPY"),
    ],
    ids=["empty", "csv", "cut", "text", "x-no-npy", "x-empty", "x-cut", "path"],
)
def test_what_is_no_npz_is_refused(tmp_path, content):
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"data\.npz") as error:
        datasets.load(path)
    one_line(error)


def test_a_single_array_called_npz_is_told_how_to_save(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.ones((3, 2)))
    (tmp_path / "data.npz").write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match=r"numpy\.savez"):
        datasets.load(tmp_path / "data.npz")


@pytest.mark.promise("damage")
@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_npz_truncated_at_any_byte_is_refused(tmp_path, write, cases):
    path = tmp_path / "data.npz"
    write(path, **arrays())
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with cases(f"cut at {length}"), pytest.raises(DataError, match=r"data\.npz"):
            datasets.load(path)


@pytest.mark.promise("damage")
@pytest.mark.slow
@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_npz_with_any_bit_flipped_is_refused_or_unharmed(tmp_path, write, cases):
    path = tmp_path / "data.npz"
    write(path, **arrays())
    whole = path.read_bytes()
    good = datasets.load(path)
    for bit in cases.drawn(range(8 * len(whole)), 4):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with cases(f"bit {bit}"), suppress(DataError):
            data = datasets.load(path)
            np.testing.assert_array_equal(data.x, good.x)
            np.testing.assert_array_equal(data.y, good.y)


# --- splits

LABELS_OF_THREE_SIZES = np.repeat([0, 1, 2], [100, 50, 10])


def split(tmp_path, y, **options):
    """The numbers of the rows that `load` trains and tests on."""
    y = np.asarray(y)
    rows = np.arange(len(y), dtype=float).reshape(-1, 1)
    data = load_npz(tmp_path, {"x": rows, "y": y}, preprocess="none", **options)
    return data.x.ravel().astype(int), data.x_test.ravel().astype(int)


@pytest.mark.parametrize("y", [LABELS_OF_THREE_SIZES, np.linspace(0, 1, 160)])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.5])
def test_a_split_is_disjoint_and_complete(tmp_path, y, share):
    train, test = split(tmp_path, y, test_share=share)
    assert len(test) == round(160 * share)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(160))


def test_a_split_keeps_the_share_of_every_class(tmp_path):
    _, test = split(tmp_path, LABELS_OF_THREE_SIZES)
    np.testing.assert_array_equal(np.bincount(LABELS_OF_THREE_SIZES[test]), [20, 10, 2])


def test_a_split_is_fixed_by_its_seed(tmp_path):
    one, same, other = (split(tmp_path, LABELS_OF_THREE_SIZES, seed=s)[1] for s in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_split_does_not_follow_the_order_of_the_file(tmp_path):
    _, test = split(tmp_path, np.linspace(0, 1, 1000))
    assert 400 < test.mean() < 600
    assert len(set(np.diff(np.sort(test)))) > 2


@pytest.mark.parametrize("y", [[0, 1, 2], [0, 0, 1, 2, 2], [0] * 20 + [1] + [2] * 20])
def test_a_class_of_a_single_row_is_trained_on(tmp_path, y):
    train, _ = split(tmp_path, y, task="classify")
    assert set(np.asarray(y)[train]) == {0, 1, 2}


@pytest.mark.parametrize("share", [-0.1, 1.1, np.nan])
def test_a_share_outside_0_to_1_is_refused(tmp_path, share):
    with pytest.raises(InputError, match="share"):
        split(tmp_path, LABELS_OF_THREE_SIZES, test_share=share)


def test_the_rows_of_a_file_go_to_training_or_to_testing_and_never_to_both(tmp_path):
    rows = "".join(f"{i},{'uvw'[i % 3]}\n" for i in range(150))
    data = load_csv(tmp_path, f"a,y\n{rows}", preprocess="none")
    assert len(data.x_test) == 30
    np.testing.assert_array_equal(np.bincount(data.y_test), [10, 10, 10])
    together = np.concatenate([data.x, data.x_test]).ravel()
    np.testing.assert_array_equal(np.sort(together), np.arange(150))
    for x, y in ((data.x, data.y), (data.x_test, data.y_test)):
        np.testing.assert_array_equal(x.ravel() % 3, y)


# --- preprocessing


def table(rows=50, seed=0):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(100, 20, rows), rng.normal(-3, 0.1, rows)
    return "a,b,y\n" + "".join(f"{a[i]:.6f},{b[i]:.6f},{'uv'[i % 2]}\n" for i in range(rows))


def test_features_are_standardised_by_the_training_part_alone(tmp_path):
    plain = load_csv(tmp_path, table(), preprocess="none")
    data = load_csv(tmp_path, table())
    mean = plain.x.astype(np.float64).mean(axis=0)
    deviation = plain.x.astype(np.float64).std(axis=0)
    np.testing.assert_allclose(data.x.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(data.x.std(axis=0), 1, atol=1e-5)
    np.testing.assert_allclose(data.x_test, (plain.x_test - mean) / deviation, atol=1e-4)
    assert abs(data.x_test.mean(axis=0)).max() > 1e-3  # its own mean is another


def test_a_column_that_never_varies_becomes_zero(tmp_path):
    data = load_csv(tmp_path, "a,b,y\n7,1,u\n7,2,v\n7,3,u\n7,4,v\n")
    assert np.isfinite(data.x).all()
    assert (data.x[:, 0] == 0).all()


def test_without_standardising_features_stay_as_they_are(tmp_path):
    data = load_csv(tmp_path, GOOD, preprocess="none")
    assert data.preprocessing.kind == "none"
    assert {1.0, 3.0, 5.0, 7.0} == set(np.concatenate([data.x, data.x_test])[:, 0])


def test_real_targets_stay_in_their_own_unit(tmp_path):
    text = "a,y\n" + "".join(f"{i},{1000 + 0.5 * i}\n" for i in range(50))
    data = load_csv(tmp_path, text, preprocess="none")
    assert data.y.dtype == np.float64
    np.testing.assert_array_equal(data.y, 1000 + 0.5 * data.x)
    np.testing.assert_array_equal(data.y_test, 1000 + 0.5 * data.x_test)


# --- data like that which a model was trained on


@pytest.fixture
def known(tmp_path):
    """What a model trained on `table()` knows, as it comes out of its file."""
    return json.loads(json.dumps(load_csv(tmp_path, table()).metadata()))


def other(tmp_path, text, known, **options):
    path = tmp_path / "other.csv"
    path.write_text(text)
    return datasets.load(path, like=known, test_share=1.0, **options)


def test_like_applies_the_models_preprocessing_and_not_the_files_own(tmp_path, known):
    data = other(tmp_path, "a,b,y\n120,-3,u\n120,-3,u\n", known)
    shift, scale = known["preprocessing"]["shift"], known["preprocessing"]["scale"]
    expected = [(120 - shift[0]) / scale[0], (-3 - shift[1]) / scale[1]]
    np.testing.assert_allclose(data.x_test, [expected] * 2, rtol=1e-5)
    assert data.classes == ("u", "v")
    np.testing.assert_array_equal(data.y_test, [0, 0])


def test_like_numbers_classes_as_the_model_does(tmp_path, known):
    data = other(tmp_path, "a,b,y\n1,2,v\n", known)
    np.testing.assert_array_equal(data.y_test, [1])


def test_like_takes_columns_by_name_in_any_order(tmp_path, known):
    straight = other(tmp_path, "a,b,y\n120,-3,u\n", known)
    turned = other(tmp_path, "y,extra,b,a\nu,text,-3,120\n", known)
    np.testing.assert_array_equal(straight.x_test, turned.x_test)


def test_like_names_a_column_that_is_missing(tmp_path, known):
    with pytest.raises(DataError, match=r"other\.csv:1: no column 'b'"):
        other(tmp_path, "a,y\n1,u\n", known)


def test_like_names_a_target_that_is_missing(tmp_path, known):
    with pytest.raises(DataError, match=r"other\.csv.*'y'"):
        other(tmp_path, "a,b\n1,2\n", known)


def test_a_class_that_the_model_does_not_know_is_named_with_those_it_does(tmp_path, known):
    with pytest.raises(DataError, match=r"other\.csv.*'w'.*u, v") as error:
        other(tmp_path, "a,b,y\n1,2,u\n3,4,w\n", known)
    one_line(error)


def test_features_alone_are_enough_to_predict(tmp_path, known):
    path = tmp_path / "features.csv"
    path.write_text("b,a\n-3,120\n")
    x = datasets.load_features(path, like=known)
    np.testing.assert_array_equal(x, other(tmp_path, "a,b,y\n120,-3,u\n", known).x_test)


def test_npz_features_alone_are_enough_to_predict(tmp_path):
    known = load_npz(tmp_path, {}).metadata()
    path = tmp_path / "features.npz"
    np.savez(path, x=np.array([[9.0, 10.0]]))
    shift, scale = known["preprocessing"]["shift"], known["preprocessing"]["scale"]
    x = datasets.load_features(path, like=known)
    np.testing.assert_allclose(x, [[(9 - shift[0]) / scale[0], (10 - shift[1]) / scale[1]]])


# --- rows that a model was not trained on


KINDS_OF_DATA = {
    "text classes": lambda: (LABELS_OF_THREE_SIZES, np.array(list("uvw"))[LABELS_OF_THREE_SIZES]),
    "classes": lambda: (LABELS_OF_THREE_SIZES, LABELS_OF_THREE_SIZES),
    "labels": lambda: (LABELS_OF_THREE_SIZES, RNG.integers(0, 2, (160, 3))),
    "values": lambda: (LABELS_OF_THREE_SIZES, RNG.normal(size=160)),
}


def numbered_rows(tmp_path, y, name="data.npz"):
    """A file whose only feature is the number of the row."""
    np.savez(tmp_path / name, x=np.arange(float(len(y)))[:, None], y=y)
    return tmp_path / name


def saved(data):
    """What a model's file keeps of the data that the model was trained on."""
    return datasets.described(
        json.loads(json.dumps(data.metadata())), (data.x.shape[1], data.outputs)
    )


@pytest.mark.parametrize("kind", KINDS_OF_DATA)
@pytest.mark.parametrize("options", [{}, {"test_share": 0.5, "seed": 3}, {"test_share": 0.0}])
def test_rows_that_were_not_trained_on_are_found_again(tmp_path, kind, options):
    _, y = KINDS_OF_DATA[kind]()
    first = datasets.load(numbered_rows(tmp_path, y), preprocess="none", **options)
    again = datasets.load(numbered_rows(tmp_path, y, "renamed.npz"), like=saved(first))
    assert again.trained_on
    assert again.split == first.split
    for name in ("x", "y", "x_test", "y_test"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))


def test_a_csv_is_known_by_its_content_however_it_is_written(tmp_path):
    first = load_csv(tmp_path, table())
    lines = table().splitlines()
    rows = [line.split(",") for line in lines]
    turned = "\r\n".join(f'"{y}",{b},{float(a):.12f}' if i else f"{y},{b},{a}"
                         for i, (a, b, y) in enumerate(rows))  # fmt: skip
    (tmp_path / "turned.csv").write_text(turned)
    again = datasets.load(tmp_path / "turned.csv", like=saved(first))
    assert again.trained_on
    np.testing.assert_array_equal(again.x_test, first.x_test)


@pytest.mark.parametrize("change", ["a value", "a target", "a row more", "a row fewer", "order"])
def test_every_row_of_another_content_is_tested_on(tmp_path, change):
    first = load_csv(tmp_path, table())
    header, *rows = table().splitlines()
    if change == "a value":
        rows[7] = rows[7].replace(",-", ",")
    elif change == "a target":
        rows[7] = rows[7][:-1] + ("u" if rows[7][-1] == "v" else "v")
    elif change == "a row more":
        rows.append(rows[0])
    elif change == "a row fewer":
        del rows[-1]
    else:
        rows.reverse()
    (tmp_path / "data.csv").write_text("\n".join([header, *rows]))
    again = datasets.load(tmp_path / "data.csv", like=saved(first))
    assert again.trained_on is False
    assert (len(again.x), len(again.x_test)) == (0, len(rows))
    some = datasets.load(tmp_path / "data.csv", like=saved(first), test_share=0.5)
    assert len(some.x_test) == round(len(rows) / 2)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.21, 1.0])
def test_a_share_takes_no_row_that_was_trained_on(tmp_path, share):
    first = datasets.load(numbered_rows(tmp_path, LABELS_OF_THREE_SIZES), preprocess="none")
    again = datasets.load(tmp_path / "data.npz", like=saved(first), test_share=share)
    np.testing.assert_array_equal(again.x, first.x)
    assert set(again.x_test.ravel()) <= set(first.x_test.ravel())
    assert len(again.x_test) == round(160 * min(share, 0.2))


def test_of_a_model_that_does_not_say_every_row_is_tested_on(tmp_path, known):
    known = {key: value for key, value in known.items() if key != "split"}
    data = datasets.load(tmp_path / "data.csv", like=known)
    assert data.trained_on is None
    assert len(data.x_test) == 50


def test_moons_are_data_in_one_piece(tmp_path):
    first = datasets.load("moons", test_share=0.4)
    again = datasets.load("moons", like=saved(first))
    np.testing.assert_array_equal(again.x_test, first.x_test)
    np.testing.assert_array_equal(datasets.load_features("moons", like=saved(first)), first.x_test)
    assert len(datasets.load("moons", like=saved(first), n=100).x_test) == 100


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_a_share_of_data_with_a_test_part_is_refused(tmp_path, share):
    with pytest.raises(InputError, match="digits has test data of its own"):
        datasets.load("digits", test_share=share)
    parts = {"x_test": np.ones((3, 2)), "y_test": np.array([1, 0, 1])}
    with pytest.raises(InputError, match=r"data\.npz has test data of its own"):
        load_npz(tmp_path, parts, test_share=share)
    assert load_npz(tmp_path, parts).split is None


def test_all_rows_cannot_be_kept_from_training(tmp_path):
    with pytest.raises(InputError, match="test_share must be less than 1"):
        load_csv(tmp_path, table(), test_share=1.0)


@pytest.mark.parametrize("name", ["digits", "moons", "data.csv"])
def test_the_test_part_alone(tmp_path, name):
    (tmp_path / "data.csv").write_text(table())
    path = tmp_path / name if name.endswith("csv") else name
    first = datasets.load(path)
    alone = datasets.load(path, like=saved(first), test_only=True)
    np.testing.assert_array_equal(alone.x_test, first.x_test)
    np.testing.assert_array_equal(alone.y_test, first.y_test)
    assert alone.x.shape == (0, first.x.shape[1])
    assert len(alone.y) == 0
    with pytest.raises(InputError, match="test_only needs like"):
        datasets.load(path, test_only=True)


def test_of_mnist_the_test_part_needs_no_other_file(tmp_path):
    (tmp_path / "mnist").mkdir()
    images, labels = RNG.integers(0, 256, (3, 28, 28), dtype=np.uint8), np.arange(3, dtype=np.uint8)
    for name, array in zip(mnist.FILES[2:], (images, labels), strict=True):
        (tmp_path / "mnist" / name).write_bytes(idx_bytes(array))
    data = datasets.load("mnist", tmp_path, like={}, test_only=True)
    np.testing.assert_allclose(data.x_test, images.reshape(3, -1) / 255, rtol=1e-6)
    np.testing.assert_array_equal(data.y_test, labels)
    assert data.x.shape == (0, 784)
    np.testing.assert_array_equal(datasets.load_features("mnist", tmp_path, like={}), data.x_test)

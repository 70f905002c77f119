"""Bad input: exit status 2, one line with the place and the value, the old model untouched."""

import gzip
import os
import shutil
import struct

import numpy as np
import pytest
import safetensors.numpy
from command_line import fail


def idx(array):
    array = np.asarray(array, dtype=np.uint8)
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.data


NAMES = {
    "train-images": "train-images-idx3-ubyte.gz",
    "train-labels": "train-labels-idx1-ubyte.gz",
    "t10k-images": "t10k-images-idx3-ubyte.gz",
    "t10k-labels": "t10k-labels-idx1-ubyte.gz",
}


def write_mnist(folder, **damaged):
    """A small set in `folder`/mnist; `damaged` maps a file's key to its content instead."""
    contents = {
        "train-images": gzip.compress(idx(np.ones((12, 28, 28)))),
        "train-labels": gzip.compress(idx(np.arange(12) % 10)),
        "t10k-images": gzip.compress(idx(np.ones((4, 28, 28)))),
        "t10k-labels": gzip.compress(idx(np.arange(4))),
    } | {key.replace("_", "-"): content for key, content in damaged.items()}
    (folder / "mnist").mkdir(parents=True)
    for key, content in contents.items():
        (folder / "mnist" / NAMES[key]).write_bytes(content)


@pytest.fixture(scope="module")
def bad(tmp_path_factory, trained_digits, trained_moons):
    """A folder full of bad files, and two good models."""
    folder = tmp_path_factory.mktemp("bad")
    shutil.copy(trained_digits / "model.safetensors", folder / "digits.safetensors")
    shutil.copy(trained_moons / "model.safetensors", folder / "moons.safetensors")
    texts = {
        "ragged": "a,b,y\n1,2,u\n3,v\n",
        "text": "a,b,y\n1,2,u\n3,abc,v\n",
        "nan": "a,b,y\n1,2,u\n3,nan,v\n",
        "huge": "a,b,y\n1,2,u\n3,1e999,v\n",
        "float32": "a,b,y\n" + "1,2,u\n3,1e39,v\n" * 5,
        "nan-target": "a,y\n" + "1,0.5\n" * 9 + "2,nan\n",
        "one": "a,b,moon\n1,2,u\n3,4,u\n",
        "empty": "",
        "new-class": "a,b,moon\n1,2,upper\n3,4,sideways\n",
        "other-columns": "a,c,moon\n1,2,upper\n",
        "no-target": "a,b\n1,2\n",
    }
    for name, text in texts.items():
        (folder / f"{name}.csv").write_text(text)
    (folder / "latin.csv").write_bytes("a,b,y\n1,2,größe\n".encode("latin-1"))
    (folder / "cut.npz").write_bytes((trained_digits / "model.safetensors").read_bytes()[:99])
    (folder / "cut.safetensors").write_bytes((folder / "digits.safetensors").read_bytes()[:-9])
    (folder / "foreign.safetensors").write_bytes(
        safetensors.numpy.save({"w": np.ones(3, dtype=np.float32)})
    )
    np.savez(folder / "nan.npz", x=[[1.0], [np.nan]], y=[0, 1])
    np.savez(folder / "lengths.npz", x=np.ones((3, 2)), y=[0, 1])
    np.savez(folder / "labels.npz", x=np.ones((4, 2)), y=[0, 1] * 2, x_test=[[1, 1]], y_test=[7])
    np.savez(folder / "wide.npz", x=np.ones((4, 9)), y=[0, 1] * 2)
    whole = gzip.compress(idx(np.ones((12, 28, 28))))
    write_mnist(folder / "truncated", train_images=whole[:-20])
    write_mnist(folder / "renamed", train_labels=idx(np.arange(12) % 10))
    write_mnist(folder / "magic", t10k_images=gzip.compress(b"\x93NUMPY" + bytes(100)))
    write_mnist(folder / "lengths", train_labels=gzip.compress(idx(np.arange(11) % 10)))
    write_mnist(folder / "label10", t10k_labels=gzip.compress(idx([0, 1, 10, 3])))
    write_mnist(folder / "missing")
    (folder / "missing" / "mnist" / NAMES["t10k-labels"]).unlink()
    return folder


BAD_DATA = {
    "nowhere.csv": ["nowhere.csv", "No such file"],
    "no/where.npz": ["no/where.npz", "No such file"],
    "nowhere.txt": ["nowhere.txt", "no such file"],
    "ragged.csv": ["ragged.csv:3", "2 fields", "3"],
    "text.csv": ["text.csv:3", "'b'", "'abc'"],
    "nan.csv": ["nan.csv:3", "'b'", "nan"],
    "huge.csv": ["huge.csv:3", "'b'", "1e999"],
    "nan-target.csv": ["nan-target.csv:11", "'y'", "nan"],
    "one.csv": ["one.csv", "one class", "'u'"],
    "empty.csv": ["empty.csv", "empty"],
    "latin.csv": ["latin.csv", "UTF-8"],
    "cut.npz": ["cut.npz", "npz"],
    "nan.npz": ["nan.npz", "x[1, 0]", "nan"],
    "lengths.npz": ["lengths.npz", "3", "2"],
    "labels.npz": ["labels.npz", "'7'", "0, 1"],
    "digitz": ["'digitz'", "'digits'"],
    "mnsit": ["'mnsit'", "'mnist'"],
    "digits.safetensors": ["digits.safetensors", ".csv", ".npz"],
    ".": [".csv", ".npz"],
    "mnist --data-dir truncated": ["truncated/mnist/train-images", "gzip"],
    "mnist --data-dir renamed": ["renamed/mnist/train-labels", "not gzipped", "rename"],
    "mnist --data-dir magic": ["magic/mnist/t10k-images", "not an IDX file"],
    "mnist --data-dir lengths": ["train-images", "12 images", "train-labels", "11 labels"],
    "mnist --data-dir label10": ["label10/mnist/t10k-labels", "10", "0 to 9"],
    "mnist --data-dir missing": ["missing/mnist", "t10k-labels"],
    "mnist --data-dir nowhere": ["nowhere", "no such folder"],
    "mnist": ["mnist", "no network", "--data-dir", "NNXP_DATA_DIR"],
    "text.csv --target z": ["text.csv:1", "'z'", "a, b, y"],
    "digits --task regres": ["'regres'", "'regress'"],
    "float32.csv --preprocess none": ["float32.csv"],
}


BAD_OPTIONS = {
    "--hidden 10,x": ["--hidden", "'x'"],
    "--hidden 10,,10": ["--hidden", "''"],
    "--hidden -5": ["--hidden", "'-5'"],
    "--hidden 0": ["--hidden", "'0'"],
    "--hidden 1.5": ["--hidden", "'1.5'"],
    "--hidden 10,20 --activation relu,tanh,relu": ["3", "2"],
    "--hidden 99999999999999": ["memory"],
    "--hidden 9223372036854775807": ["memory"],
    "--hidden 99999999999999999999": ["--hidden", "'99999999999999999999'"],
    f"--hidden {'9' * 5000}": ["--hidden", "'999"],
    f"--batch-size {'9' * 5000}": ["--batch-size", "'999"],
    "--batch-size 99999999999999999999": ["--batch-size", "'99999999999999999999'"],
    f"--epochs {'9' * 5000}": ["--epochs", "'999"],
    "--learning-rate -1": ["learning", "rate", "-1"],
    "--learning-rate nan": ["learning", "rate", "nan"],
    "--learning-rate inf": ["learning", "rate", "inf"],
    "--learning-rate fast": ["--learning-rate", "'fast'", "number"],
    "--weight-decay -0.1": ["weight", "decay", "-0.1"],
    "--momentum 1.5": ["momentum", "1.5"],
    "--momentum -0.5": ["momentum", "-0.5"],
    "--optimizer adam --momentum 0.9": ["adam", "momentum"],
    "--nesterov": ["nesterov", "momentum"],
    "--epochs -1": ["epochs", "-1"],
    "--epochs ten": ["--epochs", "'ten'", "number"],
    "--epochs 1.5": ["--epochs", "'1.5'", "number"],
    "--batch-size 0": ["--batch-size", "'0'"],
    "--batch-size -3": ["--batch-size", "'-3'"],
    "--batch-size many": ["--batch-size", "'many'"],
    "--validation 1": ["validation", "[0, 1)", "not 1"],
    "--validation -0.1": ["validation", "-0.1"],
    "--validation 2": ["validation", "2"],
    "moons --test-share 1": ["test_share", "1"],
    "moons --test-share half": ["--test-share", "'half'"],
    "digits --test-share 0.5": ["digits", "test data of its own"],
    "--validation nan": ["validation", "nan"],
    "--seed -1": ["seed", "-1"],
    "--seed x": ["--seed", "'x'"],
    "--dtype float16": ["dtype", "float16", "float32"],
    "--activation rellu": ["'rellu'", "'relu'"],
    "--output-activation softmaxx": ["'softmaxx'", "'softmax'"],
    "--loss quadratc": ["'quadratc'", "'quadratic'"],
    "--optimizer sdg": ["'sdg'", "'sgd'"],
    "--initializer xavir": ["'xavir'", "'xavier'"],
    "--backend nunpy": ["'nunpy'", "'numpy'"],
    "--backend numpy --device cuda": ["numpy", "cuda", "cpu"],
    "--backend auto --device gpu": ["'gpu'", "cpu"],
    "--epoch 3": ["--epoch", "--epochs"],
    "--loss": ["--loss"],
    "digits moons": ["moons"],
}


@pytest.mark.parametrize("arguments", [*BAD_DATA, *BAD_OPTIONS], ids=lambda text: text[:60])
def test_bad_input_is_one_line_that_names_it(bad, tmp_path, arguments):
    save = tmp_path / "precious.safetensors"
    shutil.copy(bad / "digits.safetensors", save)
    before = save.read_bytes()
    line = fail(bad, "train", "--save", save, *arguments.split())
    for word in (BAD_DATA | BAD_OPTIONS)[arguments]:
        assert word in line
    assert save.read_bytes() == before
    assert os.listdir(tmp_path) == [save.name]


BAD_USES = {
    "evaluate nowhere.safetensors": ["nowhere.safetensors", "No such file"],
    "evaluate cut.safetensors": ["cut.safetensors", "damaged"],
    "evaluate foreign.safetensors": ["foreign.safetensors", "nnxp train"],
    "evaluate nan.csv": ["nan.csv", "not an nnxp model"],
    "evaluate digits.safetensors moons": ["moons"],
    "evaluate digits.safetensors wide.npz": ["wide.npz", "9", "64"],
    "evaluate moons.safetensors new-class.csv": ["new-class.csv", "'sideways'", "lower, upper"],
    "evaluate moons.safetensors other-columns.csv": ["other-columns.csv:1", "'b'"],
    "evaluate moons.safetensors no-target.csv": ["no-target.csv", "'moon'"],
    "evaluate moons.safetensors nowhere.csv": ["nowhere.csv", "No such file"],
    "predict moons.safetensors other-columns.csv": ["other-columns.csv:1", "'b'"],
    "predict moons.safetensors text.csv": ["text.csv:3", "'b'", "'abc'"],
    "predict digits.safetensors wide.npz": ["wide.npz", "9", "64"],
    "predict digits.safetensors digits --output no/where.csv": ["--output", "no/where.csv"],
    "predict digits.safetensors": ["data"],
    "import-weights nowhere.npz": ["nowhere.npz", "No such file"],
    "import-weights cut.npz": ["cut.npz"],
    "tarin": ["tarin"],
}


@pytest.mark.parametrize("arguments", BAD_USES)
def test_bad_use_of_a_model_is_one_line_that_names_it(bad, arguments):
    before = sorted(os.listdir(bad))
    line = fail(bad, *arguments.split())
    for word in BAD_USES[arguments]:
        assert word.lower() in line.lower()
    assert sorted({*os.listdir(bad)} - {"cache"}) == sorted({*before} - {"cache"})

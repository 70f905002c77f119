"""Bad input: exit status 2, one line with the place and the value, the old model untouched."""

import gzip
import os
import re
import shutil
import struct
import time
from itertools import cycle, islice

import numpy as np
import pytest
import safetensors.numpy
import typer
from command_line import BOOK, CONTROL, MOON_CSV, fail, run, run_process

from nnxp.cli import app


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
    ".": ["npy or parquet"],
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


@pytest.mark.promise("bad use")
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


@pytest.mark.promise("bad use")
@pytest.mark.parametrize("arguments", BAD_USES)
def test_bad_use_of_a_model_is_one_line_that_names_it(bad, arguments):
    before = sorted(os.listdir(bad))
    line = fail(bad, *arguments.split())
    for word in BAD_USES[arguments]:
        assert word.lower() in line.lower()
    assert sorted({*os.listdir(bad)} - {"cache"}) == sorted({*before} - {"cache"})


# --- every option of every command


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, trained_moons, trained_digits):
    """A folder with what commands need, and one with a file without content."""
    folder = tmp_path_factory.mktemp("workplace")
    shutil.copy(trained_moons / "model.safetensors", folder / "moons.safetensors")
    shutil.copy(trained_digits / "model.safetensors", folder / "digits.safetensors")
    shutil.copy(trained_digits / "report.json", folder)
    (folder / "data.csv").write_text(MOON_CSV)
    np.savez(folder / "book.npz", **{name: np.array(array) for name, array in BOOK.items()})
    (folder / "folder").mkdir()
    (folder / "folder" / "empty").touch()
    return folder


EXAMPLES = {
    ("train",): ["data.csv", "--epochs", "1", "--hidden", "3", "--save", "new"],
    ("evaluate",): ["moons.safetensors", "data.csv"],
    ("predict",): ["moons.safetensors", "data.csv"],
    ("describe",): ["moons.safetensors"],
    ("import-weights",): ["book.npz", "--save", "new"],
    ("export",): ["moons.safetensors", "new"],
    ("gradcheck",): [],
    ("bench",): ["--compare", "a.json", "b.json"],  # measuring takes seconds
    ("backends",): [],
    ("plot", "activations"): [],
    ("plot", "history"): ["report.json"],
    ("plot", "boundary"): ["moons.safetensors", "data.csv"],
    ("plot", "confusion"): ["moons.safetensors", "data.csv"],
    ("plot", "digits"): ["digits.safetensors"],
    ("plot", "deformations"): ["digits", "--augment", "rotate=5"],
    ("plot", "weights"): ["digits.safetensors"],
}
"""By command: arguments that are right, with which it takes a moment."""

WRONG_VALUES = (
    "", "nan", "-1", "x" * 10_000, "1e999", "0", "9" * 400, "folder", "missing/none", "a\nb",
    "\x1b[31m", "ünïcödé \u202e", "\udcff", "inf", "-inf", " ", ",,", "=", "a=b", "folder/",
    "missing.csv", "/dev/null", "/dev/full", "/dev/stdin", "/", "~", "--", "*", "[1,2]", "None",
    "%s", "{}", "{0}", "2147483648", "9223372036854775808", "0x10", "١", "½", "/proc/self/mem",
    "data.csv", "NUL", "a" * 300 + ".csv", "/dev/full.png", "/proc/none",
)  # fmt: skip
"""What is right for few options, if for any."""


def commands():
    """Each command's name, and the parameters that take a value."""
    for name, command in typer.main.get_command(app()).commands.items():
        each = getattr(command, "commands", None)
        parts = {(name,): command} if each is None else {(name, n): c for n, c in each.items()}
        for path, part in parts.items():
            yield (
                path,
                [p for p in part.params if p.name != "help" and not getattr(p, "is_flag", False)],
            )


def with_value(path, parameter, place, value):
    """The words of a command whose `parameter` is `value`."""
    words = EXAMPLES[path]
    if parameter.param_type_name == "option":
        return [*path, *words, *([f"{parameter.opts[-1]}={value}"] if parameter.nargs == 1 else
                                 [parameter.opts[-1], value, value])]  # fmt: skip
    return [*path, *words[:place], value, *words[place + 1 :]]


def trials(values):
    """For each argument and option of each command: the words with each value."""
    for path, parameters in commands():
        for place, parameter in enumerate(parameters):
            for value in values():
                label = f"{' '.join(path)} {parameter.name} {value[:20]!r}"
                yield label, with_value(path, parameter, place, value)


def contents(folder):
    """The content of each file in a folder, but for the cache of downloads."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files if "cache" not in path.parts}


def check_trial(folder, words, run=run):
    """The command succeeds, or says what is wrong in a line; it leaves files as they were."""
    before = contents(folder)
    start = time.process_time()  # other programs may keep it waiting
    done = run(folder, *words)
    assert time.process_time() - start < 10
    after = contents(folder)
    assert {path: after.get(path) for path in before} == before
    if done.returncode:
        # A full disk, or training that diverged.
        late = "/dev/full" in words[-1] or "the loss" in done.stderr
        assert done.returncode == 2 or (late and done.returncode == 1), done.stderr
        assert re.fullmatch("nnxp: .+\n", done.stderr), done.stderr
        assert not CONTROL.search(done.stderr)
        assert len(done.stderr) < 1000
        assert after.keys() == before.keys()
    else:
        assert done.stderr == ""
    for path in after.keys() - before.keys():
        path.unlink()


@pytest.mark.promise("bad use")
def test_an_option_is_right_or_refused_in_a_line(workplace, cases):
    turn = cycle(WRONG_VALUES)
    for label, words in islice(trials(lambda: [next(turn)]), None, None, 5):
        with cases(label):
            check_trial(workplace, words)


@pytest.mark.slow
@pytest.mark.promise("bad use")
def test_every_option_of_every_command_with_wrong_values(workplace, cases):
    """A third of the values with each option, in turn: all of them take ten minutes."""
    third = list(islice(trials(lambda: WRONG_VALUES), None, None, 3))
    assert len(third) > 1500
    for label, words in cases.drawn(third, 4):
        with cases(label):
            check_trial(workplace, words)


@pytest.mark.slow
@pytest.mark.promise("bad use")
def test_commands_in_processes_of_their_own_refuse_likewise(workplace, cases):
    for label, words in list(trials(lambda: ["", "nan", "folder"]))[::30]:
        with cases(label):
            check_trial(workplace, words, run=run_process)

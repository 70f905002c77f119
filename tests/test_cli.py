"""The command line, through real processes."""

import csv
import gzip
import io
import json
import os
import pty
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
import safetensors.numpy
from conftest import started

import nnxp

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f\x9b]")
ROW = re.compile(r"^ +\d+ +\d+\.\d{4} ", re.MULTILINE)
BACKENDS = ("torch", "jax", "array-api-strict")


def environment(folder, **changes):
    """This process's, without nnxp's own variables, without a network, with an empty cache."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NNXP_")}
    nowhere = "http://127.0.0.1:9"
    kept |= {"http_proxy": nowhere, "https_proxy": nowhere, "XDG_CACHE_HOME": str(folder / "cache")}
    return kept | {name: str(value) for name, value in changes.items()}


def run(folder, *arguments, timeout=60, **variables):
    """`nnxp ARGUMENTS` in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "nnxp.cli", *map(str, arguments)],
        cwd=folder,
        env=environment(folder, **variables),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def succeed(folder, *arguments, **variables):
    """What `nnxp ARGUMENTS` prints; it must succeed and complain of nothing."""
    done = run(folder, *arguments, **variables)
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


def fail(folder, *arguments, status=2, **variables):
    """The one line of an error, of a command that must fail."""
    done = run(folder, *arguments, **variables)
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("nnxp: ")
    assert not CONTROL.search(done.stderr)
    assert done.returncode == status
    return done.stderr


def figure(text, name="accuracy"):
    return float(re.search(rf"{name} (-?\d+\.\d+)", text)[1])


def table(text):
    """A csv's header and its rows."""
    header, *rows = csv.reader(io.StringIO(text))
    return header, rows


def require(backend):
    """Skip without the library; fail if $NNXP_REQUIRE says that it must be here."""
    library = backend.replace("-", "_")
    if backend in os.environ.get("NNXP_REQUIRE", "").split(","):
        __import__(library)
    pytest.importorskip(library)


# --- the main job: the digits


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A folder in which `nnxp train` ran alone; what it printed is in `printed`."""
    folder = tmp_path_factory.mktemp("digits")
    text = succeed(folder, "train", "--report", "report.json")
    (folder / "printed").write_text(text)
    return folder


@pytest.fixture(scope="module")
def printed(digits):
    return (digits / "printed").read_text()


@pytest.fixture(scope="module")
def report(digits):
    return json.loads((digits / "report.json").read_text())


def test_train_alone_learns_the_digits(printed):
    assert figure(printed.partition("\ntest ")[2]) >= 0.96


def test_train_prints_one_row_per_epoch(printed, report):
    assert len(ROW.findall(printed)) == len(report["history"]) == report["options"]["epochs"]
    assert printed.count("val. accuracy") == 1


def test_off_a_terminal_there_is_no_bar_and_no_control_character(printed):
    assert not CONTROL.search(printed)
    assert "━" not in printed
    assert "%" not in printed


def test_train_says_what_it_trains_and_on_what(printed):
    assert "64-128-64-10" in printed
    assert re.search(r"on (numpy|cupy|torch|jax) .*\(auto\)", printed)


def test_train_says_where_the_model_is(digits, printed):
    assert "saved model.safetensors\n" in printed
    assert (digits / "model.safetensors").is_file()


def test_the_next_command_works_and_agrees(digits, printed):
    command, *arguments = shlex.split(re.search(r"next: (.*)", printed)[1])
    assert command == "nnxp"
    text = succeed(digits, *arguments)
    assert figure(text) == figure(printed.partition("\ntest ")[2])


def test_the_next_command_works_when_names_need_quotes(tmp_path):
    (tmp_path / "my data.csv").write_text(MOON_CSV)
    name = "my model's.safetensors"
    text = succeed(tmp_path, "train", "my data.csv", "--epochs", 1, "--save", name)
    _, *arguments = shlex.split(re.search(r"next: (.*)", text)[1])
    assert arguments[0] == "evaluate"
    assert figure(succeed(tmp_path, *arguments)) == figure(text.partition("\ntest ")[2])


def test_the_report_has_every_key(report):
    assert {
        "backend", "device", "executor", "versions", "dtype", "sizes", "options", "history", "test",
    } <= set(report)  # fmt: skip
    for epoch in report["history"]:
        assert set(epoch) == {
            "epoch", "loss", "validation_loss", "validation_metric", "seconds",
            "samples_per_second", "learning_rate", "diagnosis",
        }  # fmt: skip
        assert epoch.pop("diagnosis") is None
        assert all(isinstance(value, (int, float)) for value in epoch.values())
    assert [epoch["epoch"] for epoch in report["history"]] == list(range(1, 41))
    assert set(report["test"]) == {"accuracy", "loss"}
    assert report["sizes"] == [64, 128, 64, 10]
    assert report["dtype"] == "float32"
    assert report["versions"]["numpy"] == np.__version__
    assert report["versions"]["nnxp"] == nnxp.__version__


def test_the_report_says_every_option(report):
    assert report["options"].items() >= {
        "hidden": [128, 64], "activation": ["relu", "relu"], "output_activation": "softmax",
        "loss": "categorical_cross_entropy", "optimizer": "sgd", "learning_rate": 0.1,
        "momentum": 0, "weight_decay": 0, "initializer": "auto", "epochs": 40, "batch_size": 32,
        "validation": 0.1, "seed": 0,
    }.items()  # fmt: skip


def test_the_report_agrees_with_what_was_printed(report, printed):
    assert figure(printed.partition("\ntest ")[2]) == pytest.approx(
        report["test"]["accuracy"], abs=5e-5
    )
    losses = [float(line.split()[1]) for line in printed.splitlines() if ROW.match(line)]
    assert losses == pytest.approx([epoch["loss"] for epoch in report["history"]], abs=5.1e-5)


def test_samples_per_second_are_those_that_were_trained_on(report):
    for epoch in report["history"]:
        assert epoch["samples_per_second"] * epoch["seconds"] == pytest.approx(1293, rel=1e-6)


def test_training_again_gives_the_same_model_byte_for_byte(digits, tmp_path):
    succeed(tmp_path, "train")
    again = (tmp_path / "model.safetensors").read_bytes()
    assert again == (digits / "model.safetensors").read_bytes()


def test_another_seed_gives_another_model(digits, tmp_path):
    succeed(tmp_path, "train", "--seed", 1, "--epochs", 1, "--quiet")
    assert (tmp_path / "model.safetensors").read_bytes() != (
        digits / "model.safetensors"
    ).read_bytes()


def test_verbose_says_where_the_data_is(tmp_path):
    said = succeed(tmp_path, "train", "--epochs", 1, "--verbose")
    assert re.findall(r"^data: .*$", said, re.MULTILINE) == ["data: 468 kB on the host"]
    assert re.search(r"^steps: (replay|graph)$", said, re.MULTILINE)
    options = ["--epochs", 1, "--report", "report.json"]
    said = succeed(tmp_path, "train", *options, "-v", "--stream")
    assert "\ndata: 468 kB: streamed in chunks of 40 steps (" in said
    assert json.loads((tmp_path / "report.json").read_text())["options"]["stream"] is True
    assert "data:" not in succeed(tmp_path, "train", "--epochs", 1, "--no-stream")
    assert succeed(tmp_path, "train", "--epochs", 1, "-v", "--quiet") == ""


REFUSES = """
from nnxp.executors import recording
from nnxp.cli import main

def product(self, operands, out):
    raise recording.UnrecordableError("no products today")

recording.ArrayOps.product = product
main()
"""


def test_a_fall_back_and_its_reason_are_in_the_verbose_output_and_the_report(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", REFUSES, "train", "--epochs", "1", "--backend", "numpy", "-v",
         "--report", "report.json"],
        cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, check=True,
    )  # fmt: skip
    line = "steps run eagerly: they cannot be recorded (no products today)"
    assert done.stdout.count(line) == 1
    assert json.loads((tmp_path / "report.json").read_text())["fallbacks"] == [line]


def test_a_report_without_a_fall_back_says_that(report):
    assert report["fallbacks"] == []


def test_quiet_prints_nothing_and_saves(tmp_path):
    assert succeed(tmp_path, "train", "--epochs", 1, "--quiet") == ""
    assert (tmp_path / "model.safetensors").is_file()


def test_evaluate_takes_the_digits_if_no_data_is_named(digits, report):
    assert figure(succeed(digits, "evaluate", "model.safetensors")) == pytest.approx(
        report["test"]["accuracy"], abs=5e-5
    )


def test_predict_writes_a_row_per_test_sample(digits, report):
    header, rows = table(succeed(digits, "predict", "model.safetensors", "digits"))
    assert header == ["prediction", *"0123456789"]
    assert len(rows) == 360
    outputs = np.array([row[1:] for row in rows], dtype=float)
    np.testing.assert_allclose(outputs.sum(axis=1), 1, atol=1e-5)
    predicted = np.array([int(row[0]) for row in rows])
    np.testing.assert_array_equal(predicted, outputs.argmax(axis=1))
    truth = nnxp.datasets.load("digits").y_test
    assert (predicted == truth).mean() == pytest.approx(report["test"]["accuracy"])


def test_predict_to_a_file_writes_what_it_prints(digits, tmp_path):
    text = succeed(digits, "predict", "model.safetensors", "digits")
    out = tmp_path / "out.csv"
    said = succeed(digits, "predict", "model.safetensors", "digits", "--output", out)
    assert out.read_text() == text
    assert str(out) in said
    assert "360" in said


def test_a_reader_that_has_seen_enough_is_no_error(digits):
    command = (
        f"{shlex.quote(sys.executable)} -m nnxp.cli predict model.safetensors digits | head -1"
    )
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=digits, env=environment(digits), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout.startswith("prediction,0")


def in_a_terminal(folder, *arguments):
    """Everything that `nnxp ARGUMENTS` writes to a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "nnxp.cli", *map(str, arguments)],
        cwd=folder,
        env=environment(folder, TERM="xterm-256color", COLUMNS=100),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    try:
        while block := os.read(ours, 65536):
            seen += block
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(ours)
    assert process.wait(60) == 0
    return seen.decode()


def test_in_a_terminal_a_bar_shows_while_training_goes_on(tmp_path):
    seen = in_a_terminal(tmp_path, "train", "--epochs", 100)
    assert "━" in seen
    percentages = {int(text) for text in re.findall(r"(\d+)%", seen)}
    assert len(percentages) > 1
    assert max(percentages) <= 100
    assert "test accuracy" in seen


def test_in_a_terminal_quiet_is_quiet(tmp_path):
    assert in_a_terminal(tmp_path, "train", "--epochs", 1, "--quiet") == ""


# --- backends


def test_backends_lists_each_with_its_version_or_its_cure(tmp_path):
    text = succeed(tmp_path, "backends")
    assert not CONTROL.search(text)
    lines = {line.split()[0]: line for line in text.splitlines()}
    assert list(lines) == ["numpy", "cupy", "torch", "jax", "array-api-strict"]
    assert re.search(rf"{re.escape(np.__version__)} +usable: cpu", lines["numpy"])
    for line in lines.values():
        assert "usable: " in line or "install" in line


@pytest.fixture(scope="module")
def losses(tmp_path_factory):
    """The losses and test figures of three epochs on NumPy."""
    return train_on(tmp_path_factory.mktemp("numpy"), "numpy")


def train_on(folder, backend, *options, **variables):
    succeed(
        folder, "train", "--backend", backend, "--epochs", 3, "--report", "report.json", *options,
        **variables,
    )  # fmt: skip
    report = json.loads((folder / "report.json").read_text())
    assert report["backend"] == backend
    assert report["device"] == "cpu"
    assert report["versions"][backend]
    figures = [[e["loss"], e["validation_loss"]] for e in report["history"]]
    return np.array([*figures, [report["test"]["loss"], report["test"]["loss"]]])


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_trains_the_digits_to_the_same_losses(tmp_path, losses, backend):
    require(backend)
    found = train_on(tmp_path, backend)
    np.testing.assert_allclose(found, losses, rtol=0, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_model_is_evaluated_alike_on_every_backend(digits, printed, backend):
    require(backend)
    text = succeed(digits, "evaluate", "model.safetensors", "--backend", backend)
    assert backend in text
    assert figure(text) == figure(printed.partition("\ntest ")[2])


def test_cupy_without_a_driver_is_one_line(tmp_path):
    if any(a.name == "cupy" and not a.problem for a in nnxp.backends.availability()):
        pytest.skip("there is a CUDA device here")
    line = fail(tmp_path, "train", "--backend", "cupy")
    assert "cupy" in line
    assert "install" in line
    assert not (tmp_path / "model.safetensors").exists()


def test_the_environment_sets_the_default_backend_and_device(tmp_path):
    require("array-api-strict")
    variables = {"NNXP_BACKEND": "array-api-strict", "NNXP_DEVICE": "device1"}
    text = succeed(tmp_path, "train", "--epochs", 1, **variables)
    assert re.search(r"on array-api-strict \S+ on device1", text)


def test_a_flag_wins_over_the_environment(tmp_path):
    variables = {"NNXP_BACKEND": "no-such", "NNXP_DEVICE": "nowhere"}
    flags = ["--backend", "numpy", "--device", "cpu"]
    text = succeed(tmp_path, "train", "--epochs", 1, *flags, **variables)
    assert re.search(r"on numpy \S+ on cpu", text)


def test_the_environment_is_read_by_evaluate_and_predict_too(digits):
    require("array-api-strict")
    text = succeed(digits, "evaluate", "model.safetensors", NNXP_BACKEND="array-api-strict")
    assert "array-api-strict" in text
    line = fail(digits, "predict", "model.safetensors", "digits", NNXP_BACKEND="nunpy")
    assert "'numpy'" in line


def test_an_unknown_backend_in_the_environment_is_told_the_nearest(tmp_path):
    line = fail(tmp_path, "train", NNXP_BACKEND="torhc")
    assert "'torhc'" in line
    assert "'torch'" in line


# --- other data


def test_moons_are_learnt(tmp_path):
    text = succeed(
        tmp_path, "train", "moons", "--hidden", 10, "--activation", "tanh", "--epochs", 200,
        "--learning-rate", 0.5, "--batch-size", 16,
    )  # fmt: skip
    assert "40 to test" in text
    accuracy = figure(text.partition("\ntest ")[2])
    assert accuracy >= 0.95
    assert figure(succeed(tmp_path, "evaluate", "model.safetensors", "moons")) == accuracy


def moon_rows(n=200):
    data = nnxp.datasets.moons.read(n)
    return [(a, b, ("upper", "lower")[y]) for (a, b), y in zip(data.x, data.y, strict=True)]


MOON_CSV = "a,b,moon\n" + "".join(f"{100 * a:.4f},{b:.4f},{moon}\n" for a, b, moon in moon_rows())
SMALL = ["--hidden", "16", "--epochs", "60", "--batch-size", "8"]


@pytest.fixture(scope="module")
def moons(tmp_path_factory):
    """A folder with a model of a csv file whose classes are text."""
    folder = tmp_path_factory.mktemp("moons")
    (folder / "data.csv").write_text(MOON_CSV)
    text = succeed(folder, "train", "data.csv", *SMALL)
    assert figure(text.partition("\ntest ")[2]) >= 0.95
    (folder / "printed").write_text(text)
    return folder


def test_a_file_is_evaluated_on_the_rows_that_were_not_trained_on(moons):
    text = succeed(moons, "evaluate", "model.safetensors", "data.csv")
    assert "40 samples, none of which was trained on" in text
    printed = (moons / "printed").read_text()
    assert "144 samples to train on, 16 to validate, 40 to test" in printed
    assert text.partition("accuracy ")[2].startswith(
        re.search(r"\ntest accuracy (.*)", printed)[1] + " (40"
    )


def test_another_content_is_evaluated_whole(moons):
    rows = MOON_CSV.splitlines(keepends=True)
    (moons / "more.csv").write_text("".join([*rows, rows[1]]))
    text = succeed(moons, "evaluate", "model.safetensors", "more.csv")
    assert "201 samples; the content is not that which the model was trained on" in text
    text = succeed(moons, "evaluate", "model.safetensors", "more.csv", "--test-share", 0.5)
    assert re.search(r"\(10[01] samples; the content", text)


def test_the_test_share_is_chosen_in_training_and_in_evaluation(tmp_path):
    (tmp_path / "data.csv").write_text(MOON_CSV)
    report = ["--report", "report.json", "--epochs", 1]
    text = succeed(tmp_path, "train", "data.csv", "--test-share", 0.5, *report)
    assert "90 samples to train on, 10 to validate, 100 to test" in text
    options = json.loads((tmp_path / "report.json").read_text())["options"]
    assert options["test_share"] == 0.5
    assert options["task_guessed"] is False
    assert "(100 samples," in succeed(tmp_path, "evaluate", "model.safetensors", "data.csv")
    some = ["evaluate", "model.safetensors", "data.csv", "--test-share"]
    assert "(20 samples, none of which" in succeed(tmp_path, *some, 0.1)
    assert "(100 samples, none of which" in succeed(tmp_path, *some, 0.9)
    assert "a share of 0 is less than a row" in fail(tmp_path, *some, 0)


def test_where_every_row_was_trained_on_there_is_nothing_to_evaluate(tmp_path):
    (tmp_path / "data.csv").write_text(MOON_CSV)
    text = succeed(tmp_path, "train", "data.csv", "--test-share", 0, "--epochs", 1)
    assert "next: nnxp predict" in text
    line = fail(tmp_path, "evaluate", "model.safetensors", "data.csv")
    assert "data.csv: nothing to test on: every row was trained on" in line


def test_the_header_is_said_in_training_and_in_evaluation(moons, tmp_path):
    line = "\nheader, the first line: a, b, moon\n"
    assert line in (moons / "printed").read_text()
    assert line in "\n" + succeed(moons, "evaluate", "model.safetensors", "data.csv")
    (tmp_path / "data.csv").write_text(MOON_CSV.partition("\n")[2])
    text = succeed(tmp_path, "train", "data.csv", "--epochs", 1)
    assert re.search(r"^header, the first line: \S+, \S+, upper; it has numbers: if", text, re.M)
    wide = ",".join(f"pixel{i}" for i in range(20)) + ",\x1b[31m\n"
    rows = "".join(",".join(["1"] * 20) + f",{'uv'[i % 2]}\n" for i in range(20))
    (tmp_path / "wide.csv").write_text(wide + rows)
    text = succeed(tmp_path, "train", "wide.csv", "--epochs", 1, "--overwrite")
    assert "pixel7, ..., '\\x1b[31m' (21 columns)\n" in text
    assert not CONTROL.search(text)


def test_the_task_is_said_and_that_it_was_guessed(tmp_path, moons, printed):
    assert "\nclassify, 10 classes\n" in printed
    assert "\nclassify, 2 classes; target moon\n" in (moons / "printed").read_text()
    tasks = {
        "classify, 3 classes (guessed; --task regress)": lambda i: i % 3,
        "regress (guessed; --task classify)": lambda i: 1000 + 7 * i,
    }
    for task, value in tasks.items():
        rows = "".join(f"{i},{value(i)}\n" for i in range(60))
        (tmp_path / "data.csv").write_text("a,price\n" + rows)
        text = succeed(tmp_path, "train", "data.csv", "--epochs", 1, "--overwrite")
        assert f"\n{task}; target price\n" in text


def test_no_row_is_lost_to_training_without_a_word(tmp_path):
    """Each class keeps a row to train on, so of 45 classes in 60 rows few can be held out."""
    rows = "".join(f"{i},{i % 45}\n" for i in range(60))
    (tmp_path / "data.csv").write_text("a,y\n" + rows)
    options = ["--epochs", 1, "--task", "classify", "--test-share", 0.3]
    text = succeed(tmp_path, "train", "data.csv", *options)
    assert "45 samples to train on, 0 to validate, 15 to test" in text
    assert "\n0 rows to validate on and not 4, a share of 0.1: each class keeps a row" in text
    assert "\n15 rows to test on and not 18, a share of 0.3: each class keeps a row" in text
    (tmp_path / "data.csv").write_text("a,y\n1,u\n2,v\n")
    text = succeed(tmp_path, "train", "data.csv", "--epochs", 1, "--overwrite")
    assert "\nno rows to test on: a share of 0.2 of 2 is less than one\n" in text


def test_evaluation_reads_the_test_part_of_mnist_alone(tmp_path):
    write_mnist(tmp_path)
    succeed(tmp_path, "train", "mnist", "--data-dir", ".", "--hidden", 3, "--epochs", 1)
    for part in ("images", "labels"):
        (tmp_path / "mnist" / NAMES[f"train-{part}"]).unlink()
    evaluate = ["evaluate", "model.safetensors", "mnist", "--data-dir", "."]
    assert "(4 samples," in succeed(tmp_path, *evaluate)
    assert "has test data of its own" in fail(tmp_path, *evaluate, "--test-share", 0.5)


def test_predictions_are_the_classes_own_names(moons):
    header, rows = table(succeed(moons, "predict", "model.safetensors", "data.csv"))
    assert header == ["prediction", "lower", "upper"]
    right = [row[0] == moon for row, (_, _, moon) in zip(rows, moon_rows(), strict=True)]
    assert np.mean(right) >= 0.95


def test_predict_needs_no_target_and_takes_columns_by_name(moons):
    (moons / "turned.csv").write_text(
        "b,a\n" + "".join(f"{b:.4f},{100 * a:.4f}\n" for a, b, _ in moon_rows())
    )
    straight = succeed(moons, "predict", "model.safetensors", "data.csv")
    assert succeed(moons, "predict", "model.safetensors", "turned.csv") == straight


def test_preprocessing_goes_with_the_model(moons):
    known = nnxp.MLP.load(moons / "model.safetensors", "numpy").metadata
    assert known["preprocessing"]["kind"] == "standardize"
    assert known["preprocessing"]["scale"][0] == pytest.approx(87, rel=0.1)


def test_preprocess_none_leaves_the_features_alone(tmp_path):
    (tmp_path / "data.csv").write_text(MOON_CSV)
    succeed(
        tmp_path, "train", "data.csv", "--preprocess", "none", "--epochs", 1, "--learning-rate", 0
    )
    network = nnxp.MLP.load(tmp_path / "model.safetensors", "numpy")
    _, rows = table(succeed(tmp_path, "predict", "model.safetensors", "data.csv"))
    x = [[round(100 * a, 4), round(b, 4)] for a, b, _ in moon_rows()]
    np.testing.assert_allclose(
        np.array([row[1:] for row in rows], dtype=float), network.predict(x), atol=1e-5
    )


def test_the_target_may_be_any_column(tmp_path):
    turned = "".join(f"{moon},{a},{b}\n" for a, b, moon in moon_rows())
    (tmp_path / "data.csv").write_text("moon,a,b\n" + turned)
    text = succeed(tmp_path, "train", "data.csv", "--target", "moon", *SMALL)
    assert figure(text.partition("\ntest ")[2]) >= 0.95
    assert figure(succeed(tmp_path, "evaluate", "model.safetensors", "data.csv")) >= 0.95


def plane(n=120):
    rng = np.random.default_rng(3)
    a, b = rng.uniform(0, 10, n), rng.uniform(-1, 1, n)
    return a, b, 500 + 3 * a - 20 * b


@pytest.fixture(scope="module")
def regression(tmp_path_factory):
    folder = tmp_path_factory.mktemp("regression")
    rows = "".join(f"{a:.5f},{b:.5f},{y:.5f}\n" for a, b, y in zip(*plane(), strict=True))
    (folder / "data.csv").write_text("a,b,price\n" + rows)
    options = ["--hidden", "16", "--epochs", "100", "--batch-size", "8", "--report", "report.json"]
    succeed(folder, "train", "data.csv", *options)
    return folder


def test_real_targets_are_regressed_on(regression):
    report = json.loads((regression / "report.json").read_text())
    assert set(report["test"]) == {"r2", "rmse", "mae", "loss"}
    assert report["test"]["r2"] >= 0.99
    assert report["options"]["loss"] == "quadratic"
    assert report["options"]["output_activation"] == "identity"
    assert report["options"]["task"] == "regress"


def test_regression_is_evaluated_by_r2(regression):
    assert figure(succeed(regression, "evaluate", "model.safetensors", "data.csv"), "r2") >= 0.99


def test_predictions_are_in_the_targets_own_unit(regression):
    header, rows = table(succeed(regression, "predict", "model.safetensors", "data.csv"))
    assert header == ["prediction"]
    found = np.array(rows, dtype=float).ravel()
    assert np.abs(found - plane()[2]).max() < 5


@pytest.mark.parametrize(
    ("column", "task", "metric"),
    [(["1", "2", "3", "4"], "regress", "r2"), (["0.5", "1.5"], "classify", "accuracy")],
)
def test_the_task_can_be_told(tmp_path, column, task, metric):
    rows = "".join(f"{i},{column[i % len(column)]}\n" for i in range(40))
    (tmp_path / "data.csv").write_text(f"a,y\n{rows}")
    options = ["--task", task, "--epochs", 1, "--report", "report.json"]
    succeed(tmp_path, "train", "data.csv", *options)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["options"]["task"] == task
    assert metric in report["test"]


def test_several_labels_a_row_are_learnt_from_an_npz(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3))
    np.savez(tmp_path / "data.npz", x=x, y=(x > 0).astype(int))
    options = [*SMALL, "--report", "report.json"]
    succeed(tmp_path, "train", "data.npz", *options)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["options"]["task"] == "multilabel"
    assert report["options"]["output_activation"] == "sigmoid"
    assert report["options"]["loss"] == "binary_cross_entropy"
    assert report["test"]["accuracy"] >= 0.85
    header, rows = table(succeed(tmp_path, "predict", "model.safetensors", "data.npz"))
    assert len(header) == 3
    assert ((np.array(rows, dtype=float) > 0.5) == (x > 0)).mean() >= 0.9


def test_an_npz_with_test_arrays_is_evaluated_on_those(tmp_path):
    data = nnxp.datasets.load("moons")
    np.savez(tmp_path / "data.npz", x=data.x, y=data.y, x_test=data.x_test, y_test=data.y_test)
    text = succeed(tmp_path, "train", "data.npz", *SMALL)
    again = succeed(tmp_path, "evaluate", "model.safetensors", "data.npz")
    assert "40 samples" in again
    assert figure(again) == figure(text.partition("\ntest ")[2])


# --- weights from elsewhere

BOOK = {
    "W1": [[0.1, 0.3, 0.5], [0.2, 0.4, 0.6]], "b1": [0.1, 0.2, 0.3],
    "W2": [[0.1, 0.4], [0.2, 0.5], [0.3, 0.6]], "b2": [0.1, 0.2],
    "W3": [[0.1, 0.3], [0.2, 0.4]], "b3": [0.1, 0.2],
}  # fmt: skip


@pytest.fixture(scope="module", params=["float32", "float64"])
def book(tmp_path_factory, request):
    """A folder with the books' three-layer network, as they print it."""
    folder = tmp_path_factory.mktemp("book")
    np.savez(folder / "weights.npz", **BOOK)
    options = ["--hidden-activation", "sigmoid", "--output-activation", "identity"]
    options += ["--dtype", request.param, "--save", "book.safetensors"]
    text = succeed(folder, "import-weights", "weights.npz", *options)
    assert "2-3-2-2" in text
    assert "book.safetensors" in text
    np.savez(folder / "x.npz", x=[[1.0, 0.5]])
    (folder / "x.csv").write_text("x1,x2\n1.0,0.5\n")
    return folder


@pytest.mark.parametrize("data", ["x.npz", "x.csv"])
def test_the_books_three_layer_network_predicts_what_they_print(book, data):
    _, rows = table(succeed(book, "predict", "book.safetensors", data))
    assert [float(value) for value in rows[0][-2:]] == pytest.approx(
        [0.31682708, 0.69627909], abs=1e-7
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"W2": None}, ["W2"]),
        ({"b3": None}, ["b3"]),
        ({"W2": np.ones((2, 3))}, ["W2", "(2, 3)", "(3, 2)"]),
        ({"b1": np.ones(4)}, ["W1"]),
        ({"W1": np.ones(3)}, ["W1", "(3,)"]),
        ({"W1": np.float64(3)}, ["W1"]),
        ({"W3": np.array([["a", "b"]] * 2)}, ["W3"]),
        ({"W3": np.full((2, 2), np.nan)}, ["W3"]),
        ({"W3": np.full((2, 2), 1e39)}, ["W3"]),
        ({"W1": np.array([[{}] * 3] * 2)}, ["weights.npz"]),
        ({f"{kind}{i}": None for kind in "Wb" for i in (1, 2, 3)}, ["W1"]),
    ],
    ids=["no W2", "no b3", "turned", "b1", "1-d", "0-d", "text", "nan", "1e39", "objects", "empty"],
)
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path, changes, words):
    merged = BOOK | changes
    np.savez(tmp_path / "weights.npz", **{k: v for k, v in merged.items() if v is not None})
    line = fail(tmp_path, "import-weights", "weights.npz")
    for word in ("weights.npz", *words):
        assert word in line
    assert not (tmp_path / "model.safetensors").exists()


# --- bad input: exit status 2, one line with the place and the value, the old model untouched


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
def bad(tmp_path_factory, digits, moons):
    """A folder full of bad files, and two good models."""
    folder = tmp_path_factory.mktemp("bad")
    shutil.copy(digits / "model.safetensors", folder / "digits.safetensors")
    shutil.copy(moons / "model.safetensors", folder / "moons.safetensors")
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
    (folder / "cut.npz").write_bytes((digits / "model.safetensors").read_bytes()[:99])
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
    "--validation 1": ["validation", "1"],
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


@pytest.mark.parametrize("option", ["--save", "--report"])
@pytest.mark.parametrize(
    "where",
    ["nowhere/model", "folder", "file/model", "x" * 256],
    ids=["missing folder", "a folder", "under a file", "too long"],
)
def test_an_unwritable_file_is_found_before_training(tmp_path, option, where):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    line = fail(tmp_path, "train", "--epochs", 10**7, option, where, timeout=10)
    assert option in line
    assert where in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_found_before_training(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    line = fail(tmp_path, "train", "--epochs", 10**7, "--save", "locked/model", timeout=20)
    assert "locked/model" in line


def test_a_file_that_is_no_model_is_not_overwritten(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    line = fail(tmp_path, "train", "--epochs", 1, "--save", "thesis.txt")
    assert "thesis.txt" in line
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_import_weights_does_not_overwrite_what_is_no_model_either(tmp_path):
    np.savez(tmp_path / "weights.npz", **BOOK)
    before = (tmp_path / "weights.npz").read_bytes()
    fail(tmp_path, "import-weights", "weights.npz", "--save", "weights.npz")
    assert (tmp_path / "weights.npz").read_bytes() == before


def test_the_report_may_not_go_where_the_model_goes(tmp_path):
    fail(tmp_path, "train", "--epochs", 1, "--save", "same", "--report", "same")


# --- training that does not end well


@pytest.mark.parametrize(
    "options",
    ["--learning-rate 1e30", "--learning-rate 1e39 --epochs 1 --batch-size all"],
    ids=["during", "in the last step"],
)
def test_diverging_training_is_one_line_and_keeps_the_old_model(digits, tmp_path, options):
    save = tmp_path / "precious.safetensors"
    shutil.copy(digits / "model.safetensors", save)
    before = save.read_bytes()
    line = fail(tmp_path, "train", *options.split(), "--save", save, status=1)
    assert "learning rate" in line
    assert save.read_bytes() == before
    assert os.listdir(tmp_path) == [save.name]


def test_diverging_training_leaves_no_model(tmp_path):
    fail(tmp_path, "train", "--learning-rate", "1e30", status=1)
    assert os.listdir(tmp_path) == []


@contextmanager
def training(folder, *options, **started_with):
    """`nnxp train` for as good as ever, in `folder`; its first epoch is done."""
    command = [sys.executable, "-m", "nnxp", "train", "--epochs", str(10**7), *map(str, options)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with started(command, cwd=folder, env=environment(folder), **pipes, **started_with) as process:
        while not ROW.match(line := process.stdout.readline()):
            assert line or process.poll() is None, process.stderr.read()
        yield process


@pytest.mark.parametrize(
    ("number", "word", "status"),
    [(signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "terminated", 143)],
)
def test_a_signal_ends_training_and_keeps_what_was_learnt(tmp_path, number, word, status):
    options = ["--report", "report.json", "--early-stopping", 10**7]
    with training(tmp_path, *options) as process:
        process.send_signal(number)
        _, stderr = process.communicate(timeout=20)
    done = re.fullmatch(
        rf"nnxp: {word} after epoch (\d+) of 10000000: saved model.safetensors\n", stderr
    )
    assert done, stderr
    assert process.returncode == status
    assert sorted(os.listdir(tmp_path)) == ["model.safetensors", "report.json"]
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report["history"]) == int(done[1])
    assert report["test"] == {}
    # The parameters are those of the epoch that early stopping found best.
    best = min(report["history"], key=lambda epoch: epoch["validation_loss"])
    straight = tmp_path / "straight"
    straight.mkdir()
    succeed(straight, "train", "--epochs", best["epoch"])
    models = [nnxp.MLP.load(f / "model.safetensors", "numpy") for f in (tmp_path, straight)]
    for ours, theirs in zip(*(model.parameters for model in models), strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])


def test_an_interrupted_training_does_not_replace_one_that_ended(digits, tmp_path):
    save = tmp_path / "model.safetensors"
    shutil.copy(digits / "model.safetensors", save)
    before = save.read_bytes()
    with training(tmp_path) as process:
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
    assert stderr.endswith(": saved model.interrupted.safetensors\n")
    assert save.read_bytes() == before
    nnxp.MLP.load(tmp_path / "model.interrupted.safetensors", "numpy")
    with training(tmp_path, "--overwrite") as process:
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
    assert stderr.endswith(": saved model.safetensors\n")
    assert save.read_bytes() != before


def test_an_interrupt_before_the_first_epoch_is_complete_saves_nothing(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.zeros((20_000, 784)), y=np.arange(20_000) % 10)
    options = ["data.npz", "--hidden", "1024,1024", "--batch-size", 8, "--save", "m.safetensors"]
    command = [sys.executable, "-m", "nnxp", "train", *map(str, options)]
    with started(
        command, cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        while " samples to train on" not in process.stdout.readline():
            assert process.poll() is None
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert re.fullmatch(
        "nnxp: interrupted( before the first epoch was complete: nothing is saved)?\n", stderr
    )
    assert process.returncode == 130
    assert os.listdir(tmp_path) == ["data.npz"]


def test_a_training_in_the_background_is_ended_by_sigterm_and_not_by_sigint(tmp_path):
    with training(tmp_path, sigint=signal.SIG_IGN) as process:
        process.send_signal(signal.SIGINT)
        for _ in range(5):
            assert ROW.match(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=20)
    assert stderr.startswith("nnxp: terminated after epoch ")
    assert process.returncode == 143
    assert (tmp_path / "model.safetensors").is_file()


def test_an_interrupt_while_starting_is_one_line(tmp_path):
    """While numpy is imported, which is long before the package is."""
    (tmp_path / "numpy.py").write_text(
        "import os, signal\n"
        "try: os.kill(os.getpid(), signal.SIGINT)\n"
        "except BaseException: pass\n"  # as some imports do
        "raise SystemExit('the interrupt was lost')"
    )
    code = "from nnxp.__main__ import main; main()"
    with started(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(tmp_path),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        stdout, stderr = process.communicate(timeout=20)
    assert (stdout, stderr, process.returncode) == ("", "nnxp: interrupted\n", 130)


# --- readers that leave, streams that are closed, disks that are full


def shell(folder, command):
    """What bash makes of `command`, in which nnxp stands for itself."""
    nnxp_ = f'nnxp() {{ {shlex.quote(sys.executable)} -m nnxp "$@"; }}; set -o pipefail; '
    return subprocess.run(
        ["bash", "-c", nnxp_ + command], cwd=folder, env=environment(folder), capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_reader_that_leaves_does_not_end_a_training(tmp_path):
    done = shell(tmp_path, "nnxp train --epochs 20 --report report.json | head -1")
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.count("\n") == 1
    assert len(json.loads((tmp_path / "report.json").read_text())["history"]) == 20
    assert (tmp_path / "model.safetensors").is_file()


@pytest.mark.parametrize("streams", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_training_does_without_standard_streams(tmp_path, streams):
    done = shell(tmp_path, f"nnxp train --epochs 1 {streams}")
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    nnxp.MLP.load(tmp_path / "model.safetensors", "numpy")


def test_predictions_for_a_closed_output_are_one_line(digits):
    done = shell(digits, "nnxp predict model.safetensors digits >&-")
    assert done.stderr == "nnxp: standard output is closed: name a file with --output\n"
    assert done.returncode == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_an_output_that_is_full_is_one_line_and_the_model_is_saved(tmp_path):
    done = shell(tmp_path, "nnxp train --epochs 1 >/dev/full")
    assert done.stderr == "nnxp: standard output: No space left on device\n"
    assert done.returncode == 1
    assert (tmp_path / "model.safetensors").is_file()
    done = shell(tmp_path, "nnxp predict model.safetensors digits >/dev/full")
    assert done.stderr == "nnxp: standard output: No space left on device\n"
    assert done.returncode == 1


def test_a_disk_that_is_full_is_one_line_that_names_the_file(tmp_path):
    done = shell(tmp_path, "trap '' XFSZ; ulimit -f 1; nnxp train --epochs 1 -q --save m")
    assert done.stderr == "nnxp: m: File too large\n"
    assert done.returncode == 1
    assert os.listdir(tmp_path) == []


# --- a model that is there already


def test_a_model_of_the_same_network_and_data_is_replaced_and_that_is_said(tmp_path):
    assert succeed(tmp_path, "train", "--epochs", 1).count("\nsaved model.safetensors\n") == 1
    before = (tmp_path / "model.safetensors").read_bytes()
    text = succeed(tmp_path, "train", "--epochs", 2)
    assert "\nsaved model.safetensors in place of the model that was there\n" in text
    assert (tmp_path / "model.safetensors").read_bytes() != before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--hidden", "9"], "sizes [64, 128, 64, 10], not [64, 9, 10]"),
        (["--hidden", "9", "--save", "model.safetensors"], "[64, 128, 64, 10], not [64, 9, 10]"),
        (["--activation", "tanh"], "hidden activations ['relu', 'relu'], not ['tanh', 'tanh']"),
        (["--output-activation", "sigmoid"], "output 'softmax', not 'sigmoid'"),
        (["data.npz"], "data 'digits', not 'data.npz'"),
    ],
)
def test_a_model_of_another_network_or_data_is_kept(digits, tmp_path, options, says):
    shutil.copy(digits / "model.safetensors", tmp_path)
    np.savez(tmp_path / "data.npz", x=np.ones((30, 64)), y=np.arange(30) % 10)
    before = (tmp_path / "model.safetensors").read_bytes()
    line = fail(tmp_path, "train", "--epochs", 10**7, *options, timeout=20)
    assert says in line
    assert "--save" in line
    assert "--overwrite" in line
    assert (tmp_path / "model.safetensors").read_bytes() == before
    text = succeed(tmp_path, "train", "--epochs", 1, *options, "--overwrite")
    assert "saved model.safetensors in place of the model that was there\n" in text
    assert (tmp_path / "model.safetensors").read_bytes() != before


def test_imported_weights_do_not_replace_a_model_of_another_network(digits, tmp_path):
    shutil.copy(digits / "model.safetensors", tmp_path)
    np.savez(tmp_path / "weights.npz", **BOOK)
    assert "--overwrite" in fail(tmp_path, "import-weights", "weights.npz")
    text = succeed(tmp_path, "import-weights", "weights.npz", "--overwrite")
    assert text.startswith("saved model.safetensors in place of the model that was there: 2-3-2-2")


# --- help


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "import-weights", "backends"])
def test_every_command_has_help(tmp_path, command):
    text = succeed(tmp_path, command, "--help", COLUMNS=200)
    assert f" {command} [OPTIONS]" in text


def test_the_package_is_run_like_the_command(tmp_path):
    done = shell(tmp_path, "nnxp --version")
    assert (done.stdout, done.stderr) == (f"nnxp {nnxp.__version__}\n", "")


def test_the_version_is_printed(tmp_path):
    assert nnxp.__version__ in succeed(tmp_path, "--version")


# --- MNIST, where it is


@pytest.fixture
def mnist():
    folder = os.environ.get("NNXP_DATA_DIR")
    if not folder or not os.path.isdir(os.path.join(folder, "mnist")):
        pytest.skip("NNXP_DATA_DIR names no folder with mnist in it")
    return os.path.abspath(folder)


def test_mnist_is_learnt_in_an_epoch(tmp_path, mnist):
    options = ["--hidden", 30, "--epochs", 1, "--batch-size", 32]
    text = succeed(tmp_path, "train", "mnist", *options, NNXP_DATA_DIR=mnist)
    assert figure(text.partition("\ntest ")[2]) >= 0.92
    again = succeed(tmp_path, "evaluate", "model.safetensors", "mnist", "--data-dir", mnist)
    assert figure(again) == figure(text.partition("\ntest ")[2])


@pytest.mark.parametrize("backend", ["numpy", *BACKENDS])
def test_the_pretrained_weights_are_right_on_9352_of_10000(tmp_path, mnist, backend):
    require(backend)
    file = os.path.join(mnist, "pretrained", "mnist-784-50-100-10-sigmoid.npz")
    if not os.path.isfile(file):
        pytest.skip("NNXP_DATA_DIR has no pretrained weights")
    succeed(tmp_path, "import-weights", file, "--hidden-activation", "sigmoid")
    options = ["--data-dir", mnist, "--backend", backend]
    text = succeed(tmp_path, "evaluate", "model.safetensors", "mnist", *options)
    assert figure(text) == 0.9352
    assert "10,000 samples" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "moons.csv", "--report", "moons.csv"],
        ["train", "moons.csv", "--save", "moons.csv"],
        ["predict", "model.safetensors", "moons.csv", "--output", "moons.csv"],
        ["predict", "model.safetensors", "moons.csv", "--output", "model.safetensors"],
    ],
)
def test_an_output_never_overwrites_an_input(tmp_path, arguments):
    rows = "".join(f"{i % 7},{i % 3},{'ab'[i % 2]}\n" for i in range(40))
    (tmp_path / "moons.csv").write_text("u,v,class\n" + rows)
    succeed(tmp_path, "train", "moons.csv", "--epochs", 1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    line = fail(tmp_path, *arguments)
    assert arguments[-1] in line
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_model_without_class_names_takes_classes_by_their_number(tmp_path):
    """Whichever of them happen to occur in the file."""
    x, t = np.eye(4).repeat(5, axis=0), np.arange(4).repeat(5)
    network = nnxp.MLP([4, 4], backend="numpy")
    nnxp.train(network, x, t, epochs=50, batch_size=4)
    network.save(tmp_path / "model.safetensors")
    np.savez(tmp_path / "some.npz", x=x[5:], y=t[5:])
    assert "accuracy 1.0000" in succeed(tmp_path, "evaluate", "model.safetensors", "some.npz")


@pytest.mark.parametrize(
    "metadata",
    [
        {"preprocessing": {"kind": "foo", "who": 1}},
        {"preprocessing": {"kind": "pixels", "shift": "a", "scale": 1}},
        {"preprocessing": {"kind": "standardize", "shift": [0, 0], "scale": [1]}},
        {"preprocessing": {"kind": "pca", "shift": [0, 0], "scale": [1, 1], "matrix": 1}},
        {"preprocessing": {"kind": "pca", "shift": [0], "scale": [1], "matrix": np.eye(2)}},
        {"preprocessing": {"kind": "pca", "shift": [0] * 64, "scale": [1] * 64}},
        {"preprocessing": {"kind": "standardize", "shift": [0] * 3, "scale": [1] * 3}},
        {"preprocessing": {"kind": "standardize", "shift": [0] * 64, "scale": [1] * 63 + [0]}},
        {"preprocessing": {"kind": "standardize", "shift": [0] * 64, "scale": [1] * 63 + [-1]}},
        {"preprocessing": {"kind": "standardize", "shift": 10**400, "scale": 1}},
        {"preprocessing": {"kind": "pixels", "shift": 0, "scale": 0.0}},
        {"preprocessing": {"kind": "pixels", "shift": 0, "scale": 1e-300}},
        {"preprocessing": {"kind": "pixels", "shift": 0, "scale": 1e300}},
        {"shape": 64},
        {"shape": [-8, -8]},
        {"classes": 5},
        {"classes": ["a"]},
        {"task": "my task"},
        {"features": "abc"},
        {"split": 0.2},
        {"split": {"share": 0.2, "seed": 0}},
        {"split": {"share": 2, "seed": 0, "content": 64 * "0"}},
        {"split": {"share": 0.2, "seed": -1, "content": 64 * "0"}},
        {"split": {"share": 0.2, "seed": True, "content": 64 * "0"}},
        {"split": {"share": 0.2, "seed": 0, "content": "abc"}},
    ],
    ids=lambda metadata: str(metadata)[:100],
)
@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_metadata_of_another_kind_is_refused(tmp_path, metadata, command):
    network = nnxp.MLP([64, 10], backend="numpy")
    network.metadata = metadata
    network.save(tmp_path / "model.safetensors")
    fail(tmp_path, command, "model.safetensors", "digits")


def test_targets_in_a_column_of_their_own_are_classes_too(tmp_path):
    x = np.random.default_rng(0).standard_normal((30, 3))
    np.savez(tmp_path / "column.npz", x=x, y=np.arange(30)[:, None] % 3)
    assert "accuracy" in succeed(tmp_path, "train", "column.npz", "--epochs", 1)
    np.savez(tmp_path / "labels.npz", x=x, y=np.ones((30, 2)))
    line = fail(tmp_path, "train", "labels.npz", "--task", "classify")
    assert "labels.npz" in line


def test_the_standard_output_may_be_a_pipe(tmp_path):
    succeed(tmp_path, "train", "--epochs", 1, "--quiet")
    printed = succeed(tmp_path, "predict", "model.safetensors", "digits", "--output", "/dev/stdout")
    assert printed.startswith("prediction,")


@pytest.mark.parametrize(
    ("words", "completed"), [("nnxp tra", "train"), ("nnxp train --lear", "--learning-rate")]
)
def test_the_shell_completes_commands_and_options(tmp_path, words, completed):
    asked = {"_NNXP_COMPLETE": "complete_bash", "COMP_WORDS": words}
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv = ['nnxp']; from nnxp import cli; cli.main()"],
        env=environment(tmp_path, COMP_CWORD=words.count(" "), **asked),
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (done.stdout.split(), done.stderr) == ([completed], "")
    assert "--install-completion" in succeed(tmp_path, "--help")


def test_gradcheck_says_so_and_exits_with_1_where_a_derivative_is_wrong(tmp_path):
    text = succeed(tmp_path, "gradcheck", "--activation", "sigmoid")
    assert "layers.0.weight" in text
    assert re.search(r"layers.0.weight +\(8, 6\) +48 +[1-9].\de-1[01] +[1-9].\de-(08|09)\n", text)
    assert text.endswith("all within 1e-06\n")
    text = succeed(tmp_path, "gradcheck", "--activation", "sigmoid", "--hidden", "30," * 7 + "30")
    assert re.search(r"layers.0.weight .* too small to tell\n", text)
    assert text.endswith("or a gradient as small as rounding errors\n")
    code = (
        "import sys\nfrom nnxp import cli, kernels\n"
        "forward, _ = kernels.ACTIVATIONS['tanh']\n"
        "kernels.ACTIVATIONS['tanh'] = forward, lambda dy, y: dy * (1 - y)\n"
        "sys.argv = ['nnxp', 'gradcheck', '--backend', 'numpy']\ncli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout.count("WRONG") == 4
    assert done.stderr.count("\n") == 1
    assert "layers.0.weight" in done.stderr


@pytest.mark.parametrize("samples", ["0", "-1", "99999999999999999999", "1e3"])
def test_gradcheck_draws_no_more_samples_than_it_can_hold(tmp_path, samples):
    assert "--samples" in fail(tmp_path, "gradcheck", "--samples", samples)


def test_a_saved_model_can_be_checked(tmp_path):
    succeed(tmp_path, "train", "--epochs", 1, "--activation", "tanh", "--quiet")
    text = succeed(tmp_path, "gradcheck", "model.safetensors")
    assert re.search(r"layers.0.weight +\(64, 128\) +200 ", text)


def test_regularisation_schedule_and_early_stopping(tmp_path):
    text = succeed(
        tmp_path, "train", "--dropout", "0.2,0.1", "--l1", "1e-6", "--l2", "1e-4", "--max-norm", 3,
        "--schedule", "cosine,warmup=2", "--early-stopping", 4, "--epochs", 15,
        "--report", "r.json",
    )  # fmt: skip
    assert "the parameters are those of epoch" in text
    report = json.loads((tmp_path / "r.json").read_text())
    rates = [epoch["learning_rate"] for epoch in report["history"]]
    assert rates[:3] == pytest.approx([0.1 / 3, 0.2 / 3, 0.1])
    assert report["test"]["accuracy"] > 0.9


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--dropout", "x", "--dropout 'x'"),
        ("--dropout", "1.0", "dropout must be a number in [0, 1)"),
        ("--dropout", "0.1,0.2,0.3", "3 dropout shares for 2 hidden layers"),
        ("--l1", "-1", "l1 must be a finite number, 0 or more, not -1"),
        ("--max-norm", "0", "max_norm must be a finite number above 0"),
        ("--schedule", "cosin", "unknown schedule 'cosin': did you mean 'cosine'"),
        ("--early-stopping", "0", "patience must be a whole number, 1 or more, not 0"),
        ("--monitor", "accuracy", "unknown monitor 'accuracy'"),
    ],
)
def test_wrong_regularisation_is_one_line(tmp_path, option, value, says):
    extra = ["--early-stopping", 3] if option == "--monitor" else []
    assert says in fail(tmp_path, "train", option, value, *extra)


def test_every_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    succeed(tmp_path, "train", "--epochs", 1, "--quiet", "--report", "report.json")
    succeed(tmp_path, "train", "moons", "--epochs", 1, "--quiet", "--save", "moons.safetensors")
    for arguments in (
        ["activations"],
        ["history", "report.json"],
        ["boundary", "moons.safetensors"],
        ["digits", "model.safetensors", "digits"],
        ["weights", "model.safetensors"],
    ):
        text = succeed(tmp_path, "plot", *arguments)
        assert text == f"saved {arguments[0]}.png\n"
        assert (tmp_path / f"{arguments[0]}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["activations", "--save", "x.gif"], "x.gif: a picture is .png, .svg or .pdf"),
        (["activations", "--save", "nowhere/x.png"], "nowhere/x.png"),
        (["history", "nosuch.json"], "nosuch.json: No such file"),
        (["history", "broken.json"], "broken.json: not JSON"),
        (["history", "other.json"], "other.json: "),
        (["weights", "broken.json"], "broken.json: not an nnxp model"),
        (["weights", "broken.json", "--save", "broken.json"], "broken.json"),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_one_line(tmp_path, arguments, says):
    pytest.importorskip("matplotlib")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "other.json").write_text("{}")
    assert says in fail(tmp_path, "plot", *arguments)


def test_diagnose_says_by_layer_what_hinders_learning_and_the_cure(tmp_path):
    options = ["--epochs", 4, "--learning-rate", 1.5, "--report", "report.json"]
    text = succeed(tmp_path, "train", "digits", "--diagnose", *options)
    warnings = [line.strip() for line in text.splitlines() if "warning:" in line]
    assert [line for line in warnings if line.startswith("warning: layer 1:")]
    assert all("lower the learning rate (1.5)" in line for line in warnings)
    assert len(set(warnings)) == len(warnings) <= 4  # each once, though it lasts
    table = text.partition("\nepoch 4\n")[2].splitlines()
    assert table[0].split() == ["layer", "activation", "dead", "saturated", "gradient", "update"]
    assert [row.split()[1] for row in table[1:4]] == ["relu", "relu", "softmax"]
    history = json.loads((tmp_path / "report.json").read_text())["history"]
    shares = [epoch["diagnosis"]["layers"][0]["dead"] for epoch in history]
    assert f"{shares[-1]:.0%}" == table[1].split()[2]
    assert shares[-1] >= 0.4


def test_without_diagnose_nothing_is_said_of_layers(tmp_path):
    text = succeed(tmp_path, "train", "digits", "--epochs", 1)
    assert "activation" not in text

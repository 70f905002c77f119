"""`nnxp train`: what it prints, reports, saves and refuses to replace."""

import json
import os
import re
import shlex
import shutil
import sys

import numpy as np
import pytest
from command_line import CONTROL, MOON_CSV, ROW, environment, fail, figure, succeed
from processes import completed

import nnxp


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


def test_train_says_where_the_model_is(trained_digits, printed):
    assert "saved model.safetensors\n" in printed
    assert (trained_digits / "model.safetensors").is_file()


def test_the_next_command_works_and_agrees(trained_digits, printed):
    command, *arguments = shlex.split(re.search(r"next: (.*)", printed)[1])
    assert command == "nnxp"
    text = succeed(trained_digits, *arguments)
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


def test_training_again_gives_the_same_model_byte_for_byte(trained_digits, tmp_path):
    succeed(tmp_path, "train")
    again = (tmp_path / "model.safetensors").read_bytes()
    assert again == (trained_digits / "model.safetensors").read_bytes()


def test_another_seed_gives_another_model(trained_digits, tmp_path):
    succeed(tmp_path, "train", "--seed", 1, "--epochs", 1, "--quiet")
    assert (tmp_path / "model.safetensors").read_bytes() != (
        trained_digits / "model.safetensors"
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
    done = completed(
        [
            sys.executable,
            "-c",
            REFUSES,
            "train",
            "--epochs",
            "1",
            "--backend",
            "numpy",
            "-v",
            "--report",
            "report.json",
        ],
        cwd=tmp_path,
        env=environment(tmp_path),
        check=True,
    )
    line = "steps run eagerly: they cannot be recorded (no products today)"
    assert done.stdout.count(line) == 1
    assert json.loads((tmp_path / "report.json").read_text())["fallbacks"] == [line]


def test_a_report_without_a_fall_back_says_that(report):
    assert report["fallbacks"] == []


def test_quiet_prints_nothing_and_saves(tmp_path):
    assert succeed(tmp_path, "train", "--epochs", 1, "--quiet") == ""
    assert (tmp_path / "model.safetensors").is_file()


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


@pytest.mark.parametrize("option", ["--save", "--report"])
@pytest.mark.parametrize(
    "where",
    ["nowhere/model", "folder", "file/model", "x" * 256],
    ids=["missing folder", "a folder", "under a file", "too long"],
)
def test_an_unwritable_file_is_found_before_training(tmp_path, option, where):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    line = fail(tmp_path, "train", "--epochs", 1, option, where)
    assert option in line
    assert where in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_found_before_training(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    line = fail(tmp_path, "train", "--epochs", 1, "--save", "locked/model")
    assert "locked/model" in line


def test_a_file_that_is_no_model_is_not_overwritten(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    line = fail(tmp_path, "train", "--epochs", 1, "--save", "thesis.txt")
    assert "thesis.txt" in line
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_the_report_may_not_go_where_the_model_goes(tmp_path):
    fail(tmp_path, "train", "--epochs", 1, "--save", "same", "--report", "same")


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


@pytest.mark.parametrize(
    "options",
    ["--learning-rate 1e30", "--learning-rate 1e39 --epochs 1 --batch-size all"],
    ids=["during", "in the last step"],
)
def test_diverging_training_is_one_line_and_keeps_the_old_model(trained_digits, tmp_path, options):
    save = tmp_path / "precious.safetensors"
    shutil.copy(trained_digits / "model.safetensors", save)
    before = save.read_bytes()
    line = fail(tmp_path, "train", *options.split(), "--save", save, status=1)
    assert "learning rate" in line
    assert save.read_bytes() == before
    assert os.listdir(tmp_path) == [save.name]


def test_diverging_training_leaves_no_model(tmp_path):
    fail(tmp_path, "train", "--learning-rate", "1e30", status=1)
    assert os.listdir(tmp_path) == []


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
def test_a_model_of_another_network_or_data_is_kept(trained_digits, tmp_path, options, says):
    shutil.copy(trained_digits / "model.safetensors", tmp_path)
    np.savez(tmp_path / "data.npz", x=np.ones((30, 64)), y=np.arange(30) % 10)
    before = (tmp_path / "model.safetensors").read_bytes()
    line = fail(tmp_path, "train", "--epochs", 1, *options)
    assert says in line
    assert "--save" in line
    assert "--overwrite" in line
    assert (tmp_path / "model.safetensors").read_bytes() == before
    text = succeed(tmp_path, "train", "--epochs", 1, *options, "--overwrite")
    assert "saved model.safetensors in place of the model that was there\n" in text
    assert (tmp_path / "model.safetensors").read_bytes() != before


# --- class weights, metrics, logs, pictures, the learning rate


def rare_csv(path, rows=1500):
    """Two classes, the second one rare and overlapping the first."""
    rng = np.random.default_rng(0)
    yes = rng.random(rows) < 0.1
    x = rng.standard_normal((rows, 2)) + 1.2 * yes[:, None]
    lines = [f"{a:.4f},{b:.4f},{'yes' if t else 'no'}" for (a, b), t in zip(x, yes, strict=True)]
    path.write_text("\n".join(["a,b,rare", *lines]))
    return yes


def test_class_weights_find_more_of_a_rare_class(tmp_path):
    yes = rare_csv(tmp_path / "rare.csv")
    run = ["train", "rare.csv", "--hidden", "8", "--epochs", 12, "--metric", "balanced_accuracy"]
    plain = succeed(tmp_path, *run, "--save", "plain.safetensors")
    text = succeed(tmp_path, *run, "--class-weight", "balanced", "--report", "report.json")
    assert "class weights" not in plain
    told = re.search(r"class weights: no=(.*), yes=(.*) \(balanced\)", text)
    weights = json.loads((tmp_path / "report.json").read_text())["options"]["class_weight"]
    assert float(told[1]) == pytest.approx(weights["no"], rel=5e-3)
    assert float(told[2]) == pytest.approx(weights["yes"], rel=5e-3)
    assert weights["yes"] == pytest.approx(0.5 / yes.mean(), rel=0.05)
    scores = [figure(each.partition("\ntest ")[2], "balanced_accuracy") for each in (plain, text)]
    assert scores[1] > scores[0] + 0.05


def test_class_weights_are_those_that_are_named(tmp_path):
    rare_csv(tmp_path / "rare.csv")
    run = ["train", "rare.csv", "--hidden", "", "--epochs", 1]
    text = succeed(tmp_path, *run, "--class-weight", "yes=5")
    assert "class weights: no=1, yes=5\n" in text
    succeed(tmp_path, *run, "--class-weight", "no=2,yes=10")
    models = [nnxp.MLP.load(tmp_path / "model.safetensors").parameters[0][0]]
    succeed(tmp_path, *run, "--class-weight", "yes=5")
    models.append(nnxp.MLP.load(tmp_path / "model.safetensors").parameters[0][0])
    np.testing.assert_allclose(*models, rtol=1e-5)  # weights have a mean of one


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("yse=3", "unknown class 'yse': did you mean 'yes'? known are no, yes"),
        ("3", "unknown class '3': known are no, yes"),
        ("yes=much", "--class-weight 'yes=much': 'much' is no weight"),
        ("yes=-1", "'-1' is no weight; give a number, 0 or more"),
        ("no=nan", "'nan' is no weight"),
    ],
)
def test_a_class_weight_that_is_none_is_one_line(tmp_path, given, says):
    rare_csv(tmp_path / "rare.csv")
    assert says in fail(tmp_path, "train", "rare.csv", "--class-weight", given)


def test_class_weights_are_for_classes(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n" + "".join(f"{i},{i / 3}\n" for i in range(30)))
    line = fail(tmp_path, "train", "t.csv", "--class-weight", "balanced")
    assert "--class-weight is for classes, and the task is regress" in line


def test_a_metric_stands_in_table_report_logs_and_picture(tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("tensorboard")
    text = succeed(
        tmp_path, "train", "--epochs", 3, "--metric", "f1", "--early-stopping", 2, "--monitor",
        "validation_metric", "--report", "report.json", "--csv-log", "log.csv", "--plot",
        "picture.png", "--tensorboard", "runs/first",
    )  # fmt: skip
    assert "val. f1" in text
    assert re.search(r"\ntest f1 0\.\d+, accuracy 0\.\d+, loss", text)
    assert "saved picture.png\nlogged: tensorboard --logdir runs/first\n" in text
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["metric"] == "f1"
    scores = [row["validation_metric"] for row in report["history"]]
    assert report["best_epoch"] == 1 + int(np.argmax(scores))
    header, *rows = (tmp_path / "log.csv").read_text().splitlines()
    assert header.split(",")[3] == "validation_f1"
    assert [float(row.split(",")[3]) for row in rows] == scores
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "runs" / "first").iterdir())) == 1
    # The figure of the report is that of the model that was kept.
    again = succeed(tmp_path, "evaluate", "model.safetensors", "--metrics", "f1,roc_auc")
    assert figure(again, "f1") == pytest.approx(report["test"]["f1"], abs=5e-5)
    assert figure(again, "roc_auc") > 0.9


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--metric", "f2"], "unknown metric 'f2'"),
        (["--metric", "rmse"], "metric 'rmse' is for real values, and the targets are classes"),
        (["--metric", "f1", "--validation", 0], "metric needs validation data"),
        (["--csv-log", "other.csv"], "other.csv: is not a log of epochs, and would be lost"),
        (["--csv-log", "nowhere/log.csv"], "--csv-log nowhere/log.csv"),
        (["--tensorboard", "other.csv"], "other.csv: is no folder"),
        (["--plot", "picture.gif"], "picture.gif: a picture is .png, .svg or .pdf"),
        (["--plot", "a.png", "--epochs", 0], "--plot: there is nothing to draw of 0 epochs"),
        (["--plot", "a.png", "--report", "a.png"], "would overwrite what --report writes"),
    ],
)
def test_a_log_or_metric_that_cannot_be_is_one_line(tmp_path, arguments, says):
    pytest.importorskip("matplotlib")
    pytest.importorskip("tensorboard")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    assert says in fail(tmp_path, "train", *arguments)
    assert (tmp_path / "other.csv").read_text() == "a,b\n1,2\n"
    assert not (tmp_path / "model.safetensors").exists()


def test_a_learning_rate_is_found_instead_of_training(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "model.safetensors").write_text("a letter, which is not looked at")
    text = succeed(tmp_path, "train", "--find-rate", "--plot", "rate.png", "--optimizer", "adam")
    rate = re.search(r"\nlearning rate (\S+), of \d+ steps from 1e-06 to ", text)[1]
    assert text.endswith(f"next: the same command with --learning-rate {rate}\n")
    assert 1e-3 < float(rate) < 0.1
    assert (tmp_path / "rate.png").read_bytes().startswith(b"\x89PNG")
    there = {each.name for each in tmp_path.iterdir()} - {"cache"}
    assert there == {"model.safetensors", "rate.png"}


def test_no_learning_rate_is_one_line(tmp_path):
    np.savez(tmp_path / "zeros.npz", x=np.zeros((200, 3)), y=np.arange(200.0) % 7 / 3)
    line = fail(tmp_path, "train", "zeros.npz", "--find-rate", "--task", "regress")
    assert "--find-rate: the loss falls at no rate" in line


def test_images_are_deformed_and_it_is_told(tmp_path):
    words = ["--augment", "elastic,alpha=8,sigma=1.5", "--augment", "rotate=10,scale=0.1"]
    told = succeed(tmp_path, "train", "digits", "--epochs", 2, *words, "--report", "r.json", "-v")
    assert (
        "images of 8 x 8, in each step rotated by up to 10 degrees, scaled by up to 10 %, "
        "elastic (alpha 8, sigma 1.5)\n" in told
    )
    assert "images: kept as " in told
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["options"]["augment"] == [words[1], words[3]]
    plain = succeed(tmp_path, "train", "digits", "--epochs", 2, "--quiet", "--report", "p.json")
    assert "images" not in plain
    other = json.loads((tmp_path / "p.json").read_text())
    assert other["history"][0]["loss"] < report["history"][0]["loss"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["digits", "--augment", "rotat=10"], "unknown augment 'rotat': did you mean 'rotate'"),
        (["digits", "--augment", "rotate=10,shape=4x4"], "images of (4, 4) have 16 features"),
        (["digits", "--augment", "rotate=9", "--preprocess", "pca"], "--augment deforms pixels"),
        (["moons", "--augment", "flip"], "2 features are no square image"),
    ],
)
def test_an_augmentation_that_does_not_fit_is_one_line(tmp_path, words, says):
    assert says in fail(tmp_path, "train", *words)

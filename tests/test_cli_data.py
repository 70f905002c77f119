"""Data sets and files through `nnxp train`, `evaluate` and `predict`."""

import json
import re

import numpy as np
import pytest
from command_line import CONTROL, MOON_CSV, fail, figure, moon_rows, succeed, table
from test_cli_errors import NAMES, write_mnist

import nnxp


def test_moons_are_learnt(tmp_path):
    text = succeed(
        tmp_path, "train", "moons", "--hidden", 10, "--activation", "tanh", "--epochs", 200,
        "--learning-rate", 0.5, "--batch-size", 16,
    )  # fmt: skip
    assert "40 to test" in text
    accuracy = figure(text.partition("\ntest ")[2])
    assert accuracy >= 0.95
    assert figure(succeed(tmp_path, "evaluate", "model.safetensors", "moons")) == accuracy


SMALL = ["--hidden", "16", "--epochs", "60", "--batch-size", "8"]


def test_a_file_is_evaluated_on_the_rows_that_were_not_trained_on(trained_moons):
    text = succeed(trained_moons, "evaluate", "model.safetensors", "data.csv")
    assert "40 samples, none of which was trained on" in text
    printed = (trained_moons / "printed").read_text()
    assert "144 samples to train on, 16 to validate, 40 to test" in printed
    assert text.partition("accuracy ")[2].startswith(
        re.search(r"\ntest accuracy (.*)", printed)[1] + " (40"
    )


def test_another_content_is_evaluated_whole(trained_moons):
    rows = MOON_CSV.splitlines(keepends=True)
    (trained_moons / "more.csv").write_text("".join([*rows, rows[1]]))
    text = succeed(trained_moons, "evaluate", "model.safetensors", "more.csv")
    assert "201 samples; the content is not that which the model was trained on" in text
    text = succeed(trained_moons, "evaluate", "model.safetensors", "more.csv", "--test-share", 0.5)
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


def test_the_header_is_said_in_training_and_in_evaluation(trained_moons, tmp_path):
    line = "\nheader, the first line: a, b, moon\n"
    assert line in (trained_moons / "printed").read_text()
    assert line in "\n" + succeed(trained_moons, "evaluate", "model.safetensors", "data.csv")
    (tmp_path / "data.csv").write_text(MOON_CSV.partition("\n")[2])
    text = succeed(tmp_path, "train", "data.csv", "--epochs", 1)
    assert re.search(r"^header, the first line: \S+, \S+, upper; it has numbers: if", text, re.M)
    wide = ",".join(f"pixel{i}" for i in range(20)) + ",\x1b[31m\n"
    rows = "".join(",".join(["1"] * 20) + f",{'uv'[i % 2]}\n" for i in range(20))
    (tmp_path / "wide.csv").write_text(wide + rows)
    text = succeed(tmp_path, "train", "wide.csv", "--epochs", 1, "--overwrite")
    assert "pixel7, ..., '\\x1b[31m' (21 columns)\n" in text
    assert not CONTROL.search(text)


def test_the_task_is_said_and_that_it_was_guessed(tmp_path, trained_moons, printed):
    assert "\nclassify, 10 classes\n" in printed
    assert "\nclassify, 2 classes; target moon\n" in (trained_moons / "printed").read_text()
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


def test_predictions_are_the_classes_own_names(trained_moons):
    header, rows = table(succeed(trained_moons, "predict", "model.safetensors", "data.csv"))
    assert header == ["prediction", "lower", "upper"]
    right = [row[0] == moon for row, (_, _, moon) in zip(rows, moon_rows(), strict=True)]
    assert np.mean(right) >= 0.95


def test_predict_needs_no_target_and_takes_columns_by_name(trained_moons):
    (trained_moons / "turned.csv").write_text(
        "b,a\n" + "".join(f"{b:.4f},{100 * a:.4f}\n" for a, b, _ in moon_rows())
    )
    straight = succeed(trained_moons, "predict", "model.safetensors", "data.csv")
    assert succeed(trained_moons, "predict", "model.safetensors", "turned.csv") == straight


def test_preprocessing_goes_with_the_model(trained_moons):
    known = nnxp.MLP.load(trained_moons / "model.safetensors", "numpy").metadata
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


def test_targets_in_a_column_of_their_own_are_classes_too(tmp_path):
    x = np.random.default_rng(0).standard_normal((30, 3))
    np.savez(tmp_path / "column.npz", x=x, y=np.arange(30)[:, None] % 3)
    assert "accuracy" in succeed(tmp_path, "train", "column.npz", "--epochs", 1)
    np.savez(tmp_path / "labels.npz", x=x, y=np.ones((30, 2)))
    line = fail(tmp_path, "train", "labels.npz", "--task", "classify")
    assert "labels.npz" in line


def test_counts_are_learnt_as_positive_rates(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(300)
    counts = rng.poisson(np.exp(1 + 0.8 * x))
    rows = "".join(f"{a:.4f},{n}\n" for a, n in zip(x, counts, strict=True))
    (tmp_path / "data.csv").write_text("x,visits\n" + rows)
    options = ["--loss", "Poisson", "--task", "regress", "--hidden", "8", "--epochs", "30"]
    printed = succeed(tmp_path, "train", "data.csv", *options)
    assert "softplus with poisson" in printed
    assert figure(printed.partition("\ntest ")[2], "r2") > 0.5
    _, predicted = table(succeed(tmp_path, "predict", "model.safetensors", "data.csv"))
    assert min(float(row[0]) for row in predicted) > 0


# --- data that changes


@pytest.fixture
def rows(tmp_path):
    """The lines of a csv file in a folder."""
    (tmp_path / "data.csv").write_text(MOON_CSV)
    return MOON_CSV.splitlines()


CHANGES = {
    "a value": lambda rows: [*rows[:-1], "1" + rows[-1]],
    "a class": lambda rows: [*rows[:-1], rows[-1].replace("lower", "upper")],
    "a row more": lambda rows: [*rows, rows[-1]],
    "a row fewer": lambda rows: rows[:-1],
    "the order": lambda rows: [rows[0], *rows[:0:-1]],
}


EACH_CHANGE = [
    pytest.param(each, marks=() if each in ("a value", "a row fewer") else pytest.mark.slow)
    for each in CHANGES
]


@pytest.mark.promise("resume")
@pytest.mark.parametrize("change", EACH_CHANGE)
def test_a_training_does_not_go_on_with_other_data(tmp_path, rows, change):
    command = ["train", "data.csv", "--hidden", 3, "--epochs"]
    succeed(tmp_path, *command, 2, "--checkpoint", "runs")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")}
    (tmp_path / "data.csv").write_text("\n".join(CHANGES[change](rows)))
    line = fail(tmp_path, *command, 4, "--resume", "runs")
    different = (
        r"(x had other values|x had shape \(160, 2\), not \(\d+, 2\)|targets had other values)"
    )
    assert re.search(rf"runs/checkpoint-\d+\.safetensors: its {different}: give the same", line)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")} == before
    (tmp_path / "data.csv").write_text("\r\n".join(rows))  # the same, written otherwise
    assert "saved model.safetensors" in succeed(tmp_path, *command, 4, "--resume", "runs")


@pytest.mark.promise("bad data")
@pytest.mark.parametrize("change", EACH_CHANGE)
def test_of_data_that_changed_after_training_it_is_said_what_is_evaluated(tmp_path, rows, change):
    succeed(tmp_path, "train", "data.csv", "--hidden", 3, "--epochs", 2)
    said = succeed(tmp_path, "evaluate", "model.safetensors", "data.csv")
    assert "40 samples, none of which was trained on" in said
    changed = CHANGES[change](rows)
    (tmp_path / "data.csv").write_text("\n".join(changed))
    said = succeed(tmp_path, "evaluate", "model.safetensors", "data.csv")
    assert f"{len(changed) - 1} samples; the content is not that which the model was" in said

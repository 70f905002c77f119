"""What commands write: two at once, full disks, read-only folders, logs that fail, closed pipes."""

import errno
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import BOOK, MOON_CSV, environment, fail, run, succeed
from processes import completed

import nnxp
from nnxp import callbacks, files, resuming
from nnxp.cli import outputs

TRAIN = ["train", "data.csv", "--epochs", "2", "--hidden", "3"]


@pytest.fixture
def folder(tmp_path, trained_moons, trained_digits):
    """A folder with data, weights and models; what is not wanted on disk may be made in it."""
    (tmp_path / "data.csv").write_text(MOON_CSV)
    np.savez(tmp_path / "book.npz", **{name: np.array(array) for name, array in BOOK.items()})
    shutil.copy(trained_moons / "model.safetensors", tmp_path / "moons.safetensors")
    shutil.copy(trained_digits / "report.json", tmp_path)
    return tmp_path


OUTPUTS = {
    "train --save": ([*TRAIN, "--save"], "m.safetensors"),
    "train --report": ([*TRAIN, "--report"], "r.json"),
    "train --plot": ([*TRAIN, "--plot"], "p.png"),
    "find-rate --plot": ([*TRAIN, "--find-rate", "--plot"], "p.png"),
    "predict --output": (["predict", "moons.safetensors", "data.csv", "--output"], "p.csv"),
    "export": (["export", "moons.safetensors"], "m.onnx"),
    "import-weights --save": (["import-weights", "book.npz", "--save"], "m.safetensors"),
    "plot history --save": (["plot", "history", "report.json", "--save"], "p.png"),
    "plot activations --save": (["plot", "activations", "--save"], "p.svg"),
}
"""What writes a file: the words before its name, and a name for it."""
SOME = ("train --save", "train --report", "predict --output", "import-weights --save")
EACH = [
    pytest.param(each, marks=() if each in SOME else pytest.mark.slow) for each in OUTPUTS
]  # pictures and ONNX take seconds
MODELS = ("train --save", "import-weights --save")


@pytest.fixture
def other_run(monkeypatch, folder):
    """Call with a name: another run writes there just before the command does."""

    def arrive(name):
        original = outputs.Outputs.write

        def write(self, option, *arguments, **options):
            if self.paths.get(option) == name:
                (folder / name).write_bytes(b"of another run")
            return original(self, option, *arguments, **options)

        monkeypatch.setattr(outputs.Outputs, "write", write)

    return arrive


@pytest.mark.promise("one place")
@pytest.mark.parametrize("output", EACH)
def test_what_another_run_wrote_meanwhile_is_not_replaced(folder, other_run, output):
    words, name = OUTPUTS[output]
    pytest.importorskip("ndonnx" if output == "export" else "matplotlib")
    other_run(name)
    line = fail(folder, *words, name, status=1)
    assert (folder / name).read_bytes() == b"of another run"
    ours = Path(name).with_stem(f"{Path(name).stem}-2")
    assert f"{name}: another run wrote it meanwhile: this one's is {ours}" in line
    assert (folder / ours).stat().st_size > 100
    if output in MODELS:
        nnxp.MLP.load(folder / ours)
        shutil.copy(folder / ours, folder / name)
        succeed(folder, *words, name, "--overwrite")
        nnxp.MLP.load(folder / name)


@pytest.mark.promise("one place")
def test_a_model_that_was_there_is_replaced_by_one_run_and_not_by_two(folder, other_run):
    succeed(folder, *TRAIN, "--save", "m")
    assert "in place of the model that was there" in succeed(folder, *TRAIN, "--save", "m")
    other_run("m")
    assert "meanwhile: this one's is m-2" in fail(folder, *TRAIN, "--save", "m", status=1)
    assert (folder / "m").read_bytes() == b"of another run"


@pytest.mark.slow
@pytest.mark.promise("one place")
def test_trainings_that_save_to_one_place_at_once_lose_no_model(folder, cases):
    count = 6
    command = [sys.executable, "-m", "nnxp", *TRAIN, "-q", "--save", "m", "--report", "r.json"]
    processes = [
        subprocess.Popen(
            [*command, "--seed", str(seed)], cwd=folder, env=environment(folder),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for seed in range(count)
    ]  # fmt: skip
    ended = [(*process.communicate(timeout=120), process.returncode) for process in processes]
    models = [path for path in folder.glob("m*") if not path.suffix]
    found = {str(nnxp.MLP.load(path).parameters[0][0]) for path in models}
    reports = [json.loads(path.read_text()) for path in folder.glob("r*.json")]
    seeds = {each["options"]["seed"] for each in reports if "seed" in each["options"]}
    for seed, (stdout, stderr, status) in enumerate(ended):
        with cases(f"seed {seed}"):
            assert stdout == ""
            # Those that begin when the first has ended replace its model, as one after the other.
            assert (status, stderr.count("\n")) in ((0, 0), (1, 1)), stderr
            assert seed in seeds or status == 0
    assert len(found) == len(models) >= sum(status for _, _, status in ended) + 1
    assert not list(folder.glob(".nnxp*"))


@pytest.mark.promise("one place")
def test_a_log_that_another_training_writes_is_refused(folder):
    with files.open_log(folder / "log.csv") as log:
        log.write("epoch,loss,\n")
        line = fail(folder, *TRAIN, "--csv-log", "log.csv", "--save", "m")
        assert "log.csv: another process writes to it; name another file" in line
        assert (folder / "log.csv").read_text() == "epoch,loss,\n"
        assert not (folder / "m").exists()
    succeed(folder, *TRAIN, "--csv-log", "log.csv", "--save", "m")
    assert (folder / "log.csv").read_text().count("\n") == 3


@pytest.mark.promise("one place")
def test_interrupted_trainings_keep_models_of_each_other(folder, monkeypatch):
    succeed(folder, *TRAIN)
    monkeypatch.setattr(
        "nnxp.cli.train._history", interrupt_after_training(nnxp.cli.train._history)
    )
    for name in ("model.interrupted.safetensors", "model.interrupted-2.safetensors"):
        done = run(folder, *TRAIN)
        assert done.stderr == f"nnxp: interrupted after epoch 2 of 2: saved {name}\n"
        assert done.returncode == 130
        assert (folder / name).exists()


def interrupt_after_training(history):
    def changed(*arguments):
        done = history(*arguments)
        arguments[-1].number = 2  # SIGINT
        return done

    return changed


# --- full disks and folders that are read-only

FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")


@FULL
@pytest.mark.promise("bad use")
@pytest.mark.parametrize("output", EACH)
def test_a_full_disk_is_a_line_that_names_the_file_and_what_was_saved(folder, output, monkeypatch):
    words, name = OUTPUTS[output]
    pytest.importorskip("ndonnx" if output == "export" else "matplotlib")
    (folder / name).symlink_to("/dev/full")
    (folder / "rescued").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder / "rescued"))
    line = fail(folder, *words, name, status=1)
    assert line.startswith(f"nnxp: {name}: No space left on device")
    if output == "train --save":
        assert line.endswith(f"; saved {folder / 'rescued' / name}\n")
        nnxp.MLP.load(folder / "rescued" / name)
    elif words[0] == "train" and "--find-rate" not in words:
        assert line.endswith("; saved model.safetensors\n")
        nnxp.MLP.load(folder / "model.safetensors")


@pytest.mark.promise("bad use")
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("output", ["train --save", "train --report", "predict --output"])
def test_a_disk_that_refuses_at_the_end_is_a_line(folder, output, number, monkeypatch):
    words, name = OUTPUTS[output]
    original = files._new_file

    def refuse(where):
        if where == folder:
            raise OSError(number, os.strerror(number))
        return original(where)

    monkeypatch.setattr("tempfile.tempdir", str(folder / "rescued"))
    (folder / "rescued").mkdir()
    monkeypatch.setattr(files, "_new_file", refuse)
    line = fail(folder, *words, name, status=1)
    assert os.strerror(number) in line
    assert name in line
    if words[0] == "train":
        assert "; saved " in line
        assert len(list((folder / "rescued").iterdir())) == 1


@pytest.mark.promise("bad use")
def test_a_log_that_fails_does_not_end_the_training(folder, monkeypatch):
    write = callbacks.CSVLog._write

    def fill(self, values):
        values = list(values)
        if values[0] == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, values)

    monkeypatch.setattr(callbacks.CSVLog, "_write", fill)
    options = ["--epochs", 4, "--csv-log", "log.csv", "--report", "r.json", "--save", "m"]
    line = fail(folder, *TRAIN, *options, status=1)
    assert line == "nnxp: log.csv: No space left on device; saved m, r.json\n"
    assert len(json.loads((folder / "r.json").read_text())["history"]) == 4
    assert (folder / "log.csv").read_text().count("\n") == 2  # its lines are whole


@pytest.mark.promise("bad use")
def test_a_checkpoint_that_fails_ends_the_training_and_keeps_what_was_learnt(folder, monkeypatch):
    save, calls = resuming.Writer.save, []

    def fill(self, *arguments):
        calls.append(arguments)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device", "runs/checkpoint")
        save(self, *arguments)

    monkeypatch.setattr(resuming.Writer, "save", fill)
    options = ["--epochs", 4, "--checkpoint", "runs", "--report", "r.json", "--save", "m"]
    line = fail(folder, *TRAIN, *options, status=1)
    assert line == "nnxp: runs/checkpoint: No space left on device; saved m, r.json\n"
    nnxp.MLP.load(folder / "m")
    assert 1 <= len(json.loads((folder / "r.json").read_text())["history"]) < 4


PLACES = ("--save", "--report", "--csv-log", "--plot", "--checkpoint", "--tensorboard")


@pytest.mark.promise("bad use")
@pytest.mark.skipif(not os.path.exists("/proc/self"), reason="there is no /proc")
@pytest.mark.parametrize("option", PLACES)
def test_a_place_that_cannot_be_written_is_refused_before_the_training(folder, option, monkeypatch):
    """/proc is read-only for root, too."""
    monkeypatch.setattr("nnxp.train", None)
    for place in ("/proc/none.png", "data.csv/none.png", "x" * 300 + ".png"):
        line = fail(folder, *TRAIN, option, place)
        assert option in line
        assert place in line


# --- closed pipes

PRINTING = (
    "train data.csv --epochs 1 --save m", "evaluate moons.safetensors data.csv",
    "predict moons.safetensors data.csv", "export moons.safetensors m.onnx", "gradcheck",
    "train --help",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.promise("bad use")
def test_a_pipe_that_is_closed_at_once_ends_no_command(folder, cases):
    for words in PRINTING:
        with cases(words):
            nnxp_ = f"{shlex.quote(sys.executable)} -m nnxp {words}"
            done = completed(
                ["bash", "-c", f"set -o pipefail; (sleep 0.3; {nnxp_}) | true"],
                cwd=folder,
                env=environment(folder),
                timeout=60,
            )
            assert (done.stderr, done.returncode) == ("", 0)
    assert (folder / "m").exists()
    assert (folder / "m.onnx").exists()

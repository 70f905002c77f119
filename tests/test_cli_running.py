"""Commands as processes: signals, readers that leave, closed streams, full disks, terminals."""

import json
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
from command_line import ROW, environment, run_process, succeed
from processes import completed, started

import nnxp


@contextmanager
def training(folder, *options, **started_with):
    """`nnxp train` for as good as ever, in `folder`; its first epoch is done."""
    command = [sys.executable, "-m", "nnxp", "train", "--epochs", str(10**7), *map(str, options)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with started(command, cwd=folder, env=environment(folder), **pipes, **started_with) as process:
        while not ROW.match(line := process.stdout.readline()):
            assert line, process.stderr.read()
        yield process


@pytest.mark.promise("bad use")
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


@pytest.mark.promise("bad use")
@pytest.mark.slow
def test_an_interrupted_training_does_not_replace_one_that_ended(trained_digits, tmp_path):
    save = tmp_path / "model.safetensors"
    shutil.copy(trained_digits / "model.safetensors", save)
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


@pytest.mark.slow
def test_an_interrupt_before_the_first_epoch_is_complete_saves_nothing(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.zeros((20_000, 784)), y=np.arange(20_000) % 10)
    options = ["data.npz", "--hidden", "1024,1024", "--batch-size", 8, "--save", "m.safetensors"]
    command = [sys.executable, "-m", "nnxp", "train", *map(str, options)]
    with started(
        command, cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        while " samples to train on" not in (line := process.stdout.readline()):
            assert line, process.stderr.read()
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


def shell(folder, command):
    """What bash makes of `command`, in which nnxp stands for itself."""
    nnxp_ = f'nnxp() {{ {shlex.quote(sys.executable)} -m nnxp "$@"; }}; set -o pipefail; '
    return completed(
        ["bash", "-c", nnxp_ + command], cwd=folder, env=environment(folder), timeout=60
    )


@pytest.mark.promise("bad use")
def test_a_reader_that_leaves_does_not_end_a_training(tmp_path):
    done = shell(tmp_path, "nnxp train --epochs 20 --report report.json | head -1")
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.count("\n") == 1
    assert len(json.loads((tmp_path / "report.json").read_text())["history"]) == 20
    assert (tmp_path / "model.safetensors").is_file()


@pytest.mark.promise("bad use")
def test_a_reader_that_has_seen_enough_is_no_error(trained_digits):
    command = f"{shlex.quote(sys.executable)} -m nnxp predict model.safetensors digits | head -1"
    done = completed(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=trained_digits,
        env=environment(trained_digits),
    )
    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout.startswith("prediction,0")


def test_the_standard_output_may_be_a_pipe(tmp_path):
    succeed(tmp_path, "train", "--epochs", 1, "--quiet")
    printed = succeed(
        tmp_path,
        "predict",
        "model.safetensors",
        "digits",
        "--output",
        "/dev/stdout",
        run=run_process,
    )
    assert printed.startswith("prediction,")


@pytest.mark.promise("bad use")
@pytest.mark.slow
@pytest.mark.parametrize("streams", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_training_does_without_standard_streams(tmp_path, streams):
    done = shell(tmp_path, f"nnxp train --epochs 1 {streams}")
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    nnxp.MLP.load(tmp_path / "model.safetensors", "numpy")


@pytest.mark.promise("bad use")
def test_predictions_for_a_closed_output_are_one_line(trained_digits):
    done = shell(trained_digits, "nnxp predict model.safetensors digits >&-")
    assert done.stderr == "nnxp: standard output is closed: name a file with --output\n"
    assert done.returncode == 2


@pytest.mark.promise("bad use")
@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_an_output_that_is_full_is_one_line_and_the_model_is_saved(tmp_path):
    done = shell(tmp_path, "nnxp train --epochs 1 >/dev/full")
    assert done.stderr == "nnxp: standard output: No space left on device\n"
    assert done.returncode == 1
    assert (tmp_path / "model.safetensors").is_file()
    done = shell(tmp_path, "nnxp predict model.safetensors digits >/dev/full")
    assert done.stderr == "nnxp: standard output: No space left on device\n"
    assert done.returncode == 1


@pytest.mark.promise("bad use")
@pytest.mark.slow
def test_a_disk_that_is_full_is_one_line_that_names_the_file(tmp_path):
    done = shell(tmp_path, "trap '' XFSZ; ulimit -f 1; nnxp train --epochs 1 -q --save m")
    assert done.stderr == "nnxp: m: File too large\n"
    assert done.returncode == 1
    assert os.listdir(tmp_path) == []


def in_a_terminal(folder, *arguments, columns=100):
    """Everything that `nnxp ARGUMENTS` writes to a terminal of this width."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "nnxp", *map(str, arguments)],
        cwd=folder,
        env=environment(folder, TERM="xterm-256color", COLUMNS=columns),
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("columns", "pattern"),
    [
        (40, r"\d+/60 (last )?(loss )?\d\.\d{4} [\d.]+k/s \d:\d\d(, \d:\d\d left| -\d:\d\d)"),
        (
            80,
            r"epoch \d+/60 ━.*% +(last )?loss \d\.\d{4} +[\d.]+k samples/s  \d:\d\d, \d:\d\d left",
        ),
    ],
)
def test_the_bar_shows_epoch_loss_speed_and_times(columns, pattern, tmp_path):
    seen = in_a_terminal(tmp_path, "train", "--epochs", 60, columns=columns)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)
    assert re.search(pattern, plain)


@pytest.mark.slow
def test_in_a_terminal_quiet_is_quiet(tmp_path):
    assert in_a_terminal(tmp_path, "train", "--epochs", 1, "--quiet") == ""


def test_the_package_is_run_like_the_command(tmp_path):
    done = shell(tmp_path, "nnxp --version")
    assert (done.stdout, done.stderr) == (f"nnxp {nnxp.__version__}\n", "")

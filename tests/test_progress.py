"""What `train(verbose=True)` prints."""

import io
import logging
import subprocess
import sys

import pytest
from rich.console import Console

import nnxp
from nnxp.arrays import namespace
from nnxp.kernels import ACTIVATIONS
from nnxp.progress import EpochTable


@pytest.fixture(scope="module")
def digits():
    return nnxp.datasets.load("digits")


def trained(digits, backend="numpy", **options):
    network = nnxp.MLP([64, 16, 10], backend=backend)
    options = {"epochs": 2, "batch_size": 32, "verbose": True} | options
    return nnxp.train(network, digits.x[:320], digits.y[:320], **options)


def test_each_epoch_is_a_row_under_one_heading(backend, digits, capsys):
    history = trained(digits, backend, validation=0.1)
    placement, heading, *rows = capsys.readouterr().out.splitlines()
    assert placement.startswith("data: ")
    assert heading.split("  ")[0] == "epoch"
    assert heading.split() == [
        "epoch", "loss", "val.", "loss", "val.", "accuracy", "seconds", "samples/s"
    ]  # fmt: skip
    assert [row.split() for row in rows] == [
        list(epoch.columns("accuracy").values()) for epoch in history.epochs
    ]
    assert {len(row) for row in rows} == {len(heading)}


def test_nothing_is_printed_unless_it_is_asked_for(digits, capsys):
    loud, silent = trained(digits), trained(digits, verbose=False)
    assert capsys.readouterr().out.count("\n") == 4
    assert [epoch.loss for epoch in loud.epochs] == [epoch.loss for epoch in silent.epochs]
    trained(digits, verbose=False)
    assert capsys.readouterr().out == ""
    with pytest.raises(nnxp.InputError, match="verbose must be True or False, not 2"):
        trained(digits, verbose=2)


def reads_a_value(z):
    return z * 0.5 if namespace(z).max(z) > 1e9 else namespace(z).tanh(z)


def test_fallbacks_scaled_targets_and_warnings_are_told(digits, capsys, monkeypatch):
    monkeypatch.setitem(ACTIVATIONS, "tanh", (reads_a_value, ACTIVATIONS["tanh"][1]))
    x, t = digits.x[:320], 100.0 * digits.x[:320, 20:21]
    network = nnxp.MLP([64, 40, 1], "tanh", output="identity", backend="numpy")
    nnxp.train(network, x, t, epochs=2, batch_size=32, verbose=True)
    told = capsys.readouterr().out
    assert "targets are scaled for training" in told
    assert told.count("steps run eagerly: they cannot be recorded (a value is read)") == 1
    trained(digits, optimizer=nnxp.SGD(2.0), epochs=4, diagnose=True)
    assert capsys.readouterr().out.count("of the relu units are dead") == 1  # in four epochs


def test_the_log_is_as_it_was_and_the_callers_hooks_are_called(digits, capsys):
    log, counts, epochs = logging.getLogger("nnxp"), [], []
    before = log.level, list(log.handlers)
    trained(digits, progress=counts.append, callbacks=[lambda _, h: epochs.append(len(h.epochs))])
    with pytest.raises(nnxp.InputError):
        trained(digits, batch_size=32, sample_weight=[1.0])
    assert (log.level, log.handlers) == before
    assert (sum(counts), epochs) == (640, [1, 2])


def test_a_terminal_has_a_bar_that_goes_away(digits):
    screen = io.StringIO()
    with EpochTable(Console(file=screen, force_terminal=True, width=80), epochs=2) as table:
        table.expect(320)
        table.advance(320)
        table._bar.refresh()
        assert "50%" in screen.getvalue()
    assert screen.getvalue().rstrip("\n").endswith("\x1b[2K")  # the line is cleared


def test_a_silent_training_does_not_import_rich():
    code = (
        "import sys, nnxp\n"
        "nnxp.train(nnxp.MLP([1, 1], output='identity'), [[1.0]], [1.0], epochs=1, batch_size=1)\n"
        "assert 'rich' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

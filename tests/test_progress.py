"""What `train(verbose=True)` prints."""

import io
import logging
import re

import pytest
from conftest import require
from processes import python
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


def test_a_resumed_training_has_a_heading(digits, capsys):
    history = trained(digits, verbose=False)
    trained(digits, resume=history)
    _, heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split()[0] == "epoch"
    assert [row.split()[0] for row in rows] == ["3", "4"]


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
        table(320)
        table._bar.refresh()
        assert "50%" in screen.getvalue()
    assert screen.getvalue().rstrip("\n").endswith("\x1b[2K")  # the line is cleared


def lines(table, screen):
    """What is drawn now, without escapes: the bar is redrawn in place."""
    screen.truncate(screen.seek(0))
    table._bar.refresh()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    return [line for line in text.replace("\r", "").split("\n") if line]


@pytest.mark.parametrize("width", [20, 30, 40, 80, 120])
@pytest.mark.parametrize("epochs", [3, 1000])
@pytest.mark.parametrize("name", ["numpy", "array-api-strict"])
def test_the_bar_is_one_line_at_any_width(width, epochs, name, digits, monkeypatch):
    require(name)
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=width)
    with EpochTable(console, epochs) as table:
        clock = [table._bar.tasks[0].start_time]
        monkeypatch.setattr(table._bar, "get_time", lambda: clock[0])
        monkeypatch.setattr(table._bar.tasks[0], "_get_time", lambda: clock[0])
        assert lines(table, screen) == ["preparing the data"[:width]]
        table.expect(320)
        drawn = []

        def progress(samples):
            clock[0] += 29.6  # not 30: rich forgets older samples; six are no whole seconds
            drawn.append(lines(table, screen))

        progress.watch = table.watch
        network = nnxp.MLP([64, 16, 10], backend=name)
        nnxp.train(
            network, digits.x[:320], digits.y[:320], epochs=2, batch_size=2, progress=progress,
            callbacks=[lambda network, history: table.row(network, history)],
        )  # fmt: skip
    assert all(len(line) == 1 and len(line[0]) <= width for line in drawn)
    (last,) = drawn[-1]
    assert last.startswith(f"epoch 2/{epochs} " if width >= 80 else f"2/{epochs} ")
    assert re.search(r"\d left$" if width >= 80 else r"(\d left| -[\d:]+)$", last)
    if width >= 40:
        assert re.search(r" \d\.\d{4} ", last)
        assert re.search(r" [\d.]+k?( samples)?/s ", last)
        assert "2:57" in last  # six chunks
    assert ("━" in last) == (width >= 80)


def test_the_loss_so_far_is_that_of_the_epochs_samples(digits):
    seen = []

    class Watcher:
        def watch(self, running):
            self.running = running

        def __call__(self, samples):
            seen.append(self.running.look())

    x, t = digits.x[:192], 1000.0 * digits.x[:192, 20:21]
    network = nnxp.MLP([64, 1], output="identity", backend="numpy")
    history = nnxp.train(network, x, t, epochs=2, batch_size=1, progress=Watcher())
    assert [samples for samples, _ in seen] == [64, 128, 192, 256, 320, 384]
    losses = [loss for _, loss in seen]
    assert losses[2::3] == pytest.approx([epoch.loss for epoch in history.epochs])
    assert losses[0] != losses[3]
    assert all(loss > 1 for loss in losses)  # in the targets' own unit


@pytest.mark.promise("no wait")
def test_the_loss_is_not_read_from_a_device_and_nothing_waits_for_chunks(conversions, digits):
    looked = []

    class Watcher:
        def watch(self, running):
            self.running = running
            running._backend.is_ready = lambda loss: len(looked) > 2

        def __call__(self, samples):
            looked.append(self.running.look())

    backend = nnxp.backends.get("array-api-strict", "device1")
    network = nnxp.MLP([64, 10], backend=backend)
    nnxp.train(network, digits.x[:640], digits.y[:640], epochs=1, batch_size=2, progress=Watcher())
    # Nothing is ready at first, then everything is.
    assert looked == [(0, None), (0, None), (0, None), (512, None), (640, None)]
    assert conversions.count == 0


def test_jax_is_asked_whether_a_chunk_is_done():
    require("jax")
    backend = nnxp.backends.get("jax", "cpu")
    array = backend.asarray([1.0])
    backend.synchronize(array)
    assert backend.is_ready(array)


def test_a_silent_training_does_not_import_rich():
    code = (
        "import sys, nnxp\n"
        "nnxp.train(nnxp.MLP([1, 1], output='identity'), [[1.0]], [1.0], epochs=1, batch_size=1)\n"
        "assert 'rich' not in sys.modules"
    )
    python(code, check=True)

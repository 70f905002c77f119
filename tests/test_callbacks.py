import copy
import csv
import sys

import numpy as np
import pytest
from conftest import require

import nnxp
from nnxp import MLP, SGD, EarlyStopping, InputError, backends, train
from nnxp.arrays import to_numpy
from nnxp.history import Epoch, History


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((40, 3)), rng.integers(0, 2, 40)


def stops_at(stopping, values, monitor):
    history = History("accuracy")
    network = MLP([1, 1], backend="numpy")
    for epoch, value in enumerate(values, 1):
        fields = {"loss": 0.0, "validation_loss": 0.0, "validation_metric": 0.0, monitor: value}
        history.epochs.append(Epoch(epoch, **fields, seconds=1, samples_per_second=1,
                                    learning_rate=1))  # fmt: skip
        if stopping(network, history):
            return epoch
    return None


@pytest.mark.parametrize(
    ("monitor", "values", "patience", "end", "best"),
    [
        ("validation_loss", [3, 2, 2.5, 2.1, 2], 3, 5, 2),
        ("validation_loss", [3, 2, 1, 0.5], 1, None, 4),
        ("loss", [1, 1, 1], 2, 3, 1),
        ("validation_metric", [0.5, 0.7, 0.6, 0.7], 2, 4, 2),
    ],
)
def test_it_stops_when_patience_runs_out(monitor, values, patience, end, best):
    stopping = EarlyStopping(monitor, patience)
    assert stops_at(stopping, values, monitor) == end
    assert stopping.best_epoch == best


def test_a_small_change_is_no_improvement():
    stopping = EarlyStopping("loss", 2, min_delta=0.1)
    assert stops_at(stopping, [1.0, 0.95, 0.91, 0.8], "loss") == 3


@pytest.mark.parametrize("patience", [2, 1000])
def test_the_best_parameters_come_back(backend, data, patience):
    """Whether it stops early or training runs to its end."""
    kept = []
    stopping = EarlyStopping(patience=patience)
    network = MLP([3, 16, 2], backend=backend)

    def keep(network, history):
        kept.append([to_numpy(a).copy() for layer in network.parameters for a in layer])

    history = train(
        network, *data, optimizer=SGD(1.0), epochs=30, batch_size=4, validation=0.3,
        callbacks=[keep, stopping],
    )  # fmt: skip
    losses = [epoch.validation_loss for epoch in history.epochs]
    best = int(np.argmin(losses))
    assert stopping.best_epoch == best + 1 < len(losses)
    assert (len(losses) == 30) == (patience == 1000)
    restored = [to_numpy(a) for layer in network.parameters for a in layer]
    for array, expected in zip(restored, kept[best], strict=True):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_what_other_callbacks_write_into_the_network_is_not_kept(name, data):
    require(name)
    kept = []

    def keep(network, history):
        kept.append([to_numpy(a).copy() for layer in network.parameters for a in layer])

    def spoil(network, history):
        network.parameters[0][0][...] = 7.0

    stopping = EarlyStopping(patience=3)
    network = MLP([3, 16, 2], backend=backends.get(name, "cpu"))
    train(
        network, *data, optimizer=SGD(1.0), epochs=30, batch_size=4, validation=0.3,
        callbacks=[keep, stopping, spoil],
    )  # fmt: skip
    restored = [to_numpy(a) for layer in network.parameters for a in layer]
    for array, expected in zip(restored, kept[stopping.best_epoch - 1], strict=True):
        np.testing.assert_array_equal(array, expected)


def test_one_instance_serves_two_trainings(data):
    stopping = EarlyStopping("loss", patience=1)
    for _ in range(2):
        network = MLP([3, 2], backend="numpy")
        history = train(network, *data, epochs=3, batch_size=8, callbacks=[stopping])
        assert len(history.epochs) > 1


def test_a_training_without_epochs_gets_no_parameters_of_the_one_before(data):
    stopping, networks = (
        EarlyStopping("loss"),
        [MLP([3, 2], backend="numpy", seed=i) for i in (0, 1)],
    )
    before = to_numpy(networks[1].parameters[0][0]).copy()
    for network, epochs in zip(networks, (2, 0), strict=True):
        train(network, *data, epochs=epochs, batch_size=8, callbacks=[stopping])
    np.testing.assert_array_equal(to_numpy(networks[1].parameters[0][0]), before)


def test_what_it_needs_is_said(data):
    for watching in ({"callbacks": [EarlyStopping()]}, {"schedule": "plateau"}):
        network, trained = MLP([3, 2], backend="numpy"), []
        with pytest.raises(InputError, match="validation_loss needs validation data"):
            train(network, *data, epochs=2, batch_size=8, progress=trained.append, **watching)
        assert trained == []  # it is said before the first step
    for wrong in ({"monitor": "accuracy"}, {"patience": 0}, {"min_delta": -1.0}):
        with pytest.raises(InputError):
            EarlyStopping(**wrong)


# --- the protocol


class Recorder(nnxp.Callback):
    """Notes what is called, and with how many epochs."""

    def __init__(self, calls, name="", fails=()):
        self.calls, self.name, self.fails = calls, name, fails

    def start(self, network, history):
        self.note("start", history)

    def __call__(self, network, history):
        self.note("epoch", history)

    def finish(self, network, history):
        self.note("finish", history)

    def note(self, what, history):
        self.calls.append((self.name + what, len(history.epochs)))
        if what in self.fails:
            raise RuntimeError(f"{self.name}{what}")


def fit(data, callbacks, **options):
    network = MLP([3, 2], backend="numpy")
    options = {"epochs": 2, "batch_size": 8, "validation": 0.3} | options
    return network, train(network, *data, callbacks=callbacks, **options)


def test_a_callback_starts_and_finishes_once(data):
    calls = []
    network, history = fit(data, [Recorder(calls)])
    assert calls == [("start", 0), ("epoch", 1), ("epoch", 2), ("finish", 2)]
    calls.clear()
    train(network, *data, epochs=1, batch_size=8, validation=0.3, resume=history,
          callbacks=[Recorder(calls)])  # fmt: skip
    assert calls == [("start", 2), ("epoch", 3), ("finish", 3)]
    calls.clear()
    fit(data, [Recorder(calls)], epochs=0)
    assert calls == [("start", 0), ("finish", 0)]
    assert nnxp.Callback()(network, history) is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, nnxp.DivergenceError])
def test_callbacks_finish_however_a_training_ends(data, error):
    calls = []

    def interrupt(network, history):
        if len(history.epochs) == 2:
            raise error("now")

    with pytest.raises(error, match="now"):
        fit(data, [Recorder(calls), interrupt], epochs=5)
    assert calls[-2:] == [("epoch", 2), ("finish", 2)]
    calls.clear()
    with pytest.raises(nnxp.DivergenceError):
        fit(data, [Recorder(calls)], optimizer=SGD(1e38), epochs=5)
    assert calls[0] == ("start", 0)
    assert calls[-1][0] == "finish"


def test_all_that_started_finish_though_one_of_them_fails(data):
    calls = []
    three = [Recorder(calls, "a"), Recorder(calls, "b", ["finish"]), Recorder(calls, "c")]
    with pytest.raises(RuntimeError, match="bfinish"):
        fit(data, three, epochs=0)
    assert [name for name, _ in calls] == ["astart", "bstart", "cstart", "afinish", "bfinish",
                                           "cfinish"]  # fmt: skip
    calls.clear()
    three[1].fails = ["start"]
    with pytest.raises(RuntimeError, match="bstart"):
        fit(data, three)
    assert [name for name, _ in calls] == ["astart", "bstart", "afinish"]


# --- early stopping, in the protocol


def test_a_resumed_training_begins_anew(data):
    """The epochs count on, and the best one before is none of this training."""
    stopping = EarlyStopping(patience=2)
    network, history = fit(data, [stopping], epochs=2, batch_size=4)
    assert stopping.best_epoch == history.best_epoch == 2
    options = {"batch_size": 4, "validation": 0.3, "resume": history, "optimizer": SGD(50.0)}
    train(network, *data, epochs=20, callbacks=[stopping], **options)
    losses = [epoch.validation_loss for epoch in history.epochs]
    assert min(losses) == losses[1]  # the rate is far too large
    assert stopping.best_epoch == history.best_epoch == 3 + int(np.argmin(losses[2:]))
    assert len(losses) == stopping.best_epoch + 2
    train(network, *data, epochs=1, **options)
    assert history.best_epoch is None


def test_the_best_parameters_come_back_after_an_interruption(data):
    kept = []

    def keep(network, history):
        kept.append(to_numpy(network.parameters[0][0]).copy())
        if len(history.epochs) == 6:
            raise KeyboardInterrupt

    network, stopping = MLP([3, 2], backend="numpy"), EarlyStopping("loss", patience=9)
    rates = [0.1, 0.1, -0.0, 2.0, 9.0, 9.0]
    with pytest.raises(KeyboardInterrupt):
        train(network, *data, epochs=6, batch_size=4, callbacks=[stopping, keep],
              schedule=lambda base, epoch, epochs, history: abs(rates[epoch - 1]))  # fmt: skip
    assert stopping.best_epoch < 6
    np.testing.assert_array_equal(network.parameters[0][0], kept[stopping.best_epoch - 1])


def test_it_follows_metrics_that_improve_when_they_fall(data):
    x, _ = data
    network = MLP([3, 1], output="identity", backend="numpy")
    stopping = EarlyStopping("validation_metric", patience=2)
    history = train(network, x, x @ [[1.0], [2.0], [-1.0]], epochs=30, batch_size=8,
                    validation=0.3, metric="rmse", callbacks=[stopping])  # fmt: skip
    errors = [epoch.validation_metric for epoch in history.epochs]
    assert stopping.best_epoch == 1 + int(np.argmin(errors)) > 5
    assert (history.metric, history.larger_is_better) == ("rmse", False)


# --- ModelCheckpoint


def test_it_saves_after_each_epoch(data, tmp_path):
    kept = []
    fit(
        data,
        [
            nnxp.ModelCheckpoint(tmp_path / "{epoch:02d}-{validation_loss:.1f}.safetensors"),
            nnxp.ModelCheckpoint(tmp_path / "last.safetensors"),
            lambda network, history: kept.append(to_numpy(network.parameters[0][0]).copy()),
        ],
    )
    first, second, last = sorted(tmp_path.iterdir())
    assert [first.name[:3], second.name[:3], last.name] == ["01-", "02-", "last.safetensors"]
    for path, expected in zip((first, second, last), (*kept, kept[1]), strict=True):
        np.testing.assert_array_equal(MLP.load(path).parameters[0][0], expected)


def test_it_saves_the_best_epoch_only(data, tmp_path):
    path, losses = tmp_path / "best.safetensors", []

    def note(network, history):
        assert (MLP.load(path).evaluate(*data)["loss"] == network.evaluate(*data)["loss"]) == (
            keep.best_epoch == history.epochs[-1].epoch
        )
        losses.append(history.epochs[-1].validation_loss)

    keep = nnxp.ModelCheckpoint(path, save_best_only=True)
    network, history = fit(
        data, [keep, note], epochs=8, batch_size=4,
        schedule=lambda base, epoch, epochs, history: 0.1 if epoch <= 4 else 50.0,
    )  # fmt: skip
    best = int(np.argmin(losses))
    assert 1 < keep.best_epoch == best + 1 < 8
    assert keep.best_path == str(path)
    content = path.read_bytes()
    # A training that goes on saves nothing worse, and a new one begins anew.
    train(network, *data, epochs=1, batch_size=4, validation=0.3, resume=history,
          optimizer=SGD(50.0), callbacks=[keep])  # fmt: skip
    assert history.epochs[-1].validation_loss > losses[best]
    assert path.read_bytes() == content
    path.unlink()
    train(network, *data, epochs=1, batch_size=4, validation=0.3, resume=history,
          optimizer=SGD(50.0), callbacks=[keep])  # fmt: skip
    assert keep.best_epoch == 10  # that of before is not there any more
    assert path.exists()


def test_it_replaces_no_other_file(data, tmp_path):
    path = tmp_path / "letter.txt"
    path.write_text("dear reader")
    with pytest.raises(InputError, match=r"letter\.txt: is not an nnxp model"):
        fit(data, [nnxp.ModelCheckpoint(path)])
    (tmp_path / "1.txt").write_text("dear reader")
    with pytest.raises(InputError, match=r"1\.txt: is not an nnxp model"):
        fit(data, [nnxp.ModelCheckpoint(tmp_path / "{epoch}.txt")])
    assert path.read_text() == "dear reader"


def test_a_checkpoint_says_what_it_needs(data, tmp_path):
    with pytest.raises(InputError, match="'val_loss' in braces; an epoch has epoch, loss"):
        nnxp.ModelCheckpoint("{val_loss}.safetensors")
    with pytest.raises(InputError, match="unknown monitor"):
        nnxp.ModelCheckpoint("a", monitor="val_loss")
    keep = nnxp.ModelCheckpoint(tmp_path / "a", save_best_only=True)
    with pytest.raises(InputError, match="validation_loss needs validation data"):
        fit(data, [keep], validation=None)
    fit(data, [nnxp.ModelCheckpoint(tmp_path / "a")], validation=None)


# --- CSVLog


def test_a_csv_log_has_the_history(data, tmp_path):
    log = nnxp.CSVLog(tmp_path / "log.csv")
    seen = []

    def read(network, history):
        seen.append((tmp_path / "log.csv").read_text())

    network, history = fit(data, [log, read])
    table = columns(tmp_path / "log.csv")
    assert [text.count("\n") for text in seen] == [2, 3]  # each epoch is there at its end
    assert list(table) == ["epoch", "loss", "validation_loss", "validation_accuracy",
                           "learning_rate", "seconds", "samples_per_second"]  # fmt: skip
    train(network, *data, epochs=2, batch_size=8, validation=0.3, resume=history,
          callbacks=[copy.deepcopy(log)])  # fmt: skip
    table = columns(tmp_path / "log.csv")
    assert table["epoch"] == [1, 2, 3, 4]
    for name in ("loss", "validation_loss", "seconds", "learning_rate"):
        assert table[name] == [getattr(epoch, name) for epoch in history.epochs]
    accuracy = [epoch.validation_metric for epoch in history.epochs]
    assert table["validation_accuracy"] == accuracy
    fit(data, [log], validation=None)
    assert list(columns(tmp_path / "log.csv"))[:3] == ["epoch", "loss", "learning_rate"]


def columns(path):
    """The columns of a csv by name, as numbers."""
    rows = list(csv.DictReader(path.read_text().splitlines()))
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def test_a_csv_log_is_whole_after_an_interruption(data, tmp_path):
    log = nnxp.CSVLog(tmp_path / "log.csv")
    with pytest.raises(KeyboardInterrupt):
        fit(data, [log, interrupt], epochs=9)
    assert log._file is None
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 4


def interrupt(network, history):
    if len(history.epochs) == 3:
        raise KeyboardInterrupt


def test_a_csv_log_replaces_logs_alone(data, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("epoch,year\n1,2\n")
    with pytest.raises(InputError, match=r"table\.csv: is not a log of epochs"):
        fit(data, [nnxp.CSVLog(path)])
    assert path.read_text() == "epoch,year\n1,2\n"
    with pytest.raises(FileNotFoundError):
        fit(data, [nnxp.CSVLog(tmp_path / "nowhere" / "log.csv")])


# --- TensorBoardLog


def test_tensorboard_reads_its_log(data, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = nnxp.TensorBoardLog(tmp_path / "runs" / "first")
    network, history = fit(data, [log])
    again, writers = copy.deepcopy(log), []
    with pytest.raises(KeyboardInterrupt):
        train(network, *data, epochs=2, batch_size=8, validation=0.3, resume=history,
              callbacks=[again, lambda *_: writers.append(again._writer), interrupt])  # fmt: skip
    with pytest.raises(RuntimeError, match="closed"):
        writers[0].flush()
    assert len(list((tmp_path / "runs" / "first").iterdir())) == 2
    events = EventAccumulator(str(tmp_path / "runs" / "first"))
    events.Reload()
    fields = {"loss/training": "loss", "loss/validation": "validation_loss",
              "accuracy/validation": "validation_metric", "learning_rate": "learning_rate",
              "samples_per_second": "samples_per_second"}  # fmt: skip
    assert set(events.Tags()["tensors"]) == set(fields)
    for tag, name in fields.items():
        found = events.Tensors(tag)
        assert [each.step for each in found] == [1, 2, 3]
        figures = [each.tensor_proto.float_val[0] for each in found]
        expected = [getattr(epoch, name) for epoch in history.epochs]
        np.testing.assert_allclose(figures, expected, rtol=1e-6)


def test_a_missing_tensorboard_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(InputError, match=r'pip install "nnxp\[tensorboard\]"'):
        nnxp.TensorBoardLog("runs")

"""Checkpoints of a training: going on from any of them comes to the same bits."""

import errno
import hashlib
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress

import numpy as np
import pytest
from command_line import environment, fail, succeed
from conftest import require
from processes import completed, python, started, until

import nnxp
import nnxp.checkpoint
from nnxp import resuming
from nnxp.arrays import to_numpy
from nnxp.errors import DivergenceError, InputError, ModelError
from nnxp.nested import leaves

RNG = np.random.default_rng(0)
X = RNG.standard_normal((203, 6)).astype(np.float32)
T = RNG.integers(0, 3, 203)
HOW = {
    "sgd": {"optimizer": nnxp.SGD(0.1)},
    "momentum": {"optimizer": nnxp.SGD(0.1, momentum=0.9)},
    "adam, dropout, plateau": {
        "optimizer": nnxp.Adam(0.01),
        "regularization": nnxp.Regularization(dropout=0.3, l2=1e-3),
        "schedule": "plateau,patience=1",
    },
    "early stopping, diagnosed": {"optimizer": nnxp.Adam(0.05), "diagnose": True, "stops": True},
    "cosine, streamed, weighted": {
        "optimizer": nnxp.RMSprop(0.01),
        "schedule": "cosine,warmup=1",
        "stream": True,
        "sample_weight": np.linspace(0.0, 2.0, 203),
    },
}


class Killed(Exception):
    pass


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    monkeypatch.setattr("nnxp.data.placement.NetworkSpec.chunk_steps", lambda *_: 7)


def training(backend, folder=None, *, epochs=4, kill_after=None, stops=False, every=1, **how):
    """Train; with `kill_after`, end by an error after that chunk. Return network and history."""
    network = nnxp.MLP([6, 8, 3], backend=backend, seed=1)
    chunks = []

    def progress(samples):
        chunks.append(samples)
        if len(chunks) == kill_after:
            raise Killed

    callbacks = [nnxp.EarlyStopping(patience=2)] if stops else []
    checkpoint = None if folder is None else nnxp.Checkpoints(folder, every)
    how = {"batch_size": 8, "validation": 0.2, "callbacks": callbacks} | how
    history = nnxp.train(
        network, X, T, epochs=epochs, checkpoint=checkpoint, progress=progress, **how
    )
    return network, history, len(chunks)


def digest(network, history):
    """The hash of parameters, optimizer, steps and the figures of every epoch."""
    found = hashlib.sha256()
    for array in (*leaves(network.parameters), *leaves(history.resumable)):
        found.update(to_numpy(array).tobytes())
    for each in history.epochs:
        figures = each.loss, each.validation_loss, each.validation_metric, each.learning_rate
        found.update(repr((figures, each.diagnosis)).encode())
    return found.hexdigest()


@pytest.mark.promise("resume")
@pytest.mark.parametrize("name", HOW)
@pytest.mark.parametrize("every_chunk", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_training_that_was_killed_goes_on_to_the_same_bits(
    backend, tmp_path, name, every_chunk, cases
):
    *whole, chunks = training(backend, **HOW[name])
    step = 11 if backend.name != "numpy" else 3 if "dropout" in name else 7
    places = range(1, chunks)
    for kill_after in cases.drawn(places, 4) if every_chunk else places[::step]:
        with cases(f"killed after chunk {kill_after}"):
            folder = tmp_path / str(kill_after)
            with pytest.raises(Killed):
                training(backend, folder, kill_after=kill_after, **HOW[name])
            *resumed, rest = training(backend, resume=folder, **HOW[name])
            assert digest(*resumed) == digest(*whole)
            # The end of an epoch's last chunk is no place of its own: it is trained again.
            assert rest in (chunks - kill_after, chunks - kill_after + 1)


@pytest.mark.promise("resume")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_each_of_60_steps_is_a_place_to_go_on_from(backend, tmp_path, name, monkeypatch, cases):
    monkeypatch.setattr("nnxp.data.placement.NetworkSpec.chunk_steps", lambda *_: 1)
    how = HOW.get(name, {"optimizer": nnxp.Adam(0.01)}) | {"epochs": 4, "validation": None}
    how["batch_size"] = 11  # 19 steps in an epoch, the last of 5 rows
    *whole, _ = training(backend, **how)
    # The strict namespace computes by NumPy, and takes twice as long.
    steps = range(1, 61, 12 if backend.name == "array-api-strict" else 1)
    for kill_after in cases.drawn(steps, 4):
        with cases(f"killed after step {kill_after}"):
            folder = tmp_path / str(kill_after)
            # The end of a training is saved, except between an epoch's last step and its end.
            every = 1000 if kill_after % 19 else 1
            with pytest.raises(Killed):
                training(backend, folder, kill_after=kill_after, every=every, **how)
            *resumed, _ = training(backend, resume=folder, **how)
            assert digest(*resumed) == digest(*whole)


@pytest.mark.promise("resume")
def test_more_epochs_of_a_training_that_ended_are_those_of_one_long_training(backend, tmp_path):
    how = HOW["momentum"]
    *whole, _ = training(backend, epochs=6, **how)
    training(backend, tmp_path, epochs=3, every="epoch", **how)
    *resumed, _ = training(backend, tmp_path, epochs=6, resume=tmp_path, every="epoch", **how)
    assert digest(*resumed) == digest(*whole)
    *again, chunks = training(backend, epochs=6, resume=tmp_path, **how)
    assert chunks == 0
    assert digest(*again) == digest(*whole)


@pytest.mark.promise("resume")
@pytest.mark.parametrize("other", ["torch", "jax", "array-api-strict"])
def test_a_checkpoint_of_one_backend_goes_on_on_another(tmp_path, other, caplog):
    require(other)
    how = HOW["adam, dropout, plateau"]
    network, history, _ = training("numpy", **how)
    with pytest.raises(Killed):
        training("numpy", tmp_path, kill_after=6, **how)
    resumed, again, _ = training(other, resume=tmp_path, **how)
    for one, two in zip(leaves(resumed.parameters), leaves(network.parameters), strict=True):
        np.testing.assert_allclose(to_numpy(one), two, atol=1e-4)
    assert [each.epoch for each in again.epochs] == [each.epoch for each in history.epochs]
    assert f"backend is {other}" in caplog.text


@pytest.mark.promise("resume")
def test_the_newest_two_stay_and_are_models_of_the_last_complete_epoch(tmp_path):
    network, _, _ = training("numpy", tmp_path, **HOW["sgd"])
    files = sorted(os.listdir(tmp_path))
    assert files == ["checkpoint-000000000083.safetensors", "checkpoint-000000000084.safetensors"]
    loaded = nnxp.MLP.load(tmp_path / files[1], "numpy")
    np.testing.assert_array_equal(loaded.predict(X), network.predict(X))
    assert loaded.metadata == {}


@pytest.mark.parametrize(
    ("every", "steps", "seconds", "within", "due"),
    [("epoch", 9, 9.0, True, False), ("epoch", 9, 9.0, False, True), (10, 9, 9.0, False, False),
     (10, 10, 0.0, True, True), ("30s", 9, 29.0, False, False), ("30s", 9, 30.0, True, True),
     ("1.5m", 9, 89.0, True, False), ("1h", 9, 3600.0, True, True)],
)  # fmt: skip
def test_when_a_checkpoint_is_due(every, steps, seconds, within, due):
    assert nnxp.Checkpoints("runs", every).is_due(steps, seconds, within) is due


@pytest.mark.parametrize("wrong", [0, -1, "never", "30 s", "", 1.5])
def test_another_interval_is_one_line(wrong):
    with pytest.raises(InputError, match='every must be a number of steps, 500, a time, "30s"'):
        nnxp.Checkpoints("runs", wrong)


@pytest.mark.promise("resume")
def test_other_data_networks_and_rows_are_refused_with_their_names(tmp_path):
    training("numpy", tmp_path, epochs=1, **HOW["momentum"])

    def refused(match, *, sizes=(6, 8, 3), x=X, targets=T, **how):
        network = nnxp.MLP(sizes, backend="numpy", seed=1)
        how = {"batch_size": 8, "validation": 0.2, **HOW["momentum"], **how}
        with pytest.raises(InputError, match=match):
            nnxp.train(network, x, targets, epochs=2, resume=tmp_path, **how)

    refused(r"sizes \(6, 8, 3\), not \(6, 9, 3\)", sizes=(6, 9, 3))
    changed = X.copy()
    changed[7, 2] += 1e-6
    refused("its x had other values: give the same data", x=changed)
    refused(r"its x had shape \(203, 6\), not \(150, 6\)", x=X[:150], targets=T[:150])
    refused("its targets had other values", targets=np.roll(T, 1))
    refused("its training had no sample_weight", sample_weight=np.ones(203))
    refused("its batch size was 8, not 16", batch_size=16)
    refused("its seed was 0, not 1", seed=1)
    refused("its validation was 0.2, not 0.1", validation=0.1)
    refused("kind of optimizer was SGD, not Adam", optimizer=nnxp.Adam())
    refused("its kind of optimizer was SGD, not RMSprop", optimizer=nnxp.RMSprop())
    refused("its kind of optimizer was SGD, not RMSprop", optimizer=nnxp.RMSprop(), clip_norm=1.0)


@pytest.mark.parametrize("block", [1, 13, 2**20])
@pytest.mark.parametrize("x", [X, X.astype(">f8"), X.tolist(), np.asfortranarray(X)])
def test_a_fingerprint_is_the_hash_of_all_values_however_they_are_given(x, block, monkeypatch):
    monkeypatch.setattr(resuming, "_BLOCK_ELEMENTS", block)
    found = resuming.fingerprint("float32", x, T)
    assert found == {
        "x": f"(203, 6) {hashlib.sha256(X.astype('<f4').tobytes()).hexdigest()}",
        "targets": f"(203,) {hashlib.sha256(T.astype('<f8').tobytes()).hexdigest()}",
    }


@pytest.mark.promise("resume")
def test_what_may_change_is_said(tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "nnxp")
    training("numpy", tmp_path, epochs=1, **HOW["momentum"])
    monkeypatch.setattr(resuming.reports, "processor", lambda: "another")
    training("numpy", epochs=2, resume=tmp_path, optimizer=nnxp.SGD(0.2, momentum=0.9))
    said = {each.levelname: each.getMessage() for each in caplog.records}
    assert "learning_rate=0.2" in caplog.text
    assert said["WARNING"].startswith("processor is another, and was ")


@pytest.mark.promise("resume")
def test_a_setting_that_only_one_version_has_is_said(tmp_path, caplog):
    caplog.set_level(logging.INFO, "nnxp")
    training("numpy", tmp_path, epochs=1, **HOW["sgd"])
    newest = max(tmp_path.iterdir())
    model = nnxp.checkpoint.load(newest)
    settings = model.metadata["training"]["settings"]
    settings["old"] = settings.pop("loss")
    nnxp.checkpoint.save(model, newest)
    training("numpy", epochs=2, resume=tmp_path, **HOW["sgd"])
    assert f"old is None, and was {settings['old']}" in caplog.text
    assert f"loss is {settings['old']}, and was None" in caplog.text


@pytest.mark.promise("damage")
def test_a_damaged_checkpoint_is_skipped_and_said(tmp_path, caplog):
    *whole, _ = training("numpy", epochs=3, **HOW["sgd"])
    training("numpy", tmp_path, epochs=2, **HOW["sgd"])
    first, newest = sorted(tmp_path.iterdir())
    newest.write_bytes(newest.read_bytes()[:-1])
    *resumed, _ = training("numpy", epochs=3, resume=tmp_path, **HOW["sgd"])
    assert digest(*resumed) == digest(*whole)
    assert f"{newest}: damaged" in caplog.text
    first.write_bytes(b"")
    with pytest.raises(ModelError, match="no checkpoint is whole"):
        training("numpy", resume=tmp_path)


def test_the_steps_to_the_next_checkpoint_count_from_where_a_training_goes_on(tmp_path):
    training("numpy", tmp_path, epochs=1, every="epoch", **HOW["sgd"])  # 21 steps
    with pytest.raises(Killed):  # which saves, as an end of any kind does: after 28
        training("numpy", tmp_path, kill_after=1, every=14, resume=tmp_path, **HOW["sgd"])
    training("numpy", tmp_path, epochs=2, every=14, resume=tmp_path, **HOW["sgd"])
    files = sorted(path.stem[-2:] for path in tmp_path.iterdir())
    assert files == ["28", "42"]


def test_a_state_of_a_callback_that_nnxp_did_not_write_is_one_line(tmp_path):
    training("numpy", tmp_path, epochs=1, **HOW["early stopping, diagnosed"])
    newest = max(tmp_path.iterdir())
    model = nnxp.checkpoint.load(newest)
    model.metadata["training"]["callbacks"] = [["EarlyStopping", {"best": 0.0}]]
    nnxp.checkpoint.save(model, newest)
    with pytest.raises(ModelError, match="state of EarlyStopping is damaged"):
        training("numpy", resume=tmp_path, **HOW["early stopping, diagnosed"])


def test_a_diagnosis_comes_back_with_its_numbers(tmp_path):
    """Also those that JSON does not have."""
    _, history, _ = training("numpy", tmp_path, epochs=1, **HOW["early stopping, diagnosed"])
    newest = max(tmp_path.iterdir())
    model = nnxp.checkpoint.load(newest)
    figures = model.metadata["training"]["history"]["epochs"][0]
    figures["validation_metric"] = "-inf"
    figures["diagnosis"]["layers"][0]["gradient"] = "inf"
    nnxp.checkpoint.save(model, newest)
    (epoch,) = resuming.load(tmp_path)[2].history.epochs
    assert epoch.validation_metric == -np.inf
    assert epoch.diagnosis.layers[0].gradient == np.inf
    assert epoch.diagnosis.layers[1:] == history.epochs[0].diagnosis.layers[1:]
    assert epoch.diagnosis.findings == history.epochs[0].diagnosis.findings


def test_text_of_a_checkpoint_is_said_without_control_characters(tmp_path, caplog):
    caplog.set_level(logging.INFO, "nnxp")
    training("numpy", tmp_path, epochs=1, **HOW["early stopping, diagnosed"])
    newest = max(tmp_path.iterdir())
    model, escape = nnxp.checkpoint.load(newest), "\x1b[2J\n"
    found = model.metadata["training"]
    found["settings"][escape] = found["environment"][escape] = escape
    found["callbacks"].append([escape, {}])
    found["history"]["fallbacks"].append(escape)
    found["history"]["epochs"][0]["diagnosis"]["layers"][0]["activation"] = escape
    nnxp.checkpoint.save(model, newest)
    _, history, _ = training("numpy", resume=tmp_path, **HOW["early stopping, diagnosed"])
    assert r"\x1b[2J\n is None, and was \x1b[2J\n" in caplog.text
    for each in (*(record.getMessage() for record in caplog.records), repr(history.epochs),
                 *history.fallbacks):  # fmt: skip
        assert each.isprintable()


# --- damage


def small(folder, epochs=2, **how):
    """Train the smallest network with momentum; return the hash of what came of it."""
    network = nnxp.MLP([2, 2, 2], backend="numpy", seed=1)
    checkpoint = None if folder is None else nnxp.Checkpoints(folder)
    history = nnxp.train(
        network, X[:16, :2], T[:16] % 2, epochs=epochs, batch_size=8, checkpoint=checkpoint,
        optimizer=nnxp.SGD(0.1, momentum=0.9), **how,
    )  # fmt: skip
    return digest(network, history)


def damages(content, stride):
    """The content cut at every byte and with every bit turned, or each of these by a stride."""
    for length in range(0, len(content), stride):
        yield f"cut at {length}", content[:length]
    for bit in range(0, 8 * len(content), stride):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit}", bytes(damaged)


@pytest.mark.promise("damage")
@pytest.mark.parametrize("stride", [401, pytest.param(1, marks=pytest.mark.slow)])
def test_damage_of_the_newest_checkpoint_takes_the_one_before(tmp_path, cases, stride):
    small(tmp_path)
    before, newest = sorted(tmp_path.iterdir())
    expected = before, nnxp.checkpoint.load(before).metadata["training"]["state"]
    every = damages(newest.read_bytes(), stride)
    for name, content in cases.drawn(every, 8) if stride == 1 else every:
        newest.write_bytes(content)
        with cases(name):
            path, _, snapshot = resuming.load(tmp_path)
            assert path == expected[0]
            for one, two in zip(snapshot.state, expected[1], strict=True):
                np.testing.assert_array_equal(one, two)


@pytest.mark.promise("damage")
@pytest.mark.parametrize("stride", [401, pytest.param(7, marks=pytest.mark.slow)])
def test_damage_of_the_only_checkpoint_is_an_error(tmp_path, cases, stride):
    small(tmp_path, epochs=1)
    (only,) = tmp_path.iterdir()
    for name, content in damages(only.read_bytes(), stride):
        only.write_bytes(content)
        with cases(name), pytest.raises(ModelError, match="no checkpoint is whole"):
            resuming.load(tmp_path)


WRONG = {
    "another entry": {"hook": "os.system"},
    "another entry of the progress": {"progress.module": "os"},
    "another entry of the history": {"history.module": "os"},
    "another entry of an epoch": {"history.epochs.0.module": "os"},
    "another entry of a diagnosis": {"history.epochs.0.diagnosis.module": "os"},
    "another entry of a layer": {"history.epochs.0.diagnosis.layers.0.module": "os"},
    "another format": {"format": 2},
    "a format of text": {"format": "\x1b[2J"},
    "no state": {"state": ...},
    "a state of numbers": {"state": [1.0, 2.0]},
    "a state of text": {"state": "abc"},
    "steps of text": {"progress.steps": "1"},
    "steps below zero": {"history.steps": -1},
    "steps beyond int64": {"history.steps": 10**400},
    "seconds beyond floats": {"progress.seconds": 10**400},
    "losses of two dimensions": {"progress.losses": np.zeros((2, 2))},
    "more losses than sizes": {"progress.losses": np.zeros(3)},
    "epochs that are no list": {"history.epochs": 5},
    "an epoch of text": {"history.epochs": ["abc"]},
    "an epoch without its number": {"history.epochs.0.epoch": ...},
    "an epoch's number that is none": {"history.epochs.0.epoch": 1.5},
    "a loss that is a list": {"history.epochs.0.loss": [1.0]},
    "an activation that is a list": {"history.epochs.0.diagnosis.layers.0.activation": ["relu"]},
    "a metric that is a list": {"history.metric": ["accuracy"]},
    "a callback without a state": {"callbacks": [["EarlyStopping"]]},
    "settings that are a list": {"settings": ["seed"]},
    "a setting that is a list": {"settings.seed": [1]},
    "a hash of the data that is none": {"data": 1},
    "an environment that is text": {"environment": "x"},
}


@pytest.mark.promise("damage")
def test_an_entry_that_nnxp_did_not_write_is_an_error_of_one_line(tmp_path, cases):
    training("numpy", tmp_path, epochs=1, every="epoch", **HOW["early stopping, diagnosed"])
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    resuming.load(tmp_path)
    for name, changes in WRONG.items():
        path.write_bytes(whole)
        model = nnxp.checkpoint.load(path)
        for place, value in changes.items():
            *outer, last = (int(key) if key.isdecimal() else key for key in place.split("."))
            inner = model.metadata["training"]
            for key in outer:
                inner = inner[key]
            if value is ...:
                del inner[last]
            else:
                inner[last] = value
        nnxp.checkpoint.save(model, path)
        with cases(name):
            with pytest.raises(ModelError, match="no checkpoint is whole") as error:
                resuming.load(tmp_path)
            assert str(error.value).isprintable()
            assert ("which this nnxp does not know: update nnxp" in str(error.value)) == (
                name.startswith("another entry")
            )


# --- a checkpoint is there whole or not at all


@pytest.mark.promise("whole files")
def test_on_disk_a_new_folder_and_each_checkpoint_are_there_before_an_old_one_goes(
    tmp_path, monkeypatch
):
    calls, runs, new = [], tmp_path / "runs", tmp_path / "runs" / "new"
    fsync, replace, unlink = os.fsync, os.replace, os.unlink

    def synced(handle):
        fsync(handle)
        there = filter(os.path.exists, (tmp_path, runs, new))
        status = os.fstat(handle)
        folder = next((each for each in there if os.path.samestat(os.stat(each), status)), None)
        calls.append(f"fsync {folder.relative_to(tmp_path) if folder else 'file'}")

    def renamed(source, target):
        replace(source, target)
        calls.append(f"rename to {os.path.basename(target)[17:23]}")

    def removed(path):
        unlink(path)
        calls.append(f"remove {os.path.basename(path)[17:23]}")

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    monkeypatch.setattr(os, "unlink", removed)
    small(new, epochs=3)
    assert calls == [
        "fsync runs", "fsync .",
        *("fsync file", "rename to 000002", "fsync runs/new"),
        *("fsync file", "rename to 000004", "fsync runs/new"),
        *("fsync file", "rename to 000006", "fsync runs/new", "remove 000002"),
    ]  # fmt: skip


@pytest.mark.promise("whole files")
@pytest.mark.parametrize("number", ["EIO", "ENOSPC", "EDQUOT", "EROFS", "EINTR"])
def test_any_system_call_that_fails_leaves_a_whole_checkpoint(tmp_path, cases, number):
    """The k-th of a training, for every k."""
    whole, reached = small(None, epochs=3), True
    k = 0
    while reached:
        folder, k, left = tmp_path / str(k), k + 1, k + 1
        small(folder, epochs=1)
        reached = False

        def failing(function):
            def call(*arguments, **options):
                nonlocal left, reached
                left -= 1
                if left == 0:
                    reached = True
                    raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)))
                return function(*arguments, **options)

            return call

        with pytest.MonkeyPatch.context() as patch, cases(f"call {k}"):
            for name in ("fsync", "replace", "unlink", "chmod", "fdopen"):
                patch.setattr(os, name, failing(getattr(os, name)))
            patch.setattr(tempfile, "mkstemp", failing(tempfile.mkstemp))
            with suppress(OSError):
                small(folder, epochs=2, resume=folder)
            resuming.load(folder)
            patch.undo()
            assert small(folder, epochs=3, resume=folder) == whole
            assert len(list(folder.iterdir())) == resuming.KEEP
    assert k > 5


SAVE_WITH_A_LIMIT = """
import os, resource, signal, sys
import numpy as np
import nnxp
from nnxp import resuming

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder, x, t = sys.argv[1], np.eye(16, 2), np.arange(16) % 2

def train(epochs, **how):
    network = nnxp.MLP([2, 2, 2], backend="numpy", device="cpu", seed=1)
    nnxp.train(network, x, t, epochs=epochs, batch_size=8,
               optimizer=nnxp.SGD(0.1, momentum=0.9), **how)

train(1, checkpoint=nnxp.Checkpoints(folder))
whole = resuming.load(folder)[0]
before, limits = sorted(os.listdir(folder)), range(0, os.path.getsize(whole), 7)
for limit in limits:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        train(2, resume=folder, checkpoint=nnxp.Checkpoints(folder))
    except OSError:
        pass
    else:
        sys.exit(f"a limit of {limit} bytes went unnoticed")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    assert resuming.load(folder)[0] == whole, limit
    assert sorted(os.listdir(folder)) == before, limit
train(2, resume=folder, checkpoint=nnxp.Checkpoints(folder))
assert resuming.load(folder)[0] > whole
print(len(limits))
"""


@pytest.mark.promise("whole files")
@pytest.mark.slow
def test_a_disk_that_fills_up_leaves_the_checkpoint_before(tmp_path, cases):
    done = python(SAVE_WITH_A_LIMIT, tmp_path, timeout=300)
    with cases():
        assert done.stderr == ""
    cases.tried = int(done.stdout)
    assert cases.tried > 300


TRAIN_AND_BE_KILLED = """
import hashlib, os, random, shutil, signal, sys, time, warnings
import numpy as np
import nnxp
from nnxp import resuming
from nnxp.arrays import to_numpy
from nnxp.data import placement
from nnxp.nested import leaves

folder, kills = sys.argv[1], int(sys.argv[2])
warnings.simplefilter("ignore", DeprecationWarning)  # of forks in a process with threads
placement.NetworkSpec.chunk_steps = lambda *_: 1  # so that each step can be saved
random.seed(kills)
rng = np.random.default_rng(0)
x, t = rng.normal(size=(64, 200)), rng.integers(0, 3, 64)
epochs = 40  # of 8 steps

def train(**how):
    network = nnxp.MLP([200, 300, 3], backend="numpy", device="cpu", seed=0)
    history = nnxp.train(network, x, t, optimizer="adam", batch_size=8, epochs=epochs, **how)
    found = hashlib.sha256()
    for array in (*leaves(network.parameters), *leaves(history.resumable)):
        found.update(to_numpy(array).tobytes())
    return found.hexdigest()

whole, killed, within, compared, steps = train(), 0, 0, 0, 0
while killed < kills:
    trainer = os.fork()
    if not trainer:
        resume = {"resume": folder} if steps else {}
        train(checkpoint=nnxp.Checkpoints(folder, every=1), **resume)
        os._exit(0)
    while not steps and not resuming._files(resuming.Path(folder)):
        time.sleep(0.001)  # for the first checkpoint
    time.sleep(random.uniform(0.0, 0.12))
    if os.waitpid(trainer, os.WNOHANG) == (0, 0):
        os.kill(trainer, signal.SIGKILL)
        assert os.waitpid(trainer, 0) == (trainer, signal.SIGKILL)
        killed += 1
    _, _, snapshot = resuming.load(folder)
    names = sorted(os.listdir(folder))
    within += any(name.startswith(".nnxp-") for name in names)  # a file that was not renamed
    assert snapshot.history.steps >= steps, "a checkpoint was lost"
    steps = snapshot.history.steps
    if killed % 20 == 0 or steps == 8 * epochs:
        assert train(resume=folder) == whole, f"after {killed} kills"
        compared += 1
    if steps == 8 * epochs:
        shutil.rmtree(folder)
        os.mkdir(folder)
        steps = 0
if steps:
    train(resume=folder, checkpoint=nnxp.Checkpoints(folder))
    assert len(os.listdir(folder)) == resuming.KEEP, os.listdir(folder)
assert within > kills / 10, within
print(killed, "killed,", within, "of them within a file,", compared, "compared")
"""


@pytest.mark.promise("whole files")
@pytest.mark.slow
def test_a_training_killed_200_times_while_it_saves_goes_on_to_the_same_bits(tmp_path, cases):
    """By SIGKILL, in processes that are forked, which takes a hundredth of starting another."""
    (tmp_path / "runs").mkdir()
    done = python(TRAIN_AND_BE_KILLED, tmp_path / "runs", "200", timeout=300)
    with cases():
        assert done.stderr == ""
        assert done.stdout.startswith("200 killed, ")
    cases.tried = 200


def test_a_folder_without_a_checkpoint_is_one_line(tmp_path):
    with pytest.raises(ModelError, match="has no checkpoint of a training"):
        training("numpy", resume=tmp_path)
    with pytest.raises(ModelError, match="nowhere: No such file or directory"):
        training("numpy", resume=tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is no folder; name one for the checkpoints"):
        training("numpy", tmp_path / "file")
    nnxp.MLP([6, 3], backend="numpy").save(tmp_path / "checkpoint-000000000001.safetensors")
    with pytest.raises(ModelError, match="is a model, not a checkpoint of a training"):
        training("numpy", resume=tmp_path)


@pytest.mark.promise("honest")
def test_a_training_that_diverges_keeps_the_last_good_checkpoint(tmp_path):
    network = nnxp.MLP([6, 8, 3], backend="numpy", output="identity")
    with pytest.raises(DivergenceError):
        nnxp.train(
            network, X, np.eye(3)[T], epochs=50, batch_size=8, optimizer=nnxp.SGD(5.0),
            loss="quadratic", checkpoint=nnxp.Checkpoints(tmp_path, 1),
        )  # fmt: skip
    for path in tmp_path.iterdir():
        nnxp.MLP.load(path, "numpy")  # which refuses what is not finite


@pytest.mark.promise("resume")
def test_the_command_line_goes_on(tmp_path):
    how = ["train", "moons", "--hidden", 8, "--optimizer", "adam", "--validation", 0.2]
    succeed(tmp_path, *how, "--epochs", 6, "--save", "whole.safetensors")
    succeed(tmp_path, *how, "--epochs", 4, "--checkpoint", "runs", "--save", "part.safetensors")
    done = succeed(tmp_path, *how, "--epochs", 6, "--resume", "runs", "--save", "six.safetensors")
    rows = [line.split()[0] for line in done.splitlines() if line[:5].strip().isdigit()]
    assert rows == ["5", "6"]
    ours, whole = (nnxp.MLP.load(tmp_path / f"{name}.safetensors") for name in ("six", "whole"))
    for one, two in zip(leaves(ours.parameters), leaves(whole.parameters), strict=True):
        np.testing.assert_array_equal(one, two)
    assert "--every is for --checkpoint" in fail(tmp_path, *how, "--every", "5s")
    assert "leave --checkpoint out" in fail(
        tmp_path, *how, "--resume", "runs", "--checkpoint", "runs"
    )
    assert "no checkpoint of a training" in fail(tmp_path, *how, "--resume", ".")


@pytest.mark.promise("whole files")
@pytest.mark.slow
def test_a_training_killed_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
    """By SIGKILL, again and again, each going on from the one before."""
    how = ["train", "digits", "--hidden", "16", "--epochs", "300", "--momentum", "0.9"]
    how += ["--learning-rate", "0.01", "--overwrite", "--quiet"]
    command = [sys.executable, "-m", "nnxp", *how]
    rng, kills = random.Random(0), 0
    options = ["--checkpoint", "runs", "--every", "3"]
    while True:
        with started(
            [*command, *options], cwd=tmp_path, env=environment(tmp_path), stderr=subprocess.PIPE
        ) as process:
            begun = (tmp_path / "runs").exists()
            until(lambda: any((tmp_path / "runs").glob("*")), process)
            time.sleep(rng.uniform(0.8, 2.0) if begun else rng.uniform(0.0, 0.3))
            if process.poll() is not None:
                break
            process.send_signal(signal.SIGKILL)
            process.wait(60)
        kills += 1
        resuming.load(tmp_path / "runs")
        options = ["--resume", "runs", "--every", "3"]
        if kills == 12:  # and then to the end
            completed(
                [*command, "--resume", "runs"], cwd=tmp_path, env=environment(tmp_path), check=True
            )
            break
    (tmp_path / "whole").mkdir()
    completed(command, cwd=tmp_path / "whole", env=environment(tmp_path), check=True)
    ours, whole = (nnxp.MLP.load(tmp_path / name / "model.safetensors") for name in (".", "whole"))
    for one, two in zip(leaves(ours.parameters), leaves(whole.parameters), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.promise("resume")
def test_ctrl_c_leaves_the_history_with_the_network(tmp_path):
    network = nnxp.MLP([6, 8, 3], backend="numpy")

    def interrupt(network, history):
        if len(history.epochs) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nnxp.train(network, X, T, epochs=5, batch_size=8, callbacks=[interrupt])
    assert [each.epoch for each in network.history.epochs] == [1, 2]
    history = nnxp.train(network, X, T, epochs=1, batch_size=8)
    assert len(history.epochs) == 1
    assert network.history is None


@pytest.mark.promise("one place")
def test_a_folder_takes_the_checkpoints_of_one_training_at_a_time(tmp_path):
    def another(network, history):
        with pytest.raises(InputError, match="another training saves there now; name another"):
            training("numpy", tmp_path, epochs=1)
        done.append(len(history.epochs))

    done = []
    training("numpy", tmp_path, epochs=2, callbacks=[another], **HOW["sgd"])
    assert done == [1, 2]
    training("numpy", tmp_path, epochs=3, resume=tmp_path, **HOW["sgd"])  # the first has ended
    with pytest.raises(Killed):
        training("numpy", tmp_path, kill_after=1, epochs=4, resume=tmp_path, **HOW["sgd"])
    training("numpy", tmp_path, epochs=4, resume=tmp_path, **HOW["sgd"])


@pytest.mark.promise("one place")
def test_two_commands_do_not_save_in_one_folder_at_a_time(tmp_path):
    how = ["train", "moons", "--epochs", "5000", "--checkpoint", "runs"]
    with started(
        [sys.executable, "-m", "nnxp", *how], cwd=tmp_path, env=environment(tmp_path),
        stdout=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        until(lambda: any((tmp_path / "runs").glob("*")), process)
        line = fail(tmp_path, *how, "--save", "other.safetensors")
        assert "runs: another training saves there now; name another folder" in line
    # It was killed, which frees the folder.
    succeed(
        tmp_path, "train", "moons", "--epochs", 1, "--checkpoint", "runs", "--save", "x.safetensors"
    )

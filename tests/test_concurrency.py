"""Trainings in several Python threads at once, and what they share."""

import hashlib
import logging
import os
import signal
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import BACKENDS, require
from processes import python, until

import nnxp
from nnxp import InputError, backends, concurrency
from nnxp.arrays import to_numpy
from nnxp.backends import threads
from nnxp.concurrency import Setting
from nnxp.kernels import ACTIVATIONS
from nnxp.objectives import LOSSES
from nnxp.registry import Registry, is_pair

pytestmark = pytest.mark.promise("threads")

DROPOUT = nnxp.Regularization(l2=0.01, max_norm=2.0, dropout=0.3)
TRAININGS = {
    "plain": {},
    "again": {},
    "adam with dropout": {
        "optimizer": nnxp.Adam(0.01), "regularization": DROPOUT, "seed": 3, "validation": 0.25,
    },
    "early stopping": {
        "optimizer": nnxp.SGD(0.5, momentum=0.9), "validation": 0.3, "schedule": "plateau",
        "callbacks": (nnxp.EarlyStopping,),
    },
    "regression": {"optimizer": nnxp.RMSprop(0.01), "clip_norm": 0.1, "diagnose": True},
    "streamed": {"optimizer": nnxp.AdamW(0.01), "stream": True, "schedule": "cosine,warmup=2"},
}  # fmt: skip
"""Options of `nnxp.train`, and classes of callbacks."""


@pytest.fixture(autouse=True)
def _turns():
    """Let threads change after a few bytecodes rather than 5 ms."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def at_once(*calls):
    """The results of functions that begin together, each in a thread of its own."""
    together = threading.Barrier(len(calls))

    def run(call):
        together.wait(30)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [each.result(120) for each in [pool.submit(run, call) for call in calls]]


def digest(network, history=None):
    """The bits of a network, and of the figures of its training."""
    found = hashlib.sha256()
    for layer in network.parameters:
        for array in layer:
            found.update(to_numpy(array).tobytes())
    for epoch in history.epochs if history else ():
        figures = epoch.loss, epoch.validation_loss, epoch.validation_metric, epoch.learning_rate
        found.update(repr(figures).encode())
    return found.hexdigest()


def training(name, backend):
    """One of `TRAININGS`: the bits that it comes to."""
    number = list(TRAININGS).index(name)
    rng = np.random.default_rng(number)
    samples, features = 60 + 20 * number, 5 + number % 3
    x = rng.standard_normal((samples, features))
    options = {"epochs": 3, "batch_size": 24} | TRAININGS[name]
    options["callbacks"] = [make() for make in options.get("callbacks", ())]
    if name == "regression":
        output, targets = "identity", x[:, :3] * 7
    else:
        output, targets = "softmax", np.argmax(x[:, :3], axis=1)
    network = nnxp.MLP([features, 8, 4, 3], "tanh", output, seed=number, backend=backend)
    return digest(network, nnxp.train(network, x, targets, **options))


def test_trainings_at_once_have_the_bits_of_one_after_the_other(backend, cases):
    alone = {name: training(name, backend) for name in TRAININGS}
    assert len(set(alone.values())) == len(TRAININGS)
    # Twice, so that what the first left behind shows: caches, the number of threads, filters.
    for _ in range(2):
        found = at_once(*(lambda name=name: training(name, backend) for name in TRAININGS))
        for name, bits in zip(TRAININGS, found, strict=True):
            with cases(name):
                assert bits == alone[name]


@pytest.mark.slow
def test_trainings_of_all_backends_at_once(cases):
    """Each library has settings of its own for the process or the thread."""
    for name in set(BACKENDS) - {"strict-device1", "cupy"}:
        require(name)
    names = [each for each in BACKENDS if each not in ("strict-device1", "cupy")]
    opened = [backends.get(name, "cpu") for name in names]
    jobs = [(name, each) for name in ("adam with dropout", "regression") for each in opened]
    alone = [training(*job) for job in jobs]
    for _ in range(3):
        for job, expected, bits in zip(
            jobs, alone, at_once(*(lambda job=job: training(*job) for job in jobs)), strict=True
        ):
            with cases(f"{job[0]} on {job[1].name}"):
                assert bits == expected


def product(number):
    """The bits of a training whose products are large enough to be shared among threads."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((149, 287)).astype(np.float32)
    network = nnxp.MLP([287, 75, 3], backend=backends.get("numpy", threads=number))
    nnxp.train(network, x, rng.integers(0, 3, 149), epochs=8, batch_size=None)
    return digest(network)


def test_a_training_keeps_its_number_of_threads_although_others_have_another(cases):
    """BLAS has one number for the process, and on some processors bits depend on it."""
    alone = [product(1), product(2)]
    for _ in range(3):
        found = at_once(lambda: product(1), lambda: product(2), lambda: product(1))
        for bits, expected in zip(found, [*alone, alone[0]], strict=True):
            with cases():
                assert bits == expected


def test_blas_has_the_number_of_threads_that_a_call_asked_for(cases):
    if (threads.count() or 1) < 2:
        pytest.skip("BLAS has one thread here")
    before = threads.count()
    seen = []

    def use(number):
        for _ in range(200):
            with threads.limited(number):
                seen.append(threads.count() == number)
                time.sleep(0)

    at_once(*(lambda number=number: use(number) for number in (1, 2, 1, 2)))
    with cases():
        assert all(seen)
    with cases():
        assert threads.count() == before


def test_predictions_while_other_networks_train(backend, cases):
    x = np.random.default_rng(1).standard_normal((300, 6))
    targets = np.argmax(x[:, :3], axis=1)
    network = nnxp.MLP([6, 7, 3], seed=5, backend=backend)
    outputs, figures = network.predict(x), network.evaluate(x, targets)

    def predict():
        return [(network.predict(x), network.evaluate(x, targets)) for _ in range(10)]

    *found, bits = at_once(predict, predict, lambda: training("adam with dropout", backend))
    for y, measured in found[0] + found[1]:
        with cases():
            np.testing.assert_array_equal(to_numpy(y), to_numpy(outputs))
            assert measured == figures
    with cases():
        assert bits == training("adam with dropout", backend)


def test_data_is_loaded_in_threads(tmp_path, cases):
    rows = np.random.default_rng(0).standard_normal((200, 3)).round(3)
    lines = [f"{a},{b},{'yes' if c > 0 else 'no'}" for a, b, c in rows]
    (tmp_path / "some.csv").write_text("\n".join(["a,b,good", *lines]))
    sources = ["digits", "moons", str(tmp_path / "some.csv")]
    alone = [nnxp.datasets.load(each) for each in sources]
    loads = [lambda source=source: nnxp.datasets.load(source) for source in sources]
    for found, expected in zip(at_once(*loads, *loads), [*alone, *alone], strict=True):
        with cases(expected.name):
            for name in ("x", "y", "x_test", "y_test"):
                np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


# --- one network, one callback


@pytest.fixture
def held():
    """A callback that stops a training in another thread until the test is done."""
    began, may_end = threading.Event(), threading.Event()

    def hold(network, history):
        began.set()
        assert may_end.wait(30)

    hold.began, hold.may_end = began, may_end
    return hold


X, T = np.eye(4), [0, 1, 0, 1]


def test_two_threads_do_not_train_one_network(held):
    network = nnxp.MLP([4, 3, 2])
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(nnxp.train, network, X, T, epochs=2, batch_size=2, callbacks=[held])
        assert held.began.wait(30)
        with pytest.raises(InputError, match=r"^the network is in use by a training in another "):
            nnxp.train(network, X, T, epochs=1, batch_size=2)
        network.predict(X)  # of the last complete epoch
        held.may_end.set()
        assert len(other.result(30).epochs) == 2
    nnxp.train(network, X, T, epochs=1, batch_size=2)
    assert not concurrency._in_use


def test_two_threads_do_not_share_a_callback_that_remembers(held):
    stopping = nnxp.EarlyStopping("loss")
    options = {"epochs": 2, "batch_size": 2}
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(
            nnxp.train, nnxp.MLP([4, 2]), X, T, callbacks=[stopping, held], **options
        )
        assert held.began.wait(30)
        with pytest.raises(InputError, match=r"^the callback <nnxp\..*EarlyStopping .* in another"):
            nnxp.train(nnxp.MLP([4, 2]), X, T, callbacks=[stopping], **options)
        held.may_end.set()
        other.result(30)
    nnxp.train(nnxp.MLP([4, 2]), X, T, callbacks=[stopping, stopping], **options)
    assert not concurrency._in_use


def test_a_training_may_train_its_network_within_a_callback():
    network = nnxp.MLP([4, 2])

    def inner(_, history):
        nnxp.train(network, X, T, epochs=1, batch_size=2)

    assert len(nnxp.train(network, X, T, epochs=2, batch_size=2, callbacks=[inner]).epochs) == 2
    assert not concurrency._in_use


# --- what the process has one of


def test_verbose_trainings_at_once_print_their_own_lines(monkeypatch, capsys):
    """On a terminal, with bars."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    log = logging.getLogger("nnxp")
    level, handlers, out = log.level, list(log.handlers), sys.stdout
    t = np.arange(4.0) * 50  # whose scaling is logged

    def train(epochs):
        network = nnxp.MLP([4, 1], output="identity")
        return len(nnxp.train(network, X, t, epochs=epochs, batch_size=2, verbose=True).epochs)

    assert at_once(*(lambda n=n: train(n) for n in (30, 10, 20))) == [30, 10, 20]
    assert (log.level, log.handlers, sys.stdout) == (level, handlers, out)
    printed = capsys.readouterr().out
    assert printed.count("targets are scaled") == 3
    assert printed.count("samples/s") >= 3


BARS_AT_ONCE = """
import sys, threading, time
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import nnxp
from rich import live

def slow(thing, kind):
    found = isinstance(thing, kind)
    time.sleep(0.01)
    return found

live.isinstance = slow  # it looks whether another bar has replaced sys.stdout, which it then does
together, stdout = threading.Barrier(3), sys.stdout

def train(epochs):
    together.wait()
    nnxp.train(nnxp.MLP([4, 3]), np.eye(4), [0, 1, 2, 0], epochs=epochs, batch_size=2, verbose=True)

with ThreadPoolExecutor(3) as pool:
    list(pool.map(train, (30, 10, 20)))
assert sys.stdout is stdout
"""


def test_bars_that_begin_at_once_do_not_wait_for_each_other():
    done = python(BARS_AT_ONCE, env=os.environ | {"FORCE_COLOR": "1", "TERM": "xterm"})
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.count("samples/s") >= 3


def test_the_filters_of_warnings_are_as_before():
    before = list(warnings.filters)
    labels = np.array([0, 1, 0, 1])

    def train():
        network = nnxp.MLP([4, 3], seed=1)
        for _ in range(5):
            nnxp.train(
                network, X, labels, epochs=2, batch_size=2, validation=(X, labels),
                metric="balanced_accuracy",
            )  # fmt: skip

    at_once(train, train, train)
    assert warnings.filters == before


def test_pieces_without_names_get_names_of_their_own(cases):
    """Two with the same name would each be trained with the last one's function."""

    def scaled(factor):
        def swell(z):
            return factor * z

        def swell_backward(dy, y, z):
            return factor * dy

        return swell, swell_backward

    registry = Registry("activation", dict(ACTIVATIONS), "a pair", is_pair)
    pairs = [scaled(factor) for factor in range(2, 18)]
    names = at_once(*(lambda pair=pair: registry.name_of(pair) for pair in pairs))
    with cases("names"):
        assert len(set(names)) == len(pairs)
    for name, pair in zip(names, pairs, strict=True):
        with cases(name):
            assert registry[name] is pair


def test_pieces_are_registered_while_others_look_names_up():
    """A dictionary that grows while it is read raises an error."""
    registry = Registry("loss", dict(LOSSES), "a pair", is_pair)
    done = threading.Event()

    def register():
        for _ in range(3000):
            registry.register("piece", (lambda y, t: y, lambda y, t: y))
            del registry["piece"]
        done.set()

    def look():
        while not done.is_set():
            assert "quadratic" in list(registry)
            assert registry.name_of("none") is None

    at_once(register, look)
    assert list(registry) == list(LOSSES)


def test_each_thread_has_its_number_of_torch_and_gets_its_own_again():
    require("torch")
    import torch

    before, one = torch.get_num_threads(), backends.get("torch", "cpu", threads=1)
    used, entered, seen = threading.Event(), threading.Event(), []

    def other():
        seen.append(torch.get_num_threads())  # from now on this thread has a number
        used.set()
        assert entered.wait(30)
        with one.active():
            seen.append(torch.get_num_threads())
        seen.append(torch.get_num_threads())

    torch.set_num_threads(3)
    try:
        thread = threading.Thread(target=other)
        thread.start()
        assert used.wait(30)
        with one.active():
            entered.set()
            thread.join(30)
        assert seen == [3, 1, 3]
        assert [torch.get_num_threads(), *at_once(torch.get_num_threads)] == [3, 3]
    finally:
        torch.set_num_threads(before)


# --- Setting


class Value:
    """A setting of the process: its value, and what it was set to."""

    def __init__(self, value):
        self.value, self.written = value, []

    def write(self, value):
        self.value = value
        self.written.append(value)


def test_calls_that_want_another_value_wait_in_their_order():
    place, seen = Value("mine"), []
    setting = Setting(lambda: place.value, place.write)
    inside = {name: threading.Event() for name in "abc"}
    leave = {name: threading.Event() for name in "abc"}

    def call(name, value):
        with setting.of(value):
            seen.append((name, place.value))
            inside[name].set()
            assert leave[name].wait(30)

    with ThreadPoolExecutor(3) as pool:
        waits = [pool.submit(call, "a", 1)]
        assert inside["a"].wait(30)
        waits.append(pool.submit(call, "b", 2))
        until(lambda: len(setting._queue) == 1, seconds=20)
        waits.append(pool.submit(call, "c", 1))  # it does not overtake the one that waits
        until(lambda: len(setting._queue) == 2, seconds=20)
        assert seen == [("a", 1)]
        for name in "abc":
            leave[name].set()
        for each in waits:
            each.result(30)
    assert seen == [("a", 1), ("b", 2), ("c", 1)]
    assert place.written == [1, "mine", 2, "mine", 1, "mine"]


def test_another_value_may_be_entered_within():
    place = Value(0)
    setting = Setting(lambda: place.value, place.write)
    with setting.of(1):
        with setting.of(1):
            assert place.value == 1
        with setting.of(2):
            assert place.value == 2
        assert place.value == 1
    assert place.value == 0


def test_threads_within_threads_do_not_wait_for_ever():
    """Each holds a value and wants that of the other."""
    place = Value(0)
    setting = Setting(lambda: place.value, place.write)
    both = threading.Barrier(2)

    def call(outer, inner, first):
        if not first:
            both.wait(30)
        with setting.of(outer):
            if first:
                both.wait(30)
            with setting.of(inner):
                assert place.value == inner
            assert place.value == outer

    at_once(lambda: call(1, 2, True), lambda: call(2, 1, False))
    assert place.value == 0


def test_a_wait_that_is_interrupted_leaves_the_queue():
    place = Value(0)
    setting = Setting(lambda: place.value, place.write)

    def interrupted(*_):
        raise KeyboardInterrupt

    entered, leave = threading.Event(), threading.Event()

    def hold():
        with setting.of(1):
            entered.set()
            assert leave.wait(30)

    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(hold)
        assert entered.wait(30)
        setting._changed.wait_for = interrupted
        with pytest.raises(KeyboardInterrupt), setting.of(2):
            pass
        del setting._changed.wait_for
        assert not setting._queue
        leave.set()
        held.result(30)
    with setting.of(3):
        assert place.value == 3
    assert place.value == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*fork:RuntimeWarning")
def test_a_forked_process_does_not_wait_for_threads_that_it_has_not():
    place = Value(0)
    setting = Setting(lambda: place.value, place.write)
    entered, leave = threading.Event(), threading.Event()

    def hold():
        with setting.of(1):
            entered.set()
            assert leave.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert entered.wait(30)
    child = os.fork()
    if child == 0:
        with setting.of(2):
            os._exit(place.value)
    try:
        ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
        until(lambda: os.waitid(os.P_PID, child, ended), seconds=20)
    finally:
        os.kill(child, signal.SIGKILL)  # which a process that has ended does not notice
    leave.set()
    thread.join(30)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2

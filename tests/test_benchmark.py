"""Benchmarks: workloads, the worker's protocol, contenders that work and that fail, the command."""

import copy
import hashlib
import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from command_line import fail, succeed
from processes import completed, python, started, until
from rich.console import Console

import nnxp
from nnxp import datasets
from nnxp.arrays import to_numpy
from nnxp.backends import blas
from nnxp.benchmark import (
    QUICK,
    WORKLOADS,
    Entry,
    Result,
    Spread,
    Workload,
    machine,
    measure,
    memory,
    plots,
    reference_loss,
    sweep,
    table,
    workload,
    workloads,
)
from nnxp.benchmark.backend import Products, Trainer, entry, products
from nnxp.benchmark.process import AnswerError, AnsweringProcess
from nnxp.benchmark.workloads import LEARNING_RATE
from nnxp.cli.bench import bench
from nnxp.errors import BackendError, InputError
from nnxp.executors import recording
from nnxp.metrics import format_count

SMALL = Workload("test", (12, 8, 4), 16, chunk=4, samples=2048)
FAST = QUICK | {"repeat": 3}


# --- contenders that workers import from this file


class ByHand:
    """Gradient descent written out in NumPy."""

    name = "by hand"
    note = ""
    rate = LEARNING_RATE

    def __init__(self, workload, device=None):
        self.x, classes = workload.data
        self.t = np.eye(workload.sizes[-1], dtype=np.float32)[classes]
        self.layers = [(weight.copy(), bias.copy()) for weight, bias in workload.parameters]

    def train(self, order):
        for rows in order:
            tape, y = [], self.x[rows]
            for weight, bias in self.layers:
                tape.append(y)
                z = y @ weight + bias
                y = np.maximum(z, 0)
            p = np.exp(z - z.max(axis=1, keepdims=True))
            dz = (p / p.sum(axis=1, keepdims=True) - self.t[rows]) / len(rows)
            for i in reversed(range(len(self.layers))):
                weight, bias = self.layers[i]
                dx = (dz @ weight.T) * (tape[i] > 0)
                self.layers[i] = (
                    weight - np.float32(self.rate) * (tape[i].T @ dz),
                    bias - np.float32(self.rate) * dz.sum(axis=0),
                )
                dz = dx

    def wait(self):
        pass

    def parameters(self):
        return self.layers

    def describe(self):
        return {"library": "numpy", "version": np.__version__, "device": "cpu"}


class Chatty(ByHand):
    """Prints text that is not an answer."""

    def train(self, order):
        print("to stdout", flush=True)
        os.write(1, b'{"seconds": 0, "steps": 1}\n')
        super().train(order)


class Fast(ByHand):
    """Trains with another learning rate."""

    rate = 3 * LEARNING_RATE


class Diverged(ByHand):
    def parameters(self):
        return [(weight * math.nan, bias) for weight, bias in self.layers]


class Elsewhere(Fast):
    comparable = False
    note = "starts from weights of its own"


class Raising(ByHand):
    def __init__(self, workload, device=None):
        raise ValueError("first line\n\x1b[31msecond line")


class RaisingLater(ByHand):
    """Raises when it is timed, after `chunks` chunks."""

    def __init__(self, workload, device=None, *, chunks):
        super().__init__(workload)
        self.left = chunks

    def train(self, order):
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("the device is lost")
        super().train(order)


class Dying(ByHand):
    def train(self, order):
        os.write(2, b"libfast: illegal instruction\n\n")
        os.kill(os.getpid(), signal.SIGKILL)


class Leaving(ByHand):
    def train(self, order):
        sys.exit(5)


class Sleeping(ByHand):
    """Takes 0.04 seconds for a chunk, and 0.4 for those in `late`."""

    def __init__(self, workload, device=None, *, late=()):
        super().__init__(workload)
        self.late, self.chunks = late, 0

    def train(self, order):
        self.chunks += 1
        time.sleep(0.4 if self.chunks in self.late else 0.04)
        super().train(order)

    def describe(self):
        return super().describe() | {"kernels": blas.kernels(), "forced": blas.forced()}


class Warned(ByHand):
    note = "known before"

    def train(self, order):
        warnings.warn("steps run\neagerly", RuntimeWarning, stacklevel=1)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        super().train(order)


class Unrecorded(Trainer):
    """Trains with nnxp on a library that cannot record."""

    def __init__(self, workload, device=None):
        def refuse(*_):
            raise recording.UnrecordableError("no products today")

        recording.ArrayOps.product = refuse
        super().__init__(workload, device, backend="numpy")


class Meeting(ByHand):
    """Starts only when `expected` contenders have started."""

    def __init__(self, workload, device=None, *, folder, own, expected):
        (Path(folder) / own).touch()
        deadline = time.monotonic() + 30
        while len(os.listdir(folder)) < expected:
            assert time.monotonic() < deadline, "alone"
            time.sleep(0.01)
        super().__init__(workload)


class Hanging(ByHand):
    """Never finishes; it writes its own process id and a child's to a file."""

    def __init__(self, workload, device=None, *, ids="/dev/null"):
        super().__init__(workload)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        Path(ids).write_text(f"{os.getpid()} {child.pid} .")

    def train(self, order):
        time.sleep(60)


def stub(kind, name=None, **options):
    return Entry(name or kind.__name__, f"{__name__}:{kind.__name__}", None, options)


def spec(kind, **options):
    return {
        "entry": asdict(stub(kind, **options)),
        "workload": asdict(SMALL),
        "min_seconds": 0.0,
        "steps": 8,
    }


# --- workloads


@pytest.mark.parametrize("name", [name for name in WORKLOADS if name != "huge"])
def test_a_workload_has_the_declared_shapes(name):
    each = workload(name).quick()
    x, classes = each.data
    assert (x.shape, x.dtype) == ((each.samples, each.sizes[0]), np.float32)
    assert (classes.shape, classes.dtype.kind) == ((each.samples,), "i")
    assert x.min() == 0
    assert x.max() < 1
    assert 0.75 < (x == 0).mean() < 0.85
    shapes = [(weight.shape, bias.shape) for weight, bias in each.parameters]
    assert shapes == [(fans, fans[1:]) for fans in pairwise(each.sizes)]
    assert next(each.orders()).shape == (each.chunk, each.batch_size)


def test_no_class_is_rare():
    _, classes = WORKLOADS["tiny"].quick().data
    assert np.bincount(classes, minlength=10).min() > 0.02 * len(classes)


def test_another_process_makes_the_same_workload():
    code = (
        "import hashlib, numpy as np; from nnxp.benchmark import Workload\n"
        f"w = Workload(**{asdict(SMALL)!r})\n"
        "arrays = [*w.data, next(w.orders()), *(a for pair in w.parameters for a in pair)]\n"
        "print(hashlib.sha256(b''.join(map(np.ndarray.tobytes, arrays))).hexdigest())"
    )
    done = python(code, check=True)
    ours = [*SMALL.data, next(SMALL.orders()), *(a for pair in SMALL.parameters for a in pair)]
    content = b"".join(map(np.ndarray.tobytes, ours))
    assert done.stdout.strip() == hashlib.sha256(content).hexdigest()


def test_an_epoch_visits_each_row_once_and_the_next_has_another_order():
    chunks = SMALL.samples // (SMALL.chunk * SMALL.batch_size)
    orders = list(islice(SMALL.orders(), 2 * chunks))
    first, second = (np.concatenate(orders[part]) for part in (slice(chunks), slice(chunks, None)))
    assert sorted(first.ravel()) == list(range(SMALL.samples))
    assert sorted(second.ravel()) == list(range(SMALL.samples))
    assert not np.array_equal(first, second)


def test_training_lowers_the_loss():
    tiny = WORKLOADS["tiny"].quick()
    contender = ByHand(tiny)
    before = reference_loss.loss(contender.parameters(), *tiny.data)
    for order in islice(tiny.orders(), 100):
        contender.train(order)
    assert reference_loss.loss(contender.parameters(), *tiny.data) < 0.9 * before


def test_a_wrong_workload_is_refused():
    with pytest.raises(InputError, match="more than its 100 samples"):
        Workload("w", (4, 2), 16, chunk=7, samples=100)
    with pytest.raises(InputError, match="4096 inputs, MNIST 784"):
        replace(WORKLOADS["huge"], source="mnist")
    with pytest.raises(InputError, match="did you mean 'mnist'"):
        replace(SMALL, source="mnits")
    with pytest.raises(InputError, match="did you mean 'small'"):
        workload("smal")
    with pytest.raises(InputError, match="Workload: batch_size must be a whole number, 1 or more"):
        replace(SMALL, batch_size=0)
    with pytest.raises(InputError, match="Workload: sizes must be a list of 2 or more"):
        replace(SMALL, sizes=(12,))


def test_a_workload_is_restored_from_json():
    assert Workload(**json.loads(json.dumps(asdict(SMALL)))) == SMALL


@pytest.mark.parametrize(
    ("option", "value"), [("repeat", 0), ("min_seconds", math.nan), ("steps", 1.5), ("timeout", 0)]
)
def test_wrong_options_are_refused_before_a_contender_starts(option, value):
    with pytest.raises(InputError, match=f"{option} must be .*, not {value}"):
        measure(SMALL, [stub(Raising)], **{option: value})


def test_a_workload_may_train_on_mnist(monkeypatch):
    digits = datasets.load("digits")
    monkeypatch.setattr(datasets, "load", {"mnist": digits}.__getitem__)
    x, classes = Workload("w", (784, 10), 10, samples=1000, source="mnist").data
    np.testing.assert_array_equal(x, digits.x[:1000])
    np.testing.assert_array_equal(classes, digits.y[:1000])


# --- the reference loss


def test_the_reference_loss_is_the_mean_cross_entropy():
    special = pytest.importorskip("scipy.special")
    x, classes = SMALL.data
    (w1, b1), (w2, b2) = ((w.astype(float), b.astype(float)) for w, b in SMALL.parameters)
    logits = np.maximum(x[:1024].astype(float) @ w1 + b1, 0) @ w2 + b2
    expected = -special.log_softmax(logits, axis=1)[np.arange(1024), classes[:1024]].mean()
    assert reference_loss.loss(SMALL.parameters, x, classes) == pytest.approx(expected, rel=1e-14)


def test_the_reference_loss_of_huge_logits_and_of_divergence():
    x, classes = np.full((3, 1), 1e4, np.float32), np.array([0, 0, 1])
    parameters = [(np.array([[1.0, -1.0]], np.float32), np.zeros(2, np.float32))]
    assert reference_loss.loss(parameters, x, classes) == pytest.approx(2e4 / 3)
    assert math.isnan(reference_loss.loss([(parameters[0][0] * math.inf, np.zeros(2))], x, classes))


# --- nnxp as a contender


def opened(backend):
    return Trainer(SMALL, backend.device_name, backend=backend.name)


def test_a_backend_trains_as_nnxp_train_does(backend):
    contender = opened(backend)
    for order in islice(SMALL.orders(), SMALL.samples // (SMALL.chunk * SMALL.batch_size)):
        contender.train(order)
    contender.wait()
    network = nnxp.MLP(SMALL.sizes, backend=backend, parameters=SMALL.parameters)
    optimizer = nnxp.SGD(LEARNING_RATE)
    nnxp.train(network, *SMALL.data, optimizer=optimizer, epochs=1, batch_size=SMALL.batch_size)
    for ours, theirs in zip(contender.parameters(), network.parameters, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, to_numpy(b), rtol=1e-5, atol=1e-7)


def test_a_backend_learns_the_same_as_by_hand(backend):
    ours, theirs = opened(backend), ByHand(SMALL)
    for order in islice(SMALL.orders(), 4):
        ours.train(order)
        theirs.train(order)
    losses = [reference_loss.loss(each.parameters(), *SMALL.data) for each in (ours, theirs)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_backend_describes_what_affects_its_speed(backend):
    told = opened(backend).describe()
    assert told["library"] == backend.name
    assert told["device"] == backend.device_name
    assert told["blas"]
    assert told["tf32"] is False
    if backend.name == "numpy":
        assert told["kernels"] == blas.kernels()
        assert told["threads"] == 1  # of SMALL, whatever the pool has
    json.dumps(told, allow_nan=False)


def test_the_floor_is_the_products_of_a_step(backend):
    deep = replace(SMALL, sizes=(12, 8, 6, 4))
    floor = Products(backend, deep)
    floor.train(next(deep.orders()))
    floor.wait()
    shapes = [tuple(result.shape) for result in floor.results]
    assert shapes == [(16, 8), (12, 8), (16, 6), (8, 6), (16, 8), (16, 4), (6, 4), (16, 6)]
    x, weights, dz = ([to_numpy(matrix) for matrix in part] for part in floor.arrays)
    expected = products(x, weights, dz)
    for ours, theirs in zip(floor.results, expected, strict=True):
        # The first row and column depend on an element that a compiled loop varies.
        np.testing.assert_allclose(to_numpy(ours)[1:, 1:], theirs[1:, 1:], rtol=1e-4, atol=1e-5)


def test_the_compiled_floor_computes_every_product_in_every_turn():
    pytest.importorskip("jax")
    from nnxp.backends import jax

    floor = Products(nnxp.backends.get("jax", "cpu"), SMALL)
    text = jax._repeater(products).lower(floor.arrays, 10).compile().as_text()
    bodies = dict(re.findall(r"^(?:ENTRY )?(%\S+) .*?\{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL))
    (loop,) = set(re.findall(r"body=(%[^\s,]+)", text))

    def count(name):
        called = re.findall(r"(?:calls|to_apply)=(%[^\s,}]+)", bodies[name])
        return bodies[name].count(" dot(") + sum(count(each) for each in called)

    assert count(loop) == 5


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps a peak that can be reset")
def test_the_peak_is_that_of_the_action():
    size = 64 << 20
    np.ones(2 * size, np.uint8)  # over, and freed, before
    before = memory.resident()
    peak = memory.peak(lambda: np.ones(size, np.uint8))
    assert 0.9 * size < peak - before < 1.2 * size


# --- the worker


def serve(commands, text):
    """Run a worker; return its answers and the completed process."""
    done = completed(
        [sys.executable, "-m", "nnxp.benchmark.worker", text],
        input="".join(f"{command}\n" for command in commands),
        env=os.environ | {"PYTHONPATH": os.path.dirname(__file__)},
        timeout=60,
    )
    return [json.loads(line) for line in done.stdout.splitlines()], done


def test_a_worker_answers_each_command_with_one_line_of_json():
    commands = ["time", "floor", "memory", "time", "quit", "time"]
    answers, done = serve(commands, json.dumps(spec(Chatty)))
    ready, timed, floor, peaks, again = answers
    assert done.returncode == 0
    assert ready["steps"] == 8
    assert ready["comparable"] is True
    hand = ByHand(SMALL)
    for order in islice(SMALL.orders(), 2):
        hand.train(order)
    assert ready["loss"] == pytest.approx(
        reference_loss.loss(hand.parameters(), *SMALL.data), rel=1e-6
    )
    assert timed["steps"] == again["steps"] == SMALL.chunk
    assert timed["seconds"] > 0
    assert floor == {}
    assert set(peaks) == {"host_bytes", "device_bytes"}
    assert "to stdout" in done.stderr


@pytest.mark.slow
def test_a_worker_that_fails_says_so_in_one_line():
    for commands, text, error in [
        ([], json.dumps(spec(Raising)), "ValueError: first line \x1b[31msecond line"),
        (["dance"], json.dumps(spec(ByHand)), "ValueError: no such command: 'dance'"),
    ]:
        answers, done = serve(commands, text)
        assert answers[-1] == {"error": error}
        assert done.returncode == 1
    nowhere = asdict(Entry("nowhere", "nowhere:Nobody"))
    answers, _ = serve([], json.dumps(spec(ByHand) | {"entry": nowhere}))
    text = "ModuleNotFoundError: No module named 'nowhere'"
    assert answers == [{"error": text, "missing": True}]


def test_a_worker_ends_with_its_standard_input():
    answers, done = serve([], json.dumps(spec(ByHand)))
    assert len(answers) == 1
    assert done.returncode == 0


# --- measure


@pytest.fixture(scope="module")
def results():
    """Measure contenders that work and contenders that fail."""
    entries = [
        stub(Raising),
        stub(Elsewhere),
        stub(ByHand),
        stub(Chatty),
        stub(Fast),
        stub(Diverged),
        stub(Dying),
        stub(Leaving),
        stub(RaisingLater, "lost", chunks=6),
        Entry("nowhere", "nowhere:Nobody"),
        Entry("nobody", f"{__name__}:Nobody"),
        entry("numpy"),
    ]
    found = measure(SMALL, entries, timeout=60, **FAST)
    assert [result.name for result in found] == [each.name for each in entries]
    return {result.name: result for result in found}


@pytest.mark.slow
def test_a_contender_that_agrees_is_timed_in_every_round(results):
    for name in ("ByHand", "Chatty", "numpy"):
        assert results[name].problem is None
        assert len(results[name].step_seconds) == FAST["repeat"]
        assert min(results[name].step_seconds) > 0
    assert results["ByHand"].verdict == "reference"
    assert results["Chatty"].verdict == results["numpy"].verdict == "equal"


@pytest.mark.slow
def test_ratios_are_of_the_same_round(results):
    reference, other = results["ByHand"], results["numpy"]
    pairs = zip(reference.step_seconds, other.step_seconds, strict=True)
    assert other.ratios == [a / b for a, b in pairs]
    assert reference.ratio == Spread(1, 1, 1)
    assert other.ratio.low == min(other.ratios)


@pytest.mark.slow
def test_a_contender_that_disagrees_is_not_timed(results):
    for name, loss in (("Fast", r"\d\.\d+"), ("Diverged", "nan")):
        assert results[name].verdict == "wrong"
        assert re.fullmatch(
            rf"wrong: its loss after 8 steps is {loss}, that of ByHand \d\.\d+",
            results[name].problem,
        )
        assert results[name].step_seconds == results[name].ratios == []
    assert results["Diverged"].to_dict()["loss"] is None


@pytest.mark.slow
def test_a_contender_with_other_initial_weights_is_timed_and_says_so(results):
    found = results["Elsewhere"]
    assert found.verdict == "not comparable"
    assert found.note == Elsewhere.note
    assert len(found.ratios) == FAST["repeat"]


@pytest.mark.slow
def test_a_contender_that_fails_gets_a_row_with_the_reason(results):
    problems = {name: result.problem for name, result in results.items() if result.problem}
    assert problems["Raising"] == "ValueError: first line [31msecond line"
    assert problems["Dying"] == "died (SIGKILL): libfast: illegal instruction"
    assert problems["Leaving"] == "died (exit status 5)"
    assert problems["nowhere"] == "ModuleNotFoundError: No module named 'nowhere'"
    assert "has no attribute 'Nobody'" in problems["nobody"]
    assert problems["lost"] == "RuntimeError: the device is lost"
    assert results["lost"].step_seconds == results["lost"].ratios == []
    assert len(problems) == 8


@pytest.mark.slow
def test_the_floor_is_timed_where_a_contender_has_one(results):
    assert len(results["numpy"].floor_seconds) == FAST["repeat"]
    assert results["numpy"].step_to_floor.low > 1
    assert results["ByHand"].floor_seconds == []
    assert results["ByHand"].step_to_floor is None


@pytest.mark.slow
def test_each_round_starts_with_another_contender():
    said = []
    measure(SMALL, [stub(ByHand, "a"), stub(ByHand, "b")], progress=said.append, **FAST)
    turns = [re.fullmatch(r"test: (\w), round (\d) of 3", text) for text in said]
    assert [turn[1] + turn[2] for turn in turns if turn] == ["a1", "b1", "b2", "a2", "a3", "b3"]


@pytest.mark.slow
def test_contenders_run_without_the_variables_that_force_kernels(monkeypatch):
    for name in blas.FORCING:
        monkeypatch.setenv(name, "Haswell" if "TYPE" in name else "262144")
    (found,) = measure(SMALL, [stub(Sleeping)], **FAST)
    assert found.describe["forced"] == {}


@pytest.mark.slow
def test_contenders_may_start_together(tmp_path):
    options = {"folder": str(tmp_path), "expected": 2}
    entries = [stub(Meeting, name, own=name, **options) for name in "ab"]
    found = measure(SMALL, entries, together=True, **FAST)
    assert [result.verdict for result in found] == ["reference", "equal"]
    assert all(len(result.ratios) == FAST["repeat"] for result in found)


# Four chunks are trained before the first round, which times the sixth; the others the eighth, ...
@pytest.mark.parametrize(
    ("late", "again", "rounds"),
    [
        ({"b": [8]}, {"b": "rounds that differ"}, 3),
        ({"b": [8, 14]}, {"b": "rounds that differ"}, 3),
        pytest.param(
            {"a": [8]}, {"a": "rounds that differ", "b": "-fold of a"}, 3, marks=pytest.mark.slow
        ),
    ],
    ids=["passing", "lasting", "reference"],
)
@pytest.mark.slow
def test_doubtful_rounds_are_measured_again_once(late, again, rounds):
    said = []
    entries = [stub(Sleeping, name, late=late.get(name, ())) for name in "ab"]
    options = FAST | {"again": True, "progress": said.append}
    found = {each.name: each for each in measure(SMALL, entries, **options)}
    assert {name for name, each in found.items() if each.repeated} == set(again)
    for name, why in again.items():
        assert why in found[name].repeated
    assert all(len(each.step_seconds) == len(each.ratios) == rounds for each in found.values())
    assert sum("again" in text for text in said) == 2 * rounds  # the reference runs beside it
    lasting = 14 in late.get("b", ())
    assert bool(found["b"].doubt) == lasting
    assert max(found["a"].ratios) < 2
    (remark,) = [line for line in table.remarks(found.values()) if line.startswith("b: ")]
    assert ("also when measured again" in remark) == lasting
    assert ("?" in " ".join(shown(*found.values())[0])) == lasting


def test_steps_that_are_faster_than_their_floor_are_in_doubt():
    fast = result("fast", [1e-3] * 3, floor_seconds=[1.2e-3] * 3)
    assert fast.doubt == "steps faster than their floor (0.83)"
    assert result("a", [1e-3] * 3, floor_seconds=[9e-4] * 3).doubt == ""


@pytest.mark.slow
def test_warnings_of_a_contender_are_in_its_note():
    (found,) = measure(SMALL, [stub(Warned)], **FAST)
    assert found.note == "known before; steps run eagerly"


def test_a_fall_back_and_its_reason_are_in_the_row_and_the_json():
    (found,) = measure(SMALL, [stub(Unrecorded)], **FAST)
    line = "steps run eagerly: they cannot be recorded (no products today)"
    assert found.note == line
    (remark,) = table.remarks([found])
    assert remark.startswith("Unrecorded: ")
    assert remark.endswith(line)
    assert found.to_dict()["describe"]["fallbacks"] == [line]


@pytest.mark.slow
def test_without_a_reference_nothing_is_compared():
    (found,) = measure(SMALL, [stub(Elsewhere)], **FAST)
    assert found.verdict == "not comparable"
    assert found.ratio is None
    assert found.step


@pytest.mark.slow
def test_a_contender_that_hangs_is_stopped(tmp_path):
    hanging, other = measure(
        SMALL, [stub(Hanging, ids=str(tmp_path / "ids")), stub(ByHand)], timeout=4, **FAST
    )
    assert hanging.problem == "did not answer for 4 seconds"
    assert other.verdict == "reference"
    assert_gone((tmp_path / "ids").read_text())


def test_a_program_that_closes_its_output_and_goes_on_is_no_wait_without_end():
    program = AnsweringProcess(["-c", "import os, time; os.close(1); time.sleep(60)"], timeout=0.5)
    try:
        with pytest.raises(AnswerError, match="closed its output and goes on"):
            program.answer(30)
    finally:
        program.stop()


@pytest.mark.slow
def test_an_interrupt_ends_the_workers_and_their_children(tmp_path):
    ids = tmp_path / "ids"
    code = (
        f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
        "from test_benchmark import *\n"
        f"measure(SMALL, [stub(Hanging, ids={str(ids)!r})])"
    )
    try:
        with started([sys.executable, "-c", code], stderr=subprocess.PIPE) as process:
            until(lambda: ids.exists() and ids.read_text().endswith("."), process, seconds=30)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=20)
        assert b"KeyboardInterrupt" in errors
        assert_gone(ids.read_text())
    finally:
        for number in map(int, ids.read_text().split()[:-1] if ids.exists() else ()):
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)


def assert_gone(ids):
    for number in map(int, ids.split()[:-1]):
        until(lambda n=number: not Path(f"/proc/{n}").exists() or zombie(n), seconds=10)


def zombie(number):
    """Return whether a process has ended and its parent has not read its status."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


# --- the table


def result(name, seconds, **fields):
    return Result(name, "test", 64, step_seconds=seconds, **fields)


def test_numbers_have_three_digits():
    shown = [format_count(n) for n in (9.4, 937, 999.9, 29_512, 138_246, 1_383_000, 2.5e9)]
    assert shown == ["9.40", "937", "1.00k", "29.5k", "138k", "1.38M", "2.50G"]
    shown = [table.seconds(s) for s in (4.28e-6, 428e-6, 0.99999e-3, 0.0631, 1.2)]
    assert shown == ["4.28 us", "428 us", "1.00 ms", "63.1 ms", "1.20 s"]


def shown(*results, width=80):
    """What the command prints of a table: its rows, and the columns that it has no room for."""
    screen = io.StringIO()
    rows, left_out = table.comparison(results, width)
    if rows:
        Console(file=screen, width=width).print(rows)
    return screen.getvalue().splitlines(), left_out


def test_the_fastest_is_first_and_those_without_times_are_below():
    found = [
        result("slow", [2e-3]),
        result("wrong", [], problem="wrong: its loss is off"),
        result("fast", [1e-3, 1.9e-3, 1.1e-3], ratios=[2.0], floor_seconds=[5e-4] * 3),
        result("odd", [5e-3], note="starts elsewhere"),
        result("cupy", [], problem="is not installed", missing=True),
    ]
    (_, _, *rows), _ = shown(*found)
    assert [row.split()[0] for row in rows] == ["fast", "slow", "odd"]
    assert rows[0].split() == [
        "fast",
        "58.2k",
        "33.7k-64.0k",
        "1.10",
        "ms",
        "2.00",
        "500",
        "us",
        "2.20",
    ]
    assert table.remarks(found) == ["wrong: wrong: its loss is off", "odd: starts elsewhere"]
    assert shown(found[1]) == ([], [])


def test_a_ratio_to_a_reference_in_doubt_is_marked():
    found = result("jax", [1e-3] * 3, ratios=[1.0, 1.1, 3.0])
    assert found.doubt == ""
    assert shown(found)[0][-1].split() == ["jax", "64.0k", "64.0k-64.0k", "1.00", "ms", "1.10?"]


WIDEST = result(
    "array-api-strict",
    [1.11e-4, 1.22e-4, 1.33e-4],
    ratios=[0.12],
    floor_seconds=[9.99e-5] * 3,
    host_bytes=123_456_789,
    compile_seconds=1.34,
)


def test_the_widest_table_of_a_cpu_is_whole_at_80_columns():
    lines, left_out = shown(WIDEST, width=80)
    assert left_out == []
    assert lines[-1].split() == [
        "array-api-strict", "525k", "481k-577k", "122", "us", "0.12", "99.9", "us", "1.22", "123",
        "MB", "1.34", "s",
    ]  # fmt: skip
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("width", [40, 50, 60, 70])
def test_a_narrow_terminal_gets_fewer_columns_and_is_told_which(width):
    lines, left_out = shown(replace(WIDEST, device_bytes=12_345_678_901), width=width)
    assert max(map(len, lines)) <= width
    assert "…" not in "".join(lines)
    assert lines[-1].split()[:2] == ["array-api-strict", "525k"]
    assert left_out == list(table._EXPENDABLE[: len(left_out)])
    assert left_out


@pytest.mark.parametrize("width", [40, 80])
def test_a_sweep_with_many_contenders_is_several_tables(width):
    row = [result(f"contender {i}", [1e-3]) for i in range(5)]
    screen = io.StringIO()
    for rows in table.sweep_tables("batch-size", {4096: row}, width):
        Console(file=screen, width=width).print(rows)
    lines = screen.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert screen.getvalue().count("64.0k") == 5
    assert len(lines) == {40: 6, 80: 2}[width]


# --- sweeps and pictures


def test_the_points_of_a_sweep():
    sizes = sweep.points("batch-size", WORKLOADS["small"])
    assert list(sizes) == [2**k for k in range(13)]
    assert all(each.batch_size == size for size, each in sizes.items())
    assert sizes[1].chunk == 256
    assert sizes[4096].chunk == 4
    widths = sweep.points("width", WORKLOADS["medium"])
    assert (min(widths), max(widths)) == (16, 2048)
    assert widths[32].sizes == (784, 32, 32, 10)
    with pytest.raises(InputError, match="did you mean 'width'"):
        sweep.points("widht", SMALL)
    with pytest.raises(InputError, match="no hidden layer"):
        sweep.points("width", replace(SMALL, sizes=(12, 4)))
    assert sweep.quick(sizes) == {size: sizes[size].quick() for size in (1, 2)}


def test_workloads_are_selected_by_name_or_by_what_suits_the_device():
    assert [each.name for each in workloads.select(["wide", "tiny", "wide"], gpu=False)] == [
        "wide",
        "tiny",
    ]
    assert list(WORKLOADS.values()) == workloads.select([], gpu=True)
    assert "huge" not in {each.name for each in workloads.select([], gpu=False)}


@pytest.mark.slow
def test_a_sweep_does_not_start_a_failed_contender_again():
    points = {size: replace(SMALL, batch_size=size) for size in (8, 16)}
    found = sweep.sweep(points, [stub(ByHand), stub(Raising)], **FAST)
    assert [[each.name for each in row] for row in found.values()] == [
        ["ByHand", "Raising"],
        ["ByHand"],
    ]
    assert found[16][0].samples_per_second.median > 0
    assert found[16][0].floor is None


def test_dots_are_medians_with_their_spread_and_contenders_without_times_have_none():
    pytest.importorskip("matplotlib")
    found = [result("c", [1e-2]), result("a", [1e-3, 2e-3, 4e-3]), result("b", [])]
    figure = plots.dots(found, "title", "the machine")
    (panel,) = figure.axes
    a_line, a_dot, c_line, c_dot = (line.get_xdata().tolist() for line in panel.lines)
    assert (a_line, a_dot, c_line, c_dot) == ([16_000, 64_000], [32_000], [6_400, 6_400], [6_400])
    assert panel.get_xscale() == "log"
    assert not panel.patches
    assert [label.get_text() for label in panel.get_yticklabels()] == ["a", "c"]
    assert [text.get_text() for text in panel.texts] == ["32.0k?", "6.40k"]
    assert panel.lines[1].get_markerfacecolor() == "white"  # in doubt
    assert panel.get_title(loc="left") == "test"
    assert (figure.get_suptitle(), figure.get_supxlabel()) == ("title", "the machine")


@pytest.mark.parametrize("words", ["word " * 13, "word " * 30, "a_long_name_" * 12, "m" * 70])
def test_titles_are_broken_only_where_they_do_not_fit_into_lines_of_equal_length(words):
    pytest.importorskip("matplotlib")
    figure = plots.dots([result("a", [1e-3])], words.strip())
    lines = figure.get_suptitle().split("\n")
    assert "".join(lines).replace(" ", "") == words.replace(" ", "")
    if " " in words:
        extent = figure._suptitle.get_window_extent()
        assert extent.width <= figure.bbox.width
        assert len(lines) == {13: 1, 30: 2}[words.count("word")]
        assert max(map(len, lines)) - min(map(len, lines)) <= 5


def test_curves_are_log_log():
    pytest.importorskip("matplotlib")
    points = {
        1: [result("a", [1e-3]), result("b", [1e-2])],
        4: [result("a", [2e-3, 1e-3, 4e-3]), result("b", [])],
    }
    panel = plots.curves("batch-size", points, "title").axes[0]
    assert (panel.get_xscale(), panel.get_yscale()) == ("log", "log")
    curves = {line.get_label(): line.get_xydata().tolist() for line in panel.lines}
    assert curves == {"a": [[1, 64_000], [4, 32_000]], "b": [[1, 6_400]]}
    assert "samples per second" in panel.get_ylabel()
    assert "samples a step" in panel.get_xlabel()
    within_a_decade = panel.yaxis.get_major_locator().tick_values(15_000, 70_000)
    assert {20_000, 50_000} <= set(within_a_decade)


def test_results_without_times_are_drawn_empty():
    pytest.importorskip("matplotlib")
    plots.dots([result("a", [])], "title").draw_without_rendering()
    plots.curves("width", {16: [result("a", [])]}, "title").draw_without_rendering()


# --- the command


def nnxp_bench(folder, *arguments):
    return completed(
        [sys.executable, "-P", "-m", "nnxp", "bench", *arguments], cwd=folder, timeout=120
    )


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Run a quick bench; return its folder, its output and its report."""
    pytest.importorskip("matplotlib")
    folder = tmp_path_factory.mktemp("bench")
    (folder / "random.py").write_text("raise SystemExit('imported from the current folder')")
    done = nnxp_bench(
        folder, "--quick", "--workload", "tiny", "--backends", "array-api-strict,cupy",
        "--json", "report.json", "--plot", "dots.png",
    )  # fmt: skip
    assert done.stderr == ""
    assert done.returncode == 0
    return folder, done.stdout, json.loads((folder / "report.json").read_text())


@pytest.mark.slow
def test_the_command_prints_a_table(smoke):
    _, printed, _ = smoke
    assert max(map(len, printed.splitlines())) <= 80
    assert re.search(r"^numpy +[\d.]+k?\?? +[\d.]+k?-[\d.k]+ .*us +1\.00", printed, re.MULTILINE)
    assert re.search(r"^array-api-strict +[\d.]+k?\?? +[\d.k]+-", printed, re.MULTILINE)
    assert re.search(
        rf"^numpy {re.escape(np.__version__)} \(replay\) on cpu: float32, ", printed, re.MULTILINE
    )
    assert "tiny: 784-30-10 in batches of 10" in printed
    assert f"Python {sys.version.split()[0]}" in printed
    assert "the figures mean nothing" in printed


@pytest.mark.slow
def test_the_json_holds_every_repeat_and_the_machine(smoke):
    _, _, report = smoke
    assert report["quick"] is True
    assert report["machine"]["cores"] == os.cpu_count()
    assert report["workloads"][0]["sizes"] == [784, 30, 10]
    numpy, strict, cupy = report["results"]
    assert [each["name"] for each in report["results"]] == ["numpy", "array-api-strict", "cupy"]
    for each in (numpy, strict):
        assert len(each["step_seconds"]) == len(each["floor_seconds"]) == 2
        speeds = [10 / seconds for seconds in each["step_seconds"]]
        assert each["samples_per_second"]["median"] == pytest.approx(np.median(speeds))
        assert each["samples_per_second"]["low"] == min(speeds)
        assert each["describe"]["dtype"] == "float32"
    assert strict["loss"] == pytest.approx(numpy["loss"], rel=1e-6)
    assert cupy["problem"] or cupy["step_seconds"]


@pytest.mark.slow
def test_the_picture_is_written(smoke):
    folder, _, _ = smoke
    assert (folder / "dots.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_quick_sweep_has_two_points_and_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    done = nnxp_bench(
        tmp_path, "--quick", "--sweep", "width", "--backends", "numpy", "--json", "sweep.json"
    )
    assert done.stderr == ""
    report = json.loads((tmp_path / "sweep.json").read_text())
    assert [point["point"] for point in report["points"]] == [16, 32]
    assert report["points"][1]["workload"]["sizes"] == [784, 32, 10]
    assert report["points"][1]["results"][0]["samples_per_second"]["median"] > 0
    assert (tmp_path / "bench-width.png").read_bytes().startswith(b"\x89PNG")
    assert re.search(r"^ +16 +[\d.]+k?\??$", done.stdout, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torch", "jax"])
def test_other_libraries_learn_the_same_as_numpy(name):
    pytest.importorskip(name)
    found = measure(
        WORKLOADS["tiny"].quick(), [entry("numpy"), entry(name)], **FAST | {"steps": 100}
    )
    assert [each.verdict for each in found] == ["reference", "equal"]
    assert found[1].loss == pytest.approx(found[0].loss, rel=1e-5)
    assert found[1].step_to_floor


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workload_names": ["smal"]}, "did you mean 'small'"),
        ({"backend_names": "numpy,nmpy"}, "did you mean 'numpy'"),
        ({"backend_names": ","}, "--backends ',': names none of numpy, "),
        ({"repeat": 0}, "--repeat must be a whole number, 1 or more, not 0"),
        ({"min_seconds": math.nan}, "--min-seconds must be a number in [0, 3600], not nan"),
        ({"data": "digits"}, "unknown data 'digits'"),
        ({"data": "mnist", "workload_names": ["huge"]}, "4096 inputs, MNIST 784"),
        ({"axis": "depth"}, "unknown sweep 'depth'"),
        ({"axis": "width", "workload_names": ["tiny,small"]}, "takes one --workload"),
        ({"report": "nowhere/report.json"}, "--json nowhere/report.json: cannot write there"),
        ({"plot": "picture.txt"}, "a picture is .png, .svg or .pdf"),
        ({"plot": "a.png", "report": "./a.png"}, "would overwrite what --json writes"),
    ],
    ids=str,
)
def test_bad_options_are_refused_before_anything_runs(options, message, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nnxp.cli.bench.measure", None)
    with pytest.raises(InputError) as caught:
        bench(**options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "names", "rows"),
    [
        ({}, ["tiny", "small", "medium", "wide"], ["numpy", "cupy", "torch", "jax"]),
        ({"workload_names": ["wide,tiny", "wide"]}, ["wide", "tiny"], None),
        ({"workload_names": ["huge"], "backend_names": "jax"}, ["huge"], ["jax"]),
        ({"workload_names": ["huge"], "backend_names": "numpy"}, ["huge"], ["numpy"]),
        ({"workload_names": ["tiny"], "backend_names": "jax"}, ["tiny"], ["numpy", "jax"]),
    ],
    ids=str,
)
def test_options_choose_workloads_and_backends(options, names, rows, monkeypatch):
    asked = []

    def record(workload, entries, **options):
        asked.append((workload.name, [each.name for each in entries]))
        return [Result(each.name, workload.name, 1, problem="not run") for each in entries]

    monkeypatch.setattr("nnxp.cli.bench.measure", record)
    bench(**options)
    assert [name for name, _ in asked] == names
    assert rows is None or asked[0][1] == rows


@pytest.fixture
def fabricated(monkeypatch, tmp_path):
    """Return a function that runs `nnxp bench` on an idle machine, with measurements of its own."""
    monkeypatch.setattr("nnxp.benchmark.machine.busy_cores", lambda: 0.05)
    started = []

    def measured(each, entries, **options):
        times = {"numpy": [1e-3] * 3, "jax": [5e-4, 5e-4, 6e-4], "torch": [2e-3, 5e-3, 2e-3]}
        started.append([entry.name for entry in entries])
        missing = {"missing": True, "problem": "backend 'cupy' is not installed: pip install it"}
        describe = {"library": "a", "threads": 1 if each.name == "tiny" else 2}
        return [
            Result(
                entry.name, each.name, each.batch_size, step_seconds=times[entry.name],
                ratios=[1e-3 / one for one in times[entry.name]], describe=describe,
            ) if entry.name in times else Result(entry.name, each.name, 1, **missing)
            for entry in entries
        ]  # fmt: skip

    monkeypatch.setattr("nnxp.cli.bench.measure", measured)
    monkeypatch.setattr("nnxp.benchmark.sweep.measure", measured)

    def bench(*arguments, **variables):
        return succeed(tmp_path, "bench", *arguments, **variables)

    bench.started, bench.folder = started, tmp_path
    return bench


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_everything_that_is_printed_fits_the_terminal(columns, fabricated):
    printed = fabricated(COLUMNS=columns)
    assert max(len(line.rstrip()) for line in printed.splitlines()) <= columns
    assert fabricated("--sweep", "width", COLUMNS=columns).count("numpy") >= 1


def test_a_missing_backend_is_started_once_and_named_once_at_the_end(fabricated):
    printed = fabricated("--json", "report.json", COLUMNS=120)
    assert fabricated.started == [["numpy", "cupy", "torch", "jax"]] + 3 * [
        ["numpy", "torch", "jax"]
    ]
    assert printed.count("cupy") == 1
    assert printed.splitlines()[-2] == (
        "not measured: backend 'cupy' is not installed: pip install it"
    )


def test_the_settings_are_said_again_where_they_change(fabricated):
    printed = fabricated("--workload", "tiny,small,medium", "--backends", "numpy", COLUMNS=120)
    lines = printed.splitlines()
    (one,), (two,) = ([i for i, line in enumerate(lines) if text in line] for text in
                      ("1 thread", "2 threads"))  # fmt: skip
    assert one < lines.index(next(each for each in lines if each.startswith("tiny: "))) < two


def test_a_row_that_is_in_doubt_is_marked(fabricated):
    printed = fabricated("--workload", "tiny")
    assert re.search(r"^torch +5\.00k\? .* 0\.50\?", printed, re.MULTILINE)
    assert "torch: ? rounds that differ 2.5-fold" in printed
    assert "jax: " not in printed


def test_the_default_run_says_first_how_long_it_takes(fabricated, monkeypatch):
    monkeypatch.setattr("nnxp.cli.bench._is_installed", lambda name: name in ("numpy", "jax"))
    (minutes,) = re.findall(r"about (\d+) minutes on an idle machine; ", fabricated(COLUMNS=120))
    (more,) = re.findall(r"about (\d+) minutes", fabricated("--repeat", 70, COLUMNS=120))
    assert 5 * int(minutes) <= int(more) <= 10 * int(minutes)
    lines = fabricated("--workload", "tiny", COLUMNS=120).splitlines()
    assert lines[1].startswith("This takes about 1 minute on an idle machine; ")
    assert "This takes" not in fabricated("--quick")


def test_a_machine_that_is_not_idle_is_said_in_the_first_line(fabricated, monkeypatch):
    assert "not idle" not in fabricated("--workload", "tiny")
    monkeypatch.setattr("nnxp.benchmark.machine.busy_cores", lambda: 1.26)
    first = fabricated("--workload", "tiny", COLUMNS=200).splitlines()[0]
    assert first.startswith("This machine is not idle: other programs use 1.3 of its ")
    assert "Stop them and start again" in first


@pytest.mark.slow
def test_work_of_other_programs_is_seen():
    if machine.busy_cores() is None:
        pytest.skip("the system does not tell")
    code = "import time\nend = time.monotonic() + 20\nwhile time.monotonic() < end: pass"
    with started([sys.executable, "-c", code]) as process:
        time.sleep(0.3)
        busy = machine.busy_cores()
        process.kill()
    assert busy > 0.4


def test_variables_that_force_kernels_are_left_out_and_said(fabricated, monkeypatch):
    variables = {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_L2_SIZE": "262144"}
    monkeypatch.setattr(blas, "warning", lambda: "BLAS multiplies with Haswell kernels, by AVX2")
    printed = fabricated("--json", "report.json", COLUMNS=200, **variables)
    left_out = "OPENBLAS_CORETYPE=Haswell and OPENBLAS_L2_SIZE=262144"
    assert f"left out, so that BLAS chooses its kernels: {left_out}\n" in printed
    assert "warning: other commands are slower than this: BLAS multiplies with Haswell" in printed
    report = json.loads((fabricated.folder / "report.json").read_text())
    assert report["machine"]["removed"] == variables
    assert not set(variables) & set(report["machine"]["environment"])
    free = fabricated(OPENBLAS_CORETYPE="", OPENBLAS_L2_SIZE="")
    assert "left out" not in free
    assert "warning" not in free


@pytest.fixture
def reports(fabricated):
    """Two reports of `nnxp bench`, A and B, which a test changes before it compares them."""
    fabricated("--workload", "tiny,small", "--json", "A.json")
    content = json.loads((fabricated.folder / "A.json").read_text())

    def compared(change=lambda a, b: None, **variables):
        a, b = copy.deepcopy(content), copy.deepcopy(content)
        change(a, b)
        for name, each in (("A", a), ("B", b)):
            (fabricated.folder / f"{name}.json").write_text(json.dumps(each))
        return fabricated("--compare", "A.json", "B.json", **variables)

    compared.folder = fabricated.folder
    return compared


def test_a_report_compared_with_itself_differs_in_nothing(reports):
    printed = reports()
    for name in ("tiny +numpy", "small +jax"):
        assert re.search(rf"^{name} .* 1\.00 .*(unclear|-) *$", printed, re.MULTILINE)
    assert re.search(r"^tiny +torch .* 1\.00\? .* in doubt *$", printed, re.MULTILINE)
    assert "nothing else differs" in printed


def test_compare_says_what_is_faster_and_what_else_differs(reports):
    def change(a, b):
        for each in b["results"]:
            if each["name"] == "numpy":
                each["step_seconds"] = [5e-4, 4.9e-4, 5.1e-4]
                each["describe"]["kernels"] = "Haswell"
            if each["name"] == "jax":
                each["step_seconds"] = [4e-4, 8e-4, 5e-4]
        b["results"][0]["step_seconds"] = [2e-3, 2.1e-3, 1.9e-3]
        b["results"] = [r for r in b["results"] if (r["name"], r["workload"]) != ("torch", "small")]
        b["machine"] |= {"cpu": "another", "busy_cores": 1.5}
        b["machine"]["environment"]["OMP_NUM_THREADS"] = "1"

    printed = reports(change, COLUMNS=100)
    assert re.search(r"^tiny +numpy .* 0\.50 +0\.4\d-0\.5\d +slower", printed, re.MULTILINE)
    assert re.search(r"^small +numpy .* 2\.00 +\d\.\d\d-2\.\d\d +faster", printed, re.MULTILINE)
    assert re.search(r"^tiny +jax .* 1\.00 .* unclear", printed, re.MULTILINE)
    differences = printed.split("what else differs:\n")[1].splitlines()
    assert set(differences) == {
        f"- cpu: {machine.machine()['cpu']} in A, another in B",
        "- environment OMP_NUM_THREADS: not said in A, 1 in B",
        "- B was measured while other programs used 1.5 cores",
        "- numpy, kernels: not said in A, Haswell in B",
        "- measured in A alone: torch on small",
    }


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_a_comparison_fits_the_terminal(columns, reports):
    printed = reports(COLUMNS=columns)
    assert max(len(line.rstrip()) for line in printed.splitlines()) <= columns
    assert ("no room for" in printed) == (columns == 40)


def test_unequal_workloads_and_one_round_are_not_compared(reports):
    def change(a, b):
        b["workloads"][0]["chunk"] = 128
        for each in (*a["results"], *b["results"]):
            each["step_seconds"] = each["step_seconds"][:1]

    printed = reports(change)
    assert not re.search("^tiny ", printed, re.MULTILINE)
    assert "- tiny, chunk: 256 in A, 128 in B" in printed
    assert re.search(r"^small +numpy .* 1\.00 +- +- *$", printed, re.MULTILINE)


def test_sweeps_and_reports_of_peers_are_compared_too(fabricated):
    fabricated("--sweep", "width", "--json", "A.json", "--plot", "a.png")
    printed = fabricated("--compare", "A.json", "A.json")
    assert re.search(r"^small 16 +numpy .* 1\.00 ", printed, re.MULTILINE)
    assert re.search(r"^small 2048 +jax .* 1\.00 ", printed, re.MULTILINE)
    stored = next((Path(__file__).parent.parent / "bench" / "results").glob("*cores*.json"))
    assert re.search(r"^wide +PyTorch .* 1\.00 ", fabricated("--compare", stored, stored), re.M)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "B.json: No such file or directory"),
        ("{", "B.json: not JSON"),
        ("[1]", "B.json: is not a report of 'nnxp bench --json'"),
        ('{"machine": {}, "workloads": [{}], "results": []}', "is not a report"),
        ('{"machine": 1, "workloads": [], "results": []}', "is not a report"),
        (math.nan, "is not a report"),
        ("text", "is not a report"),
    ],
)
def test_what_is_not_a_report_is_one_line(content, message, reports):
    reports()
    path = reports.folder / "B.json"
    if content in ("text",) or isinstance(content, float):
        report = json.loads(path.read_text())
        report["results"][0]["step_seconds"][0] = content
        content = json.dumps(report)
    path.unlink() if content is None else path.write_text(content)
    assert message in fail(reports.folder, "bench", "--compare", "A.json", "B.json")


def test_compare_measures_nothing(reports):
    line = fail(reports.folder, "bench", "--compare", "a", "b", "--quick", "--json", "c.json")
    assert "--compare measures nothing: leave out --quick, --json" in line


def test_a_device_applies_to_all_backends_but_numpy():
    assert entry("numpy", "cuda").device == "cpu"
    assert entry("torch", "cuda").device == "cuda"


def test_a_backend_may_name_its_executor():
    from nnxp.cli.bench import _backends

    assert _backends("torch:compiled, numpy:eager") == ["torch:compiled", "numpy:eager"]
    with pytest.raises(BackendError, match="has no executor 'replay'"):
        _backends("jax:replay")
    assert (
        Trainer(WORKLOADS["tiny"].quick(), backend="numpy:eager").describe()["executor"] == "eager"
    )

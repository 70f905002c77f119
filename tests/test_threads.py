"""The number of threads of NumPy's BLAS: limits, and the choice by measurement."""

import contextlib
import logging
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest
from conftest import require

import nnxp
from nnxp import backends
from nnxp.backends import threads
from nnxp.errors import BackendError, InputError


@pytest.fixture
def two(monkeypatch):
    """A machine with two cores; the limits that are asked for; nothing chosen yet."""
    asked = []

    @contextlib.contextmanager
    def limited(number):
        asked.append(number)
        yield

    monkeypatch.setattr(threads, "most", lambda: 2)
    monkeypatch.setattr(threads, "limited", limited)
    monkeypatch.setattr(threads, "_same_bits", lambda *_: True)
    monkeypatch.setattr(threads, "_chosen", {})
    monkeypatch.setattr(threads, "_trials", {})
    return asked


class Machine:
    """A clock, and steps that take longer or shorter with two threads than with one."""

    def __init__(self, asked, one, several):
        self.asked, self.seconds, self.now = asked, {1: one, 2: several}, 0.0

    def clock(self):
        return self.now

    def run(self, chooser, chunks, weights=((784, 128),), batch=64, steps=10):
        """The number of threads of each chunk."""
        start = len(self.asked)
        for _ in range(chunks):
            with chooser.chunk(steps, batch, [np.zeros(shape) for shape in weights]):
                self.now += steps * self.seconds[self.asked[-1]]
        return self.asked[start:]


@pytest.mark.parametrize(("several", "expected"), [(0.6, 2), (0.97, 1), (1.5, 1)])
def test_the_faster_number_is_measured_once_for_each_size(two, caplog, several, expected):
    caplog.set_level(logging.INFO, "nnxp")
    machine = Machine(two, 1.0, several)
    found = machine.run(threads.Chooser(None, machine.clock), 10)
    # The first chunk records the step and is not counted.
    assert found == [1, 1, 2, 1, 2, 1, 2] + [expected] * 3
    verb = "now uses 2 threads" if expected == 2 else "keeps 1 thread"
    assert [each.getMessage() for each in caplog.records] == [
        f"BLAS {verb}: a step takes 1e+03 ms with 1, {1e3 * several:.3g} ms with 2"
    ]
    assert threads.chosen(64 * 784 * 128) == expected  # what the benchmark's floor uses
    assert machine.run(threads.Chooser(None, machine.clock), 3) == [expected] * 3


def test_short_trainings_share_a_trial(two):
    machine = Machine(two, 1.0, 0.5)
    for _ in range(4):
        machine.run(threads.Chooser(None, machine.clock), 3)
    assert machine.run(threads.Chooser(None, machine.clock), 2) == [2, 2]


def test_a_number_that_is_far_slower_is_tried_once(two):
    machine = Machine(two, 1.0, 14.0)
    assert machine.run(threads.Chooser(None, machine.clock), 6) == [1, 1, 2, 1, 1, 1]


def test_products_that_threads_change_or_do_not_share_are_not_tried(two, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "nnxp")
    machine = Machine(two, 1.0, 0.5)
    assert machine.run(threads.Chooser(None), 5, [(16, 8)]) == [1] * 5
    assert machine.run(threads.Chooser(None), 5, [(1024, 1024)]) == [2] * 5  # 2^26: the rule
    assert caplog.records == []
    monkeypatch.setattr(threads, "_same_bits", lambda *_: False)
    assert machine.run(threads.Chooser(None), 9) == [1] * 9
    (line,) = [each.getMessage() for each in caplog.records]
    assert line == (
        "BLAS uses 1 thread: with 2 the last bits of the results would differ "
        "(--threads auto takes the faster)"
    )
    assert machine.run(threads.Chooser("auto", machine.clock), 9)[-1] == 2


def test_auto_changes_over_when_steps_become_slow_and_back(two, caplog):
    caplog.set_level(logging.INFO, "nnxp")
    machine = Machine(two, 1.0, 0.6)
    chooser = threads.Chooser("auto", machine.clock)
    assert machine.run(chooser, 12, [(1024, 1024)])[-5:] == [2] * 5
    machine.seconds = {1: 1.2, 2: 14.0}  # another program takes a core
    assert machine.run(chooser, 6, [(1024, 1024)]) == [2, 2, 2, 1, 2, 1]
    machine.seconds = {1: 1.0, 2: 0.6}  # and leaves it
    assert 2 in machine.run(chooser, 12, [(1024, 1024)])
    assert machine.run(chooser, 8, [(1024, 1024)])[-1] == 2
    assert [each.getMessage().split(":")[0] for each in caplog.records] == [
        "BLAS keeps 2 threads", "BLAS now uses 1 thread", "BLAS now uses 2 threads"
    ]  # fmt: skip


def test_auto_tries_less_and_less_often(two):
    machine = Machine(two, 1.0, 14.0)
    chooser = threads.Chooser("auto", machine.clock)
    found = machine.run(chooser, 100, steps=1)
    tries = [i for i, number in enumerate(found) if number == 2]
    gaps = np.diff(tries)
    assert len(tries) >= 3
    assert all(b > 1.5 * a for a, b in pairwise(gaps))


def test_a_fixed_number_is_used_for_all_sizes(two):
    machine = Machine(two, 1.0, 0.5)
    for shape in (8, 8), (784, 128), (1024, 1024):
        assert machine.run(threads.Chooser(2), 4, [shape]) == [2] * 4


def test_a_fixed_number_takes_no_part_in_the_trial_of_another_training(two, caplog):
    caplog.set_level(logging.INFO, "nnxp")
    machine = Machine(two, 1.0, 0.6)
    machine.run(threads.Chooser(None, machine.clock), 6)  # one chunk before its choice
    assert machine.run(threads.Chooser(2, machine.clock), 9) == [2] * 9
    assert caplog.records == []
    assert machine.run(threads.Chooser(None, machine.clock), 3) == [1, 2, 2]


class Spy(nnxp.SGD):
    """Notes the number of threads in each step."""

    seen: ClassVar[list[int]] = []

    def update(self, *arguments):
        self.seen.append(threads.count())
        return super().update(*arguments)


def test_training_uses_the_number_that_is_asked_for():
    if (threads.count() or 1) < 2:
        pytest.skip("BLAS has one thread here")
    data = nnxp.datasets.load("digits")
    before = threads.count()
    Spy.seen.clear()
    for number in 1, 2:
        backend = backends.get("numpy", executor="eager", threads=number)
        network = nnxp.MLP([64, 700, 10], backend=backend)
        nnxp.train(network, data.x[:800], data.y[:800], optimizer=Spy(0.1, momentum=0.5),
                   epochs=1, batch_size=400)  # fmt: skip
        assert Spy.seen[-1] == number
        assert threads.count() == before
    assert set(Spy.seen) == {1, 2}


def test_a_measured_training_has_the_same_bits(monkeypatch):
    """Whatever is chosen, and whenever."""
    data = nnxp.datasets.load("digits")
    x = np.tile(data.x, (3, 1))
    t = np.tile(data.y, 3)
    monkeypatch.setattr(threads, "_chosen", {})
    found = []
    for number in (None, 1):
        network = nnxp.MLP([64, 256, 10], backend=backends.get("numpy", threads=number))
        nnxp.train(network, x, t, epochs=3, batch_size=64)
        found.append(network.parameters[0][0])
    np.testing.assert_array_equal(*found)


def test_bits_that_differ_are_noticed(monkeypatch):
    class Changed(np.ndarray):
        """Weights by which products differ in the last bits with two threads."""

        def __rmatmul__(self, other):
            return (other @ np.asarray(self)) * (1.0 + 1e-7 * (entered[-1] == 2))

    @contextlib.contextmanager
    def limited(number):
        entered.append(number)
        yield

    entered = []
    monkeypatch.setattr(threads, "limited", limited)
    weights = np.ones((30, 20), np.float64)
    assert threads._same_bits(10, [weights], 2)
    assert not threads._same_bits(10, [weights, weights.view(Changed)], 2)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"": "max 100000", "a": "150000 100000", "a/b": "max 100000"}, 1),
        ({"a/b": "200000 100000"}, 2),
        ({"a": "50000 100000"}, 1),
        ({}, 3),
    ],
)
def test_cores_are_those_of_affinity_and_cgroups(monkeypatch, tmp_path, limits, expected):
    (tmp_path / "a/b").mkdir(parents=True)
    for folder, text in limits.items():
        (tmp_path / folder / "cpu.max").write_text(text)
    own = tmp_path / "cgroup"
    own.write_text("1:name=systemd:/x\n0::/a/b\n")
    monkeypatch.setattr(threads, "_CGROUPS", tmp_path)
    monkeypatch.setattr(threads, "_OWN_CGROUP", own)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    threads._quota.cache_clear()
    try:
        assert threads.cores() == expected
    finally:
        threads._quota.cache_clear()


def test_what_cannot_be_told_its_threads_says_so():
    for wrong in (0, -1, 1.5, "many", True):
        with pytest.raises(InputError, match="threads must be a whole number, 1 or more, "):
            backends.get("numpy", threads=wrong)
    require("array-api-strict")
    with pytest.raises(BackendError, match="array-api-strict chooses its CPU threads itself"):
        backends.get("array-api-strict", threads=2)
    opened = backends.get("numpy", threads=2)
    assert backends.get(type(opened), threads=2).threads == 2
    assert backends.get(opened, threads=2) is opened
    with pytest.raises(BackendError, match="open already, with threads=2"):
        backends.get(opened, threads="auto")


def test_torch_takes_a_number_and_gives_it_back():
    require("torch")
    import torch

    before = torch.get_num_threads()
    backend = backends.get("torch", "cpu", threads=1)
    with backend.active():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
    with pytest.raises(BackendError, match="torch does not measure its threads"):
        backends.get("torch", threads="auto")


def test_all_leaves_the_number_to_the_library(monkeypatch):
    def limited(number):
        raise AssertionError("no limit is wanted")

    monkeypatch.setattr(threads, "limited", limited)
    network = nnxp.MLP([784, 64, 3], backend=backends.get("numpy", threads="all"))
    x, t = np.ones((300, 784), dtype=np.float32), np.zeros(300, dtype=np.int64)
    nnxp.train(network, x, t, epochs=2, batch_size=100)
    network.predict(x)

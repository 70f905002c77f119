"""Data that stays on the host, sent by chunks while the device computes."""

import logging
import sys
import threading
import time
import tracemalloc
import types
import weakref
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
from conftest import TEST_DEVICE, is_emulated, require

from nnxp import MLP, SGD, Adam, InputError, Regularization, backends
from nnxp import train as nnxp_train
from nnxp.arrays import is_array, to_numpy
from nnxp.backends.numpy import NumPyBackend
from nnxp.backends.staging import CuPyStaging, JAXStaging, TorchStaging
from nnxp.data import batches, checks, placement, sources
from nnxp.data.feeds import Resident, Streamed, gather
from nnxp.data.placement import bytes_text, decide


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((203, 12))
    return x, (x[:, 0] + x[:, 1] > 0).astype(int) + (x[:, 2] > 1)


@pytest.fixture
def short_chunks(monkeypatch):
    """Nine chunks an epoch, of two lengths, and a smaller last batch."""
    monkeypatch.setattr(batches, "STEPS_PER_CHUNK", 3)
    monkeypatch.setattr(batches, "STEPS_PER_LONG_CHUNK", 3)


def results(network, x, t, stream, **options):
    """Everything that a training comes to."""
    history = nnxp_train(
        network, x, t, **{"epochs": 2, "batch_size": 8, "stream": stream} | options
    )
    figures = [
        (e.loss, e.validation_loss, e.validation_metric, e.diagnosis) for e in history.epochs
    ]
    return figures, [to_numpy(a) for layer in network.parameters for a in layer]


CASES = {
    # 3 classes of 12 features become one-hot rows, 4 stay classes.
    "classes": (3, {}),
    "classes as indices": (4, {"optimizer": Adam(0.01), "regularization": Regularization(l2=0.1)}),
    "one-hot": (3, {"one_hot": True, "validation": 0.2}),
    "weights and a share": (3, {"weights": True, "validation": 0.3, "batch_size": 7}),
    "dropout, watched": (
        3,
        {"regularization": Regularization(dropout=0.3), "diagnose": True, "validation": 0.2},
    ),
    "validation data": (3, {"validation": True, "optimizer": SGD(0.1, momentum=0.9)}),
    "one batch": (3, {"batch_size": None}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("short_chunks")
def test_streamed_is_resident_bit_for_bit(backend, data, case):
    outputs, options = CASES[case]
    x, t = data
    options = dict(options)
    if options.pop("one_hot", False):
        t = np.eye(outputs)[t]
    if options.pop("weights", False):
        options["sample_weight"] = np.arange(203) % 3
    if options.get("validation") is True:
        options["validation"] = (x[:50] + 0.1, data[1][:50])
    runs = [
        results(MLP([12, 9, 6, outputs], ("relu", "tanh"), backend=backend, seed=1), x, t, stream,
                seed=3, **options)
        for stream in (False, True)
    ]  # fmt: skip
    compiled_for_a_gpu = backend.name == "jax" and backend.device_name != "cpu"
    close = 1e-5 if compiled_for_a_gpu else 0  # XLA may choose by the data's shape
    for resident, streamed in zip(runs[0][1], runs[1][1], strict=True):
        np.testing.assert_allclose(streamed, resident, rtol=close, atol=close)
    if not close:
        assert runs[0][0] == runs[1][0]


@pytest.mark.parametrize("kind", ["float32", "fortran", "uint8", "list", "on the device"])
@pytest.mark.usefixtures("short_chunks")
def test_whatever_the_data_is_given_as(backend, data, kind):
    x = np.abs(data[0] * 50)
    made = {
        "float32": lambda: x.astype(np.float32),
        "fortran": lambda: np.asfortranarray(x.astype(np.float32)),
        "uint8": lambda: x.astype(np.uint8),
        "list": x.tolist,
        "on the device": lambda: backend.asarray(x, dtype=backend.xp.float32),
    }[kind]()
    runs = [
        results(MLP([12, 3], backend=backend), made, data[1], stream, optimizer=SGD(1e-4))
        for stream in (False, True)
    ]
    for resident, streamed in zip(runs[0][1], runs[1][1], strict=True):
        np.testing.assert_array_equal(streamed, resident)
    assert runs[0][0] == runs[1][0]


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_shorter_chunks_sum_to_the_same_loss(data, steps, monkeypatch):
    """Only the rounding of the sums differs: the steps are the same."""
    whole = results(MLP([12, 3], backend="numpy", dtype="float64"), *data, False)
    batch = 8 * (12 + 3) * 8
    monkeypatch.setattr(placement, "CHUNK_BYTES", steps * batch + batch // 2)
    cut = results(MLP([12, 3], backend="numpy", dtype="float64"), *data, True)
    for first, second in zip(whole[1], cut[1], strict=True):
        np.testing.assert_array_equal(first, second)
    assert [f[0] for f in cut[0]] == pytest.approx([f[0] for f in whole[0]], rel=1e-12)


# What is chosen.


@pytest.fixture
def gpu(conversions):
    """What stands in for a GPU, with as much free memory as a test says."""
    backend = backends.get("array-api-strict", "device1")
    backend.free_memory = lambda: backend.free
    return backend


def streamed(gpu, caplog, network, *arguments, **options):
    """Whether training was streamed, and what it said."""
    made = []
    gpu.staging = lambda layout: made.append(layout) or type(gpu).staging(gpu, layout)
    caplog.clear()
    with caplog.at_level(logging.INFO, "nnxp"):
        nnxp_train(network, *arguments, **{"epochs": 1, "batch_size": 8} | options)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "nnxp"]
    assert bool(made) == ("streamed" in line)
    return bool(made), line


def room(gpu, network, free, batch_size=8):
    gpu.free = free
    return decide(network.spec, 0, 0, batch_size).available_bytes


def test_data_that_fits_is_moved_and_data_that_does_not_is_streamed(gpu, data, caplog):
    network = MLP([12, 3], backend=gpu)
    size = 203 * (12 + 3 + 1) * 4
    enough = int((size + 10 - room(gpu, network, 0)) / 0.9)
    gpu.free = enough
    assert streamed(gpu, caplog, network, *data) == (
        False, f"data: 13 kB, {bytes_text(enough)} free on device1: moved once",
    )  # fmt: skip
    gpu.free = enough - 100
    found, line = streamed(gpu, caplog, network, *data)
    assert found
    # Room for one step at a time: two chunks take half of what there is at most.
    assert line == (
        f"data: 13 kB, {bytes_text(enough - 100)} free on device1: streamed in chunks of "
        "6 steps (2.88 kB)"
    )
    gpu.free = enough - 100
    assert not streamed(gpu, caplog, network, *data, stream=False)[0]
    gpu.free = 10 * enough
    assert streamed(gpu, caplog, network, *data, stream=True)[0]


def test_what_is_held_out_takes_room_too(gpu, data, caplog):
    network = MLP([12, 3], backend=gpu)
    gpu.free = int((203 * (12 + 3 + 1) * 4 + 10 - room(gpu, network, 0)) / 0.9)
    assert streamed(gpu, caplog, network, *data, validation=0.5)[0]
    assert streamed(gpu, caplog, network, *data, validation=data)[0]
    gpu.free *= 3
    assert not streamed(gpu, caplog, network, *data, validation=0.5)[0]
    assert not streamed(gpu, caplog, network, *data, validation=data)[0]


def test_what_is_on_the_device_already_stays_there(gpu, data, caplog):
    network = MLP([12, 3], backend=gpu)
    x = gpu.asarray(data[0], dtype=gpu.xp.float32)
    gpu.free = int((203 * 4 * 4 + 10 - room(gpu, network, 0)) / 0.9)
    found, line = streamed(gpu, caplog, network, x, data[1])
    assert not found
    assert line.endswith("there already")
    assert streamed(gpu, caplog, network, *data)[0]  # from the host it would not fit


def test_the_host_needs_no_choice(data, caplog):
    with caplog.at_level(logging.INFO, "nnxp"):
        nnxp_train(MLP([12, 3], backend="numpy"), *data, epochs=1, batch_size=8)
    assert [record.getMessage() for record in caplog.records] == ["data: 13 kB on the host"]


def test_validation_data_is_chosen_for_by_itself_where_the_rest_is_there(
    gpu, data, caplog, monkeypatch
):
    monkeypatch.setattr(placement, "BLOCK_ELEMENTS", 12 * 100)
    network = MLP([12, 3], backend=gpu)
    x, t = gpu.asarray(data[0], dtype=gpu.xp.float32), data[1]
    more = np.tile(data[0], (4, 1)), np.tile(t, 4)
    sent = []
    asarray = type(gpu).asarray

    def recorded(array, dtype=None, copy=None):
        sent.append(np.shape(array))
        return asarray(gpu, array, dtype, copy)

    gpu.asarray = recorded
    beside = 203 * 4 * 4
    gpu.free = int((beside + 812 * 12 * 4 + 10 - room(gpu, network, 0)) / 0.9)
    assert not streamed(gpu, caplog, network, x, t, validation=more)[0]
    assert sent.count((812, 12)) == 1
    # Too much; the training data stays where it is all the same. Its targets go there again.
    gpu.free -= 100
    sent.clear()
    assert not streamed(gpu, caplog, network, x, t, validation=more)[0]
    assert (812, 12) not in sent
    assert sent.count((100, 12)) == 8


def test_the_network_its_training_and_its_batches_take_room(gpu):
    network = MLP([12, 3000, 3], backend=gpu)
    parameters, block = 13 * 3000 + 3001 * 3, 2**22 // 3000
    for batch_size in (1, 10**5):
        activations = max(batch_size, block) * (12 + 3000 + 3)
        expected = int(0.9 * 2**34) - 4 * (8 * parameters + 4 * activations)
        assert room(gpu, network, 2**34, batch_size) == expected
    assert decide(MLP([2, 2]).spec, 10**15).available_bytes is None


def test_sizes_are_said_in_three_figures():
    said = {0: "0 kB", 512: "0.512 kB", 13e3: "13 kB", 188.2e6: "188 MB", 9.996e8: "1 GB",
            79.14e9: "79.1 GB", 120e9: "120 GB", 1234e9: "1234 GB", 99.96e6: "100 MB"}  # fmt: skip
    assert {size: bytes_text(size) for size in said} == said


# Checks, on the host by blocks.


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e39])
def test_the_same_error_wherever_the_data_stays(gpu, data, monkeypatch, value):
    monkeypatch.setattr(checks, "CHECKED_ELEMENTS", 12 * 40)
    x = data[0].copy()
    x[[170, 190], [5, 1]] = value
    network = MLP([12, 3], backend=gpu)
    before = [to_numpy(a) for a in network.parameters[0]]
    gpu.free = None
    said = []
    for stream in (False, True):
        with pytest.raises(InputError, match="at row 170, column 5") as error:
            nnxp_train(network, x, data[1], epochs=1, batch_size=8, stream=stream)
        said.append(str(error.value))
    assert said[0] == said[1]
    for now, then in zip(network.parameters[0], before, strict=True):
        np.testing.assert_array_equal(to_numpy(now), then)


def test_the_first_blocks_sum_may_overflow_where_its_values_do_not(monkeypatch, data):
    monkeypatch.setattr(checks, "CHECKED_ELEMENTS", 12 * 40)
    found = checks.on_host(np.full((100, 12), 3e38), "float32")
    assert found.dtype == np.float64


# Outputs of data that does not fit.


def test_outputs_of_data_that_does_not_fit_are_computed_block_by_block(gpu, data, monkeypatch):
    monkeypatch.setattr(placement, "BLOCK_ELEMENTS", 12 * 40)
    network = MLP([12, 3], backend=gpu)
    gpu.free = 10**9
    x, t = data
    here = {"predict": network.predict(x), "classes": network.predict_classes(x),
            "evaluate": network.evaluate(x, t)}  # fmt: skip
    monkeypatch.setattr(placement, "CHUNK_BYTES", 0)
    gpu.free, sent, moves = 1000, [], []
    asarray = type(gpu).asarray

    def recorded(array, dtype=None, copy=None):
        sent.append(np.shape(array)[0])
        moves.append("there")
        return asarray(gpu, array, dtype, copy)

    def read(array):
        moves.append("back")
        return to_numpy(array)

    gpu.asarray = recorded
    monkeypatch.setattr("nnxp.network.to_numpy", read)
    for name, expected in here.items():
        sent.clear()
        moves.clear()
        found = {"predict": lambda: network.predict(x), "evaluate": lambda: network.evaluate(x, t),
                 "classes": lambda: network.predict_classes(x)}[name]()  # fmt: skip
        assert max(sent) == 40
        assert len(sent) >= 6
        if name == "evaluate":
            assert found == expected
        else:
            np.testing.assert_array_equal(found, expected)
            # Nothing piles up on the device.
            assert moves[: 2 * 6] == ["there", "back"] * 6
    sent.clear()
    x = x.copy()
    x[202, 0] = np.nan
    with pytest.raises(InputError, match="at row 202, column 0"):
        network.predict(x)
    assert sent == []


def test_predictions_are_of_the_inputs_library_though_it_stays_on_the_host(data, monkeypatch):
    require("array-api-strict")
    backend = backends.get("array-api-strict", "device1")
    network = MLP([12, 3], backend=backend)
    xp = backend.xp
    x = xp.asarray(data[0], device=xp.Device("CPU_DEVICE"))
    expected = network.predict(data[0])
    monkeypatch.setattr(placement, "CHUNK_BYTES", 0)
    backend.free_memory = lambda: 1
    y = network.predict(x)
    assert y.device == x.device
    np.testing.assert_array_equal(to_numpy(y), expected)
    assert isinstance(network.predict(data[0]), np.ndarray)
    y = network.predict(backend.asarray(data[0]))  # on the device already
    assert y.device == backend.device


# Memory.


def test_streaming_copies_no_data_as_a_whole(monkeypatch):
    """Not even to convert it: it may be mapped from a file."""
    monkeypatch.setattr(checks, "CHECKED_ELEMENTS", 2**16)
    monkeypatch.setattr(placement, "BLOCK_ELEMENTS", 2**16)
    monkeypatch.setattr(placement, "CHUNK_BYTES", 2**18)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 255, (20_000, 400), dtype=np.uint8)
    t = rng.integers(0, 2, len(x))
    network = MLP([400, 2], backend=backends.get("numpy", executor="eager"))

    def learn():
        nnxp_train(
            network, x, t, epochs=1, batch_size=16, validation=0.2, stream=True,
            optimizer=SGD(1e-6),
        )  # fmt: skip

    assert peak(learn) < x.nbytes / 2


def test_nor_do_predictions_and_figures(monkeypatch):
    """Of what was trained on from a file: on a CPU, which never says that data does not fit."""
    monkeypatch.setattr(checks, "CHECKED_ELEMENTS", 2**16)
    monkeypatch.setattr(placement, "BLOCK_ELEMENTS", 2**18)
    x = np.random.default_rng(0).standard_normal((20_000, 400))
    t = np.arange(len(x)) % 2
    network = MLP([400, 2], backend="numpy")
    expected = network.predict(x), network.evaluate(x, t)
    monkeypatch.setattr(placement, "CHUNK_BYTES", 2**18)
    found = []
    assert peak(lambda: found.extend([network.predict(x), network.evaluate(x, t)])) < x.nbytes / 4
    np.testing.assert_array_equal(found[0], expected[0])
    assert found[1] == expected[1]


def test_at_most_three_chunks_are_on_the_device_whatever_the_datas_size():
    alive, most = [0], [0]

    class Counting(NumPyBackend):
        def asarray(self, x, dtype=None, copy=None):
            array = super().asarray(x, dtype, copy)
            if copy and array.ndim == 2 and array.shape[1] == 5:
                alive[0] += array.nbytes
                most[0] = max(most[0], alive[0])
                weakref.finalize(array, lambda n: alive.__setitem__(0, alive[0] - n), array.nbytes)
            return array

    x = np.ones((64 * 4 * 20, 5), dtype=np.float32)
    feed = Streamed(Counting(), [x], 4, None, [x.dtype], None)
    chunks = 0
    for (_,), order in feed.chunks(np.arange(len(x))):
        assert order.shape == (64, 4)
        chunks += 1
    assert chunks == 20
    assert most[0] <= 3 * 64 * 4 * 5 * 4


def test_a_chunk_is_bounded_by_bytes_and_by_the_room():
    x = np.ones((1000, 100), dtype=np.float32)

    def steps(batch_size, room=None):
        return Streamed(backends.get("numpy"), [x], batch_size, None, [x.dtype], room).steps

    assert steps(2) == 64
    assert steps(2, 4 * 10 * 800) == 10
    assert steps(2, 100) == 1
    assert steps(2, -100) == 1
    assert steps(300) == 3  # as many as there are
    assert steps(None) == 1


@pytest.mark.parametrize("kind", ["as it is", "of another dtype", "of another layout"])
def test_rows_are_gathered_in_the_targets_dtype(kind):
    source = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
    source = {"as it is": source, "of another dtype": source.astype(np.float64),
              "of another layout": np.asfortranarray(source)}[kind]  # fmt: skip
    rows, target = np.array([29, 0, 3, 3]), np.zeros((4, 4), dtype=np.float32)
    gather(source, rows, target)
    np.testing.assert_array_equal(target, source[rows].astype(np.float32))


def peak(function, *arguments):
    """Bytes that it took, at the most."""
    tracemalloc.start()
    try:
        function(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("order", ["C", "F"])
def test_gathering_and_checking_copy_no_more_than_they_need(monkeypatch, order):
    monkeypatch.setattr(checks, "CHECKED_ELEMENTS", 2**14)
    source = np.ones((20_000, 50), dtype=np.float32, order=order)
    assert peak(gather, source, np.arange(10), np.empty((10, 50), np.float32)) < 10**5
    assert peak(checks.on_host, source.astype(np.float64, order="K"), "float32") < 5 * 10**5


def test_weights_have_a_mean_of_one_over_what_is_trained_on(data):
    x, t = data
    weight = np.arange(203) % 5 + 1.0
    network, other = (MLP([12, 3], backend="numpy") for _ in range(2))
    nnxp_train(network, x, t, epochs=1, batch_size=8, validation=0.2, sample_weight=weight)
    kept, _ = batches.split(t, 0.2, 0)
    nnxp_train(other, x[kept], t[kept], epochs=1, batch_size=8, sample_weight=weight[kept])
    for first, second in zip(network.parameters[0], other.parameters[0], strict=True):
        np.testing.assert_array_equal(first, second)
    weight[kept] = 0
    with pytest.raises(InputError, match="zero everywhere"):
        nnxp_train(other, x, t, epochs=1, batch_size=8, validation=0.2, sample_weight=weight)


@pytest.mark.promise("no wait")
def test_no_more_values_are_read_from_the_device_than_of_resident_data(conversions, data):
    counts = []
    for stream in (False, True):
        backend = backends.get("array-api-strict", "device1")
        network = MLP([12, 3], backend=backend)
        before = conversions.count
        nnxp_train(network, *data, epochs=2, batch_size=2, stream=stream)
        counts.append(conversions.count - before)
    assert counts[0] == counts[1]


# Streams and events. What follows stands in for CUDA: queues of work that a test may run in any
# order that streams and events allow, which is when a missing wait shows.


class Machine:
    """A device and its streams.

    `prefers` says what it does as soon as it may: copies, what it computes, or nothing until the
    host waits for it, and then no more steps than that needs.
    """

    def __init__(self, prefers="none"):
        self.streams = []
        self.current = Stream(self, "compute")
        self.prefers = prefers
        self.copies = self.steps = 0

    def run_one(self):
        """Do one piece of work that may be done; False if there is none."""
        copies_first = self.prefers != "compute"

        def late(stream):
            return (stream.name == "compute") == copies_first

        return any(stream.run_one() for stream in sorted(self.streams, key=late))

    def run_until(self, done):
        while not done():
            assert self.run_one(), "the host waits for what is never done"

    def busy(self):
        """The device does what its preference says at once, as the host goes on."""
        if self.prefers != "none":
            for stream in self.streams:
                if (stream.name == "compute") == (self.prefers == "compute"):
                    while stream.run_one():
                        pass


class Stream:
    def __init__(self, machine, name):
        self.machine, self.name, self.queue = machine, name, []
        machine.streams.append(self)

    def do(self, work):
        self.queue.append(work)
        self.machine.busy()

    def wait_event(self, event):
        record = event.last
        if record is not None:
            self.do(lambda: record["done"])

    def run_one(self):
        """Work answers False if it cannot be done yet."""
        if not self.queue or self.queue[0]() is False:
            return False
        self.queue.pop(0)
        return True


class Event:
    def __init__(self, machine):
        self.machine, self.last = machine, None

    def record(self, stream):
        record = self.last = {"done": False}
        stream.do(lambda: record.update(done=True))

    def synchronize(self):
        record = self.last
        if record is not None:
            self.machine.run_until(lambda: record["done"])


class DeviceArray:
    """Answers CuPy's and PyTorch's names for what is used of it."""

    def __init__(self, machine, array, where="device"):
        self.machine, self.array, self.where = machine, array, where

    def __getitem__(self, key):
        return DeviceArray(self.machine, self.array[key], self.where)

    def _copy(self, source, stream):
        assert stream.name != "compute", "copied on the stream that computes"
        target = self.array

        def copy():
            target[...] = source
            self.machine.copies += 1

        stream.do(copy)

    def set(self, source, stream):
        self._copy(source, stream)

    def copy_(self, source, non_blocking):
        assert non_blocking
        assert (self.where, source.where) == ("device", "pinned")
        self._copy(source.array, self.machine.entered)

    def numpy(self):
        return self.array


def fake_cupy(machine, monkeypatch):
    def stream(non_blocking):
        assert non_blocking
        return Stream(machine, "copy")

    cuda = types.SimpleNamespace(
        Stream=stream,
        Event=lambda disable_timing: Event(machine),
        get_current_stream=lambda: machine.current,
    )
    cupy = types.SimpleNamespace(
        cuda=cuda, empty=lambda shape, dtype: DeviceArray(machine, np.full(shape, -1, dtype))
    )
    cupyx = types.SimpleNamespace(empty_pinned=np.empty)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "cupyx", cupyx)
    return CuPyStaging


def fake_torch(machine, monkeypatch):
    @contextmanager
    def entered(stream):
        machine.entered = stream
        yield
        machine.entered = None

    def empty(shape, dtype, pin_memory=False, device=None):
        assert pin_memory != (device == "cuda:0")
        array = np.full(shape, -1, dtype)
        return DeviceArray(machine, array, "pinned" if pin_memory else "device")

    cuda = types.SimpleNamespace(
        Stream=lambda device: Stream(machine, "copy"),
        Event=lambda: Event(machine),
        current_stream=lambda device: machine.current,
        stream=entered,
    )
    torch = types.SimpleNamespace(cuda=cuda, empty=empty, from_numpy=lambda array: array)
    monkeypatch.setitem(sys.modules, "torch", torch)
    return lambda layout: TorchStaging("cuda:0", layout)


@pytest.fixture(params=[fake_cupy, fake_torch], ids=["cupy", "torch"])
def streams(request, monkeypatch):
    """A feed of 47 rows in batches of 2, in chunks of 3 steps, and the machine that it drives."""

    def make(prefers, **options):
        machine = Machine(prefers)
        staging = request.param(machine, monkeypatch)

        class Backend(NumPyBackend):
            def staging(self, layout):
                return staging(layout)

        x = np.random.default_rng(0).standard_normal((47, 3)).astype(np.float32)
        t = np.arange(47)
        monkeypatch.setattr(batches, "STEPS_PER_CHUNK", 3)
        dtypes = [x.dtype, t.dtype]
        return machine, (x, t), Streamed(Backend(), (x, t), 2, None, dtypes, None)

    return make


def asked(machine, chunk, seen):
    """Ask the device for the steps of a chunk: they read its data when they are run."""
    data, order = chunk
    arrays = [each.array for each in data]

    def steps():
        machine.steps += 1
        seen.append([array[order.reshape(-1)].copy() for array in arrays])

    machine.current.do(steps)


@pytest.mark.parametrize("prefers", ["none", "compute", "copies"])
def test_in_whatever_order_the_device_works_steps_see_their_own_rows(streams, prefers):
    machine, data, feed = streams(prefers)
    seen, expected = [], []
    for epoch in range(3):
        order = np.random.default_rng(epoch).permutation(47)
        for chunk in feed.chunks(order):
            asked(machine, chunk, seen)
        asked(machine, chunk, seen)  # the last chunk's data is looked at again, for `diagnose`
        expected += [rows.reshape(-1) for rows in batches.chunks(order, 2, 3)]
        expected.append(expected[-1])
    while machine.run_one():
        pass
    assert not machine.current.queue
    assert len(seen) == len(expected)
    for (x, t), rows in zip(seen, expected, strict=True):
        np.testing.assert_array_equal(t, rows)
        np.testing.assert_array_equal(x, data[0][rows])


def test_the_host_does_not_wait_for_the_steps_of_the_chunk_before(streams):
    """Nothing is done here but what the host waits for."""
    machine, _, feed = streams("none")
    seen, steps_done = [], []
    for chunk in feed.chunks(np.arange(47)):
        steps_done.append(machine.steps)
        asked(machine, chunk, seen)
    # By then the chunk after this one has been gathered too.
    assert len(steps_done) == 9
    assert all(done <= max(0, number - 2) for number, done in enumerate(steps_done))


def test_a_chunk_arrives_while_the_steps_on_the_one_before_it_run(streams):
    machine, _, feed = streams("none")
    seen = []
    for number, chunk in enumerate(feed.chunks(np.arange(47))):
        # All steps before this chunk's are done, and its own have not begun.
        while machine.run_one():
            pass
        assert machine.steps == number
        assert machine.copies == 2 * min(number + 2, 9)
        asked(machine, chunk, seen)


def test_the_same_few_arrays_are_sent_to_again_and_again(streams):
    _, _, feed = streams("compute")
    found = []
    for _ in range(3):
        found += [tuple(id(array) for array in data) for data, _ in feed.chunks(np.arange(47))]
    assert len(found) == 27
    assert len(set(found)) == 2


def test_an_epoch_that_ends_early_leaves_no_copy_under_way(streams):
    machine, _, feed = streams("none")
    chunks = feed.chunks(np.arange(47))
    next(chunks)
    assert machine.copies < 4
    chunks.close()
    assert machine.copies == 4


def test_jax_is_never_given_memory_that_is_written_to_again():
    require("jax")
    backend = backends.get("jax", "cpu")
    place = backend.staging([((4, 2), np.dtype("float32"))])
    assert isinstance(place, JAXStaging)
    sent, given = [], []
    for value in (1, 2, 3):
        (array,) = place.host()
        # JAX copies small arrays at once, or when they are not aligned as it likes.
        assert not any(np.may_share_memory(array, each) for each in given)
        given.append(array)
        array[...] = value
        place.send(4)
        sent.append(place.device()[0])
    for value, array in zip((1, 2, 3), sent, strict=True):
        np.testing.assert_array_equal(array, np.full((4, 2), value))


def test_resident_data_is_not_copied_to_hold_rows_out(data):
    taken = []

    class Watching(NumPyBackend):
        def runner(self, step, fallbacks):
            run = super().runner(step, fallbacks)
            return lambda *chunk: (taken.append(chunk[1][0]), run(*chunk))[1]

    x = data[0].astype(np.float32)
    nnxp_train(MLP([12, 3], backend=Watching()), x, data[1], epochs=1, batch_size=8, validation=0.2)
    assert all(np.may_share_memory(array, x) for array in taken)
    taken.clear()
    x = np.asfortranarray(x)
    nnxp_train(MLP([12, 3], backend=Watching()), x, data[1], epochs=1, batch_size=8)
    assert all(array.flags.c_contiguous for array in taken)


def test_each_library_says_what_is_free(monkeypatch):
    """Its own words for it, over what stands in for the library."""
    from nnxp.backends.cupy import CuPyBackend
    from nnxp.backends.jax import JAXBackend
    from nnxp.backends.torch import TorchBackend

    def opened(kind, **attributes):
        backend = object.__new__(kind)
        vars(backend).update(attributes)
        return backend

    limit = [0]
    pool = types.SimpleNamespace(
        free_bytes=lambda: 30, used_bytes=lambda: 50, get_limit=lambda: limit[0]
    )
    cupy = types.SimpleNamespace(get_default_memory_pool=lambda: pool)
    monkeypatch.setitem(sys.modules, "cupy", cupy)

    class Device(nullcontext):
        mem_info = (1000, 9999)

    found = opened(CuPyBackend, device=Device(), device_name="cuda:0")
    assert found.free_memory() == 1030
    limit[0] = 200
    assert found.free_memory() == 150
    cuda = types.SimpleNamespace(
        memory_reserved=lambda device: 70,
        memory_allocated=lambda device: 50,
        mem_get_info=lambda device: (1000, 9999),
    )
    xp = types.SimpleNamespace(cuda=cuda)
    assert opened(TorchBackend, xp=xp, device=0, device_name="cuda:0").free_memory() == 1020
    assert opened(TorchBackend, xp=xp, device=0, device_name="mps").free_memory() is None
    told = {"bytes_limit": 100, "bytes_in_use": 40}
    for platform, stats, free in (("gpu", told, 60), ("gpu", None, None), ("cpu", told, None)):
        device = types.SimpleNamespace(platform=platform, memory_stats=lambda told=stats: told)
        assert opened(JAXBackend, device=device).free_memory() == free


# On a GPU.


@pytest.mark.parametrize("name", ["cupy", "torch", "jax"])
def test_on_a_gpu_streamed_is_resident(name, caplog):
    """More chunks than places, each several megabytes, and steps that take a while."""
    require(name)
    if name != "cupy" and not TEST_DEVICE.startswith("cuda"):
        pytest.skip("NNXP_TEST_DEVICE names no GPU")
    backend = backends.get(name, "cuda" if name == "cupy" else TEST_DEVICE)
    assert backend.free_memory() > 0
    rng = np.random.default_rng(0)
    emulated = name == "cupy" and is_emulated()
    sizes = [256, 16, 10] if emulated else [256, 512, 10]
    x = rng.standard_normal((40_000 if emulated else 200_000, 256), dtype=np.float32)
    t = (x[:, :10] + rng.standard_normal((len(x), 10))).argmax(axis=1)
    runs = [
        results(MLP(sizes, backend=backend), x, t, stream, batch_size=128, validation=0.1)
        for stream in (False, True)
    ]
    close = 1e-4 if name == "jax" else 0
    for resident, streamed in zip(runs[0][1], runs[1][1], strict=True):
        np.testing.assert_allclose(streamed, resident, rtol=close, atol=close)
    assert is_array(backend.asarray(x[:1]))
    # And by itself, where memory is short.
    free, backend.free_memory = backend.free_memory, lambda: x.nbytes
    with caplog.at_level(logging.INFO, "nnxp"):
        alone = results(MLP(sizes, backend=backend), x, t, None, batch_size=128, validation=0.1)
    backend.free_memory = free
    assert "streamed" in caplog.text
    for streamed, chosen in zip(runs[1][1], alone[1], strict=True):
        np.testing.assert_allclose(chosen, streamed, rtol=close, atol=close)


def test_resident_feeds_give_the_same_data_each_time():
    backend = backends.get("numpy")
    x = np.arange(20.0).reshape(10, 2)
    feed = Resident(backend, (x,), 3, np.array([1, 3, 5, 7]))
    (first, order), (second, rest) = feed.chunks(np.array([3, 2, 1, 0]))
    assert first is second
    assert (order.tolist(), rest.tolist()) == ([[7, 5, 3]], [[1]])
    assert (feed.samples, feed.batch_size) == (4, 3)


class _Held(sources.Reader):
    """Reads rows of an array; the third read of the first pass waits for `release`."""

    def __init__(self, x, release, started):
        self.x, self.release, self.started, self.reads = x, release, started, 0

    def take(self, rows, out):
        self.reads += 1
        if self.reads == 3 and not self.started.is_set():
            self.started.set()
            self.release.wait(10)
        out[...] = self.x[rows]


class _HeldSource(sources.Source):
    name = "held"

    def __init__(self, x):
        self.x, self.shape, self.dtype = x, x.shape, x.dtype
        self.release, self.started = threading.Event(), threading.Event()

    def reader(self, order):
        return _Held(self.x, self.release, self.started)


def test_a_pass_that_begins_while_another_still_reads_gets_its_own_rows():
    """As where a training diverges: its last steps run again while its own pass is open."""
    x = np.arange(120.0, dtype=np.float32).reshape(60, 2)
    source = _HeldSource(x)
    dtype = np.dtype(np.float32)
    feed = Streamed(backends.get("numpy"), (source, x[:, :1]), 10, None, [dtype, dtype], None, 1)
    first = feed.chunks(np.arange(60)[::-1])
    next(first)
    assert source.started.wait(10)
    threading.Timer(0.3, source.release.set).start()
    for number, (data, rows) in enumerate(feed.chunks(np.arange(60))):
        if number == 2:  # into the memory that the first pass was to fill
            source.release.wait(10)
            time.sleep(0.2)
        np.testing.assert_array_equal(data[0][rows[0]], x[10 * number : 10 * number + 10])
    first.close()

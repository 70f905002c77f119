"""Steps captured on CuPy: on CuPy itself, on a GPU or an emulated one, and on a stand-in.

`ci/cupy` runs them on an emulated CUDA, also with work that runs as late as it may and freed memory
that holds NaN: a stream that does not wait for another, or a graph whose memory is not its own,
shows as wrong numbers. `stand_ins` is there so that every machine sees whether training by graphs
works, and for what CuPy does not do by itself.
"""

import gc
import inspect
import json
import os
import re
import sys
import threading
import warnings
import weakref
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
import stand_ins
from conftest import REGULARIZATIONS, RULES, is_emulated, require
from processes import completed

import nnxp
from nnxp import SGD, Adam, BackendError, backends, cli, objectives
from nnxp.arrays import to_numpy
from nnxp.executors import cublas, cuda_graph, cupy_graph, eager, recording
from nnxp.nested import leaves
from nnxp.state import first_state
from nnxp.step import training_step


class Seen:
    """What a test captures."""

    def __init__(self):
        self.graphs = []
        self.launches = 0
        self.owners = []
        """A weak reference to each `CuPyGraph`."""

    def capturing(self):
        owners = [ref() for ref in self.owners]
        return any(owner.stream.is_capturing() for owner in owners if owner)


def watch(monkeypatch):
    """Note what is captured from now on, and launched."""
    seen = Seen()
    made, capture = cupy_graph.CuPyGraph.__init__, cupy_graph.CuPyGraph.capture

    def noted(self, *arguments):
        made(self, *arguments)
        seen.owners.append(weakref.ref(self))

    def kept(self, play):
        launch = capture(self, play)
        seen.graphs.append(launch.args[0])

        def counted():
            seen.launches += 1
            launch()

        return counted

    monkeypatch.setattr(cupy_graph.CuPyGraph, "__init__", noted)
    monkeypatch.setattr(cupy_graph.CuPyGraph, "capture", kept)
    return seen


@pytest.fixture
def device(monkeypatch):
    """CuPy on a GPU, or an emulated one; what is captured there."""
    require("cupy")
    return watch(monkeypatch)


@pytest.fixture(params=["stand_in", "cupy"])
def gpu(request, monkeypatch):
    """The stand-in, and CuPy; what is captured there."""
    if request.param == "cupy":
        return request.getfixturevalue("device")
    stand_ins.install(monkeypatch)
    return watch(monkeypatch)


@pytest.fixture
def stand_in(monkeypatch):
    return stand_ins.install(monkeypatch)


@pytest.fixture
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def data(samples=53, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((samples, 6)).astype(np.float32), rng.integers(0, 3, samples)


def trained(executor, sizes=(6, 5, 3), dtype="float32", fallbacks=(), **options):
    """The parameters and the losses of a training, which falls back so and not otherwise."""
    x, t = data()
    network = nnxp.MLP(list(sizes), dtype=dtype, backend=_open(executor))
    options = {"epochs": 3, "batch_size": 8} | options
    history = nnxp.train(network, x, t, **options)
    assert history.fallbacks == list(fallbacks)
    arrays = [to_numpy(array) for layer in network.parameters for array in layer]
    return arrays, [epoch.loss for epoch in history.epochs]


def assert_same(found, expected):
    for one, other in zip(found[0], expected[0], strict=True):
        np.testing.assert_array_equal(one, other)
    assert found[1] == expected[1]


def assert_close(found, expected):
    """Kernels of nnxp's own add up in another order than CuPy's."""
    for one, other in zip(found[0], expected[0], strict=True):
        rtol = 1e-4 if one.dtype == np.float32 else 1e-10
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol / 100)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5)


def _open(executor="graph", **options):
    return backends.get("cupy", "cuda", executor, **options)


def case(rule=SGD(0.1), change=None, backend=None, sizes=(6, 5, 3)):  # noqa: B008
    """A backend, a step, what makes its first state, and the data there."""
    backend = backend or _open()
    network = nnxp.MLP(list(sizes), backend=backend)
    step = training_step(network.hidden, objectives.get("auto", network.output), rule)
    if change:
        step = change(step)
    return backend, step, lambda: first_state(network, rule), tuple(map(backend.asarray, data()))


def orders(backend, *shapes):
    rng = np.random.default_rng(1)
    return [backend.asarray(rng.integers(0, 53, shape)) for shape in shapes]


def run_all(run, state, arrays, chunks, between=lambda: None):
    totals = []
    for order in chunks:
        state, total = run(state, arrays, order, 0.1)
        totals.append(total)
        between()
    return [to_numpy(each) for each in leaves(state)], [float(total) for total in totals]


SHAPES = [(4, 8), (4, 8), (3, 8), (1, 5), (4, 8), (1, 5)]


# --- on both


@pytest.mark.usefixtures("no_warnings")
@pytest.mark.parametrize("regularization", REGULARIZATIONS.values(), ids=REGULARIZATIONS)
@pytest.mark.parametrize("rule", [SGD(0.1), SGD(0.1, momentum=0.9), Adam(0.01)], ids=repr)
def test_a_training_in_graphs_comes_to_what_an_eager_one_does(gpu, rule, regularization):
    options = {"optimizer": rule, "regularization": regularization}
    expected = trained("eager", **options)
    assert gpu.graphs == []
    assert_close(trained("graph", **options), expected)
    # Six whole batches, and five rows that are left. A chunk is launched once to compare it.
    assert (len(gpu.graphs), gpu.launches) == (2, 6)


@pytest.mark.usefixtures("no_warnings")
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_learning_rate_follows_a_schedule_in_graphs_captured_once(gpu, rule):
    options = {"optimizer": rule, "schedule": nnxp.schedules.Step(1, 0.1)}
    (expected, losses), (found, sums) = (trained(e, **options) for e in ("eager", "graph"))
    for one, other in zip(found, expected, strict=True):  # rate * decay is rounded to float32
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(sums, losses, rtol=1e-6)
    constant, _ = trained("graph", optimizer=rule)
    assert any(abs(one - other).max() > 1e-3 for one, other in zip(found, constant, strict=True))
    assert (len(gpu.graphs), gpu.launches) == (4, 12)


@pytest.mark.usefixtures("gpu", "no_warnings")
@pytest.mark.parametrize("batch_size", [1, 7, 53])
def test_batches_of_any_size(batch_size):
    expected = trained("eager", batch_size=batch_size)
    assert_close(trained("graph", batch_size=batch_size), expected)


@pytest.mark.usefixtures("no_warnings")
def test_diagnostics_weights_and_a_single_output(gpu):
    x, _ = data()
    found = []
    for executor in ("eager", "graph"):
        network = nnxp.MLP([6, 5, 4, 1], ["relu", "tanh"], "sigmoid", backend=_open(executor))
        history = nnxp.train(
            network, x, (x[:, 0] > 0).astype(np.float32), epochs=3, batch_size=1, diagnose=True,
            sample_weight=np.linspace(0, 2, len(x)), validation=0.2,
        )  # fmt: skip
        epochs = [
            {key: value for key, value in epoch.items() if "second" not in key}
            for epoch in history.to_list()
        ]
        found.append(re.findall(r"-?\d[\d.e-]*", json.dumps(epochs)))
    np.testing.assert_allclose(*np.asarray(found, dtype=float), rtol=1e-4, atol=1e-6)
    assert len(gpu.graphs) > 0


@pytest.mark.usefixtures("no_warnings")
def test_a_perceptron_is_captured(gpu):
    """Its products are of vectors."""
    x, _ = data()
    t = (x[:, 0] > 0.1).astype(np.float32)
    epochs, weights = [], []
    for executor in ("eager", "graph"):
        neuron = nnxp.Perceptron(6, backend=_open(executor))
        epochs.append(neuron.train(x, t))
        weights.append(to_numpy(neuron.weight))
    assert epochs[0] == epochs[1] > 1
    np.testing.assert_array_equal(*weights)
    assert len(gpu.graphs) == 1
    assert gpu.launches == epochs[1]


@pytest.mark.usefixtures("no_warnings")
def test_targets_of_another_kind_are_steps_of_their_own(gpu):
    """Classes and one-hot rows, in batches of one size."""
    backend, step, state, (x, t) = case()
    one_hot = backend.asarray(np.eye(3, dtype=np.float32)[to_numpy(t)])
    orders_ = orders(backend, *[(4, 8)] * 4)
    found = []
    for run in (backend.runner(step), _open("eager").runner(step)):
        now, totals = state(), []
        for order, arrays in zip(orders_, [(x, t), (x, one_hot)] * 2, strict=True):
            now, total = run(now, arrays, order, 0.1)
            totals.append(float(total))
        found.append(([to_numpy(each) for each in leaves(now)], totals))
    assert_close(*found)
    assert len(gpu.graphs) == 2


def test_data_at_one_place_may_lie_otherwise(gpu):
    """A captured chunk is that of the layout it was captured with."""
    backend, step, state, (_, t) = case()
    wide = backend.asarray(np.random.default_rng(3).standard_normal((106, 6)).astype(np.float32))
    layouts = [(wide[:53, :], t), (wide[::2, :], t)]
    (order,) = orders(backend, (4, 8))
    found = []
    for run in (backend.runner(step), _open("eager").runner(step)):
        now, totals = state(), []
        for arrays in layouts * 3:
            now, total = run(now, arrays, order, 0.1)
            totals.append(float(total))
        found.append(([to_numpy(each) for each in leaves(now)], totals))
    assert_close(*found)
    assert len(gpu.graphs) == 2


def test_parameters_that_lie_by_columns(gpu):
    """As those of PyTorch's layers, transposed. cuBLAS would write their gradients by rows."""
    x, t = data()
    rng = np.random.default_rng(2)
    weights = [rng.standard_normal(shape).astype(np.float32) for shape in [(5, 6), (3, 5)]]
    parameters = [(weight.T, np.zeros(len(weight), np.float32)) for weight in weights]
    found = []
    for executor in ("eager", "graph"):
        network = nnxp.MLP([6, 5, 3], parameters=parameters, backend=_open(executor))
        history = nnxp.train(network, x, t, epochs=3, batch_size=8)
        assert history.fallbacks == []
        found.append([epoch.loss for epoch in history.epochs])
    np.testing.assert_allclose(*found, rtol=1e-5)
    assert len(gpu.graphs) == 2


def test_the_executor_is_chosen_by_name(gpu, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for executor, captures in [("eager", 0), ("graph", 2), ("auto", 2)]:
        gpu.graphs.clear()
        arguments = ["--backend", "cupy", "--executor", executor, "--epochs", "1"]
        monkeypatch.setattr(sys, "argv", ["nnxp", "train", "digits", "--hidden", "8", *arguments])
        with pytest.raises(SystemExit) as done:
            cli.main()
        out, errors = capsys.readouterr()
        assert (done.value.code, errors) == (0, ""), errors
        assert re.search(r"cupy [\d.]+ on cuda:0", out)
        assert len(gpu.graphs) == captures
    with pytest.raises(BackendError, match="no executor 'replay'; it has graph, eager"):
        _open("replay")
    assert _open(None).executor == "graph"
    assert _open().settings()["graphs"] == "not verified on a GPU"


# --- what cannot be captured


@pytest.fixture
def chance(gpu):
    """A step, and what it comes to eagerly."""
    return chance_on(gpu)


@pytest.fixture
def real_chance(device):
    """The same, on CuPy alone."""
    return chance_on(device)


def chance_on(seen):
    backend, step, state, arrays = case()
    chunks = orders(backend, *SHAPES)
    expected = run_all(_open("eager").runner(step), state(), arrays, chunks)
    return seen, backend.runner(step), state(), arrays, chunks, expected


def told(seen, run, state, arrays, chunks, said, expected, compare=assert_same):
    # What nobody waited for runs at last, and must not undo what came after it.
    wait = partial(_open().synchronize, None)
    with pytest.warns(RuntimeWarning, match=f"eagerly from here on.*{said}") as warned:
        found = run_all(run, state, arrays, chunks, wait)
    assert len(warned) == 1
    compare(found, expected)
    assert not seen.capturing()


def surround(monkeypatch, owner, name, before=lambda: None, after=lambda: None):
    """Let a method call `before` and `after` too."""
    method = getattr(owner, name)

    def surrounded(self, *arguments):
        before()
        result = method(self, *arguments)
        after()
        return result

    monkeypatch.setattr(owner, name, surrounded)


def before_products(monkeypatch, action):
    surround(monkeypatch, cublas.Cublas, "product", before=action)


def capturing():
    import cupy

    stream = cupy.cuda.get_current_stream()
    return stream if stream.is_capturing() else None


def failing(monkeypatch, function):
    """Let a function of cuBLAS do nothing but fail."""
    load = cublas._load

    class Library:
        def __getattr__(self, name):
            return (lambda *_: 13) if name == function else getattr(load(), name)

    monkeypatch.setattr("nnxp.executors.cublas._load", Library)


@pytest.mark.parametrize("function", ["cublasCreate_v2", "cublasSetWorkspace_v2", "cublasGemmEx"])
def test_a_cublas_that_fails(chance, function, monkeypatch):
    failing(monkeypatch, function)
    *most, expected = chance
    told(*most, f"{function} of cuBLAS failed with status 13", expected)


def test_a_cublas_that_cannot_be_loaded(chance, monkeypatch):
    def load():
        raise BackendError("cuBLAS cannot be loaded: no such file")

    monkeypatch.setattr("nnxp.executors.cublas._load", load)
    *most, expected = chance
    told(*most, "cuBLAS cannot be loaded: no such file", expected)


def test_a_step_that_reads_a_value(gpu):
    def reads(step):
        def change(state, batch, rate):
            state, loss = step(state, batch, rate)
            return state, loss if float(loss) >= 0 else -loss

        return change

    backend, step, state, arrays = case(change=reads)
    chunks = orders(backend, *SHAPES)
    expected = run_all(_open("eager").runner(step), state(), arrays, chunks)
    told(gpu, backend.runner(step), state(), arrays, chunks, "a value is read", expected)


@pytest.mark.parametrize("value", [1.0, float("nan"), float("inf")])
def test_fused_kernels_that_give_another_result(chance, monkeypatch, value):
    fused = cupy_graph.Calls.fused

    def wrong(self, calls, results):
        return [*fused(self, calls, results), (results[0].fill, (value,))]

    monkeypatch.setattr(cupy_graph.Calls, "fused", wrong)
    *most, expected = chance
    told(*most, "fused kernels give another result than CuPy's own", expected)


def test_memory_that_a_capture_takes(real_chance, monkeypatch):
    import cupy

    kept = []
    before_products(monkeypatch, lambda: capturing() and kept.append(cupy.empty(10**7)))
    *most, expected = real_chance
    told(*most, "memory was taken while the steps were captured", expected)


@pytest.mark.parametrize("good", [2, 7, 20, 40])
def test_a_failure_on_the_way_leaves_the_state_right(real_chance, good, monkeypatch):
    """In the recording, its check, the warm-up, the capture: what was begun is waited for."""

    count = []

    def fails():
        count.append(1)
        if len(count) > good:
            assert bool(capturing()) is (good == 40)
            raise RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED")

    before_products(monkeypatch, fails)
    *most, expected = real_chance
    told(*most, "RuntimeError: CUBLAS_STATUS_EXECUTION_FAILED", expected)
    assert len(count) == good + 1


def test_a_wait_in_a_capture_ends_it(real_chance, monkeypatch):
    def waits():
        if stream := capturing():
            stream.synchronize()

    before_products(monkeypatch, waits)
    *most, expected = real_chance
    told(*most, "(capturing|CaptureUnsupported)", expected)


def begun(monkeypatch):
    """The captures that are begun from now on."""
    import cupy

    begin, found = cupy.cuda.Stream.begin_capture, []

    def begins(self, *mode):
        found.append(gc.isenabled())
        begin(self, *mode)

    monkeypatch.setattr(cupy.cuda.Stream, "begin_capture", begins)
    return found


def in_another_thread(work, seconds=60):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(seconds)
    return thread


def wait_for_the_device():
    """As the end of a thread does that multiplied: CuPy destroys its handle of cuBLAS."""
    import cupy

    with suppress(cupy.cuda.runtime.CUDARuntimeError):
        cupy.cuda.Device().synchronize()


@pytest.fixture(params=["a kernel", "cublas", "the end"])
def disturbed(request, monkeypatch):
    """disturbed(when) lets another thread wait for the device during each capture while `when()`.

    What notices it first is a kernel, cuBLAS or the end of the capture, and each says it otherwise.
    """

    def disturb(when):
        def acts():
            if capturing() and when():
                in_another_thread(wait_for_the_device)

        if request.param == "a kernel":
            surround(monkeypatch, cupy_graph.Calls, "gathered", before=acts)
        elif request.param == "cublas":
            before_products(monkeypatch, acts)
        else:
            surround(monkeypatch, cuda_graph._Chunk, "_play", after=acts)

    return disturb


@pytest.mark.usefixtures("no_warnings")
def test_a_capture_that_another_thread_invalidates_is_tried_again(
    real_chance, monkeypatch, disturbed
):
    _, run, state, arrays, chunks, expected = real_chance
    captures = begun(monkeypatch)
    disturbed(lambda: len(captures) < cupy_graph.ATTEMPTS)
    assert_close(run_all(run, state, arrays, chunks), expected)
    assert len(captures) == cupy_graph.ATTEMPTS - 1 + 3


def test_a_capture_that_is_always_invalidated_is_given_up(real_chance, monkeypatch, disturbed):
    *most, expected = real_chance
    captures = begun(monkeypatch)
    disturbed(lambda: True)
    told(*most, "(?:CAPTURE_INVALIDATED|CaptureInvalidated|status 13)", expected)
    assert len(captures) == cupy_graph.ATTEMPTS


@pytest.mark.usefixtures("no_warnings")
def test_a_handle_is_not_destroyed_while_another_thread_captures(real_chance, monkeypatch):
    _, run, state, arrays, chunks, expected = real_chance
    other = cupy_graph.CuPyGraph(print)
    assert other.blas
    captures, threads = begun(monkeypatch), []

    def disturbs():
        if capturing() and not threads:
            threads.append(in_another_thread(other.release, seconds=0.3))
            assert threads[0].is_alive()

    before_products(monkeypatch, disturbs)
    assert_close(run_all(run, state, arrays, chunks), expected)
    threads[0].join()
    assert len(captures) == 3


@pytest.mark.usefixtures("no_warnings")
def test_another_thread_may_compute_during_a_capture(real_chance, monkeypatch):
    """On the default stream, which a blocking stream would have to wait for."""
    import cupy

    _, run, state, arrays, chunks, expected = real_chance
    captures, sums = begun(monkeypatch), []

    def computes():
        sums.append(float((cupy.arange(4.0) + 1.0).sum()))

    before_products(monkeypatch, lambda: capturing() and in_another_thread(computes))
    assert_close(run_all(run, state, arrays, chunks), expected)
    assert len(captures) == 3
    assert set(sums) == {10.0}


@pytest.mark.parametrize("was_on", [True, False])
def test_nothing_is_collected_during_a_capture(real_chance, monkeypatch, was_on):
    """To destroy an older graph's cuBLAS handle waits for the GPU, and would end the capture."""
    _, run, state, arrays, chunks, _ = real_chance
    captures = begun(monkeypatch)
    if not was_on:
        gc.disable()
    try:
        run_all(run, state, arrays, chunks)
        assert gc.isenabled() is was_on
    finally:
        gc.enable()
    assert captures == [False] * 3


@pytest.mark.parametrize("good", [0, 2])
def test_a_failed_capture_gives_its_memory_back_before_eager_steps_run(
    real_chance, monkeypatch, good
):
    """Its own, and that of the captures before it."""
    seen, *most, expected = real_chance
    run, capture, held = eager.run, cupy_graph.CuPyGraph.capture, []

    def fails(self, play):
        if len(seen.graphs) == good:
            raise BackendError("no more graphs")
        return capture(self, play)

    def runs(*arguments):
        owners = filter(None, (ref() for ref in seen.owners))
        pools = [pool for owner in owners for pool in (owner.pool, owner.persistent_pool)]
        chunks = [each for each in gc.get_objects() if isinstance(each, cuda_graph._Chunk)]
        held.append((sum(pool.total_bytes() for pool in pools), len(chunks)))
        return run(*arguments)

    monkeypatch.setattr(cupy_graph.CuPyGraph, "capture", fails)
    monkeypatch.setattr(eager, "run", runs)
    told(seen, *most, "no more graphs", expected, assert_close if good else assert_same)
    assert len(held) >= 3
    assert set(held) == {(0, 0)}


@pytest.mark.parametrize("megabytes", [60, 140])
def test_on_the_emulation_eager_steps_have_the_memory_of_a_failed_capture(megabytes):
    """64-2000-2000-10 trains eagerly in 60 MB, and cannot be captured in less than 300."""
    require("cupy")
    if not is_emulated():
        pytest.skip("a GPU's memory cannot be made small")
    code = (
        "import numpy as np, nnxp\n"
        "network = nnxp.MLP([64, 2000, 2000, 10], backend='cupy')\n"
        "x, t = np.ones((256, 64), np.float32), np.arange(256) % 10\n"
        "history = nnxp.train(network, x, t, epochs=2, batch_size=64)\n"
        "print(history.fallbacks)"
    )
    environment = os.environ | {"CUDA_ON_CPU_MEMORY": str(megabytes * 10**6)}
    done = completed([sys.executable, "-W", "ignore", "-c", code], env=environment, check=True)
    assert "run eagerly from here on: they cannot be captured (OutOfMemory" in done.stdout


@pytest.mark.usefixtures("no_warnings")
def test_what_cannot_be_compiled_is_captured_call_by_call(gpu, monkeypatch):
    class Broken:
        def __init__(self, *_):
            pass

        def compile(self):
            raise ValueError("no compiler")

    expected = trained("eager")
    assert_close(trained("graph"), expected)
    monkeypatch.setattr(sys.modules["cupy"], "RawKernel", Broken)
    line = "calls run one by one: they cannot be compiled (ValueError: no compiler)"
    assert_same(trained("graph", fallbacks=[line]), expected)
    fused, _, apart, _ = map(nodes, gpu.graphs)
    assert apart >= fused + 6 * 10  # in each of six steps ten more


def nodes(graph):
    return len(graph.work) if hasattr(graph, "work") else graph.debug_dot_str().count("label=")


@pytest.mark.usefixtures("no_warnings")
def test_kernels_are_compiled_to_round_as_eager_calls_do(stand_in):
    trained("graph")
    assert set(stand_in.compiled) == {("nnxp_fused", ("--fmad=false",))}


def test_rounding_is_not_something_else():
    close = cupy_graph._close
    x = np.asarray([1.0, -2.0, 0.0])
    assert close(x, x)
    assert close(x + 1e-5, x)
    assert not close(x + 1e-3, x)
    for strange in (np.nan, np.inf, -np.inf):
        with_it = np.asarray([strange, -2.0, 0.0])
        with np.errstate(all="ignore"):
            assert close(with_it, with_it)
            assert not close(with_it, x)
            assert not close(x, with_it)
            assert not close(np.asarray([strange, -2.1, 0.0]), with_it)
            assert close(np.asarray([strange, -2.00001, 0.0]), with_it)
    assert close(np.asarray([3, 4]), np.asarray([3, 4]))
    assert not close(np.asarray([3, 5]), np.asarray([3, 4]))
    assert close(np.zeros((0, 2)), np.zeros((0, 2)))


# --- what lives how long


@pytest.mark.usefixtures("no_warnings")
def test_what_a_graph_uses_lives_as_long_as_it_and_no_longer(device, monkeypatch):
    closed, close = [], cublas.Cublas.close
    monkeypatch.setattr(
        cublas.Cublas, "close", lambda self: closed.append(bool(self.handle)) or close(self)
    )
    backend, step, state, arrays = case(Adam(0.01))
    chunks = orders(backend, *SHAPES)
    run = backend.runner(step)
    now, _ = run(state(), arrays, chunks[0], 0.1)
    gc.collect()
    (owner,) = device.owners
    assert owner() is not None
    run(now, arrays, chunks[1], 0.1)
    assert device.launches == 2
    assert not closed
    gc.disable()  # no cycle keeps it: a graph holds memory of a GPU
    try:
        del run
        assert owner() is None
    finally:
        gc.enable()
    assert closed == [True]


def test_what_launches_keeps_what_it_needs(gpu):
    backend = _open()
    with backend.active():
        library = cupy_graph.CuPyGraph(print)
        x = backend.asarray(np.ones((2, 2), np.float32), copy=True)
        play = partial(library.blas.product, x, x, x)
        launch = library.capture(play)
        (owner,) = gpu.owners
        del library, play
        launch()
        assert to_numpy(x).tolist() == [[2.0, 2.0], [2.0, 2.0]]
        assert owner() is not None
        del launch
        assert owner() is None


@pytest.mark.usefixtures("no_warnings")
def test_what_launches_overwrite_holds_nothing_else(device):
    """What the steps of another size keep, constants too, is not where a graph has CUB's room."""
    backend, step, state, arrays = case()
    with backend.active():
        library = cupy_graph.CuPyGraph(print)
        run = cuda_graph.runner(step, library, print)
        run_all(run, state(), arrays, orders(backend, *SHAPES))
        assert len(library.programs) == 2
        assert library.persistent_pool.used_bytes() > 0
        assert library.pool.used_bytes() == 0
    for program in library.programs.values():
        assert program.program.calls == []  # they would keep the results that nothing writes now


@pytest.mark.usefixtures("device", "no_warnings")
def test_a_graph_does_not_keep_the_data():
    backend, step, state, arrays = case()
    run = backend.runner(step)
    run(state(), arrays, *orders(backend, (4, 8)), 0.1)
    kept = weakref.ref(arrays[0])
    del arrays
    assert kept() is None


def test_a_handle_that_cannot_be_given_back_is_let_go_in_silence(gpu, monkeypatch):
    """As when the process ends, and CUDA before it."""
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    failing(monkeypatch, "cublasDestroy_v2")
    with _open().active():
        library = cupy_graph.CuPyGraph(print)
        assert library.blas
        del library
    (owner,) = gpu.owners
    assert owner() is None
    assert not unraisable


# --- what is asked of cuBLAS and CuPy


@pytest.mark.usefixtures("no_warnings")
@pytest.mark.parametrize(("tf32", "compute"), [(False, 68), (True, 77)])
@pytest.mark.parametrize(("capability", "algorithm"), [("75", -1), ("80", 99), ("90", 99)])
def test_products_are_asked_for_as_cupy_asks(stand_in, tf32, compute, capability, algorithm):
    if tf32 and capability == "75":
        pytest.skip("has none")
    stand_in.capability[0] = capability
    backend, step, state, arrays = case(backend=_open(tf32=tf32))
    backend.runner(step)(state(), arrays, *orders(backend, (2, 8)), 0.1)
    asked = {arguments[-2:] for name, arguments in stand_in.blas.calls if name == "cublasGemmEx"}
    assert asked == {(compute, algorithm)}


def test_what_calls_refuse(gpu):
    cupy = sys.modules["cupy"]
    calls = cupy_graph.Calls(lambda a, b, out: None, print)
    one, matrix = cupy.zeros((1, 1), np.float32), cupy.zeros((2, 2), np.float32)
    assert calls.product((matrix, matrix), matrix)[0] is calls._product
    assert calls.product((one, one), one)[0] == cupy.dot
    for a, b in [
        (matrix, cupy.zeros((2, 2, 2), np.float32)),
        (matrix, cupy.zeros((2, 2), np.float64)),
    ]:
        with pytest.raises(recording.UnrecordableError, match="other than two like matrices"):
            calls.product((a, b), matrix)
    with pytest.raises(recording.UnrecordableError, match="more than eight"):
        calls.joined(cupy.concatenate, 0, (matrix,) * 9, None)
    assert calls.joined(cupy.concatenate, 0, (matrix,) * 8, None)


# --- CuPy itself, without a GPU


@pytest.fixture
def cupy():
    """The library, installed; a GPU need not be there."""
    return pytest.importorskip("cupy")


def test_cupy_has_what_calls_are_made_of(cupy):
    """The functions that `Calls` names and what they take, in the order in which it is given."""
    for function, parameters in {
        cupy.take: ["a", "indices", "axis", "out"],
        cupy.dot: ["a", "b", "out"],
        cupy.copyto: ["dst", "src", "casting", "where"],
        cupy.concatenate: ["tup", "axis", "out"],
        cupy.stack: ["tup", "axis", "out"],
    }.items():
        assert list(inspect.signature(function).parameters)[: len(parameters)] == parameters
    for function in (cupy.sum, cupy.max):
        assert {"axis", "out", "keepdims"} <= {*inspect.signature(function).parameters}
    for name in {*recording._OPERATORS.values(), "exp", "log", "log1p", "sqrt", "tanh", "abs",
                 "sign", "maximum", "minimum", "negative"}:  # fmt: skip
        assert isinstance(getattr(cupy, name), cupy.ufunc), name
    for owner, names in {
        cupy: (
            "may_share_memory",
            "full_like",
            "expand_dims",
            "zeros",
            "empty",
            "where",
            "RawKernel",
        ),
        cupy.cuda: ("Stream", "MemoryPool", "using_allocator", "alloc", "get_current_stream"),
        cupy.cuda.Stream: ("begin_capture", "end_capture", "record", "wait_event"),
        cupy.cuda.Graph: ("launch", "debug_dot_str"),
        cupy.cuda.MemoryPool: ("malloc", "total_bytes"),
    }.items():
        for name in names:
            assert hasattr(owner, name), name


# --- on a GPU


def _allocate(backend, sizes, kept):
    """Fill memory with what is no number, and let go of every other array."""
    for size in sizes:
        values = np.full(size, np.nan, dtype=np.float32)
        kept.extend(backend.asarray(values) for _ in range(20))
    del kept[::2]
    gc.collect()


def train_while_allocating(rule, sizes, tolerance):
    """Train by graphs and allocate between launches: neither may change what the other wrote."""
    backend, step, state, arrays = case(rule)
    chunks = orders(backend, *SHAPES)
    expected = run_all(_open("eager").runner(step), state(), arrays, chunks)
    kept = []
    allocate = partial(_allocate, backend, sizes, kept)
    gc.freeze()  # what is there already needs no look in each collection
    try:
        found = run_all(backend.runner(step), state(), arrays, chunks, allocate)
    finally:
        gc.unfreeze()
    for one, other in zip(found[0], expected[0], strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance / 100)
    np.testing.assert_allclose(found[1], expected[1], rtol=tolerance)
    assert all(np.isnan(each.get()).all() for each in kept)


DTYPES = ["float32", "float64"]


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("tf32", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("m", "k", "n"), [(1, 5, 1), (1, 7, 3), (5, 1, 2), (3, 4, 1), (64, 784, 128), (512, 512, 512)]
)
def test_a_captured_product_has_the_bits_of_an_eager_one(m, k, n, dtype, tf32):
    import cupy

    backend = _open(tf32=tf32)
    rng = np.random.default_rng(0)
    with backend.active():
        library = cupy_graph.CuPyGraph(print, tf32)
        for a_turned, b_turned in [(False, False), (True, False), (False, True), (True, True)]:
            a = cupy.asarray(rng.standard_normal((k, m) if a_turned else (m, k)).astype(dtype))
            b = cupy.asarray(rng.standard_normal((n, k) if b_turned else (k, n)).astype(dtype))
            a, b = a.T if a_turned else a, b.T if b_turned else b
            out = cupy.zeros((m, n), dtype=dtype)
            product, arguments = library.calls.product((a, b), out)
            play = partial(product, *arguments)
            library.warm_up(play)
            out.fill(-1)
            launch = library.capture(play)
            assert float(abs(out + 1).max()) == 0  # a capture runs nothing
            launch()
            np.testing.assert_array_equal(out.get(), (a @ b).get())


@pytest.mark.usefixtures("no_warnings")
@pytest.mark.parametrize("regularization", REGULARIZATIONS.values(), ids=REGULARIZATIONS)
@pytest.mark.parametrize(
    ("sizes", "dtype"), [((6, 5, 3), "float64"), ((6, 130, 70, 3), "float32")], ids=str
)
@pytest.mark.parametrize("rule", [SGD(0.1), SGD(0.1, momentum=0.9), Adam(0.01)], ids=repr)
def test_on_a_gpu_graphs_come_to_what_eager_steps_do(device, rule, sizes, dtype, regularization):
    options = {"sizes": sizes, "dtype": dtype, "optimizer": rule, "regularization": regularization}
    expected = trained("eager", epochs=2, **options)
    assert_close(trained("graph", epochs=2, **options), expected)
    assert len(device.graphs) == 2


@pytest.mark.usefixtures("no_warnings")
def test_on_a_gpu_a_graph_holds_kernels_and_no_allocation(device):
    """And few kernels: 20 a step at 784-128-10 is the aim."""
    backend, step, state, arrays = case(sizes=(6, 128, 3))
    backend.runner(step)(state(), arrays, *orders(backend, (4, 8)), 0.1)
    (captured,) = device.graphs
    text = captured.debug_dot_str(1)  # cudaGraphDebugDotFlagsVerbose
    foreign = r"(?i)mem_?alloc|mem_?free|host_?to_?device|htod|host_?node"
    assert not re.findall(foreign, text), re.findall(f".*(?:{foreign[4:]}).*", text)[:5]
    nodes = {kind: len(re.findall(kind, text)) for kind in ("KERNEL", "MEMCPY", "MEMSET")}
    fused, products = (len(re.findall(name, text)) for name in ("nnxp_fused", "(?i)gemm"))
    assert fused > 0, text[:2000]
    print(f"of 4 steps: {nodes}, {fused} fused, {products} products")


@pytest.mark.usefixtures("no_warnings")
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_on_a_gpu_much_may_be_allocated_between_launches(device, rule):
    train_while_allocating(rule, (1, 64, 600, 5000, 10**6), 1e-4)
    assert len(device.graphs) == 3


@pytest.mark.usefixtures("no_warnings")
def test_on_a_gpu_graphs_run_on_the_callers_stream_and_beside_another_network(device):
    import cupy

    expected, one_epoch = trained("graph"), trained("graph", epochs=1)
    assert_close(expected, trained("eager"))

    def meanwhile(network, history):
        assert_same(trained("graph", epochs=1), one_epoch)

    assert_same(trained("graph", callbacks=[meanwhile]), expected)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        found = trained("graph")
        stream.synchronize()
    assert_same(found, expected)
    assert len(device.graphs) == 2 + 2 + 2 + 3 * 2 + 2


def test_on_a_gpu_a_failed_capture_leaves_the_stream_usable(device):
    import cupy

    backend = _open()
    with backend.active():
        library = cupy_graph.CuPyGraph(print)
        x = cupy.arange(4, dtype=np.float32)
        for fails in (lambda: x + float(x[0]), lambda: cupy.cuda.Device().synchronize()):
            with pytest.raises(Exception, match=r"(?i)captur"):
                library.capture(fails)
            assert not library.stream.is_capturing()
            library.warm_up(lambda: cupy.add(x, 1.0, x))
            library.capture(lambda: cupy.add(x, 1.0, x))()
        assert x.get().tolist() == [4.0, 5.0, 6.0, 7.0]
    assert len(device.graphs) == 2


def test_on_a_gpu_tf32_holds_in_graphs(device):
    if not _open().has_tf32():
        pytest.skip("this GPU has no TF32")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((512, 512), dtype=np.float32)
    exact = x.astype(np.float64) @ x.astype(np.float64)
    errors = []
    for tf32 in (False, True, False):
        backend = _open(tf32=tf32)
        given = backend.asarray(x)
        with backend.active():
            library = cupy_graph.CuPyGraph(print, tf32)
            out = given * 0.0
            play = partial(library.blas.product, given, given, out)
            library.warm_up(play)
            library.capture(play)()
            errors.append(np.linalg.norm(out.get() - exact) / np.linalg.norm(exact))
    assert errors[0] == errors[2] < 1e-5 < errors[1] < 1e-2

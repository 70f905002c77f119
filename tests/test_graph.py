"""Captured chunks against eager ones, on stand-ins for what only a GPU can do.

NumPy's shows what is decided; that of `torch.cuda` records what is asked of PyTorch, with the
arrays that it was asked for, and a launch does it again: a number or an array that is not where
the capture found it shows, as on a GPU.
"""

import contextlib
import functools
import types
import warnings
from dataclasses import replace

import numpy as np
import pytest
from conftest import REGULARIZATIONS, RULES, require

import nnxp
from nnxp import SGD, Adam, BackendError, backends, executors, objectives
from nnxp.arrays import to_numpy
from nnxp.executors import cuda_graph, eager
from nnxp.executors.torch_graph import TorchGraph
from nnxp.nested import leaves
from nnxp.state import first_state
from nnxp.step import training_step


class Fake:
    """On NumPy: a capture runs nothing, a launch runs all of it."""

    def __init__(self):
        self.warm_ups = self.captures = self.launches = 0

    def place(self, array):
        return array.ctypes.data, array.strides

    def steps(self, step, *arrays):
        return functools.partial(eager.run, step)

    def warm_up(self, play):
        self.warm_ups += 1
        play()

    def release(self):
        self.released = True

    def capture(self, play):
        self.captures += 1

        def launch():
            self.launches += 1
            play()

        return launch


def data(samples=203, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((samples, 6)).astype(np.float32), rng.integers(0, 3, samples)


def case(rule=SGD(0.1), regularization=REGULARIZATIONS["free"], backend="numpy"):  # noqa: B008
    """A step, what makes its first state, and the data on the backend."""
    opened = backends.get(backend, "cpu")
    network = nnxp.MLP([6, 5, 3], backend=opened)
    step = training_step(network.hidden, objectives.get("auto", "softmax"), rule, regularization, 7)
    return step, lambda: first_state(network, rule), tuple(map(opened.asarray, data()))


def orders(*shapes, seed=1):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 203, shape) for shape in shapes]


def run_all(run, state, data, chunks, rates):
    totals = []
    with np.errstate(all="ignore"):
        for order, rate in zip(chunks, rates, strict=True):
            state, total = run(state, data, order, rate)
            totals.append(total)
    return [to_numpy(each) for each in leaves(state)], [float(total) for total in totals]


SHAPES = [(9, 8), (9, 8), (7, 8), (1, 3), (9, 8), (7, 8), (1, 3)]
"""Whole chunks, a shorter one, an epoch's smaller last batch; then the next epoch."""
RATES = [0.1, 0.1, 0.1, 0.1, 0.02, 0.02, 0.02]


@pytest.mark.parametrize("regularization", REGULARIZATIONS.values(), ids=REGULARIZATIONS)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_captured_chunks_come_to_the_same_bits_as_eager_ones(rule, regularization):
    step, state, arrays = case(rule, regularization)
    # A capture has the rate as an array: in double precision a Python number would differ.
    rates = [np.asarray(rate, dtype=np.float32) for rate in RATES]
    library = Fake()
    expected, totals = run_all(
        lambda *chunk: eager.run(step, *chunk), state(), arrays, orders(*SHAPES), rates
    )
    found, sums = run_all(
        cuda_graph.runner(step, library, print), state(), arrays, orders(*SHAPES), rates
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert sums == totals
    assert library.captures == library.warm_ups == 3
    assert library.launches == len(SHAPES)


def test_the_state_stays_where_it_is_and_a_strange_one_is_brought_there():
    step, state, arrays = case(Adam(0.01))
    run, (order,) = cuda_graph.runner(step, Fake(), print), orders((4, 8))
    first, _ = run(state(), arrays, order, 0.1)
    mine = leaves(first)
    again, total = run(state(), arrays, order, 0.1)
    assert all(one is other for one, other in zip(mine, leaves(again), strict=True))
    before = float(total)
    _, later = run(again, arrays, order, 0.1)
    assert float(later) != before
    assert float(total) == before  # a sum is its receiver's
    fresh, _ = eager.run(step, state(), arrays, order, np.float32(0.1))
    restarted, _ = run(state(), arrays, order, 0.1)
    for one, other in zip(leaves(restarted), leaves(fresh), strict=True):
        np.testing.assert_array_equal(one, other)


def test_other_data_is_captured_anew_but_only_when_it_comes_again():
    step, state, arrays = case()
    library = Fake()
    run, (order,) = cuda_graph.runner(step, library, print), orders((4, 8))
    others = [tuple(map(np.copy, arrays)) for _ in range(3)]  # alive, so at places of their own
    now, _ = run(state(), arrays, order, 0.1)
    for other in others:
        now, _ = run(now, other, order, 0.1)
    assert library.captures == 1
    for _ in range(3):
        now, _ = run(now, others[1], order, 0.1)
    assert library.captures == 2
    now, _ = run(now, arrays, order, 0.1)  # and what was captured first is still there
    assert (library.captures, library.launches) == (2, 5)


def test_other_data_runs_by_the_kernels_that_are_captured():
    """Eager steps may round otherwise, and streamed data would not come to the same bits."""

    class Otherwise(Fake):
        def steps(self, step, state, *others):
            leaves(state)[0][...] = -1  # as a library that records the steps may leave it
            return lambda state, data, order, rate: eager.run(step, state, data, order, 0.9 * rate)

    step, state, arrays = case()
    chunks = orders((4, 8), (4, 8))
    other = tuple(map(np.copy, arrays))
    found = []
    for places in (arrays, arrays), (arrays, other):
        run, now = cuda_graph.runner(step, Otherwise(), print), state()
        for data_, order in zip(places, chunks, strict=True):
            now, total = run(now, data_, order, 0.1)
        found.append(([*map(np.copy, leaves(now))], float(total)))
    for one, expected in zip(found[1][0], found[0][0], strict=True):
        np.testing.assert_array_equal(one, expected)
    assert found[0][1] == found[1][1]


def test_data_that_never_come_to_the_same_place_are_reported():
    step, state, arrays = case()
    fallbacks = []
    run, (order,) = cuda_graph.runner(step, Fake(), fallbacks.append), orders((4, 8))
    alive = [tuple(map(np.copy, arrays)) for _ in range(2 * cuda_graph.KEPT)]
    for count, data in enumerate(alive):
        run(state(), data, order, 0.1)
        assert bool(fallbacks) == (count > cuda_graph.KEPT)
    assert set(fallbacks) == {"chunks run eagerly: their data have another address each time"}


def test_it_is_the_data_of_now_that_is_read_not_that_of_the_capture():
    step, state, arrays = case()
    run, (order,) = cuda_graph.runner(step, Fake(), print), orders((4, 8))
    run(state(), arrays, order, 0.1)
    arrays[0][...] = data(seed=5)[0]
    found, _ = run(state(), arrays, order, 0.1)
    expected, _ = eager.run(step, state(), arrays, order, np.float32(0.1))
    np.testing.assert_array_equal(leaves(found)[0], leaves(expected)[0])


def test_captures_are_kept_within_bounds(monkeypatch):
    monkeypatch.setattr(cuda_graph, "KEPT", 2)
    step, state, arrays = case()
    library = Fake()
    run = cuda_graph.runner(step, library, print)
    now = state()

    def at(steps):
        return run(now, arrays, orders((steps, 8))[0], 0.1)

    for steps in (1, 2, 1, 3):  # 2 is the longest unused then
        at(steps)
    assert (library.captures, library.launches) == (3, 4)
    at(1), at(3)
    assert (library.captures, library.launches) == (3, 6)
    at(2), at(2)
    assert (library.captures, library.launches) == (4, 7)


def fails(self, play):
    with contextlib.suppress(ZeroDivisionError):
        play()
    raise ArithmeticError("no capture\nand a page more")


def does_nothing(self, play):
    return lambda: None


def spoils(self, play):
    for _ in range(2):
        play()
    raise ArithmeticError("no capture")


@pytest.mark.parametrize(
    ("capture", "rate", "said"),
    [
        (fails, 0.1, r"\(ArithmeticError: no capture\)$"),
        (spoils, 0.1, r"\(ArithmeticError: no capture\)$"),
        (does_nothing, 0.1, r"\(a replay gives another result than the steps themselves\)$"),
        (does_nothing, 0.0, r"\(a replay gives another result than the steps themselves\)$"),
    ],
)
def test_what_cannot_be_captured_is_said_once_and_runs_eagerly(monkeypatch, capture, rate, said):
    monkeypatch.setattr(Fake, "capture", capture)
    step, state, arrays = case()
    rates = [np.asarray(rate, dtype=np.float32)] * 3
    chunks = orders((4, 8), (4, 8), (2, 8))
    expected = run_all(lambda *chunk: eager.run(step, *chunk), state(), arrays, chunks, rates)
    fallbacks = []
    run = cuda_graph.runner(step, Fake(), fallbacks.append)
    with pytest.warns(RuntimeWarning, match=said) as told:
        found = run_all(run, state(), arrays, chunks, rates)
    assert len(told) == 1
    assert fallbacks == [str(told[0].message)]
    assert "\n" not in str(told[0].message)
    for one, other in zip(found[0], expected[0], strict=True):
        np.testing.assert_array_equal(one, other)
    assert found[1] == expected[1]


def test_a_capture_is_blamed_on_the_first_error_in_it(monkeypatch):
    """CUDA says what was not permitted; to end the capture only says that it failed."""
    step, state, arrays = case()
    captures = []

    def refuse(*chunk):
        if captures:
            raise ValueError("not permitted in a capture")
        return step(*chunk)

    def capture(self, play):
        captures.append(play)
        try:
            play()
        finally:
            captures.clear()
            raise RuntimeError("the capture failed")

    monkeypatch.setattr(Fake, "capture", capture)
    with pytest.warns(RuntimeWarning, match=r"\(ValueError: not permitted in a capture\)"):
        cuda_graph.runner(refuse, Fake(), print)(state(), arrays, *orders((4, 8)), 0.1)


def test_an_error_of_the_steps_themselves_is_theirs():
    def step(*_):
        raise ZeroDivisionError("mine")

    _, state, arrays = case()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ZeroDivisionError, match="mine"):
            cuda_graph.runner(step, Fake(), print)(state(), arrays, *orders((4, 8)), 0.1)


def test_no_steps_and_a_loss_that_is_no_number():
    step, state, arrays = case()
    library = Fake()
    run = cuda_graph.runner(step, library, print)
    same, total = run(state(), arrays, np.zeros((0, 8), dtype=np.int64), 0.1)
    assert (total, library.captures) == (0, 0)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("error")
        _, total = run(same, arrays, *orders((4, 8)), float("inf"))  # diverges, and is captured
    assert not np.isfinite(float(total))
    assert library.captures == 1


@pytest.fixture
def cuda(monkeypatch):
    """Stand-ins on the CPU for what `torch.cuda` has for graphs; what was done with them."""
    require("torch")
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    done = types.SimpleNamespace(captures=0, replays=0, waits=[], pools=set(), entered=[])

    def tensors(result):
        several = result if isinstance(result, (list, tuple)) else [result]
        return [each for each in several if isinstance(each, torch.Tensor)]

    def memory(tensor):
        return tensor.untyped_storage().data_ptr()

    class Stream:
        device = "cpu"

        def __init__(self, device=None):
            pass

        def wait_stream(self, other):
            done.waits.append((self, other))

    class CUDAGraph:
        def replay(self):
            """Each call again, on the same arrays, its results into the same memory."""
            done.replays += 1
            for function, arguments, options, result in self.calls:
                values = tensors(function(*arguments, **options))
                for place, value in zip(tensors(result), values, strict=True):
                    if memory(place) != memory(value):
                        place.copy_(value)

    class Recording(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.calls, self.overwritten = [], []

        def __torch_dispatch__(self, function, kinds, arguments=(), options=None):
            if function is torch.ops.aten._local_scalar_dense.default:
                raise RuntimeError("not permitted when stream is capturing")
            for parameter, argument in zip(function._schema.arguments, arguments, strict=False):
                if parameter.alias_info is not None and parameter.alias_info.is_write:
                    self.overwritten.append((argument, argument.clone()))
            result = function(*arguments, **(options or {}))
            self.calls.append((function, arguments, options or {}, result))
            return result

        def undo(self):
            """A capture runs nothing: what it made is only a place, what it overwrote is not."""
            for array, value in reversed(self.overwritten):
                array.copy_(value)
            for _, arguments, _, result in self.calls:
                given = {memory(each) for argument in arguments for each in tensors(argument)}
                for place in tensors(result):
                    if memory(place) not in given and place.is_floating_point():
                        place.fill_(float("nan"))

    @contextlib.contextmanager
    def graph(cuda_graph, *, pool, stream, capture_error_mode):
        assert isinstance(stream, Stream)
        assert capture_error_mode == "thread_local"
        done.captures += 1
        done.pools.add(pool)
        try:
            with Recording() as recording:
                yield
        except RuntimeError:
            raise RuntimeError("the capture failed") from None
        recording.undo()
        cuda_graph.calls = recording.calls

    current = Stream()
    for name, stand_in in {
        "Stream": Stream,
        "stream": lambda stream: contextlib.nullcontext(done.entered.append(stream)),
        "current_stream": lambda device: current,
        "graph_pool_handle": lambda: "a pool",
        "CUDAGraph": CUDAGraph,
        "graph": graph,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    on_any_device = [replace(each, device="") for each in executors.EXECUTORS]
    monkeypatch.setattr(executors, "EXECUTORS", on_any_device)
    return done


@pytest.mark.parametrize("regularization", REGULARIZATIONS.values(), ids=REGULARIZATIONS)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_torch_trains_in_graphs_as_it_does_eagerly(cuda, rule, regularization):
    x, t = data()
    trained = []
    for executor in ("eager", "graph"):
        network = nnxp.MLP([6, 5, 3], backend=backends.get("torch", "cpu", executor))
        history = nnxp.train(
            network, x, t, epochs=3, batch_size=2, optimizer=rule, regularization=regularization,
            schedule=nnxp.schedules.Step(1),
        )  # fmt: skip
        assert history.fallbacks == []
        arrays = [to_numpy(array) for layer in network.parameters for array in layer]
        trained.append((arrays, [epoch.loss for epoch in history.epochs]))
    (expected, losses), (found, sums) = trained
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
    np.testing.assert_allclose(sums, losses, rtol=1e-6)
    # 101 whole batches are a chunk of 51 and one of 50, and one row is left.
    assert cuda.captures == 3
    assert cuda.replays == 9
    assert cuda.pools == {"a pool"}
    for (one, other), (back, forth) in zip(cuda.waits[::2], cuda.waits[1::2], strict=True):
        assert (one, other) == (forth, back)  # the side stream waits, then is waited for
    assert cuda.entered == [side for side, _ in cuda.waits[::2]]


def test_torch_tells_arrays_apart_by_where_and_how_they_lie(cuda):
    require("torch")
    import torch

    place, x = TorchGraph("cpu").place, torch.zeros(4, 4)
    assert place(x) == place(x[:, :])
    assert len({place(x), place(x.T), place(x[1:]), place(x.clone())}) == 4


def test_torch_that_cannot_capture_names_the_cause_and_goes_on(cuda):
    step, state, arrays = case(backend="torch")

    def reads(*arguments):
        state, loss = step(*arguments)
        assert float(loss) >= 0
        return state, loss

    opened = backends.get("torch", "cpu", "graph")
    run, (order,) = opened.runner(reads), orders((4, 8))
    order = opened.asarray(order)
    with pytest.warns(RuntimeWarning, match=r"\(RuntimeError: not permitted when stream is"):
        found, _ = run(state(), arrays, order, 0.1)
    expected, _ = backends.get("torch", "cpu", "eager").runner(step)(state(), arrays, order, 0.1)
    for one, other in zip(leaves(found), leaves(expected), strict=True):
        np.testing.assert_allclose(to_numpy(one), to_numpy(other), atol=1e-7)
    assert cuda.replays == 0


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("name", ["cupy", "torch"])
def test_on_a_gpu_graphs_train_as_eager_steps_do(name, rule):
    """Without a warning: then it was captured, and a replay came to the same bits."""
    require(name)
    kind = backends.backend_class(name)
    if "cuda:0" not in kind.devices() or "graph" not in executors.names(name, "cuda:0"):
        pytest.skip(f"{name} has no graphs here")
    x, t = data()
    trained = []
    for executor in ("eager", "graph"):
        # In float32 an L1 penalty and RMSprop make much of the rounding of weights near zero.
        backend = backends.get(name, "cuda", executor)
        network = nnxp.MLP([6, 5, 3], backend=backend, dtype="float64")
        options = {"regularization": REGULARIZATIONS["penalised"]}
        history = nnxp.train(network, x, t, epochs=3, batch_size=2, optimizer=rule, **options)
        assert history.fallbacks == []
        trained.append([to_numpy(array) for layer in network.parameters for array in layer])
    for expected, found in zip(*trained, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_torch_graphs_are_for_cuda_devices():
    require("torch")
    assert executors.names("torch", "cuda:1") == ("graph", "eager", "compiled")
    assert (
        executors.names("torch", "cpu") == executors.names("torch", "mps") == ("eager", "compiled")
    )
    assert {*executors.names("torch")} == {"eager", "compiled", "graph"}
    with pytest.raises(BackendError, match="no executor 'graph' on cpu; it has eager, compiled"):
        backends.get("torch", "cpu", "graph")

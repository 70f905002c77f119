import gc
import json
import logging
import pickle
import re
import shutil
import sys
import threading
import types
from functools import lru_cache

import numpy as np
import pytest
from conftest import require
from processes import python
from threadpoolctl import ThreadpoolController

import nnxp
from nnxp import MLP, SGD, Adam, BackendError, InputError, backends, train
from nnxp.arrays import device, to_numpy
from nnxp.backends import cupy as cupy_backend
from nnxp.backends import threads
from nnxp.data import batches
from nnxp.kernels import ACTIVATIONS


def test_numpy_is_the_default_and_the_environment_only_moves_it(monkeypatch):
    assert backends.get().name == "numpy"
    monkeypatch.setenv("NNXP_BACKEND", "array-api-strict")
    monkeypatch.setenv("NNXP_DEVICE", "device1")
    assert backends.get().device_name == "device1"
    assert MLP([2, 2]).backend.name == "array-api-strict"
    assert backends.get("numpy", "cpu").name == "numpy"


def test_names_are_forgiving_about_case_and_hyphens_only():
    assert backends.get("Array_API_strict").name == "array-api-strict"
    with pytest.raises(InputError, match="unknown backend 'nunpy': did you mean 'numpy'"):
        backends.get("nunpy")


def test_an_open_backend_is_taken_as_it_is(backend):
    assert backends.get(backend) is backend


def test_auto_takes_numpy_where_no_cuda_driver_answers(monkeypatch):
    monkeypatch.setattr(backends, "_cuda_driver_answers", lambda: False)
    assert backends.get("auto").describe().startswith("numpy ")


def test_auto_takes_the_first_library_that_reaches_the_gpu(monkeypatch):
    """Decisions only: the classes stand in for libraries that see a GPU, or do not."""
    asked = []

    def stand_in(name, reaches):
        def make(device, executor, tf32):
            asked.append((name, device, tf32))
            if not reaches:
                raise BackendError(f"{name} does not reach {device}")
            return types.SimpleNamespace(name=name, device_name=device)

        return make

    found = {"cupy": stand_in("cupy", False), "torch": stand_in("torch", True)}
    monkeypatch.setattr(backends, "_cuda_driver_answers", lambda: True)
    monkeypatch.setattr(backends, "backend_class", found.__getitem__)
    assert backends.get("auto").name == "torch"
    assert asked == [("cupy", "cuda", False), ("torch", "cuda", False)]
    backends.get("auto", tf32=True)
    assert asked[2:] == [("cupy", "cuda", True), ("torch", "cuda", True)]


def test_auto_with_a_cuda_device_never_falls_back(monkeypatch):
    def refuse(device, executor, tf32):
        raise BackendError("no")

    monkeypatch.setattr(backends, "backend_class", lambda name: refuse)
    with pytest.raises(BackendError, match="device 'cuda:1': none of cupy, torch, jax reaches it"):
        backends.get("auto", "cuda:1")


def test_a_missing_device_is_an_error_that_lists_those_there_are():
    with pytest.raises(BackendError, match="'numpy' has no device 'cuda' here; it has cpu"):
        backends.get("numpy", "cuda")


@pytest.mark.parametrize("name", ["cupy", "torch", "jax", "array-api-strict"])
def test_a_missing_library_is_an_error_that_says_what_to_install(name):
    module = {"array-api-strict": "array_api_strict"}.get(name, name)
    code = (
        f"import sys; sys.modules['{module}'] = None\n"
        "import nnxp\n"
        f"try: nnxp.backends.get('{name}')\n"
        "except nnxp.BackendError as error: print(error)"
    )
    done = python(code)
    assert done.stdout.startswith(f"backend '{name}' is not installed: pip install")


def test_cupy_without_a_driver_says_so(monkeypatch):
    driverless = types.ModuleType("cupy")
    driverless.__version__ = "14.2.0"
    driverless.is_available = lambda: False
    runtime = types.SimpleNamespace(driverGetVersion=lambda: 0, runtimeGetVersion=lambda: 13020)
    driverless.cuda = types.SimpleNamespace(runtime=runtime)
    monkeypatch.setitem(sys.modules, "cupy", driverless)
    with pytest.raises(BackendError, match="finds no CUDA device: install an NVIDIA driver"):
        backends.get("cupy")
    found = cupy_backend.CuPyBackend.availability()
    assert (found.version, found.devices) == ("14.2.0", ())
    runtime.driverGetVersion = lambda: 12040
    too_old = (
        r"is for CUDA 13\.2, and the NVIDIA driver here for CUDA up to 12\.4: update the driver"
    )
    with pytest.raises(BackendError, match=too_old + r", or install .*nnxp\[cuda12\]"):
        backends.get("cupy")


def test_a_cupy_wheel_for_another_cuda_says_so(monkeypatch, tmp_path):
    (tmp_path / "cupy.py").write_text("raise ImportError('libnvrtc.so.12: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    with pytest.raises(BackendError, match=r"does not import \(libnvrtc.so.12: cannot open\)"):
        backends.get("cupy")


def test_jax_refuses_float64_unless_told_to_compute_in_it(monkeypatch):
    require("jax")
    import jax

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(BackendError, match="set JAX_ENABLE_X64=1"):
            MLP([2, 2], dtype="float64", backend="jax")
        assert MLP([2, 2], backend="jax").predict([[0.0, 1.0]]).dtype == np.float32
    finally:
        jax.config.update("jax_enable_x64", before)


class CountingCompilations(logging.Handler):
    """The names of the functions that JAX compiles, while it is a context manager."""

    def __enter__(self):
        import jax

        self.names, self.logger = [], logging.getLogger("jax._src.interpreters.pxla")
        self.logging = jax.log_compiles()
        self.logging.__enter__()
        self.logger.addHandler(self)
        return self.names

    def __exit__(self, *error):
        self.logger.removeHandler(self)
        self.logging.__exit__(*error)

    def emit(self, record):
        if found := re.match(r"Compiling (?:jit\()?([\w<>]+)", record.getMessage()):
            self.names.append(found[1])


def trained_on_jax(width, **options):
    x, t = np.random.default_rng(0).random((40, 3)), np.arange(40) % 2
    network = MLP([3, width, 2], backend="jax")
    train(network, x, t, **{"epochs": 2, "batch_size": 8} | options)
    return network.predict(x)


def test_jax_compiles_a_network_shape_once_whatever_the_learning_rate():
    require("jax")
    for rule in (SGD, Adam):
        trained_on_jax(5, optimizer=rule(0.123), diagnose=True)
        with CountingCompilations() as compiled:
            trained_on_jax(5, optimizer=rule(0.01), diagnose=True, seed=1)
        assert compiled == []


def test_jax_compiles_few_programs_for_a_new_network_shape():
    require("jax")
    trained_on_jax(5)
    with CountingCompilations() as compiled:
        trained_on_jax(6)  # the steps, the sum of the parameters, the outputs
    assert len(compiled) == 3, compiled


def test_jax_compiles_few_programs_to_evaluate_a_new_shape():
    require("jax")
    with CountingCompilations() as compiled:
        MLP([3, 23, 2], backend="jax").evaluate(np.zeros((19, 3)), np.zeros(19, dtype=int))
    assert len(compiled) == 3, compiled  # the outputs, their check, the loss


@pytest.mark.parametrize(
    ("rows", "most", "lengths"),
    [(1600, 2048, {200}), (1603, 2048, {200, 1}), (1608, 60, {51, 50}), (1611, 60, {51, 50, 1})],
)
def test_jax_runs_an_epoch_in_few_long_chunks_and_compiles_each_length_once(
    rows, most, lengths, monkeypatch
):
    require("jax")
    monkeypatch.setattr(batches, "STEPS_PER_LONG_CHUNK", most)
    x, t = np.random.default_rng(0).random((rows, 3)), np.arange(rows) % 2
    calls = []
    with CountingCompilations() as compiled:
        for _ in range(2):
            train(
                MLP([3, 4, 2], backend="jax"), x, t, epochs=2, batch_size=8,
                progress=calls.append,
            )  # fmt: skip
    assert {-(-samples // 8) for samples in calls} == lengths
    assert sum(calls) == 4 * rows
    assert compiled.count("run") == len(lengths)


def test_jax_compiles_no_check_of_data():
    """XLA compiles for each shape, and NumPy can look at the same memory."""
    require("jax")
    x, t = np.random.default_rng(0).random((41, 3)), np.arange(41) % 2
    with CountingCompilations() as compiled:
        train(MLP([3, 5, 2], backend="jax"), x, t, epochs=1, batch_size=None)
    assert not [name for name in compiled if "sum" in name], compiled
    x[7, 1] = np.inf
    with pytest.raises(InputError, match="inf at row 7, column 1"):
        train(MLP([3, 5, 2], backend="jax"), x, t, epochs=1, batch_size=None)


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.bool_])
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (33, 7)])
def test_jax_copies_a_hosts_array_once(dtype, shape, monkeypatch):
    """XLA shares memory that is aligned, and copies other memory again."""
    require("jax")
    import jax

    given, put = [], jax.device_put
    monkeypatch.setattr(jax, "device_put", lambda x, *to: given.append(x) or put(x, *to))
    opened = backends.get("jax", "cpu")
    source = np.asfortranarray((np.random.default_rng(0).random(shape) * 9).astype(dtype))
    array, expected = opened.asarray(source), source.copy()
    if source.size:
        assert array.unsafe_buffer_pointer() == given[0].ctypes.data
        assert not np.shares_memory(given[0], source)
        source[...] = 0
    np.testing.assert_array_equal(np.asarray(array), expected)
    assert array.dtype == expected.dtype
    converted = opened.asarray(expected.astype(np.float64), dtype=opened.xp.float32)
    np.testing.assert_array_equal(np.asarray(converted), expected.astype(np.float32))


def test_jax_lets_go_of_programs_of_old_network_shapes(monkeypatch):
    require("jax")
    import jax

    from nnxp.backends import jax as jax_backend
    from nnxp.executors import jax_scan

    def programs():
        gc.collect()
        live = jax.devices("cpu")[0].client.live_executables()
        return sum(each.hlo_modules()[0].name in ("jit_run", "jit__lambda") for each in live)

    for module in (jax_backend, jax_scan):
        smaller = lru_cache(maxsize=4)(module._compiled.__wrapped__)
        monkeypatch.setattr(module, "_compiled", smaller)
    before = programs()
    for width in range(7, 13):
        trained_on_jax(width)
    assert programs() - before <= 8


def test_torch_compiles_more_than_eight_network_shapes():
    """Dynamo gives up at the ninth graph of one function."""
    require("torch")
    import torch

    from nnxp.executors import torch_compile

    def step(state, batch, rate):
        return (state[0] - rate,), batch[0].sum()

    run = torch_compile.runner(step, backends.get("torch", "cpu"), print)
    order = torch.zeros((1, 1), dtype=torch.int64)
    with pytest.MonkeyPatch.context() as patched:  # the same, but nothing is compiled to C++
        patched.setattr(torch_compile, "OPTIONS", {"backend": "eager"})
        for size in range(1, 12):
            state, _ = run((torch.ones(size),), (torch.ones(1, 1),), order, 0.5)
            assert state[0].tolist() == [0.5] * size


def test_availability_covers_every_backend():
    found = {each.name: each for each in backends.availability()}
    assert list(found) == list(backends.BACKENDS)
    assert found["numpy"].problem is None
    assert found["numpy"].version == np.__version__
    for each in found.values():
        assert bool(each.devices) == (each.problem is None)


def test_arrays_move_between_every_two_backends(library, backend):
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    moved = backend.asarray(library.asarray(x))
    assert device(moved) == backend.device
    np.testing.assert_array_equal(to_numpy(moved), x)


def test_a_copy_shares_nothing(backend):
    x = np.zeros(3, dtype=np.float32)
    copied = backend.asarray(x, copy=True)
    x[:] = 1
    assert not to_numpy(copied).any()


def test_arrays_in_the_other_byte_order_are_taken(backend):
    """As some files have them; PyTorch takes its own alone."""
    values = np.arange(6.0, dtype=">f8").reshape(2, 3)
    found = backend.asarray(values, dtype=backend.dtype("float32"))
    np.testing.assert_array_equal(to_numpy(found), values)


def test_torch_arrays_that_require_gradients_are_taken_without():
    require("torch")
    import torch

    x = torch.ones((2, 3), requires_grad=True)
    for name in ("torch", "numpy"):
        y = MLP([3, 2], backend=name).predict(x)
        assert isinstance(y, torch.Tensor)
        assert not y.requires_grad


@pytest.mark.parametrize("turn", [0, 1])
def test_a_broken_installation_is_told_from_a_missing_one(turn, tmp_path):
    """Whatever it raises, in a process of its own: and the others are still listed."""
    errors = ["RuntimeError('versions differ')", "OSError('no libcudart')"]
    names = ["cupy", "torch", "jax", "array-api-strict"]
    raised = {name: errors[(place + turn) % 2] for place, name in enumerate(names)}
    for name, error in raised.items():
        (tmp_path / f"{name.replace('-', '_')}.py").write_text(f"raise {error}")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import json, nnxp\n"
        "print(json.dumps({each.name: each.problem for each in nnxp.backends.availability()}))"
    )
    problems = json.loads(python(code).stdout)
    assert problems["numpy"] is None
    for name, error in raised.items():
        assert f"{name.replace('-', '_')} is installed but does not import" in problems[name]
        assert error.split("'")[1] in problems[name]


EXECUTORS = {"numpy": "replay", "torch": "eager", "jax": "jit", "array-api-strict": "eager"}


@pytest.mark.parametrize("name", EXECUTORS)
def test_each_backend_has_its_own_way_to_run_steps_and_eager(name):
    require(name)
    for asked in (None, "auto"):
        assert backends.get(name, "cpu", asked).executor == EXECUTORS[name]
    eagerly = backends.get(name, "cpu", "eager")
    assert eagerly.executor == "eager"
    assert pickle.loads(pickle.dumps(eagerly)).executor == "eager"
    with pytest.raises(BackendError, match=f"{name}' has no executor 'warp'; it has .*eager"):
        backends.get(name, executor="warp")


def test_an_open_backend_keeps_its_executor():
    opened = backends.get("numpy", executor="eager")
    assert backends.get(opened, executor="eager") is opened
    with pytest.raises(BackendError, match="open already"):
        backends.get(opened, executor="replay")


@pytest.mark.promise("same result")
@pytest.mark.parametrize("name", ["numpy", "jax"])
def test_executors_of_a_backend_agree(name):
    require(name)
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((50, 4)), rng.integers(0, 3, 50)
    trained = []
    for executor in ("eager", "auto"):
        network = nnxp.MLP([4, 6, 3], backend=backends.get(name, executor=executor))
        nnxp.train(network, x, t, epochs=2, batch_size=8, optimizer=nnxp.Adam(0.01))
        trained.append([to_numpy(array) for layer in network.parameters for array in layer])
    for expected, array in zip(*trained, strict=True):
        np.testing.assert_allclose(array, expected, atol=0 if name == "numpy" else 1e-6)


def blas_threads():
    return max(library.num_threads for library in threads._shared_libraries())


def give_blas(threads):
    """In a thread of its own: threadpoolctl lets no other set the limit as long as that lives."""
    pools = ThreadpoolController()
    worker = threading.Thread(target=lambda: pools.limit(limits=threads, user_api="blas"))
    worker.start()
    worker.join()


@pytest.mark.promise("threads")
def test_trainings_in_threads_leave_blas_as_many_threads_as_it_had(monkeypatch):
    """The first to begin ends first: what it found must not be restored before the other ends."""
    first_began, other_began, first_ended = (threading.Event() for _ in range(3))
    meanwhile = []

    def hook(name, began, awaited):
        forward, backward = ACTIVATIONS[name]

        def hooked(z):
            began.set()
            assert awaited.wait(30)
            meanwhile.append(blas_threads())
            return forward(z)

        monkeypatch.setitem(ACTIVATIONS, name, (hooked, backward))

    hook("tanh", first_began, other_began)
    hook("sigmoid", other_began, first_ended)

    def training(hidden):
        network = MLP([4, 3, 3], hidden, backend=backends.get("numpy", executor="eager"))
        nnxp.train(network, np.eye(4), [0, 1, 2, 0], epochs=1, batch_size=None)
        first_ended.set()

    if not threads._shared_libraries():
        pytest.skip("this NumPy's BLAS has a limit for each thread")
    before = blas_threads()
    give_blas(2)
    try:
        workers = [threading.Thread(target=training, args=[name]) for name in ("tanh", "sigmoid")]
        workers[0].start()
        assert first_began.wait(30)
        workers[1].start()
        for worker in workers:
            worker.join(60)
        assert meanwhile == [1, 1]
        assert blas_threads() == 2
    finally:
        give_blas(before)


@pytest.mark.promise("same result")
@pytest.mark.slow
@pytest.mark.parametrize("rule", [nnxp.SGD(0.1), nnxp.Adam(0.01)], ids=["sgd", "adam"])
def test_a_compiled_torch_step_agrees_with_an_eager_one(rule):
    require("torch")
    if shutil.which("g++") is None:
        pytest.skip("torch compiles by g++, which is not installed")
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((50, 40)), rng.integers(0, 3, 50)
    trained = []
    for executor in ("eager", "compiled"):
        network = nnxp.MLP([40, 6, 3], backend=backends.get("torch", executor=executor))
        history = nnxp.train(
            network, x, t, epochs=2, batch_size=8, optimizer=rule, schedule=nnxp.schedules.Step(1),
            regularization=nnxp.Regularization(l2=0.01, dropout=0.2),
        )  # fmt: skip
        assert [epoch.learning_rate for epoch in history.epochs][1] < rule.learning_rate
        trained.append([to_numpy(array) for layer in network.parameters for array in layer])
    for expected, array in zip(*trained, strict=True):
        np.testing.assert_allclose(array, expected, atol=1e-5)


def test_torch_that_cannot_compile_says_so_in_one_line(monkeypatch):
    require("torch")
    import torch

    def compile(function, **options):
        def run(*arguments):
            raise torch._dynamo.exc.TorchDynamoException("no g++\nand pages more")

        return run

    monkeypatch.setattr(torch, "compile", compile)
    network = nnxp.MLP([4, 3], backend=backends.get("torch", executor="compiled"))
    rule = nnxp.SGD(0.123)  # a step of its own: compiled ones are kept
    with pytest.raises(BackendError, match=r"\(no g\+\+\): install a C\+\+ compiler, or use"):
        nnxp.train(network, np.eye(4), [0, 1, 2, 0], epochs=1, batch_size=2, optimizer=rule)

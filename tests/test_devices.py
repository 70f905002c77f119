"""Devices, the precision of their products, and how they run out of memory.

`two_gpus` stands in for CuPy on a machine with two GPUs: it writes down which device was current
when something was computed, and what CuPy was told about TF32.

`gpus` are CuPy's own, where it finds two: `ci/cupy` emulates them.
"""

import copy
import pickle
import sys
import warnings
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
import stand_ins
from conftest import TEST_DEVICE, require
from stand_ins import DEFAULT, TF32

import nnxp
from nnxp import MLP, BackendError, Perceptron, backends, cli, gradcheck, train
from nnxp.arrays import to_numpy
from nnxp.backends.jax import JAXBackend
from nnxp.backends.torch import TorchBackend
from nnxp.benchmark import Result, table
from nnxp.benchmark.backend import Products, Trainer, entry
from nnxp.benchmark.measure import _compare
from nnxp.benchmark.workloads import Workload
from nnxp.executors.cublas import Cublas


@pytest.fixture
def two_gpus(monkeypatch):
    return stand_ins.install(monkeypatch, devices=2)


# --- which device


def test_whatever_is_made_on_cupy_is_made_on_the_device_that_was_asked_for(two_gpus):
    backend = backends.get("cupy", "cuda:1", "eager")
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((20, 3)).astype(np.float32), np.arange(20) % 2
    network = MLP([3, 4, 2], backend=backend, initializer="normal")
    train(network, x, t, epochs=2, batch_size=8, validation=0.3, diagnose=True,
          optimizer=nnxp.Adam(), regularization=nnxp.Regularization(l2=0.1, dropout=0.5),
          sample_weight=np.ones(20))  # fmt: skip
    network.predict(x)
    network.predict_classes(x)
    network.evaluate(x, t)
    network.loss_and_gradients(x, t)
    gradcheck(network, x[:4], t[:4], elements=2)
    neuron = Perceptron(3, backend=backend)
    neuron.train(x[:4], (x[:4, 0] > 0).astype(np.float32))
    neuron.predict(x)
    workload = Workload("test", (12, 8, 4), 16, chunk=4, samples=64)
    trainer = Trainer(workload, backend=backend)
    order = next(workload.orders())
    trainer.train(order)
    Products(backend, workload).train(order)
    assert {name for name, device, _ in two_gpus.made} > {"asarray", "take", "zeros", "matmul"}
    assert {name for name, device, _ in two_gpus.made if device != 1} == set()
    assert two_gpus.current == 0


def test_the_callers_device_is_current_again_after_an_error(two_gpus):
    backend = backends.get("cupy", "cuda:1", "eager")
    with suppress(ZeroDivisionError), backend.active(), backend.active():
        assert two_gpus.current == 1
        raise ZeroDivisionError
    assert two_gpus.current == 0


def test_a_perceptron_begins_on_its_device():
    neuron = Perceptron(2, backend=backends.get("array-api-strict", "device1"))
    assert str(neuron.weight.device) == str(neuron.bias.device) == str(neuron.backend.device)


# --- two GPUs


@pytest.fixture(params=["graph", "eager"])
def gpus(request):
    """The backends of cuda:0 and cuda:1; cuda:0 is current."""
    require("cupy")
    import cupy

    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("cupy finds one GPU")
    # CuPy 14.2 tells memory hooks of the device on which a pool was first used, whatever the
    # memory's is, and by such a hook the emulation poisons memory, on that device's stream.
    cupy.get_default_memory_pool().used_bytes()
    pools = [cupy.cuda.MemoryPool() for _ in range(2)]
    with cupy.cuda.using_allocator(lambda size: pools[cupy.cuda.runtime.getDevice()].malloc(size)):
        yield [backends.get("cupy", f"cuda:{i}", request.param) for i in range(2)]


SAMPLES = np.random.default_rng(0).standard_normal((60, 5))
CLASSES = np.arange(60) % 3


def trained(backend, x=SAMPLES, **options):
    """A network and its losses, in float64."""
    network = MLP([5, 4, 3], dtype="float64", backend=backend)
    options = {"optimizer": nnxp.Adam(0.01), "epochs": 2, "batch_size": 16} | options
    history = train(network, x, CLASSES, **options)
    assert history.fallbacks == []
    return network, [epoch.loss for epoch in history.epochs]


close = partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12)


def late(backend, x):
    """`x` on a device, which may not have computed it yet."""
    with backend.active():
        return backend.xp.asarray(2 * x) / 2


def test_gpus_train_one_after_the_other_and_in_turn(gpus):
    options = {"validation": 0.2, "regularization": nnxp.Regularization(l2=0.01, dropout=0.3)}
    _, expected = trained("numpy", **options)
    for backend in (*gpus, *gpus):
        close(trained(backend, **options)[1], expected)
    others = []

    def meanwhile(network, history):
        others.append(trained(gpus[0], **options)[1])

    close(trained(gpus[1], callbacks=[meanwhile], **options)[1], expected)
    close(others, [expected, expected])


def test_data_of_another_gpu_is_taken_in_order(gpus):
    """CuPy's own copy does not wait for what the other device computes."""
    expected, losses = trained("numpy", validation=(SAMPLES, CLASSES))
    here, there = gpus
    x = late(here, SAMPLES)
    network, found = trained(there, x, validation=(late(here, SAMPLES), CLASSES))
    close(found, losses)
    close(trained(there, late(here, SAMPLES), stream=True)[1], losses)
    for backend in gpus:
        outputs = network.predict(late(backend, SAMPLES))
        assert outputs.device == backend.device
        close(to_numpy(outputs), expected.predict(SAMPLES))
    moved = MLP([5, 4, 3], dtype="float64", backend=here, parameters=network.parameters)
    close(to_numpy(moved.predict(x)), expected.predict(SAMPLES))


def test_data_of_another_gpu_may_have_gaps(gpus):
    """CuPy does not copy such arrays between devices."""
    expected, losses = trained("numpy")
    x = late(gpus[0], np.repeat(SAMPLES, 2, axis=1))[:, ::2]
    network, found = trained(gpus[1], x)
    close(found, losses)
    close(to_numpy(network.predict(x)), expected.predict(SAMPLES))


def test_a_gpu_is_read_while_a_stream_of_another_is_current(gpus, tmp_path):
    """CuPy's `get` copies on the current device's stream, which does not wait for the other's."""
    import cupy

    values = [(np.full((5, 3), 0.5), np.ones(3))]
    with cupy.cuda.Stream(non_blocking=True):
        network = MLP([5, 3], dtype="float64", backend=gpus[1])
        network.parameters = values
        network.save(tmp_path / "model.safetensors")
    network = MLP.load(tmp_path / "model.safetensors", "numpy")
    np.testing.assert_array_equal(network.parameters[0][0], values[0][0])


@pytest.mark.parametrize("again", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy])
def test_what_is_pickled_comes_back_to_its_gpu(gpus, again):
    network, _ = trained(gpus[1])
    copied = again(network)
    assert copied.parameters[0][0].device == gpus[1].device
    np.testing.assert_array_equal(copied.predict(SAMPLES), network.predict(SAMPLES))
    neuron = Perceptron(5, backend=gpus[1])
    neuron.train(SAMPLES, SAMPLES[:, 0] > 0)
    copied = again(neuron)
    assert copied.weight.device == copied.bias.device == gpus[1].device
    np.testing.assert_array_equal(copied.predict(SAMPLES), neuron.predict(SAMPLES))


def test_a_cublas_handle_is_destroyed_on_its_gpu(gpus, monkeypatch):
    import cupy

    devices, close = [], Cublas.close

    def closed(self):
        devices.append(cupy.cuda.runtime.getDevice())
        close(self)

    monkeypatch.setattr(Cublas, "close", closed)
    for backend in gpus:
        trained(backend)
    assert devices == ([0, 1] if gpus[0].executor == "graph" else [])


# --- TF32


@pytest.mark.parametrize("callers", [DEFAULT, TF32])
@pytest.mark.parametrize("asked", [False, True])
def test_cupy_multiplies_as_was_asked_whatever_the_caller_set(two_gpus, callers, asked):
    """CUPY_TF32=1 is such a setting."""
    backend = backends.get("cupy", "cuda:1", "eager", tf32=asked)
    two_gpus.compute_type = callers
    network = MLP([3, 4, 2], backend=backend)
    train(network, np.eye(3), [0, 1, 0], epochs=1, batch_size=2)
    network.predict(np.eye(3))
    assert {kind for _, _, kind in two_gpus.made} == {TF32 if asked else DEFAULT}
    with suppress(ZeroDivisionError), backend.active():
        raise ZeroDivisionError
    assert two_gpus.compute_type == callers


def cuda_torch(monkeypatch, **options):
    """A backend for a GPU that need not be there: nothing is computed on it."""
    require("torch")
    monkeypatch.setattr(TorchBackend, "devices", classmethod(lambda cls: ("cuda:0", "cpu")))
    monkeypatch.setattr(TorchBackend, "has_tf32", lambda self: self.device_name != "cpu")
    return backends.get("torch", "cuda", **options)


@pytest.fixture
def torch_settings():
    """What torch says of float32 products, in every way there is; set back afterwards."""
    require("torch")
    import torch

    matmul, older = torch.backends.cuda.matmul, torch.get_float32_matmul_precision
    places = [matmul, torch.backends.mkldnn.matmul] if hasattr(matmul, "fp32_precision") else []
    before = older(), [place.fp32_precision for place in places]

    def told():
        try:
            return older(), *(place.fp32_precision for place in places)
        except RuntimeError:  # the two ways contradict each other
            return "mixed", *(place.fp32_precision for place in places)

    yield told
    torch.set_float32_matmul_precision(before[0])
    for place, setting in zip(places, before[1], strict=True):
        place.fp32_precision = setting


def newer(precision):
    """Set as from torch 2.9 on."""

    def set_it(torch):
        if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
            pytest.skip("this torch has the older way alone")
        torch.backends.cuda.matmul.fp32_precision = precision

    return set_it


CALLERS = {
    "untouched": lambda torch: None,
    "highest": lambda torch: torch.set_float32_matmul_precision("highest"),
    "high": lambda torch: torch.set_float32_matmul_precision("high"),
    "medium": lambda torch: torch.set_float32_matmul_precision("medium"),
    "allow_tf32": lambda torch: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
    "fp32_precision tf32": newer("tf32"),
    "fp32_precision ieee": newer("ieee"),
}


@pytest.mark.parametrize("callers", CALLERS)
@pytest.mark.parametrize("asked", [False, True])
def test_torch_multiplies_as_was_asked_whatever_the_caller_set(
    monkeypatch, torch_settings, callers, asked
):
    backend = cuda_torch(monkeypatch, tf32=asked)
    import torch

    CALLERS[callers](torch)
    before = torch_settings()
    with suppress(ZeroDivisionError), backend.active(), backend.active():
        assert torch.backends.cuda.matmul.allow_tf32 is asked
        assert torch.get_float32_matmul_precision() == ("high" if asked else "highest")
        assert torch_settings()[1:2] in ((), ("tf32" if asked else "ieee",))
        raise ZeroDivisionError
    assert torch_settings() == before


def test_a_torch_that_deprecates_its_older_way_is_not_heard(monkeypatch, torch_settings):
    """As 2.9 does: once in a process, when it is called first."""
    import torch

    heard = []
    set_it = torch.set_float32_matmul_precision

    def deprecated(precision):
        if not heard:
            heard.append(precision)
            warnings.warn("Please use the new API settings", stacklevel=2)
        set_it(precision)

    monkeypatch.setattr(torch, "set_float32_matmul_precision", deprecated)
    before = torch_settings()
    with cuda_torch(monkeypatch).active():
        assert heard
    assert torch_settings() == before


def test_torch_on_a_cpu_is_left_as_the_caller_has_it(torch_settings):
    import torch

    torch.set_float32_matmul_precision("high")
    before = torch_settings()
    with backends.get("torch", "cpu").active():
        assert torch_settings() == before


def test_jax_multiplies_as_was_asked_whatever_the_caller_set(monkeypatch):
    """Seen in what XLA is given; under another precision the same function is compiled anew."""
    require("jax")
    import jax

    monkeypatch.setattr(JAXBackend, "has_tf32", lambda self: True)
    x = np.ones((4, 4), dtype=np.float32)
    square = jax.jit(lambda x: x @ x)
    for asked in (False, True):
        backend = backends.get("jax", "cpu", tf32=asked)
        with jax.default_matmul_precision("bfloat16"):
            with suppress(ZeroDivisionError), backend.active():
                square(x)
                given = square.lower(x).as_text()
                raise ZeroDivisionError
            assert jax.config.jax_default_matmul_precision == "bfloat16"
        assert ("[HIGH, HIGH]" if asked else "[HIGHEST, HIGHEST]") in given
    assert square._cache_size() == 2


@pytest.mark.parametrize("name", ["cupy", "torch", "jax"])
def test_tf32_is_off_until_it_is_asked_for(name):
    """On a GPU: the error of a product tells in how many bits it was computed."""
    require(name)
    if name != "cupy" and TEST_DEVICE == "cpu":
        pytest.skip("needs NNXP_TEST_DEVICE=cuda")
    if not backends.get(name, "cuda").has_tf32():
        pytest.skip("this GPU has no TF32")
    x = np.random.default_rng(0).standard_normal((512, 512), dtype=np.float32)
    exact = x.astype(np.float64) @ x.astype(np.float64)

    def square(x):
        return x @ x

    errors = []
    for asked in (False, True, False):
        backend = backends.get(name, "cuda", tf32=asked)
        given = backend.asarray(x)
        with backend.active():
            found = [to_numpy(f(given)) for f in (square, backend.compiled(square))]
        errors.append([np.linalg.norm(y - exact) / np.linalg.norm(exact) for y in found])
    full, short, again = np.asarray(errors)
    assert (full < 1e-5).all()
    assert (short > 1e-5).all()
    assert (short < 1e-2).all()
    assert (again < 1e-5).all()


@pytest.mark.parametrize("name", ["numpy", "array-api-strict", "torch", "jax"])
def test_a_cpu_has_no_tf32(name):
    require(name)
    with pytest.raises(BackendError, match=f"^{name} .* has no TF32 on cpu: leave --tf32 out"):
        backends.get(name, "cpu", tf32=True)
    assert backends.get(name, "cpu", tf32=False).tf32 is False


def test_nor_has_a_gpu_before_ampere(two_gpus):
    two_gpus.capability[1] = "75"
    assert backends.get("cupy", "cuda:0", "eager", tf32=True).tf32
    with pytest.raises(BackendError, match=r"no TF32 on cuda:1: .* compute capability 8.0 or"):
        backends.get("cupy", "cuda:1", "eager", tf32=True)


def test_auto_that_finds_no_gpu_does_not_pass_over_tf32(monkeypatch):
    monkeypatch.setattr(backends, "_cuda_driver_answers", lambda: False)
    with pytest.raises(BackendError, match=r"^numpy .* has no TF32"):
        backends.get("auto", tf32=True)


def test_an_open_backend_keeps_its_precision(two_gpus):
    plain, short = (backends.get("cupy", "cuda:1", "eager", tf32=tf32) for tf32 in (None, True))
    assert backends.get(short) is backends.get(short, tf32=True) is short
    assert backends.get(plain, tf32=False) is plain
    with pytest.raises(BackendError, match="open already, with TF32"):
        backends.get(short, tf32=False)
    with pytest.raises(BackendError, match="open already, without TF32"):
        backends.get(plain, tf32=True)
    again = pickle.loads(pickle.dumps(short))
    assert (again.device_name, again.executor, again.tf32) == ("cuda:1", "eager", True)
    assert short.describe() == "cupy 14.2.0 on cuda:1, TF32"
    assert plain.describe() == "cupy 14.2.0 on cuda:1"


def command(monkeypatch, capsys, *arguments):
    """Status, output and errors of `nnxp ARGUMENTS` in this process."""
    monkeypatch.setattr(sys, "argv", ["nnxp", *arguments])
    with pytest.raises(SystemExit) as done:
        cli.main()
    return done.value.code, *capsys.readouterr()


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--epochs", "1", "--executor", "eager", "--overwrite"],
        ["evaluate", "model.safetensors"],
        ["predict", "model.safetensors", "digits"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_commands_take_tf32_or_refuse_it(two_gpus, tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    MLP([64, 10], backend="numpy").save("model.safetensors")
    on_gpu = [*arguments, "--backend", "cupy", "--device", "cuda:1"]
    for flags, kind in (["--tf32"], TF32), (["--no-tf32"], DEFAULT), ([], DEFAULT):
        two_gpus.made.clear()
        status, _, errors = command(monkeypatch, capsys, *on_gpu, *flags)
        assert (status, errors) == (0, "")
        assert {kind for _, device, kind in two_gpus.made if device == 1} == {kind}
    status, _, errors = command(monkeypatch, capsys, *arguments, "--backend", "numpy", "--tf32")
    assert status == 2
    assert errors == (
        f"nnxp: numpy {np.__version__} has no TF32 on cpu: leave --tf32 out, or take a CUDA "
        "device of compute capability 8.0 or more\n"
    )


def test_a_benchmark_uses_tf32_where_there_is_any_and_says_where(two_gpus):
    workload = Workload("test", (12, 8, 4), 16, chunk=4, samples=64)
    rows = {}
    for name in ("numpy:eager", "cupy:eager"):
        for asked in (False, True):
            given = entry(name, "cuda:1", asked)
            trainer = Trainer(workload, given.device, **given.options)
            assert trainer.floor().backend.tf32 is trainer.backend.tf32
            rows[name, asked] = table.settings(Result(name, "", 1, describe=trainer.describe()))
    assert {key for key, row in rows.items() if "TF32 on" in row} == {("cupy:eager", True)}
    assert sum("TF32 off" in row for row in rows.values()) == 3


def test_a_row_says_tf32_on_or_off():
    for tf32, said in (True, "TF32 on"), (False, "TF32 off"):
        described = {"dtype": "float32", "tf32": tf32}
        assert table.settings(Result("cupy", "", 1, describe=described)).endswith(
            f": float32, {said}"
        )


def test_losses_in_tf32_may_differ_by_what_tf32_makes_of_them():
    def verdict(loss, reference_tf32, tf32):
        results = [Result("a", "", 1, loss=2.0, describe={"tf32": reference_tf32}),
                   Result("b", "", 1, loss=loss, describe={"tf32": tf32})]  # fmt: skip
        _compare(results)
        return results[1].verdict

    assert verdict(2.001, False, False) == "wrong"
    assert verdict(2.001, False, True) == verdict(2.001, True, False) == "equal"
    assert verdict(2.003, True, True) == "wrong"


@pytest.mark.slow
def test_the_bench_command_takes_tf32(tmp_path, monkeypatch, capsys):
    given = []

    def measure(workload, entries, **options):
        given.extend((each.name, each.options["tf32"]) for each in entries)
        return [Result(each.name, workload.name, 1, problem="not run") for each in entries]

    monkeypatch.setattr("nnxp.cli.bench.measure", measure)
    monkeypatch.chdir(tmp_path)
    for flags in ["--tf32"], ["--no-tf32"], []:
        bench = ["bench", "--workload", "tiny", "--backends", "cupy", *flags]
        assert command(monkeypatch, capsys, *bench)[0] == 0
    on, off = [("numpy", True), ("cupy", True)], [("numpy", False), ("cupy", False)]
    assert given == [*on, *off, *off]


# --- devices that are not there


@pytest.mark.parametrize("device", ["cuda:9", "cuda:x", "gpu", "cpu"])
def test_cupy_names_the_device_and_those_there_are(two_gpus, device):
    message = f"^backend 'cupy' has no device '{device}' here; it has cuda:0, cuda:1"
    with pytest.raises(BackendError, match=message) as raised:
        backends.get("cupy", device)
    assert ("a GPU is called cuda" in str(raised.value)) == (device == "gpu")


def test_numpy_says_who_reaches_gpus():
    with pytest.raises(BackendError, match="it has cpu; backends cupy, torch and jax reach GPUs"):
        backends.get("numpy", "cuda:1")


@pytest.mark.parametrize(
    ("cuda", "said"), [(None, "built without CUDA: https"), ("13.0", "no driver for CUDA 13.0")]
)
def test_torch_says_whether_it_or_the_driver_lacks_cuda(monkeypatch, cuda, said):
    require("torch")
    import torch

    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)  # counted without the driver
    with pytest.raises(BackendError, match=f"no device 'cuda' here; it has cpu.*; .*{said}"):
        backends.get("torch", "cuda")


def test_jax_says_why_it_reaches_no_gpu(monkeypatch):
    require("jax")
    import jax

    def devices(platform):
        if platform == "cuda":
            raise RuntimeError("Unknown backend cuda. Available backends are ['cpu']\nand more")
        return ["a cpu"]

    monkeypatch.setattr(jax, "devices", devices)
    plugin = r"it has cpu \(Unknown backend cuda.*\['cpu'\]\); pip install \"jax\[cuda13\]\""
    monkeypatch.setattr(type(jax.config), "jax_platforms", None)
    with pytest.raises(BackendError, match=plugin):
        backends.get("jax", "cuda")
    monkeypatch.setattr(type(jax.config), "jax_platforms", "cpu")
    with pytest.raises(BackendError, match="JAX_PLATFORMS=cpu keeps jax from others: unset it"):
        backends.get("jax", "cuda")


@pytest.mark.parametrize("error", [RuntimeError("Unknown backend"), AssertionError()])
def test_jax_without_any_device_says_so(monkeypatch, error):
    require("jax")
    import jax

    def devices(backend):
        raise error

    monkeypatch.setattr(jax, "local_devices", devices)
    monkeypatch.setattr(type(jax.config), "jax_platforms", "cuda")
    with pytest.raises(BackendError, match="no device with JAX_PLATFORMS=cuda: unset it"):
        backends.get("jax")
    assert JAXBackend.availability().devices == ()


def test_cupy_without_the_libraries_of_cuda_says_so(two_gpus, monkeypatch):
    def missing():
        raise RuntimeError('Failure finding "libnvrtc.so.13"\nand pages more')

    libraries = sys.modules["cupy_backends.cuda.libs"]
    monkeypatch.setattr(libraries.nvrtc, "getVersion", missing)
    found = r'not the libraries of CUDA \(Failure finding "libnvrtc.so.13"\): .* pip install "nnxp'
    with pytest.raises(BackendError, match=found):
        backends.get("cupy")
    monkeypatch.delattr(libraries, "cublas")
    # Else the import finds that of the real CuPy, where another test has imported it.
    monkeypatch.delitem(sys.modules, "cupy_backends.cuda.libs.cublas", raising=False)
    with pytest.raises(BackendError, match=r"not the libraries of CUDA .*cublas"):
        backends.get("cupy")


# --- out of memory

TOO_MANY = 10**15
"""Elements: more than any machine has room for."""


@pytest.mark.parametrize("name", ["numpy", "array-api-strict", "torch", "jax", "cupy"])
def test_out_of_memory_is_one_line_that_says_where_and_how_much(name):
    """The library's own refusal, on this machine."""
    require(name)
    device = {"cupy": "cuda", "torch": TEST_DEVICE, "jax": TEST_DEVICE}.get(name, "cpu")
    backend = backends.get(name, device)
    with pytest.raises(BackendError) as raised, backend.active():
        # Read at once: some libraries refuse when they compute, and not when they are asked.
        to_numpy(backend.xp.ones(TOO_MANY, dtype=backend.xp.float32, device=backend.device))
    text = str(raised.value)
    assert text.startswith(f"{backend.describe()} is out of memory (")
    assert "wanted" in text
    assert "take a smaller --batch-size" in text
    assert "\n" not in text
    assert raised.value.__cause__ is not None


def test_asarray_that_finds_no_room_says_so_too():
    backend = backends.get("numpy")
    huge = np.broadcast_to(np.float32(1), TOO_MANY)
    with pytest.raises(BackendError, match=r"on cpu is out of memory \(3.55 PiB wanted\): take"):
        backend.asarray(huge, copy=True)


SAID = {
    "cupy": [
        (MemoryError, "Out of memory allocating 1,073,741,824 bytes (allocated so far: 0 bytes).",
         "1,073,741,824 bytes wanted"),
        (RuntimeError, "cudaErrorMemoryAllocation: out of memory", None),
        (RuntimeError, "CUDA_ERROR_OUT_OF_MEMORY: out of memory", None),
        (RuntimeError, "CUBLAS_STATUS_ALLOC_FAILED", None),
    ],
    "torch": [
        (RuntimeError, "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total "
         "capacity of 79.10 GiB of which 1.20 GiB is free. Including non-PyTorch memory, ...",
         "20.00 GiB wanted"),
        (RuntimeError, "CUDA error: out of memory\nCUDA kernel errors might be ...", None),
        (RuntimeError, "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`", None),
        (RuntimeError, "MPS backend out of memory (MPS allocated: 9.05 GB, other allocations: "
         "5 MB, max allowed: 9.07 GB). Tried to allocate 256 bytes on private pool.",
         "256 bytes wanted"),
    ],
    "jax": [
        (RuntimeError, "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 4000000000 "
         "bytes.", "4000000000 bytes wanted"),
        (RuntimeError, "RESOURCE_EXHAUSTED: Failed to allocate request for 3.73GiB (4000000000B) "
         "on device ordinal 0", "3.73GiB wanted"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind", "said", "wanted"),
    [(name, *each) for name, cases in SAID.items() for each in cases],
)
def test_every_librarys_way_of_saying_it_is_understood(name, kind, said, wanted):
    backend = backends.backend_class(name).__new__(backends.backend_class(name))
    vars(backend).update(version="1", device_name="cuda:1", tf32=False, context=suppress)
    vars(backend).update(free_memory=lambda: 12 * 10**8)
    with pytest.raises(BackendError) as raised, backend.active():
        raise kind(said)
    assert str(raised.value) == (
        f"{name} 1 on cuda:1 is out of memory ({wanted or said.splitlines()[0]}, 1.2 GB "
        "free): take a smaller --batch-size, network or data set, or another --device"
    )


def test_a_device_that_does_not_answer_is_still_named(two_gpus, monkeypatch):
    def dead(self):
        raise RuntimeError("cudaErrorLaunchFailure")

    backend = backends.get("cupy", "cuda:1", "eager")
    monkeypatch.setattr(type(backend), "free_memory", dead)
    message = r"cuda:1 is out of memory \(MemoryError\): take"
    with pytest.raises(BackendError, match=message), backend.active():
        raise MemoryError


def test_other_errors_are_not_taken_for_it(backend):
    for error in (RuntimeError("cudaErrorLaunchFailure"), ValueError("out of memory")):
        with pytest.raises(type(error)) as raised, backend.active():
            raise error
        assert raised.value is error
    refused = BackendError("another way to say: out of memory, RESOURCE_EXHAUSTED")
    with pytest.raises(BackendError) as raised, backend.active():
        raise refused
    assert raised.value is refused


def test_training_that_runs_out_of_memory_ends_the_command_with_one_line(
    two_gpus, tmp_path, monkeypatch, capsys
):
    def full(x, weight, bias):
        raise MemoryError("Out of memory allocating 512 bytes (allocated so far: 0 bytes).")

    monkeypatch.setattr("nnxp.network.affine", full)
    monkeypatch.chdir(tmp_path)
    status, _, errors = command(monkeypatch, capsys, "train", "--backend", "cupy", "--device",
                                "cuda:1", "--executor", "eager", "--epochs", "1")  # fmt: skip
    assert status == 2
    assert errors == (
        "nnxp: cupy 14.2.0 on cuda:1 is out of memory (512 bytes wanted, 1.0 GB free): "
        "take a smaller --batch-size, network or data set, or another --device\n"
    )
    assert two_gpus.current == 0


def test_a_network_that_the_host_has_no_room_for_ends_likewise(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    wide = ["train", "--backend", "numpy", "--hidden", "10000000000000"]
    status, _, errors = command(monkeypatch, capsys, *wide)
    assert status == 2
    assert errors.startswith("nnxp: out of memory (Unable to allocate ")
    assert errors.endswith("): choose smaller sizes or batches\n")

"""The CUDA kernels of cupy, compiled and launched, against NumPy."""

import ctypes
import importlib.util
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import require
from hypothesis import given, settings
from test_fusion import LIBRARY, programs, recorded

import nnxp
from nnxp import SGD, Adam, objectives
from nnxp.executors import cuda_source, cupy_graph, fusion
from nnxp.executors.cuda_kernels import Kernel, is_better, split_totals
from nnxp.executors.recording import Call, Program
from nnxp.state import first_state
from nnxp.step import training_step

DTYPES = ["float32", "float64", "int32", "int64", "uint8", "bool"]
INTEGERS = {"bitwise_and", "bitwise_or", "bitwise_xor", "left_shift", "right_shift"}
LOGICAL = {"logical_and", "logical_not", "logical_or"}


@pytest.fixture
def calls():
    require("cupy")
    reports = []
    found = cupy_graph.Calls(None, reports.append)
    yield found
    assert reports == []


def _never(reads, writes):
    """Make the call of CuPy that a kernel replaces."""
    return pytest.fail, ("run one by one",)


def run(calls, recorded_calls, read_later):
    """Compile the calls and run them once; return the number of kernels."""
    made = calls.fused(recorded_calls, read_later)
    for function, arguments in made:
        function(*arguments)
    return len(made)


def operands(dtype, count, size=24):
    """Numbers of every kind, those that are not finite among them."""
    rng = np.random.default_rng(count)
    if dtype == "bool":
        return [rng.random(size) > 0.5 for _ in range(count)]
    if not dtype.startswith("float"):
        low, high = (0, 30) if dtype == "uint8" else (-9, 30)
        return [rng.integers(low, high, size).astype(dtype) for _ in range(count)]
    values = [rng.standard_normal(size).astype(dtype) * 3 for _ in range(count)]
    special = [0.0, -0.0, np.nan, np.inf, -np.inf, 1e-30, 80.0]
    for shift, each in enumerate(values):
        each[: len(special)] = np.roll(special, shift)
    return values


@pytest.mark.parametrize("name", cuda_source.ELEMENTWISE)
def test_cupy_kernels_compute_what_numpy_does(calls, name):
    cupy = calls.module
    function = {"copy": np.copy, "where": np.where}.get(name) or getattr(np, name)
    tried = 0
    for dtype in DTYPES:
        floating = dtype.startswith("float")
        if (
            (name in cuda_source.FLOATING and not floating)
            or (name in INTEGERS and (floating or (dtype == "bool" and "shift" in name)))
            or (name in LOGICAL) != (dtype == "bool")
        ) and name not in ("copy", "where", "equal", "not_equal"):
            continue
        reads = operands(dtype, _count(name))
        if "shift" in name:
            reads[1] = np.abs(reads[1]) % 8
        if name == "where":
            reads[0] = reads[0] > 1 if dtype != "bool" else reads[0]
        with np.errstate(all="ignore"):
            expected = function(*reads)
        on_device = [cupy.asarray(each.reshape(4, 6)) for each in reads]
        out, again = (cupy.zeros((4, 6), expected.dtype) for _ in range(2))
        run(calls, [
            Call(_never, tuple(on_device), out, name),
            Call(_never, (out,), again, "copy"),  # one call alone is CuPy's own
        ], [out, again])  # fmt: skip
        for each in out, again:
            found = cupy.asnumpy(each).reshape(-1)
            assert found.dtype == expected.dtype
            if floating and expected.dtype.kind == "f":
                tolerance = 4 * np.finfo(dtype).eps
                np.testing.assert_allclose(found, expected, rtol=tolerance, atol=1e-44)
            else:
                np.testing.assert_array_equal(found, expected)
        tried += 1
    assert tried


def _count(name):
    return 1 + max(k for k in range(3) if f"{{{k}}}" in cuda_source.ELEMENTWISE[name])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", cuda_source.REDUCTIONS)
@pytest.mark.parametrize(
    "shape", [(1, 1), (3, 1), (1, 7), (5, 33), (100, 9), (9, 100), (3000, 3), (2, 5000)]
)
def test_cupy_kernels_reduce_as_numpy_does(calls, name, shape, dtype):
    cupy = calls.module
    rng = np.random.default_rng(0)
    for x in (
        rng.standard_normal(shape).astype(dtype),
        rng.standard_normal(shape[::-1]).T.astype(dtype, order="F"),
    ):
        for axis in 0, 1, None:
            expected = getattr(np, name)(x.astype(np.longdouble), axis=axis)
            a = cupy.asarray(x)
            out = cupy.zeros(expected.shape, dtype)
            axes = (0, 1) if axis is None else (axis,)
            make = partial(calls.reduction, name, axis, False)
            made = run(calls, [Call(make, (a,), out, name, axes)], [out])
            assert made == 1 or axis is None
            eps = np.finfo(dtype).eps
            np.testing.assert_allclose(cupy.asnumpy(out), expected, rtol=0,
                                       atol=x.size**0.5 * eps * abs(x).max())  # fmt: skip
    x[0, 0] = np.nan
    a, out = cupy.asarray(x), cupy.zeros(shape[1], dtype)
    run(calls, [Call(partial(calls.reduction, name, 0, False), (a,), out, name, (0,))], [out])
    assert np.isnan(cupy.asnumpy(out)).tolist() == [True] + [False] * (shape[1] - 1)


def test_cupy_gathers_rows_of_any_layout(calls):
    cupy = calls.module
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 7)).astype(np.float32)
    rows = rng.permutation(50)[:20]
    data = [
        cupy.asarray(x), cupy.asarray(x, order="F"), cupy.asarray(x)[:, ::2],
        cupy.asarray(np.arange(50)), cupy.asarray(x[:, 0] > 0), cupy.asarray(x[:, :1] * 255),
    ]  # fmt: skip
    data[-1] = data[-1].astype(np.uint8)
    batch = [cupy.zeros((20, *each.shape[1:]), each.dtype) for each in data]
    for dtype in "int32", "int64":
        made = calls.gathered(cupy.asarray(rows.astype(dtype)), data, batch)
        assert len(made) == 1
        for function, arguments in made:
            function(*arguments)
        for array, out in zip(data, batch, strict=True):
            np.testing.assert_array_equal(cupy.asnumpy(out), cupy.asnumpy(array)[rows])
            out.fill(0)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(programs())
def test_cupy_runs_any_program_as_numpy_does(program):
    require("cupy")
    calls = cupy_graph.Calls(None, print)
    cupy = calls.module
    recorded_calls, state, first, memory = recorded(program)
    expected = [array.copy() for array in memory]
    # The same arrays on the device: views of the same memory.
    roots = {id(array): cupy.asarray(array) for array in memory}

    def moved(array):
        if not fusion.is_array(array):
            return array
        base = array
        while base.base is not None and id(base) not in roots:
            base = base.base
        root = roots[id(base)]
        offset = array.__array_interface__["data"][0] - base.__array_interface__["data"][0]
        return cupy.ndarray(array.shape, array.dtype, root.data + offset, array.strides)

    on_device = [
        call._replace(
            make=None if call.name is None else partial(_made, calls, call),
            reads=tuple(map(moved, call.reads)),
            writes=moved(call.writes),
        )
        for call in recorded_calls
        if call.name is not None
    ]
    skipped = any(call.name is None for call in recorded_calls)
    if skipped:
        return
    for array, value in zip(state, first, strict=True):
        roots[id(array)][...] = cupy.asarray(value)
    run(calls, on_device, [roots[id(array)] for array in memory])
    for array, value in zip(memory, expected, strict=True):
        found = cupy.asnumpy(roots[id(array)])
        finite = value[np.isfinite(value)]
        atol = 1e-9 * (1 + np.abs(finite).max(initial=0))
        np.testing.assert_allclose(found, value, rtol=0, atol=atol)


def _made(calls, call, reads, writes):
    """A call of CuPy."""
    if call.axes:
        axis = call.axes[0] if len(call.axes) == 1 else None
        keepdims = reads[0].ndim == writes.ndim > 0
        return calls.reduction(call.name, axis, keepdims, reads, writes)
    return calls.ufunc(getattr(calls.module, call.name), reads, writes)


def test_cupy_waits_before_it_overwrites_what_other_threads_read(calls):
    """The first thread of a block stores a result that all threads have read before."""
    cupy = calls.module
    a = cupy.asarray(np.arange(500.0))
    total, result, out = cupy.zeros(()), cupy.asarray(np.float64(3.0)), cupy.zeros(500)
    recorded_calls = [
        Call(partial(calls.reduction, "sum", None, False), (a,), total, "sum", (0,)),
        Call(_never, (result, total), result, "add"),
        Call(_never, (a, result), out, "add"),
    ]
    (kernel,) = fusion.groups(recorded_calls, calls, Kernel)
    assert is_better(kernel)
    assert run(calls, recorded_calls, [result, out]) == 1
    np.testing.assert_array_equal(cupy.asnumpy(out), np.arange(500.0) + 124753.0)


# --- NVIDIA's compiler, without a GPU


@pytest.fixture(scope="module")
def nvrtc():
    """The compiler, of the package nvidia-cuda-nvrtc."""
    found = importlib.util.find_spec("nvidia")
    folders = list(found.submodule_search_locations) if found else []
    files = [each for folder in folders for each in Path(folder).glob("cu*/lib/libnvrtc.so.*")]
    if not files or importlib.util.find_spec("cupy"):
        pytest.skip("nvidia-cuda-nvrtc is not installed, or compiles what cupy launches")
    return ctypes.CDLL(str(files[0]))


def compile_with(nvrtc, source, *options):
    """Compile for an architecture; return what the compiler says."""
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    options = [each.encode() for each in options]
    names = (ctypes.c_char_p * len(options))(*options)
    created = nvrtc.nvrtcCreateProgram(
        ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None
    )
    assert created == 0
    status = nvrtc.nvrtcCompileProgram(program, len(options), names)
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    assert status == 0, log.value.decode() + source
    return log.value.decode()


@pytest.mark.parametrize("architecture", ["sm_75", "sm_90"])
def test_nvidias_compiler_takes_the_kernels(nvrtc, architecture):
    """Without a warning, and with all but a few values in registers."""
    sources = set()
    for rule, dtype in [(SGD(0.1, momentum=0.9), "float32"), (Adam(), "float64")]:
        options = nnxp.Regularization(l1=0.1, l2=0.1, max_norm=2.0, dropout=0.5)
        network = nnxp.MLP([784, 128, 10], "tanh", backend="numpy", dtype=dtype)
        step = training_step(network.hidden, objectives.get("auto", "softmax"), rule, options, 1)
        data = np.zeros((64, 784), dtype), np.zeros((64, 10), dtype)
        program = Program(step, first_state(network, rule), data, np.arange(64), LIBRARY)
        kernels = fusion.groups(split_totals(program.calls, LIBRARY), LIBRARY, Kernel)
        results = [call.writes for call in program.calls]
        sources |= {each.launch(results).source for each in kernels if is_better(each)}
        sources.add(cuda_source.gathering(np.arange(64), data, program.batch).source)
    assert len(sources) > 20
    for source in sources:
        options = f"--gpu-architecture={architecture}", "--ptxas-options=-v", *cuda_source.OPTIONS
        log = compile_with(nvrtc, source, *options)
        assert "warning" not in log, log + source
        assert "registers" in log
        assert not re.search(r"\d\d\d bytes spill", log), log + source


def test_nvidias_compiler_takes_every_operation(nvrtc):
    for name in cuda_source.ELEMENTWISE:
        for dtype in "float32", "float64", "int32":
            reads = [np.ones((4, 6), dtype) for _ in range(_count(name))]
            floating = dtype.startswith("float")
            if (floating and name in INTEGERS) or (not floating and name in cuda_source.FLOATING):
                continue
            kernel = Kernel(Call(_never, tuple(reads), reads[0], name), LIBRARY)
            compile_with(nvrtc, kernel.launch(reads).source, *cuda_source.OPTIONS)

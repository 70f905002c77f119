"""What stands in for CuPy where there is none: enough of it to train on, in NumPy's memory.

It does at once what it is asked for. Only while a stream is captured, calls that write into an
array are written down and not run. What is late, freed or forbidden on a GPU shows on CuPy itself,
on a GPU or an emulated CUDA (`ci/cupy`); here tests see what nnxp asks of CuPy and cuBLAS, and how
it goes on where they fail.
"""

import contextlib
import ctypes
import sys
import types
from functools import partial

import array_api_compat
import array_api_compat.numpy
import kernels_in_python
import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

import nnxp.arrays

DEFAULT, TF32 = 1, 7
"""CuPy's numbers for how float32 is multiplied."""
SIZES = {0: np.float32, 1: np.float64}


class GPU:
    """One machine's GPUs: which is current, what was made, captured, launched and compiled."""

    def __init__(self):
        self.current = 0
        self.compute_type = DEFAULT
        self.capability = {0: "90", 1: "90"}
        self.made = []
        """(function, current device, compute type)"""
        self.captured = None
        """The work of the capture under way."""
        self.captures = self.launches = 0
        self.compiled = []
        """(name, options)"""

    def do(self, work):
        """Run the work, or write it down while a stream is captured."""
        if self.captured is not None:
            self.captured.append(work)
            return
        with np.errstate(all="ignore"):
            work()

    def call(self, function, arguments, options):
        """Call a function of NumPy on the arrays' memory; write it down if it has an `out`."""
        self.made.append((function.__name__, self.current, self.compute_type))
        out = options.get("out")
        place = OUT.get(function)
        if out is None and place is not None and len(arguments) > place:
            out = arguments[place]

        def work():
            with np.errstate(all="ignore"):
                return function(*raw(arguments), **{key: raw(options[key]) for key in options})

        if out is not None:
            self.do(work)
            return out[0] if isinstance(out, tuple) else out
        return on_device(work())


OUT = {np.copyto: 0, np.dot: 2, np.take: 3}
"""Which argument is the array to write to, of functions that are given it by position."""


def raw(operand):
    """The memory of an array, or of those in a tuple or list, as NumPy's."""
    if isinstance(operand, (tuple, list)):
        return type(operand)(map(raw, operand))
    return operand.raw if isinstance(operand, ndarray) else operand


def on_device(result):
    is_array = isinstance(result, (np.ndarray, np.generic))
    return ndarray(np.asarray(result)) if is_array else result


class ndarray(NDArrayOperatorsMixin):
    """NumPy's array `raw` stands for a GPU's: what is computed with it goes by `GPU.call`."""

    gpu: GPU

    def __init__(self, raw):
        self.raw = raw

    device = property(lambda self: Device(self.gpu, 0))
    data = property(lambda self: types.SimpleNamespace(ptr=self.raw.ctypes.data))

    def __getattr__(self, name):
        found = getattr(self.raw, name)
        if callable(found):
            return lambda *arguments, **options: self.gpu.call(found, arguments, options)
        return on_device(found)

    def __array_ufunc__(self, ufunc, method, *operands, **options):
        function = ufunc if method == "__call__" else getattr(ufunc, method)
        return self.gpu.call(function, operands, options)

    def __array_function__(self, function, kinds, arguments, options):
        return self.gpu.call(function, arguments, options)

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def __getitem__(self, key):
        return on_device(self.raw[raw(key)])

    def __setitem__(self, key, value):
        self.gpu.do(partial(self.raw.__setitem__, key, raw(value)))

    def fill(self, value):
        self.gpu.do(partial(self.raw.fill, raw(value)))

    def get(self):
        return self.raw.copy()

    __len__, __bool__, __float__, __int__ = (
        lambda self, convert=convert: convert(self.raw) for convert in (len, bool, float, int)
    )


class ufunc:
    """NumPy's, with `out` by position, which NumPy deprecates for some."""

    def __init__(self, function):
        self.function, self.__name__ = function, function.__name__

    def __call__(self, *operands):
        count = self.function.nin
        return self.function(*operands[:count], out=(*operands[count:], None)[0])


class Device:
    def __init__(self, gpu, id=0):
        self.gpu, self.id, self.entered_from = gpu, id, []

    def __enter__(self):
        self.entered_from.append(self.gpu.current)
        self.gpu.current = self.id

    def __exit__(self, *_):
        self.gpu.current = self.entered_from.pop()

    compute_capability = property(lambda self: self.gpu.capability[self.id])
    mem_info = 10**9, 85 * 10**9

    def synchronize(self):
        pass


class Stream(contextlib.nullcontext):
    ptr = 1234

    def __init__(self, gpu):
        super().__init__()
        self.gpu = gpu

    def record(self):
        pass

    def wait_event(self, event):
        pass

    def is_capturing(self):
        return self.gpu.captured is not None

    def begin_capture(self):
        self.gpu.captured = []
        self.gpu.captures += 1

    def end_capture(self):
        work, self.gpu.captured = self.gpu.captured, None

        def launch():
            self.gpu.launches += 1
            for each in work:
                self.gpu.do(each)

        return types.SimpleNamespace(launch=launch, work=work)


class MemoryPool:
    """No memory: NumPy allocates."""

    malloc = None

    def total_bytes(self):
        return 0

    free_all_blocks = free_bytes = used_bytes = get_limit = total_bytes


class RawKernel:
    """A kernel, whose source is a function: see `kernels_in_python`."""

    def __init__(self, gpu, source, name, options):
        self.gpu, self.source = gpu, source
        gpu.compiled.append((name, options))

    def compile(self):
        pass

    def __call__(self, blocks, threads, arguments):
        self.gpu.do(self.source)


class Namespace:
    """As array-api-compat wraps CuPy: creation takes a device and goes by the current one."""

    def __init__(self, gpu):
        self.gpu = gpu

    def __getattr__(self, name):
        found = getattr(array_api_compat.numpy, name)
        plain = isinstance(found, type) or name in ("isdtype", "finfo", "iinfo")
        if plain or not callable(found) or name.startswith("__"):
            return found

        def function(*arguments, device=None, **options):
            return self.gpu.call(found, arguments, options)

        return function


class Module(types.ModuleType):
    """cupy: NumPy's functions, and what CuPy 14 has besides."""

    __version__ = "14.2.0"
    ndarray, ufunc, uint8 = ndarray, ufunc, np.uint8

    def __init__(self, gpu, devices):
        super().__init__("cupy")
        self.gpu, pool = gpu, MemoryPool()
        runtime = types.SimpleNamespace(
            getDeviceCount=lambda: devices,
            runtimeGetVersion=lambda: 13020,
            driverGetVersion=lambda: 13020,
            getDeviceProperties=lambda id: {"name": b"a stand-in"},
        )
        self.cuda = types.SimpleNamespace(
            runtime=runtime,
            Device=lambda id=None: Device(gpu, gpu.current if id is None else id),
            Stream=lambda non_blocking=False: Stream(gpu),
            MemoryPool=MemoryPool,
            alloc=lambda size: types.SimpleNamespace(ptr=5678),
            using_allocator=contextlib.nullcontext,
            get_current_stream=lambda: Stream(gpu),
        )
        self.is_available = lambda: True
        self.get_default_memory_pool = lambda: pool
        self.RawKernel = partial(RawKernel, gpu)

    def __getattr__(self, name):
        found = getattr(np, name)
        return ufunc(found) if isinstance(found, np.ufunc) else found

    def asarray(self, x):
        return x if isinstance(x, ndarray) else on_device(np.asarray(x))

    def empty(self, shape, dtype):
        return on_device(np.empty(shape, dtype))

    def zeros(self, shape, dtype):
        return on_device(np.zeros(shape, dtype))


class Blas:
    """cuBLAS, as its documentation has it: by columns, from addresses."""

    def __init__(self, gpu=None):
        self.gpu = gpu
        self.calls = []
        self.status = {}
        """Of functions that fail."""

    def __getattr__(self, name):
        if not name.startswith("cublas"):
            raise AttributeError(name)

        def function(*arguments):
            self.calls.append((name, arguments))
            if self.status.get(name):
                return self.status[name]
            getattr(self, "_" + name.removesuffix("_v2")[6:].lower())(*arguments)
            return 0

        return function

    def names(self):
        return [name for name, _ in self.calls]

    def _create(self, handle):
        handle._obj.value = 77

    def _setstream(self, handle, stream):
        assert handle.value == 77
        self.stream, self.workspace = stream.value, None

    def _setworkspace(self, handle, workspace, size):
        assert handle.value == 77
        self.workspace = workspace.value, size.value

    def _destroy(self, handle):
        assert handle.value == 77

    def _gemmex(
        self, handle, transa, transb, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta,
        c, c_type, ldc, compute, algorithm,
    ):  # fmt: skip
        """C = alpha op(A) op(B) + beta C: (m, k) times (k, n), all by columns."""
        assert handle.value == 77
        assert self.workspace, "a capture would hold an allocation"
        assert a_type == b_type == c_type
        dtype = np.dtype(SIZES[c_type])
        scalar = ctypes.c_float if c_type == 0 else ctypes.c_double
        assert compute in {0: (68, 77), 1: (70,)}[c_type]
        assert isinstance(alpha._obj, scalar)
        assert isinstance(beta._obj, scalar)
        assert (alpha._obj.value, beta._obj.value) == (1.0, 0.0)

        def matrix(address, rows, columns, step):
            """(rows, columns), by columns."""
            assert step >= max(1, rows), "cuBLAS refuses it"
            size = (columns - 1) * step + rows
            memory = (ctypes.c_char * (size * dtype.itemsize)).from_address(address.value)
            strides = dtype.itemsize, step * dtype.itemsize
            flat = np.frombuffer(memory, dtype=dtype)
            return np.lib.stride_tricks.as_strided(flat, (rows, columns), strides)

        one = matrix(a, k, m, lda).T if transa else matrix(a, m, k, lda)
        other = matrix(b, n, k, ldb).T if transb else matrix(b, k, n, ldb)
        result = matrix(c, m, n, ldc)

        def work():
            # By rows, as NumPy's own product of them is computed.
            result.T[...] = other.T @ one.T

        if self.gpu:
            self.gpu.do(work)
        else:
            work()


def put_modules(monkeypatch, namespace, cupy, linalg):
    """Put a stand-in where `import cupy` finds it: `cupy` and what nnxp imports beside it.

    Args:
        namespace: what array-api-compat makes of it.
        cupy: the module.
        linalg: its `_core._routines_linalg`, which says in which precision products are.
    """
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    for name, content in {
        "cupy._core": {"_routines_linalg": linalg},
        "cupy_backends.cuda.libs": {
            "cublas": None,
            "nvrtc": types.SimpleNamespace(getVersion=lambda: (13, 0)),
        },
        "array_api_compat.cupy": {},
    }.items():
        monkeypatch.setitem(sys.modules, name, module(name, content))
    monkeypatch.setattr(array_api_compat, "cupy", namespace, raising=False)


def module(name, content):
    made = types.ModuleType(name)
    vars(made).update(content)
    return made


def install(monkeypatch, devices=1):
    """Put it where `import cupy` finds it; the GPU, and the cuBLAS of handles made from now on."""
    gpu = GPU()
    gpu.blas = Blas(gpu)
    ndarray.gpu = gpu
    namespace = Namespace(gpu)
    monkeypatch.setitem(nnxp.arrays._namespaces, ndarray, namespace)
    linalg = types.SimpleNamespace(
        COMPUTE_TYPE_DEFAULT=DEFAULT,
        COMPUTE_TYPE_TF32=TF32,
        get_compute_type=lambda dtype: gpu.compute_type,
        set_compute_type=lambda dtype, kind: setattr(gpu, "compute_type", kind),
    )
    put_modules(monkeypatch, namespace, Module(gpu, devices), linalg)
    monkeypatch.setattr("nnxp.executors.cublas._load", lambda: gpu.blas)
    monkeypatch.setattr("nnxp.executors.cuda_kernels.launch", kernels_in_python.launch)
    monkeypatch.setattr("nnxp.executors.cupy_graph.gathering", kernels_in_python.gathering)
    return gpu

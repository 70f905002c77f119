"""What stands in for CuPy on a GPU: enough of it for nnxp to train on, in NumPy's memory.

As a GPU does, it puts off what it is asked for: every stream is a queue that runs no sooner than
somebody waits for it, so that whoever does not wait finds what was there before. While a stream is
captured its calls are written down and not run. Memory comes from pools, which give it out again.
"""

import contextlib
import ctypes
import sys
import types
import weakref
from functools import partial

import array_api_compat
import array_api_compat.numpy
import kernels_in_python
import numpy as np

import nnxp.arrays

CAPTURING = "operation not permitted when stream is capturing"
SIZES = {0: np.float32, 1: np.float64}


class GPU:
    """The streams, the pools and the memory; what was launched, compiled, captured."""

    def __init__(self):
        self.streams = {}
        self.kept = []
        """All memory there ever was: what is freed too soon is to be wrong, and no crash."""
        self.null = Stream(self, 0)
        self.current = [self.null]
        self.default_pool = MemoryPool(self)
        self.allocators = [self.default_pool.malloc]
        self.compute_type = 1
        self.capability = "90"
        self.compiled = []
        """Each fused kernel."""
        self.graphs = []
        """Weak references."""
        self.captures = self.launches = 0
        self.fusing = "works"

    @property
    def stream(self):
        return self.current[-1]

    def capturing(self):
        return any(stream.captured is not None for stream in self.streams.values())

    def refuse(self, stream=None):
        """What may not be done during a capture ends it."""
        stream = stream or self.stream
        if stream.captured is not None:
            stream.invalid = True
            raise RuntimeError(CAPTURING)

    def synchronize(self):
        for stream in list(self.streams.values()):
            self.refuse(stream)
            stream.run()

    def launch(self, work, stream=None):
        stream = stream or self.stream
        if stream.captured is not None:
            stream.captured.append(work)
        else:
            stream.queue.append(work)


class Stream:
    def __init__(self, gpu, ptr):
        self.gpu, self.ptr = gpu, ptr
        self.queue, self.done = [], 0
        self.captured, self.invalid = None, False
        gpu.streams[ptr] = self

    def __enter__(self):
        self.gpu.current.append(self)
        return self

    def __exit__(self, *_):
        self.gpu.current.pop()

    def run(self, count=None):
        """Up to that many of all it ever was asked for."""
        count = len(self.queue) if count is None else count
        while self.done < count:
            self.done += 1
            with np.errstate(all="ignore"):
                self.queue[self.done - 1]()

    def synchronize(self):
        self.gpu.refuse(self)
        self.run()

    def record(self):
        self.gpu.refuse(self)
        return types.SimpleNamespace(run=partial(self.run, len(self.queue)))

    def wait_event(self, event):
        self.gpu.launch(event.run, self)

    def begin_capture(self):
        assert self.ptr != 0, "cannot capture on the default (legacy) stream"
        assert self.captured is None
        self.gpu.captures += 1
        self.captured, self.invalid = [], False

    def end_capture(self):
        work, self.captured = self.captured, None
        if self.invalid:
            raise RuntimeError("operation failed due to a previous error during capture")
        return Graph(self.gpu, work)


class Graph:
    def __init__(self, gpu, work):
        self.gpu, self.work = gpu, work
        gpu.graphs.append(weakref.ref(self))

    def launch(self):
        self.gpu.launches += 1
        for work in self.work:
            self.gpu.launch(work)


class MemoryPool:
    """Memory is given out again where it was freed, by streams."""

    def __init__(self, gpu):
        self.gpu, self.free, self.blocks = gpu, {}, []

    def malloc(self, size):
        size = -(-size // 512) * 512
        arena = self.free.setdefault(self.gpu.stream.ptr, {})
        blocks = arena.setdefault(size, [])
        if blocks:
            return Memory(self, blocks, blocks.pop())
        block = np.full(size, 255, dtype=np.uint8)
        self.blocks.append(block)
        self.gpu.kept.append(block)
        return Memory(self, blocks, block)

    def total_bytes(self):
        return sum(map(len, self.blocks))

    used_bytes = total_bytes

    def free_all_blocks(self):
        for stream in self.gpu.streams.values():
            stream.run()
        for arena in self.free.values():
            for blocks in arena.values():
                freed = set(map(id, blocks))
                self.blocks = [block for block in self.blocks if id(block) not in freed]
                for block in blocks:
                    block[...] = 255
                blocks.clear()

    def free_bytes(self):
        return 0

    def get_limit(self):
        return 0

    def __del__(self):
        # To free memory waits for the GPU. Whoever reads it afterwards is to see that.
        for stream in self.gpu.streams.values():
            stream.run()
        for block in self.blocks:
            block[...] = 255


class Memory:
    """Arrays keep it, and it keeps no pool."""

    def __init__(self, pool, blocks, block):
        self.pool, self.blocks, self.block = weakref.ref(pool), blocks, block
        self.ptr = block.ctypes.data

    def __del__(self):
        if self.pool() is not None:
            self.blocks.append(self.block)


class ufunc:
    def __init__(self, gpu, function):
        self.gpu, self.function, self.__name__ = gpu, function, function.__name__

    def __call__(self, *operands, out=None):
        count = self.function.nin
        assert count <= len(operands) <= count + 1
        if not any(isinstance(each, ndarray) for each in operands):  # inside a fused kernel
            return self.function(*operands[:count])
        return call(self.gpu, self.function, operands[:count], out=(*operands[count:], out)[0])


class ndarray:
    """Not computed yet: `raw` is where it will be."""

    gpu: GPU
    __array_ufunc__ = None

    def __init__(self, raw, memory):
        self.raw, self.memory = raw, memory

    shape = property(lambda self: self.raw.shape)
    dtype = property(lambda self: self.raw.dtype)
    strides = property(lambda self: self.raw.strides)
    ndim = property(lambda self: self.raw.ndim)
    size = property(lambda self: self.raw.size)
    nbytes = property(lambda self: self.raw.nbytes)
    flags = property(lambda self: self.raw.flags)
    device = property(lambda self: Device(self.gpu))
    T = property(lambda self: self.as_view(self.raw.T))
    data = property(lambda self: types.SimpleNamespace(ptr=self.raw.ctypes.data))

    def __len__(self):
        return len(self.raw)

    def as_view(self, raw):
        return ndarray(raw, self.memory)

    def view(self, dtype):
        return self.as_view(self.raw.view(dtype))

    def reshape(self, *shape, order="C"):
        return reshape(self, shape[0] if isinstance(shape[0], tuple) else shape, order=order)

    def copy(self):
        return call(self.gpu, np.copy, (self,))

    def astype(self, dtype, copy=True):
        if not copy and self.dtype == dtype:
            return self
        return call(self.gpu, lambda x: x.astype(dtype), (self,))

    def __getitem__(self, key):
        if isinstance(key, ndarray):
            return from_host(self.gpu, self.get()[key.get()])
        return self.as_view(self.raw[key])

    def __setitem__(self, key, value):
        if isinstance(value, ndarray):
            target, source = self.raw[key], value.raw
            self.gpu.launch(lambda: np.copyto(target, source, "unsafe"))
        else:
            assert isinstance(value, (int, float, np.generic)), "host arrays are not assigned"
            self.as_view(self.raw[key]).fill(value)

    def fill(self, value):
        if isinstance(value, ndarray):
            value = value.item()  # as CuPy does: it asks whether that is 0
        raw = self.raw
        self.gpu.launch(lambda: raw.fill(value))

    def get(self):
        self.gpu.refuse()
        self.gpu.stream.run()
        return self.raw.copy()

    def item(self):
        return self.get().item()

    def sum(self, axis=None, dtype=None, out=None, keepdims=False):
        return reduction(self.gpu, np.sum, self, axis, out, keepdims)

    def max(self, axis=None, out=None, keepdims=False):
        return reduction(self.gpu, np.max, self, axis, out, keepdims)

    def all(self):
        return call(self.gpu, np.all, (self,))

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def __bool__(self):
        return bool(self.item())

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    __index__ = __int__

    def __neg__(self):
        return call(self.gpu, np.negative, (self,))

    def __invert__(self):
        return call(self.gpu, np.invert, (self,))

    def __abs__(self):
        return call(self.gpu, np.abs, (self,))

    def __matmul__(self, other):
        if self.shape[0] * other.shape[-1] > 1 and self.gpu.stream.captured is not None:
            raise NotImplementedError("calling cuBLAS API during stream capture is unsupported")
        return call(self.gpu, np.matmul, (self, other))


def _give_operators():
    for name, function in {
        "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide,
        "pow": np.power, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
        "lshift": np.left_shift, "rshift": np.right_shift,
    }.items():  # fmt: skip
        setattr(ndarray, f"__{name}__", lambda a, b, f=function: call(a.gpu, f, (a, b)))
        setattr(ndarray, f"__r{name}__", lambda b, a, f=function: call(b.gpu, f, (a, b)))
        setattr(ndarray, f"__i{name}__", lambda a, b, f=function: call(a.gpu, f, (a, b), out=a))
    for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"):
        short = {"equal": "eq", "not_equal": "ne", "less": "lt", "less_equal": "le",
                 "greater": "gt", "greater_equal": "ge"}[name]  # fmt: skip
        function = getattr(np, name)
        setattr(ndarray, f"__{short}__", lambda a, b, f=function: call(a.gpu, f, (a, b)))
    ndarray.__hash__ = object.__hash__


_give_operators()


def empty(gpu, shape, dtype=np.float64):
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    memory = gpu.allocators[-1](size)
    return ndarray(memory.block[:size].view(dtype).reshape(shape), memory)


def from_host(gpu, values):
    gpu.refuse()
    return copied(gpu, np.array(values))


def copied(gpu, values):
    """A copy of NumPy's array, later, by columns if it lies so, as CuPy's `array` makes it."""
    result = empty(gpu, values.shape, values.dtype)
    if values.ndim == 2 and not values.flags.c_contiguous:
        result.raw = result.raw.reshape(values.shape[::-1]).T
    raw = result.raw
    gpu.launch(lambda: np.copyto(raw, values))
    return result


def call(gpu, function, operands, out=None, **options):
    """`function` of NumPy, later, its result at `out` or at a new place."""

    def raw(operand):
        if isinstance(operand, (list, tuple)):
            return type(operand)(map(raw, operand))
        return operand.raw if isinstance(operand, ndarray) else operand

    def like(operand):
        if isinstance(operand, (list, tuple)):
            return type(operand)(map(like, operand))
        return np.zeros_like(operand) if isinstance(operand, np.ndarray) else operand

    arrays = raw(tuple(operands))
    with np.errstate(all="ignore"):
        kind = np.asarray(function(*like(arrays), **options))
    if out is None:
        out = empty(gpu, kind.shape, kind.dtype)
    assert out.shape == kind.shape, "Out shape is mismatched"
    target = out.raw
    gpu.launch(lambda: np.copyto(target, function(*arrays, **options), "same_kind"))
    return out


def reduction(gpu, function, x, axis, out, keepdims):
    room = gpu.allocators[-1](1).block  # CUB's own, as long as it computes
    gpu.launch(lambda: room.fill(255))
    return call(gpu, function, (x,), out=out, axis=axis, keepdims=keepdims)


def reshape(x, shape, order="C", copy=None):
    raw = x.raw.reshape(shape, order=order)
    if np.shares_memory(raw, x.raw) or not x.size:
        return x.as_view(raw)
    return call(x.gpu, partial(np.reshape, shape=shape), (x,))


class Device:
    def __init__(self, gpu, id=0):
        self.gpu, self.id = gpu, id

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __eq__(self, other):
        return isinstance(other, Device) and self.id == other.id

    __hash__ = object.__hash__

    @property
    def compute_capability(self):
        return self.gpu.capability

    mem_info = (10**9, 85 * 10**9)

    def synchronize(self):
        self.gpu.synchronize()


class RawKernel:
    """A kernel, whose source is a function: see `kernels_in_python`."""

    def __init__(self, gpu, source, name, options):
        self.gpu, self.source = gpu, source
        gpu.compiled.append((name, options))

    def compile(self):
        if self.gpu.fusing != "works":
            raise ValueError(self.gpu.fusing)

    def __call__(self, blocks, threads, arguments):
        self.gpu.launch(self.source)


VIEWS = ("reshape", "expand_dims", "matrix_transpose", "permute_dims", "squeeze", "broadcast_to")
CREATION = ("zeros", "ones", "full", "arange", "empty", "eye", "linspace")


class Namespace:
    """array-api-compat's way to it."""

    def __init__(self, gpu):
        self.gpu = gpu

    def __getattr__(self, name):
        found = getattr(array_api_compat.numpy, name)
        if isinstance(found, type) or not callable(found) or name.startswith("__"):
            return found
        if name in ("isdtype", "finfo", "iinfo", "result_type"):
            return lambda *arguments: found(
                *(each.dtype if isinstance(each, ndarray) else each for each in arguments)
            )
        if name == "reshape":
            return reshape

        def function(*arguments, device=None, **options):
            if name in VIEWS:
                x, *others = arguments
                return x.as_view(found(x.raw, *others, **options))
            if name in CREATION:
                return created(self.gpu, found, arguments, options)
            return call(self.gpu, found, arguments, **options)

        return function

    def asarray(self, x, dtype=None, device=None, copy=None, order="K"):
        if order == "C":
            return x.copy()
        if not isinstance(x, ndarray):
            return from_host(self.gpu, np.asarray(x, dtype=dtype))
        if dtype is not None and x.dtype != dtype:
            return x.astype(dtype)
        return copied(self.gpu, x.raw) if copy else x

    def astype(self, x, dtype, copy=True):
        return x.astype(dtype, copy=copy)

    def sum(self, x, axis=None, dtype=None, keepdims=False):
        return reduction(self.gpu, np.sum, x, axis, None, keepdims)

    def max(self, x, axis=None, keepdims=False):
        return reduction(self.gpu, np.max, x, axis, None, keepdims)


def created(gpu, function, arguments, options):
    values = function(*arguments, **options)
    result = empty(gpu, values.shape, values.dtype)
    raw = result.raw
    gpu.launch(lambda: np.copyto(raw, values))  # by a kernel: nothing comes from the host
    return result


class Module(types.ModuleType):
    """cupy: the functions that nnxp names, as CuPy 14 has them."""

    def __init__(self, gpu):
        super().__init__("cupy")
        self.gpu = gpu
        self.__version__ = "14.2.0"
        self.ndarray, self.ufunc, self.uint8 = ndarray, ufunc, np.uint8
        runtime = types.SimpleNamespace(
            getDeviceCount=lambda: 1,
            runtimeGetVersion=lambda: 13020,
            driverGetVersion=lambda: 13020,
            getDeviceProperties=lambda id: {"name": b"a stand-in"},
        )
        counter = iter(range(1000, 10**6))
        self.cuda = types.SimpleNamespace(
            runtime=runtime,
            Device=partial(Device, gpu),
            Stream=lambda non_blocking=False: Stream(gpu, next(counter)),
            MemoryPool=lambda: MemoryPool(gpu),
            alloc=lambda size: gpu.allocators[-1](size),
            using_allocator=self.using_allocator,
            get_current_stream=lambda: gpu.stream,
        )
        for name in dir(np):
            function = getattr(np, name)
            if isinstance(function, np.ufunc) and function.nout == 1:
                setattr(self, name, ufunc(gpu, function))

    def is_available(self):
        return True

    def get_default_memory_pool(self):
        return self.gpu.default_pool

    @contextlib.contextmanager
    def using_allocator(self, allocator):
        self.gpu.allocators.append(allocator)
        try:
            yield
        finally:
            self.gpu.allocators.pop()

    def empty(self, shape, dtype):
        return empty(self.gpu, shape, dtype)

    def zeros(self, shape, dtype):
        return created(self.gpu, np.zeros, (shape, dtype), {})

    def full_like(self, x, value):
        return created(self.gpu, np.full, (x.shape, value, x.dtype), {})

    def asarray(self, x):
        return x if isinstance(x, ndarray) else from_host(self.gpu, x)

    def expand_dims(self, x, axis):
        return x.as_view(np.expand_dims(x.raw, axis))

    def may_share_memory(self, a, b):
        return np.may_share_memory(a.raw, b.raw)

    def take(self, a, indices, axis=None, out=None):
        count = a.size if axis is None else a.shape[axis]

        def wrapped(a, indices):  # NumPy's own goes round and round to a number out of nowhere
            return np.take(a, indices % count, axis=axis)

        return call(self.gpu, wrapped, (a, indices), out=out)

    def sum(self, a, axis=None, dtype=None, out=None, keepdims=False):
        return a.sum(axis, dtype, out, keepdims)

    def max(self, a, axis=None, out=None, keepdims=False):
        return a.max(axis, out, keepdims)

    def dot(self, a, b, out=None):
        if a.shape[0] * b.shape[-1] > 1:
            self.gpu.refuse()
        return call(self.gpu, np.matmul, (a, b), out=out)

    def where(self, condition, x, y):
        if isinstance(condition, np.ndarray):
            return np.where(condition, x, y)
        return call(self.gpu, np.where, (condition, x, y))

    def copyto(self, dst, src, casting="same_kind", where=None):
        assert np.can_cast(src.dtype, dst.dtype, casting)
        target, source, mask = dst.raw, src.raw, True if where is None else where.raw
        self.gpu.launch(lambda: np.copyto(target, source, casting, mask))

    def concatenate(self, tup, axis=0, out=None):
        return self.joined(np.concatenate, tup, axis, out)

    def stack(self, tup, axis=0, out=None):
        return self.joined(np.stack, tup, axis, out)

    def joined(self, function, tup, axis, out):
        if len(tup) > 8:
            self.gpu.refuse()  # where they are comes from the host
        return call(self.gpu, lambda *x: function(x, axis=axis), tuple(tup), out=out)

    def RawKernel(self, source, name, options):
        return RawKernel(self.gpu, source, name, options)


class Blas:
    """cuBLAS, as its documentation has it: by columns, from addresses, on the handle's stream.

    Without a GPU it computes at once.
    """

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
        if self.gpu:
            self.gpu.synchronize()

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
            self.gpu.launch(work, self.gpu.streams[self.stream])
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


def install(monkeypatch):
    """Put it where `import cupy` finds it; the GPU, and the cuBLAS of handles made from now on."""
    gpu = GPU()
    gpu.blas = Blas(gpu)
    ndarray.gpu = gpu
    namespace, cupy = Namespace(gpu), Module(gpu)
    monkeypatch.setitem(nnxp.arrays._namespaces, ndarray, namespace)
    linalg = types.SimpleNamespace(
        COMPUTE_TYPE_DEFAULT=1,
        COMPUTE_TYPE_TF32=7,
        get_compute_type=lambda dtype: gpu.compute_type,
        set_compute_type=lambda dtype, kind: setattr(gpu, "compute_type", kind),
    )
    put_modules(monkeypatch, namespace, cupy, linalg)
    monkeypatch.setattr("nnxp.executors.cublas._load", lambda: gpu.blas)
    monkeypatch.setattr("nnxp.executors.cuda_kernels.launch", kernels_in_python.launch)
    monkeypatch.setattr("nnxp.executors.cupy_graph.gathering", kernels_in_python.gathering)
    gpu.cupy = cupy
    return gpu

"""CuPy's part in capturing chunks of training steps: the fused calls of a recorded step.

A step's calls are recorded once, as `replay` records NumPy's. `cupy.fuse` fuses the elementwise
ones. Products use a cuBLAS handle of nnxp's own, because CuPy refuses products while a stream is
captured. That leaves 20 to 40 kernels per step to capture.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from typing import Any

from nnxp.arrays import Array
from nnxp.errors import BackendError, described
from nnxp.executors import Host, Rate, Report, Runner, State, Step, cuda_graph, fusion, recording
from nnxp.executors.cublas import WORKSPACE, Cublas
from nnxp.executors.recording import Axis, DType, Function, Made
from nnxp.nested import leaves

VERIFIED_VERSIONS: tuple[str, ...] = ()
"""Versions of CuPy whose captured steps gave the same bits as eager steps on a GPU, by `ci/gpu`.
With every version, a captured chunk is used only if it gives the same result as its warm-up."""

_EXACT = ("--fmad=false",)
"""Options that round a multiplication before the addition after it, as eager calls do."""

ATTEMPTS = 5
"""Attempts to capture a chunk. A call in another thread that waits for the whole device invalidates
every capture in the process. The end of a thread that used cuBLAS is such a call: CuPy destroys the
thread's handle."""
INVALIDATED = "CAPTURE_INVALIDATED"

_capturing = threading.RLock()
"""Held while a stream captures, and while a handle is destroyed, which would invalidate it."""


def runner(step: Step, backend: Host, report: Report) -> Runner:
    """Return a function like `eager.run` that captures chunks of `step` and launches them."""
    with backend.active():
        return cuda_graph.runner(step, CuPyGraph(report, backend.tf32), report)


class CuPyGraph:
    """A `nnxp.executors.cuda_graph.Capturer`.

    It owns everything that its graphs use: a stream to capture on, private memory pools, a cuBLAS
    handle with a workspace, and the arrays between the kernels.
    """

    def __init__(self, report: Report, tf32: bool = False) -> None:
        import cupy

        self.cupy = cupy
        self.device = cupy.cuda.Device()
        self.report = report
        self.tf32 = tf32
        self.stream = cupy.cuda.Stream(non_blocking=True)
        # Each launch of a graph reuses its temporary memory, so arrays that live longer come from
        # another pool.
        self.pool = cupy.cuda.MemoryPool()
        self.persistent_pool = cupy.cuda.MemoryPool()
        self.programs: dict[Hashable, _Program] = {}

    def __del__(self) -> None:
        self._close_blas()

    @cached_property
    def blas(self) -> Cublas:
        """The handle; made with the first steps, so that steps run eagerly if this fails."""
        self.workspace = self.cupy.cuda.alloc(WORKSPACE)
        newer = int(self.cupy.cuda.Device().compute_capability) >= 80
        return Cublas(self.stream.ptr, self.workspace.ptr, self.tf32, newer)

    @cached_property
    def calls(self) -> Calls:
        return Calls(self.blas.product, self.report)

    def place(self, array: Array) -> Hashable:
        return array.data.ptr, array.strides

    def steps(
        self,
        step: Step,
        state: State,
        data: tuple[Array, ...],
        order: Array,
        learning_rate: Array,
    ) -> Runner:
        key = (
            order.shape[1],
            *map(self.place, leaves(state)),
            *((array.shape[1:], array.dtype) for array in data),
        )
        if key not in self.programs:
            with self._on_capture_stream(self.persistent_pool):
                self.programs[key] = _Program(step, state, data, order, learning_rate, self.calls)
        return self.programs[key].run

    def warm_up(self, play: Callable[[], None]) -> None:
        with self._on_capture_stream(self.pool):
            play()

    def capture(self, play: Callable[[], None]) -> Callable[[], None]:
        size = self.pool.total_bytes()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                graph = self._captured(play)
                break
            except Exception as error:
                if INVALIDATED not in str(error) or attempt == ATTEMPTS:
                    raise
        if self.pool.total_bytes() != size:
            raise BackendError("memory was taken while the steps were captured")
        return partial(_launch, graph, self)

    def _captured(self, play: Callable[[], None]) -> Any:
        """Capture what `play` queues; a CUDA graph."""
        own = self.cupy.cuda.using_allocator(self.pool.malloc), self.stream
        with _capturing, own[0], own[1], _no_collection():
            self.stream.begin_capture()
            try:
                play()
            except BaseException:
                with suppress(Exception):  # it says less than the error before it
                    self.stream.end_capture()
                raise
            return self.stream.end_capture()

    def release(self) -> None:
        self.programs.clear()
        vars(self).pop("calls", None)
        self._close_blas()
        vars(self).pop("workspace", None)
        for pool in (self.pool, self.persistent_pool, self.cupy.get_default_memory_pool()):
            pool.free_all_blocks()

    def _close_blas(self) -> None:
        """Destroy the cuBLAS handle, if there is one."""
        blas = vars(self).pop("blas", None)
        if blas is not None:
            # The device refuses after an error, and at the process's end CUDA may be gone.
            with suppress(RuntimeError), _capturing, self.device:
                blas.close()

    @contextmanager
    def _on_capture_stream(self, pool: Any) -> Iterator[None]:
        """Work on the capturing stream with memory of this pool, in order with the current stream.

        Products run on the capturing stream only, and it does not wait for others by itself.
        """
        current = self.cupy.cuda.get_current_stream()
        self.stream.wait_event(current.record())
        try:
            with self.cupy.cuda.using_allocator(pool.malloc), self.stream:
                yield
        finally:
            current.wait_event(self.stream.record())


@contextmanager
def _no_collection() -> Iterator[None]:
    """Disable garbage collection: destroying a handle waits for the GPU, which ends a capture."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _launch(graph: Any, owner: CuPyGraph) -> None:
    """Launch on the current stream. The partial function that calls this keeps `owner` alive."""
    graph.launch()


class Calls(recording.ArrayOps):
    """The calls of CuPy."""

    # Fused calls need no memory between them, and the others have memory of their own.
    reuses_memory = False

    def __init__(self, product: Callable[[Any, Any, Any], None], report: Report) -> None:
        import array_api_compat.cupy
        import cupy

        self.module = cupy
        self.xp = array_api_compat.cupy
        self._product = product
        self._report = report
        super().__init__()

    def place(self, array: Array) -> Hashable:
        return array.data.ptr, array.shape, array.strides, array.dtype

    def number(self, value: Any, dtype: DType) -> Any:
        return value

    def ufunc(self, function: Function, operands: Sequence[Array], out: Array) -> Made:
        return function, (*operands, out)

    def product(self, operands: Sequence[Array], out: Array) -> Made:
        a, b = operands
        if not (a.ndim in (1, 2) and b.ndim in (1, 2) and a.dtype == b.dtype == out.dtype):
            raise recording.UnrecordableError("a product of other than two like matrices")
        # Vectors are matrices of one row or one column.
        a = a if a.ndim == 2 else a[None, :]
        b = b if b.ndim == 2 else b[:, None]
        out = out.reshape(a.shape[0], b.shape[1])
        if out.size == 1:  # CuPy has a kernel of its own for this, which can be captured
            return self.module.dot, (a, b, out)
        return self._product, (a, b, out)

    def reduction(
        self, name: str, axis: Axis, keepdims: bool, operands: Sequence[Array], out: Array
    ) -> Made:
        function = getattr(self.module, name)
        return partial(function, *operands, axis=axis, out=out, keepdims=keepdims), ()

    def take(self, axis: Axis, operands: Sequence[Array], out: Array) -> Made:
        return self.module.take, (*operands, axis, out)

    def fill(self, value: Any, operands: Sequence[Array], out: Array) -> Made:
        return out.fill, (value,)

    def joined(self, function: Function, axis: Axis, operands: Sequence[Array], out: Array) -> Made:
        if len(operands) > 8:  # CuPy then sends a list of pointers from the host
            raise recording.UnrecordableError("more than eight arrays are joined")
        return super().joined(function, axis, operands, out)

    def fuse(self, function: Callable[..., None], arrays: tuple[Any, ...]) -> Any:
        """Fuse `function` into one kernel for these arrays, and run it once, which compiles it.

        Return None if CuPy cannot fuse it, and report why: the calls are then run one by one.
        """
        kernel = self.module.fuse(kernel_name="nnxp_fused")(function)
        try:
            # With no elements CuPy traces it and does not compile it yet.
            kernel(*(array[..., :0] if array.ndim else array for array in arrays))
            for compiled, _ in kernel._memo.values():
                compiled.kwargs["options"] = _EXACT
                compiled._elementwise_kernel_memo.clear()
            if kernel.new_fusion is not None or not kernel._memo:
                raise BackendError("this CuPy fuses them in another way")
            kernel(*arrays)
            return kernel
        except Exception as error:
            line = f"elementwise calls run one by one: CuPy cannot fuse them ({described(error)})"
            self._report(line)
            return None


class _Program:
    """The kernels of one step for one size of batch."""

    def __init__(
        self,
        step: Step,
        state: State,
        data: tuple[Array, ...],
        order: Array,
        learning_rate: Array,
        calls: Calls,
    ) -> None:
        state_arrays = leaves(state)
        before = [leaf.copy() for leaf in state_arrays]
        program = recording.Program(step, state, data, order[0, ...], calls, learning_rate)
        self.program = program
        results = [*state_arrays, program.total]
        recorded = [array.copy() for array in results]
        self.kernels = fusion.fused(program.calls, results, calls, calls.fuse)
        program.calls.clear()  # frees intermediate results, which are now only in registers
        self.take = calls.module.take
        # Check the kernels: how CuPy fuses depends on its version.
        for leaf, old in zip(state_arrays, before, strict=True):
            leaf[...] = old
        self.run(state, data, order[:1, ...], learning_rate)
        if not all(map(_close, results, recorded)):
            raise BackendError("the fused kernels give another result than CuPy's own")

    def run(
        self, state: State, data: tuple[Array, ...], order: Array, learning_rate: Rate
    ) -> tuple[State, Array]:
        """Run a chunk like `eager.run`. The next chunk overwrites the returned sum."""
        program = self.program
        program.load_state(state, learning_rate)
        for k in range(order.shape[0]):
            for array, batch in zip(data, program.batch, strict=True):
                self.take(array, order[k], 0, batch)
            for function, arguments in self.kernels:
                function(*arguments)
        return program.state, program.total


def _close(x: Array, y: Array) -> bool:
    """Return whether two results differ only by rounding."""
    same = (x == y) | ((x != x) & (y != y))
    if x.dtype.kind == "f" and x.size:
        finite = y[abs(y) < float("inf")]
        same |= abs(x - y) <= 1e-4 * (abs(finite).max() if finite.size else 0.0)
    return bool(same.all())

"""CuPy's part in capturing chunks of training steps: the calls of a recorded step, fused.

A step's calls are recorded once, as `replay` records NumPy's; elementwise ones are put together by
`cupy.fuse`; products go to a cuBLAS handle of their own, since CuPy refuses its own while a stream
is captured. What is left is a score or two of kernels a step, each with its arrays, to capture.
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
"""Versions of CuPy whose captured steps gave the bits of eager ones on a GPU; `ci/gpu` finds out.
With every version, a captured chunk is used only after it gave the result of its warm-up."""

_EXACT = ("--fmad=false",)
"""Round a multiplication and the addition after it apart, as eager calls do."""

ATTEMPTS = 5
"""Captures of one chunk that are begun. Work in another thread that waits for the whole device,
such as the end of a thread that used cuBLAS (CuPy destroys the thread's handle), invalidates each
capture in the process."""
INVALIDATED = "CAPTURE_INVALIDATED"

_capturing = threading.RLock()
"""Held while a stream captures, and while a handle is destroyed, which would invalidate it."""


def runner(step: Step, backend: Host, report: Report) -> Runner:
    """Launch captured chunks of `step`, like `eager.run`."""
    with backend.active():
        return cuda_graph.runner(step, CuPyGraph(report, backend.tf32), report)


class CuPyGraph:
    """A `nnxp.executors.cuda_graph.Capturer`.

    Owns what its graphs use, as long as they live: a stream to capture on, private memory pools,
    a cuBLAS handle with a workspace, the arrays between the kernels.
    """

    def __init__(self, report: Report, tf32: bool = False) -> None:
        import cupy

        self.cupy = cupy
        self.report = report
        self.tf32 = tf32
        self.stream = cupy.cuda.Stream(non_blocking=True)
        # Captured calls use their temporary memory again at each launch, so arrays that live
        # longer come from another pool.
        self.pool = cupy.cuda.MemoryPool()
        self.persistent_pool = cupy.cuda.MemoryPool()
        self.programs: dict[Hashable, _Program] = {}

    def __del__(self) -> None:
        if "blas" in vars(self):
            with suppress(BackendError), _capturing:  # the process may be ending, and CUDA be gone
                self.blas.close()

    @cached_property
    def blas(self) -> Cublas:
        """Made with the first steps, so that where it cannot be, steps run eagerly."""
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
        own = vars(self)
        own.pop("calls", None)
        blas = own.pop("blas", None)
        if blas is not None:
            with suppress(BackendError), _capturing:  # after an error the device may refuse, too
                blas.close()
        own.pop("workspace", None)
        for pool in (self.pool, self.persistent_pool, self.cupy.get_default_memory_pool()):
            pool.free_all_blocks()

    @contextmanager
    def _on_capture_stream(self, pool: Any) -> Iterator[None]:
        """On the stream that captures, with memory of this pool, in turn with the current stream.

        Products go to that stream alone, and it waits for no other by itself.
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
    """No collection of cycles: to destroy a handle waits for the GPU, and would end a capture."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _launch(graph: Any, owner: CuPyGraph) -> None:
    """On the stream that is current, after what was asked of it before; `owner` is kept alive."""
    graph.launch()


class Calls(recording.ArrayOps):
    """Make calls of CuPy."""

    # What is fused needs no memory between its calls, and what is not has its own.
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
        if out.size == 1:  # a kernel of CuPy's own, which may be captured
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
        if len(operands) > 8:  # CuPy then sends a list of them from the host
            raise recording.UnrecordableError("more than eight arrays are joined")
        return super().joined(function, axis, operands, out)

    def fuse(self, function: Callable[..., None], arrays: tuple[Any, ...]) -> Any:
        """One kernel that does what `function` does to these arrays; None if CuPy cannot.

        Runs it, which compiles it. Reports why CuPy cannot: the calls are then run one by one.
        """
        kernel = self.module.fuse(kernel_name="nnxp_fused")(function)
        try:
            # On no elements it is traced, and not compiled yet.
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
        own = leaves(state)
        before = [leaf.copy() for leaf in own]
        program = recording.Program(step, state, data, order[0, ...], calls, learning_rate)
        self.program = program
        kept = [*own, program.total]
        recorded = [array.copy() for array in kept]
        self.kernels = fusion.fused(program.calls, kept, calls, calls.fuse)
        program.calls.clear()  # and with them the results that are now in registers only
        self.take = calls.module.take
        # What CuPy fuses, and how, is up to its version.
        for leaf, old in zip(own, before, strict=True):
            leaf[...] = old
        self.run(state, data, order[:1, ...], learning_rate)
        if not all(map(_close, kept, recorded)):
            raise BackendError("the fused kernels come to something else than CuPy's own")

    def run(
        self, state: State, data: tuple[Array, ...], order: Array, learning_rate: Rate
    ) -> tuple[State, Array]:
        """Like `eager.run`; the sum it returns is overwritten by the next chunk."""
        program = self.program
        program.load_state(state, learning_rate)
        for k in range(order.shape[0]):
            for array, batch in zip(data, program.batch, strict=True):
                self.take(array, order[k], 0, batch)
            for function, arguments in self.kernels:
                function(*arguments)
        return program.state, program.total


def _close(x: Array, y: Array) -> bool:
    """Whether two results differ by rounding at most."""
    same = (x == y) | ((x != x) & (y != y))
    if x.dtype.kind == "f" and x.size:
        finite = y[abs(y) < float("inf")]
        same |= abs(x - y) <= 1e-4 * (abs(finite).max() if finite.size else 0.0)
    return bool(same.all())

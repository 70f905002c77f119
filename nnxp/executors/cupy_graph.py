"""CuPy's part in capturing chunks of training steps: the fused calls of a recorded step.

A step's calls are recorded once, as `replay` records NumPy's. `cuda_kernels` fuses elementwise
calls and reductions. Products use a cuBLAS handle of nnxp's own, because CuPy refuses products
while a stream is captured. That leaves about 15 kernels per step to capture.
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
from nnxp.executors import (
    Host,
    Rate,
    Report,
    Runner,
    State,
    Step,
    cuda_graph,
    cuda_kernels,
    cuda_source,
    recording,
)
from nnxp.executors.cublas import WORKSPACE, Cublas
from nnxp.executors.cuda_kernels import Kernel
from nnxp.executors.cuda_source import Launch, gathering
from nnxp.executors.fusion import groups, is_array
from nnxp.executors.recording import Axis, DType, Function, Made
from nnxp.nested import leaves

VERIFIED_VERSIONS: tuple[str, ...] = ()
"""Versions of CuPy whose captured steps gave the results of eager steps on a GPU, by `ci/gpu`.
CuPy 14.2 has done so on an emulated CUDA, by `ci/cupy`, which does not count here. With every
version, a captured chunk is used only if it gives the same bits as its warm-up."""

ATTEMPTS = 5
"""Attempts to capture a chunk. A call in another thread that waits for the whole device invalidates
every capture in the process. The end of a thread that used cuBLAS is such a call: CuPy destroys the
thread's handle."""
_INVALIDATED = ("CAPTURE_INVALIDATED", "CaptureInvalidated")
"""The driver's and the runtime's names for that."""

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
                said = f"{error} {error.__cause__}"
                if attempt == ATTEMPTS or not any(name in said for name in _INVALIDATED):
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
            except BaseException as error:
                try:
                    self.stream.end_capture()
                except Exception as ended:
                    # cuBLAS does not say that the capture was invalidated, and this does.
                    raise error from ended
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
        self._kernels: dict[str, Any] = {}
        """By source; None for one that cannot be compiled."""
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

    def fill(self, operands: Sequence[Any], out: Array) -> Made:
        return out.fill, tuple(operands)

    def joined(self, function: Function, axis: Axis, operands: Sequence[Array], out: Array) -> Made:
        if len(operands) > 8:  # CuPy then sends a list of pointers from the host
            raise recording.UnrecordableError("more than eight arrays are joined")
        return super().joined(function, axis, operands, out)

    def fused(self, calls: Sequence[recording.Call], read_later: Sequence[Array]) -> list[Made]:
        """Return functions and their arguments that have the same effect as the calls.

        Args:
            calls: the calls of a step.
            read_later: the arrays that are read after the calls.
        """
        kernels = groups(cuda_kernels.split_totals(calls, self), self, Kernel)
        made: list[Made] = []
        for kernel in kernels:
            one_by_one = [call.made for call in kernel.calls]
            if cuda_kernels.is_better(kernel):
                others = (call for other in kernels if other is not kernel for call in other.calls)
                arrays = (each for call in others for each in call.reads if is_array(each))
                made += self._compiled(kernel.launch([*arrays, *read_later]), one_by_one)
            else:
                made += one_by_one
        return made

    def gathered(self, rows: Array, data: Sequence[Array], batch: Sequence[Array]) -> list[Made]:
        """Return functions and their arguments that copy these rows of the data to the batch."""
        one_by_one = [
            (self.module.take, (array, rows, 0, out))
            for array, out in zip(data, batch, strict=True)
        ]
        return self._compiled(gathering(rows, data, batch), one_by_one)

    def _compiled(self, launch: Launch, one_by_one: list[Made]) -> list[Made]:
        """Return the kernel and its launch; `one_by_one`, with a report, if it does not compile."""
        if launch.source not in self._kernels:
            kernel = self.module.RawKernel(launch.source, cuda_source.NAME, cuda_source.OPTIONS)
            try:
                kernel.compile()
            except Exception as error:
                line = f"calls run one by one: they cannot be compiled ({described(error)})"
                self._report(line)
                kernel = None
            self._kernels[launch.source] = kernel
        compiled = self._kernels[launch.source]
        if compiled is None:
            return one_by_one
        return [(compiled, ((launch.blocks,), (launch.threads,), launch.arguments))]


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
        self.calls = calls
        self.kernels = calls.fused(program.calls, results)
        program.calls.clear()  # frees intermediate results, which are now only in registers
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
            gathered = self.calls.gathered(order[k], data, program.batch)
            for function, arguments in (*gathered, *self.kernels):
                function(*arguments)
        return program.state, program.total


def _close(x: Array, y: Array) -> bool:
    """Return whether two results differ only by rounding."""
    same = (x == y) | ((x != x) & (y != y))
    if x.dtype.kind == "f" and x.size:
        finite = y[abs(y) < float("inf")]
        same |= abs(x - y) <= 1e-4 * (abs(finite).max() if finite.size else 0.0)
    return bool(same.all())

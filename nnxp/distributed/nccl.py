"""Add arrays of CuPy by NCCL, on the GPUs themselves.

The sums run on a stream of their own, beside the backpropagation of earlier layers. A CUDA graph
captures them with the step. Not run on GPUs yet: see bench/results/README.md.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from nnxp.arrays import Array
from nnxp.distributed.communicator import Communicator

log = logging.getLogger("nnxp")


def is_usable(world: Any, backend: Any) -> bool:
    """Return whether NCCL is there and each process has a GPU of its own; if not, say why."""
    import cupy
    from mpi4py import MPI

    device = cupy.cuda.runtime.deviceGetPCIBusId(backend.device.id)
    problem = None
    try:  # the module is there if its library is
        from cupy.cuda import nccl  # noqa: F401
    except ImportError:
        problem = "CuPy finds no NCCL (pip install nvidia-nccl-cu13 or nvidia-nccl-cu12)"
    places = world.exchange((MPI.Get_processor_name(), device, problem))
    problem = next((each for *_, each in places if each), None)
    if problem is None and len({place[:2] for place in places}) < world.size:
        problem = "processes share a GPU"
    if problem:
        log.info("gradients are added by MPI through the host's memory: %s", problem)
    return problem is None


class NCCLCommunicator(Communicator):
    """The GPUs of a world's processes, one of each.

    Args:
        world: the processes.
        backend: the CuPy backend of this process.
    """

    name = "NCCL"

    def __init__(self, world: Any, backend: Any) -> None:
        import cupy
        from cupy.cuda import nccl

        super().__init__(world, backend)
        self._cupy = cupy
        identifier = world.first(nccl.get_unique_id() if world.rank == 0 else None)
        with backend.active():
            self._nccl = nccl.NcclCommunicator(world.size, identifier, world.rank)
            self._stream = cupy.cuda.Stream(non_blocking=True)
        self._types = {
            cupy.dtype("float32"): nccl.NCCL_FLOAT32,
            cupy.dtype("float64"): nccl.NCCL_FLOAT64,
        }
        self._add = nccl.NCCL_SUM

    def all_reduce(self, groups: Iterable[Sequence[Array]]) -> list[list[Array]]:
        sent = [[self._apply(array, self._send) for array in group] for group in groups]
        # Each array waits, so that no call on it is moved to before the sums.
        return [[self._apply(array, self._receive) for array in group] for group in sent]

    def _apply(self, array: Array, function: Any) -> Array:
        if hasattr(array, "changed_by"):  # a recorded step repeats the call
            return array.changed_by(function)
        function(array)
        return array

    def _send(self, array: Array) -> None:
        """Begin to add an array, after the work that was queued before."""
        current = self._cupy.cuda.get_current_stream()
        self._stream.wait_event(current.record())
        kind = self._types[array.dtype]
        pointer = array.data.ptr
        self._nccl.allReduce(pointer, pointer, array.size, kind, self._add, self._stream.ptr)

    def _receive(self, array: Array) -> None:
        """Let the work that is queued from now on wait for the sums."""
        self._cupy.cuda.get_current_stream().wait_event(self._stream.record())

    def barrier(self) -> None:
        self.backend.synchronize([])
        super().barrier()

"""PyTorch's part in capturing chunks of training steps: `torch.cuda.CUDAGraph`."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

from nnxp.arrays import Array
from nnxp.executors import Host, Report, Runner, State, Step, cuda_graph, eager


def runner(step: Step, backend: Host, report: Report) -> Runner:
    """Launch captured chunks of `step`, like `eager.run`."""
    return cuda_graph.runner(step, TorchGraph(backend.device), report)


class TorchGraph:
    """A `nnxp.executors.cuda_graph.Capturer`.

    Its graphs are launched on the current stream, one at a time, and leave their results in arrays
    that were made before. So all of them can share one pool of memory.
    """

    def __init__(self, device: Any) -> None:
        import torch

        self.torch = torch
        # Capturing needs a stream of its own. To warm up on the same one leaves cuBLAS with the
        # workspace that the captured products use too.
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def place(self, array: Array) -> Hashable:
        return array.data_ptr(), array.stride()

    def steps(
        self,
        step: Step,
        state: State,
        data: tuple[Array, ...],
        order: Array,
        learning_rate: Array,
    ) -> Runner:
        return partial(eager.run, step)

    def warm_up(self, play: Callable[[], None]) -> None:
        current = self.torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        try:
            with self.torch.cuda.stream(self.stream):
                play()
        finally:  # what it began before an error must not outlast what puts the state right
            current.wait_stream(self.stream)

    def release(self) -> None:
        self.pool = None
        self.torch.cuda.empty_cache()

    def capture(self, play: Callable[[], None]) -> Callable[[], None]:
        graph = self.torch.cuda.CUDAGraph()
        with self.torch.cuda.graph(
            graph,
            pool=self.pool,
            stream=self.stream,
            # Other threads may do with the GPU what they like.
            capture_error_mode="thread_local",
        ):
            play()
        replay: Callable[[], None] = graph.replay
        return replay

"""PyTorch's part in capturing chunks of training steps: `torch.cuda.CUDAGraph`."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

from nnxp.arrays import Array
from nnxp.executors import Host, Report, Runner, State, Step, cuda_graph, eager


def runner(step: Step, backend: Host, report: Report) -> Runner:
    """Return a function like `eager.run` that captures chunks of `step` and launches them."""
    return cuda_graph.runner(step, TorchGraph(backend.device), report)


class TorchGraph:
    """A `nnxp.executors.cuda_graph.Capturer`.

    Its graphs are launched on the current stream, one at a time, and write their results into
    existing arrays. So all graphs can share one memory pool.
    """

    def __init__(self, device: Any) -> None:
        import torch

        self.torch = torch
        # Capturing needs a stream of its own. The warm-up uses it too, so that cuBLAS has made the
        # workspace that the captured products use.
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
        finally:  # after an error, its work must end before the state is restored
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
            # Other threads may use the GPU meanwhile.
            capture_error_mode="thread_local",
        ):
            play()
        replay: Callable[[], None] = graph.replay
        return replay

"""Trains with PyTorch in a CUDA graph: the whole step is captured once and replayed per batch.

It follows "Whole-network capture" in the CUDA semantics chapter of PyTorch's documentation. The
rows of a batch are copied to where the graph reads them: one small copy and one launch per step. A
counter inside the graph could find them, which saves the host a call but costs the GPU two kernels,
and a step waits for the GPU. The update is the fused kernel, which writes all parameters at once.
"""

from typing import Any

import numpy as np
import torch
from peers.pytorch import PyTorch

from nnxp.benchmark.workloads import LEARNING_RATE, Workload


class PyTorchCUDAGraph(PyTorch):
    """Replays a graph that reads the batch's rows from one tensor and gathers the batch."""

    name = "PyTorch CUDA graph"

    def __init__(self, workload: Workload, device: str | None = None) -> None:
        if not (device or "cuda").startswith("cuda") or not torch.cuda.is_available():
            raise RuntimeError("needs CUDA")
        super().__init__(workload, device or "cuda")
        torch.cuda.set_device(self.device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LEARNING_RATE, fused=True)
        self.rows = torch.arange(workload.batch_size, device=self.device)
        self.graph = torch.cuda.CUDAGraph()
        self.capture()

    def train(self, order: np.ndarray) -> None:
        for rows in torch.from_numpy(order).to(self.device).unbind():
            self.rows.copy_(rows)
            self.graph.replay()

    def capture(self) -> None:
        """Warm up on a separate stream, undo that training, capture one step."""
        before = [parameter.detach().clone() for parameter in self.model.parameters()]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.take_step()
        torch.cuda.current_stream().wait_stream(stream)
        with torch.no_grad():
            for parameter, value in zip(self.model.parameters(), before, strict=True):
                parameter.copy_(value)
        # Without gradients, the captured backward pass allocates them in the graph's memory.
        self.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(self.graph):
            self.take_step()

    def take_step(self) -> None:
        self.step(self.x.index_select(0, self.rows), self.t.index_select(0, self.rows))

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"compiler": "CUDA graph"}

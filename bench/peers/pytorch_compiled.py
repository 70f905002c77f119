"""Trains with compiled PyTorch: `torch.compile` of the whole step.

`torch.func.grad` computes the gradient, so that forward, backward and update are one graph. With
`loss.backward()` and `optimizer.step()` a step becomes several graphs, which are slower than eager
steps on `tiny` and `small`.
"""

from typing import Any

import numpy as np
import torch
from peers.pytorch import PyTorch
from torch.func import functional_call, grad

from nnxp.benchmark.workloads import LEARNING_RATE, Workload


class PyTorchCompiled(PyTorch):
    """Needs a C++ compiler on a CPU; the batch is gathered inside the graph."""

    name = "PyTorch compiled"

    def __init__(self, workload: Workload, device: str | None = None) -> None:
        super().__init__(workload, device)
        self.weights = {name: w.detach() for name, w in self.model.named_parameters()}
        # A step of a small network takes less time than calling its kernels from Python.
        options = {"cpp_wrapper": True} if self.device.type == "cpu" else None
        self.compiled = torch.compile(self.apply_step, fullgraph=True, options=options)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def train(self, order: np.ndarray) -> None:
        for rows in torch.from_numpy(order).to(self.device).unbind():
            self.compiled(self.weights, self.x, self.t, rows)

    def apply_step(
        self, weights: dict[str, torch.Tensor], x: torch.Tensor, t: torch.Tensor, rows: torch.Tensor
    ) -> None:
        """Take one step, which updates the weights in place."""

        def loss(weights: dict[str, torch.Tensor]) -> torch.Tensor:
            return self.loss(functional_call(self.model, weights, x[rows]), t[rows])

        for name, gradient in grad(loss)(weights).items():
            weights[name].sub_(LEARNING_RATE * gradient)

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"compiler": "inductor"}

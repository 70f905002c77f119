"""Trains with eager PyTorch: `nn.Sequential`, autograd, `optim.SGD`."""

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from nnxp.benchmark.workloads import LEARNING_RATE, Workload


class PyTorch:
    """Keeps every tensor on the device, where `index_select` gathers the batches."""

    name = "PyTorch"
    note = ""

    def __init__(self, workload: Workload, device: str | None = None) -> None:
        self.device = torch.device(device or "cpu")
        self.model = _model(workload).to(self.device)
        self.loss = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LEARNING_RATE)
        self.x, self.t = (torch.from_numpy(array).to(self.device) for array in workload.data)

    def train(self, order: np.ndarray) -> None:
        for rows in torch.from_numpy(order).to(self.device).unbind():
            self.step(self.x.index_select(0, rows), self.t.index_select(0, rows))

    def step(self, x: torch.Tensor, t: torch.Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(self.model(x), t).backward()
        self.optimizer.step()

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def parameters(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return [
            (layer.weight.detach().cpu().numpy().T, layer.bias.detach().cpu().numpy())
            for layer in self.model
            if isinstance(layer, nn.Linear)
        ]

    def describe(self) -> dict[str, Any]:
        return {
            "library": "torch",
            "version": str(torch.__version__),
            "device": str(self.device),
            "dtype": "float32",
            "tf32": torch.backends.cuda.matmul.allow_tf32,
            "threads": torch.get_num_threads(),
        }


def _model(workload: Workload) -> nn.Sequential:
    """Return linear layers and ReLU in turn, the logits last, with the workload's weights."""
    layers: list[nn.Module] = []
    for fans, (weight, bias) in zip(pairwise(workload.sizes), workload.parameters, strict=True):
        linear = nn.Linear(*fans)
        linear.load_state_dict({"weight": torch.tensor(weight.T), "bias": torch.tensor(bias)})
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])

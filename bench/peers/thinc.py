"""Trains with Thinc: `chain` of `Relu` and `Softmax` layers, its `SGD`."""

from itertools import pairwise
from typing import Any

import numpy as np
import thinc
from thinc.api import SGD, Model, Relu, Softmax, chain, use_ops

from nnxp.benchmark.workloads import LEARNING_RATE, Workload


class Thinc:
    """Uses NumPy's matrix products, which are faster than Thinc's default, BLIS."""

    name = "Thinc"
    note = ""

    def __init__(self, workload: Workload, device: str | None = None) -> None:
        x, classes = workload.data
        self.x, self.t = x, np.eye(workload.sizes[-1], dtype=np.float32)[classes]
        with use_ops("numpy", use_blis=False):
            self.model = _model(workload)
        self.optimizer = SGD(LEARNING_RATE, grad_clip=0.0, use_averages=False)

    def train(self, order: np.ndarray) -> None:
        for rows in order:
            t = self.t[rows]
            y, backpropagate = self.model.begin_update(self.x[rows])
            backpropagate((y - t) / np.float32(len(t)))
            self.model.finish_update(self.optimizer)

    def wait(self) -> None:
        pass

    def parameters(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(layer.get_param("W").T, layer.get_param("b")) for layer in self.model.layers]

    def describe(self) -> dict[str, Any]:
        return {
            "library": "thinc",
            "version": thinc.__version__,
            "device": "cpu",
            "dtype": str(self.model.layers[0].get_param("W").dtype),
        }


def _model(workload: Workload) -> Model[Any, Any]:
    last = len(workload.parameters) - 1
    layers: list[Model[Any, Any]] = []
    for number, (fan_in, fan_out) in enumerate(pairwise(workload.sizes)):
        layer = Softmax(fan_out, fan_in) if number == last else Relu(fan_out, fan_in)
        weight, bias = workload.parameters[number]
        layer.set_param("W", np.ascontiguousarray(weight.T))
        layer.set_param("b", bias.copy())
        layers.append(layer)
    model: Model[Any, Any] = chain(*layers)
    return model

"""ONNX: a chain of Gemm, or of MatMul and Add, with activations between.

Exporters write an activation as one operator or as a dozen. It is recognised by what it computes:
onnx's own evaluator runs the operators on a few numbers, and nnxp's activations run on the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from nnxp import extras
from nnxp.errors import DataError, NnxpError, first_line
from nnxp.kernels import ACTIVATIONS
from nnxp.names import ActivationName
from nnxp.weights.layout import Layer, Weights, oriented

USE = "reading ONNX"
TOLERANCE = 1e-5
"""The largest difference from an activation of nnxp, on `NUMBERS`."""
NUMBERS = np.linspace(-8.0, 8.0, 203, dtype=np.float32).reshape(-1, 7)
"""Pre-activations, (samples, units), on which operators are compared with activations."""
PASSES = {"Cast", "Dropout", "Flatten", "Identity"}
"""Operators that leave (batch, features) as they are; Dropout acts in training only."""
ELEMENTWISE = {
    "Abs", "Add", "And", "Celu", "Clip", "Div", "Elu", "Equal", "Erf", "Exp", "Gelu", "Greater",
    "GreaterOrEqual", "HardSigmoid", "HardSwish", "IsInf", "IsNaN", "LeakyRelu", "Less",
    "LessOrEqual", "Log", "LogSoftmax", "Max", "Min", "Mish", "Mul", "Neg", "Not", "Or", "Pow",
    "Reciprocal", "ReduceMax", "ReduceSum", "Relu", "Selu", "Sigmoid", "Sign", "Softmax",
    "Softplus", "Softsign", "Sqrt", "Sub", "Swish", "Tanh", "ThresholdedRelu", "Where",
}  # fmt: skip
"""Operators that may be part of an activation. With constants of one element, none makes an array
that is larger than its arguments."""


def read(path: Path, layout: str | None) -> Weights:
    """Read the layers and the activations of a chain; see `weights.read`."""
    onnx = extras.require("onnx", USE, "onnx")
    try:
        return _Chain(path, onnx.load_model_from_string(path.read_bytes())).weights(layout)
    except (NnxpError, OSError):
        raise
    except Exception as error:  # protobuf's, and whatever a damaged graph makes fail
        raise DataError(f"{path}: not a readable ONNX model ({first_line(error)})") from None


class _Chain:
    """A graph, followed from its output back to its input."""

    def __init__(self, path: Path, model: Any) -> None:
        self.path, self.model = path, model
        graph = model.graph
        self.nodes = list(graph.node)  # protobuf makes objects anew for nodes that nothing holds
        self.makers = {name: node for node in self.nodes for name in node.output}
        self.positions = {id(node): i for i, node in enumerate(self.nodes)}
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.users: dict[str, list[Any]] = {}
        for node in self.nodes:
            for name in node.input:
                self.users.setdefault(name, []).append(node)

    def weights(self, layout: str | None) -> Weights:
        """Return the layers, in the order of the network."""
        graph = self.model.graph
        given = [each.name for each in graph.input if each.name not in self.initializers]
        if len(given) != 1:
            raise DataError(f"{self.path}: has {len(given)} inputs; a chain of layers has one")
        value, problem = self._output(), None
        layers: list[Layer] = []
        turned: list[bool] = []
        activations: list[ActivationName] = []
        while True:
            source, nodes = self._segment(value, given[0])
            if source == given[0]:
                self._check_first(nodes, source, value)
                break
            if len(layers) > len(self.nodes):
                raise DataError(f"{self.path}: its operators run in a circle")
            linear = self.makers[source]
            layer, is_turned, nodes, z = self._layer(linear, nodes)
            layers.append(layer)
            turned.append(is_turned)
            name, unknown = self._activation(layer, nodes, z, value)
            activations.append(name)
            problem = unknown or problem
            value = linear.input[0]
        if not layers:
            raise DataError(f"{self.path}: has no layers: no Gemm and no MatMul")
        layers, turned, activations = layers[::-1], turned[::-1], activations[::-1]
        if all(turned):
            fixed = "out-in", "Gemm has transB=1"
        else:
            fixed = "in-out", "they are the right factors of products"
            if any(turned):
                fixed = "in-out", f"{fixed[1]}; those of Gemm with transB=1 were transposed"
            layers = [
                layer._replace(weight=layer.weight.T) if is_turned else layer
                for layer, is_turned in zip(layers, turned, strict=True)
            ]
        found = oriented(self.path, layers, fixed, layout)
        if problem is not None:
            return replace(found, unknown=problem)
        *hidden, output = activations
        return replace(found, hidden=tuple(hidden), output=output)

    def _check_first(self, nodes: list[Any], x: str, value: str) -> None:
        """Refuse operators before the first layer that change the features."""
        why = "stands before the first layer, as preprocessing"
        for node in nodes:
            if node.op_type not in PASSES:
                raise self._refusal(node, why)
        if nodes and not np.array_equal(self._run(nodes, x, value, NUMBERS), NUMBERS):
            raise self._refusal(nodes[0], why)

    def _output(self) -> str:
        """Return the name of the output with the network's values."""
        onnx = extras.require("onnx", USE, "onnx")
        floating = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
        outputs = [
            each.name
            for each in self.model.graph.output
            if each.type.tensor_type.elem_type in floating
        ]
        if len(outputs) != 1:
            raise DataError(
                f"{self.path}: has {len(outputs)} real-valued outputs; a chain of layers has one"
            )
        return str(outputs[0])

    def _segment(self, value: str, given: str) -> tuple[str, list[Any]]:
        """Go back from a value to the product, or the graph's input, of which it is computed.

        Returns:
            The name of what the product made, or of the input; the operators after it, in order.
        """
        sources, nodes, waiting, seen = set(), [], [value], set()
        while waiting:
            name = waiting.pop()
            if name in seen or not name or self._is_constant(name):
                continue
            seen.add(name)
            node = self.makers.get(name)
            if node is None or self._is_product(node):
                if node is None and name != given:
                    raise DataError(f"{self.path}: nothing makes {name}")
                sources.add(name)
                continue
            if node.domain not in ("", "ai.onnx") or node.op_type not in ELEMENTWISE | PASSES:
                raise self._refusal(node, "is no part of a fully connected layer")
            nodes.append(node)
            waiting += node.input
        if len(sources) != 1:
            raise DataError(
                f"{self.path}: {value} is computed of {', '.join(sorted(sources)) or 'constants'}: "
                "no chain of layers"
            )
        unique = {id(node): node for node in nodes}.values()
        return sources.pop(), sorted(unique, key=lambda node: self.positions[id(node)])

    def _is_product(self, node: Any) -> bool:
        return node.domain in ("", "ai.onnx") and node.op_type in ("Gemm", "MatMul")

    def _layer(self, node: Any, after: list[Any]) -> tuple[Layer, bool, list[Any], str]:
        """Return a product's layer, whether it is (out, in), the operators after it, and its z."""
        for name in node.input[1:]:
            if name and not self._is_constant(name):
                raise self._refusal(node, f"multiplies with or adds {name}, which is no constant")
        if self._is_constant(node.input[0]):
            raise self._refusal(node, "has its constant on the left: the batch must come first")
        weight, z = self._constant(node.input[1]), node.output[0]
        if weight.ndim != 2 or weight.dtype.kind != "f":
            raise self._refusal(node, f"has a weight of {weight.shape}, {weight.dtype}")
        settings = {each.name: _plain(each) for each in node.attribute}
        turned = bool(settings.get("transB", 0))
        units = weight.shape[0 if turned else 1]
        bias = None
        if node.op_type == "Gemm":
            if settings.get("transA", 0):
                raise self._refusal(node, "has transA=1: the batch must come first")
            weight = weight * weight.dtype.type(settings.get("alpha", 1.0))
            if len(node.input) > 2 and node.input[2]:
                bias = self._constant(node.input[2])
                bias = bias * bias.dtype.type(settings.get("beta", 1.0))
        elif len(users := self.users.get(z, [])) == 1 and users[0].op_type == "Add":
            (other,) = [name for name in users[0].input if name != z] or [z]
            if self._is_constant(other) and self._constant(other).size == units:
                bias, z = self._constant(other), users[0].output[0]
                after = [each for each in after if each is not users[0]]
        if bias is None:
            bias = np.zeros(units, weight.dtype)
        if bias.size not in (1, units) or bias.ndim > 2:
            raise self._refusal(node, f"has a bias of {bias.shape} for {units} units")
        bias = np.broadcast_to(bias.reshape(-1), (units,)).copy()
        return Layer(node.input[1], weight, bias), turned, after, z

    def _activation(
        self, layer: Layer, nodes: list[Any], z: str, y: str
    ) -> tuple[ActivationName, str | None]:
        """Return the activation that is nearest to these operators, and what is wrong, if any."""
        kinds = ", ".join(node.op_type for node in nodes[:8]) + ", ..." * (len(nodes) > 8)
        for node in nodes:
            for name in filter(self._is_constant, node.input):
                if (constant := self._constant(name)).size != 1:
                    raise self._refusal(
                        node, f"has a constant of {constant.shape}: no activation, and no bias"
                    )
        numbers = NUMBERS.astype(layer.weight.dtype)
        found = self._run(nodes, z, y, numbers)
        differences = {
            name: _difference(found, forward, numbers) for name, (forward, _) in ACTIVATIONS.items()
        }
        nearest = cast(ActivationName, min(differences, key=lambda name: differences[name]))
        if differences[nearest] <= TOLERANCE:
            return nearest, None
        hint = ""
        if differences[nearest] < 0.1:
            hint = f"; {nearest} is the nearest, which differs by up to {differences[nearest]:.1e}"
        return nearest, f"{self.path}: {kinds} after {layer.name}: none of nnxp's activations{hint}"

    def _run(self, nodes: list[Any], z: str, y: str, numbers: np.ndarray) -> np.ndarray:
        """Compute `y` of `z` by operators of the graph."""
        onnx = extras.require("onnx", USE, "onnx")
        reference = extras.require("onnx.reference", USE, "onnx")
        if not nodes:
            return numbers
        names = sorted({name for node in nodes for name in node.input if self._is_constant(name)})
        kind = onnx.helper.np_dtype_to_tensor_dtype(numbers.dtype)
        graph = onnx.helper.make_graph(
            nodes,
            "activation",
            [onnx.helper.make_tensor_value_info(z, kind, ["batch", "units"])],
            [onnx.helper.make_tensor_value_info(y, kind, None)],
            [onnx.numpy_helper.from_array(self._constant(name), name) for name in names],
        )
        model = onnx.helper.make_model(graph, opset_imports=self.model.opset_import)
        with np.errstate(all="ignore"):
            (found,) = reference.ReferenceEvaluator(model).run([y], {z: numbers})
        return np.asarray(found)

    def _is_constant(self, name: str) -> bool:
        if name in self.initializers:
            return True
        node = self.makers.get(name)
        if node is None or node.op_type not in ("Constant", "Transpose", "Identity"):
            return False
        inner = node.input[:1]
        return all(each != name and self._is_constant(each) for each in inner)

    def _constant(self, name: str) -> np.ndarray:
        if name in self.initializers:
            return self._array(self.initializers[name])
        node = self.makers[name]
        if node.op_type == "Constant":
            (value,) = node.attribute
            return self._array(value.t) if value.name == "value" else np.asarray(_plain(value))
        array = self._constant(node.input[0])
        if node.op_type == "Identity":
            return array
        axes = [_plain(each) for each in node.attribute if each.name == "perm"]
        return array.transpose(*axes)

    def _array(self, tensor: Any) -> np.ndarray:
        onnx = extras.require("onnx", USE, "onnx")
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise DataError(
                f"{self.path}: {tensor.name} lies in another file: save it with "
                "save_as_external_data=False"
            )
        array = np.asarray(onnx.numpy_helper.to_array(tensor))
        if array.shape != tuple(tensor.dims):  # -1 is no size of ONNX
            raise DataError(f"{self.path}: {tensor.name} declares {tuple(tensor.dims)}")
        return array

    def _refusal(self, node: Any, why: str) -> DataError:
        name = f" {node.name}" if node.name and node.name != node.op_type else ""
        return DataError(
            f"{self.path}: the operator {node.op_type}{name} {why}: only chains of Gemm, or MatMul "
            "and Add, with activations between can be imported"
        )


def _difference(found: np.ndarray, forward: Callable[[Any], Any], numbers: np.ndarray) -> float:
    """Return the largest difference of an activation from what was found, relative above one."""
    try:
        y = np.asarray(forward(numbers.copy()))
        difference = np.abs(found - y).max() / max(1.0, float(np.abs(y).max()))
    except Exception:  # a function of the user's own, which is not for NumPy
        return float("inf")
    return float(difference) if np.isfinite(difference) else float("inf")


def _plain(attribute: Any) -> Any:
    """Return an attribute's number or numbers."""
    onnx = extras.require("onnx", USE, "onnx")
    return onnx.helper.get_attribute_value(attribute)

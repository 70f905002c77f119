"""Export to ONNX: a file from which other runtimes predict, without nnxp and without Python.

No operator is written by hand. The functions with which a network predicts use the Array API
standard alone, so they run on ndonnx's arrays too, which note each call as ONNX operators.
`nnxp.weights` reads weights from ONNX files.

Source: https://onnx.ai/onnx/intro, https://github.com/quantco/ndonnx
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import nnxp
from nnxp import datasets, extras, files, options
from nnxp.arrays import Array, namespace, to_numpy
from nnxp.concurrency import warnings_ignored
from nnxp.datasets.features import from_metadata
from nnxp.errors import InputError, described, first_line, shown
from nnxp.network import MLP, classes, forward_function
from nnxp.objectives import PROBABILITIES
from nnxp.preprocessing import Preprocessing
from nnxp.randomness import Purpose, generator

log = logging.getLogger("nnxp")

if TYPE_CHECKING:
    import onnx
    import onnx_ir

OLDEST_OPSET, OPSET = 14, 21
"""The oldest opset in which every activation can be written, and the default, ndonnx's own."""
LARGEST_FILE = 2**31 - 2**20
"""Bytes of parameters that a file holds: protobuf ends at 2 GB."""
INPUT, PRODUCER = "X", "nnxp"
TOLERANCE = 1e-3
"""The largest difference on random rows, relative to the largest output: wrong graphs differ more,
rounding less."""


def to_onnx(model: Any, *, opset: int = OPSET) -> onnx.ModelProto:
    """Return a network or an estimator as an ONNX model.

    The input is "X", (batch, features), for a batch of any size: raw features if the model's
    metadata has a preprocessing, which is then part of the graph. It is float64 where preprocessing
    computes in float64, float32 for other preprocessing, and of the network's dtype without any.
    The graph checks nothing: it expects finite numbers.

    The outputs are those of the model's own methods:

        classes     "label", (batch,): `predict_classes`, or `predict` of an estimator; names where
                    the metadata has names, else integers; (batch, labels), 0 and 1, for labels
                    "probabilities", (batch, outputs): `predict`, or `predict_proba`; called
                    "scores" if the output activation gives no probabilities
        real values "predictions": `predict`, in the unit of the targets

    Args:
        model: an `nnxp.MLP`, or a fitted `nnxp.sklearn.MLPClassifier` or `MLPRegressor`.
        opset: the version of ONNX's operators, 14 or more; a runtime needs to know it.

    Raises:
        InputError: the model is of another kind or not fitted, the opset is not known, the
            parameters exceed 2 GB, an activation cannot be written as ONNX, or ndonnx, onnx or
            onnxscript is missing.
        ModelError: the network's metadata does not fit it.

    Example:
        >>> import nnxp
        >>> from nnxp.onnx import to_onnx
        >>> exported = to_onnx(nnxp.MLP([4, 8, 3], backend="numpy"))
        >>> [output.name for output in exported.graph.output]
        ['label', 'probabilities']
    """
    onnx, _, _ = map(_require, ("onnx", "ndonnx", "onnxscript"))
    opset = options.whole(1)("opset", opset)
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= opset <= newest:
        raise InputError(
            f"opset {opset}: nnxp writes {OLDEST_OPSET} to {newest} with onnx {onnx.__version__}"
        )
    plan = _plan(model)
    exported = _finished(_traced(plan), opset)
    exported.doc_string = plan.describe()
    onnx.checker.check_model(exported, full_check=True)
    _compare(exported, plan)
    return exported


@options.checked(path=options.PATH)
def save(model: Any, path: str | os.PathLike[str], *, opset: int = OPSET) -> onnx.ModelProto:
    """Write `to_onnx(model, opset=opset)` to a file, completely or not at all, and return it.

    Raises:
        InputError, ModelError: see `to_onnx`.
        OSError: the folder or the disk refuses; a file that was at `path` is unchanged.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import nnxp
        >>> from nnxp import onnx
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     exported = onnx.save(nnxp.MLP([4, 3]), Path(folder, "model.onnx"))
        >>> onnx.describe(exported)[0]
        'X: float[batch, 4]'
    """
    exported = to_onnx(model, opset=opset)
    files.write(path, exported.SerializeToString())
    return exported


def describe(exported: onnx.ModelProto) -> list[str]:
    """Describe the inputs and outputs of an ONNX model, a line each: "X: float[batch, 64]"."""
    onnx = _require("onnx")
    lines = []
    for value in (*exported.graph.input, *exported.graph.output):
        tensor = value.type.tensor_type
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
        shape = ", ".join(each.dim_param or str(each.dim_value) for each in tensor.shape.dim)
        lines.append(f"{value.name}: {kind}[{shape}]")
    return lines


def is_ours(path: str | os.PathLike[str]) -> bool:
    """Return whether the file at `path` is an ONNX model that nnxp wrote."""
    try:
        found = _require("onnx").load(path, load_external_data=False).producer_name
    except Exception:  # protobuf's, for any file that is something else
        return False
    return str(found) == PRODUCER


def _require(module: str) -> Any:
    # ndonnx then folds constants with onnx's own evaluator, which gives the same graph.
    with warnings_ignored("onnxruntime is not installed"):
        return extras.require(module, "exporting to ONNX", "onnx")


@dataclass(frozen=True)
class _Plan:
    """What to trace."""

    network: MLP
    fill: tuple[float | None, ...]
    """What stands for a missing value in each column, which is NaN; () if none may be missing."""
    preprocessing: Preprocessing | None
    heads: Callable[[Array], dict[str, Array]]
    """From the network's outputs, (batch, outputs), to those of the ONNX model, by name."""

    @property
    def activations(self) -> str:
        return ", ".join(dict.fromkeys((*self.network.hidden, self.network.output)))

    def describe(self) -> str:
        sizes = "-".join(map(str, self.network.sizes))
        text = f"Multi-layer perceptron {sizes} with {self.activations}."
        if self.preprocessing is None:
            return text
        return f"{text} {INPUT} are raw features; preprocessing: {self.preprocessing.kind}."


def _plan(model: Any) -> _Plan:
    if isinstance(model, MLP):
        known = datasets.described(model.metadata, model.sizes)
        stored = known.get("preprocessing")
        preprocessing = None if stored is None else Preprocessing(**stored)
        return _Plan(model, _fill(known), preprocessing, _network_heads(model, known))
    network = getattr(model, "network_", None)
    if isinstance(network, MLP):
        heads = _classifier_heads if hasattr(model, "classes_") else _regressor_heads
        return _Plan(network, (), None, heads(model))
    if hasattr(model, "hidden_layer_sizes"):
        raise InputError(f"{type(model).__name__} is not fitted by nnxp: call nnxp's fit first")
    raise InputError(
        f"model must be an nnxp.MLP or an estimator of nnxp.sklearn, not {shown(model)}"
    )


def _fill(known: dict[str, Any]) -> tuple[float | None, ...]:
    """Return `_Plan.fill` of a model's metadata.

    Raises:
        InputError: the model takes text, of which its own metadata makes numbers.
    """
    encoding = from_metadata(known.get("encoding"))
    if encoding is None or all(value is None for value in (*encoding.fill, *encoding.categories)):
        return ()
    if any(encoding.categories):
        texts = [i for i, each in enumerate(encoding.categories) if each]
        names = [known["features"][i] if "features" in known else str(i) for i in texts]
        raise InputError(
            f"columns {shown(', '.join(names))} are text, and an ONNX model's input is numbers: "
            "delete metadata['encoding'] of the network to export it for encoded columns"
        )
    return tuple(None if value is None else float(value) for value in encoding.fill)


def _network_heads(network: MLP, known: dict[str, Any]) -> Callable[[Array], dict[str, Array]]:
    probable = network.output in PROBABILITIES
    task = known.get("task")
    if task is None:
        task = "classify" if probable or "cross_entropy" in network.loss else "regress"

    def heads(y: Array) -> dict[str, Array]:
        if task == "regress":
            return {"predictions": y}
        if task == "multilabel":
            threshold = 0.5 if probable else 0.0
            label = namespace(y).astype(y > threshold, namespace(y).int64)
        else:
            label = classes(network, y)
            if known.get("classes"):
                label = _taken(np.asarray(known["classes"], dtype=np.str_), label)
        return {"label": label, "probabilities" if probable else "scores": y}

    return heads


def _classifier_heads(estimator: Any) -> Callable[[Array], dict[str, Array]]:
    """Compute `predict` and `predict_proba` of `nnxp.sklearn.MLPClassifier`."""
    network = estimator.network_

    def heads(y: Array) -> dict[str, Array]:
        xp = namespace(y)
        if estimator._label_binarizer.y_type_.startswith("multilabel"):
            return {"label": xp.astype(y > 0.5, xp.int64), "probabilities": y}
        codes = classes(network, y)
        if len(estimator.classes_) == 1:
            codes = xp.zeros_like(codes)
        if network.sizes[-1] == 1:
            y = xp.concat([1.0 - y, y], axis=1)
        return {"label": _taken(_plain(estimator.classes_), codes), "probabilities": y}

    return heads


def _regressor_heads(estimator: Any) -> Callable[[Array], dict[str, Array]]:
    """Compute `predict` of `nnxp.sklearn.MLPRegressor`."""

    def heads(y: Array) -> dict[str, Array]:
        if estimator.out_activation_ == "exp":
            y = namespace(y).exp(y)
        return {"predictions": y[:, 0] if estimator.n_outputs_ == 1 else y}

    return heads


def _plain(labels: np.ndarray) -> np.ndarray:
    """Return an estimator's classes in a type that ONNX has."""
    kind = labels.dtype.kind
    if kind in "iu":
        return labels.astype(np.int64)
    if kind in "bf":
        return labels
    if all(isinstance(label, str) for label in labels.tolist()):
        return labels.astype(np.str_)
    raise InputError(f"classes {shown(labels.tolist())}: ONNX has labels of numbers or text only")


def _taken(table: np.ndarray, codes: Array) -> Array:
    xp = namespace(codes)
    return xp.take(xp.asarray(table), codes, axis=0)


def _traced(plan: _Plan) -> onnx_ir.Model:
    """Run the network on ndonnx's arrays; return the graph that they noted, simplified."""
    import ndonnx
    import onnx_ir

    network, preprocessing = plan.network, plan.preprocessing
    dtype = getattr(ndonnx, network.dtype)
    parameters = {
        f"layers.{i}.{name}": to_numpy(array)
        for i, layer in enumerate(network.parameters)
        for name, array in zip(("weight", "bias"), layer, strict=True)
    }
    if (size := sum(array.nbytes for array in parameters.values())) > LARGEST_FILE:
        raise InputError(f"parameters of {size:,} bytes: an ONNX file holds {LARGEST_FILE:,}")
    arguments = {
        name: ndonnx.argument(shape=array.shape, dtype=dtype) for name, array in parameters.items()
    }
    features, taken = network.sizes[0], dtype
    if preprocessing is not None:
        features = preprocessing.features or features
        taken = ndonnx.float32 if preprocessing.divides_in_float32 else ndonnx.float64
    x = given = ndonnx.argument(shape=("batch", features), dtype=taken)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*lossy cast")
            if plan.fill:
                fill = [np.nan if value is None else value for value in plan.fill]
                x = ndonnx.where(ndonnx.isnan(x), ndonnx.asarray(fill, dtype=x.dtype), x)
            if preprocessing is not None:
                x = ndonnx.astype(preprocessing.formula(x), dtype, copy=False)
            layers = [
                (arguments[f"layers.{i}.weight"], arguments[f"layers.{i}.bias"])
                for i in range(len(network.parameters))
            ]
            _, y = forward_function(network.hidden, network.output)(layers, x)
            if network.target_scaling is not None:
                y = network.target_scaling.invert(y)
            heads = plan.heads(y)
            proto = ndonnx.build({INPUT: given, **arguments}, heads)
    except InputError:
        raise
    except Exception as error:  # whatever a function of the user's own does to ndonnx's arrays
        raise InputError(
            f"{plan.activations}: cannot be written as ONNX "
            f"({described(error)}): use only what the Array API standard and ndonnx have"
        ) from error
    model = onnx_ir.from_proto(proto)
    _make_constant(model.graph, parameters)
    return _simplified(model)


def _make_constant(graph: onnx_ir.Graph, parameters: dict[str, np.ndarray]) -> None:
    """Turn the inputs of these names into constants."""
    import onnx_ir

    for value in list(graph.inputs):
        if value.name in parameters:
            value.const_value = onnx_ir.tensor(parameters[value.name], name=value.name)
            graph.inputs.remove(value)
            graph.register_initializer(value)


def _simplified(model: onnx_ir.Model) -> onnx_ir.Model:
    """Remove what ndonnx adds for arrays without elements and for NaN, then fold constants.

    ndonnx guards each product and maximum with `If` for arrays of size zero, with 60 operators
    in each, and computes maxima anew where NaN occurs, which no prediction of nnxp has.
    """
    import onnx_ir
    from onnxscript import optimizer, rewriter

    false = onnx_ir.Value(name="false", const_value=onnx_ir.tensor(np.asarray(False)))
    model.graph.register_initializer(false)
    for node in onnx_ir.traversal.RecursiveGraphIterator(model.graph):
        if node.op_type == "If" and _asks_if_empty(node.inputs[0]):
            node.replace_input_with(0, false)
    optimizer.optimize(model)
    model = onnx_ir.from_proto(onnx_ir.to_proto(model))  # without the branches that are gone
    rewriter.rewrite(model, [rewriter.pattern.RewriteRule(_guarded_max, _plain_max)])
    optimizer.optimize(model)
    for i, node in enumerate(model.graph):
        node.name = f"{node.op_type}_{i}"
        for output in node.outputs:
            if not output.is_graph_output():
                output.name = node.name
    for i, value in enumerate(list(model.graph.initializers.values())):
        if not value.name.startswith("layers."):
            value.name = f"constant_{i}"
    return model


def _asks_if_empty(condition: Any) -> bool:
    """Return whether a value is Size(a) == 0, or Size(a) * Size(b) == 0."""
    import onnx_ir

    def is_size(value: Any) -> bool:
        node = value.producer()
        if node is not None and node.op_type == "Mul":
            return all(map(is_size, node.inputs))
        return node is not None and node.op_type == "Size"

    node = condition.producer()
    if node is None or node.op_type != "Equal" or not is_size(node.inputs[0]):
        return False
    other = onnx_ir.convenience.get_const_tensor(node.inputs[1])
    return other is not None and not other.numpy().any()


def _guarded_max(op: Any, x: Any, nan: Any, axes: Any, first: Any, last: Any, keep: Any) -> Any:
    """The pattern of a maximum of ndonnx."""
    is_nan = op.ReduceMax(op.IsNaN(x), axes, keepdims=keep)
    largest = op.ReduceMax(op.Unsqueeze(x, first), axes, keepdims=keep)
    return op.Where(is_nan, nan, op.Squeeze(largest, last))


def _plain_max(op: Any, x: Any, axes: Any, keep: Any, **_: Any) -> Any:
    return op.ReduceMax(x, axes, keepdims=keep)


def _finished(model: onnx_ir.Model, opset: int) -> onnx.ModelProto:
    """Return the graph in this opset, named and checked."""
    import onnx
    import onnx_ir
    from onnx import version_converter

    for node in model.graph:
        if node.op_type == "Cast":  # an attribute for 8 bits, which older opsets do not know
            node.attributes.pop("saturate", None)
    proto = onnx_ir.to_proto(model)
    if opset != OPSET:
        try:
            proto = version_converter.convert_version(proto, opset)
        except Exception as error:  # RuntimeError, in C++
            raise InputError(
                f"opset {opset}: has not all operators of this network ({first_line(error)}): "
                f"take {OPSET}"
            ) from None
    proto.ir_version = onnx.helper.find_min_ir_version_for(proto.opset_import)
    proto.producer_name, proto.producer_version = PRODUCER, nnxp.__version__
    proto.graph.name = PRODUCER
    del proto.metadata_props[:]
    return proto


def _compare(exported: onnx.ModelProto, plan: _Plan) -> None:
    """Raise InputError if the graph predicts otherwise than the network, on a few random rows.

    No kernel of nnxp's does. A function of the user's own may: one that draws numbers, or that
    computes what ndonnx has wrong.
    """
    from onnx.reference import ReferenceEvaluator

    network, preprocessing = plan.network, plan.preprocessing
    x = prepared = generator(0, Purpose.SAMPLES).standard_normal((8, network.sizes[0]))
    if preprocessing is not None:
        x = preprocessing.invert(x)
        x = x.astype("float32") if preprocessing.divides_in_float32 else x
        prepared = preprocessing.apply(x)
    else:
        x = x.astype(network.dtype)
    try:
        expected = plan.heads(network.predict(prepared))
    except InputError as error:
        log.info("the ONNX graph is not compared with the network on random rows: %s", error)
        return
    with np.errstate(all="ignore"):  # both sides of a Where are computed
        found = ReferenceEvaluator(exported).run(list(expected), {INPUT: x})
    agree = np.full(len(x), True)
    for ours, theirs in zip(expected.values(), found, strict=True):
        if ours.dtype.kind == "f":
            same = np.abs(ours - theirs) <= TOLERANCE * max(1.0, float(np.abs(ours).max()))
        else:
            same = ours == theirs
        agree &= same.reshape(len(x), -1).all(axis=1)
    # Not all, since a step may fall on either side where its argument is zero except for rounding.
    if agree.sum() <= len(x) // 2:
        raise InputError(
            f"{plan.activations}: the ONNX graph predicts otherwise than the network: a function "
            "must depend on its argument alone"
        )

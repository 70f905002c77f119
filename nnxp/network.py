"""The multi-layer perceptron: its parameters, its forward pass, and backpropagation."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, cast

import numpy as np

from nnxp import backends, checkpoint, initializers, objectives, optimizers, options, weights
from nnxp.arrays import Array, device, index_dtype, is_array, namespace, to_numpy
from nnxp.data import checks, placement
from nnxp.data.placement import NetworkSpec
from nnxp.data.prepare import Validation, prepare_evaluation
from nnxp.data.sources import Source
from nnxp.errors import DataError, InputError, shown
from nnxp.initializers import INITIALIZER
from nnxp.kernels import ACTIVATIONS, affine, affine_backward, affine_input_backward, saved
from nnxp.metrics import METRIC, Metric, measure
from nnxp.names import (
    ActivationName,
    DTypeName,
    InitializerName,
    LossName,
    MetricName,
    OptimizerName,
)
from nnxp.objectives import LOSSES, Objective
from nnxp.optimizers import SGD, Optimizer, Parameters
from nnxp.randomness import Purpose, generator
from nnxp.registry import Piece, cached, is_pair
from nnxp.summary import Summary, summarize
from nnxp.target_scaling import TargetScaling

_ACTIVATION = ACTIVATIONS.rule()
_EACH_ACTIVATION = options.one_or_each(_ACTIVATION)
_METRICS = options.several(METRIC, least=1)


def _hidden(value: Any) -> Any:
    """Convert one activation, or one for each hidden layer; a pair of functions is one."""
    return (_ACTIVATION if is_pair(value) else _EACH_ACTIVATION).convert(value)


Mask = Callable[[Array, int], Array | None]
"""mask(y, layer): the factors for a hidden layer's output `y` in training; None for all 1."""

Combine = Callable[[Iterator[Sequence[Array]]], list[Any]]
"""See `backpropagate`."""


def propagate(
    parameters: Parameters, hidden: tuple[str, ...], x: Array, mask: Mask | None = None
) -> tuple[Array, list[tuple[Array, tuple[Array, ...], Array | None]]]:
    """Compute the forward pass, up to the last layer's pre-activation.

        z = x W + b, y = activation(z), and y is the next layer's x

    Args:
        parameters: one (weight, bias) per layer.
        hidden: the name of each hidden layer's activation. The objective has the last layer's.
        x: (batch, features).
        mask: dropout: the next layer's x is y times the mask. None for no dropout.

    Returns:
        The last layer's z, (batch, outputs), and for each layer its (x, saved, mask), where saved
        is what the activation's backward takes: (y,) or (y, z).

    Example:
        >>> import numpy as np
        >>> from nnxp.network import propagate
        >>> parameters = [(np.eye(2), np.zeros(2)), (np.ones((2, 1)), np.zeros(1))]
        >>> z, tape = propagate(parameters, ("relu",), np.array([[3.0, -4.0]]))
        >>> z
        array([[3.]])
    """
    tape: list[tuple[Array, tuple[Array, ...], Array | None]] = []
    for layer, (weight, bias) in enumerate(parameters):
        z = affine(x, weight, bias)
        if layer == len(hidden):
            tape.append((x, (), None))
            break
        forward, backward = ACTIVATIONS[hidden[layer]]
        y = forward(z)
        m = None if mask is None else mask(y, layer)
        tape.append((x, saved(backward, y, z), m))
        x = y if m is None else y * m
    return z, tape


def backpropagate(
    parameters: Parameters,
    hidden: tuple[str, ...],
    objective: Objective,
    x: Array,
    targets: Array,
    sample_weight: Array | None = None,
    mask: Mask | None = None,
    scale: Any = None,
    combine: Combine = list,
) -> tuple[Array, Parameters]:
    """Compute the loss and its gradient with respect to every parameter, by the chain rule.

    Args:
        parameters: one (weight, bias) per layer.
        hidden: the name of each hidden layer's activation.
        objective: the loss on the network's output.
        x: (batch, features).
        targets: classes, (batch,), or values, (batch, outputs).
        sample_weight: (batch,), or None.
        mask: dropout, or None.
        scale: a factor for the gradient, a number or a 0-d array; None for 1.
        combine: takes an iterator over [loss], then [dweight, dbias] of each layer, the last layer
            first, as soon as each is computed; returns the list of them. `list` leaves them as they
            are; a communicator adds those of other processes, see `nnxp.distributed`.

    Returns:
        The loss, a 0-d array, and one (dweight, dbias) per layer.

    Source: Nielsen, chapter 2, equations BP1 to BP4, which are marked below.

    Example:
        >>> import numpy as np
        >>> from nnxp.network import backpropagate
        >>> from nnxp.objectives import get
        >>> parameters = [(np.eye(2), np.zeros(2)), (np.ones((2, 1)), np.zeros(1))]
        >>> x, t = np.array([[3.0, -4.0]]), np.array([[2.0]])
        >>> objective = get("quadratic", "identity")
        >>> loss, gradients = backpropagate(parameters, ("relu",), objective, x, t)
        >>> float(loss), gradients[0][0]
        (0.5, array([[ 3.,  0.],
               [-4.,  0.]]))
    """

    def backward() -> Iterator[Sequence[Array]]:
        z, tape = propagate(parameters, hidden, x, mask)
        loss, dz = objective.value_and_gradient(z, targets, sample_weight)  # BP1
        yield [loss]
        if scale is not None:
            dz *= scale  # the smallest array of the pass, and the gradients are linear in it
        for layer in reversed(range(len(parameters))):
            yield affine_backward(dz, tape[layer][0])  # BP3, BP4
            if layer > 0:
                _, of_forward, m = tape[layer - 1]
                dy = affine_input_backward(dz, parameters[layer][0])  # BP2
                if m is not None:
                    dy *= m
                dz = ACTIVATIONS[hidden[layer - 1]][1](dy, *of_forward)

    (loss,), *gradients = combine(backward())
    return loss, gradients[::-1]


class MLP:
    """A multi-layer perceptron on one backend.

    Args:
        sizes: units per layer, inputs first: (784, 128, 10).
        hidden: the hidden layers' activation, one name for all or one per layer: "relu",
            "sigmoid", "tanh", "leaky_relu", "leaky_tanh", "elu", "gelu", "silu", "softplus",
            "softsign", "identity", "step", "softmax"; a name of `nnxp.register_activation`, or a
            pair of functions, (forward, backward), as there.
        output: the output layer's activation: "softmax" for classes, "sigmoid" for 0/1 labels,
            "identity" for real values, or any other of these.
        initializer: "normal", "xavier", "he", "orthogonal", or "auto": "he" for layers with
            "relu", "leaky_relu", "elu", "gelu" or "silu", "xavier" for the others; or a function
            of (`numpy.random.Generator`, fan_in, fan_out) that returns (weight, bias).
        backend: "numpy", "cupy", "torch", "jax", "array-api-strict", "auto", or an open
            backend; None for `$NNXP_BACKEND`, else "numpy".
        device: "cpu", "cuda", "cuda:1", ...; None for `$NNXP_DEVICE`, else the backend's own.
        dtype: "float32" or "float64", or NumPy's dtype.
        seed: the seed of the initial parameters, which are equal on every backend.
        parameters: the initial (weight, bias) of each layer; None to draw them.

    Raises:
        InputError: a size, a name, the seed or a parameter is not valid.
        BackendError: the backend or the device cannot be used here.

    Attributes:
        parameters: a list of (weight, bias), (fan_in, fan_out) and (fan_out,), on the device.
        loss: the name of the last training's loss, the default of `evaluate`; before training,
            the loss that fits `output`.
        target_scaling: the scaling of real-valued targets in training, which `predict` undoes;
            None without scaling. See `nnxp.train`.
        metadata: a dictionary of JSON values and NumPy arrays, which the model file keeps.
        history: the `nnxp.History` of the last training if an exception such as Ctrl-C ended it;
            None if `nnxp.train` returned it.

    Example:
        >>> import nnxp
        >>> network = nnxp.MLP([2, 3, 1], hidden="tanh", output="identity")
        >>> network.predict([[0.0, 1.0]]).shape
        (1, 1)
    """

    @options.checked(
        sizes=options.several(options.whole(1), least=2),
        hidden=options.Rule(_EACH_ACTIVATION.takes, _hidden),
        output=_ACTIVATION,
        initializer=INITIALIZER,
        backend=backends.BACKEND,
        device=backends.DEVICE,
        dtype=options.DTYPE,
        seed=options.whole(0),
    )
    def __init__(
        self,
        sizes: Sequence[int],
        hidden: ActivationName | Piece | Sequence[ActivationName | Piece] = "relu",
        output: ActivationName | Piece = "softmax",
        *,
        initializer: InitializerName | initializers.Initializer = "auto",
        backend: str | backends.Backend | type[backends.Backend] | None = None,
        device: str | None = None,
        dtype: DTypeName = "float32",
        seed: int = 0,
        parameters: Sequence[Sequence[Any]] | None = None,
    ) -> None:
        self.sizes = tuple(sizes)
        layers = len(self.sizes) - 2
        self.hidden = options.per_layer(hidden, layers, "hidden activations")
        self.output = cast(ActivationName, output)  # the check of the options has replaced pairs
        self.backend = backends.get(backend, device)
        self.dtype = dtype
        self.loss = objectives.get("auto", self.output).loss
        self.target_scaling: TargetScaling | None = None
        self.metadata: dict[str, Any] = {}
        self.history: Any = None
        self.backend.dtype(dtype)  # the backend may refuse it: check before drawing parameters
        if parameters is None:
            largest = max(fan_in * fan_out for fan_in, fan_out in pairwise(self.sizes))
            if largest > sys.maxsize // np.dtype(np.float64).itemsize:  # NumPy: a ValueError
                raise MemoryError(f"weights of {largest:.1e} numbers")
            rng = generator(seed, Purpose.PARAMETERS)
            parameters = [
                initializers.get(initializer, activation)(rng, fan_in, fan_out)
                for (fan_in, fan_out), activation in zip(
                    pairwise(self.sizes), (*self.hidden, self.output), strict=True
                )
            ]
        self.parameters = parameters

    @property
    def spec(self) -> NetworkSpec:
        """The sizes, dtype and backend that the network's data must fit."""
        return NetworkSpec(self.sizes, self.dtype, self.backend)

    @property
    def parameters(self) -> Parameters:
        """One (weight, bias) per layer. Assignment copies arrays of any library."""
        return self._parameters

    @parameters.setter
    def parameters(self, parameters: Sequence[Sequence[Any]]) -> None:
        shapes = [((fan_in, fan_out), (fan_out,)) for fan_in, fan_out in pairwise(self.sizes)]
        dtype = self.backend.dtype(self.dtype)
        try:
            layers = [tuple(layer) for layer in parameters]
        except TypeError:
            raise InputError(
                f"parameters must be a list of (weight, bias), not {shown(parameters)}"
            ) from None
        with np.errstate(over="ignore"):
            convert = partial(self.backend.asarray, dtype=dtype, copy=True)
            copies = [
                tuple(
                    checks.converted(checks.numbers(array, "parameters"), "parameters", convert)
                    for array in layer
                )
                for layer in layers
            ]
        found = [tuple(tuple(array.shape) for array in layer) for layer in copies]
        if found != shapes:
            raise InputError(f"parameters have shapes {found}, the network's are {shapes}")
        self._parameters: Parameters = copies

    def copy_parameters(self, parameters: Parameters) -> None:
        """Take a copy of the parameters of a training on this network's backend, unchecked."""
        self._parameters = self.backend.copied(parameters)

    def forward(self, x: Any) -> Array:
        """Return the outputs for `x`, (samples, features), as an array on the network's device.

        If targets were scaled for training, the outputs are in the targets' own unit.

        Raises:
            InputError: the shape does not fit, or a value or an output is not finite.
        """
        x = self.spec.features(x)
        with self.backend.active():
            z, y = self._outputs(self.parameters, x)
            checks.check_outputs(z)
            return self._in_target_units(y)

    def predict(self, x: Any, *, assume_finite: bool = False) -> Array:
        """Return the outputs for `x`, (samples, outputs), in the array library of `x`.

        Large inputs are processed in batches. If targets were scaled for training, the outputs
        are in the targets' own unit.

        Args:
            x: (samples, features), an array of any library or a nested list.
            assume_finite: whether `x` is known to be finite, and is not checked where that takes
                time. Outputs always are.

        Raises:
            InputError: the shape does not fit, or a value or an output is not finite.

        Example:
            >>> import nnxp
            >>> network = nnxp.MLP([1, 2], parameters=[([[1.0, -1.0]], [0.0, 0.0])])
            >>> network.predict([[0.0]])
            array([[0.5, 0.5]], dtype=float32)
        """
        return self._predict(x, lambda y: y, assume_finite)

    def predict_classes(self, x: Any, *, assume_finite: bool = False) -> Array:
        """Return the class of each row, (samples,), integers in the array library of `x`.

        The class is the index of the largest output. With a single output unit it is 1 where the
        output is above one half and 0 elsewhere; the threshold is zero if the output activation
        gives no probability.

        Args:
            x, assume_finite: see `predict`.

        Raises:
            InputError: the shape does not fit, or a value or an output is not finite.

        Example:
            >>> import nnxp
            >>> network = nnxp.MLP([1, 2], parameters=[([[1.0, -1.0]], [0.0, 0.0])])
            >>> network.predict_classes([[2.0], [-2.0]])
            array([0, 1])
        """
        return self._predict(x, partial(classes, self), assume_finite)

    def _predict(self, x: Any, finish: Callable[[Array], Array], assume_finite: bool) -> Array:
        """Return `finish(outputs)` as an array of x's library on x's device, block by block."""
        assume_finite = options.TRUTH("assume_finite", assume_finite)
        checked, xp = placement.place(self.spec, x, assume_finite), self.backend.xp
        # Otherwise each block of outputs goes to the host: all of them could fill the device.
        stay = is_array(x) and self.backend.holds(x) and not isinstance(checked, Source)
        stay = stay and namespace(checked) is xp
        with self.backend.active():
            blocks = []
            for rows, _, y in self._forward_blocks(checked):
                y = finish(self._in_target_units(y, rows.start))
                blocks.append(y if stay else to_numpy(y))
            if stay:
                return xp.concat(blocks, axis=0)
            y = np.concatenate(blocks)
        return namespace(x).asarray(y, device=device(x)) if is_array(x) else y

    def evaluate(
        self,
        x: Any,
        targets: Any,
        loss: LossName | Piece | None = None,
        metrics: Iterable[MetricName | Metric | Callable[[Any, Any], float]] = ("auto",),
    ) -> dict[str, float]:
        """Compute the loss on `x` and metrics.

        Args:
            x: (samples, features).
            targets: see `nnxp.train`.
            loss: a loss, see `nnxp.train`; None for `MLP.loss`, that of the last training.
            metrics: a list of metrics, each as `metric` of `nnxp.train`; "auto" is accuracy, and
                for real-valued targets R^2, RMSE and MAE.

        Returns:
            {"loss": ..., "accuracy": ...}; for real-valued targets {"loss": ..., "r2": ...,
            "rmse": ..., "mae": ...}, with loss, RMSE and MAE in the targets' own unit.

        Raises:
            InputError: shapes or labels do not fit, a value or an output is not finite, or a
                metric is not known or not for such targets.

        Example:
            >>> import nnxp
            >>> data = nnxp.datasets.load("digits")
            >>> network = nnxp.MLP([64, 10])
            >>> list(network.evaluate(data.x_test, data.y_test, metrics=["auto", "f1"]))
            ['loss', 'accuracy', 'f1']
        """
        objective = objectives.get(self.loss if loss is None else loss, self.output)
        chosen = _METRICS("metrics", metrics)
        data = prepare_evaluation(self.spec, objective.loss, x, targets)
        value, outputs = loss_and_outputs(self, data, objective)
        return {"loss": value, **measure(objective, outputs, data.targets, data.classes, chosen)}

    def loss_and_gradients(
        self, x: Any, targets: Any, loss: LossName | Piece = "auto", *, sample_weight: Any = None
    ) -> tuple[float, Parameters]:
        """Compute the loss on a batch, and its gradient with respect to every parameter.

        Args:
            x: (batch, features).
            targets: see `nnxp.train`.
            loss: a loss, see `nnxp.train`; "auto" fits the output activation.
            sample_weight: the weight of each sample, (batch,), not negative; scaled to mean one.

        Returns:
            The loss, and one (dweight, dbias) per layer, on the device. If targets were scaled
            for training, both are for the scaled targets.

        Raises:
            InputError: a shape, label, weight or name is not valid, or a value is not finite.

        Example:
            >>> import nnxp
            >>> network = nnxp.MLP([1, 2], parameters=[([[1.0, -1.0]], [0.0, 0.0])])
            >>> loss, gradients = network.loss_and_gradients([[0.0]], [0])
            >>> round(loss, 4), gradients[0][1]
            (0.6931, array([-0.5,  0.5], dtype=float32))
        """
        x = self.spec.features(x)
        objective = objectives.get(loss, self.output)
        batch = [checks.targets(targets, objective.loss, x.shape[0], self.sizes[-1])]
        if self.target_scaling is not None:
            batch[0] = self.target_scaling.apply(batch[0])
        if sample_weight is not None:
            batch.append(checks.unit_mean(checks.sample_weight(sample_weight, x.shape[0])))
        arrays = list(map(self.spec.targets, batch))
        with self.backend.active():
            value, gradients = backpropagate(self.parameters, self.hidden, objective, x, *arrays)
            return float(value), gradients

    @options.checked(batch_size=options.whole(1), optimizer=optimizers.OPTIMIZER)
    def summary(
        self,
        batch_size: int = 32,
        optimizer: Optimizer | OptimizerName | Callable[[], Optimizer] = SGD(),  # noqa: B008, it is frozen
    ) -> Summary:
        """Return the layers with shapes and parameters, and the memory of a training: a table.

        Args:
            batch_size: samples per step, for the shapes and the memory of activations.
            optimizer: see `nnxp.train`, for the memory of its state.

        Example:
            >>> import nnxp
            >>> summary = nnxp.MLP([64, 128, 10], backend="numpy").summary(optimizer="adam")
            >>> summary.parameters, summary.parameter_bytes, summary.layers[0].weight
            (9610, 38440, (64, 128))
        """
        return summarize(
            self.spec,
            (*self.hidden, self.output),
            self.parameters,
            batch_size,
            cast(Optimizer, optimizer),  # the check of the options has replaced names
        )

    @options.checked(path=options.PATH)
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a safetensors file, completely or not at all.

        Raises:
            InputError: `metadata` holds something other than JSON values and NumPy arrays, or an
                entry "training", or an activation or the loss is a pair of functions without a
                registered name.
            ModelError: a parameter is not finite.
            OSError: the folder or the disk refuses; a file that was at `path` is unchanged.

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> import nnxp
            >>> network = nnxp.MLP([2, 3, 1], "tanh", "identity")
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     network.save(Path(folder, "model.safetensors"))
            ...     again = nnxp.MLP.load(Path(folder, "model.safetensors"))
            >>> again.sizes, again.hidden
            ((2, 3, 1), ('tanh',))
        """
        if checkpoint.TRAINING in self.metadata:
            raise InputError(f"metadata[{checkpoint.TRAINING!r}] is for checkpoints: rename yours")
        checkpoint.save(self.as_model(), path)

    @classmethod
    @options.checked(path=options.PATH, backend=backends.BACKEND, device=backends.DEVICE)
    def load(
        cls,
        path: str | os.PathLike[str],
        backend: str | backends.Backend | None = None,
        device: str | None = None,
    ) -> MLP:
        """Read a model that `save` wrote on any backend.

        Args:
            path: the model file.
            backend, device: where the network runs; see `MLP`.

        Raises:
            ModelError: the file is missing, damaged or not an nnxp model.
            InputError: the backend's or the device's name is not valid.
            BackendError: the backend or the device cannot be used here.
        """
        model, opened = checkpoint.load(path), backends.get(backend, device)
        try:
            network = cls(
                model.sizes,
                model.hidden,
                model.output,
                dtype=model.dtype,
                parameters=model.parameters,
                backend=opened,
            )
            network.loss = objectives.get(model.loss, network.output).loss
        except ValueError as error:
            raise checkpoint.unusable(path, error) from None
        model.metadata.pop(checkpoint.TRAINING, None)  # of a checkpoint: not of the network
        network.metadata, network.target_scaling = model.metadata, model.target_scaling
        # A value that is finite in the file may overflow in the network's dtype.
        checkpoint.check_finite(path, network.as_model().tensors)
        return network

    @classmethod
    @options.checked(
        hidden=options.optional(options.Rule(_EACH_ACTIVATION.takes, _hidden)),
        output=options.optional(_ACTIVATION),
        dtype=options.DTYPE,
    )
    def from_weights(
        cls,
        path: str | os.PathLike[str] | weights.Weights,
        hidden: ActivationName | Piece | Sequence[ActivationName | Piece] | None = None,
        output: ActivationName | Piece | None = None,
        *,
        layout: str | None = None,
        backend: str | backends.Backend | None = None,
        device: str | None = None,
        dtype: DTypeName = "float32",
    ) -> MLP:
        """Make a network of weights that were trained elsewhere.

        Args:
            path: an npz archive of `W1`, `b1`, `W2`, ..., a PyTorch state_dict as safetensors,
                weights or a model of Keras, or an ONNX model (see `nnxp.weights.read`), or what
                that function returned.
            hidden, output: see `MLP`; None for those that the file has, else "relu" and "softmax".
            layout: "in-out" or "out-in", for files that do not say how their matrices lie. The
                logger "nnxp" says at level INFO which layout was taken and why.
            backend, device, dtype: see `MLP`.

        Raises:
            AmbiguousLayoutError: every matrix is square, and `layout` is not given; a DataError.
            DataError: the file is missing or damaged, its arrays do not fit each other, or it has
                an activation or a layer of another kind.
            InputError: a name is not valid, or what reads the format is not installed.

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> import numpy as np
            >>> import nnxp
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     np.savez(Path(folder, "weights.npz"), W1=np.ones((4, 2)), b1=np.zeros(2))
            ...     network = nnxp.MLP.from_weights(Path(folder, "weights.npz"))
            >>> network.sizes
            (4, 2)
        """
        found = path
        if not isinstance(found, weights.Weights):
            found = weights.read(found, dtype, layout)
        if found.unknown is not None and (hidden is None or output is None):
            raise DataError(f"{found.unknown}: give the activations, of hidden layers and output")
        parameters = found.parameters
        sizes = [parameters[0][0].shape[0], *(weight.shape[1] for weight, _ in parameters)]
        return cls(
            sizes, hidden or found.hidden or "relu", output or found.output or "softmax",
            backend=backend, device=device, dtype=dtype, parameters=parameters,
        )  # fmt: skip

    def as_model(self) -> checkpoint.Model:
        """Return the network as the content of a model file."""
        return checkpoint.Model(
            self.sizes,
            self.hidden,
            self.output,
            self.dtype,
            self.loss,
            [(to_numpy(weight), to_numpy(bias)) for weight, bias in self.parameters],
            self.target_scaling,
            self.metadata,
        )

    def __getstate__(self) -> dict[str, Any]:
        carried = ACTIVATIONS.carried((*self.hidden, self.output)), LOSSES.carried([self.loss])
        return vars(self) | {"carried": carried, "history": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        activations, losses = state.pop("carried", ({}, {}))
        vars(self).update({"history": None} | state)
        names = ACTIVATIONS.adopt(activations)
        self.hidden = tuple(names.get(name, name) for name in self.hidden)
        self.output = cast(ActivationName, names.get(self.output, self.output))
        self.loss = LOSSES.adopt(losses).get(self.loss, self.loss)
        for name in (*self.hidden, self.output):
            _ACTIVATION("an unpickled network's activation", name)
        self.parameters = self._parameters  # CuPy unpickles arrays onto the current device

    def __repr__(self) -> str:
        layers = " -> ".join(
            f"{size} {activation}"
            for size, activation in zip(self.sizes[1:], (*self.hidden, self.output), strict=True)
        )
        return f"<MLP {self.sizes[0]} -> {layers}, {self.dtype}, {self.backend.describe()}>"

    @property
    def _outputs(self) -> Callable[[Parameters, Array], tuple[Array, Array]]:
        return self.backend.compiled(forward_function(self.hidden, self.output))

    def target_units(self) -> Array | None:
        """Return the unit of each output relative to the largest, (outputs,), on the device.

        None if targets are not scaled, or if all outputs have the same scale.
        """
        relative = None if self.target_scaling is None else self.target_scaling.relative
        if relative is None:
            return None
        return self.backend.asarray(relative, dtype=self.backend.dtype(self.dtype))

    def _in_target_units(self, y: Array, first_row: int = 0) -> Array:
        if self.target_scaling is None:
            return y
        y = self.target_scaling.invert(y)
        checks.check_outputs(y, first_row)
        return y

    def _forward_blocks(
        self, x: Array, kept: np.ndarray | None = None, numbers: np.ndarray | None = None
    ) -> Iterator[tuple[slice, Array, Array]]:
        """Yield (rows, pre-activation, output) for blocks of a few megabytes.

        Args:
            x: (samples, features), on the device, a NumPy array, or a source.
            kept: the rows to use of a NumPy array or source; None for all. The yielded slices
                index these.
            numbers: the number of each row for error messages; None for 0, 1, 2, ...

        Raises:
            InputError: a pre-activation is not finite.
        """
        count, largest_weight = self.spec.block_rows, self.spec.largest_weight
        samples = x.shape[0] if kept is None else len(kept)
        dtype = self.backend.dtype(self.dtype)
        on_host = isinstance(x, Source) or namespace(x) is not self.backend.xp or x.dtype != dtype
        for block, part in _parts(x, kept, samples, count):
            multiply_adds = part.shape[0] * largest_weight
            with self.backend.active(), self.backend.limit_threads(multiply_adds):
                if on_host:
                    part = self.backend.asarray(part, dtype=dtype)
                z, y = self._outputs(self.parameters, part)
                # Here, because a saturated sigmoid would hide an infinite z.
                checks.check_outputs(z, block.start, None if numbers is None else numbers[block])
            yield block, z, y


def _parts(
    x: Array | Source, kept: np.ndarray | None, samples: int, count: int
) -> Iterator[tuple[slice, Array]]:
    """Yield blocks of `count` rows, and their places; see `MLP._forward_blocks`."""
    if isinstance(x, Source):
        yield from x.scan(kept, count)
        return
    for start in range(0, samples, count):
        block = slice(start, min(start + count, samples))
        yield block, x[block, ...] if kept is None else x[kept[block]]


def classes(network: MLP, y: Array) -> Array:
    """Return the class of each row of outputs `y`, (samples,); see `MLP.predict_classes`."""
    xp = namespace(y)
    if network.sizes[-1] > 1:
        return xp.argmax(y, axis=1)
    threshold = objectives.get("auto", network.output).threshold
    return xp.astype(xp.reshape(y, (-1,)) > threshold, index_dtype(xp))


@cached(maxsize=64)
def forward_function(
    hidden: tuple[str, ...], output: str
) -> Callable[[Parameters, Array], tuple[Array, Array]]:
    """Return the pure function (parameters, x) -> (last pre-activation, output).

    Equal arguments give the same function, as in `nnxp.step.training_step`.
    """

    def compute(parameters: Parameters, x: Array) -> tuple[Array, Array]:
        z, _ = propagate(parameters, hidden, x)
        return z, ACTIVATIONS[output][0](z)

    return compute


@cached(maxsize=64)
def _loss(objective: Objective) -> Callable[[Array, Array, Array | None], Array]:
    """Return the pure function (last pre-activation, targets, units) -> loss.

    Equal objectives give the same function, whatever their units.
    """

    def loss(z: Array, targets: Array, units: Array | None) -> Array:
        return objective.in_units(units).value(z, targets)

    return loss


def loss_and_outputs(
    network: MLP, data: Validation, objective: Objective
) -> tuple[float, np.ndarray]:
    """Compute the loss and the outputs, (samples, outputs), on data that is already checked.

    Both are in the targets' own unit. See `MLP.evaluate`.
    """
    targets, total, blocks, units, factor = data.targets, 0.0, [], None, 1.0
    scaling = network.target_scaling
    if scaling is not None:
        scaling.check_loss(objective.loss)
        targets = scaling.apply(targets)
        factor, units = scaling.loss_unit(objective.loss), network.target_units()
    loss = network.backend.compiled(_loss(objective))
    for rows, z, y in network._forward_blocks(data.x, data.rows, data.numbers):
        t = network.spec.targets(targets[rows])
        with network.backend.active():
            total += float(loss(z, t, units)) * t.shape[0]
            blocks.append(to_numpy(y))
    outputs = np.concatenate(blocks)
    if scaling is not None:
        outputs = scaling.invert(outputs.astype(np.float64))
    return factor * total / targets.shape[0], outputs

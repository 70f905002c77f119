"""The training loop: epochs, chunks of steps, validation, history, callbacks."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np

from nnxp import options, target_scaling
from nnxp.arrays import Array, namespace, to_numpy
from nnxp.backends.base import Backend
from nnxp.data import batches
from nnxp.data.prepare import Validation, prepare
from nnxp.diagnostics import Diagnosis, DiagnosticsRecorder
from nnxp.errors import DivergenceError, InputError
from nnxp.network import MLP, evaluate
from nnxp.objectives import LOSS, Objective, objective
from nnxp.optimizers import SGD, Optimizer, Parameters
from nnxp.optimizers import optimizer as find_optimizer
from nnxp.regularization import Regularization
from nnxp.schedules import Constant, Schedule
from nnxp.schedules import schedule as find_schedule
from nnxp.state import first_state
from nnxp.step import training_step


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to."""

    epoch: int
    """1, 2, 3, ..."""
    loss: float
    """The mean over the epoch's samples, each as it was when its batch was trained on."""
    validation_loss: float | None
    validation_metric: float | None
    """Accuracy or R^2 on the validation data after the epoch; see `History.metric`."""
    seconds: float
    """Training time, validation left out."""
    samples_per_second: float
    learning_rate: float
    """What the schedule made of the optimizer's."""
    diagnosis: Diagnosis | None = None
    """Dead units, gradients and updates; None unless asked for."""


@dataclass
class History:
    """What training did, epoch by epoch."""

    metric: str | None = None
    """The validation metric: "accuracy", "r2", or None without validation data."""
    epochs: list[Epoch] = field(default_factory=list)
    fallbacks: list[str] = field(default_factory=list)
    """How steps ran otherwise than by the backend's executor, and why; empty if they did not."""
    _plateaus: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What each `nnxp.schedules.Plateau` found in the epochs so far."""

    def to_list(self) -> list[dict[str, Any]]:
        """The epochs as plain dictionaries."""
        return [asdict(epoch) for epoch in self.epochs]

    def to_json(self) -> str:
        """The epochs as a JSON list of objects."""
        return json.dumps(self.to_list(), indent=2)


Callback = Callable[[MLP, History], Any]


def _validation(value: Any) -> Any:
    """A share as a float, or (x, targets)."""
    if isinstance(value, (int, float, np.number)):
        return options.SHARE.convert(value)
    if isinstance(value, (str, bytes)) or len(value) != 2:
        raise ValueError
    return tuple(value)


def _scale_targets(value: Any) -> Any:
    return value if isinstance(value, str) and value == "auto" else options.TRUTH.convert(value)


_OPTIONS = {
    "network": options.instance(MLP, "an nnxp.MLP"),
    "loss": LOSS,
    "optimizer": options.made(
        'an optimizer, nnxp.SGD(0.1) or nnxp.Adam(), or the name "sgd" or "adam"',
        lambda value: hasattr(value, "update") and hasattr(value, "init"),
        find_optimizer,
    ),
    "epochs": options.whole(0),
    "batch_size": options.optional(options.whole(1)),
    "seed": options.whole(0),
    "validation": options.optional(
        options.Rule("a share of the data in [0, 1) or a pair (x, targets)", _validation)
    ),
    "callbacks": options.FUNCTIONS,
    "schedule": options.made(
        'a schedule, nnxp.schedules.Cosine(), or a text, "cosine" or "cosine,warmup=5"',
        callable,
        find_schedule,
    ),
    "regularization": options.instance(
        Regularization, "an nnxp.Regularization(l1, l2, max_norm, dropout)"
    ),
    "diagnose": options.TRUTH,
    "progress": options.optional(options.FUNCTION),
    "stream": options.optional(options.TRUTH),
    "scale_targets": options.Rule('"auto", True or False', _scale_targets),
}


@options.checked(**_OPTIONS)
def train(
    network: MLP,
    x: Any,
    targets: Any,
    *,
    loss: str = "auto",
    optimizer: Optimizer | str = SGD(0.1),  # noqa: B008, it is frozen
    epochs: int,
    batch_size: int | None,
    seed: int = 0,
    validation: tuple[Any, Any] | float | None = None,
    callbacks: Iterable[Callback] = (),
    sample_weight: Any = None,
    schedule: Schedule | str = Constant(),  # noqa: B008, likewise
    regularization: Regularization = Regularization(),  # noqa: B008, likewise
    diagnose: bool = False,
    progress: Callable[[int], Any] | None = None,
    stream: bool | None = None,
    scale_targets: bool | str = "auto",
) -> History:
    """Train `network` by gradient descent on mini-batches.

    Args:
        network: trained where it is, on its own backend.
        x: (samples, features), an array of any library; see `stream`.
        targets: integer classes, (samples,); one-hot rows or 0/1 labels, (samples, outputs);
            or real values, (samples, outputs). With a single output also (samples,).
        loss: "quadratic", "binary_cross_entropy", "categorical_cross_entropy", or "auto",
            which fits the output activation.
        optimizer: `SGD(...)` or `Adam(...)`, or "sgd" or "adam" for one with its defaults.
        epochs: passes over the data.
        batch_size: samples per step. None is batch gradient descent, 1 is stochastic gradient
            descent, anything between mini-batch.
        seed: of the order of the batches, which is equal on every backend.
        validation: (x, targets) to evaluate after every epoch, or a share of the data to keep
            out of training for that, chosen by the seed.
        callbacks: called as callback(network, history) after every epoch; one that returns
            True ends the training. To assign `network.parameters` there does not change what is
            trained on. One with a method `finish(network, history)`, such as
            `EarlyStopping`, has that called when training is over.
        sample_weight: (samples,), not negative; what each sample counts, scaled to a mean of one.
        schedule: the learning rate of each epoch, from the optimizer's; see `nnxp.schedules`.
            A text such as "cosine,warmup=5" describes one.
        regularization: penalties, max-norm and dropout; see `nnxp.Regularization`.
        diagnose: measure dead and saturated units, gradients and updates in every epoch, at a few
            hundredths of its time; see `nnxp.diagnostics`.
        progress: called with the number of samples since the last call, as training goes.
        stream: False moves the data to the device once; True keeps it on the host, where it may
            be a `numpy.memmap`, and sends it by chunks of steps while the device computes; None
            does so where the data does not fit, on a CPU never. What was done is logged by "nnxp",
            as INFO.
        scale_targets: train on (t - mean) / deviation of the targets, per output; `predict` undoes
            it, and the losses of the history are in the targets' own unit. "auto" does so for
            real-valued targets of a network with output "identity" and the quadratic loss; a
            network that has a `target_scaling` keeps it. True computes it anew, False removes it.

    Returns:
        The history. The network's parameters are those after the last epoch.

    Raises:
        InputError: a shape, label, number or option is not valid; nothing is trained.
        DivergenceError: the loss is no longer finite. The network keeps its parameters from
            the last epoch that was.

    Example:
        >>> import nnxp
        >>> data = nnxp.datasets.load("digits")
        >>> network = nnxp.MLP([64, 32, 10])
        >>> history = nnxp.train(network, data.x, data.y, epochs=5, batch_size=32)
        >>> network.evaluate(data.x_test, data.y_test)["accuracy"] > 0.9
        True
    """
    assert not isinstance(optimizer, str)  # names were replaced when the options were checked
    assert not isinstance(schedule, str)
    aim = objective(loss, network.output)
    choose_scaling = partial(target_scaling.choose, scale_targets, aim, network.target_scaling)
    prepared = prepare(
        network.spec,
        aim.loss,
        x,
        targets,
        batch_size=batch_size,
        seed=seed,
        validation=validation,
        sample_weight=sample_weight,
        stream=stream,
        choose_scaling=choose_scaling,
    )
    feed, held_out, scaling = prepared.feed, prepared.validation, prepared.target_scaling
    network.target_scaling, network.loss = scaling, aim.loss
    unit = 1.0 if scaling is None else scaling.unit**2

    backend = network.backend
    # Pass 0 without dropout: a new seed must not recompile the step.
    dropout_seed = seed if regularization.shares(len(network.hidden)) else 0
    step = training_step(network.hidden, aim, optimizer, regularization, dropout_seed)
    history = History()
    run = backend.runner(step, history.fallbacks)
    recorder = DiagnosticsRecorder(network, aim, optimizer, regularization) if diagnose else None
    state = first_state(network, optimizer)
    for epoch in range(1, epochs + 1):
        rate = schedule(optimizer.learning_rate, epoch, epochs, history)
        rate = options.NOT_NEGATIVE("the schedule's rate", rate)
        start = time.perf_counter()
        shuffled = batches.shuffled(feed.samples, seed, epoch)
        if recorder:
            totals = recorder.slope_totals(state.parameters, feed.batch_size)
            state = state._replace(slope_totals=totals)
        totals, sizes = [], []
        for data, order in feed.chunks(shuffled):
            state, total = run(state, data, order, rate)
            totals.append(total)
            sizes.append(order.shape[1])
            if progress:
                progress(order.shape[0] * order.shape[1])
        scalars = [*totals, _sum(backend, state.parameters)]
        if recorder:
            scalars += recorder.scalars(state, data, order, rate, feed.samples)
        values = _read(backend, scalars)
        mean = unit * float(values[: len(sizes)] @ sizes) / feed.samples
        seconds = time.perf_counter() - start
        # The parameters too: the last step of an epoch shows in no loss of it.
        if not np.isfinite(values[: len(sizes) + 1]).all():
            mean = mean if not math.isfinite(mean) else math.inf
            raise DivergenceError(
                f"the loss is {mean} in epoch {epoch}: lower the learning rate "
                f"({rate:g}), or scale the inputs"
            )
        network.parameters = state.parameters
        validation_loss = metric = None
        if held_out:
            validation_loss, history.metric, metric = _validated(
                network, held_out, aim, epoch, rate
            )
        diagnosis = recorder.diagnosis(values[len(sizes) + 1 :], rate) if recorder else None
        speed = feed.samples / seconds
        history.epochs.append(
            Epoch(epoch, mean, validation_loss, metric, seconds, speed, rate, diagnosis)
        )
        stops = [callback(network, history) for callback in callbacks]
        if any(stops):
            break
    for callback in callbacks:
        if hasattr(callback, "finish"):
            callback.finish(network, history)
    return history


def _validated(
    network: MLP, data: Validation, objective: Objective, epoch: int, rate: float
) -> tuple[float, str, float]:
    """The loss on the data that is held out, and the name and value of its main metric."""
    try:
        result = evaluate(network, data, objective)
    except InputError as error:  # an output is not finite: the data was checked
        raise DivergenceError(
            f"epoch {epoch}, validation data: {error}; or lower the learning rate ({rate:g})"
        ) from None
    loss = result.pop("loss")
    return loss, *next(iter(result.items()))


def _sum(backend: Backend, parameters: Parameters) -> Array:
    """Of all parameters: finite only if each of them is."""
    with backend.active():
        return backend.compiled(_total)(parameters)


def _total(parameters: Parameters) -> Array:
    xp = namespace(parameters[0][0])
    return xp.sum(xp.stack([xp.sum(array) for layer in parameters for array in layer]))


def _read(backend: Backend, scalars: list[Array]) -> np.ndarray:
    """0-d arrays, read from the device at once, as float64."""
    with backend.active():
        return to_numpy(backend.xp.stack(scalars)).astype(np.float64)

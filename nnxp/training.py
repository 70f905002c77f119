"""The training loop: epochs, chunks of steps, validation, history, callbacks."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from nnxp import batches, inputs, options
from nnxp.arrays import Array, index_dtype, namespace, rows, to_numpy
from nnxp.backends.base import Backend, Step
from nnxp.diagnostics import Diagnosis, Watch, watched
from nnxp.errors import DivergenceError, InputError
from nnxp.feeding import Choice, Feed, Resident, Streamed, choose, log
from nnxp.network import (
    MLP,
    backpropagate,
    device_targets,
    evaluate,
    placed,
    target_units,
)
from nnxp.objectives import LOSS, Objective, objective
from nnxp.optimizers import SGD, Optimizer, Parameters, descend, without_rate
from nnxp.optimizers import optimizer as find_optimizer
from nnxp.regularization import Regularization, dropout
from nnxp.schedules import Constant, Schedule
from nnxp.schedules import schedule as find_schedule
from nnxp.target_scaling import TargetScaling


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
    goal = objective(loss, network.output)
    feed, held_out, scaling = _prepare(
        network,
        x,
        targets,
        goal,
        seed,
        validation,
        sample_weight,
        batch_size,
        stream,
        scale_targets,
    )
    network.target_scaling = scaling
    unit = 1.0 if scaling is None else scaling.unit**2
    samples, batch_size = feed.samples, feed.batch_size

    backend = network.backend
    # Only dropout needs the seed in the step: a step that is compiled must not be for its sake.
    masks_by = seed if regularization.shares(len(network.hidden)) else 0
    step = training_step(network.hidden, goal, optimizer, regularization, masks_by)
    history = History()
    run = backend.runner(step, history.fallbacks)
    watch = Watch(network, goal, optimizer, regularization) if diagnose else None
    state = first_state(network, optimizer)
    network.loss = goal.loss
    for epoch in range(1, epochs + 1):
        rate = schedule(optimizer.learning_rate, epoch, epochs, history)
        rate = options.NOT_NEGATIVE("the schedule's rate", rate)
        start = time.perf_counter()
        shuffled = batches.shuffled(samples, seed, epoch)
        if watch:
            parameters, (*others, _) = state
            state = parameters, (*others, watch.slopes(parameters, batch_size))
        totals, sizes = [], []
        for data, order in feed.chunks(shuffled):
            state, total = run(state, data, order, rate)
            totals.append(total)
            sizes.append(order.shape[1])
            if progress:
                progress(order.shape[0] * order.shape[1])
        figures = [*totals, _sum(backend, state[0])]
        if watch:
            figures += watch.figures(state, data, order, rate, samples)
        values = _read(backend, figures)
        mean = unit * float(values[: len(sizes)] @ sizes) / samples
        seconds = time.perf_counter() - start
        # The parameters too: the last step of an epoch shows in no loss of it.
        if not np.isfinite(values[: len(sizes) + 1]).all():
            mean = mean if not math.isfinite(mean) else math.inf
            raise DivergenceError(
                f"the loss is {mean} in epoch {epoch}: lower the learning rate "
                f"({rate:g}), or scale the inputs"
            )
        network.parameters = state[0]
        validation_loss = metric = None
        if held_out:
            validation_loss, history.metric, metric = _validated(network, held_out, epoch, rate)
        diagnosis = watch.diagnosis(values[len(sizes) + 1 :], rate) if watch else None
        history.epochs.append(
            Epoch(epoch, mean, validation_loss, metric, seconds, samples / seconds, rate, diagnosis)
        )
        stops = [callback(network, history) for callback in callbacks]
        if any(stops):
            break
    for callback in callbacks:
        if hasattr(callback, "finish"):
            callback.finish(network, history)
    return history


def training_step(
    hidden: tuple[str, ...],
    goal: Objective,
    optimizer: Optimizer,
    regularization: Regularization = Regularization(),  # noqa: B008, it is frozen
    seed: int = 0,
) -> Step:
    """The pure function that is one step of training.

    The same function for the same arguments, and for every learning rate, so that a backend which
    compiles it can keep what it compiled.

    Its state is the optimizer's; the number of the step, a 0-d int32 array, which dropout draws its
    masks by; the units that losses are computed in, nothing unless targets were scaled, each output
    by another scale; and what `nnxp.diagnostics` adds up, nothing unless it watches.
    """
    return _step(hidden, goal, without_rate(optimizer), regularization, seed)


@lru_cache(maxsize=64)
def _step(
    hidden: tuple[str, ...],
    goal: Objective,
    optimizer: Optimizer,
    regularization: Regularization,
    seed: int,
) -> Step:
    shares = regularization.shares(len(hidden))
    plain = optimizer.is_plain and not regularization.penalizes

    def step(
        parameters: Any, state: Any, batch: tuple[Array, ...], learning_rate: Any
    ) -> tuple[Any, Any, Array]:
        optimizer_state, number, units, slopes = state
        reported = goal.in_units(units[0]) if units else goal
        mask = dropout(shares, seed, number) if shares else None
        if slopes:
            mask, slopes = watched(mask, hidden, slopes)
        x, targets, sample_weight = batch if len(batch) == 3 else (*batch, None)
        # For plain descent the rate goes in where the gradient is smallest, and not into every
        # weight's: two passes over each matrix fewer.
        scale = learning_rate if plain else None
        loss, gradients = backpropagate(
            parameters, hidden, reported, x, targets, sample_weight, mask, scale
        )
        if plain:
            parameters = descend(parameters, gradients)
        else:
            loss, gradients = regularization.penalize(loss, parameters, gradients)
            parameters, optimizer_state = optimizer.update(
                parameters, optimizer_state, gradients, learning_rate
            )
        number = number + 1 if shares else number
        others = optimizer_state, number, units, slopes
        return regularization.constrain(parameters), others, loss

    return step


def training_targets(network: MLP, targets: np.ndarray) -> Array:
    """Checked targets on the device, as steps take them."""
    return device_targets(network, _encoded(network, targets))


def _encoded(network: MLP, targets: np.ndarray) -> np.ndarray:
    """Classes as one-hot rows where these take a quarter of x's memory at most.

    Then a step gathers its rows instead of making them.
    """
    features, *_, outputs = network.sizes
    if targets.ndim == 1 and 4 * outputs <= features:
        targets = np.eye(outputs, dtype=np.float32)[targets]
    return targets


def first_state(network: MLP, optimizer: Optimizer) -> tuple[Parameters, Any]:
    """What `training_step` starts from: parameters, the optimizer's state, a count of 0, units.

    Steps own their state and may write into it, so the parameters are a copy: the network's own
    change once an epoch, as a whole.
    """
    backend = network.backend
    parameters = [
        (backend.asarray(weight, copy=True), backend.asarray(bias, copy=True))
        for weight, bias in network.parameters
    ]
    with backend.active():
        number = backend.xp.zeros((), dtype=backend.xp.int32, device=backend.device)
        units = target_units(network)
        own = [] if units is None else [units]
        return parameters, (optimizer.init(parameters), number, own, [])


def _prepare(
    network: MLP,
    x: Any,
    targets: Any,
    goal: Objective,
    seed: int,
    validation: tuple[Any, Any] | float | None,
    sample_weight: Any,
    batch_size: int | None,
    stream: bool | None,
    scale_targets: bool | str,
) -> tuple[Feed, tuple[Any, ...] | None, TargetScaling | None]:
    """Check everything and put it where it belongs.

    Returns:
        The feed, what `evaluate` takes to validate, and how targets are scaled.
    """
    features, *_, outputs = network.sizes
    share, x_held, t_held = 0.0, None, None
    x = inputs.matrix(x, features)
    if isinstance(validation, float):
        share = validation
    elif validation is not None:
        x_held, t_held = inputs.matrix(validation[0], features), validation[1]
    samples = x.shape[0]
    given = [x] if x_held is None else [x, x_held]
    choice = _choice(network, given, share, min(batch_size or samples, samples), stream)
    streams = choice.stays(x)
    x = placed(network, x, streams)
    beside = [inputs.targets(targets, goal.loss, samples, outputs)]
    if sample_weight is not None:
        beside.append(inputs.sample_weight(sample_weight, samples))
    kept: np.ndarray | None = None
    held_out: tuple[Any, ...] | None = None
    if x_held is not None:
        x_held = placed(network, x_held, choice.stays(x_held))
        checked = inputs.targets(t_held, goal.loss, x_held.shape[0], outputs)
        held_out = x_held, checked, inputs.are_classes(t_held, outputs), goal, None
    elif share and (split := _split(beside[0], share, seed)):
        kept, held = split
        classes = inputs.are_classes(targets, outputs)
        # On the device they are gathered once, on the host for every epoch's blocks.
        x_held, of_these = (x, held) if streams else (_rows(network, x, held), None)
        held_out = x_held, beside[0][held], classes, goal, of_these
    if sample_weight is not None:
        beside[1] = inputs.unit_mean(beside[1], kept)
    scaling = _scaling(network, goal, beside[0], kept, scale_targets)
    if scaling is not None:
        beside[0] = scaling.apply(beside[0])
        log.info("targets are scaled for training: %s", scaling.describe())
    beside[0] = _encoded(network, beside[0])
    feed: Feed
    if streams:
        # A row on the device says in which dtype it holds the others.
        dtypes = [to_numpy(device_targets(network, array[:1])).dtype for array in beside]
        dtypes.insert(0, np.dtype(network.dtype))
        feed = Streamed(network.backend, (x, *beside), batch_size, kept, dtypes, choice.room)
    else:
        if isinstance(x, np.ndarray):
            x = np.ascontiguousarray(x)  # every gather from another layout would copy all of it
        data = (x, *(device_targets(network, array) for array in beside))
        feed = Resident(network.backend, data, batch_size, kept)
    log.info("%s", choice.told(feed))
    return feed, held_out, scaling


def _scaling(
    network: MLP,
    goal: Objective,
    targets: np.ndarray,
    kept: np.ndarray | None,
    scale_targets: bool | str,
) -> TargetScaling | None:
    """How the targets of this training are scaled; None for not at all."""
    linear = network.output == "identity" and goal.loss == "quadratic"
    if scale_targets is True and not linear:
        raise InputError(
            "scale_targets=True needs output 'identity' and the quadratic loss, not "
            f"{network.output!r} and {goal.loss!r}: their values have a range of their own"
        )
    if not linear or scale_targets is False:
        return None
    if scale_targets == "auto":
        if np.isin(targets, (0.0, 1.0)).all():  # labels
            return None
        if network.target_scaling is not None:
            return network.target_scaling
    return TargetScaling.fit(targets if kept is None else targets[kept], network.dtype)


def _validated(
    network: MLP, held_out: tuple[Any, ...], epoch: int, rate: float
) -> tuple[float, str, float]:
    """The loss on the data that is held out, and the name and value of its main metric."""
    try:
        result = evaluate(network, *held_out)
    except InputError as error:  # an output is not finite: the data was checked
        raise DivergenceError(
            f"epoch {epoch}, validation data: {error}; or lower the learning rate ({rate:g})"
        ) from None
    loss = result.pop("loss")
    return loss, *next(iter(result.items()))


def _choice(
    network: MLP,
    given: list[Array],
    share: float,
    batch_size: int,
    stream: bool | None,
) -> Choice:
    """Whether the data of a training stays on the host."""
    backend, itemsize = network.backend, np.dtype(network.dtype).itemsize
    features, *_, outputs = network.sizes
    samples = given[0].shape[0]
    size = samples * (outputs + 1)  # targets and weights
    size += features * int(share * samples)  # what is held out is a copy
    size += sum(features * each.shape[0] for each in given)
    there = sum(features * each.shape[0] for each in given if backend.holds(each))
    size, there = itemsize * size, itemsize * there
    return choose(backend, network.sizes, itemsize, size, there, batch_size, stream)


def _split(targets: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Which rows are trained on and which are kept out, in proportion from every class.

    None where the share is less than a row.
    """
    samples = len(targets)
    if round(share * samples) == samples:
        raise InputError(f"validation of {share:g} leaves none of {samples} rows to train on")
    labels: np.ndarray = np.zeros(samples)
    if targets.ndim == 1:
        labels = targets
    elif np.isin(targets, (0, 1)).all():
        labels = batches.labels_of(targets)
    kept, held = batches.split(labels, share, seed)
    return (kept, held) if len(held) else None


def _rows(network: MLP, x: Array, indices: np.ndarray) -> Array:
    backend = network.backend
    with backend.active():
        return rows((x,), backend.asarray(indices, dtype=index_dtype(backend.xp)))[0]


def _sum(backend: Backend, parameters: Parameters) -> Array:
    """Of all parameters: finite only if each of them is."""
    with backend.active():
        return backend.compiled(_total)(parameters)


def _total(parameters: Parameters) -> Array:
    xp = namespace(parameters[0][0])
    return xp.sum(xp.stack([xp.sum(array) for layer in parameters for array in layer]))


def _read(backend: Backend, figures: list[Array]) -> np.ndarray:
    """0-d arrays, read from the device at once, as float64."""
    with backend.active():
        return to_numpy(backend.xp.stack(figures)).astype(np.float64)

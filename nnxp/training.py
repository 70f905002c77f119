"""The training loop: prepare the data, then run, validate and record each epoch."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from nnxp import (
    augmentation,
    diagnostics,
    files,
    metrics,
    objectives,
    optimizers,
    options,
    ranks,
    resuming,
    schedules,
    target_scaling,
)
from nnxp.arrays import Array
from nnxp.augmentation import Augmenter, Deformation
from nnxp.callbacks import running
from nnxp.concurrency import in_one_thread
from nnxp.data import batches, sources
from nnxp.data.prepare import Prepared, Validation, prepare
from nnxp.diagnostics import DiagnosticsRecorder
from nnxp.distributed.communicator import Communicator
from nnxp.distributed.world import ALONE, World
from nnxp.divergence import DivergenceWatch
from nnxp.errors import DivergenceError, InputError
from nnxp.history import Epoch, History, check_monitor
from nnxp.metrics import Metric
from nnxp.names import LossName, MetricName, OptimizerName
from nnxp.nested import leaves, rebuilt
from nnxp.network import MLP
from nnxp.objectives import LOSS, Objective
from nnxp.optimizers import SGD, ClipNorm, Optimizer
from nnxp.registry import AUTO, Piece
from nnxp.regularization import Regularization
from nnxp.resuming import Checkpoints, Progress, Snapshot, Writer
from nnxp.running import Running
from nnxp.schedules import Constant, Schedule
from nnxp.state import first_state, with_batch_size
from nnxp.step import step_runner

log = logging.getLogger("nnxp")

FLUSHED_STEPS = 64
"""Steps after which subnormal numbers of the optimizer's state are set to zero."""

if TYPE_CHECKING:
    from nnxp.progress import EpochTable

Callback = Callable[[MLP, History], Any]


def _validation(value: Any) -> Any:
    """Convert `validation` to a float, a share of the data, or to a pair (x, targets)."""
    if isinstance(value, (int, float, np.number)):
        return options.SHARE.convert(value)
    if isinstance(value, (str, bytes)) or len(value) != 2:
        raise ValueError
    return tuple(value)


def _checkpoint(value: Any) -> Any:
    return value if isinstance(value, Checkpoints) else Checkpoints(options.PATH.convert(value))


def _resume(value: Any) -> Any:
    return value if isinstance(value, History) else os.fspath(options.PATH.convert(value))


def _shuffle(value: Any) -> Any:
    if isinstance(value, str) and value == "blocks":
        return value
    return (options.FUNCTION if callable(value) else options.TRUTH).convert(value)


_OPTIONS = {
    "network": options.instance(MLP, "an nnxp.MLP"),
    "loss": LOSS,
    "optimizer": optimizers.OPTIMIZER,
    "epochs": options.whole(0),
    "batch_size": options.optional(options.whole(1)),
    "seed": options.whole(0),
    "shuffle": options.Rule('True, False, "blocks" or a function', _shuffle),
    "validation": options.optional(
        options.Rule("a share of the data in [0, 1) or a pair (x, targets)", _validation)
    ),
    "metric": metrics.METRIC,
    "callbacks": options.FUNCTIONS,
    "schedule": options.made(
        'a schedule, nnxp.schedules.Cosine(), or a text, "cosine" or "cosine,warmup=5"',
        callable,
        schedules.get,
    ),
    "regularization": options.instance(
        Regularization, "an nnxp.Regularization(l1, l2, max_norm, dropout)"
    ),
    "clip_norm": options.optional(options.POSITIVE),
    "checkpoint": options.optional(
        options.Rule("a folder or nnxp.Checkpoints(folder, every)", _checkpoint)
    ),
    "resume": options.optional(
        options.Rule("the History of an earlier training, or a folder of checkpoints", _resume)
    ),
    "diagnose": options.TRUTH,
    "progress": options.optional(options.FUNCTION),
    "stream": options.optional(options.TRUTH),
    "assume_finite": options.TRUTH,
    "verbose": options.TRUTH,
    "scale_targets": target_scaling.SCALE_TARGETS,
    "augment": options.optional(augmentation.AUGMENT),
    "distributed": options.optional(options.instance(World, "an nnxp.distributed.world()")),
}


@options.checked(**_OPTIONS)
@in_one_thread
def train(
    network: MLP,
    x: Any,
    targets: Any,
    *,
    loss: LossName | Piece = "auto",
    optimizer: Optimizer | OptimizerName | Callable[[], Optimizer] = SGD(0.1),  # noqa: B008, it is frozen
    epochs: int,
    batch_size: int | None,
    seed: int = 0,
    shuffle: bool | Literal["blocks"] | Callable[[int, int], Any] = True,
    validation: tuple[Any, Any] | float | None = None,
    metric: MetricName | Metric | Callable[[Any, Any], float] = "auto",
    callbacks: Iterable[Callback] = (),
    sample_weight: Any = None,
    schedule: Schedule | str = Constant(),  # noqa: B008, likewise
    regularization: Regularization = Regularization(),  # noqa: B008, likewise
    clip_norm: float | None = None,
    checkpoint: Checkpoints | str | os.PathLike[str] | None = None,
    resume: History | str | os.PathLike[str] | None = None,
    diagnose: bool = False,
    progress: Callable[[int], Any] | None = None,
    stream: bool | None = None,
    assume_finite: bool = False,
    scale_targets: bool | Literal["auto"] = "auto",
    distributed: World | None = None,
    augment: Deformation | str | Iterable[str] | None = None,
    verbose: bool = False,
) -> History:
    """Train `network` by gradient descent on mini-batches.

    Args:
        network: the network, whose parameters change in place, on its own backend.
        x: (samples, features), an array of any library; or data on disk, a `numpy.memmap` or
            anything with a shape, a dtype and slices, of h5py, zarr or dask; see `stream`.
        targets: integer classes, (samples,); one-hot rows or 0/1 labels, (samples, outputs);
            or real values, (samples, outputs). A single output also takes (samples,).
        loss: "quadratic", "mae", "huber", "poisson", "binary_cross_entropy",
            "categorical_cross_entropy", or "auto", which fits the output activation; a name of
            `nnxp.register_loss`, or a pair of functions, (value, gradient), as there.
        optimizer: `SGD(...)`, `Adam(...)`, `AdamW(...)` or `RMSprop(...)`; a name, "sgd", "adam",
            "adamw", "rmsprop" or one of `nnxp.register_optimizer`, or a class, for its defaults.
        epochs: the number of passes over the data, 0 or more.
        batch_size: samples per step. None gives batch gradient descent, 1 stochastic gradient
            descent, a number between them mini-batch gradient descent.
        seed: the seed of the batches, of dropout and of a validation share; on every backend
            they are equal.
        shuffle: True draws the order of the rows anew for every epoch, False takes them as they
            are, and a function shuffle(samples, epoch) returns the rows of an epoch, (samples,).
            Data on disk whose rows at random are slow is shuffled by blocks of rows; "blocks" does
            so with a `numpy.memmap` too, for a slow disk.
        validation: (x, targets) to evaluate after every epoch, or a share of the data, in [0, 1),
            to keep out of training for this; the seed chooses its rows.
        metric: the metric on the validation data, of the network after every epoch: "accuracy",
            "balanced_accuracy", "f1", "roc_auc", "r2", "rmse", "mae"; "auto" is accuracy, or R^2
            for real-valued targets. A function of (targets, predictions), such as those of
            `sklearn.metrics`, is a metric too; see `nnxp.metrics.get`.
        callbacks: each is called as callback(network, history) after every epoch; if one returns
            True, training ends. Assigning `network.parameters` in a callback does not affect the
            training. Methods `start` and `finish` are called before and after training; see
            `nnxp.Callback`.
        sample_weight: the weight of each sample in the loss, (samples,), not negative; scaled to
            mean one.
        schedule: computes the learning rate of each epoch from the optimizer's; an object of
            `nnxp.schedules`, or a text such as "cosine,warmup=5".
        regularization: penalties, max-norm and dropout; see `nnxp.Regularization`.
        clip_norm: the largest norm of the gradient with respect to all parameters, penalties
            included; a longer gradient is scaled down to it. None for no bound.
        checkpoint: a folder to save the running training in, after every epoch; or
            `nnxp.Checkpoints(folder, every)` for every 500 steps or "30s".
        resume: the history of this network's last training, to go on with. The epochs count on,
            and so do the optimizer's moments and the dropout masks: training twice for 5 epochs is
            training for 10. The same history is returned, with the new epochs.
            Or a folder of checkpoints: the newest whole one replaces the network's parameters, and
            training goes on after its last step, to the same bits where two runs have the same
            bits at all. `epochs` then counts those before, too. Data and network must be the same;
            callbacks have their state again, the schedule sees all epochs.
        diagnose: measure dead and saturated units, gradients and updates in every epoch, which
            takes a few percent of the time; see `nnxp.diagnostics`.
        progress: called after every chunk of steps with its number of samples.
        stream: False copies the data to the device once. True keeps it on the host and sends it in
            chunks while the device computes. None streams data that does not fit on the device,
            and on a CPU only data on disk. Data on disk of more than 268 MB
            (`nnxp.data.sources.LOADED_BYTES`) is read by chunks, unless this is False. The logger
            "nnxp" reports the choice at INFO.
        assume_finite: whether `x` is known to be finite, and is not checked where that takes time.
        scale_targets: train on (t - mean) / deviation of the targets, per output; `predict` undoes
            this, and the losses of the history are in the targets' own unit. "auto" scales
            real-valued targets of a network with output "identity" and the loss "quadratic", "mae"
            or "huber" (which then bends at an error of one deviation), and keeps a
            `target_scaling` that the network has. True computes it anew, False removes it.
        distributed: the processes that train together, `nnxp.distributed.world()`; each calls
            `train` with the same data and options. Each takes its part of every batch, and the
            result is that of one process, except for rounding. Checkpoints, the table of
            `verbose` and callbacks that write files are for the first process alone; see
            `nnxp.Callback.only_first`.
        augment: deform the images of each step at random, on the device: `nnxp.Deformation(...)`,
            or texts such as "elastic,alpha=36,sigma=4.5" and "rotate=12,scale=0.1"; see
            `nnxp.augmentation.get`. Validation data stays as it is. Images whose values are whole
            pixels, 0 to 255, or these divided by 255, are kept as uint8.
        verbose: print a row for each epoch, the warnings of `diagnose`, and the logs of nnxp:
            scaled targets, where the data is, fall-backs.

    Returns:
        The history. The network has the parameters after the last epoch. If an exception such as
        Ctrl-C ends the training, they are those of the last complete epoch, and the history is
        `network.history`.

    Raises:
        InputError: a shape, label, number or option is not valid.
        RankError: another process has failed; it has the error itself.
        DivergenceError: the loss, a parameter or a validation output is no longer finite. The
            network keeps the parameters of the last epoch in which loss and parameters were, or
            with `EarlyStopping` those of the best.

    Example:
        >>> import nnxp
        >>> data = nnxp.datasets.load("digits")
        >>> network = nnxp.MLP([64, 32, 10])
        >>> history = nnxp.train(network, data.x, data.y, epochs=5, batch_size=32)
        >>> network.evaluate(data.x_test, data.y_test)["accuracy"] > 0.9
        True
    """
    # The check of the options has replaced names.
    optimizer, schedule = cast(Optimizer, optimizer), cast(Schedule, schedule)
    objective = objectives.get(loss, network.output)
    snapshot, world = None, distributed or ALONE
    deformation = cast("Deformation | None", augment)
    if deformation is not None:
        deformation = deformation.of_images(network.sizes[0])
    if clip_norm is not None:
        optimizer = ClipNorm(optimizer, clip_norm)
    with (
        world.together(),
        _epoch_table(epochs) if verbose and world.rank == 0 else nullcontext() as table,
    ):
        if isinstance(resume, str):
            place, snapshot = _restored(resume, network, world)
            resume = snapshot.history
        resume = cast("History | None", resume)
        prepared = prepare(
            network.spec,
            objective.loss,
            x,
            targets,
            batch_size=batch_size,
            seed=seed,
            validation=validation,
            sample_weight=sample_weight,
            stream=stream,
            by_blocks=shuffle == "blocks",
            assume_finite=assume_finite,
            as_pixels=deformation is not None,
            choose_scaling=partial(
                target_scaling.choose, scale_targets, objective, network.target_scaling
            ),
        )
        callbacks = [
            each for each in callbacks if world.rank == 0 or not getattr(each, "only_first", False)
        ]
        watching: list[Any] = [schedule, *callbacks]
        for each in watching:
            if isinstance(monitor := getattr(each, "monitor", None), str):
                check_monitor(monitor, has_validation=prepared.validation is not None)
        known = None if resume is None else resume.metric
        chosen = _metric(metric, known, objective, prepared.validation, network.sizes[-1])
        if table:
            table.expect(prepared.feed.samples)
            callbacks = [table.row, *callbacks]
        advance = [each for each in (progress, table) if each]
        if checkpoint is not None or snapshot is not None or world.size > 1:
            settings: dict[str, Any] = {
                "optimizer": optimizer,
                "kind of optimizer": type(getattr(optimizer, "optimizer", optimizer)).__name__,
                "loss": objective.loss,
                "batch size": batch_size,
                "seed": seed,
                "shuffle": "a function" if callable(shuffle) else shuffle,
                "validation": validation
                if validation is None or isinstance(validation, float)
                else resuming.fingerprint(network.dtype, *validation),
                "schedule": schedule,
                "regularization": regularization,
                "diagnose": diagnose,
                "augment": deformation,
            }
            data = resuming.fingerprint(network.dtype, x, targets, sample_weight)
            alike = {"network": network, "epochs": epochs, "clip norm": clip_norm}
            ranks.check_alike(world, data | alike | settings)
            if (source := sources.find(x)) is not None:  # of which not all is compared
                settings["time of the data"] = source.modified()
            if snapshot is not None:
                resuming.check_again(place, snapshot, settings, data, network)
        communicator = world.communicator(network.backend)
        ranks.same_parameters(communicator, network)
        deform = augmentation.augmenter(deformation, seed, prepared.pixels)
        training = _Training(
            network, prepared, objective, optimizer, regularization, seed, chosen, diagnose, resume,
            snapshot, world, communicator, deform,
        )  # fmt: skip
        if checkpoint is not None and world.rank == 0:
            training.writer = Writer(
                cast(Checkpoints, checkpoint), network, settings, data, training.history.steps
            )
        for each in advance:
            if hasattr(each, "watch"):  # an EpochTable
                each.watch(training.running)
        history = training.history
        first, last = len(history.epochs) + 1, len(history.epochs) + epochs
        if snapshot is not None:
            last = epochs
        with running(callbacks, network, history), training.saving(callbacks):
            if snapshot is not None:
                resuming.restore(callbacks, snapshot.callbacks)
            for epoch in range(first, last + 1):
                rate = schedule(optimizer.learning_rate, epoch, last, history)
                rate = options.NOT_NEGATIVE("the schedule's rate", rate)
                feed = prepared.feed
                order = batches.ordered(shuffle, feed.samples, seed, epoch, feed.blocks)
                if callable(shuffle):  # it may draw at random
                    order = world.first(order)
                training.epoch(epoch, order, rate, advance)
                stops = [callback(network, history) for callback in callbacks]
                training.save_if_due()
                if any(world.vote(any(stops))):
                    break
            history.resumable = training.state[1:3]
    return history


def _metric(
    wanted: Any, known: str | None, objective: Objective, data: Validation | None, outputs: int
) -> Metric | None:
    """Return the validation metric; None without validation data.

    Args:
        wanted: `metric` of `train`.
        known: the name of the metric of a training to go on with.
        objective: the training's.
        data: the validation data.
        outputs: the number of the network's outputs.

    Raises:
        InputError: the metric does not work on this data, or is not that of before.
    """
    if data is None:
        if wanted != AUTO:
            raise InputError("metric needs validation data: give a validation share or set")
        return None
    kind = metrics.kind(objective, data.targets, data.classes)
    metric = metrics.choose([wanted], kind)[0]
    metrics.check(metric, objective, data.targets, kind, outputs)
    if known not in (None, metric.name):
        raise InputError(f"resume: its metric was {known!r}, not {metric.name!r}: give that again")
    return metric


def _epoch_table(epochs: int) -> EpochTable:
    """Return the table that `verbose` prints. Only this needs rich."""
    from nnxp.progress import EpochTable, new_console

    return EpochTable(new_console(), epochs, log=True)


def _restored(folder: str, network: MLP, world: World) -> tuple[Path, Snapshot]:
    """Give a network the parameters of a folder's newest checkpoint; return its path and content.

    Raises:
        ModelError: there is no whole checkpoint.
        InputError: it is of another network.
    """
    place, model, snapshot = world.first(resuming.load(folder) if world.rank == 0 else None)
    resuming.check(place, model, network)
    network.parameters, network.target_scaling = model.parameters, model.target_scaling
    log.info(
        "goes on from %s: after epoch %d and %d steps",
        place, len(snapshot.history.epochs), snapshot.progress.steps,
    )  # fmt: skip
    return place, snapshot


class _Training:
    """A running training: its state, data and history."""

    writer: Writer | None = None
    """Saves checkpoints."""

    def __init__(
        self,
        network: MLP,
        prepared: Prepared,
        objective: Objective,
        optimizer: Optimizer,
        regularization: Regularization,
        seed: int,
        metric: Metric | None,
        diagnose: bool,
        resume: History | None,
        snapshot: Snapshot | None,
        world: World,
        communicator: Communicator | None,
        augmenter: Augmenter | None,
    ) -> None:
        self.network = network
        self.backend = network.backend
        self.world, self.communicator = world, communicator
        self.feed = prepared.feed
        self.share = self.feed.share = ranks.share_of(world, self.feed)
        self.validation = prepared.validation
        self.objective = objective
        scaling = prepared.target_scaling
        network.target_scaling, network.loss = scaling, objective.loss
        self.unit = 1.0 if scaling is None else scaling.loss_unit(objective.loss)
        self.history = History() if resume is None else resume
        self.history.loss, self.history.best_epoch = objective.loss, None
        network.history = None
        self.metric = metric
        if metric is not None:
            self.history.metric = metric.name
            self.history.larger_is_better = metric.larger_is_better
        self.running = Running(self.backend, self.unit)
        self.run = step_runner(
            network, objective, optimizer, regularization, seed, self.history.fallbacks,
            self.share, communicator, augmenter,
        )  # fmt: skip
        self.augmenter = augmenter
        self.watch = DivergenceWatch(
            network, self.run, self.feed, regularization, seed, world, augmenter
        )
        self.state = first_state(network, optimizer, self.history.resumable, augmenter)
        if self.share.is_uneven:
            self.state = self.state._replace(batch_size=[self.state.step])  # `epoch` sets it
        self.history.resumable = None  # the steps overwrite it
        self.recorder = (
            DiagnosticsRecorder(network, objective, optimizer, regularization) if diagnose else None
        )
        self.progress = Progress()
        if snapshot is not None:
            self._restore(snapshot)
        self.callbacks: list[Any] = []
        self.can_save = True
        """Whether the state is that of `progress`: not within a chunk of steps."""

    def epoch(
        self, number: int, order: np.ndarray, rate: float, advance: list[Callable[[int], Any]]
    ) -> None:
        """Train for one epoch: run its chunks of steps, validate, diagnose and note the figures.

        Args:
            number: 1, 2, 3, ...
            order: the rows to visit, (samples,).
            rate: the learning rate.
            advance: functions to call with the number of samples of each chunk.

        Raises:
            DivergenceError: the loss or a parameter is not finite, which is noticed within a chunk,
                and the network is unchanged; or a validation output is not finite.
        """
        start = time.perf_counter()
        samples, recorder, progress = self.feed.samples, self.recorder, self.progress
        losses, sizes, before = progress.losses, progress.sizes, progress.seconds
        if recorder and not progress.steps:
            rows = self.share.rows(self.feed.batch_size)
            totals = recorder.slope_totals(self.state.parameters, rows)
            self.state = self.state._replace(slope_totals=totals)
        self.running.start_epoch()
        self.watch.begin(self.state, order, rate, progress.steps)
        for data, rows in self.feed.chunks(order, progress.steps):
            self.can_save = False
            size = self.feed.batch_size_after(progress.steps)
            self.state = with_batch_size(self.state, size, self.backend)
            self.state, loss = self.run(self.state, data, rows, rate)
            losses.append(loss)
            sizes.append(size)
            self._count(rows.shape[0])
            progress.seconds = before + time.perf_counter() - start
            # The end of the epoch is checked below, and with it the step before a smaller last one.
            left = self.feed.steps_per_epoch - progress.steps
            if left > 1 and not self.watch.is_finite(self.state, loss, progress.steps):
                raise self.watch.error(number, self.unit)
            self.can_save = left > 0
            self.running.add(loss, rows.shape[0], size)
            for call in advance:
                call(rows.shape[0] * size)
            self.save_if_due()
        # Check the parameters too: no loss of this epoch shows the effect of its last step.
        scalars = [*losses, self.watch.parameter_sum(self.state)]
        if recorder:
            scalars += self._measured(recorder, order, rate)
        values = self.backend.read(scalars)
        mean = self.unit * float(values[: len(sizes)] @ sizes) / samples
        seconds = before + time.perf_counter() - start
        if not np.isfinite(values[: len(sizes) + 1]).all():
            raise self.watch.error(number, self.unit)
        if self.communicator and len(set(self.world.exchange(float(values[len(sizes)])))) > 1:
            log.warning("the processes' parameters differed by rounding: all take the first's")
            self.state = ranks.same_state(self.communicator, self.state)
        self.network.copy_parameters(self.state.parameters)
        validation_loss, metric = self._validate(number, rate)
        diagnosis = recorder.diagnosis(values[len(sizes) + 1 :], rate) if recorder else None
        speed = samples / seconds
        self.history.epochs.append(
            Epoch(number, mean, validation_loss, metric, seconds, speed, rate, diagnosis)
        )
        self.progress, self.can_save = Progress(), True

    def _measured(
        self, recorder: DiagnosticsRecorder, order: np.ndarray, rate: float
    ) -> list[Array]:
        """Return the scalars of a diagnosis, for the first rows of the epoch's last batch."""
        last = order[(self.feed.steps_per_epoch - 1) * self.feed.batch_size :][
            : diagnostics.PROBE_ROWS
        ]
        state = ranks.whole(self.world, self.state, self.feed)
        state = self.backend.on_device(state)
        x, *targets_and_weights = self.feed.batch(last)
        if self.augmenter:
            with self.backend.active():
                x = self.augmenter(x, self.state.deformation_fields[0], self.state.step)
        batch = x, *targets_and_weights
        return recorder.scalars(state, batch, rate, self.feed.samples)

    def _count(self, steps: int) -> None:
        """Count the steps of a chunk."""
        self.progress.steps += steps
        self.history.steps += steps
        self.watch.count(steps)
        # The count is that of the whole training, so that a resumed one does the same.
        if self.history.steps // FLUSHED_STEPS > (self.history.steps - steps) // FLUSHED_STEPS:
            self.backend.flush_subnormals(self.state[1:])

    def _restore(self, snapshot: Snapshot) -> None:
        """Take over the state of a checkpoint.

        Raises:
            InputError: it is that of another optimizer.
        """
        like = self.state.without_constants()
        if self.recorder and self.history.steps:
            totals = self.recorder.slope_totals(like.parameters, self.feed.batch_size)
            like = like._replace(slope_totals=totals)
        fresh = leaves(like)
        if [tuple(array.shape) for array in fresh] != [array.shape for array in snapshot.state]:
            raise InputError("resume: the checkpoint is of another optimizer: give that again")
        pairs = zip(snapshot.state, fresh, strict=True)
        convert = partial(self.backend.asarray, copy=True)
        restored = rebuilt(like, [convert(array, dtype=new.dtype) for array, new in pairs])
        restored = ranks.part(self.share, restored, self.backend)
        self.state = restored.with_constants(self.state)
        self.progress = snapshot.progress
        losses = np.array(self.progress.losses, dtype=self.network.dtype)
        self.progress.losses = [self.backend.asarray(loss) for loss in losses]
        done = len(self.history.epochs) * self.feed.samples
        self.running.begin(done + self.progress.steps * self.feed.batch_size)

    @contextmanager
    def saving(self, callbacks: list[Any]) -> Iterator[None]:
        """Save the end of the training, whatever ends it, except divergence; hold its folder.

        If it is an exception, the network gets the history, which `train` does not return then.
        """
        self.callbacks = callbacks
        with files.held(self.writer.checkpoints.folder) if self.writer else nullcontext():
            try:
                yield
            except BaseException as error:
                self.network.history = self.history
                # The slope totals of all processes are saved, if all of them are here.
                is_whole = self.world.size == 1 or not self.state.slope_totals
                is_whole |= getattr(error, "is_everywhere", False)
                if self.can_save and is_whole and not isinstance(error, DivergenceError):
                    self._save()
                raise
            self._save()

    def save_if_due(self) -> None:
        """Save the training if it is time to, between two chunks of steps or two epochs."""
        within_epoch = self.progress.steps > 0
        is_due = (
            self.can_save
            and self.writer is not None
            and self.writer.is_due(self.history.steps, within_epoch)
        )
        if self.world.vote(is_due)[0]:
            self._save()
            self.world.vote(0)  # no process goes on if the first could not save

    def _save(self) -> None:
        state = ranks.whole(self.world, self.state, self.feed)
        if self.writer:
            losses = self.backend.read(self.progress.losses) if self.progress.losses else []
            self.writer.save(self.progress, np.asarray(losses), state, self.history, self.callbacks)

    def _validate(self, epoch: int, rate: float) -> tuple[float | None, float | None]:
        """Compute the loss and the main metric on the validation data; None without such data."""
        if self.validation is None:
            return None, None
        assert self.metric is not None
        data = self.validation
        try:
            loss, outputs = ranks.evaluate(self.world, self.network, data, self.objective)
        except InputError as error:  # the data was checked, so an output is not finite
            raise DivergenceError(
                f"epoch {epoch}, validation data: {error}; or lower the learning rate ({rate:g})"
            ) from None
        kind = metrics.kind(self.objective, data.targets, data.classes)
        return loss, self.metric(metrics.outcome(self.objective, outputs, data.targets, kind))

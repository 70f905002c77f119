"""`nnxp train`."""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

from rich.console import Console

import nnxp
from nnxp import files, objectives, reports
from nnxp.augmentation import Deformation
from nnxp.callbacks import Callback, CSVLog, EarlyStopping, TensorBoardLog
from nnxp.class_weights import sample_weights
from nnxp.cli import describe, options, outputs, signals
from nnxp.cli.train_options import TrainOptions
from nnxp.cli.train_setup import (
    checkpoint_arguments,
    deformation_of_images,
    load_dataset,
    make_network,
    named_class_weights,
    open_backend,
    read_batch_size,
    training_arguments,
)
from nnxp.data import batches
from nnxp.datasets import Dataset
from nnxp.distributed.launcher import COMMAND
from nnxp.distributed.world import ALONE, World
from nnxp.errors import DivergenceError, InputError
from nnxp.history import History
from nnxp.network import MLP
from nnxp.progress import EpochTable, log_lines, new_console


@options.from_record
def train(given: TrainOptions) -> None:
    """Train a network: nnxp train mnist --hidden 128 --backend torch."""
    world = _world(given)
    with world.together():
        _train(given if world.rank == 0 else _without_outputs(given), world)


def _world(given: TrainOptions) -> World:
    """Return the processes that train together.

    Raises:
        InputError: there must be several, and there are not.
    """
    if given.distributed is False:
        return ALONE
    world = nnxp.distributed.world(given.backend)
    if given.distributed and world.size == 1:
        raise InputError(
            f"--distributed: this is one process; start several, {COMMAND} (pip install "
            '"nnxp[mpi]" brings mpiexec)'
        )
    if given.find_rate and world.size > 1:
        raise InputError("--find-rate tries rates in one process: leave mpiexec out")
    return world


def _without_outputs(given: TrainOptions) -> TrainOptions:
    """Return the options of a process that writes nothing."""
    return replace(given, quiet=True, report=None, csv_log=None, plot=None, tensorboard=None)


def _train(given: TrainOptions, world: World) -> None:
    paths = {"--report": given.report, "--csv-log": given.csv_log, "--plot": given.plot}
    is_first = world.rank == 0
    save = given.save if is_first and not given.find_rate else None
    inputs = [given.data, *([given.targets] if given.targets else [])]
    written = outputs.check({"--save": save, **paths}, inputs)
    if given.plot is not None:
        nnxp.plots.check(given.plot)
    arguments = training_arguments(given) | {"distributed": world}
    if save is not None:
        outputs.check_model(save)
    arguments |= checkpoint_arguments(given)
    stopping, logs = _early_stopping(given), _logs(given, written)
    backend = open_backend(given, world)
    console = new_console(quiet=True) if given.quiet else outputs.console
    with log_lines(console, given.verbose):
        dataset = load_dataset(given, world)
    if arguments["augment"] is not None:
        arguments["augment"] = deformation_of_images(arguments["augment"], dataset)
    network = make_network(given, dataset, backend)
    weights = named_class_weights(given, dataset)
    if weights is not None:
        arguments["sample_weight"] = sample_weights(weights, dataset.y, dataset.classes or ())
    if given.find_rate:
        _find_rate(given, dataset, network, arguments, console, written)
        return
    replaces = is_first and outputs.replaces(given.save, network, given.overwrite)
    validated = len(batches.split(batches.strata(dataset.y), given.validation, given.seed)[1])
    introduction = _introduction(
        given, dataset, network, validated, weights, arguments["augment"], world
    )
    for line in introduction:
        console.print(line)

    stop, test = _Stop(given.resume or given.checkpoint, world), {}
    with signals.handled(stop.receive):
        table = EpochTable(console, given.epochs, log=given.verbose, after_chunk=stop.check)
        table.expect(len(dataset.x) - validated)
        try:
            history = _history(network, dataset, arguments, table, [*stopping, *logs], stop)
        except DivergenceError as error:
            if stop.history is None:
                raise
            if replaces and not given.overwrite:
                written.rename("--save", "diverged")
            saved = _save(written, network, given)
            last = stop.history.best_epoch or len(stop.history.epochs)
            end = f"; saved {saved}, the network of epoch {last}" if saved else ""
            raise DivergenceError("; ".join([f"{error}{end}", *written.problems])) from None
        except OSError as error:  # of a checkpoint
            if stop.history is None:
                raise
            written.failed(error)
            history, stop.has_failed = stop.history, True
        if given.diagnose and history.epochs:
            console.print(describe.layers(history.epochs[-1]))
        for each in stopping:
            console.print(f"\nthe parameters are those of epoch {each.best_epoch}, the best")
        if is_first and not stop.ended and len(dataset.x_test):
            test = network.evaluate(dataset.x_test, dataset.y_test, metrics=[given.metric, "auto"])
        if stop.ended and replaces and not given.overwrite:
            # An interrupted training must not replace a finished one.
            written.rename("--save", "interrupted")
            replaces = False
        path = _save(written, network, given)
        report = _report(given, arguments, dataset, network, history, test, weights)
        written.write(
            "--report", lambda path: files.write(path, json.dumps(report, indent=2).encode())
        )
        picture = written.write(
            "--plot", lambda path: nnxp.plots.save(nnxp.plots.history(report), path)
        )
    if test:
        console.print(f"\ntest {describe.figures(test)}")
    if path is not None:
        console.print(outputs.saved(path, replaces and path == given.save))
    if picture is not None:
        console.print(f"saved {picture}")
    if given.tensorboard is not None:
        console.print(f"logged: {shlex.join(['tensorboard', '--logdir', given.tensorboard])}")
    if stop.number is not None:
        folder = given.resume or given.checkpoint
        raise stop.after(history, given.epochs, path, folder, written.problems)
    written.end()
    console.print(f"next: {_next_command(given, bool(test))}")


def _save(written: outputs.Outputs, network: MLP, given: TrainOptions) -> str | None:
    """Save the model, in another folder if need be; return its path, None if nothing is saved."""
    if "--save" not in written.paths:
        return None
    path = written.write("--save", network.save, replace=given.overwrite)
    return path or written.rescue("--save", network.save)


def _find_rate(
    given: TrainOptions,
    dataset: Dataset,
    network: MLP,
    arguments: dict[str, Any],
    console: Console,
    written: outputs.Outputs,
) -> None:
    """Find a learning rate for a training with these options; print and draw it.

    Raises:
        InputError: the loss falls at no rate.
    """
    console.print(describe.network(network, objectives.get(given.loss, network.output).loss))
    console.print(f"on {network.backend.describe()}, {given.dtype}; {len(dataset.x):,} samples")
    console.print(describe.task(dataset))
    of_epochs = ("epochs", "validation", "schedule", "metric", "diagnose", "shuffle")
    of_steps = {name: value for name, value in arguments.items() if name not in of_epochs}
    del of_steps["distributed"]
    found = nnxp.find_learning_rate(network, dataset.x, dataset.y, **of_steps)
    if path := written.write(
        "--plot", lambda path: nnxp.plots.save(nnxp.plots.learning_rate(found), path)
    ):
        console.print(f"saved {path}")
    low, high = found.rates[0], found.rates[-1]
    if found.suggestion is None:
        raise InputError(
            f"--find-rate: the loss falls at no rate from {low:.2g} to {high:.2g}: "
            "nnxp train --diagnose says what keeps a network from learning"
        )
    console.print(
        f"\nlearning rate {found.suggestion:g}, of {len(found.rates)} steps from "
        f"{low:.2g} to {high:.2g}"
    )
    if found.still_falls:
        console.print("the loss still falls there: a higher rate may be better")
    console.print(f"next: the same command with --learning-rate {found.suggestion:g}")
    written.end()


def _early_stopping(given: TrainOptions) -> list[EarlyStopping]:
    if given.early_stopping is None:
        return []
    return [EarlyStopping(given.monitor, given.early_stopping)]


def _logs(given: TrainOptions, written: outputs.Outputs) -> list[Callback]:
    """Return the callbacks that log each epoch.

    Raises:
        InputError: a file is in the way, or tensorboard is not installed.
    """
    logs: list[tuple[CSVLog | TensorBoardLog, str]] = []
    if given.csv_log is not None:
        logs.append((CSVLog(given.csv_log), given.csv_log))
    if given.tensorboard is not None:
        files.check_folder(given.tensorboard, "--tensorboard")
        logs.append((TensorBoardLog(given.tensorboard), given.tensorboard))
    for log, _ in logs:
        log.check()
    return [_Lasting(log, place, written) for log, place in logs]


def _go_on(folder: str | None) -> str:
    """Return the end of a line about a training that ended early: how to go on."""
    if folder is None:
        return ""
    return f"; to go on, give the same command with {shlex.join(['--resume', folder])}"


def _introduction(
    given: TrainOptions,
    dataset: Dataset,
    network: MLP,
    validated: int,
    weights: dict[str, float] | None,
    deformation: Deformation | None,
    world: World,
) -> Iterator[str]:
    """Describe the network, the device, the data and what was guessed, line by line."""
    yield describe.network(network, objectives.get(given.loss, network.output).loss)
    yield (
        f"on {network.backend.describe()}, {given.dtype}"
        + (" (auto)" if given.backend == "auto" else "")
        + f"; {len(dataset.x) - validated:,} samples to train on, {validated:,} to validate, "
        f"{len(dataset.x_test):,} to test"
    )
    if world.size > 1:
        batch = min(read_batch_size(given.batch_size) or len(dataset.x), len(dataset.x) - validated)
        yield f"{world.describe()}: each takes {-(-batch // world.size)} of {batch} rows of a step"
    yield describe.task(dataset)
    if stays := describe.on_disk(dataset, by_blocks=given.shuffle_blocks):
        yield stays
    if header := describe.header(dataset):
        yield header
    yield from describe.table(dataset)
    yield from describe.missing_rows(dataset, validated, given.validation)
    if weights is not None:
        yield describe.class_weights(weights, str(given.class_weight))
    if deformation is not None:
        yield describe.augmentation(deformation)
    yield ""
    if given.verbose:
        yield f"steps: {network.backend.executor}"


class _Lasting(Callback):
    """A log of a training that goes on without it, should the log fail; that is told at the end."""

    def __init__(self, log: CSVLog | TensorBoardLog, place: str, written: outputs.Outputs) -> None:
        self.log, self.place, self.written = log, place, written
        self.has_failed = False

    def start(self, network: MLP, history: History) -> None:
        self.log.start(network, history)

    def __call__(self, network: MLP, history: History) -> None:
        if not self.has_failed:
            self._try(self.log, network, history)

    def finish(self, network: MLP, history: History) -> None:
        self._try(self.log.finish, network, history)

    def _try(self, call: Callable[[MLP, History], None], network: MLP, history: History) -> None:
        try:
            call(network, history)
        except OSError as error:
            if not self.has_failed:  # closing it may fail again
                error.filename = error.filename or self.place
                self.written.failed(error)
            self.has_failed = True


class _Stop(signals.Deferred):
    """Ends a training on SIGINT or SIGTERM between two chunks of steps.

    The network of the last complete epoch is left.
    """

    history: History | None = None

    def __init__(self, folder: str | None, world: World) -> None:
        super().__init__()
        self.world = world
        self.folder = folder
        """Where checkpoints are, if any."""
        self.has_failed = False

    @property
    def ended(self) -> bool:
        """Whether a signal or an error ended the training early."""
        return self.number is not None or self.has_failed

    def check(self) -> None:
        """Raise `Interrupted` if a signal came to any of the processes."""
        self._agree()
        try:
            super().check()
        except signals.Interrupted as interrupted:
            interrupted.is_everywhere = True
            raise

    def _agree(self) -> None:
        """Take over a signal that another process got: all end after the same step."""
        self.number = max(self.world.vote(self.number or 0)) or None

    def __call__(self, network: MLP, history: History) -> bool:
        """Remember the history after an epoch, and return whether a signal came: a callback."""
        self.history = history
        self._agree()
        return self.number is not None

    def trained(self, interrupted: signals.Interrupted) -> History:
        """Return the history so far; raise the signal again if no epoch is complete."""
        if self.history is None:
            message = f"{interrupted} before the first epoch was complete: "
            message += (
                f"saved {self.folder}{_go_on(self.folder)}" if self.folder else "nothing is saved"
            )
            raise signals.Interrupted(interrupted.number, message)
        return self.history

    def after(
        self,
        history: History,
        epochs: int,
        path: str | None,
        folder: str | None,
        problems: list[str],
    ) -> signals.Interrupted:
        """Return the signal with a message that names the last epoch and the saved files."""
        assert self.number is not None
        word, done = signals.NAMES[signal.Signals(self.number)], len(history.epochs)
        saved = f"saved {path}" if path else "nothing could be saved"
        message = f"{word} after epoch {done} of {epochs}: {saved}"
        return signals.Interrupted(self.number, "; ".join([message + _go_on(folder), *problems]))


def _history(
    network: MLP,
    dataset: Dataset,
    arguments: dict[str, Any],
    table: EpochTable,
    callbacks: list[Callback],
    stop: _Stop,
) -> History:
    """Train until the end or a signal; return the history of the complete epochs."""
    try:
        with table:
            return nnxp.train(
                network,
                dataset.x,
                dataset.y,
                callbacks=[table.row, *callbacks, stop],
                progress=table,
                **arguments,
            )
    except signals.Interrupted as interrupted:
        return stop.trained(interrupted)


def _report(
    given: TrainOptions,
    arguments: dict[str, Any],
    dataset: Dataset,
    network: MLP,
    history: History,
    test: dict[str, float],
    weights: dict[str, float] | None,
) -> dict[str, Any]:
    """Return the report of the training, which JSON can hold."""
    of_this_run = (
        "data",
        "report",
        "resume",
        "checkpoint",
        "csv_log",
        "every",
        "plot",
        "targets",
        "tensorboard",
        "find_rate",
        "distributed",
        "quiet",
        "verbose",
    )
    used = {name: value for name, value in asdict(given).items() if name not in of_this_run}
    used |= {
        "learning_rate": arguments["optimizer"].learning_rate,
        "weight_decay": getattr(arguments["optimizer"], "weight_decay", given.weight_decay),
        "batch_size": arguments["batch_size"],
        "class_weight": weights,
        "processes": arguments["distributed"].size,
        "task": dataset.task,
        "task_guessed": dataset.task_guessed,
        "delimiter": dataset.delimiter,
        "decimal": dataset.decimal,
        "columns": dataset.features,
        "categories": describe.categories(dataset),
        "filled": dataset.filled,
        "test_share": dataset.split.share if dataset.split else None,
    }
    return reports.training(network, history, data=given.data, options=used, test=test)


def _next_command(given: TrainOptions, tested: bool) -> str:
    verb = "evaluate" if tested else "predict"
    where = ["--data-dir", given.data_dir] if given.data_dir else []
    where += ["--delimiter", given.delimiter] if given.delimiter else []
    where += ["--features", given.features] if given.features else []
    if verb == "evaluate":
        where += ["--targets", given.targets] if given.targets else []
    return shlex.join(["nnxp", verb, given.save, given.data, *where])

"""`nnxp train`."""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

from rich.console import Console

import nnxp
from nnxp import (
    augmentation,
    backends,
    datasets,
    executors,
    files,
    metrics,
    objectives,
    optimizers,
    reports,
    schedules,
)
from nnxp import options as rules
from nnxp.augmentation import Deformation
from nnxp.callbacks import Callback, CSVLog, EarlyStopping, TensorBoardLog
from nnxp.class_weights import class_weights, sample_weights
from nnxp.cli import describe, options, outputs, signals
from nnxp.cli.options import DATA, DEVICE, NETWORK, OUTPUT, REGULARISATION, TRAINING, either
from nnxp.data import batches
from nnxp.datasets import Dataset
from nnxp.distributed.launcher import COMMAND
from nnxp.distributed.world import ALONE, World
from nnxp.errors import DivergenceError, InputError, shown, unknown_name
from nnxp.history import MONITORS, History
from nnxp.initializers import INITIALIZERS
from nnxp.kernels import ACTIVATIONS
from nnxp.names import (
    ActivationName,
    ExecutorName,
    InitializerName,
    MetricName,
    PreprocessName,
    TaskName,
)
from nnxp.network import MLP
from nnxp.optimizers import OPTIMIZERS
from nnxp.options import from_text
from nnxp.progress import EpochTable, log_lines, new_console
from nnxp.regularization import Regularization
from nnxp.resuming import Checkpoints

_DEFAULT_RATES = ", ".join(
    f"{OPTIMIZERS[name]().learning_rate:g} for {name}" for name in OPTIMIZERS.own
)
DEFAULT_OUTPUTS: dict[TaskName, ActivationName] = {
    "classify": "softmax",
    "multilabel": "sigmoid",
    "regress": "identity",
}
"""The output activation for each task if none is given."""


def _executors() -> str:
    """Describe each executor: "replay (numpy) to record ..."."""
    told = []
    for each in executors.EXECUTORS:
        libraries = ", ".join(name for name in each.modules if name)
        place = f"{libraries} on {each.device}" if each.device else libraries
        told.append(f"{each.name}{f' ({place})' if place else ''} to {each.summary}")
    return "; ".join(told)


@dataclass(frozen=True)
class TrainOptions:
    """The options of `nnxp train`."""

    data: options.Data = "digits"
    data_dir: options.DataDir = None
    target: options.Target = None
    targets: options.Targets = None
    features: options.Features = None
    drop: Annotated[
        str | None, options.text(DATA, "COLUMNS", "Columns of a table to leave out: id,name.")
    ] = None
    one_hot: Annotated[
        bool,
        options.flag(DATA, "Make a feature of each category of each column of text.", "--one-hot"),
    ] = False
    one_hot_columns: Annotated[
        str | None,
        options.text(
            DATA, "COLUMNS", "Columns to do that with whether they are text or numbers: month,day."
        ),
    ] = None
    impute: Annotated[
        Any,
        options.text(
            DATA,
            "NAME|NUMBER",
            "What fills missing values in: a number, or a column's "
            f"{either(datasets.features.STRATEGIES)} value in the rows to train on. Text is filled "
            "with its most frequent. If not given, missing values are refused.",
            parser=from_text,
        ),
    ] = None
    delimiter: options.Delimiter = None
    task: Annotated[
        TaskName | None,
        options.text(
            DATA,
            "NAME",
            f"Task: {either(datasets.targets.TASKS)}. If not given, it is guessed: text means "
            "classify; whole numbers mean classify if there are 2 distinct ones, or up to "
            f"{datasets.targets.MOST_CLASSES} with {datasets.targets.ROWS_PER_CLASS} rows or more "
            "each on average; other numbers mean regress.",
        ),
    ] = None
    preprocess: Annotated[
        PreprocessName,
        options.text(
            DATA,
            "NAME",
            f"Preprocessing of the features: {either(datasets.PREPROCESS)}. pca and zca whiten; "
            "auto scales pixels to [0, 1] and standardises the features of files.",
        ),
    ] = "auto"
    test_share: Annotated[
        float | None,
        options.number(
            DATA,
            f"Share of a file's rows to keep for testing. If not given: {datasets.TEST_SHARE}.",
            metavar="SHARE",
        ),
    ] = None
    validation: Annotated[
        float,
        options.number(DATA, "Share of the training rows to validate on.", metavar="SHARE"),
    ] = 0.1
    scale_targets: Annotated[
        bool | None,
        options.flag(
            DATA,
            "Scale real-valued targets to mean 0 and deviation 1 for training. If neither is "
            "given: only if the output is identity and the loss quadratic, mae or huber.",
            "--scale-targets/--no-scale-targets",
        ),
    ] = None

    class_weight: Annotated[
        str | None,
        options.text(
            DATA,
            "WEIGHTS",
            "Weights of the classes in the loss: balanced, so that all classes count the same, or "
            "CLASS=WEIGHT,... with 1 for the others.",
        ),
    ] = None

    hidden: Annotated[
        str, options.text(NETWORK, "SIZES", "Sizes of the hidden layers; '' for none.")
    ] = "128,64"
    activation: options.Activation = "relu"
    output_activation: Annotated[
        Literal[ActivationName, "auto"],
        options.text(
            NETWORK,
            "NAME",
            f"Activation of the output: {either(ACTIVATIONS)}; auto takes "
            "softmax for classes, sigmoid for labels, identity for values and softplus for counts "
            "(--loss poisson).",
            **options.names(ACTIVATIONS, "auto"),
        ),
    ] = "auto"
    initializer: Annotated[
        InitializerName,
        options.text(
            NETWORK,
            "NAME",
            f"Initial weights: {either(INITIALIZERS)}; auto fits each layer's activation.",
        ),
    ] = "auto"
    dtype: options.DType = "float32"

    loss: options.Loss = "auto"
    optimizer: Annotated[
        str,
        options.text(
            TRAINING, "NAME", f"Optimizer: {either(OPTIMIZERS)}.", **options.names(OPTIMIZERS)
        ),
    ] = "sgd"
    learning_rate: Annotated[
        float | None,
        options.number(
            TRAINING,
            f"Learning rate. If not given: {_DEFAULT_RATES}.",
        ),
    ] = None
    momentum: Annotated[
        float, options.number(TRAINING, "Momentum of sgd and rmsprop, from 0 up to 1.")
    ] = 0.0
    nesterov: Annotated[
        bool,
        options.flag(TRAINING, "Use Nesterov momentum.", "--nesterov"),
    ] = False
    schedule: Annotated[
        str,
        options.text(
            TRAINING,
            "NAME",
            f"Schedule of the learning rate: {either(schedules.SCHEDULES)}, with options as in "
            "cosine,warmup=5.",
        ),
    ] = "constant"
    find_rate: Annotated[
        bool,
        options.flag(
            TRAINING,
            "Find a learning rate instead of training, by steps whose rate grows; --plot draws "
            "their loss.",
            "--find-rate",
        ),
    ] = False
    metric: Annotated[
        MetricName,
        options.text(
            TRAINING,
            "NAME",
            f"Metric on the validation and the test rows: {either(metrics.METRICS)}; auto is "
            "accuracy, or r2 for real values.",
            **options.names(metrics.METRICS, "auto"),
        ),
    ] = "auto"
    epochs: Annotated[int, options.whole(TRAINING, "Number of passes over the data.")] = 40
    batch_size: Annotated[
        str, options.text(TRAINING, "SIZE", "Samples in a batch; 'all' for one batch.")
    ] = "32"
    seed: Annotated[
        int,
        options.whole(TRAINING, "Seed of weights, batches, validation rows and dropout."),
    ] = 0

    weight_decay: Annotated[
        float | None,
        options.number(
            REGULARISATION,
            "Decay of the weights in each step. If not given: the optimizer's, 0.01 for adamw and "
            "0 for the others.",
        ),
    ] = None
    l1: Annotated[float, options.number(REGULARISATION, "L1 penalty in the loss.")] = 0.0
    l2: Annotated[float, options.number(REGULARISATION, "L2 penalty in the loss.")] = 0.0
    max_norm: Annotated[
        float | None,
        options.number(REGULARISATION, "Largest norm of the weights into a unit."),
    ] = None
    clip_norm: Annotated[
        float | None,
        options.number(REGULARISATION, "Largest norm of the gradient of a step."),
    ] = None
    dropout: Annotated[
        str,
        options.text(
            REGULARISATION,
            "SHARES",
            "Share of the hidden units to drop, one for all layers or one for each.",
        ),
    ] = "0"
    augment: Annotated[
        list[str] | None,
        options.text(
            REGULARISATION,
            "DEFORMATION",
            f"{options.AUGMENT_HELP} May be given several times.",
        ),
    ] = None
    early_stopping: Annotated[
        int | None,
        options.whole(
            REGULARISATION,
            "Stop after this number of epochs without a better --monitor, and keep the best "
            "epoch's weights.",
        ),
    ] = None
    monitor: Annotated[
        str,
        options.text(
            REGULARISATION,
            "NAME",
            f"Figure that early stopping watches: {either(MONITORS)}; the last is that of "
            "--metric.",
        ),
    ] = "validation_loss"

    backend: options.Backend = "auto"
    device: options.Device = None
    executor: Annotated[
        ExecutorName,
        options.text(
            DEVICE,
            "NAME",
            f"Way to run steps: {_executors()}. auto takes the first of them that the device has.",
        ),
    ] = "auto"
    tf32: options.TF32 = False
    threads: options.ThreadCount = None
    distributed: Annotated[
        bool | None,
        options.flag(
            DEVICE,
            "Train one network in all processes that a launcher started: mpiexec -n 4 nnxp train "
            "... If neither is given: do so if there are several.",
            "--distributed/--no-distributed",
        ),
    ] = None
    stream: Annotated[
        bool | None,
        options.flag(
            DEVICE,
            "Keep the data on the host, or on disk, and send it in chunks. If neither is given: if "
            "the data does not fit on the device, or is on disk and large.",
            "--stream/--no-stream",
        ),
    ] = None
    shuffle_blocks: Annotated[
        bool,
        options.flag(
            DEVICE,
            "Shuffle data on disk by blocks of rows, which a slow disk reads faster than rows at "
            "random.",
            "--shuffle-blocks",
        ),
    ] = False

    save: options.Save = "model.safetensors"
    overwrite: options.Overwrite = False
    report: Annotated[
        str | None, options.text(OUTPUT, "FILE", "File for options and history, as JSON.")
    ] = None
    plot: Annotated[
        str | None,
        options.text(OUTPUT, "FILE", "File for a picture of losses and metric by epoch."),
    ] = None
    checkpoint: Annotated[
        str | None,
        options.text(OUTPUT, "FOLDER", "Folder to save the running training in."),
    ] = None
    every: Annotated[
        str,
        options.text(
            OUTPUT,
            "STEPS",
            "How often to do so: after a number of steps, a time as in 30s, 5m or 1h, or epoch.",
        ),
    ] = "epoch"
    resume: Annotated[
        str | None,
        options.text(
            OUTPUT,
            "FOLDER",
            "Go on with the training that is saved there, given the same data and options, and "
            "save it there again.",
        ),
    ] = None
    csv_log: Annotated[
        str | None,
        options.text(OUTPUT, "FILE", "File for a table of the epochs, a line as each one ends."),
    ] = None
    tensorboard: Annotated[
        str | None,
        options.text(OUTPUT, "FOLDER", "Folder for logs that tensorboard --logdir FOLDER shows."),
    ] = None
    diagnose: Annotated[
        bool,
        options.flag(
            OUTPUT,
            "Measure dead and saturated units, gradients and updates in every epoch.",
            "--diagnose",
        ),
    ] = False
    verbose: Annotated[
        bool,
        options.flag(OUTPUT, "Print how steps run and where the data is.", "--verbose", "-v"),
    ] = False
    quiet: Annotated[bool, options.flag(OUTPUT, "Print nothing but errors.", "--quiet", "-q")] = (
        False
    )


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
    arguments = _arguments(given) | {"distributed": world}
    if save is not None:
        outputs.check_model(save)
    arguments |= _checkpoints(given)
    stopping, logs = _early_stopping(given), _logs(given, written)
    backend = _backend(given, world)
    console = new_console(quiet=True) if given.quiet else outputs.console
    with log_lines(console, given.verbose):
        dataset = _dataset(given, world)
    if arguments["augment"] is not None:
        arguments["augment"] = _of_images(arguments["augment"], dataset)
    network = _network(given, dataset, backend)
    weights = _class_weights(given, dataset)
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


def _backend(given: TrainOptions, world: World) -> backends.Backend:
    """Open the backend; of several processes on a machine, each on a GPU of its own."""
    more = given.executor, given.tf32, given.threads
    backend = backends.get(given.backend, given.device, *more)
    if world.on_machine > 1 and backend.device_name == "cuda:0" and given.device != "cuda:0":
        devices = [each for each in backend.devices() if each.startswith("cuda:")]
        device = devices[world.rank_on_machine % len(devices)]
        backend = backends.get(backend.name, device, *more)
    return backend


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


def _arguments(given: TrainOptions) -> dict[str, Any]:
    """Make the arguments of `nnxp.train` from the options, without data and callbacks.

    Raises:
        InputError: an option has a wrong value.
    """
    if given.epochs < 0:
        raise InputError(f"--epochs must be 0 or more, not {given.epochs}")
    if given.plot is not None and not given.epochs:
        raise InputError("--plot: there is nothing to draw of 0 epochs")
    if not 0 <= given.validation < 1:
        raise InputError(f"--validation must be a share in [0, 1), not {given.validation:g}")
    batch_size = _batch_size(given.batch_size)
    layers = options.layers(given.hidden)
    optimizer = _optimizer(given)
    regularization = Regularization(given.l1, given.l2, given.max_norm, _shares(given.dropout))
    regularization.shares(len(layers))
    return {
        "loss": objectives.LOSS("--loss", given.loss),
        "optimizer": optimizer,
        "epochs": given.epochs,
        "batch_size": batch_size,
        "seed": given.seed,
        "validation": given.validation,
        "schedule": schedules.get(given.schedule),
        "regularization": regularization,
        "clip_norm": given.clip_norm,
        "augment": augmentation.get(given.augment) if given.augment else None,
        "metric": metrics.METRIC("--metric", given.metric),
        "diagnose": given.diagnose,
        "stream": given.stream,
        "shuffle": "blocks" if given.shuffle_blocks else True,
        "scale_targets": "auto" if given.scale_targets is None else given.scale_targets,
    }


def _optimizer(given: TrainOptions) -> optimizers.Optimizer:
    # Not every optimizer has all of these options, and each has defaults of its own.
    optional = {
        "learning_rate": given.learning_rate,
        "weight_decay": given.weight_decay,
        "momentum": given.momentum or None,
        "nesterov": given.nesterov or None,
    }
    return optimizers.get(
        given.optimizer.lower(),
        **{key: value for key, value in optional.items() if value is not None},
    )


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


def _class_weights(given: TrainOptions, dataset: Dataset) -> dict[str, float] | None:
    """Return the weight of each class by name; None if none are given.

    Raises:
        InputError: the targets are no classes, a name is none of a class, or a weight is no number.
    """
    if given.class_weight is None:
        return None
    if dataset.classes is None:
        raise InputError(f"--class-weight is for classes, and the task is {dataset.task}")
    asked: str | dict[str, float] = given.class_weight
    if given.class_weight.lower() != "balanced":
        asked = {}
        for part in given.class_weight.split(","):
            name, _, weight = (text.strip() for text in part.rpartition("="))
            if name not in dataset.classes:
                raise unknown_name("class", name or part, dataset.classes)
            try:
                asked[name] = rules.NOT_NEGATIVE.convert(float(weight))
            except ValueError:
                raise InputError(
                    f"--class-weight {part.strip()!r}: {shown(weight)} is no weight; give a "
                    "number, 0 or more"
                ) from None
    by_class = class_weights(asked, dataset.y, dataset.classes)
    return dict(zip(dataset.classes, by_class.tolist(), strict=True))


def _checkpoints(given: TrainOptions) -> dict[str, Any]:
    """Return the arguments of `nnxp.train` that save a training and go on with one.

    Raises:
        InputError: an option has a wrong value or no use.
    """
    if given.checkpoint is not None and given.resume is not None:
        raise InputError("--resume FOLDER also saves there: leave --checkpoint out")
    folder = given.resume or given.checkpoint
    if folder is None:
        if given.every != "epoch":
            raise InputError("--every is for --checkpoint FOLDER: name one")
        return {}
    files.check_folder(folder, "--resume" if given.resume else "--checkpoint")
    return {"checkpoint": Checkpoints(folder, given.every), "resume": given.resume}


def _go_on(folder: str | None) -> str:
    """Return the end of a line about a training that ended early: how to go on."""
    if folder is None:
        return ""
    return f"; to go on, give the same command with {shlex.join(['--resume', folder])}"


def _batch_size(text: str) -> int | None:
    if text == "all":
        return None
    size = options.positive(text)
    if size is None:
        raise InputError(f"--batch-size {shown(text)}: give a whole number, 1 or more, or 'all'")
    return size


def _shares(text: str) -> float | tuple[float, ...]:
    """Read the share of units to drop: one for all hidden layers, or one for each."""
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--dropout {text!r}: give a share like 0.5, or one per layer") from None
    return shares if len(shares) > 1 else shares[0]


def _dataset(given: TrainOptions, world: World) -> Dataset:
    """Load the data. One process of a machine downloads what the others then have."""
    waits = world.rank_on_machine > 0 and given.data in datasets.NAMES
    dataset = None if waits else _load(given)
    world.vote(0)
    return _load(given) if dataset is None else dataset


def _load(given: TrainOptions) -> Dataset:
    return datasets.load(
        given.data,
        given.data_dir,
        target=given.target,
        drop=options.columns(given.drop),
        one_hot=given.one_hot,
        one_hot_columns=options.columns(given.one_hot_columns),
        impute=given.impute,
        delimiter=given.delimiter,
        task=given.task,
        preprocess=given.preprocess,
        test_share=given.test_share,
        features_name=given.features,
        targets_file=given.targets,
        # On another device, features that fit in the host's memory are streamed from there.
        stream=given.stream if datasets.rows.is_for(given.data) else None,
    )


def _network(given: TrainOptions, dataset: Dataset, backend: backends.Backend) -> MLP:
    output = given.output_activation
    network = MLP(
        (dataset.x.shape[1], *options.layers(given.hidden), dataset.outputs),
        options.activations(given.activation),
        _default_output(dataset.task, given.loss) if output == "auto" else output,
        initializer=given.initializer,
        backend=backend,
        dtype=given.dtype,
        seed=given.seed,
    )
    network.metadata = dataset.metadata()
    return network


def _of_images(deformation: Deformation, dataset: Dataset) -> Deformation:
    """Return the deformation with the shape of the data's images.

    Raises:
        InputError: the samples are no images.
    """
    if dataset.preprocessing.kind == "pca":
        raise InputError("--augment deforms pixels: take --preprocess pixels or zca, not pca")
    if deformation.shape is None and len(dataset.shape) > 1:
        deformation = replace(deformation, shape=dataset.shape)
    return deformation.of_images(dataset.x.shape[1])


def _default_output(task: TaskName, loss: str) -> ActivationName:
    """Return the output activation for a task; counts have a positive mean."""
    return "softplus" if loss.lower() == "poisson" and task == "regress" else DEFAULT_OUTPUTS[task]


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
        batch = min(_batch_size(given.batch_size) or len(dataset.x), len(dataset.x) - validated)
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

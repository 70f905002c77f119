"""The options of `nnxp train`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from nnxp import datasets, executors, metrics, schedules
from nnxp.cli import options
from nnxp.cli.options import DATA, DEVICE, NETWORK, OUTPUT, REGULARISATION, TRAINING, either
from nnxp.history import MONITORS
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
from nnxp.optimizers import OPTIMIZERS
from nnxp.options import from_text

_DEFAULT_RATES = ", ".join(
    f"{OPTIMIZERS[name]().learning_rate:g} for {name}" for name in OPTIMIZERS.own
)


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

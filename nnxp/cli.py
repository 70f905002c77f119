"""The command line: train, evaluate, predict, import-weights, gradcheck, plot, bench, backends."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import nnxp
from nnxp import (
    backends,
    checkpoint,
    datasets,
    files,
    objectives,
    optimizers,
    plots,
    schedules,
    signals,
    streams,
)
from nnxp.benchmark.command import bench
from nnxp.callbacks import EarlyStopping
from nnxp.data import batches
from nnxp.errors import (
    DataError,
    DivergenceError,
    GradientError,
    InputError,
    NnxpError,
    first_line,
    shown,
)
from nnxp.gradient_check import TOLERANCE
from nnxp.gradient_check import gradcheck as check_gradients
from nnxp.history import Epoch, History
from nnxp.kernels import ACTIVATIONS
from nnxp.metrics import format_figure
from nnxp.network import MLP
from nnxp.options import LARGEST
from nnxp.progress import EpochTable, new_console
from nnxp.randomness import Purpose, generator
from nnxp.regularization import Regularization

app = typer.Typer(
    name="nnxp",
    help="Train neural networks on NumPy, CuPy, PyTorch or JAX: one set of kernels, a flag picks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# Output that a person reads as it comes; off a terminal rich adds no control characters.
_console = new_console()


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{shown(text)} is not a whole number") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a number") from None


def _int_option(text: str) -> Any:
    return typer.Option(help=text, parser=_whole_number, metavar="INTEGER")


def _float_option(text: str) -> Any:
    return typer.Option(help=text, parser=_number, metavar="NUMBER")


Data = Annotated[
    str, typer.Argument(help="digits, moons, mnist, fashion-mnist, FILE.csv or FILE.npz")
]
BackendOption = Annotated[
    str,
    typer.Option(
        "--backend", envvar="NNXP_BACKEND", help="numpy, cupy, torch, jax, array-api-strict or auto"
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option("--device", envvar="NNXP_DEVICE", help="cpu, cuda, cuda:1, mps; else its own"),
]
TF32Option = Annotated[
    bool,
    typer.Option(
        "--tf32/--no-tf32", help="float32 products on CUDA in TF32: faster, 10 bits of 23"
    ),
]
DataDirOption = Annotated[
    str | None, typer.Option("--data-dir", help="where to look for data sets' folders first")
]
TestShareOption = Annotated[
    float | None,
    _float_option(
        "share of a file's rows to test on, which are not trained on; train: 0.2 if not given, "
        "evaluate: all that were not trained on"
    ),
]
SaveOption = Annotated[
    str, typer.Option(help="where the model goes; it replaces one of the same network and data")
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="let it replace any other model too")
]
TargetOption = Annotated[str | None, typer.Option(help="the csv's target column; else the last")]

_DEFAULT_RATE = {"sgd": 0.1, "adam": 0.001}
_DEFAULT_OUTPUT = {"classify": "softmax", "multilabel": "sigmoid", "regress": "identity"}


def main() -> None:
    """Run the command line; every foreseen error is one line on stderr and an exit status.

    2 for bad input, 1 for training that diverged or a disk that refused, 130 for Ctrl-C, 143 for
    SIGTERM.
    """
    streams.prepare()
    with signals.handled(signals.interrupt):
        status = _status()
        if not status and (problem := streams.problem()):
            status = _fail(f"standard output: {problem.strerror}", 1)
    sys.exit(status)


def _status() -> int:
    """Run the command line; its exit status."""
    usage_error: Any = typer.BadParameter.__base__  # click's, wherever typer keeps it
    try:
        return app(standalone_mode=False) or 0
    except usage_error as error:
        text = error.format_message().strip()
        return _fail(" ".join(text.split()) + " (nnxp --help)", 2) if text else 2
    except (DivergenceError, GradientError) as error:
        return _fail(str(error), 1)
    except NnxpError as error:
        return _fail(str(error), 2)
    except MemoryError as error:
        return _fail(f"out of memory ({first_line(error)}): choose smaller sizes or batches", 2)
    except OSError as error:
        return _fail(f"{error.filename or 'disk'}: {error.strerror or error}", 1)
    except signals.Interrupted as error:
        return _fail(str(error), 128 + error.number)


def _fail(message: str, status: int) -> int:
    if sys.stderr is not None:
        with suppress(OSError):  # nobody reads it
            print(f"nnxp: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return status


def _version(wanted: bool) -> None:
    if wanted:
        print(f"nnxp {nnxp.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="show the version")
    ] = False,
) -> None:
    pass


@app.command()
def train(
    data: Data = "digits",
    hidden: Annotated[str, typer.Option(help="sizes of the hidden layers; '' for none")] = "128,64",
    activation: Annotated[
        str, typer.Option(help="of the hidden layers, one or one each: " + ", ".join(ACTIVATIONS))
    ] = "relu",
    output_activation: Annotated[
        str, typer.Option(help="auto: softmax for classes, sigmoid for labels, identity for values")
    ] = "auto",
    loss: Annotated[
        str, typer.Option(help="auto, quadratic, binary- or categorical-cross-entropy")
    ] = "auto",
    optimizer: Annotated[str, typer.Option(help="sgd or adam")] = "sgd",
    learning_rate: Annotated[
        float | None, _float_option("0.1 for sgd and 0.001 for adam if not given")
    ] = None,
    momentum: Annotated[float, _float_option("of sgd, 0 to 1")] = 0.0,
    nesterov: Annotated[bool, typer.Option("--nesterov", help="look ahead by momentum")] = False,
    weight_decay: Annotated[float, _float_option("L2 penalty on the weights")] = 0.0,
    schedule: Annotated[
        str,
        typer.Option(
            help="of the rate: constant, step, exponential, cosine or plateau, with "
            "options: cosine,warmup=5"
        ),
    ] = "constant",
    l1: Annotated[float, _float_option("L1 penalty in the loss")] = 0.0,
    l2: Annotated[float, _float_option("L2 penalty in the loss")] = 0.0,
    max_norm: Annotated[
        float | None, _float_option("bound on the norm of the weights into a unit")
    ] = None,
    dropout: Annotated[
        str, typer.Option(help="share of the hidden units, one or one per hidden layer")
    ] = "0",
    early_stopping: Annotated[
        int | None, _int_option("stop after so many epochs without a better --monitor")
    ] = None,
    monitor: Annotated[
        str, typer.Option(help="loss, validation_loss or validation_metric")
    ] = "validation_loss",
    initializer: Annotated[
        str, typer.Option(help="auto, normal, xavier, he or orthogonal")
    ] = "auto",
    epochs: Annotated[int, _int_option("passes over the data")] = 40,
    batch_size: Annotated[str, typer.Option(help="samples a step; 'all' for one batch")] = "32",
    validation: Annotated[float, _float_option("share kept to validate on")] = 0.1,
    seed: Annotated[int, _int_option("of parameters and batches")] = 0,
    dtype: Annotated[str, typer.Option(help="float32 or float64")] = "float32",
    backend: BackendOption = "auto",
    device: DeviceOption = None,
    executor: Annotated[
        str,
        typer.Option(
            help="how steps run: eager, replay (numpy), graph (cupy, torch on CUDA), "
            "compiled (torch), jit (jax); auto: the backend's own choice"
        ),
    ] = "auto",
    tf32: TF32Option = False,
    data_dir: DataDirOption = None,
    target: TargetOption = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="classify, regress or multilabel. Guessed if not given: text is classes; whole "
            "numbers are if there are 2 distinct ones, or up to 20 in 2 rows or more each, on "
            "average; other numbers are regressed on"
        ),
    ] = None,
    test_share: TestShareOption = None,
    preprocess: Annotated[
        str,
        typer.Option(
            help="of the features: standardize, pca or zca (whitening), none, or auto: pixels to "
            "0..1, files standardised"
        ),
    ] = "auto",
    diagnose: Annotated[
        bool,
        typer.Option("--diagnose", help="measure dead and saturated units, gradients and updates"),
    ] = False,
    stream: Annotated[
        bool | None,
        typer.Option(
            "--stream/--no-stream",
            help="keep the data on the host and send it by chunks; if neither is said, where it "
            "does not fit on the device",
        ),
    ] = None,
    scale_targets: Annotated[
        bool | None,
        typer.Option(
            "--scale-targets/--no-scale-targets",
            help="train on real-valued targets of mean 0 and deviation 1; if neither is said, "
            "where the output is identity and the loss quadratic",
        ),
    ] = None,
    save: SaveOption = "model.safetensors",
    overwrite: OverwriteOption = False,
    report: Annotated[str | None, typer.Option(help="write options and history as JSON")] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="say how steps run and where the data is")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print nothing but errors")] = False,
) -> None:
    """Train a network: nnxp train mnist --hidden 128 --backend torch."""
    options = {
        name: value
        for name, value in locals().items()
        if name not in ("report", "quiet", "verbose", "data")
    }
    _check_outputs({"--save": save, "--report": report}, [data])
    _check_model_path(save)
    if epochs < 0:
        raise InputError(f"--epochs must be 0 or more, not {epochs}")
    if not 0 <= validation < 1:
        raise InputError(f"--validation must be a share from 0 to 1, not {validation:g}")
    size = _batch_size(batch_size)
    layers, activations = _hidden(hidden, activation)
    rate = _DEFAULT_RATE.get(optimizer.lower(), 0.1) if learning_rate is None else learning_rate
    rule = optimizers.get(
        optimizer.lower(), **_hyperparameters(rate, momentum, nesterov, weight_decay)
    )
    regularization = Regularization(l1, l2, max_norm, _shares(dropout))
    regularization.shares(len(layers))
    stopping = [] if early_stopping is None else [EarlyStopping(monitor, early_stopping)]
    rates = schedules.get(schedule)
    opened = backends.get(backend, device, executor, tf32)

    dataset = datasets.load(
        data, data_dir, target=target, task=task, preprocess=preprocess, test_share=test_share
    )
    output = _DEFAULT_OUTPUT[dataset.task] if output_activation == "auto" else output_activation
    network = MLP(
        (dataset.x.shape[1], *layers, dataset.outputs),
        activations,
        output,
        initializer=initializer,
        backend=opened,
        dtype=dtype,
        seed=seed,
    )
    network.metadata = dataset.metadata()
    replaces = _replaces(save, network, overwrite)
    objective = objectives.get(loss, network.output)

    console = new_console(quiet=True) if quiet else _console
    held = len(batches.split(batches.strata(dataset.y), validation, seed)[1])
    console.print(_headline(network, objective.loss))
    console.print(
        f"on {opened.describe()}, {dtype}"
        + (" (auto)" if backend == "auto" else "")
        + f"; {len(dataset.x) - held:,} samples to train on, {held:,} to validate, "
        f"{len(dataset.x_test):,} to test"
    )
    for line in _about(dataset):
        console.print(line)
    for line in _missing_rows(dataset, held, validation):
        console.print(line)
    console.print()
    if verbose:
        console.print(f"steps: {opened.executor}")
    stop = _Stop()

    def progress(samples: int) -> None:
        show.advance(samples)
        stop.check()

    with signals.handled(stop.receive):
        try:
            with EpochTable(console, epochs, log=verbose) as show:
                show.expect(len(dataset.x) - held)
                history = nnxp.train(
                    network,
                    dataset.x,
                    dataset.y,
                    loss=loss,
                    optimizer=rule,
                    epochs=epochs,
                    batch_size=size,
                    seed=seed,
                    validation=validation,
                    schedule=rates,
                    regularization=regularization,
                    callbacks=[show.row, *stopping, stop],
                    diagnose=diagnose,
                    progress=progress,
                    stream=stream,
                    scale_targets="auto" if scale_targets is None else scale_targets,
                )
        except signals.Interrupted as interrupted:
            history = stop.trained(interrupted)
            for each in stopping:
                each.finish(network, history)
        if diagnose and history.epochs:
            console.print(_layers(history.epochs[-1]))
        for each in stopping:
            console.print(f"\nthe parameters are those of epoch {each.best_epoch}, the best")
        test = {}
        if len(dataset.x_test) and stop.number is None:
            test = network.evaluate(dataset.x_test, dataset.y_test)
        if stop.number is not None and replaces and not overwrite:
            # What was not trained to its end must not cost what was.
            save, replaces = _interrupted_path(save), False
        network.save(save)
        options |= {
            "hidden": list(network.sizes[1:-1]),
            "activation": list(network.hidden),
            "output_activation": network.output,
            "loss": objective.loss,
            "learning_rate": rate,
            "batch_size": size,
            "task": dataset.task,
            "task_guessed": dataset.task_guessed,
            "test_share": dataset.split.share if dataset.split else None,
        }
        if report is not None:
            files.write(report, _report(network, data, options, history, test).encode())
    if test:
        console.print(f"\ntest {_figures(test)}")
    console.print(_saved(save, replaces))
    if stop.number is not None:
        word, done = signals.NAMES[signal.Signals(stop.number)], len(history.epochs)
        message = f"{word} after epoch {done} of {epochs}: saved {save}"
        raise signals.Interrupted(stop.number, message)
    verb = "evaluate" if test else "predict"
    where = ["--data-dir", data_dir] if data_dir else []
    console.print(f"next: {shlex.join(['nnxp', verb, save, data, *where])}")


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="a file that 'nnxp train' saved")],
    data: Data = "digits",
    backend: BackendOption = "auto",
    device: DeviceOption = None,
    tf32: TF32Option = False,
    data_dir: DataDirOption = None,
    target: TargetOption = None,
    test_share: TestShareOption = None,
) -> None:
    """Evaluate a model on rows that it was not trained on.

    These are a set's test part, the rows that training kept apart from a file, found again by the
    file's content, or all rows of any other file. What training validated on is not among them:
    early stopping and schedules may have chosen by it.
    """
    network = MLP.load(model, backends.get(backend, device, tf32=tf32))
    known = datasets.described(network.metadata, network.sizes)
    dataset = datasets.load(
        data, data_dir, target=target, test_share=test_share, like=known, test_only=True
    )
    if not len(dataset.x_test):
        why = (
            "every row was trained on"
            if test_share is None
            else f"a share of {test_share:g} is less than a row that was not trained on"
        )
        raise DataError(f"{data}: nothing to test on: {why}")
    _check_width(network, dataset.x_test, model, data)
    figures = network.evaluate(dataset.x_test, dataset.y_test)
    if header := _header(dataset):
        _console.print(header)
    where = network.backend.describe()
    _console.print(f"{data}: {_figures(figures)} ({_tested_on(dataset)}, {where})")


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="a file that 'nnxp train' saved")],
    data: Annotated[str, typer.Argument(help="as for train; a file needs no targets")],
    output: Annotated[str | None, typer.Option(help="a csv file; else standard output")] = None,
    backend: BackendOption = "auto",
    device: DeviceOption = None,
    tf32: TF32Option = False,
    data_dir: DataDirOption = None,
) -> None:
    """Write a csv: each sample's prediction, then every output of the network."""
    if output is None and sys.stdout is None:
        raise InputError("standard output is closed: name a file with --output")
    _check_outputs({"--output": output}, [model, data])
    network = MLP.load(model, backends.get(backend, device, tf32=tf32))
    known = datasets.described(network.metadata, network.sizes)
    x = datasets.load_features(data, data_dir, like=known, count=network.sizes[0])
    _check_width(network, x, model, data)
    text = _predictions(known, network.predict(x))
    if output is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        files.write(output, text.encode())
        _console.print(f"wrote {len(x):,} predictions to {output}")


@app.command("import-weights")
def import_weights(
    file: Annotated[str, typer.Argument(help="an npz with W1, b1, W2, b2, ..., (fan_in, fan_out)")],
    hidden_activation: Annotated[str, typer.Option(help="one, or one per hidden layer")] = "relu",
    output_activation: Annotated[str, typer.Option(help="of the last layer")] = "softmax",
    dtype: Annotated[str, typer.Option(help="float32 or float64")] = "float32",
    save: SaveOption = "model.safetensors",
    overwrite: OverwriteOption = False,
) -> None:
    """Make a model of weights that were trained elsewhere."""
    _check_outputs({"--save": save}, [file])
    _check_model_path(save)
    if dtype not in ("float32", "float64"):
        raise InputError(f"--dtype must be float32 or float64, not {dtype!r}")
    parameters = _imported(Path(file), dtype)
    sizes = [parameters[0][0].shape[0], *(weight.shape[1] for weight, _ in parameters)]
    network = MLP(
        sizes,
        _names(hidden_activation),
        output_activation,
        backend="numpy",
        device="cpu",
        dtype=dtype,
        parameters=parameters,
    )
    replaces = _replaces(save, network, overwrite)
    network.save(save)
    _console.print(f"{_saved(save, replaces)}: {_headline(network, network.loss)}")


@app.command()
def gradcheck(
    model: Annotated[
        str | None, typer.Argument(help="a file that 'nnxp train' saved; else a new network")
    ] = None,
    inputs: Annotated[int, _int_option("of the new network")] = 8,
    hidden: Annotated[str, typer.Option(help="sizes of its hidden layers")] = "6,5",
    outputs: Annotated[int, _int_option("of the new network")] = 3,
    activation: Annotated[str, typer.Option(help="of its hidden layers")] = "tanh",
    output_activation: Annotated[str, typer.Option(help="of its output")] = "softmax",
    loss: Annotated[
        str, typer.Option(help="auto, quadratic, binary- or categorical-cross-entropy")
    ] = "auto",
    samples: Annotated[int, _int_option("drawn to check it on")] = 16,
    seed: Annotated[int, _int_option("of network, samples and targets")] = 0,
    backend: BackendOption = "auto",
    device: DeviceOption = None,
) -> None:
    """Compare backpropagation with central differences; exit with 1 where they disagree."""
    opened = backends.get(backend, device)
    if model is not None:
        network = MLP.load(model, opened)
    else:
        layers, activations = _hidden(hidden, activation)
        network = MLP(
            (inputs, *layers, outputs), activations, output_activation, backend=opened, seed=seed
        )
    if not 1 <= samples <= 1_000_000:
        raise InputError(f"--samples must be from 1 to 1,000,000, not {samples}")
    rng = generator(seed, Purpose.SAMPLES)
    x = rng.standard_normal((samples, network.sizes[0]))
    # Rows that sum to one are targets that every loss takes.
    targets = rng.dirichlet(np.ones(network.sizes[-1]), samples)
    checks = check_gradients(network, x, targets, loss, seed=seed)
    _console.print(f"{_headline(network, objectives.get(loss, network.output).loss)}, float64")
    _console.print(f"on {opened.describe()}; {samples} random samples\n")
    _console.print(
        f"{'array':<20} {'shape':<14} {'compared':>8} {'difference':>10} {'relative':>9}"
    )
    for check in checks:
        verdict = "" if check.error <= TOLERANCE else "  too small to tell"
        _console.print(
            f"{check.name:<20} {check.shape!s:<14} {check.checked:>8} {check.difference:>10.1e} "
            f"{check.error:>9.1e}{verdict if check.passed else '  WRONG'}"
        )
    wrong = [check.name for check in checks if not check.passed]
    if wrong:
        raise GradientError(
            f"backpropagation disagrees with central differences on {', '.join(wrong)}: "
            "the mistake is in a backward kernel above the last of them"
        )
    small = any(check.error > TOLERANCE for check in checks)
    _console.print(
        f"\nall within {TOLERANCE:g}" + (", or a gradient as small as rounding errors" * small)
    )


plot_app = typer.Typer(
    help="Draw pictures, as PNG, SVG or PDF by the file's suffix.", no_args_is_help=True
)
app.add_typer(plot_app, name="plot")


@plot_app.command("activations")
def plot_activations(
    save: Annotated[str, typer.Option(help="the picture")] = "activations.png",
    backend: BackendOption = "auto",
    device: DeviceOption = None,
) -> None:
    """Every activation with its derivative, on [-5, 5], as the kernels compute them."""
    _check_picture(save, [])
    _picture(plots.activations(backend, device), save)


@plot_app.command("history")
def plot_history(
    report: Annotated[str, typer.Argument(help="what 'nnxp train --report' wrote")],
    save: Annotated[str, typer.Option(help="the picture")] = "history.png",
) -> None:
    """Loss and metric after each epoch."""
    _check_picture(save, [report])
    try:
        content = json.loads(Path(report).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{report}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{report}: not JSON ({error}): 'nnxp train --report' makes one") from None
    try:
        figure = plots.history(content)
    except DataError as error:
        raise DataError(f"{report}: {error}") from None
    _picture(figure, save)


@plot_app.command("boundary")
def plot_boundary(
    model: Annotated[str, typer.Argument(help="a file that 'nnxp train' saved")],
    data: Data = "moons",
    save: Annotated[str, typer.Option(help="the picture")] = "boundary.png",
    backend: BackendOption = "auto",
    device: DeviceOption = None,
) -> None:
    """The classes that a network with two inputs assigns, and the data's points."""
    _check_picture(save, [model, data])
    _picture(plots.boundary(*_model_and_data(model, data, None, backend, device)), save)


@plot_app.command("digits")
def plot_digits(
    model: Annotated[str, typer.Argument(help="a file that 'nnxp train' saved")],
    data: Data = "digits",
    save: Annotated[str, typer.Option(help="the picture")] = "digits.png",
    count: Annotated[int, _int_option("images at most")] = 25,
    backend: BackendOption = "auto",
    device: DeviceOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Test images that were read wrongly, each with what was read."""
    _check_picture(save, [model, data])
    _picture(plots.digits(*_model_and_data(model, data, data_dir, backend, device), count), save)


@plot_app.command("weights")
def plot_weights(
    model: Annotated[str, typer.Argument(help="a file that 'nnxp train' saved")],
    save: Annotated[str, typer.Option(help="the picture")] = "weights.png",
    backend: BackendOption = "auto",
    device: DeviceOption = None,
) -> None:
    """The first layer's weights, each unit's as an image."""
    _check_picture(save, [model])
    _picture(plots.weights(MLP.load(model, backends.get(backend, device))), save)


app.command()(bench)


@app.command("backends")
def list_backends() -> None:
    """List every backend: version, devices, and what to install where it cannot be used."""
    for found in backends.availability():
        version = found.version or "-"
        state = f"usable: {', '.join(found.devices)}" if not found.problem else found.problem
        _console.print(f"{found.name:<18}{version:<14}{state}")


def _model_and_data(
    model: str, data: str, data_dir: str | None, backend: str, device: str | None
) -> tuple[MLP, datasets.Dataset]:
    network = MLP.load(model, backends.get(backend, device))
    known = datasets.described(network.metadata, network.sizes)
    dataset = datasets.load(data, data_dir, like=known)
    _check_width(network, dataset.x, model, data)
    return network, dataset


def _check_picture(save: str, inputs: list[str]) -> None:
    _check_outputs({"--save": save}, inputs)
    plots.check(save)


def _picture(figure: Any, save: str) -> None:
    plots.save(figure, save)
    _console.print(f"saved {save}")


class _Stop(signals.Deferred):
    """Ends a training on SIGINT or SIGTERM between chunks of steps; what is left is the network
    of the last epoch that was complete."""

    history: History | None = None

    def __call__(self, network: MLP, history: History) -> bool:
        """As a callback: remember the epoch, and end there if a signal came."""
        self.history = history
        return self.number is not None

    def trained(self, interrupted: signals.Interrupted) -> History:
        """The history so far; raise the signal again if no epoch is complete."""
        if self.history is None:
            message = f"{interrupted} before the first epoch was complete: nothing is saved"
            raise signals.Interrupted(interrupted.number, message)
        return self.history


def _check_outputs(outputs: dict[str, str | None], inputs: list[str]) -> None:
    """Each output can be written, and none is an input or another output."""
    taken = {os.path.realpath(path): path for path in inputs}
    for option, path in outputs.items():
        if path is None:
            continue
        files.check_writable(path, option)
        real = os.path.realpath(path)
        if real in taken and os.path.basename(real) not in datasets.NAMES:
            raise InputError(f"{option} {path}: would overwrite {taken[real]}; name another file")
        taken[real] = f"what {option} writes"


def _check_model_path(save: str) -> None:
    files.check_writable(save, "--save")
    if os.path.isfile(save) and os.path.getsize(save) and checkpoint.describe(save) is None:
        raise InputError(f"--save {save}: is not an nnxp model, and would be lost; name another")


def _replaces(save: str, network: MLP, overwrite: bool) -> bool:
    """Whether there is a model where this one goes.

    Raises:
        InputError: it is another network's or of other data, and `overwrite` is not said.
    """
    there = checkpoint.describe(save) if os.path.isfile(save) else None
    if there is None or overwrite:
        return there is not None
    metadata = there.get("metadata")
    data = [
        each.get("data") if isinstance(each, dict) else None
        for each in (metadata, network.metadata)
    ]
    differences = [
        f"{name} {shown(found)}, not {shown(ours)}"
        for name, found, ours in (
            ("sizes", there.get("sizes"), list(network.sizes)),
            ("hidden activations", there.get("hidden"), list(network.hidden)),
            ("output", there.get("output"), network.output),
            ("data", *data),
        )
        if found != ours
    ]
    if differences:
        raise InputError(
            f"--save {save}: a model with {'; '.join(differences)} is there, and would be lost: "
            "name another file with --save, or add --overwrite"
        )
    return True


def _saved(save: str, replaces: bool) -> str:
    return f"saved {save}" + (" in place of the model that was there" if replaces else "")


def _interrupted_path(save: str) -> str:
    """Where a training that was interrupted goes when an earlier model is at `save`."""
    path = Path(save)
    return str(path.with_name(f"{path.stem}.interrupted{path.suffix}"))


def _names(text: str) -> str | list[str]:
    """One activation's name, or one per hidden layer, as `MLP` takes them."""
    names = [name.strip() for name in text.split(",")]
    return names if len(names) > 1 else names[0]


def _hidden(sizes: str, activation: str) -> tuple[list[int], str | list[str]]:
    """Sizes and activations of the hidden layers."""
    layers = []
    for text in sizes.split(",") if sizes.strip() else []:
        size = _size(text.strip())
        if size is None:
            raise InputError(
                f"--hidden {shown(sizes)}: {shown(text.strip())} is no size; give whole numbers "
                "like 128,64"
            )
        layers.append(size)
    return layers, _names(activation)


def _hyperparameters(
    learning_rate: float, momentum: float, nesterov: bool, weight_decay: float
) -> dict[str, Any]:
    """What was asked for; what was left at zero need not exist in every optimizer."""
    asked = {"momentum": momentum, "nesterov": nesterov}
    return {
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        **{name: value for name, value in asked.items() if value},
    }


def _shares(text: str) -> float | tuple[float, ...]:
    """The share of each hidden layer's units to drop, or of all."""
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--dropout {text!r}: give a share like 0.5, or one per layer") from None
    return shares if len(shares) > 1 else shares[0]


def _batch_size(text: str) -> int | None:
    if text == "all":
        return None
    size = _size(text)
    if size is None:
        raise InputError(f"--batch-size {shown(text)}: give a whole number, 1 or more, or 'all'")
    return size


def _size(text: str) -> int | None:
    """A whole number that an int64 holds, 1 or more; None for anything else."""
    if not text.isdecimal() or len(text) > 19:
        return None
    size = int(text)
    return size if 1 <= size <= LARGEST else None


def _about(dataset: datasets.Dataset) -> Iterator[str]:
    """The task and, of a csv, its header: what may have been taken for something else."""
    task = dataset.describe_task()
    if dataset.task_guessed:
        task += f" (guessed; --task {'classify' if dataset.task == 'regress' else 'regress'})"
    yield task + (f"; target {_name(dataset.target)}" if dataset.target else "")
    if header := _header(dataset):
        yield header


def _header(dataset: datasets.Dataset) -> str:
    """A csv's first line, which was taken for its header; "" for other data."""
    if dataset.header is None:
        return ""
    names = [_name(name) for name in dataset.header[:8]]
    if len(dataset.header) > 8:
        names += ["...", f"{_name(dataset.header[-1])} ({len(dataset.header):,} columns)"]
    line = f"header, the first line: {', '.join(names)}"
    if any(datasets.tables.finite_number(name) is not None for name in dataset.header):
        line += "; it has numbers: if it is data, put a line of names above it"
    return line


def _name(text: str) -> str:
    """A name from a file, as it can be printed."""
    return text if text and text.isprintable() else repr(text)


def _missing_rows(dataset: datasets.Dataset, held: int, validation: float) -> Iterator[str]:
    """A line for each part that has fewer rows than its share."""
    samples, tested = len(dataset.x), len(dataset.x_test)
    parts = [("validate", held, validation, samples)]
    if dataset.split:
        parts.append(("test", tested, dataset.split.share, samples + tested))
    for verb, rows, share, of in parts:
        if rows < (asked := round(share * of)):
            yield (
                f"{rows:,} rows to {verb} on and not {asked:,}, a share of {share:g}: each class "
                "keeps a row to train on"
            )
        elif share and not rows:
            yield f"no rows to {verb} on: a share of {share:g} of {of:,} is less than one"


def _tested_on(dataset: datasets.Dataset) -> str:
    """How many rows were evaluated, and what training knew of them."""
    rows = f"{len(dataset.x_test):,}"
    if dataset.split is None:
        return f"{rows} samples"
    if dataset.trained_on:
        return f"{rows} samples, none of which was trained on"
    if dataset.trained_on is None:
        return f"{rows} samples; the model does not say what it was trained on"
    return f"{rows} samples; the content is not that which the model was trained on"


def _check_width(network: MLP, x: np.ndarray, model: str, data: str) -> None:
    if x.shape[1] != network.sizes[0]:
        raise InputError(
            f"{data} has {x.shape[1]} features a sample, {model} takes {network.sizes[0]}: "
            "it was trained on other data"
        )


def _headline(network: MLP, loss: str) -> str:
    sizes = "-".join(map(str, network.sizes))
    hidden = ", ".join(dict.fromkeys(network.hidden)) or "no hidden layer"
    return f"{sizes}, {hidden}, {network.output} with {loss.replace('_', ' ')}"


def _figures(figures: dict[str, float]) -> str:
    metrics = (name for name in figures if name != "loss")
    return ", ".join(f"{name} {format_figure(figures[name])}" for name in (*metrics, "loss"))


def _layers(epoch: Epoch) -> str:
    """What `--diagnose` found in an epoch, a line for each layer."""
    assert epoch.diagnosis is not None
    lines = [
        f"\nepoch {epoch.epoch}",
        f"{'layer':>5} {'activation':<11} {'dead':>5} {'saturated':>9} {'gradient':>9} "
        f"{'update':>9}",
    ]
    for i, layer in enumerate(epoch.diagnosis.layers, 1):
        dead, saturated = (
            "" if share is None else f"{share:.0%}" for share in (layer.dead, layer.saturated)
        )
        lines.append(
            f"{i:>5} {layer.activation:<11} {dead:>5} {saturated:>9} "
            f"{layer.gradient:>9.1e} {layer.update:>9.1e}"
        )
    ratio = epoch.diagnosis.gradient_ratio
    if ratio is not None:
        lines.append(f"gradient of the first layer over the last's: {ratio:.1e}")
    return "\n".join(lines)


def _report(
    network: MLP, data: str, options: dict[str, Any], history: History, test: dict[str, float]
) -> str:
    backend = network.backend
    versions = {
        "nnxp": nnxp.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        backend.name: backend.version,
    }
    return json.dumps(
        {
            "data": data,
            "backend": backend.name,
            "device": backend.device_name,
            "executor": backend.executor,
            "fallbacks": history.fallbacks,
            "versions": versions,
            "dtype": network.dtype,
            "sizes": network.sizes,
            "options": options,
            "history": history.to_list(),
            "test": test,
        },
        indent=2,
    )


def _predictions(known: dict[str, Any], outputs: np.ndarray) -> str:
    names = known.get("classes")
    count = outputs.shape[1]
    if names:
        predicted = [names[i] for i in np.argmax(outputs, axis=1)]
        header = ["prediction", *names]
        rows = [[label, *row] for label, row in zip(predicted, outputs.tolist(), strict=True)]
    elif known.get("task", "classify") == "classify" and count > 1:
        header = ["prediction", *map(str, range(count))]
        rows = [[int(np.argmax(row)), *row.tolist()] for row in outputs]
    else:
        header = ["prediction"] if count == 1 else [f"prediction_{i}" for i in range(count)]
        rows = outputs.tolist()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([[f"{v:.9g}" if isinstance(v, float) else v for v in row] for row in rows])
    return text.getvalue()


def _imported(path: Path, dtype: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """(weight, bias) per layer of an npz of W1, b1, W2, b2, ...; checked to fit each other."""
    arrays = datasets.tables.load_npz(path)
    layers = max((int(n[1:]) for n in arrays if n[:1] in "Wb" and n[1:].isdecimal()), default=0)
    if not layers:
        raise DataError(f"{path}: has no W1, b1, ...; it has {', '.join(arrays) or 'nothing'}")
    parameters: list[tuple[np.ndarray, np.ndarray]] = []
    for i in range(1, layers + 1):
        for name in (f"W{i}", f"b{i}"):
            if name not in arrays:
                raise DataError(f"{path}: has no {name}")
            if arrays[name].dtype.kind not in "fiu":
                raise DataError(f"{path}: {name} is {arrays[name].dtype}, not numbers")
            with np.errstate(over="ignore"):
                finite = np.isfinite(arrays[name].astype(dtype)).all()
            if not finite:
                raise DataError(f"{path}: {name} holds values that are not finite in {dtype}")
        weight, bias = arrays[f"W{i}"], arrays[f"b{i}"].reshape(-1)
        fan_in = parameters[-1][0].shape[1] if parameters else weight.shape[0] if weight.ndim else 0
        if weight.ndim != 2 or weight.shape != (fan_in, bias.size):
            raise DataError(
                f"{path}: W{i} is {weight.shape}; after the layer before it and with b{i} it must "
                f"be {(fan_in, bias.size)}, rows the inputs"
            )
        parameters.append((weight, bias))
    return parameters


if __name__ == "__main__":
    main()

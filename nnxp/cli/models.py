"""`nnxp evaluate`, `predict`, `describe`, `import-weights`, `gradcheck`: commands on a model."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from typing import Annotated

import numpy as np

from nnxp import backends, datasets, files, objectives, predictions, weights
from nnxp import gradcheck as check_gradients
from nnxp.cli import describe, inputs, options, outputs
from nnxp.cli.options import DATA, NETWORK, OUTPUT, TRAINING, either
from nnxp.cli.outputs import console
from nnxp.errors import DataError, GradientError, InputError
from nnxp.gradient_check import TOLERANCE, Check
from nnxp.kernels import ACTIVATIONS
from nnxp.names import ActivationName
from nnxp.network import MLP
from nnxp.optimizers import OPTIMIZERS
from nnxp.randomness import Purpose, generator


def evaluate(
    model: options.Model,
    data: options.Data = "digits",
    data_dir: options.DataDir = None,
    target: options.Target = None,
    targets: options.Targets = None,
    features: options.Features = None,
    delimiter: options.Delimiter = None,
    test_share: Annotated[
        float | None,
        options.number(
            DATA,
            "Share of the rows to test on. If not given: all that were not trained on.",
            metavar="SHARE",
        ),
    ] = None,
    metrics: options.Metrics = "auto",
    backend: options.Backend = "auto",
    device: options.Device = None,
    tf32: options.TF32 = False,
    threads: options.ThreadCount = None,
) -> None:
    """Evaluate a model on rows that it was not trained on.

    These are the test part of a data set, the rows of the training file that were kept for testing
    (the file is recognised by its content), or all rows of any other file. Validation rows are not
    used: early stopping and schedules may have chosen by them.
    """
    network = MLP.load(model, backends.get(backend, device, tf32=tf32, threads=threads))
    known = datasets.described(network.metadata, network.sizes)
    dataset = datasets.load(
        data, data_dir, target=target, test_share=test_share, like=known, test_only=True,
        delimiter=delimiter, targets_file=targets, features_name=features,
    )  # fmt: skip
    if not len(dataset.x_test):
        why = (
            "every row was trained on"
            if test_share is None
            else f"a share of {test_share:g} is less than a row that was not trained on"
        )
        raise DataError(f"{data}: nothing to test on: {why}")
    inputs.check_width(network, dataset.x_test, model, data)
    wanted = [name.strip() for name in metrics.split(",")]
    figures = describe.figures(
        network.evaluate(dataset.x_test, dataset.y_test, metrics=wanted)  # type: ignore[arg-type]
    )
    for line in (describe.header(dataset), *describe.table(dataset)):
        if line:
            console.print(line)
    where = network.backend.describe()
    console.print(f"{data}: {figures} ({describe.tested_on(dataset)}, {where})")


def predict(
    model: options.Model,
    data: Annotated[str, options.argument(f"{options.DATA_HELP[:-1]}; a file needs no targets.")],
    data_dir: options.DataDir = None,
    features: options.Features = None,
    delimiter: options.Delimiter = None,
    backend: options.Backend = "auto",
    device: options.Device = None,
    tf32: options.TF32 = False,
    threads: options.ThreadCount = None,
    output: Annotated[
        str | None,
        options.text(OUTPUT, "FILE", "File for the csv. If not given: standard output."),
    ] = None,
) -> None:
    """Write a csv: each sample's prediction, then every output of the network."""
    if output is None and sys.stdout is None:
        raise InputError("standard output is closed: name a file with --output")
    written = outputs.check({"--output": output}, [model, data])
    network = MLP.load(model, backends.get(backend, device, tf32=tf32, threads=threads))
    known = datasets.described(network.metadata, network.sizes)
    count = network.sizes[0]
    x = datasets.load_features(
        data, data_dir, like=known, count=count, delimiter=delimiter, features_name=features
    )
    inputs.check_width(network, x, model, data)
    found = network.predict(x)
    parts = partial(
        predictions.csv_parts, found, known.get("classes"), task=known.get("task", "classify")
    )
    if output is None:
        _print_exactly(parts())
    else:
        if path := written.write(
            "--output", lambda path: files.write(path, (part.encode() for part in parts()))
        ):
            console.print(f"wrote {len(x):,} predictions to {path}")
        written.end()


def _print_exactly(parts: Iterator[str]) -> None:
    """Write to standard output the header of a csv, and then its lines, whose words it has.

    Raises:
        InputError: its encoding does not have a character of the text.
    """
    encoding = sys.stdout.encoding or "utf-8"
    header = next(parts)
    try:
        header.encode(encoding)
    except UnicodeEncodeError as error:
        missing = header[error.start]
        raise InputError(
            f"standard output takes {encoding}, which has no {missing!r}: name a file with "
            "--output, or set PYTHONIOENCODING=utf-8"
        ) from None
    sys.stdout.write(header)
    sys.stdout.writelines(parts)
    sys.stdout.flush()


def describe_model(
    model: options.Model,
    batch_size: Annotated[
        int, options.whole(TRAINING, "Samples in a batch, for the memory of a training.")
    ] = 32,
    optimizer: Annotated[
        str,
        options.text(
            TRAINING,
            "NAME",
            f"Optimizer, for the memory of its state: {either(OPTIMIZERS)}.",
            **options.names(OPTIMIZERS),
        ),
    ] = "sgd",
) -> None:
    """Describe a model: what it was trained on, its layers, its parameters and its memory."""
    network = MLP.load(model, "numpy", "cpu")
    for line in describe.origin(network):
        console.print(line)
    summary = network.summary(batch_size, optimizer)  # type: ignore[arg-type]
    console.print(f"\n{summary!r}")


def import_weights(
    file: Annotated[
        str,
        options.argument(
            "File of weights: npz of W1, b1, W2, b2 and so on; safetensors of a PyTorch "
            "state_dict; weights or model of Keras, .h5 or .keras; or ONNX."
        ),
    ],
    hidden_activation: Annotated[
        str | None,
        options.text(
            NETWORK,
            "NAMES",
            "Activation of the hidden layers, one for all or one for each. If not given: the "
            "file's own, else relu.",
            **options.names(ACTIVATIONS),
        ),
    ] = None,
    output_activation: Annotated[
        ActivationName | None,
        options.text(
            NETWORK,
            "NAME",
            "Activation of the output layer. If not given: the file's own, else softmax.",
            **options.names(ACTIVATIONS),
        ),
    ] = None,
    layout: Annotated[
        str | None,
        options.text(
            NETWORK,
            "LAYOUT",
            f"How matrices lie in the file: {options.either(weights.LAYOUTS)}. If not given: as "
            "the format or the shapes say; asked where neither does.",
        ),
    ] = None,
    dtype: options.DType = "float32",
    save: options.Save = "model.safetensors",
    overwrite: options.Overwrite = False,
) -> None:
    """Make a model of weights that were trained elsewhere."""
    written = outputs.check({"--save": save}, [file])
    outputs.check_model(save)
    try:
        found = weights.read(file, dtype, layout)
    except weights.AmbiguousLayoutError as error:
        found = weights.read(file, dtype, _asked_layout(error))
    network = MLP.from_weights(
        found,
        None if hidden_activation is None else options.activations(hidden_activation),
        output_activation,
        backend="numpy",
        device="cpu",
        dtype=dtype,
    )
    replaced = outputs.replaces(save, network, overwrite)
    if path := written.write("--save", network.save, replace=overwrite):
        told = outputs.saved(path, replaced and path == save)
        console.print(f"{told}: {describe.network(network, network.loss)}")
    written.end()
    console.print(found.layout)


def _asked_layout(error: weights.AmbiguousLayoutError) -> str:
    """Ask for the layout on a terminal; elsewhere raise the error that asks for the option."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise error
    console.print(str(error))
    while True:
        try:
            answer = input(f"layout, {options.either(weights.LAYOUTS)}: ").strip()
        except EOFError:
            raise error from None
        if answer in weights.LAYOUTS:
            return answer


def gradcheck(
    model: Annotated[
        str | None,
        options.argument("Model file that 'nnxp train' saved. If not given: a new network."),
    ] = None,
    inputs: Annotated[int, options.whole(NETWORK, "Inputs of the new network.")] = 8,
    hidden: Annotated[
        str, options.text(NETWORK, "SIZES", "Sizes of its hidden layers; '' for none.")
    ] = "6,5",
    outputs: Annotated[int, options.whole(NETWORK, "Outputs of the new network.")] = 3,
    activation: options.Activation = "tanh",
    output_activation: options.OutputActivation = "softmax",
    loss: options.Loss = "auto",
    samples: Annotated[int, options.whole(TRAINING, "Number of random samples.")] = 16,
    seed: Annotated[
        int, options.whole(TRAINING, "Seed of the network, the samples and the targets.")
    ] = 0,
    backend: options.Backend = "auto",
    device: options.Device = None,
) -> None:
    """Compare backpropagation with central differences; exit with status 1 if they disagree."""
    opened = backends.get(backend, device)
    if model is not None:
        network = MLP.load(model, opened)
    else:
        network = MLP(
            (inputs, *options.layers(hidden), outputs),
            options.activations(activation),
            output_activation,
            backend=opened,
            seed=seed,
        )
    if not 1 <= samples <= 1_000_000:
        raise InputError(f"--samples must be from 1 to 1,000,000, not {samples}")
    rng = generator(seed, Purpose.SAMPLES)
    x = rng.standard_normal((samples, network.sizes[0]))
    # Every loss takes targets whose rows sum to one.
    targets = rng.dirichlet(np.ones(network.sizes[-1]), samples)
    checks = check_gradients(network, x, targets, loss, seed=seed)
    described = describe.network(network, objectives.get(loss, network.output).loss)
    console.print(f"{described}, float64")
    console.print(f"on {opened.describe()}; {samples} random samples\n")
    for line in _comparison(checks):
        console.print(line)
    wrong = [check.name for check in checks if not check.passed]
    if wrong:
        raise GradientError(
            f"backpropagation disagrees with central differences on {', '.join(wrong)}: "
            "the mistake is in a backward kernel above the last of them"
        )
    small = any(check.error > TOLERANCE for check in checks)
    console.print(
        f"\nall within {TOLERANCE:g}" + (", or a gradient as small as rounding errors" * small)
    )


def _comparison(checks: list[Check]) -> list[str]:
    """Make a table: a heading and a line for each parameter array."""
    lines = [f"{'array':<20} {'shape':<14} {'compared':>8} {'difference':>10} {'relative':>9}"]
    for check in checks:
        verdict = "" if check.error <= TOLERANCE else "  too small to tell"
        lines.append(
            f"{check.name:<20} {check.shape!s:<14} {check.checked:>8} {check.difference:>10.1e} "
            f"{check.error:>9.1e}{verdict if check.passed else '  WRONG'}"
        )
    return lines

"""`nnxp plot`: pictures of activations, trainings and models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nnxp import augmentation, backends, datasets, files, plots
from nnxp.cli import inputs, options, outputs
from nnxp.cli.options import DATA, OUTPUT
from nnxp.errors import DataError
from nnxp.network import MLP

app = typer.Typer(
    help="Draw pictures as PNG, SVG or PDF, chosen by the file's suffix.",
    no_args_is_help=True,
    cls=options.Group,
)


@app.command(cls=options.Command)
def activations(
    backend: options.Backend = "auto",
    device: options.Device = None,
    save: options.Picture = "activations.png",
) -> None:
    """Draw every activation with its derivative, on [-5, 5], as the kernels compute them."""
    written = _check(save, [])
    _save(plots.activations(backend, device), written)


@app.command(cls=options.Command)
def history(
    report: Annotated[
        str,
        options.argument("Report that 'nnxp train --report' wrote."),
    ],
    save: options.Picture = "history.png",
) -> None:
    """Draw loss and metric after each epoch."""
    written = _check(save, [report])
    content = files.read_json(report, "'nnxp train --report'")
    try:
        figure = plots.history(content)
    except DataError as error:
        raise DataError(f"{report}: {error}") from None
    _save(figure, written)


@app.command(cls=options.Command)
def boundary(
    model: options.Model,
    data: options.Data = "moons",
    backend: options.Backend = "auto",
    device: options.Device = None,
    save: options.Picture = "boundary.png",
) -> None:
    """Draw the classes that a network assigns in the plane of its two inputs, and the data."""
    written = _check(save, [model, data])
    _save(plots.boundary(*inputs.model_and_data(model, data, None, backend, device)), written)


@app.command(cls=options.Command)
def confusion(
    model: options.Model,
    data: options.Data = "digits",
    data_dir: options.DataDir = None,
    backend: options.Backend = "auto",
    device: options.Device = None,
    save: options.Picture = "confusion.png",
) -> None:
    """Draw how many test samples of each class the network assigns to each class."""
    written = _check(save, [model, data])
    network, dataset = inputs.model_and_data(model, data, data_dir, backend, device)
    if not len(dataset.x_test):
        raise DataError(f"{data}: has no test samples that the model was not trained on")
    name = f"{Path(data).name}, {'-'.join(map(str, network.sizes))}"
    figure = plots.confusion_matrix(
        network, dataset.x_test, dataset.y_test, dataset.classes, name=name
    )
    _save(figure, written)


@app.command(cls=options.Command)
def digits(
    model: options.Model,
    data: options.Data = "digits",
    data_dir: options.DataDir = None,
    backend: options.Backend = "auto",
    device: options.Device = None,
    save: options.Picture = "digits.png",
    count: Annotated[int, options.whole(OUTPUT, "Largest number of images.")] = 25,
) -> None:
    """Draw test images that the network misclassifies, each with the predicted class."""
    written = _check(save, [model, data])
    network, dataset = inputs.model_and_data(model, data, data_dir, backend, device)
    _save(plots.digits(network, dataset, count), written)


@app.command(cls=options.Command)
def deformations(
    augment: Annotated[
        list[str], options.text(DATA, "DEFORMATION", options.AUGMENT_HELP, "--augment")
    ],
    data: options.Data = "digits",
    data_dir: options.DataDir = None,
    seed: Annotated[int, options.whole(DATA, "Seed of the deformations.")] = 0,
    save: options.Picture = "deformations.png",
) -> None:
    """Draw training images and what 'nnxp train --augment' makes of them."""
    written = _check(save, [data])
    chosen = augmentation.get(augment)
    _save(plots.deformations(datasets.load(data, data_dir), chosen, seed=seed), written)


@app.command(cls=options.Command)
def weights(
    model: options.Model,
    backend: options.Backend = "auto",
    device: options.Device = None,
    save: options.Picture = "weights.png",
) -> None:
    """Draw the weights of each unit of the first layer as an image."""
    written = _check(save, [model])
    _save(plots.weights(MLP.load(model, backends.get(backend, device))), written)


def _check(save: str, read: list[str]) -> outputs.Outputs:
    written = outputs.check({"--save": save}, read)
    plots.check(save)
    return written


def _save(figure: Any, written: outputs.Outputs) -> None:
    if path := written.write("--save", lambda path: plots.save(figure, path)):
        outputs.console.print(f"saved {path}")
    written.end()

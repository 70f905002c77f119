"""Pictures: activations, training, learning rates, decision boundaries, confusion matrices, misread
and deformed images, weights.

Each function returns a matplotlib Figure, seven inches wide; `save` writes it. matplotlib is an
extra, which only these functions import. They show nothing on a screen and do not change
matplotlib's own settings.
"""

from __future__ import annotations

import io
import math
import os
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from nnxp import augmentation, backends, files, objectives, options
from nnxp.arrays import to_numpy
from nnxp.augmentation import Deformation
from nnxp.data import checks
from nnxp.datasets import Dataset, described
from nnxp.errors import DataError, InputError, printable, shown
from nnxp.history import History
from nnxp.kernels import ACTIVATIONS, saved
from nnxp.learning_rate_finder import LearningRateCurve
from nnxp.network import MLP

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

WIDTH = 7.0
"""The width of every figure in inches, the text width of a page."""
LARGEST_GRID = 100
"""The most images in one figure; more would be too small on a page."""
MOST_SHARES, MOST_COUNTS = 12, 25
"""The most classes with shares, and with counts, in the cells of a confusion matrix."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""The palette of Okabe and Ito, for the colour-blind; line styles and markers differ too."""
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
_FIRST: dict[str, Any] = {"color": COLOURS[0]}
_SECOND: dict[str, Any] = {"color": COLOURS[1], "linestyle": (0, (4, 1.5))}

_FORMATS: dict[str, tuple[bytes, dict[str, Any]]] = {
    ".png": (b"\x89PNG", {"Software": None}),
    ".svg": (b"<?xml", {"Date": None}),
    ".pdf": (b"%PDF", {"CreationDate": None}),
}
"""By suffix: the first bytes of a file; the metadata to omit, so that equal figures give equal
files."""

_LOSSES = {
    "quadratic": ("Quadratic loss", "half squared error"),
    "mae": ("Mean absolute error", "absolute error"),
    "huber": ("Huber loss", "half squared error, absolute beyond 1"),
    "poisson": ("Poisson loss", "nats"),
    "binary_cross_entropy": ("Binary cross-entropy", "nats"),
    "categorical_cross_entropy": ("Categorical cross-entropy", "nats"),
}
"""By name: the loss in a title, and its unit."""

_PERCENT = "% of samples"
_METRICS = {
    "accuracy": ("accuracy", _PERCENT),
    "balanced_accuracy": ("balanced accuracy", "1 is perfect"),
    "f1": ("F1", "1 is perfect"),
    "roc_auc": ("ROC AUC", "1 is perfect"),
    "r2": ("R²", "1 is perfect"),
    "rmse": ("RMSE", "unit of the targets"),
    "mae": ("MAE", "unit of the targets"),
}
"""By name: the metric in a title, and its meaning."""

_STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "figure.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "text.parse_math": False,  # a class may be called "$5"
    "pdf.fonttype": 42,
    "svg.hashsalt": "nnxp",
}


_NETWORK = options.instance(MLP, "an nnxp.MLP")
_DATASET = options.instance(Dataset, "a nnxp.datasets.Dataset")


@contextmanager
def styled() -> Iterator[None]:
    """Import matplotlib, and apply our settings inside the context, not the user's."""
    try:
        import matplotlib.style
    except ImportError:
        raise InputError('plots need matplotlib: pip install "nnxp[plot]"') from None
    with matplotlib.style.context(_STYLE, after_reset=True):
        yield


@styled()
def activations(backend: str | backends.Backend | None = None, device: str | None = None) -> Figure:
    """Draw every activation and its derivative on [-5, 5], as the kernels compute them.

    For softmax this is the first output for the logits (z, 0), which is the sigmoid of z.

    Args:
        backend, device: where the kernels run; see `nnxp.backends.get`.

    Example:
        >>> from nnxp import plots
        >>> figure = plots.activations()
        >>> figure.axes[0].get_title()
        'step'
    """
    opened = backends.get(backend, device)
    columns = 3
    rows = math.ceil((len(ACTIVATIONS) + 1) / columns)
    figure = new_figure(2.2 * rows)
    panels = figure.subplots(rows, columns).flat
    for name, panel in zip(ACTIVATIONS, panels, strict=False):
        z, y, slope = _activation_curve(opened, name)
        panel.plot(*_with_gaps(z, y), label="activation y", clip_on=False, **_FIRST)
        panel.plot(*_with_gaps(z, slope), label="derivative dy/dz", clip_on=False, **_SECOND)
        panel.set_title(f"{name} of (z, 0)" if name == "softmax" else name, pad=16)
        _center_axes(panel)
    for panel in islice(figure.axes, len(ACTIVATIONS), None):
        panel.set_axis_off()
    figure.axes[len(ACTIVATIONS)].legend(
        *figure.axes[0].get_legend_handles_labels(), loc="center", fontsize=10
    )
    put_title(figure, f"Activations and their derivatives, computed by {opened.describe()}")
    return figure


@styled()
def history(training: History | dict[str, Any]) -> Figure:
    """Draw the loss and the validation metric of each epoch, and mark the best epoch.

    The best epoch is the one whose parameters `EarlyStopping` gave back; without it, that of the
    smallest validation loss. Without validation data, none is marked.

    Args:
        training: the history from `nnxp.train`, or the parsed JSON from `nnxp train --report`.

    Raises:
        DataError: it has no epochs, or is something else; the message names the place in it.

    Example:
        >>> import nnxp
        >>> data = nnxp.datasets.load("moons")
        >>> network = nnxp.MLP([2, 5, 2])
        >>> figure = nnxp.plots.history(nnxp.train(network, data.x, data.y, epochs=2, batch_size=8))
    """
    if isinstance(training, History):
        if not training.epochs:
            raise DataError("the history has no epochs: nothing to draw")
        count = len(training.epochs)
        title = f"Training, {count} epoch{'s' * (count > 1)}"
        loss, metric_name, best = training.loss, training.metric, training.best_epoch
        training = {"history": training.to_list()}
    else:
        loss, metric_name, title = _report_labels(training)
        best = training.get("best_epoch")
    epochs = _report_column(training, "epoch")
    losses, validation = (
        _report_column(training, "loss"),
        _report_column(training, "validation_loss"),
    )
    metric = _report_column(training, "validation_metric")
    figure = new_figure(3.4)
    panels = figure.subplots(1, 2 if metric else 1, squeeze=False)[0]
    points: dict[str, Any] = {"marker": "o" if len(epochs) <= 30 else "", "markersize": 4}
    name, unit = _LOSSES.get(loss or "", ("Loss", ""))
    panels[0].plot(epochs, losses, label="training", **_FIRST, **points)
    if validation:
        panels[0].plot(epochs, validation, label="validation", **_SECOND, **points)
    panels[0].set_title(f"{name} ({f'{unit} ' if unit else ''}per sample)")
    notes = ", ".join(filter(None, (unit, _scale_loss_axis(panels[0], losses + validation))))
    panels[0].set_ylabel(f"loss ({notes})" if notes else "loss")
    if metric:
        panels[1].plot(epochs, metric, color=_SECOND["color"], **points)
        label, note = _METRICS.get(metric_name or "", (metric_name or "metric", ""))
        panels[1].set_title(f"Validation {label}" + (f" ({note})" if note else ""))
        panels[1].set_ylabel(label)
        if note == _PERCENT:
            panels[1].set_ylabel(f"{label} (%)")
            panels[1].yaxis.set_major_formatter(lambda share, _: f"{100 * share:g}")
    if validation and best not in epochs:
        best = int(epochs[int(np.argmin(validation))])
    if best in epochs:
        _mark_best(panels, [validation or losses, metric], epochs.index(best), best)
    panels[0].legend()
    for panel in panels:
        panel.set_xlabel("epoch")
        panel.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        panel.grid(color="0.9")
        panel.set_axisbelow(True)
    put_title(figure, title)
    return figure


@styled()
@options.checked(curve=options.instance(LearningRateCurve, "what nnxp.find_learning_rate returned"))
def learning_rate(curve: LearningRateCurve) -> Figure:
    """Draw the loss by learning rate, and mark the suggested rate.

    Args:
        curve: what `nnxp.find_learning_rate` returned.

    Example:
        >>> import nnxp
        >>> data = nnxp.datasets.load("digits")
        >>> curve = nnxp.find_learning_rate(nnxp.MLP([64, 10]), data.x, data.y, batch_size=32)
        >>> figure = nnxp.plots.learning_rate(curve)
    """
    figure = new_figure(3.4)
    panel = figure.subplots()
    panel.plot(curve.rates, curve.losses, color="0.75", linewidth=0.8, label="each step")
    panel.plot(curve.rates, curve.smoothed, label="smoothed", **_FIRST)
    panel.set_xscale("log", subs=[])
    panel.xaxis.set_major_formatter("{x:g}")
    # Without the end, where the loss grows: it would squeeze the rest.
    fall = curve.losses[: int(np.argmin(curve.smoothed)) + 1]
    room = 0.1 * (fall.max() - fall.min()) or 1.0
    panel.set_ylim(min(curve.losses.min(), fall.min()) - room, fall.max() + 2 * room)
    if curve.suggestion is not None:
        panel.axvline(curve.suggestion, label=f"suggestion: {curve.suggestion:g}", **_SECOND)
    panel.set_xlabel("learning rate (log scale)")
    panel.set_ylabel("loss")
    panel.grid(color="0.9")
    panel.set_axisbelow(True)
    panel.legend()
    put_title(figure, f"The loss of {len(curve.rates)} steps with a growing learning rate")
    return figure


@styled()
@options.checked(
    network=_NETWORK, classes=options.optional(options.TEXTS), name=options.optional(options.TEXT)
)
def confusion_matrix(
    network: MLP,
    x: Any,
    targets: Any,
    classes: Sequence[str] | None = None,
    name: str | None = None,
) -> Figure:
    """Draw how many samples of each class (a row) the network assigns to each class (a column).

    Colours show shares of the row; with up to 12 classes they are written below the counts.

    Args:
        network: the network.
        x: (samples, features).
        targets: classes, (samples,); one-hot rows, (samples, classes); or, for a single output, 0/1
            labels.
        classes: the name of each class; by default those in the model's metadata, or else numbers.
        name: what the title begins with; by default the network's sizes.

    Raises:
        InputError: the targets are no classes, shapes or labels do not fit, or the number of names
            is not that of the classes.

    Example:
        >>> import nnxp
        >>> data = nnxp.datasets.load("digits")
        >>> figure = nnxp.plots.confusion_matrix(nnxp.MLP([64, 10]), data.x_test, data.y_test)
    """
    counts = _confusion(network, x, targets)
    number, samples = len(counts), int(counts.sum())
    known = described(network.metadata, network.sizes).get("classes")
    names = [str(each) for each in classes or known or range(number)]
    if len(names) != number:
        raise InputError(f"{len(names)} names of classes for {number}")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    places = np.arange(0, number, math.ceil(number / 40))
    labels = [each if len(each) <= 18 else f"{each[:17]}…" for each in names]
    longest = 0.08 * max(map(len, labels))  # inches, about
    steep = longest + 0.05 > 5 / number
    figure = new_figure(6.0 + (longest if steep else 0) - longest / 2)
    panel = figure.subplots()
    drawn = panel.imshow(shares, cmap="Blues", vmin=0, vmax=shares.max())
    panel.set_xticks(places, [labels[place] for place in places], rotation=90 if steep else 0)
    panel.set_yticks(places, [labels[place] for place in places])
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0)
    if number <= MOST_COUNTS:
        size = 10 if number <= 6 else 8 if number <= MOST_SHARES else 6.5
        for (row, column), count in np.ndenumerate(counts):
            text, share = f"{count:,}", shares[row, column]
            if number <= MOST_SHARES and count:
                text += f"\n{100 * share:.{0 if share == 1 else 1}f} %"
            dark = share > 0.55 * shares.max()
            colour = "white" if dark else "black" if count else "0.6"
            panel.text(
                column, row, text, ha="center", va="center", fontsize=size, color=colour,
                linespacing=1.3,
            )  # fmt: skip
    panel.set_xlabel("assigned class")
    panel.set_ylabel("true class")
    bar = figure.colorbar(
        drawn, cax=panel.inset_axes((1.03, 0, 0.03, 1)), label="share of the true class (%)"
    )
    bar.ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g}")
    bar.outline.set_visible(False)
    right = 100 * np.trace(counts) / samples
    put_title(
        figure, f"{name or _layer_sizes(network)}: {right:.2f} % of {samples:,} samples are right"
    )
    return figure


@styled()
@options.checked(network=_NETWORK, data=_DATASET)
def boundary(network: MLP, data: Dataset) -> Figure:
    """Draw the class that a network with two inputs assigns to each point, and the data's points.

    The axes are in the data's own units, without the preprocessing of the features.

    Raises:
        InputError: the network or the data does not have two features, or their classes differ.

    Example:
        >>> import nnxp
        >>> data = nnxp.datasets.load("moons")
        >>> figure = nnxp.plots.boundary(nnxp.MLP([2, 5, 2]), data)
    """
    if network.sizes[0] != 2 or data.x.shape[1] != 2:
        raise InputError(
            f"decision regions are drawn over two features: the network has {network.sizes[0]} "
            f"inputs, {data.name} has {data.x.shape[1]} features"
        )
    classes = _class_names(network, data)
    everything = data.preprocessing.invert(np.concatenate([data.x, data.x_test]))
    low, high = everything.min(axis=0), everything.max(axis=0)
    margin = np.where(high > low, 0.07 * (high - low), 1.0)
    across, up = np.meshgrid(*np.linspace(low - margin, high + margin, 400).T)
    grid = data.preprocessing.apply(np.stack([across.ravel(), up.ravel()], axis=1))

    figure = new_figure(5.2)
    panel = figure.subplots()
    parts = (("training", data.x, data.y), ("test", data.x_test, data.y_test))
    styles = zip(cycle(COLOURS), cycle(MARKERS))
    for number, (lead, (colour, marker)) in enumerate(
        zip(_leads(network, grid), styles, strict=False)
    ):
        lead = lead.reshape(across.shape)
        if (lead > 0).any():
            panel.contourf(across, up, lead, levels=[0, np.inf], colors=[colour], alpha=0.2)
        if (lead > 0).any() and (lead < 0).any():
            panel.contour(across, up, lead, levels=[0], colors="0.3", linewidths=1)
        for part, x_part, y_part in parts:
            panel.plot(
                *data.preprocessing.invert(x_part[y_part == number]).T,
                linestyle="",
                label=f"{classes[number]}, {part}",
                marker=marker,
                **_point_style(colour, part == "test"),
            )
    names = data.features or ("feature 0", "feature 1")
    panel.set_xlabel(names[0])
    panel.set_ylabel(names[1])
    figure.legend(handles=panel.lines, loc="outside lower center", ncols=min(4, len(classes)))
    put_title(figure, f"{_data_name(data)}: the classes that {_layer_sizes(network)} assigns")
    return figure


@styled()
@options.checked(network=_NETWORK, data=_DATASET, count=options.whole(1, LARGEST_GRID))
def digits(network: MLP, data: Dataset, count: int = 25) -> Figure:
    """Draw the first `count` test images that the network assigns to a wrong class.

    Raises:
        InputError: the data has no images, classes or test part, the network misreads none, or
            `count` is not from 1 to 100.

    Example:
        >>> import nnxp
        >>> data = nnxp.datasets.load("digits")
        >>> figure = nnxp.plots.digits(nnxp.MLP([64, 10]), data, count=10)
    """
    _check_images(data)
    classes = _class_names(network, data)
    if not len(data.x_test):
        raise InputError(f"{data.name}: has no test images")
    read = network.predict_classes(data.x_test)
    wrong = np.flatnonzero(read != data.y_test)
    total = f"{len(data.x_test):,} test images"
    if not len(wrong):
        raise InputError(f"{data.name}: all {total} are read rightly: there is none to draw")
    shown = wrong[:count]
    images = data.preprocessing.invert(data.x_test[shown]).reshape(-1, *data.shape)
    figure, panels = _image_grid(images, columns=max(5, math.ceil(math.sqrt(len(shown)))), text=0.3)
    for panel, image, i in zip(panels, images, shown, strict=True):
        panel.imshow(image, cmap="gray_r", vmin=images.min(), vmax=images.max())
        panel.set_title(f"read {classes[read[i]]}\nis {classes[data.y_test[i]]}", fontsize=9)
    first = "" if len(shown) == len(wrong) else f", the first {len(shown)}"
    share = 100 * len(wrong) / len(data.x_test)
    summary = f"{len(wrong):,} of {total} misread ({share:.2f} %)"
    put_title(figure, f"{_data_name(data)}, {_layer_sizes(network)}: {summary}{first}")
    return figure


@styled()
@options.checked(
    data=_DATASET,
    augment=augmentation.AUGMENT,
    count=options.whole(1, 10),
    versions=options.whole(1, 10),
    seed=options.whole(0),
)
def deformations(
    data: Dataset,
    augment: Deformation | str | Iterable[str],
    count: int = 6,
    versions: int = 9,
    seed: int = 0,
) -> Figure:
    """Draw the first images of the training data, each beside what augmentation makes of it.

    Args:
        data: the data; its samples are images.
        augment: the deformation; see `nnxp.train`.
        count: the number of images.
        versions: the number of deformed versions of each: those of as many steps of training.
        seed: the seed of the deformations.

    Raises:
        InputError: the data has no images, or an option has a wrong value.

    Example:
        >>> import nnxp
        >>> data = nnxp.datasets.load("digits")
        >>> figure = nnxp.plots.deformations(data, "rotate=20,scale=0.2", count=3)
    """
    _check_images(data)
    deformation = replace(cast(Deformation, augment), shape=data.shape)
    x = np.asarray(data.x[:count], dtype=np.float32)
    rows = [x, *(deformation.apply(x, seed, step) for step in range(versions))]
    images = data.preprocessing.invert(np.stack(rows, axis=1).reshape(-1, x.shape[1]))
    images = images.reshape(-1, *data.shape)
    figure, panels = _image_grid(images, columns=versions + 1, text=0.02)
    for panel, image in zip(panels, images, strict=True):
        panel.imshow(image, cmap="gray_r", vmin=images.min(), vmax=images.max())
    put_title(figure, f"{_data_name(data)}, and {deformation.describe()}")
    put_caption(figure, "The first column has the images as they are.")
    return figure


@styled()
@options.checked(
    network=_NETWORK, shape=options.optional(options.several(options.whole(1), least=2))
)
def weights(network: MLP, shape: Sequence[int] | None = None) -> Figure:
    """Draw the weights of each unit of the first layer as an image.

    If the images were whitened, the weights are multiplied by the whitening matrix, so that they
    apply to pixels.

    Args:
        network: the network, of whose units the first 100 are drawn.
        shape: the shape of an image, (rows, columns); by default that in the model's metadata, or
            else a square.

    Raises:
        InputError: the number of inputs is not that of an image of this shape.

    Example:
        >>> import nnxp
        >>> figure = nnxp.plots.weights(nnxp.MLP([64, 16, 10]), shape=(8, 8))
    """
    weight = to_numpy(network.parameters[0][0])[:, :LARGEST_GRID]
    known = described(network.metadata, network.sizes)
    whitening = known.get("preprocessing", {}).get("matrix")
    if whitening is not None and whitening.shape[1] == len(weight):
        weight = whitening @ weight
    inputs, units = len(weight), network.sizes[1]
    shape = tuple(shape or known.get("shape") or [math.isqrt(inputs)] * 2)
    if len(shape) != 2 or math.prod(shape) != inputs:
        raise InputError(
            f"the network's {inputs} inputs make no image of shape {shape}, (rows, columns)"
        )
    images = weight.T.reshape(-1, *shape)
    largest = float(np.abs(weight).max()) or 1.0
    figure, panels = _image_grid(images, columns=math.ceil(math.sqrt(len(images))), bar=1.25)
    for panel, image in zip(panels, images, strict=True):
        drawn = panel.imshow(image, cmap="RdBu_r", vmin=-largest, vmax=largest)
    figure.colorbar(drawn, ax=figure.axes, label="weight", aspect=30)
    which = f"all {units}" if units == len(images) else f"the first {len(images)} of {units}"
    put_title(figure, f"First-layer weights of {_layer_sizes(network)}: {which} units, row by row")
    return figure


@styled()
@options.checked(path=options.PATH)
def check(path: str | os.PathLike[str]) -> None:
    """Raise InputError if `save` would refuse: no matplotlib, unknown format, not a picture."""
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise InputError(
            f"{path}: a picture is .png, .svg or .pdf, not {path.suffix or 'without a suffix'}"
        )
    start, _ = _FORMATS[path.suffix.lower()]
    if path.is_file() and path.stat().st_size:
        with path.open("rb") as file:
            if file.read(len(start)) != start:
                raise InputError(f"{path}: is not a picture, and would be lost; name another")


@styled()
def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a PNG (200 dots per inch), SVG or PDF by the path's suffix, completely or not at all.

    Equal figures give equal files.

    Raises:
        InputError: the suffix is another one, or the file at `path` is not a picture of its format.
        OSError: the folder or the disk refuses.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from nnxp import plots
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     plots.save(plots.activations(), Path(folder, "activations.svg"))
        ...     [path.name for path in Path(folder).iterdir()]
        ['activations.svg']
    """
    if not hasattr(figure, "savefig"):
        raise InputError(f"figure must be a Figure of matplotlib, not {shown(figure)}")
    check(path)
    suffix = Path(path).suffix.lower()
    picture = io.BytesIO()
    figure.savefig(picture, format=suffix[1:], dpi=200, metadata=_FORMATS[suffix][1])
    files.write(path, picture.getvalue())


def new_figure(height: float) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    # A notebook shows a figure by itself only if pyplot was imported.
    vars(figure)["_repr_png_"] = partial(_png, figure)
    return figure


@styled()
def _png(figure: Figure) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def put_title(figure: Figure, text: str) -> None:
    """Write a title above the panels, in lines of about equal length if it is long."""
    _fill(figure, figure.suptitle(text))


def put_caption(figure: Figure, text: str) -> None:
    """Write a remark below the panels, in small grey letters."""
    _fill(figure, figure.supxlabel(text, fontsize=7.5, color="0.35"))


def _fill(figure: Figure, text: Text) -> None:
    """Break a text into as few lines of about equal length as fit the figure's width."""
    words = text.get_text()
    lines = math.ceil(text.get_window_extent().width / (0.96 * figure.bbox.width))
    for length in range(math.ceil(len(words) / max(1, lines)), len(words)):
        filled = textwrap.wrap(words, length)
        if len(filled) <= lines:
            text.set_text("\n".join(filled))
            return


def _check_images(data: Dataset) -> None:
    if len(data.shape) != 2:
        raise InputError(f"{data.name}: a sample has shape {data.shape}, not that of an image")


def _image_grid(
    images: np.ndarray, columns: int, text: float = 0.0, bar: float = 0.0
) -> tuple[Figure, list[Axes]]:
    """Return a figure and a panel per image; `text` and `bar` are inches for titles and a bar."""
    rows = math.ceil(len(images) / columns)
    _, height, width = images.shape
    side = (WIDTH - bar) / columns
    figure = new_figure(0.4 + rows * (side * height / width + text))
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels:
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set(visible=True, color="0.6", linewidth=0.5)
    for panel in panels[len(images) :]:
        panel.set_axis_off()
    return figure, panels[: len(images)]


def _activation_curve(
    backend: backends.Backend, name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute z, y and dy/dz with an activation's kernels, and return them on the host."""
    forward, backward = ACTIVATIONS[name]
    logits = np.zeros((2001, 2 if name == "softmax" else 1))
    logits[:, 0] = np.linspace(-5, 5, len(logits))
    upstream = np.zeros_like(logits)
    upstream[:, 0] = 1
    z, dy = (backend.asarray(array, dtype=backend.dtype("float32")) for array in (logits, upstream))
    with backend.active():
        y = forward(z)
        dz = backward(dy, *saved(backward, y, z))
    z, y, slope = (to_numpy(array)[:, 0] for array in (z, y, dz))
    return z, y, slope


def _with_gaps(z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the curve with a gap, a NaN, at each jump."""
    jumps = np.flatnonzero(np.abs(np.diff(y)) > 0.1) + 1
    return np.insert(z, jumps, np.nan), np.insert(y, jumps, np.nan)


def _center_axes(panel: Axes) -> None:
    """Let the axes meet in the origin, without a tick there, and label them at their ends."""
    from matplotlib.patheffects import withStroke
    from matplotlib.ticker import MaxNLocator

    low, high = panel.get_ylim()
    panel.set(xlim=(-5, 5), xticks=[-4, -2, 2, 4])
    ticks = MaxNLocator(3, steps=[1, 2, 5, 10]).tick_values(low, high)
    # Add a tick at 1, the height of most derivatives.
    panel.set_yticks([tick for tick in sorted({*ticks, 1.0}) if tick and low < tick < high])
    panel.set_ylim(low, high)
    panel.spines[["left", "bottom"]].set(position="zero", zorder=1)  # below a curve that is zero
    panel.set_axisbelow(False)  # so that no curve crosses out a label
    for label in (*panel.get_xticklabels(), *panel.get_yticklabels()):
        label.set_path_effects([withStroke(linewidth=3, foreground="white")])
    panel.set_xlabel("z", ha="left", va="center")
    panel.xaxis.set_label_coords(1.02, 0, transform=panel.get_yaxis_transform())
    panel.set_ylabel("y", ha="center", va="bottom", rotation=0)
    panel.yaxis.set_label_coords(0, 1.02, transform=panel.get_xaxis_transform())


def _scale_loss_axis(panel: Axes, losses: list[float]) -> str:
    """Start the loss axis at zero, or make it logarithmic; return a note for its label."""
    from matplotlib.ticker import LogLocator

    if min(losses) < 0:  # the Poisson loss leaves out a constant
        return ""
    if not 0 < 20 * min(losses) < max(losses):
        panel.set_ylim(bottom=0)
        return ""
    decades = math.log10(max(losses) / min(losses))
    panel.set_yscale("log", subs=[])
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 3 else (1,)))
    panel.yaxis.set_major_formatter("{x:g}")
    return "log scale"


def _mark_best(
    panels: Sequence[Axes], curves: Sequence[list[float]], index: int, epoch: float
) -> None:
    """Mark an epoch in each panel: a dotted line, and a ring around the point of its curve."""
    for panel, curve in zip(panels, curves, strict=False):
        panel.axvline(epoch, color="0.5", linestyle=":", zorder=1)
        panel.plot(
            epoch, curve[index], "o", markersize=9, markerfacecolor="none", color="0.2",
            linestyle="", label=f"best epoch: {epoch:g}",
        )  # fmt: skip


def _confusion(network: MLP, x: Any, targets: Any) -> np.ndarray:
    """Count the samples of each class that the network assigns to each, (classes, classes).

    Raises:
        InputError: the targets are no classes, or shapes or labels do not fit.
    """
    number = max(network.sizes[-1], 2)
    assigned = to_numpy(network.predict_classes(x)).astype(np.int64)
    true = checks.targets(targets, "quadratic", len(assigned), network.sizes[-1])
    if not np.isin(true, (0, 1)).all() or (true.shape[1] > 1 and (true.sum(axis=1) != 1).any()):
        raise InputError("a confusion matrix is of classes, one for each sample")
    true = true.argmax(axis=1) if true.shape[1] > 1 else true[:, 0].astype(np.int64)
    return np.bincount(number * true + assigned, minlength=number**2).reshape(number, number)


def _leads(network: MLP, x: np.ndarray) -> np.ndarray:
    """Return the lead of each class over the best other one, (classes, samples), never 0.

    It is positive for the class that `predict_classes` gives and negative for the others.
    """
    outputs, assigned = network.predict(x), network.predict_classes(x)
    if outputs.shape[1] == 1:
        threshold = objectives.get("auto", network.output).threshold
        outputs = np.insert(outputs, 0, threshold, axis=1)
    numbers = np.arange(outputs.shape[1])
    leads = []
    for number in numbers:
        rivals = np.where(numbers == number, -np.inf, outputs).max(axis=1)
        gap = np.abs(outputs[:, number] - rivals) + 1e-9  # above 0 for equal outputs too
        leads.append(np.where(assigned == number, gap, -gap))
    return np.stack(leads)


def _point_style(colour: str, test: bool) -> dict[str, Any]:
    """Return the style of points: filled for training, larger and hollow for test."""
    if test:
        face = {"markersize": 7, "markerfacecolor": "white", "markeredgecolor": colour}
        return face | {"zorder": 4}
    return {"markersize": 6, "markerfacecolor": colour, "markeredgecolor": "white", "zorder": 3}


def _class_names(network: MLP, data: Dataset) -> tuple[str, ...]:
    """Return the names of the data's classes; raise InputError unless the network has as many."""
    if data.classes is None:
        raise InputError(f"{data.name}: has no classes to tell apart")
    if max(network.sizes[-1], 2) != len(data.classes):
        raise InputError(
            f"{data.name} has {len(data.classes)} classes, the network {network.sizes[-1]} outputs"
        )
    return data.classes


def _report_labels(report: Any) -> tuple[str, str, str]:
    """Return the loss, the metric and the title of a report.

    Raises:
        DataError: it is not a report of `nnxp train`.
    """
    _report_column(report, "epoch")
    try:
        options = report["options"]
        loss, task = str(options["loss"]), options["task"]
        # Reports of before had no name for it.
        fitting = "r2" if "r2" in report["test"] or task == "regress" else "accuracy"
        metric = str(report.get("metric") or fitting)
        return loss, metric, _report_title(report)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        what = f"has no {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{what}: not a report of 'nnxp train'") from None


def _report_column(report: Any, name: str) -> list[float]:
    """Return a column of the report's history; [] if training had no validation data."""
    rows = report.get("history") if isinstance(report, dict) else None
    if not isinstance(rows, list) or not rows:
        raise DataError("no epochs under 'history': not a report of 'nnxp train'")
    values: list[Any] = [row.get(name) if isinstance(row, dict) else None for row in rows]
    if name.startswith("validation") and values == [None] * len(values):
        return []
    for i, value in enumerate(values):
        fits = options.FINITE.accepts if name == "epoch" else _is_number
        if not fits(value):
            raise DataError(f"history[{i}]: {name!r} is {shown(value)}, not a number")
    return [float(value) for value in values]


def _is_number(value: Any) -> bool:
    """Return whether a value is a number, which may be infinite or NaN, that a float holds."""
    try:
        return isinstance(value, float) or (isinstance(value, int) and math.isfinite(value))
    except OverflowError:
        return False


def _report_title(report: dict[str, Any]) -> str:
    """Return a title: the data, the network and the options of the training."""
    options = report["options"]
    hidden = ", ".join(dict.fromkeys(options["activation"])) or "no hidden layer"
    size = options["batch_size"]
    return printable(
        f"{os.path.basename(report['data'])}: {'-'.join(map(str, report['sizes']))}, {hidden}, "
        f"{options['output_activation']}; {options['optimizer']}, "
        f"learning rate {options['learning_rate']:g}, "
        + (f"mini-batches of {size}" if size else "one batch")
    )


def _layer_sizes(network: MLP) -> str:
    return "-".join(map(str, network.sizes))


def _data_name(data: Dataset) -> str:
    return os.path.basename(data.name)

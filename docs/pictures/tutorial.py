"""The pictures of the tutorial. Each shows what nnxp's own code computes."""

from functools import cache

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import nnxp
from nnxp import plots
from nnxp.kernels import affine, sigmoid, step

CORNERS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
GATES = {"AND": [0, 0, 0, 1], "OR": [0, 1, 1, 1], "NAND": [1, 1, 1, 0], "XOR": [0, 1, 1, 0]}
BLUE, ORANGE, GREEN = plots.COLOURS[:3]


def gates() -> Figure:
    """The line that the perceptron rule finds for each gate; none for XOR."""
    figure = plots.new_figure(2.3)
    for panel, (gate, targets) in zip(figure.subplots(1, 4), GATES.items(), strict=True):
        neuron = nnxp.Perceptron(2)
        try:
            neuron.train(CORNERS, targets)
        except nnxp.NotSeparableError:
            panel.set_title(f"{gate}: no line")
        else:
            panel.set_title(gate)
            across, up = np.meshgrid(*[np.linspace(-0.5, 1.5, 300)] * 2)
            z = affine(np.stack([across, up], axis=-1), neuron.weight, neuron.bias)
            panel.contourf(across, up, z, levels=[0, np.inf], colors=[BLUE], alpha=0.2)
            panel.contour(across, up, z, levels=[0], colors="0.3")
        for corner, target in zip(CORNERS, targets, strict=True):
            panel.plot(*corner, "o", color=BLUE, fillstyle="full" if target else "none")
        panel.set(xlim=(-0.5, 1.5), ylim=(-0.5, 1.5), xticks=[0, 1], yticks=[0, 1], aspect="equal")
        panel.set_xlabel("$x_1$", parse_math=True)
    figure.axes[0].set_ylabel("$x_2$", parse_math=True)
    return figure


def step_and_sigmoid() -> Figure:
    """A small change of a weight: a step neuron flips or ignores it, a sigmoid neuron follows."""
    figure = plots.new_figure(2.6)
    weight = np.linspace(-4.0, 4.0, 801)
    panel = figure.subplots()
    panel.plot(weight, step(weight + 0.5), color=ORANGE, linestyle="--", label="step")
    panel.plot(weight, sigmoid(weight + 0.5), color=BLUE, label="sigmoid")
    panel.set(xlabel="weight w", ylabel="output for x = 1, b = 0.5")
    panel.legend()
    return figure


def activations() -> Figure:
    """Every activation of nnxp, and its derivative."""
    return plots.activations("numpy")


def layer() -> Figure:
    """The shapes of z = x W + b."""
    figure = plots.new_figure(2.2)
    panel = figure.subplots()
    panel.set(xlim=(0, 17.5), ylim=(-1.2, 5.2), aspect="equal")
    panel.set_axis_off()
    boxes = [
        (0.5, 1.0, 4, 3, "x", "(batch, fan_in)", BLUE),
        (6.0, 0.5, 3, 4, "W", "(fan_in, fan_out)", ORANGE),
        (10.5, 2.1, 3, 0.8, "b", "(fan_out,)", GREEN),
        (14.4, 1.0, 3, 3, "z", "(batch, fan_out)", "0.4"),
    ]
    for left, bottom, width, height, name, shape, colour in boxes:
        panel.add_patch(Rectangle((left, bottom), width, height, color=colour, alpha=0.25))
        middle = left + width / 2
        panel.text(middle, bottom + height / 2, name, ha="center", va="center", fontsize=14)
        panel.text(middle, -0.4, shape, ha="center", va="center", fontsize=8)
    for across, sign in ((5.25, "@"), (9.75, "+"), (13.95, "=")):
        panel.text(across, 2.5, sign, ha="center", va="center", fontsize=14)
    # One sample is a row: it meets every column of W, and becomes a row of z.
    for left, width in ((0.5, 4), (14.4, 3)):
        panel.add_patch(Rectangle((left, 3.2), width, 0.4, color="0.2", alpha=0.6))
    return figure


def softmax() -> Figure:
    """The probabilities of three classes as the first logit grows."""
    figure = plots.new_figure(2.6)
    panel = figure.subplots()
    z = np.linspace(-4.0, 6.0, 201)
    y = nnxp.kernels.softmax(np.stack([z, np.full_like(z, 1.0), np.zeros_like(z)], axis=1))
    for column, (label, line) in enumerate((("z₁", "-"), ("z₂ = 1", "--"), ("z₃ = 0", ":"))):
        panel.plot(z, y[:, column], line, color=plots.COLOURS[column], label=f"class of {label}")
    panel.set(xlabel="first logit z₁", ylabel="probability")
    panel.legend()
    return figure


@cache
def _digits() -> nnxp.datasets.Dataset:
    return nnxp.datasets.load("digits")


def gradient_descent() -> Figure:
    """Batch, mini-batch and stochastic gradient descent on the digits."""
    data = _digits()
    figure = plots.new_figure(2.8)
    by_epoch, by_step = figure.subplots(1, 2, sharey=True)
    forms = (
        ("batch", None, 0.5, "-"),
        ("mini-batch of 32", 32, 0.1, "--"),
        ("stochastic", 1, 0.01, ":"),
    )
    for colour, (form, batch_size, rate, line) in zip(plots.COLOURS, forms, strict=False):
        network = nnxp.MLP([64, 32, 10])
        history = nnxp.train(
            network, data.x, data.y, optimizer=nnxp.SGD(rate), epochs=8, batch_size=batch_size
        )
        losses = [epoch.loss for epoch in history.epochs]
        epochs = np.arange(1, 9)
        steps = epochs * -(-len(data.x) // (batch_size or len(data.x)))
        by_epoch.plot(epochs, losses, line, color=colour, label=form)
        by_step.plot(steps, losses, line, color=colour)
    by_epoch.set(xlabel="epoch", ylabel="training loss", ylim=(0, None))
    by_step.set(xlabel="steps", xscale="log", xticks=[10, 100, 1000, 10000])
    by_step.xaxis.set_major_formatter("{x:,.0f}")
    by_step.xaxis.set_minor_formatter("")
    by_epoch.legend()
    return figure


def costs() -> Figure:
    """A badly wrong sigmoid neuron, by the quadratic cost and by cross-entropy."""
    figure = plots.new_figure(2.8)
    outputs, slopes = figure.subplots(1, 2)
    for loss, colour, line in (("quadratic", BLUE, "-"), ("binary_cross_entropy", ORANGE, "--")):
        neuron = nnxp.MLP([1, 1], output="sigmoid", parameters=[([[2.0]], [2.0])])
        seen: list[float] = [float(neuron.predict([[1.0]])[0, 0])]
        nnxp.train(
            neuron, [[1.0]], [0.0], loss=loss, optimizer=nnxp.SGD(0.15), epochs=300,
            batch_size=None,
            callbacks=[lambda n, _, seen=seen: seen.append(float(n.predict([[1.0]])[0, 0]))],
        )  # fmt: skip
        outputs.plot(seen, line, color=colour, label=loss.removeprefix("binary_").replace("_", "-"))
        y = np.linspace(0.0, 1.0, 201)
        slope = y * y * (1 - y) if loss == "quadratic" else y
        slopes.plot(y, slope, line, color=colour)
    outputs.set(xlabel="epoch", ylabel="output, which should become 0", ylim=(0, 1))
    slopes.set(xlabel="output y", ylabel="slope dC/dz for target 0")
    outputs.legend()
    return figure


@cache
def _read_digits() -> tuple[nnxp.MLP, nnxp.History]:
    data = _digits()
    network = nnxp.MLP([64, 30, 10])
    history = nnxp.train(
        network, data.x, data.y, optimizer=nnxp.SGD(0.1, momentum=0.9), epochs=20, batch_size=32,
        validation=(data.x_test, data.y_test),
    )  # fmt: skip
    return network, history


def digits_history() -> Figure:
    """The training of the tutorial's last page."""
    return plots.history(_read_digits()[1])


def digits_misread() -> Figure:
    """What its network misreads."""
    return plots.digits(_read_digits()[0], _digits(), count=10)


def digits_weights() -> Figure:
    """What its hidden units look for."""
    return plots.weights(_read_digits()[0], (8, 8))


def moons() -> Figure:
    """The regions of two classes that a small network learns."""
    data = nnxp.datasets.load("moons")
    network = nnxp.MLP([2, 10, 2], "tanh")
    nnxp.train(network, data.x, data.y, optimizer=nnxp.SGD(0.5), epochs=100, batch_size=8)
    return plots.boundary(network, data)

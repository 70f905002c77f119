"""The pictures of the executors, drawn from the calls of a recorded training step.

The network is 64-32-10 on mini-batches of 32 digits, with plain gradient descent.
"""

from functools import cache
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

import nnxp
from nnxp import objectives, plots
from nnxp.executors.recording import ArrayOps, Call, Program
from nnxp.state import first_state
from nnxp.step import training_step

KINDS = ("matrix product", "elementwise", "reduction", "gather or copy")
COLOURS = dict(zip(KINDS, plots.COLOURS, strict=False))
STEPS = 2
PYTHON = "0.35"
READ: dict[str, Any] = {
    "marker": "o", "color": "0.4", "fillstyle": "none", "linestyle": "", "markersize": 5,
}  # fmt: skip


@cache
def _program() -> Program:
    """Record one step, as the executor replay does."""
    data, optimizer = nnxp.datasets.load("digits"), nnxp.SGD(0.1)
    network = nnxp.MLP([64, 32, 10])
    objective = objectives.get("auto", network.output)
    step = training_step(network.hidden, objective, optimizer)
    state = first_state(network, optimizer)
    return Program(step, state, (data.x, data.y), np.arange(32), ArrayOps(), 0.1)


def _kind(call: Call) -> str:
    if call.name is None:
        function, _ = call.made
        return "matrix product" if function is np.matmul else "gather or copy"
    if call.name == "copy":
        return "gather or copy"
    return "elementwise" if call.is_elementwise else "reduction"


def executors() -> Figure:
    """What Python hands over, and what the library then runs, in a chunk of two steps."""
    step = ["gather or copy"] * 2 + [_kind(call) for call in _program().calls]
    chunk = step * STEPS
    figure = plots.new_figure(4.6)
    panel = figure.subplots()
    for row, name in enumerate(("eager", "replay", "compiled", "jit", "graph")):
        top = -2.6 * row
        panel.text(-1.5, top - 0.55, name, ha="right", va="center", fontsize=10)
        if name in ("eager", "replay"):
            between = 1.0 if name == "eager" else 0.12  # Python between two calls
            for place, kind in enumerate(chunk):
                left = (between + 0.7) * place
                _block(panel, left, top, between, PYTHON)
                _block(panel, left + between, top - 1, 0.7, COLOURS[kind])
            continue
        left, width = 0.0, 0.35
        for part in [step] * STEPS if name == "compiled" else [chunk]:
            _block(panel, left, top, 2.0, PYTHON)
            left += 2.0
            for kind in part:
                # A compiler makes one loop of what lies between two products.
                fused = kind if kind == KINDS[0] or name == "graph" else KINDS[1]
                _block(panel, left, top - 1, width, COLOURS[fused], 0.2 * (name == "graph"))
                left += width
    panel.set(xlim=(-14, 1.7 * len(chunk) + 1), ylim=(-12.6, 1.4))
    panel.set_axis_off()
    legend = {"Python": PYTHON} | COLOURS
    handles = [Patch(color=colour, label=label) for label, colour in legend.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=5)
    title = f"A chunk of {STEPS} steps, {len(step)} calls each: Python above, the library below"
    plots.put_title(figure, title)
    return figure


def _block(
    panel: Axes, left: float, bottom: float, width: float, colour: str, edge: float = 0.2
) -> None:
    style = {"facecolor": colour, "edgecolor": "white", "linewidth": edge}
    panel.add_patch(Rectangle((left, bottom), width, 0.9, **style))


def replay_memory() -> Figure:
    """Which call of the recorded step reads and writes which memory."""
    program = _program()
    parameters = dict(zip(("W₁", "b₁", "W₂", "b₂"), program.leaves, strict=False))
    inputs = {"x": program.batch[0], "t": program.batch[1], "rate": program.learning_rate}
    named = parameters | inputs | {"loss sum": program.total}
    owners = {_address(array): name for name, array in named.items()}
    sizes = []
    for call in program.calls:
        if _address(call.writes) not in owners:
            sizes.append(call.writes.nbytes)
            owners[_address(call.writes)] = f"scratch {len(sizes)}"
    row = {address: -number for number, address in enumerate(owners)}
    figure = plots.new_figure(5.2)
    panel = figure.subplots()
    for number, call in enumerate(program.calls, 1):
        arrays = [each for each in call.reads if isinstance(each, np.ndarray)]
        reads = {row[_address(each)] for each in arrays if _address(each) in row}
        written = row[_address(call.writes)]
        touched = reads | {written}
        panel.plot([number] * 2, [min(touched), max(touched)], color="0.8", zorder=1)
        panel.plot([number] * len(reads), sorted(reads), **READ)
        panel.plot(number, written, "s", color=COLOURS[_kind(call)], markersize=5)
    panel.set_yticks(list(row.values()), list(owners.values()), fontsize=7)
    panel.set_xlabel("call of the recorded step")
    panel.grid(axis="y", color="0.93")
    panel.set_axisbelow(True)
    handles = [
        Line2D([], [], label="reads", **READ),
        *(
            Line2D([], [], marker="s", color=colour, linestyle="", label=f"writes: {kind}")
            for kind, colour in COLOURS.items()
        ),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    title = (
        f"A step as replay has recorded it: {len(program.calls)} calls, "
        f"{len(sizes)} pieces of scratch memory, {sum(sizes) / 1024:.0f} KiB"
    )
    plots.put_title(figure, title)
    return figure


def _address(array: np.ndarray) -> int:
    """Return the start of the memory, which views share."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    address: int = array.__array_interface__["data"][0]
    return address

"""The pictures of the executors, drawn from the calls of a recorded training step.

The network is 64-32-10 on mini-batches of 32 digits, with plain gradient descent.
"""

from functools import cache

import numpy as np
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
    kinds = ["gather or copy"] * 2 + [_kind(call) for call in _program().calls]
    figure = plots.new_figure(4.6)
    panel = figure.subplots()
    chunk = kinds * STEPS
    rows = ("eager", "replay", "compiled", "jit", "graph")
    for row, name in enumerate(rows):
        top = -2.6 * row
        panel.text(-1.5, top - 0.55, name, ha="right", va="center", fontsize=10)
        now = 0.0
        if name in ("eager", "replay"):
            think = 1.0 if name == "eager" else 0.12  # Python between two calls
            for kind in chunk:
                _block(panel, now, top, think, "0.35")
                _block(panel, now + think, top - 1, 0.7, COLOURS[kind])
                now += think + 0.7
        elif name == "compiled":
            for _ in range(STEPS):
                _block(panel, now, top, 2.0, "0.35")
                _fused(panel, now + 2.0, top - 1, kinds)
                now += 2.0 + 0.35 * len(kinds)
        elif name == "jit":
            _block(panel, now, top, 2.0, "0.35")
            _fused(panel, now + 2.0, top - 1, chunk)
        else:
            _block(panel, now, top, 2.0, "0.35")
            for place, kind in enumerate(chunk):
                _block(panel, 2.0 + 0.4 * place, top - 1, 0.4, COLOURS[kind])
    panel.set(xlim=(-14, 1.7 * len(chunk) + 1), ylim=(-2.6 * len(rows) + 0.4, 1.4))
    panel.set_axis_off()
    handles = [Patch(color="0.35", label="Python"), *(Patch(color=COLOURS[k], label=k) for k in KINDS)]
    figure.legend(handles=handles, loc="outside lower center", ncols=5)
    plots.put_title(
        figure, f"A chunk of {STEPS} steps, {len(kinds)} calls each: Python above, the library below"
    )
    return figure


def _block(panel, left, bottom, width, colour):  # type: ignore[no-untyped-def]
    panel.add_patch(Rectangle((left, bottom), width, 0.9, facecolor=colour, edgecolor="white", linewidth=0.2))


def _fused(panel, left, bottom, kinds):  # type: ignore[no-untyped-def]
    """Draw the calls as one program: products stand apart, what lies between them is one loop."""
    for place, kind in enumerate(kinds):
        colour = COLOURS["matrix product" if kind == "matrix product" else "elementwise"]
        panel.add_patch(Rectangle((left + 0.35 * place, bottom), 0.35, 0.9, facecolor=colour))


def replay_memory() -> Figure:
    """Which call of the recorded step reads and writes which memory."""
    program = _program()
    owners = {}
    names = ["W₁", "b₁", "W₂", "b₂"]
    leaves = dict(zip(map(_address, program.leaves), names, strict=False))
    leaves |= {_address(program.batch[0]): "x", _address(program.batch[1]): "t"}
    leaves |= {_address(program.learning_rate): "rate", _address(program.total): "loss sum"}
    for address, name in leaves.items():
        owners[address] = name
    scratch = 0
    for call in program.calls:
        if (place := _address(call.writes)) not in owners:
            scratch += 1
            owners[place] = f"scratch {scratch}"
    order = {address: -row for row, address in enumerate(owners)}
    figure = plots.new_figure(5.2)
    panel = figure.subplots()
    for number, call in enumerate(program.calls, 1):
        reads = {order[_address(a)] for a in call.reads if hasattr(a, "shape") and _address(a) in order}
        written = order[_address(call.writes)]
        panel.plot([number] * 2, [min(reads | {written}), max(reads | {written})], color="0.8", zorder=1)
        for read in reads:
            panel.plot(number, read, "o", color="0.4", fillstyle="none", markersize=5)
        panel.plot(number, written, "s", color=COLOURS[_kind(call)], markersize=5)
    panel.set_yticks(list(order.values()), list(owners.values()), fontsize=7)
    panel.set_xlabel("call of the recorded step")
    panel.grid(axis="y", color="0.93")
    panel.set_axisbelow(True)
    handles = [
        Line2D([], [], marker="o", color="0.4", fillstyle="none", linestyle="", label="reads"),
        *(Line2D([], [], marker="s", color=COLOURS[k], linestyle="", label=f"writes: {k}") for k in KINDS),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    results = len(program.calls)
    plots.put_title(figure, f"A step as replay has recorded it: {results} calls, {scratch} pieces of scratch memory")
    return figure


def _address(array: np.ndarray) -> int:
    """The start of the memory, which views share."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array.__array_interface__["data"][0]

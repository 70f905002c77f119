"""The picture of how deep plain networks learn, from the measurements of bench/record.py."""

import json
from itertools import cycle
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from nnxp import plots

RESULTS = Path(__file__).parents[2] / "bench" / "results" / "record.json"
LEAST, MOST = 0.3, 3.0


def record() -> Figure:
    """Errors after each epoch against the minutes of training: test solid, validation faint."""
    figure = plots.new_figure(3.6)
    panel = figure.subplots()
    runs = sorted(
        json.loads(RESULTS.read_text("utf-8")), key=lambda run: (run["network"], run["seed"])
    )
    for colour, run in zip(cycle(plots.COLOURS), runs, strict=False):
        epochs = len(run["test_error"])
        minutes = [run["minutes"] * (epoch + 1) / epochs for epoch in range(epochs)]
        label = "-".join(map(str, run["sizes"])) + (f", seed {run['seed']}" if run["seed"] else "")
        panel.plot(minutes, run["test_error"], color=colour, linewidth=1, label=label)
        panel.plot(minutes, run["validation_error"], color=colour, linewidth=0.7, alpha=0.35)
    panel.set_yscale("log")
    panel.set_ylim(LEAST, MOST)
    panel.yaxis.set_major_locator(FixedLocator([0.3, 0.4, 0.5, 0.7, 1, 1.5, 2, 3]))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g} %"))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.set_xlabel("minutes of training")
    panel.set_ylabel("error (validation is fainter)")
    panel.grid(alpha=0.3)
    panel.legend(fontsize=7)
    return figure

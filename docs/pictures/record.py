"""The picture of how deep plain networks learn, from the measurements of bench/record.py."""

import json
from itertools import cycle
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from nnxp import plots

RESULTS = Path(__file__).parents[2] / "bench" / "results" / "record.json"
LEAST, MOST = 0.3, 3.0


def record() -> Figure:
    """Errors after each epoch against the minutes of training: test solid, validation faint.

    The trainings of a network with the same deformations and other seeds have one colour.
    """
    figure = plots.new_figure(3.6)
    panel = figure.subplots()
    networks: dict[str, list[dict[str, Any]]] = {}
    runs = json.loads(RESULTS.read_text("utf-8"))
    for run in sorted(runs, key=lambda run: (run["network"], run["seed"])):
        label = f"{'-'.join(map(str, run['sizes']))}, {run['augment'][0]}"
        networks.setdefault(label, []).append(run)
    for colour, (label, alike) in zip(cycle(plots.COLOURS), networks.items(), strict=False):
        for run in alike:
            epochs = len(run["test_error"])
            minutes = [run["minutes"] * (epoch + 1) / epochs for epoch in range(epochs)]
            name = label if run is alike[0] else None
            panel.plot(minutes, run["test_error"], color=colour, linewidth=1, label=name)
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

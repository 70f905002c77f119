"""What bench/gpu.py's parts measured: one JSON, the pictures, and the README's section on a GPU."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from compare import HERE, write_readme, write_results
from gpu_report import goals
from ratios import by_workload, result

from nnxp import plots
from nnxp.benchmark.machine import headline
from nnxp.benchmark.plots import bars, curves

NAMES = ("ceilings", "kernels", "sweep", "mnist")
"""Of the parts beside the comparison."""


def put_together(parts: Path, output: Path, publish: bool) -> str:
    """Write all into one folder; what was asked of a GPU and found, as text.

    Args:
        parts: where bench/compare.py wrote to the folder "compared", the others NAME.json.
        output: the folder.
        publish: whether into bench/ too: the README and the results.

    Raises:
        FileNotFoundError: there is no comparison.
    """
    content = read(parts)
    path = write_results(content, output)
    content["pictures"] = draw(content, output, path.stem)
    write_results(content, output)
    readme = write_readme(content, output)
    written = [path, *(output / name for name in content["pictures"])]
    if publish:
        for each in written:
            shutil.copy(each, HERE / "results")
        shutil.copy(readme, HERE)
    lines = [f"{what}: {found} (at least {goal})" for what, goal, found in goals(content)[1:]]
    return "\n".join([*lines, "saved " + ", ".join(map(str, [*written, readme])), ""])


def read(parts: Path) -> dict[str, Any]:
    """The comparison, and whatever else was measured, by its name."""
    compared = next((parts / "compared").glob("*.json"), None)
    if compared is None:
        raise FileNotFoundError("bench/compare.py left no results")
    content: dict[str, Any] = json.loads(compared.read_text("utf-8")) | {"section": "gpu"}
    for name in NAMES:
        if (path := parts / f"{name}.json").exists():
            content[name] = json.loads(path.read_text("utf-8"))
    return content


def draw(content: dict[str, Any], folder: Path, stem: str) -> dict[str, str]:
    """The pictures, into the folder; what each shows, by its file's name."""
    everybody = [one for each in by_workload(content).values() for one in each]
    title, place = "Training, by contender", headline(content["machine"])
    drawn = {f"{stem}.png": title}
    plots.save(bars(everybody, f"{title}; {place}"), str(folder / f"{stem}.png"))
    if content.get("sweep"):
        points = {
            point["point"]: [result(each) for each in point["results"]]
            for point in content["sweep"]["points"]
        }
        name, title = f"{stem}-batch-sizes.png", "Training small, by batch size"
        plots.save(curves("batch-size", points, f"{title}; {place}"), str(folder / name))
        drawn[name] = title
    return drawn

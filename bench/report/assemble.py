"""Assembles what bench/gpu.py's parts measured: one JSON, pictures, the README's GPU section."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from report import writing
from report.gpu import goals
from report.ratios import by_workload
from report.writing import write_readme, write_results

from nnxp import plots
from nnxp.benchmark import Result
from nnxp.benchmark.machine import headline
from nnxp.benchmark.plots import curves, dots

EMULATED = "CUDA on a CPU"
"""The name of the device of the emulation in `ci/cupy`."""
NAMES = ("ceilings", "kernels", "sweep", "mnist")
"""The parts besides the comparison."""


def assemble(parts: Path, output: Path, publish: bool) -> str:
    """Write the whole report into one folder; return the goals and measurements as text.

    Args:
        parts: the folder in which bench/compare.py wrote "compared" and the other parts NAME.json.
        output: the folder to write to.
        publish: whether to write the README and the results into bench/ too, if they were measured
            on a GPU.

    Raises:
        FileNotFoundError: there is no comparison.
    """
    content = read(parts)
    path = write_results(content, output)
    content["pictures"] = draw(content, output, path.stem)
    write_results(content, output)
    readme = write_readme(content, output)
    written = [path, *(output / name for name in content["pictures"])]
    doubt = doubtful(content) if publish else None
    if publish and not doubt:
        for each in written:
            shutil.copy(each, writing.BENCH / "results")
        shutil.copy(readme, writing.BENCH)
    lines = [f"{what}: {found} (goal {goal})" for what, goal, found in goals(content)[1:]]
    if doubt:
        lines.append(f"bench/ stays as it is: {doubt}")
    return "\n".join([*lines, "saved " + ", ".join(map(str, [*written, readme])), ""])


def doubtful(content: dict[str, Any]) -> str | None:
    """Return why the times of a report are no GPU's, or None."""
    if any(each["describe"].get("gpu") == EMULATED for each in content["results"]):
        return "an emulated CUDA has no times worth keeping"
    return None if content["machine"]["gpus"] else "nvidia-smi names no GPU"


def read(parts: Path) -> dict[str, Any]:
    """Read the comparison, and add the other parts by their names."""
    compared = next((parts / "compared").glob("*.json"), None)
    if compared is None:
        raise FileNotFoundError("bench/compare.py left no results")
    content: dict[str, Any] = json.loads(compared.read_text("utf-8")) | {"section": "gpu"}
    for name in NAMES:
        if (path := parts / f"{name}.json").exists():
            content[name] = json.loads(path.read_text("utf-8"))
    return content


def draw(content: dict[str, Any], folder: Path, stem: str) -> dict[str, str]:
    """Draw the pictures into the folder; return their titles by file name."""
    everything = [one for each in by_workload(content).values() for one in each]
    title, place = "Training, by contender", headline(content["machine"])
    drawn = {f"{stem}.png": title}
    plots.save(dots(everything, title, place), str(folder / f"{stem}.png"))
    if content.get("sweep"):
        points = {
            point["point"]: [Result.from_dict(each) for each in point["results"]]
            for point in content["sweep"]["points"]
        }
        name, title = f"{stem}-batch-sizes.png", "Training small, by batch size"
        plots.save(curves("batch-size", points, title, place), str(folder / name))
        drawn[name] = title
    return drawn

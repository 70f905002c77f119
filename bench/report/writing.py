"""Writes a report: its JSON, and its section of bench/README.md."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from report.markers import insert
from report.tables import MARKERS, markdown, section

from nnxp import files

BENCH = Path(__file__).parent.parent


def write_json(content: Any, path: Path) -> None:
    """Write the content as JSON; NaN and infinity are errors."""
    files.write(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def write_results(content: dict[str, Any], folder: Path) -> Path:
    """Write the JSON into a file that is named after the machine and the day; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{slug(content['machine'], section(content))}-{content['machine']['date'][:10]}.json"
    write_json(content, folder / name)
    return folder / name


def write_readme(content: dict[str, Any], folder: Path) -> Path:
    """Write bench/README.md, with this report in its section, into the folder; return its path."""
    text = (BENCH / "README.md").read_text("utf-8")
    target = folder / "README.md"
    files.write(target, insert(text, markdown(content), *MARKERS[section(content)]).encode())
    return target


def slug(machine: dict[str, Any], kind: str) -> str:
    """Turn the machine into a part of a file name: its GPU in a report on a GPU, else its CPU."""
    on_gpu = kind == "gpu" and machine["gpus"]
    name = (
        machine["gpus"][0].split(",")[0] if on_gpu else f"{machine['cpu']} {machine['cores']} cores"
    )
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", name.lower())).strip("-")

"""A training by the command line, as its users start it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def train(data: str, backend: str, device: str, folder: Path, *options: str) -> dict[str, Any]:
    """One `nnxp train`.

    Args:
        data: as for the command.
        backend: "cupy", or with an executor, "cupy:graph".
        device: of all but numpy.
        folder: for its files, which are called after the backend.
        options: of the command.

    Returns:
        The command's report, and "wall_seconds" of the whole command; or the "problem" it had.
    """
    library, _, executor = backend.partition(":")
    report = folder / f"{library}{executor}.json"
    command = [
        *(sys.executable, "-m", "nnxp", "train", data, *options),
        *("--backend", library, "--device", "cpu" if library == "numpy" else device),
        *("--executor", executor or "auto", "--report", str(report)),
        *("--save", str(report.with_suffix(".safetensors")), "--quiet"),
    ]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    seconds = time.perf_counter() - start
    said = done.stderr.strip().splitlines()
    if done.returncode:
        return {"problem": said[-1] if said else f"exit status {done.returncode}"}
    told: dict[str, Any] = json.loads(report.read_text("utf-8"))
    return told | {"wall_seconds": seconds, "said": said}

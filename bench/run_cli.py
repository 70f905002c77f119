"""Runs a training by the command line, as users do."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from nnxp.benchmark.process import Process, environment


def train(data: str, backend: str, device: str, folder: Path, *options: str) -> dict[str, Any]:
    """Run one `nnxp train`.

    Args:
        data: as for the command.
        backend: "cupy", or with an executor, "cupy:graph".
        device: where it trains; numpy always trains on the CPU.
        folder: for the command's files, which are named after the backend.
        options: more options of the command.

    Returns:
        The command's report with the "wall_seconds" of the command and the lines it printed,
        "output"; or the "problem" that it had.
    """
    library, _, executor = backend.partition(":")
    report = folder / f"{library}{executor}.json"
    command = [
        *(sys.executable, "-m", "nnxp", "train", data, *options),
        *("--backend", library, "--device", "cpu" if library == "numpy" else device),
        *("--executor", executor or "auto", "--report", str(report)),
        *("--save", str(report.with_suffix(".safetensors")), "--quiet"),
    ]
    output: list[str] = []
    start = time.perf_counter()
    with Process(command, output.append, environment=environment()) as process:
        process.wait()
        seconds = time.perf_counter() - start
    lines = "".join(output).strip().splitlines()
    if process.status:
        return {"problem": lines[-1] if lines else f"exit status {process.status}"}
    content: dict[str, Any] = json.loads(report.read_text("utf-8"))
    return content | {"wall_seconds": seconds, "output": lines}

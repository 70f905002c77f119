"""Times MNIST by the command line: 784-128-10 in batches of 64, 10 epochs, on each backend.

    NNXP_DATA_DIR=DIR python bench/mnist.py --device cuda --backends cupy,torch --output mnist.json

The digits are read from $NNXP_DATA_DIR/mnist and not downloaded. Where they are missing, data of
their shape are made: then the time is still valid, and the accuracy means nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from report.gpu import trained
from report.writing import write_json
from run_cli import train

from nnxp.benchmark import Workload

OPTIONS = ["--hidden", "128", "--batch-size", "64", "--validation", "0"]


def made(folder: Path, samples: int) -> str:
    """Write data in MNIST's shape, and a sixth as many test samples; return the file's path."""
    tests = samples // 6
    x, classes = Workload("small", (784, 128, 10), 1, 1, samples + tests).data
    path = folder / "made.npz"
    parts = {"x": x[tests:], "y": classes[tests:], "x_test": x[:tests], "y_test": classes[:tests]}
    np.savez(path, allow_pickle=False, **parts)
    return str(path)


def summary(backend: str, found: dict[str, Any]) -> dict[str, Any]:
    """Return a training's seconds, those of the whole command, and the test accuracy."""
    if "problem" in found:
        return {"name": f"nnxp[{backend}]", "problem": found["problem"]}
    return {
        "name": f"nnxp[{backend}]",
        "seconds": sum(epoch["seconds"] for epoch in found["history"]),
        "wall_seconds": found["wall_seconds"],
        "accuracy": found["test"]["accuracy"],
        "warned": [line for line in found["output"] if "RuntimeWarning" in line],
    }


def main() -> int:
    """Train on each backend, print and write; return 1 if a backend failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="where all but numpy train")
    parser.add_argument("--backends", default="numpy", help="separated by commas")
    parser.add_argument("--quick", action="store_true", help="little data, one epoch")
    parser.add_argument("--output", type=Path, help="where the JSON goes")
    chosen = parser.parse_args()
    epochs = 1 if chosen.quick else 10
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = os.environ.get("NNXP_DATA_DIR", "")
        real = bool(given) and (Path(given) / "mnist").is_dir() and not chosen.quick
        data = "mnist" if real else made(folder, 600 if chosen.quick else 60_000)
        options = ["--epochs", str(epochs), "--preprocess", "auto" if real else "none"]
        kind = "MNIST" if real else "made data in MNIST's shape"
        found: dict[str, Any] = {
            "what": f"{kind}, 784-128-10, batches of 64, epochs: {epochs}",
            "runs": [],
        }
        for backend in chosen.backends.split(","):
            run = summary(backend, train(data, backend, chosen.device, folder, *OPTIONS, *options))
            found["runs"].append(run)
            print(f"{backend}: {trained(run)}", flush=True)
            if chosen.output:
                write_json(found, chosen.output)
    return int(any(run.get("problem") for run in found["runs"]))


if __name__ == "__main__":
    sys.exit(main())

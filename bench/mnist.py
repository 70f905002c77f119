"""MNIST by the command line, timed: 784-128-10 in batches of 64, 10 epochs, on each backend.

    NNXP_DATA_DIR=DIR python bench/mnist.py --device cuda --backends cupy,torch --output mnist.json

The digits are looked for in $NNXP_DATA_DIR/mnist and not downloaded. Where they are not, data of
their shape is made: then the time means what it says, and the accuracy nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from gpu_report import trained
from trained import train

from nnxp import files
from nnxp.benchmark import Workload

OPTIONS = ["--hidden", "128", "--batch-size", "64", "--validation", "0"]


def made(folder: Path, samples: int) -> str:
    """A file of data in MNIST's shape, a sixth as many samples more to test on."""
    tests = samples // 6
    x, classes = Workload("small", (784, 128, 10), 1, 1, samples + tests).data
    path = folder / "made.npz"
    parts = {"x": x[tests:], "y": classes[tests:], "x_test": x[:tests], "y_test": classes[:tests]}
    np.savez(path, allow_pickle=False, **parts)
    return str(path)


def summary(backend: str, told: dict[str, Any]) -> dict[str, Any]:
    """Of a training: its seconds, those of the whole command, and the test accuracy."""
    if "problem" in told:
        return {"name": f"nnxp[{backend}]", "problem": told["problem"]}
    return {
        "name": f"nnxp[{backend}]",
        "seconds": sum(epoch["seconds"] for epoch in told["history"]),
        "wall_seconds": told["wall_seconds"],
        "accuracy": told["test"]["accuracy"],
        "warned": [line for line in told["said"] if "RuntimeWarning" in line],
    }


def main() -> int:
    """Train on each backend, print and write; 1 if one could not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="of all but numpy")
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
            told = train(data, backend, chosen.device, folder, *OPTIONS, *options)
            run = summary(backend, told)
            found["runs"].append(run)
            print(f"{backend}: {trained(run)}", flush=True)
            if chosen.output:
                files.write(chosen.output, (json.dumps(found, indent=1) + "\n").encode())
    return int(any(run.get("problem") for run in found["runs"]))


if __name__ == "__main__":
    sys.exit(main())

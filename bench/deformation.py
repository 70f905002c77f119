"""Measures what deforming images in every step costs: epochs with it and without, in turn.

    python bench/deformation.py --output bench/results/deformation.json      # five minutes

The network is 784-800-10 on batches of 200 images with momentum, as row i of `bench/accuracy.py`.
In each round an epoch without deformation and one with it follow each other; the first epoch of a
training, in which a step is recorded or compiled, does not count. The share is that of the
deformation in an epoch: 1 - time without / time with.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
from typing import Any

import arguments
import numpy as np
from record import AUGMENT

import nnxp
from nnxp import datasets, reports

SIZES, BATCH_SIZE, SAMPLES = (784, 800, 10), 200, 20_000


def images(samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return whole pixels over 255, (samples, 784), and classes: small digits, enlarged."""
    digits = datasets.load("digits")
    rows = np.arange(samples) % len(digits.x)
    large = digits.x[rows].reshape(-1, 8, 8).repeat(3, axis=1).repeat(3, axis=2)
    padded = np.pad(large, ((0, 0), (2, 2), (2, 2))).reshape(samples, 784)
    return np.rint(255 * padded).astype(np.float32) / np.float32(255), digits.y[rows]


def seconds(backend: str, device: str, x: np.ndarray, y: np.ndarray, augment: Any) -> float:
    """Return the seconds of the second epoch of a training."""
    network = nnxp.MLP(SIZES, backend=nnxp.backends.get(backend, device))
    history = nnxp.train(
        network, x, y, epochs=2, batch_size=BATCH_SIZE, augment=augment,
        optimizer=nnxp.SGD(0.1, momentum=0.9), assume_finite=True,
    )  # fmt: skip
    if history.fallbacks:
        raise nnxp.BackendError(f"{backend}: {history.fallbacks[0]}")
    return history.epochs[-1].seconds


def table(found: dict[str, Any]) -> str:
    """Return the shares as a Markdown table."""
    lines = [
        "| backend | thousand images/s without | with | share of the epoch |",
        "|---|---|---|---|",
    ]
    for backend, rounds in found["rounds"].items():
        without, deformed = (statistics.median(each[k] for each in rounds) for k in (0, 1))
        shares = [1 - a / b for a, b in rounds]
        lines.append(
            f"| {backend} | {found['samples'] / without / 1e3:.1f} | "
            f"{found['samples'] / deformed / 1e3:.1f} | {statistics.median(shares):.0%} "
            f"({min(shares):.0%} to {max(shares):.0%}) |"
        )
    return "\n".join(lines)


def main() -> int:
    """Print the table; write the figures where `--output` says."""
    parser = arguments.parser(__doc__, "output", "quick", device="cpu", repeat=7)
    parser.add_argument("--backends", default="numpy,torch,jax", help="separated by commas")
    chosen = parser.parse_args()
    samples, repeat = (600, 1) if chosen.quick else (SAMPLES, chosen.repeat)
    x, y = images(samples)
    found: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{reports.processor()}, {os.cpu_count()} CPUs, {platform.platform()}",
        "samples": samples,
        "rounds": {},
    }
    for backend in chosen.backends.split(","):
        device = "cpu" if backend == "numpy" else chosen.device
        rounds = found["rounds"][backend] = []
        for _ in range(repeat):
            rounds.append([seconds(backend, device, x, y, each) for each in (None, AUGMENT)])
            print(f"{backend}: {rounds[-1][0]:.3f} s, with deformation {rounds[-1][1]:.3f} s",
                  flush=True)  # fmt: skip
    print(f"\n{table(found)}")
    if chosen.output:
        chosen.output.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    arguments.restart_with_free_kernels()
    arguments.run(main)

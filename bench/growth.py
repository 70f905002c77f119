"""Measures how time and memory of a training grow with samples, features, width and processes.

    python bench/growth.py                      # writes bench/results/growth.json; three minutes
    python bench/growth.py --quick              # few and small points: that it runs

Each point is a process of its own, which trains for two epochs; the time is that of the second
epoch, the memory is the process's own at its peak, without mapped files, beyond what it held before
it made network and data. The points of all curves are measured in turn, in several rounds; a point
is the median of its rounds. The picture, with a line in proportion to x through the last point, is
in the documentation: docs/pictures/growth.py draws it from the file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from statistics import median
from typing import Any

BASE = {"samples": 16_384, "features": 784, "width": 256, "ranks": 1, "streamed": False}
BATCH = 128
CURVES: dict[str, dict[str, Any]] = {
    "samples": {"points": (4096, 8192, 16_384, 32_768, 65_536, 131_072)},
    "samples, streamed from disk": {
        "points": (4096, 8192, 16_384, 32_768, 65_536, 131_072), "streamed": True,
    },
    "features": {"points": (196, 392, 784, 1568, 3136, 6272), "samples": 8192},
    "width": {"points": (64, 128, 256, 512, 1024, 2048), "samples": 4096},
    "ranks": {"points": (1, 2), "width": 1024, "samples": 8192},
}  # fmt: skip
"""Each curve: the values of what grows, and what differs from `BASE`."""


class Memory:
    """Watches, in a thread, the most bytes that this process holds itself: no mapped files."""

    def __init__(self) -> None:
        self.peak, self._ended = self.now(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    @staticmethod
    def now() -> int:
        """Return the bytes that the process holds."""
        text = Path("/proc/self/status").read_text()
        (line,) = (line for line in text.splitlines() if line.startswith("RssAnon:"))
        return 1024 * int(line.split()[1])

    def _watch(self) -> None:
        while not self._ended.wait(0.002):
            self.peak = max(self.peak, self.now())

    def end(self) -> int:
        """Stop watching; return the peak."""
        self._ended.set()
        self._thread.join()
        return self.peak


def worker(point: dict[str, Any]) -> None:
    """Train; rank 0 prints the seconds of the second epoch and the bytes at the peak."""
    if point["ranks"] > 1 or point["bound"]:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(os.environ.get("PMI_RANK", "0")) % len(cores)]})
    import numpy as np

    import nnxp

    world = nnxp.distributed.world()
    warm = np.zeros((2 * BATCH, 8), np.float32)
    small = nnxp.MLP([8, 8, 10], backend="numpy")
    nnxp.train(small, warm, np.arange(2 * BATCH) % 10, epochs=1, batch_size=BATCH)
    before, memory = Memory.now(), Memory()
    network = nnxp.MLP([point["features"], point["width"], 10], backend="numpy")
    shape = point["samples"], point["features"]
    labels = np.random.default_rng(0).integers(0, 10, shape[0])
    with tempfile.TemporaryDirectory() as folder:
        x: Any
        if point["streamed"]:
            place = os.path.join(folder, "x.npy")
            made = np.lib.format.open_memmap(place, "w+", np.float32, shape)
            for start in range(0, shape[0], 1024):
                rows = np.random.default_rng(start).random((1024, shape[1]), np.float32)
                made[start : start + 1024] = rows
            made.flush()
            del made
            x = np.load(place, mmap_mode="r")
        else:
            x = np.random.default_rng(0).random(shape, np.float32)
        history = nnxp.train(
            network, x, labels, epochs=2, batch_size=BATCH, distributed=world,
            stream=True if point["streamed"] else None,
        )  # fmt: skip
    held = max(0, memory.end() - before)
    if world.rank == 0:
        print(json.dumps([history.epochs[-1].seconds, held]))


def measure(point: dict[str, Any]) -> list[float]:
    """Measure one point in a process of its own, or several."""
    from nnxp.benchmark import process

    environment = process.environment()
    command = [sys.executable, __file__, "--worker", json.dumps(point)]
    if point["ranks"] > 1:
        beside = Path(sys.executable).with_name("mpiexec")
        command = [
            str(beside) if beside.exists() else "mpiexec",
            "-n",
            str(point["ranks"]),
            *command,
        ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(f"growth: {point}: {done.stderr.strip().splitlines()[-1:]}")
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    import arguments

    from nnxp import reports

    output = Path(__file__).parent / "results" / "growth.json"
    given = arguments.parser(__doc__, "quick", output=output, repeat=3).parse_args()
    points = {
        curve: [
            BASE | {k: v for k, v in about.items() if k != "points"}
            | {curve.split(",")[0]: value, "bound": curve == "ranks"}
            for value in (about["points"][:2] if given.quick else about["points"])
        ]
        for curve, about in CURVES.items()
    }  # fmt: skip
    if given.quick:
        points = {
            curve: [each | {"samples": min(each["samples"], 2048)} for each in all_of_them]
            for curve, all_of_them in points.items()
        }
    found: dict[str, list[list[list[float]]]] = {
        curve: [[] for _ in all_of_them] for curve, all_of_them in points.items()
    }
    for _ in range(1 if given.quick else given.repeat):
        for curve, all_of_them in points.items():
            for place, point in enumerate(all_of_them):
                found[curve][place].append(measure(point))
    report: dict[str, Any] = {
        "processor": reports.processor(), "cores": os.cpu_count(), "batch": BATCH, "curves": {},
    }  # fmt: skip
    for curve, all_of_them in points.items():
        name = curve.split(",")[0]
        seconds = [median(each[0] for each in rounds) for rounds in found[curve]]
        memory = [median(each[1] for each in rounds) for rounds in found[curve]]
        values = [point[name] for point in all_of_them]
        report["curves"][curve] = {"x": values, "seconds": seconds, "bytes": memory}
        print(f"{curve}:")
        for value, time, size in zip(values, seconds, memory, strict=True):
            print(f"  {value:>8,}  {time:9.4f} s an epoch  {size / 1e6:9.1f} MB")
    if not given.quick:
        given.output.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(json.loads(sys.argv[2]))
    else:
        import arguments

        arguments.run(main)

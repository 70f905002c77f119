"""Measures how time and memory of a training grow with samples, features, width and processes.

    python bench/growth.py                      # writes bench/results/growth.json; ten minutes
    python bench/growth.py --quick              # few and small points: that it runs

Each point is a process of its own, which trains for two epochs; the time is that of the second
epoch, the memory is the process's peak beyond what it took before it made the data. The points of
all curves are measured in turn, in several rounds; a point is the median of its rounds. Where the
work grows in proportion to x, "expected" is proportional to x through the last point; where
it should not grow at all, it is flat. The picture is in the documentation, drawn from the file by
docs/pictures/growth.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
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


def peak() -> int:
    """Return the most bytes that this process has held, without mapped files."""
    text = Path("/proc/self/status").read_text()
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    resident = {name: int(fields[name].split()[0]) for name in ("VmHWM", "RssFile", "RssShmem")}
    return 1024 * (resident["VmHWM"] - resident["RssFile"] - resident["RssShmem"])


def worker(point: dict[str, Any]) -> None:
    """Train; rank 0 prints the seconds of the second epoch and the bytes at the peak."""
    if point["ranks"] > 1 or point["bound"]:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(os.environ.get("PMI_RANK", "0")) % len(cores)]})
    import numpy as np

    import nnxp

    world = nnxp.distributed.world()
    network = nnxp.MLP([point["features"], point["width"], 10], backend="numpy")
    warm = np.zeros((2 * BATCH, point["features"]), np.float32)
    nnxp.train(network, warm, np.arange(2 * BATCH) % 10, epochs=1, batch_size=BATCH)
    before = peak()
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
    if world.rank == 0:
        print(json.dumps([history.epochs[-1].seconds, max(0, peak() - before)]))


def measure(point: dict[str, Any]) -> list[float]:
    """Measure one point in a process of its own, or several."""
    environment = dict(os.environ)
    for variable in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        environment.pop(variable, None)
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

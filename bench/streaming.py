"""Trains on data larger than memory, and on data in memory: the ratio of times, and the memory.

    python bench/streaming.py --gigabytes 20 --folder /large/disk   # half an hour
    python bench/streaming.py --quick                               # 20 MB: that it runs

It makes an npy file of random features and measures what the disk allows: the rate of blocks of
rows, and of rows at random, each after the file has left the system's cache. Then, each in a
process of its own and the cache empty before:

- "whole": features are standardised, a small network trains on four fifths of the rows, by blocks,
  for one epoch, and is evaluated on the others. The memory is the most that the process took, less
  what it took before it opened the data.
- In turn, for some seconds each, a network trains with the same steps on a part of the rows in
  memory ("memory"), and on the file, shuffled by blocks ("blocks") and exactly ("rows").

A ratio is the time of a sample over that in memory of the same round. Where the disk alone takes
longer than the steps, no program could be faster: the table has that ratio, too.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import arguments
import numpy as np

import nnxp
from nnxp import datasets
from nnxp.data import sources

FEATURES, CLASSES, BATCH = 784, 10, 128
ROW_BYTES = 4 * FEATURES
HIDDEN = {"small": (128,), "wide": (512, 512)}
"""The hidden layers of each network: a small one waits for disks that a wide one does not."""
PART_BYTES = 1e9
"""The part of the features that is in memory."""
WAYS = ("memory", "blocks", "rows")


def make(folder: Path, rows: int) -> None:
    """Write x.npy, (rows, 784), float32, and y.npy; drop them from the system's cache."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((8192, FEATURES), dtype=np.float32)
    directions = rng.standard_normal((CLASSES, FEATURES), dtype=np.float32)
    y = rng.integers(0, CLASSES, rows)
    np.save(folder / "y.npy", y)
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (rows, FEATURES))
    header = x.offset
    del x
    with open(folder / "x.npy", "r+b") as file:
        file.seek(header)
        for start in range(0, rows, len(noise)):
            labels = y[start : start + len(noise)]
            turned = np.roll(noise, start // len(noise), axis=1)[: len(labels)]
            file.write((turned + 0.1 * directions[labels]).tobytes())
        file.flush()
        os.fsync(file.fileno())


def forget(path: Path) -> None:
    """Drop a file from the system's cache, where the system can be asked to."""
    if hasattr(os, "posix_fadvise"):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def disk(path: Path, seconds: float) -> dict[str, float]:
    """Return the rows a second that the disk has in blocks at random, and at random."""
    source = datasets.npy_files.open_rows(path)
    rng, found = np.random.default_rng(1), {}
    blocks = source.in_blocks().blocks
    assert blocks is not None
    forget(path)
    rows, start = 0, time.perf_counter()
    for block in rng.permutation(len(blocks.bounds) - 1):
        rows += len(source.read(*map(int, blocks.bounds[block : block + 2])))
        if time.perf_counter() > start + seconds:
            break
    found["blocks"] = rows / (time.perf_counter() - start)
    forget(path)
    rows, start = 0, time.perf_counter()
    while time.perf_counter() < start + seconds and rows < len(source):
        chosen = rng.integers(0, len(source), 4096)
        rows += len(source[chosen])
    found["rows"] = rows / (time.perf_counter() - start)
    return found


def peak() -> int:
    """Return the most bytes of memory that this process has had."""
    status = Path("/proc/self/status")
    if status.exists():  # what `resource` says counts the parent's memory, too
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class _Enough(Exception):
    """Ends a training after some seconds."""


def whole(folder: Path, hidden: tuple[int, ...]) -> dict[str, Any]:
    """Load, train for an epoch and evaluate; return the seconds of each and the memory."""
    network = nnxp.MLP([FEATURES, *hidden, CLASSES], backend="numpy", device="cpu")
    before, start = peak(), time.perf_counter()
    data = datasets.load(folder / "x.npy", targets_file=folder / "y.npy", stream=True)
    loaded = time.perf_counter()
    history = nnxp.train(
        network, data.x, data.y, epochs=1, batch_size=BATCH, optimizer=nnxp.SGD(0.01),
        shuffle="blocks",
    )  # fmt: skip
    trained = time.perf_counter()
    figures = network.evaluate(data.x_test, data.y_test)
    return {
        "standardise": loaded - start,
        "train": trained - loaded,
        "evaluate": time.perf_counter() - trained,
        "bytes": peak() - before,
        "bytes before": before,
        "loss": history.epochs[-1].loss,
        "test accuracy": figures["accuracy"],
    }


def speed(
    folder: Path, way: str, hidden: tuple[int, ...], seconds: float, threads: int | None
) -> dict[str, Any]:
    """Train in one of `WAYS` for some seconds after the first chunk; return samples a second."""
    backend = nnxp.backends.get("numpy", "cpu", threads=threads)
    network = nnxp.MLP([FEATURES, *hidden, CLASSES], backend=backend)
    source = datasets.npy_files.open_rows(folder / "x.npy")
    y = np.load(folder / "y.npy")
    x: Any = source
    if way == "memory":
        part = min(len(y), max(BATCH, int(PART_BYTES / ROW_BYTES)))
        x, y = source[:part], y[:part]
    before, passed = peak(), [(0, 0.0)]

    def progress(samples: int) -> None:
        passed.append((passed[-1][0] + samples, time.perf_counter()))
        if passed[-1][1] > passed[1][1] + seconds:
            raise _Enough

    with suppress(_Enough):
        nnxp.train(
            network, x, y, epochs=1000, batch_size=BATCH, optimizer=nnxp.SGD(0.01),
            shuffle="blocks" if way == "blocks" else True, assume_finite=True, progress=progress,
        )  # fmt: skip
    (first, start), (last, end) = passed[1], passed[-1]
    return {"way": way, "samples": last - first, "seconds": end - start, "bytes": peak() - before}


def child(folder: Path, *arguments: str) -> dict[str, Any]:
    """Do `whole` or `speed` in a process of its own, the files not in the cache before."""
    for name in ("x.npy", "y.npy"):
        forget(folder / name)
    command = [sys.executable, __file__, "--child", str(folder), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(found: dict[str, Any]) -> str:
    """Return the speeds as a Markdown table."""
    lines = [
        "| network | order | samples/s | time over that in memory | the disk alone | memory, MB |",
        "|---|---|---|---|---|---|",
    ]
    for network in dict.fromkeys(run["network"] for run in found["runs"]):
        runs = [run for run in found["runs"] if run["network"] == network]
        rates = {
            way: [run["samples"] / run["seconds"] for run in runs if run["way"] == way]
            for way in WAYS
        }
        for way in WAYS:
            ratios = [base / rate for base, rate in zip(rates["memory"], rates[way], strict=True)]
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            memory = statistics.median(rates["memory"])
            alone = "" if way == "memory" else f"{memory / found['disk'][way]:.2f}"
            most = max(run["bytes"] for run in runs if run["way"] == way) / 1e6
            lines.append(
                f"| {network} | {way} | {statistics.median(rates[way]):,.0f} | "
                f"{'1' if way == 'memory' else spread} | {alone} | {most:,.0f} |"
            )
    return "\n".join(lines)


def main() -> int:
    """Print what the disk allows and the table; write the figures where `--output` says."""
    parser = arguments.parser(__doc__, "output", "quick", repeat=3)
    parser.add_argument("--threads", type=int, help="of the steps; default: NumPy's own choice")
    parser.add_argument("--gigabytes", type=float, default=20.0, help="of features")
    parser.add_argument(
        "--folder", type=Path, default=None, help="for the data, deleted at the end"
    )
    chosen = parser.parse_args()
    size, repeat, seconds = chosen.gigabytes, chosen.repeat, 20.0
    if chosen.quick:
        size, repeat, seconds = 0.02, 1, 0.1
    rows = int(size * 1e9 / ROW_BYTES)
    folder = Path(tempfile.mkdtemp(prefix="nnxp-streaming-", dir=chosen.folder))
    try:
        free = shutil.disk_usage(folder).free
        if free < 1.1 * size * 1e9:
            raise nnxp.InputError(f"{folder}: {free / 1e9:.0f} GB free, {1.1 * size:g} wanted")
        make(folder, rows)
        found: dict[str, Any] = {
            "date": datetime.date.today().isoformat(),
            "machine": f"{nnxp.reports.processor()}, {os.cpu_count()} CPUs, {platform.platform()}",
            "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "versions": {"nnxp": nnxp.__version__, "numpy": np.__version__},
            "gigabytes": size,
            "threads": chosen.threads,
            "buffer": sources.BUFFER_BYTES,
            "disk": disk(folder / "x.npy", seconds / 2),
            "runs": [],
        }
        for way, rate in found["disk"].items():
            print(
                f"disk, {way}: {rate:,.0f} rows/s, {rate * ROW_BYTES / 1e6:,.0f} MB/s", flush=True
            )
        threads = str(chosen.threads or 0)
        found["whole"] = child(folder, "whole", "small")
        print(json.dumps(found["whole"]), flush=True)
        for _ in range(repeat):
            for network in HIDDEN:
                for way in WAYS:
                    run = child(folder, "speed", network, way, str(seconds), threads) | {
                        "network": network
                    }
                    found["runs"].append(run)
                    print(json.dumps(run), flush=True)
    finally:
        shutil.rmtree(folder)
    print(f"\n{table(found)}")
    if not np.isfinite(found["whole"]["loss"]):
        raise nnxp.DivergenceError("the loss is not finite")
    if chosen.output:
        chosen.output.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        where, what, name, *rest = sys.argv[2:]
        if what == "whole":
            figures = whole(Path(where), HIDDEN[name])
        else:
            way, seconds, threads = rest[0], float(rest[1]), int(rest[2]) or None
            figures = speed(Path(where), way, HIDDEN[name], seconds, threads)
        print(json.dumps(figures))
    else:
        arguments.run(main)

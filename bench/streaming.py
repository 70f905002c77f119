"""Trains on data larger than memory, and on data in memory: the ratio of times, and the memory.

    python bench/streaming.py --gigabytes 20 --folder /large/disk   # an hour at most
    python bench/streaming.py --quick                               # 20 MB: that it runs

It makes an npy file of random features and measures what the disk allows: the rate of blocks of
rows, and of rows at random, each after the file has left the system's cache. Then, in turn and each
in a process of its own, a network trains with the same steps

- on a part of the rows in memory, again and again, as many rows as the others ("memory");
- on the file, shuffled by blocks ("blocks") and exactly ("rows"), the cache empty before.

A ratio is the time of an epoch over that of as many rows in memory of the same round. If the disk
takes longer than the steps, it is the disk's: the table has the least time that its rate allows. The
memory is the most that a process took, less what it took before it opened the data.
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


def run(folder: Path, way: str, hidden: tuple[int, ...], rows: int, part: int) -> dict[str, Any]:
    """Train for `rows` rows in one of `WAYS`; return seconds, memory and the last loss."""
    before = peak()
    start = time.perf_counter()
    network = nnxp.MLP([FEATURES, *hidden, CLASSES], backend="numpy", device="cpu")
    data = datasets.load(
        folder / "x.npy", targets_file=folder / "y.npy", test_share=0.0, stream=True
    )
    opened = time.perf_counter() - start
    x, y, epochs = data.x, data.y, 1
    if way == "memory":
        epochs, x, y = max(1, round(rows / part)), x[:part], y[:part]
    history = nnxp.train(
        network, x, y, epochs=epochs, batch_size=BATCH, optimizer=nnxp.SGD(0.01),
        shuffle="blocks" if way == "blocks" else True,
    )  # fmt: skip
    seconds = sum(epoch.seconds for epoch in history.epochs)
    return {
        "way": way,
        "seconds": seconds,
        "rows": epochs * len(x),
        "seconds to open": opened,
        "bytes": peak() - before,
        "bytes before": before,
        "loss": history.epochs[-1].loss,
    }


def measured(folder: Path, way: str, network: str, rows: int, part: int) -> dict[str, Any]:
    """Do `run` in a process of its own, the files not in the cache before."""
    for name in ("x.npy", "y.npy"):
        forget(folder / name)
    command = [sys.executable, __file__, "--child", str(folder), way, network, str(rows), str(part)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1]) | {"network": network}


def table(found: dict[str, Any]) -> str:
    """Return the runs as a Markdown table."""
    lines = [
        "| network | order | samples/s | time over that in memory | the disk alone | "
        "memory, MB | to open, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for network in dict.fromkeys(run["network"] for run in found["runs"]):
        runs = [run for run in found["runs"] if run["network"] == network]
        rates = {
            way: [run["rows"] / run["seconds"] for run in runs if run["way"] == way] for way in WAYS
        }
        for way in WAYS:
            if not rates[way]:
                continue
            ratios = [base / rate for base, rate in zip(rates["memory"], rates[way], strict=False)]
            memory = statistics.median(rates["memory"])
            alone = f"{memory / found['disk'][way]:.2f}" if way in found["disk"] else ""
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            ours = [run for run in runs if run["way"] == way]
            most = max(run["bytes"] for run in ours) / 1e6
            opened = statistics.median(run["seconds to open"] for run in ours)
            lines.append(
                f"| {network} | {way} | {statistics.median(rates[way]):,.0f} | "
                f"{'1' if way == 'memory' else spread} | {alone} | {most:,.0f} | {opened:.0f} |"
            )
    return "\n".join(lines)


def main() -> int:
    """Print what the disk allows and the table; write the figures where `--output` says."""
    parser = arguments.parser(__doc__, "output", "quick", repeat=2)
    parser.add_argument("--gigabytes", type=float, default=20.0, help="of features")
    parser.add_argument("--folder", type=Path, default=None, help="for the data, deleted at the end")
    parser.add_argument("--networks", default=",".join(HIDDEN), help="separated by commas")
    parser.add_argument("--ways", default=",".join(WAYS), help="separated by commas")
    chosen = parser.parse_args()
    size, repeat = (0.02, 1) if chosen.quick else (chosen.gigabytes, chosen.repeat)
    rows = int(size * 1e9 / ROW_BYTES)
    part = min(rows, max(BATCH, int(min(1e9, size * 5e8) / ROW_BYTES)))
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
            "buffer": sources.BUFFER_BYTES,
            "disk": disk(folder / "x.npy", 0.2 if chosen.quick else 10.0),
            "runs": [],
        }
        for way, rate in found["disk"].items():
            print(f"disk, {way}: {rate:,.0f} rows/s, {rate * ROW_BYTES / 1e6:,.0f} MB/s", flush=True)
        for _ in range(repeat):
            for network in chosen.networks.split(","):
                for way in chosen.ways.split(","):
                    found["runs"].append(measured(folder, way, network, rows, part))
                    print(json.dumps(found["runs"][-1]), flush=True)
    finally:
        shutil.rmtree(folder)
    print(f"\n{table(found)}")
    losses = {run["network"]: [] for run in found["runs"]}
    for each in found["runs"]:
        losses[each["network"]].append(each["loss"])
    if not all(np.isfinite(each).all() for each in losses.values()):
        raise nnxp.DivergenceError(f"a loss is not finite: {losses}")
    if chosen.output:
        chosen.output.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        where, way, name, count, held = sys.argv[2:]
        print(json.dumps(run(Path(where), way, HIDDEN[name], int(count), int(held))))
    else:
        arguments.run(main)

"""Runs all tests and measurements on a GPU, part by part, each with a time limit; see `ci/gpu`.

    python bench/gpu.py --output gpu-results               # eight minutes, writes into bench/ too
    python bench/gpu.py --output /tmp/trial --dry-run cpu  # smoke size, writes there only

A part that fails or takes too long does not stop the others. At the end the measurements are
assembled, whatever is missing; the summary has a line for each part that failed and each library
that is not installed, and the exit status is then 1.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from report.assemble import assemble

from nnxp.benchmark.process import Process
from nnxp.errors import first_line

ROOT = Path(__file__).parent.parent
SECONDS = 480.0
"""Time limit of everything."""
_LAST = 15.0
"""Seconds of these that are reserved to assemble the report."""
LIBRARIES = ("cupy", "torch", "jax")
PEERS = {
    "pytorch": "torch",
    "pytorch_compiled": "torch",
    "pytorch_cuda_graph": "torch",
    "jax_jit": "jax",
    "jax_scan": "jax",
}
"""The peers and their libraries."""
_ON_CUDA = ("kernels", "network", "training", "optimizers", "graph")
"""The test modules that NNXP_TEST_DEVICE moves to the GPU."""
_PATIENCE = 10.0
"""Seconds between an interrupt and SIGKILL."""
_ENVIRONMENT = {
    "MPLBACKEND": "agg",
    "PYTHONUNBUFFERED": "1",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # several share the GPU
}
"""Environment variables of every part, unless they are already set."""
for _folder in (ROOT.parent / "shared" / "data", ROOT / "shared" / "data"):
    if (_folder / "mnist").is_dir():
        _ENVIRONMENT["NNXP_DATA_DIR"] = str(_folder)


@dataclass(frozen=True)
class Part:
    """A command and its time limit in seconds."""

    name: str
    seconds: float
    command: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)


def parts(work: Path, dry_run: str = "", libraries: Sequence[str] = LIBRARIES) -> list[Part]:
    """Return the parts, which write their measurements into a folder.

    Args:
        work: the folder.
        dry_run: "cpu" or "cuda" to run the same there at smoke size, with few tests.
        libraries: those of `LIBRARIES` that are measured.
    """
    python, device = sys.executable, dry_run or "cuda"
    libraries = [name for name in libraries if (name, device) != ("cupy", "cpu")]
    names = ",".join(libraries) or "numpy"
    ours = ("--backends", names.replace("cupy", "cupy:eager,cupy:graph"))
    peers = ("--peers", ",".join(peer for peer, name in PEERS.items() if name in libraries))
    # Only PyTorch's profiler counts what is no graph of CuPy.
    counted = (
        (*ours, *peers) if "torch" in libraries else ("--backends", "cupy:graph", "--peers", "")
    )
    tiny = ("--workload", "tiny") if dry_run else ()
    rounds = ("--repeat", "5", "--min-seconds", "0.1", "--pause", "0.05", "--timeout", "60")

    def bench(name: str, seconds: float, *options: str) -> Part:
        smoke = ["--quick"] if dry_run else []
        command = [python, f"bench/{name}.py", "--device", device, *options, *smoke]
        return Part(name, 600 if dry_run else seconds, command)

    def to(name: str) -> tuple[str, str]:
        return "--output", str(work / name)

    def within(seconds: float) -> tuple[str, str]:
        """Give the part a budget just below its time limit, so that it ends by itself."""
        return "--budget", str(0.97 * (600 if dry_run else seconds))

    return [
        *([] if dry_run else [Part("driver", 5, ["nvidia-smi"])]),
        Part("backends", 20, [python, "-m", "nnxp", "backends"]),
        *(_few_tests(device, libraries) if dry_run else _tests(libraries)),
        bench("ceilings", 20, "--libraries", names, *to("ceilings.json")),
        bench(
            "compare", 180, *ours, *peers, *tiny, *rounds, "--together", *within(180),
            *to("compared"),
        ),
        bench(
            "batch_sizes", 40, "--backends", names, "--peers", "", *within(40), *to("sweep.json"),
        ),
        bench("kernels", 20, *counted, *tiny, *within(20), *to("kernels.json")),
        bench("mnist", 25, "--backends", f"{names},numpy", *to("mnist.json")),
    ]  # fmt: skip


_PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]


def _tests(libraries: Sequence[str]) -> list[Part]:
    pytest = [*_PYTEST, *(["-n", str(min(8, os.cpu_count() or 8))] if find_spec("xdist") else [])]
    found = []
    if "cupy" in libraries:
        # All tests except the dry run of this script.
        whole = [*pytest, "-m", "slow or not slow", "-k", "not dry_run"]
        found.append(Part("tests-cupy", 100, whole, {"NNXP_REQUIRE": "cupy"}))
    others = [name for name in libraries if name != "cupy"]
    if others:
        files = [f"tests/test_{name}.py" for name in _ON_CUDA]
        environment = {"NNXP_REQUIRE": ",".join(others), "NNXP_TEST_DEVICE": "cuda"}
        found.append(
            Part("tests-others", 35, [*pytest, "-k", " or ".join(others), *files], environment)
        )
    return found


def _few_tests(device: str, libraries: Sequence[str]) -> list[Part]:
    environment = {"NNXP_REQUIRE": ",".join(libraries), "NNXP_TEST_DEVICE": device}
    few = f"({' or '.join(libraries) or 'numpy'}) and formulas"
    command = [*_PYTEST, "-k", few, "tests/test_optimizers.py"]
    return [Part("tests", 600, command, environment)]


def run(part: Part, seconds: float, log: Callable[[str], Any]) -> str | None:
    """Run one part and log its output; return what went wrong, or None."""
    environment = _ENVIRONMENT | os.environ | part.environment
    last = ""

    def on_line(line: str) -> None:
        nonlocal last
        last = line.strip() or last
        log(line)

    try:
        process = Process(part.command, on_line, folder=ROOT, environment=environment)
    except OSError as error:
        return f"{part.command[0]} cannot be started: {error.strerror}"
    with process:
        if not process.wait(seconds):
            process.interrupt()  # the part ends the processes that it started
            process.wait(_PATIENCE)
            return f"took more than {seconds:.0f} seconds"
    if not process.status:
        return None
    # A part that fails says why in its last line.
    return f"exit status {process.status}" + (f": {last}" if last else "")


def run_all(todo: Sequence[Part], seconds: float, log: Callable[[str], Any]) -> list[str]:
    """Run the parts in turn, within `seconds` altogether; return a line for each failed part."""
    start, failed = time.monotonic(), []
    for part in todo:
        begun = time.monotonic()
        left = seconds - (begun - start)
        log(f"\n== {part.name}\n")
        problem = run(part, min(part.seconds, left), log) if left >= 1 else "there was no time left"
        log(f"== {part.name}: {problem or 'ok'}, {time.monotonic() - begun:.0f} s\n")
        if problem:
            failed.append(f"{part.name}: {problem}")
    return failed


def main() -> int:
    """Run all parts and assemble the report; return 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("gpu-results"), help="folder")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="time limit of everything")
    parser.add_argument(
        "--libraries", default=",".join(LIBRARIES), help="those to measure, separated by commas"
    )
    parser.add_argument(
        "--dry-run", choices=("cpu", "cuda"), default="", help="smoke size; writes to --output only"
    )
    chosen = parser.parse_args()
    # A shell starts background jobs with SIGINT ignored, and children would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    libraries = [name for name in LIBRARIES if name in chosen.libraries.split(",")]
    if chosen.dry_run == "cpu":
        libraries.remove("cupy")
    chosen.output.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as name,
        open(chosen.output / "log.txt", "w", encoding="utf-8") as file,
    ):

        def log(text: str) -> None:
            for stream in (sys.stdout, file):
                stream.write(text)
                stream.flush()

        work = Path(name)
        seconds = 3600.0 if chosen.dry_run else chosen.seconds - _LAST
        missing = [name for name in libraries if find_spec(name) is None]
        present = [name for name in libraries if name not in missing]
        failed = run_all(parts(work, chosen.dry_run, present), seconds, log)
        failed += [
            f"{name} is not installed: its tests and measurements were left out" for name in missing
        ]
        try:
            log("\n== results\n" + assemble(work, chosen.output, publish=not chosen.dry_run))
        except Exception as error:  # parts may be missing or incomplete
            failed.append(f"results: {type(error).__name__}: {first_line(error)}")
        summary = f"failed or left out: {len(failed)}" if failed else "all is well"
        log("\n".join(["", *failed, summary, ""]))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())

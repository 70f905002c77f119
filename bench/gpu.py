"""Everything that is done on a GPU, part by part, each in its own time: what `ci/gpu` runs.

    python bench/gpu.py --output gpu-results            # some eight minutes, writes into bench/ too
    python bench/gpu.py --output /tmp/trial --dry-run   # on a CPU, smoke size, writes there alone

A part that fails or takes too long does not stop the others. What was measured is put together at
the end, whatever is missing; the summary says which parts failed, and the exit status is 1 then.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from put_together import put_together

from nnxp.errors import first_line

ROOT = Path(__file__).parent.parent
SECONDS = 480.0
"""For everything."""
_LAST = 15.0
"""Kept of them for putting together."""
PEERS = "pytorch,pytorch_compiled,pytorch_cuda_graph,jax_jit,jax_scan"
_ON_CUDA = ("kernels", "network", "training", "optimizers", "graph")
"""The tests that NNXP_TEST_DEVICE moves to the GPU."""
_PATIENCE = 10.0
"""Seconds between an interrupt and the end."""
_ENVIRONMENT = {
    "MPLBACKEND": "agg",
    "PYTHONUNBUFFERED": "1",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # several share the GPU
}
"""Of every part, where nothing else is set."""
for _folder in (ROOT.parent / "shared" / "data", ROOT / "shared" / "data"):
    if (_folder / "mnist").is_dir():
        _ENVIRONMENT["NNXP_DATA_DIR"] = str(_folder)


@dataclass(frozen=True)
class Part:
    """A command, and how many seconds it may take."""

    name: str
    seconds: float
    command: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)


def parts(work: Path, dry_run: bool) -> list[Part]:
    """What there is to do; what is measured goes into the folder.

    Args:
        work: the folder.
        dry_run: the same on a CPU at smoke size; instead of all tests, some that take no time.
    """
    python, device = sys.executable, "cpu" if dry_run else "cuda"
    libraries = "torch,jax" if dry_run else "cupy,torch,jax"
    ours = ("--backends", "torch" if dry_run else "cupy:eager,cupy:graph,torch,jax")
    peers = ("--peers", "pytorch,jax_scan" if dry_run else PEERS)
    tiny = ("--workload", "tiny") if dry_run else ()
    rounds = ("--repeat", "5", "--min-seconds", "0.1", "--pause", "0.05", "--timeout", "60")

    def bench(name: str, seconds: float, *options: str) -> Part:
        smoke = ["--quick"] if dry_run else []
        command = [python, f"bench/{name}.py", "--device", device, *options, *smoke]
        return Part(name, 600 if dry_run else seconds, command)

    def to(name: str) -> tuple[str, str]:
        return "--output", str(work / name)

    def within(seconds: float) -> tuple[str, str]:
        """A little less than what the part is given, so that it ends by itself."""
        return "--budget", str(0.97 * (600 if dry_run else seconds))

    return [
        *([] if dry_run else [Part("driver", 5, ["nvidia-smi"])]),
        Part("backends", 20, [python, "-m", "nnxp", "backends"]),
        *_tests(dry_run),
        bench("digits", 20, "--backends", libraries),
        bench("ceilings", 20, "--libraries", libraries, *to("ceilings.json")),
        bench(
            "compare", 180, *ours, *peers, *tiny, *rounds, "--together", *within(180),
            *to("compared"),
        ),
        bench(
            "batch_sizes", 40, "--backends", libraries, "--peers", "", *within(40),
            *to("sweep.json"),
        ),
        bench("kernels", 20, *ours, *peers, *tiny, *within(20), *to("kernels.json")),
        bench("mnist", 25, "--backends", f"{libraries},numpy", *to("mnist.json")),
    ]  # fmt: skip


def _tests(dry_run: bool) -> list[Part]:
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    if dry_run:
        return [Part("tests", 600, [*pytest, "tests/test_schedules.py"])]
    pytest += ["-n", "8"] if find_spec("xdist") else []
    files = [f"tests/test_{name}.py" for name in _ON_CUDA]
    others = {"NNXP_REQUIRE": "torch,jax", "NNXP_TEST_DEVICE": "cuda"}
    # All but the one that rehearses all this.
    whole = [*pytest, "-m", "slow or not slow", "-k", "not dry_run"]
    return [
        Part("tests-cupy", 100, whole, {"NNXP_REQUIRE": "cupy"}),
        Part("tests-others", 35, [*pytest, "-k", "torch or jax", *files], others),
    ]


def run(part: Part, seconds: float, log: Callable[[str], Any]) -> str | None:
    """Run one part, and pass on what it prints; what went wrong, None if nothing did."""
    process = subprocess.Popen(
        part.command,
        cwd=ROOT,
        env=_ENVIRONMENT | os.environ | part.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # so that what it starts can be stopped with it
    )

    def pass_on() -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                log(line)

    reader = threading.Thread(target=pass_on, daemon=True)
    reader.start()
    problem = None
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        problem = f"took more than {seconds:.0f} seconds"
        _signal(process, signal.SIGINT)  # so that it can end what it started
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)
    finally:
        _signal(process, signal.SIGKILL)
        process.wait()
    reader.join(1.0)  # not for ever: who left the session may hold the pipe
    return problem or (f"exit status {process.returncode}" if process.returncode else None)


def _signal(process: subprocess.Popen[str], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def run_all(todo: Sequence[Part], seconds: float, log: Callable[[str], Any]) -> list[str]:
    """Run them in turn, in so many seconds altogether; a line on each of those that failed."""
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
    """Run everything and put it together; 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("gpu-results"), help="folder")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for everything")
    parser.add_argument("--dry-run", action="store_true", help="on a CPU; writes to --output alone")
    chosen = parser.parse_args()
    # Where a shell started this in the background, interrupts would be ignored, here and below.
    signal.signal(signal.SIGINT, signal.default_int_handler)
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
        failed = run_all(parts(work, chosen.dry_run), seconds, log)
        try:
            log("\n== results\n" + put_together(work, chosen.output, publish=not chosen.dry_run))
        except Exception as error:  # of parts that are missing or cut short
            failed.append(f"results: {type(error).__name__}: {first_line(error)}")
        log(
            "\n".join(["", *failed, f"{len(failed)} parts failed" if failed else "all is well", ""])
        )
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())

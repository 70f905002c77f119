"""Times contenders against each other: a process each, in turn, again and again."""

from __future__ import annotations

import json
import math
import os
import queue
import signal
import statistics
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from nnxp.benchmark.workloads import Workload

TOLERANCE = 1e-4
"""By how much of the reference's loss another may differ from it."""
TF32_TOLERANCE = 1e-3
"""The same where one of the two computes in TF32. Its products, imitated on a CPU with the last 13
bits of every operand cut off, moved the losses of `tiny` to `wide` by up to 1e-4."""
_PAUSE = 0.2
"""Seconds between two contenders: the threads of the last may spin for so long when it is done."""


@dataclass(frozen=True)
class Entry:
    """Who takes part.

    Args:
        name: what the tables call it.
        contender: its class, "module:Class", which a process that has this one's `sys.path` can
            import.
        device: where it trains; None for its own choice.
        options: what the class takes besides workload and device.
    """

    name: str
    contender: str
    device: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Spread:
    """Repeats of one figure."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """None of no values."""
        return cls(statistics.median(values), min(values), max(values)) if values else None


@dataclass
class Result:
    """What one contender came to on one workload. Lists have an item per round."""

    name: str
    workload: str
    batch_size: int
    verdict: str = ""
    """Of its loss: "reference", "equal", "wrong", or "not comparable" where its initial
    parameters cannot be set or none has them set; "" without a loss."""
    problem: str | None = None
    """Why there are no times; None where there are."""
    note: str = ""
    comparable: bool = True
    """Whether its initial parameters could be set."""
    loss: float | None = None
    """After `steps` steps, on the data's first rows; see `nnxp.benchmark.judge`."""
    steps: int | None = None
    build_seconds: float | None = None
    """Importing the library and moving the data."""
    compile_seconds: float | None = None
    """The first chunk, less what a later one takes."""
    host_bytes: int | None = None
    """At most in use while training, beyond data, parameters and optimizer state."""
    device_bytes: int | None = None
    syncs: int | None = None
    """Reads by the host a chunk; see `nnxp.benchmark.syncs`."""
    describe: dict[str, Any] = field(default_factory=dict)
    step_seconds: list[float] = field(default_factory=list)
    floor_seconds: list[float] = field(default_factory=list)
    """Of a step's bare matrix products, in the same library."""
    ratios: list[float] = field(default_factory=list)
    """Samples per second, to the reference's in the same round."""

    @property
    def samples_per_second(self) -> Spread | None:
        return Spread.of([self.batch_size / seconds for seconds in self.step_seconds])

    @property
    def step(self) -> Spread | None:
        """Seconds a step."""
        return Spread.of(self.step_seconds)

    @property
    def ratio(self) -> Spread | None:
        """Of its samples per second to the reference's: above 1 is faster."""
        return Spread.of(self.ratios)

    @property
    def floor(self) -> Spread | None:
        """Seconds that the bare matrix products of a step take."""
        return Spread.of(self.floor_seconds)

    @property
    def step_to_floor(self) -> Spread | None:
        pairs = zip(self.step_seconds, self.floor_seconds, strict=False)
        return Spread.of([step / floor for step, floor in pairs])

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON: a loss that is no number is None."""
        spreads = {
            name: spread and asdict(spread)
            for name in ("samples_per_second", "step", "ratio", "floor", "step_to_floor")
            for spread in (getattr(self, name),)
        }
        finite = self.loss is not None and math.isfinite(self.loss)
        return asdict(self) | spreads | {"loss": self.loss if finite else None}


def measure(
    workload: Workload,
    entries: Iterable[Entry],
    *,
    repeat: int = 7,
    min_seconds: float = 0.3,
    steps: int = 100,
    floor: bool = True,
    timeout: float = 600.0,
    pause: float = _PAUSE,
    together: bool = False,
    progress: Callable[[str], Any] = lambda text: None,
) -> list[Result]:
    """Train a workload by each contender, compare their losses, and time them.

    All are started, one after the other or together, before any is timed. Then come `repeat`
    rounds, in each of which every contender is timed once while the others wait: what disturbs the
    machine for a while disturbs all of them.

    Args:
        workload: what to train.
        entries: who takes part; their names differ. Losses and times are compared with the first
            that starts, and whose initial parameters are the workload's.
        repeat: rounds.
        min_seconds: that a contender trains in a round, about; at least one chunk.
        steps: trained before the losses are compared.
        floor: whether to time the bare matrix products too.
        timeout: seconds after which a contender that does not answer is given up.
        pause: seconds between two contenders.
        together: start all at once, which is sooner done where there are cores enough; what they
            took to build and to compile is then measured in company.
        progress: called with what is about to be done.

    Returns:
        One result per entry, in their order. Whoever cannot start, does not answer or learns
        something else than the reference has no times, but a `problem`.
    """
    entries = list(entries)
    results = {
        entry.name: Result(entry.name, workload.name, workload.batch_size) for entry in entries
    }
    with ExitStack() as stack:

        def start(entry: Entry) -> _Worker:
            spec = {
                "contender": entry.contender,
                "options": entry.options,
                "workload": asdict(workload),
                "device": entry.device,
                "min_seconds": min_seconds,
                "steps": steps,
            }
            worker = _Worker(spec, timeout)
            stack.callback(worker.stop)
            return worker

        started = {entry.name: start(entry) for entry in entries if together}
        workers: dict[str, _Worker] = {}
        for entry in entries:
            progress(f"{workload.name}: starting {entry.name}")
            worker = started.get(entry.name) or start(entry)
            answers = _attempt(results[entry.name], worker, _introduce)
            if answers is not None:
                vars(results[entry.name]).update(answers)
                workers[entry.name] = worker
        reference = _compare(list(results.values()))
        for name in [name for name in workers if results[name].problem]:
            workers.pop(name).stop()
        for turn in range(repeat):
            names = list(workers)
            for name in names[turn % len(names) :] + names[: turn % len(names)] if names else []:
                progress(f"{workload.name}: {name}, round {turn + 1} of {repeat}")
                time.sleep(pause)
                result = results[name]
                seconds = _attempt(result, workers[name], lambda worker: _time(worker, floor))
                if seconds is None:
                    workers.pop(name)
                    result.step_seconds, result.floor_seconds = [], []
                else:
                    result.step_seconds += seconds[:1]
                    result.floor_seconds += seconds[1:]
    for result in results.values():
        pairs = zip(reference.step_seconds if reference else [], result.step_seconds, strict=False)
        result.ratios = [theirs / own for theirs, own in pairs]
    return list(results.values())


def _introduce(worker: _Worker) -> dict[str, Any]:
    """Everything but times. Memory first: counting and the floor take some of their own."""
    answers = worker.answer()
    return answers | worker.ask("memory") | worker.ask("syncs")


def _time(worker: _Worker, floor: bool) -> list[float]:
    """Seconds of a step and, where the contender has one, of its floor."""
    answers = [worker.ask("time")] + ([worker.ask("floor")] if floor else [])
    return [answer["seconds"] / answer["steps"] for answer in answers if answer]


def _attempt(result: Result, worker: _Worker, asks: Callable[[_Worker], Any]) -> Any:
    """What the worker answers; None, the problem noted and the worker stopped, if it fails."""
    try:
        return asks(worker)
    except _WorkerError as error:
        result.problem = str(error)
        worker.stop()
        return None


def _compare(results: list[Result]) -> Result | None:
    """Give every loss its verdict; the reference, or None where nobody can be it."""
    learnt = [result for result in results if result.loss is not None]
    reference = next((result for result in learnt if result.comparable), None)
    for result in learnt:
        assert result.loss is not None
        if reference is None or reference.loss is None or not result.comparable:
            result.verdict = "not comparable"
        elif result is reference:
            result.verdict = "reference"
        elif _equal(result, reference):
            result.verdict = "equal"
        else:
            result.verdict = "wrong"
            result.problem = (
                f"wrong: its loss after {result.steps} steps is {result.loss:.6g}, that of "
                f"{reference.name} {reference.loss:.6g}"
            )
    return reference


def _equal(result: Result, reference: Result) -> bool:
    """Whether the two learnt the same. A loss that is no number equals none."""
    assert result.loss is not None
    assert reference.loss is not None
    tf32 = result.describe.get("tf32") or reference.describe.get("tf32")
    tolerance = TF32_TOLERANCE if tf32 else TOLERANCE
    return abs(result.loss - reference.loss) <= tolerance * abs(reference.loss)


class _WorkerError(Exception):
    """Why there is no answer, in one line that a terminal can show, and not a page of it."""

    def __init__(self, text: str) -> None:
        plain = "".join(letter if letter.isprintable() else " " for letter in text)
        super().__init__(textwrap.shorten(plain, 500, placeholder=" ..."))


class _Worker:
    """The near end of a `nnxp.benchmark.worker`."""

    def __init__(self, spec: dict[str, Any], timeout: float) -> None:
        self.timeout = timeout
        self.chatter = tempfile.TemporaryFile()  # noqa: SIM115, closed by stop
        self.process = subprocess.Popen(
            # -P and this process's own path: what lies in the current folder is not imported.
            [sys.executable, "-P", "-m", "nnxp.benchmark.worker", json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.chatter,
            encoding="utf-8",
            env=_environment(),
            start_new_session=True,  # so that what it starts can be stopped with it
        )
        self.lines: queue.Queue[str] = queue.Queue()
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("")

    def ask(self, command: str) -> dict[str, Any]:
        """Send a command; its answer."""
        assert self.process.stdin is not None
        with suppress(OSError):  # it is dead, and `answer` says how
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """The next answer."""
        try:
            line = self.lines.get(timeout=self.timeout)
        except queue.Empty:
            raise _WorkerError(f"did not answer for {self.timeout:g} seconds") from None
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            raise _WorkerError(self._last_words(line)) from None
        if "error" in answer:
            raise _WorkerError(answer["error"])
        return answer

    def _last_words(self, line: str) -> str:
        """How it died, and the last line that it or a library of its left behind."""
        if line:
            return f"answered {line.strip()!r}, which is no JSON"
        status = self.process.wait()
        how = f"exit status {status}" if status >= 0 else signal.Signals(-status).name
        self.chatter.seek(0)
        chatter = self.chatter.read().decode(errors="replace").split("\n")
        last = next((text for text in reversed(chatter) if text.strip()), "")
        return f"died ({how})" + (f": {last}" if last else "")

    def stop(self) -> None:
        """End the process and whatever it started, at once; again does nothing."""
        if self.chatter.closed:
            return
        with suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()
        self.process.wait()
        self.listener.join()
        for pipe in (self.process.stdin, self.process.stdout, self.chatter):
            with suppress(OSError):  # what was on its way to a dead process
                pipe.close()  # type: ignore[union-attr]


def _environment() -> dict[str, str]:
    path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
    # Contenders share a GPU, of which JAX would else take three quarters for itself.
    return {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | os.environ | {"PYTHONPATH": path}

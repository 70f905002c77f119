"""Times contenders against each other: each in a process of its own, in turn, in several rounds."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from typing import Any

from nnxp import options
from nnxp.benchmark.contender import Entry
from nnxp.benchmark.process import AnswerError, AnsweringProcess
from nnxp.benchmark.workloads import Workload

TOLERANCE = 1e-4
"""Largest difference of a loss from the reference's, relative to the reference's."""
TF32_TOLERANCE = 1e-3
"""The same where one of the two computes in TF32. Its products, simulated on a CPU by clearing the
last 13 bits of every operand, changed the losses of `tiny` to `wide` by up to 1e-4."""
_START = 3.0
"""Seconds in which a contender imports its library, makes the data, moves it and compiles."""
_PAUSE = 0.2
"""Seconds between two contenders: the last one's threads may spin this long after it is done."""
QUICK: dict[str, Any] = {
    "repeat": 2, "min_seconds": 0.0, "steps": 8, "pause": 0.0, "again": False
}  # fmt: skip
"""Options of `measure` that show that everything runs, not how fast; see `Workload.quick`."""


@dataclass(frozen=True)
class Spread:
    """Median, minimum and maximum of one figure over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """Return the spread of some values; None if there are none."""
        return cls(statistics.median(values), min(values), max(values)) if values else None

    @property
    def disturbed(self) -> bool:
        """Whether the rounds differ more than twofold: another program took the processor."""
        return self.high > 2 * self.low


@dataclass
class Result:
    """The measurements of one contender on one workload. Lists have an item per round."""

    name: str
    workload: str
    batch_size: int
    verdict: str = ""
    """How the loss compares: "reference", "equal", "wrong", or "not comparable" where the initial
    parameters of this contender, or of all, cannot be set; "" without a loss."""
    problem: str | None = None
    """Why there are no times; None where there are."""
    missing: bool = False
    """Whether the contender's library is missing; `problem` says why."""
    repeated: str = ""
    """Why the rounds are those of a second measurement: `doubt` in the first; "" otherwise."""
    note: str = ""
    comparable: bool = True
    """Whether the contender starts from the workload's initial parameters."""
    loss: float | None = None
    """After `steps` steps, on the data's first rows; see `nnxp.benchmark.reference_loss`."""
    steps: int | None = None
    build_seconds: float | None = None
    """Time to import the library and move the data."""
    compile_seconds: float | None = None
    """Time of the first chunk minus that of a later one."""
    host_bytes: int | None = None
    """Peak memory in training, beyond data, parameters and optimizer state."""
    device_bytes: int | None = None
    describe: dict[str, Any] = field(default_factory=dict)
    step_seconds: list[float] = field(default_factory=list)
    floor_seconds: list[float] = field(default_factory=list)
    """Time of a step's bare matrix products, in the same library."""
    ratios: list[float] = field(default_factory=list)
    """Samples per second divided by the reference's in the same round."""

    @property
    def samples_per_second(self) -> Spread | None:
        return Spread.of([self.batch_size / seconds for seconds in self.step_seconds])

    @property
    def step(self) -> Spread | None:
        """Seconds per step."""
        return Spread.of(self.step_seconds)

    @property
    def ratio(self) -> Spread | None:
        """Samples per second divided by the reference's: above 1 is faster."""
        return Spread.of(self.ratios)

    @property
    def floor(self) -> Spread | None:
        """Seconds that the bare matrix products of a step take."""
        return Spread.of(self.floor_seconds)

    @property
    def step_to_floor(self) -> Spread | None:
        pairs = zip(self.step_seconds, self.floor_seconds, strict=False)
        return Spread.of([step / floor for step, floor in pairs])

    @property
    def doubt(self) -> str:
        """What is wrong with the times, as when another program took the processor; else ""."""
        reasons = []
        if self.step and self.step.disturbed:
            reasons.append(f"rounds that differ {self.step.high / self.step.low:.1f}-fold")
        if self.step_to_floor and self.step_to_floor.median < 1:
            reasons.append(f"steps faster than their floor ({self.step_to_floor.median:.2f})")
        return " and ".join(reasons)

    def set_times(self, rounds: list[list[float]], reference: list[list[float]] | None) -> None:
        """Set the times and, where there is a reference, the ratios.

        Args:
            rounds: for each round the seconds of a step and, where it was timed, of its floor.
            reference: the reference's in the same rounds.
        """
        self.step_seconds = [seconds[0] for seconds in rounds]
        self.floor_seconds = [seconds[1] for seconds in rounds if len(seconds) > 1]
        pairs = zip(reference or [], self.step_seconds, strict=False)
        self.ratios = [theirs[0] / own for theirs, own in pairs]

    def clear_times(self) -> None:
        """Remove the times of a contender that failed."""
        self.step_seconds, self.floor_seconds, self.ratios = [], [], []

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Result:
        """Restore what `to_dict` returned; fields that an older version did not have are empty."""
        return cls(**{each.name: stored[each.name] for each in fields(cls) if each.name in stored})

    def to_dict(self) -> dict[str, Any]:
        """Return all fields and spreads, for JSON: a loss that is not finite is None."""
        spreads = {
            name: spread and asdict(spread)
            for name in ("samples_per_second", "step", "ratio", "floor", "step_to_floor")
            for spread in (getattr(self, name),)
        }
        finite = self.loss is not None and math.isfinite(self.loss)
        return asdict(self) | spreads | {"loss": self.loss if finite else None}


@options.checked(
    repeat=options.whole(1),
    min_seconds=options.NOT_NEGATIVE,
    steps=options.whole(1),
    timeout=options.POSITIVE,
    pause=options.NOT_NEGATIVE,
)
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
    again: bool = True,
    progress: Callable[[str], Any] = lambda text: None,
) -> list[Result]:
    """Train a workload with each contender, compare their losses, and time them.

    All contenders start, one after the other or together, before any is timed. Then `repeat`
    rounds follow, in each of which every contender is timed once while the others wait, so that a
    disturbance of the machine affects all of them. A contender whose times are in `doubt` is timed
    in as many rounds again, once, beside the reference; if it is the reference, all are.

    Args:
        workload: what to train.
        entries: the contenders; their names differ. The first that starts, and whose initial
            parameters can be set, is the reference for losses and times.
        repeat: rounds.
        min_seconds: least training time of a contender in a round; at least one chunk.
        steps: steps before the losses are compared.
        floor: whether to time the bare matrix products too.
        timeout: seconds to wait for an answer before a contender is stopped.
        pause: seconds between two contenders.
        together: start all at once, which is faster where there are enough cores; their times to
            build and to compile then include the competition.
        again: whether times in doubt are measured again.
        progress: called with a description of each next step.

    Returns:
        One result per entry, in their order. A contender that fails, hangs or disagrees gets
        `problem` and no times.

    Raises:
        InputError: an option has a wrong value.
    """
    entries = list(entries)
    results = {
        entry.name: Result(entry.name, workload.name, workload.batch_size) for entry in entries
    }
    with ExitStack() as stack:

        def start(entry: Entry) -> AnsweringProcess:
            spec = {
                "entry": asdict(entry),
                "workload": asdict(workload),
                "min_seconds": min_seconds,
                "steps": steps,
            }
            arguments = ["-m", "nnxp.benchmark.worker", json.dumps(spec)]
            worker = AnsweringProcess(arguments, timeout)
            stack.callback(worker.stop)
            return worker

        started = {entry.name: start(entry) for entry in entries if together}
        workers: dict[str, AnsweringProcess] = {}
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

        def rounds(names: list[str], which: str = "") -> dict[str, list[list[float]]]:
            """Time contenders in turn; return [step, floor] seconds of each, by name and round."""
            times: dict[str, list[list[float]]] = {name: [] for name in names}
            for turn in range(repeat):
                left = [name for name in names if name in times]
                start = turn % len(left) if left else 0
                for name in left[start:] + left[:start]:
                    progress(f"{workload.name}: {name}, round {turn + 1} of {repeat}{which}")
                    time.sleep(pause)
                    seconds = _attempt(
                        results[name], workers[name], lambda worker: _time(worker, floor)
                    )
                    if seconds is None:
                        del times[name], workers[name]
                        results[name].clear_times()
                    else:
                        times[name].append(seconds)
            return times

        against = reference.name if reference else ""
        times = rounds(list(workers))
        for name in times:
            results[name].set_times(times[name], times.get(against))
        doubts = {name: results[name].doubt for name in times if again and results[name].doubt}
        if against in doubts:  # all ratios are to its times
            because = f"{doubts[against]} of {against}"
            doubts = {name: doubts.get(name, because) for name in times}
        if doubts:
            beside = [name for name in times if name == against or name in doubts]
            times = rounds(beside, ", again")
            for name in (name for name in doubts if name in times):
                results[name].repeated = doubts[name]
                results[name].set_times(times[name], times.get(against))
    return list(results.values())


def expected_seconds(
    workload: Workload, contenders: int, repeat: int, min_seconds: float, flops: float
) -> float:
    """Estimate how long `measure` takes.

    Args:
        workload: what is trained.
        contenders: how many train it.
        repeat, min_seconds: see `measure`.
        flops: floating-point operations that the machine does in a second.
    """
    multiply_adds = workload.batch_size * sum(a * b for a, b in pairwise(workload.sizes))
    chunk = 6 * multiply_adds * workload.chunk / flops  # forward, backward: x, backward: weights
    before = _START + chunk * (2 + max(2, 100 // workload.chunk))
    timing = chunk + max(chunk, min_seconds)
    return contenders * (before + repeat * (_PAUSE + 2 * timing))


def _introduce(worker: AnsweringProcess) -> dict[str, Any]:
    """Return all measurements but times. Memory comes first: the floor allocates some itself."""
    return worker.answer() | worker.ask("memory")


def _time(worker: AnsweringProcess, floor: bool) -> list[float]:
    """Return the seconds of a step and, where the contender has one, of its floor."""
    answers = [worker.ask("time")] + ([worker.ask("floor")] if floor else [])
    return [answer["seconds"] / answer["steps"] for answer in answers if answer]


def _attempt(
    result: Result, worker: AnsweringProcess, asks: Callable[[AnsweringProcess], Any]
) -> Any:
    """Return the worker's answer; if it fails, note the problem, stop it and return None."""
    try:
        return asks(worker)
    except AnswerError as error:
        result.problem, result.missing = str(error), error.missing
        worker.stop()
        return None


def _compare(results: list[Result]) -> Result | None:
    """Give every loss its verdict; return the reference, or None where there is none."""
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
    """Return whether the losses agree. NaN agrees with no loss."""
    assert result.loss is not None
    assert reference.loss is not None
    tf32 = result.describe.get("tf32") or reference.describe.get("tf32")
    tolerance = TF32_TOLERANCE if tf32 else TOLERANCE
    return abs(result.loss - reference.loss) <= tolerance * abs(reference.loss)

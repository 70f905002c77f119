"""Runs one contender on one workload, in a process of its own.

    python -m nnxp.benchmark.worker SPEC

SPEC and every answer are one line of JSON. The first answer describes the contender and gives its
loss after some steps; then each line of standard input is a command: "time", "floor", "memory" or
"quit". An answer {"error": ...} is the last one. What libraries print goes to standard error.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import sys
import textwrap
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TextIO

from nnxp.benchmark import memory, reference_loss
from nnxp.benchmark.contender import Entry, MissingError, Timed
from nnxp.benchmark.workloads import Workload
from nnxp.errors import NnxpError


class Worker:
    """A contender that has trained for some steps and answers commands.

    Args:
        entry: the fields of an `Entry`.
        workload: the fields of a `Workload`.
        min_seconds: least training time of a timing.
        steps: least number of steps before the loss is computed.
    """

    def __init__(
        self, entry: dict[str, Any], workload: dict[str, Any], min_seconds: float, steps: int
    ) -> None:
        self.workload = Workload(**workload)
        x, classes = self.workload.data  # made before the clock starts: not the contender's work
        start = time.perf_counter()
        with warnings.catch_warnings(record=True) as warned:
            self.contender = Entry(**entry).make(self.workload)
            self.contender.wait()
            build_seconds = time.perf_counter() - start
            # Data, parameters and optimizer state are in place: later memory is training's own.
            self.resident, self.on_device = memory.resident(), self._device_memory()

            self.training = _Clock(self.contender, self.workload, min_seconds)
            chunks = max(2, -(-steps // self.workload.chunk))
            seconds = [self.training.chunk() for _ in range(chunks)]
        make_floor = getattr(self.contender, "floor", None)
        described = self.contender.describe()
        fallbacks = described.get("fallbacks", [])
        self.floor = _Clock(make_floor(), self.workload, min_seconds) if make_floor else None
        self.ready = {
            "note": _note([self.contender.note, *fallbacks, *_messages(warned)]),
            "comparable": getattr(self.contender, "comparable", True),
            "loss": reference_loss.loss(self.contender.parameters(), x, classes),
            "steps": len(seconds) * self.workload.chunk,
            "build_seconds": build_seconds,
            "compile_seconds": max(0.0, seconds[0] - statistics.median(seconds[1:])),
            "describe": described,
        }

    def answer(self, command: str) -> dict[str, Any]:
        """Execute a command and return its answer."""
        match command:
            case "time":
                return self.training.time()
            case "floor":
                return self.floor.time() if self.floor else {}
            case "memory":
                return self.memory()
            case _:
                raise ValueError(f"no such command: {command!r}")

    def memory(self) -> dict[str, int | None]:
        """Measure the peak bytes of training a chunk, beyond those before the first chunk."""
        peak = memory.peak(self.training.chunk)
        host = None if peak is None or self.resident is None else max(0, peak - self.resident)
        now, before = self._device_memory(), self.on_device
        device = None if now is None or before is None else max(0, now[1] - before[0])
        return {"host_bytes": host, "device_bytes": device}

    def _device_memory(self) -> tuple[int, int] | None:
        """Return (bytes in use, peak bytes in use) on the device, if the contender knows them."""
        measure = getattr(self.contender, "device_memory", None)
        return measure() if measure else None


class _Clock:
    """Times whole chunks."""

    def __init__(self, timed: Timed, workload: Workload, min_seconds: float) -> None:
        self.timed = timed
        self.orders = workload.orders()
        self.min_seconds = min_seconds
        self.chunks: int | None = None
        """How many chunks take `min_seconds`; measured once, so that all rounds are alike."""

    def chunk(self) -> float:
        """Train one chunk and return its seconds."""
        order = next(self.orders)
        start = time.perf_counter()
        self.timed.train(order)
        self.timed.wait()
        return time.perf_counter() - start

    def time(self) -> dict[str, Any]:
        """Train for about `min_seconds`; return the number of steps and their seconds."""
        seconds = self.chunk()  # not counted: caches and threads are cold after the others ran
        if self.chunks is None:
            seconds = self.chunk()
            self.chunks = max(1, math.ceil(self.min_seconds / max(seconds, 1e-6)))
        orders = list(islice(self.orders, self.chunks))
        start = time.perf_counter()
        for order in orders:
            self.timed.train(order)
        self.timed.wait()
        return {
            "steps": sum(len(order) for order in orders),
            "seconds": time.perf_counter() - start,
        }


def main(spec: str) -> int:
    """Answer until "quit" or the end of standard input; return the exit status."""
    return serve(lambda: _answers(json.loads(spec)))


def _answers(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    worker = Worker(**spec)
    yield worker.ready
    for line in sys.stdin:
        if line.strip() == "quit":
            break
        yield worker.answer(line.strip())


def serve(answers: Callable[[], Iterable[dict[str, Any]]]) -> int:
    """Print each answer as a line of JSON, for an `AnsweringProcess`; return the exit status.

    An exception becomes the answer {"error": TEXT}, with "missing" if the library is missing.
    """
    stdout = _take_stdout()

    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=stdout, flush=True)

    try:
        for answer in answers():
            say(answer)
    except Exception as error:  # a library may raise anything
        traceback.print_exc()
        missing = {"missing": True} if isinstance(error, (ImportError, MissingError)) else {}
        say({"error": " ".join(_text(error).split())} | missing)
        return 1
    return 0


def _take_stdout() -> TextIO:
    """Return standard output, and send to standard error what anything else prints there."""
    stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return stdout


def _messages(warned: list[warnings.WarningMessage]) -> list[str]:
    return [str(each.message) for each in warned if issubclass(each.category, RuntimeWarning)]


def _note(lines: list[str]) -> str:
    """Join the lines, each once: some executors warn of a fall-back that they also describe."""
    short = (textwrap.shorten(line, 200, placeholder=" ...") for line in filter(None, lines))
    return "; ".join(dict.fromkeys(short))


def _text(error: Exception) -> str:
    if isinstance(error, (NnxpError, MissingError)):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

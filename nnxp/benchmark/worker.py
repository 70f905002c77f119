"""The process in which one contender trains one workload.

    python -m nnxp.benchmark.worker SPEC

SPEC and every answer are one line of JSON. The first answer says what was built and the loss it
came to; then each line of standard input is a command, "time", "floor", "memory", "syncs" or
"quit". An answer {"error": ...} ends it. What libraries print goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import statistics
import sys
import textwrap
import time
import traceback
import warnings
from collections.abc import Callable
from itertools import islice
from typing import Any, TextIO

from nnxp.benchmark import judge, memory, syncs
from nnxp.benchmark.contender import Contender, Timed
from nnxp.benchmark.workloads import Workload
from nnxp.errors import NnxpError


class Worker:
    """A contender that has trained for a while, and answers commands.

    Args:
        contender: "module:Class".
        options: what the class takes besides workload and device.
        workload: a `Workload`'s fields.
        device: where to train; None for the contender's own choice.
        min_seconds: how long a timing trains, about.
        steps: how many to train, at least, before the loss is computed.
    """

    def __init__(
        self,
        contender: str,
        options: dict[str, Any],
        workload: dict[str, Any],
        device: str | None,
        min_seconds: float,
        steps: int,
    ) -> None:
        sizes = tuple(workload["sizes"])
        self.workload = Workload(**workload | {"sizes": sizes})
        x, classes = self.workload.data  # before the clock starts: it is not the contender's
        start = time.perf_counter()
        module, _, name = contender.partition(":")
        with warnings.catch_warnings(record=True) as warned:
            found: Callable[..., Contender] = getattr(importlib.import_module(module), name)
            self.contender = found(self.workload, device, **options)
            self.contender.wait()
            build_seconds = time.perf_counter() - start
            # Data, parameters and the optimizer's state are in place.
            self.resident, self.on_device = memory.resident(), self._device_memory()

            self.training = _Clock(self.contender, self.workload, min_seconds)
            chunks = max(2, -(-steps // self.workload.chunk))
            seconds = [self.training.chunk() for _ in range(chunks)]
        make_floor = getattr(self.contender, "floor", None)
        described = self.contender.describe()
        fallbacks = described.get("fallbacks", [])
        self.floor = _Clock(make_floor(), self.workload, min_seconds) if make_floor else None
        self.ready = {
            "note": _note([self.contender.note, *fallbacks, *_said(warned)]),
            "comparable": getattr(self.contender, "comparable", True),
            "loss": judge.loss(self.contender.parameters(), x, classes),
            "steps": len(seconds) * self.workload.chunk,
            "build_seconds": build_seconds,
            "compile_seconds": max(0.0, seconds[0] - statistics.median(seconds[1:])),
            "describe": described,
        }

    def answer(self, command: str) -> dict[str, Any]:
        """What a command has to say."""
        match command:
            case "time":
                return self.training.time()
            case "floor":
                return self.floor.time() if self.floor else {}
            case "memory":
                return self.memory()
            case "syncs":
                return self.syncs()
            case _:
                raise ValueError(f"no such command: {command!r}")

    def memory(self) -> dict[str, int | None]:
        """Peak bytes while a chunk is trained, beyond what was there before the first."""
        peak = memory.peak(self.training.chunk)
        host = None if peak is None or self.resident is None else max(0, peak - self.resident)
        now, before = self._device_memory(), self.on_device
        device = None if now is None or before is None else max(0, now[1] - before[0])
        return {"host_bytes": host, "device_bytes": device}

    def syncs(self) -> dict[str, int | None]:
        """Host reads while a chunk is begun; waiting for its end is the clock's own doing."""
        watched = getattr(self.contender, "watched", None)
        order = next(self.training.orders)
        counted = watched and syncs.count(watched(), lambda: self.contender.train(order))
        self.contender.wait()
        return {"syncs": counted}

    def _device_memory(self) -> tuple[int, int] | None:
        """(bytes in use, the most that were)."""
        asked = getattr(self.contender, "device_memory", None)
        return asked() if asked else None


class _Clock:
    """Times whole chunks."""

    def __init__(self, timed: Timed, workload: Workload, min_seconds: float) -> None:
        self.timed = timed
        self.orders = workload.orders()
        self.min_seconds = min_seconds
        self.chunks: int | None = None
        """How many chunks take `min_seconds`; found out once, so that repeats are alike."""

    def chunk(self) -> float:
        """Seconds that one chunk took."""
        order = next(self.orders)
        start = time.perf_counter()
        self.timed.train(order)
        self.timed.wait()
        return time.perf_counter() - start

    def time(self) -> dict[str, Any]:
        """Train for about `min_seconds`; how many steps there were, and their seconds."""
        seconds = self.chunk()  # not counted: caches and threads went cold while others ran
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
    """Serve until "quit" or the end of standard input; the exit status."""
    answers = _own_stdout()

    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    try:
        worker = Worker(**json.loads(spec))
        say(worker.ready)
        for line in sys.stdin:
            if line.strip() == "quit":
                break
            say(worker.answer(line.strip()))
    except Exception as error:
        traceback.print_exc()
        say({"error": " ".join(_text(error).split())})
        return 1
    return 0


def _own_stdout() -> TextIO:
    """Standard output for answers alone: whatever else is written there goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _said(warned: list[warnings.WarningMessage]) -> list[str]:
    return [str(each.message) for each in warned if issubclass(each.category, RuntimeWarning)]


def _note(lines: list[str]) -> str:
    """What a reader of the times must know, each line once: some executors warn of a fall-back."""
    short = (textwrap.shorten(line, 200, placeholder=" ...") for line in filter(None, lines))
    return "; ".join(dict.fromkeys(short))


def _text(error: Exception) -> str:
    if isinstance(error, NnxpError):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

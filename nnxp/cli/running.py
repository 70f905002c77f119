"""Run a command and end it: errors as one line, exit statuses, signals, streams."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import typer

from nnxp.cli import signals, streams
from nnxp.distributed import launcher
from nnxp.errors import (
    DivergenceError,
    GradientError,
    NnxpError,
    RankError,
    first_line,
    printable,
)


def leave_after(run: Callable[[], int]) -> None:
    """Call `run` and exit with its status; every expected error is one line on stderr.

    Of several processes that a launcher started, the one that failed prints it, or the first on
    each machine. The exit status is 2 for bad input, 1 for training that diverged, wrong gradients
    or a disk error, 130 for Ctrl-C and 143 for SIGTERM.
    """
    streams.prepare()
    with signals.handled(signals.interrupt):
        status = _status(run)
        if not status and (problem := streams.problem()):
            status = _fail(f"standard output: {problem.strerror}", 1)
    sys.exit(status)


def _status(run: Callable[[], int]) -> int:
    try:
        return run()
    except RankError:  # the process that failed says why, and gives mpiexec its exit status
        return 0
    except _EXPECTED as error:
        message, status = _described(error)
        told_by = getattr(error, "told_by", None)  # the first process that has such an error
        tells = launcher.is_first_on_machine() if told_by is None else told_by == launcher.rank()
        return _fail(message, status) if message and tells else status


def _described(error: BaseException) -> tuple[str, int]:
    """Return the line and the exit status for an expected error."""
    if isinstance(error, _USAGE_ERROR):
        text = error.format_message().strip()
        return (" ".join(text.split()) + " (nnxp --help)" if text else ""), 2
    if isinstance(error, MemoryError):
        return f"out of memory ({first_line(error)}): choose smaller sizes or batches", 2
    if isinstance(error, OSError):
        return f"{error.filename or 'disk'}: {error.strerror or error}", 1
    if isinstance(error, signals.Interrupted):
        return str(error), 128 + error.number
    return str(error), 1 if isinstance(error, (DivergenceError, GradientError)) else 2


_USAGE_ERROR: Any = typer.BadParameter.__base__
"""Click's class, which some versions of typer contain."""
_EXPECTED = (_USAGE_ERROR, NnxpError, MemoryError, OSError, signals.Interrupted)


def _fail(message: str, status: int) -> int:
    if sys.stderr is not None:
        with suppress(OSError):  # stderr may be closed
            print(f"nnxp: {_one_line(message)}", file=sys.stderr, flush=True)
    return status


def _one_line(message: str) -> str:
    """Return a message as one line without control characters.

    Words of over 1,000 characters, which no path has that a person wrote, lose their middle.
    """
    text = printable(" ".join(message.split()))
    return re.sub(r"\S{1000,}", lambda word: f"{word[0][:100]}...{word[0][-100:]}", text)

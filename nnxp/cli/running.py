"""Run a command and end it: errors as one line, exit statuses, signals, streams."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import typer

from nnxp.cli import signals, streams
from nnxp.errors import DivergenceError, GradientError, NnxpError, first_line, printable


def leave_after(run: Callable[[], int]) -> None:
    """Call `run` and exit with its status; every expected error is one line on stderr.

    The exit status is 2 for bad input, 1 for training that diverged, wrong gradients or a disk
    error, 130 for Ctrl-C and 143 for SIGTERM.
    """
    streams.prepare()
    with signals.handled(signals.interrupt):
        status = _status(run)
        if not status and (problem := streams.problem()):
            status = _fail(f"standard output: {problem.strerror}", 1)
    sys.exit(status)


def _status(run: Callable[[], int]) -> int:
    usage_error: Any = (
        typer.BadParameter.__base__
    )  # click's class, which some versions of typer contain
    try:
        return run()
    except usage_error as error:
        text = error.format_message().strip()
        return _fail(" ".join(text.split()) + " (nnxp --help)", 2) if text else 2
    except (DivergenceError, GradientError) as error:
        return _fail(str(error), 1)
    except NnxpError as error:
        return _fail(str(error), 2)
    except MemoryError as error:
        return _fail(f"out of memory ({first_line(error)}): choose smaller sizes or batches", 2)
    except OSError as error:
        return _fail(f"{error.filename or 'disk'}: {error.strerror or error}", 1)
    except signals.Interrupted as error:
        return _fail(str(error), 128 + error.number)


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

"""Prepare the standard streams so that a command survives a closed output pipe."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any


class _Output(io.FileIO):
    """Standard output, which becomes the null device when a write fails."""

    problem: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.problem = error
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return len(data)


def prepare() -> None:
    """Open closed standard streams on the null device, and let writes to standard output fail.

    Otherwise, a model file could get the number of a closed stream, and printed text would go into
    the file. `sys.stdout` stays None if it was closed. `problem` returns the failed write's error.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    sys.stdout = _lasting(sys.stdout)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # A name that the encoding has not (on Windows it is often the country's) must not end a
        # training.
        sys.stdout.reconfigure(errors="backslashreplace")


def _lasting(stream: Any) -> Any:
    """Return the stream, as an `_Output` if it is the process's own and not a terminal."""
    own: Any = sys.__stdout__  # not a replacement, such as a test's
    if stream is None or stream is not own or stream.isatty():
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Output(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
    )


def problem() -> OSError | None:
    """Return the error that ended writing to standard output, or None.

    A reader that closed the pipe is not an error.
    """
    if sys.stdout is not None:
        sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    found = raw.problem if isinstance(raw, _Output) else None
    left = errno.EPIPE if os.name != "nt" else errno.EINVAL
    return None if found is None or found.errno == left else found

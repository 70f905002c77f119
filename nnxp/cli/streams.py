"""The standard streams, such that a command outlasts those who read what it prints."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any


class _Output(io.FileIO):
    """Standard output; from the first time that it cannot be written to, the null device."""

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
    """Open what is closed of the standard streams, and let standard output fail in silence.

    A stream that is closed is opened on the null device: a model that is saved would else get its
    number, and everything that is printed. `sys.stdout` stays None then.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it takes the lowest number that is free
    sys.stdout = _lasting(sys.stdout)


def _lasting(stream: Any) -> Any:
    """The same stream, to be written to whatever becomes of its reader."""
    own: Any = sys.__stdout__  # another may have been put in its place
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
    """What kept standard output from being written, if something did; that a reader has seen
    enough and left is none."""
    if sys.stdout is not None:
        sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    found = raw.problem if isinstance(raw, _Output) else None
    left = errno.EPIPE if os.name != "nt" else errno.EINVAL
    return None if found is None or found.errno == left else found

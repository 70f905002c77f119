"""Handle SIGINT, which Ctrl-C sends, and SIGTERM: as an exception at once, or deferred."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

NAMES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
"""The word for a command that each signal ended."""
if sys.platform == "win32":  # Ctrl-Break, where no program can send SIGTERM
    NAMES[signal.SIGBREAK] = "interrupted"


class Interrupted(BaseException):
    """A signal asked the process to end; `number` says which.

    It is not a KeyboardInterrupt, which typer turns into an exit status without a message.
    """

    def __init__(self, number: int, message: str | None = None) -> None:
        super().__init__(message or NAMES[signal.Signals(number)])
        self.number = number
        self.is_everywhere = False
        """Whether each process of a distributed training raises it at the same place."""


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call handler(number, frame) on SIGINT and SIGTERM.

    An ignored signal stays ignored: shells start background jobs with SIGINT ignored.
    """
    earlier = {}
    if threading.current_thread() is threading.main_thread():  # only it may set handlers
        for number in NAMES:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                earlier[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, handled_before in earlier.items():
            signal.signal(number, handled_before)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raise `Interrupted`; a handler for `handled`."""
    raise Interrupted(number)


class Deferred:
    """Keeps the first signal until `check`; another is raised at once.

    Attributes:
        number: the number of the first signal; None before it.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Keep the first signal, raise the second; a handler for `handled`."""
        if self.number is not None:
            raise Interrupted(number)
        self.number = number

    def check(self) -> None:
        """Raise `Interrupted` if a signal came."""
        if self.number is not None:
            raise Interrupted(self.number)

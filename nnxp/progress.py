"""The printed progress of a training: a bar, a row for each epoch, warnings, nnxp's log lines.

Only the command line and `nnxp.train(verbose=True)` import this module, which needs rich.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from rich.console import Console
from rich.progress import Progress, ProgressColumn, Task
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nnxp.concurrency import Setting
from nnxp.history import History
from nnxp.metrics import format_count, format_figure
from nnxp.network import MLP
from nnxp.running import Running

_SHORTEST_BAR, _WIDEST_BAR = 6, 40
"""Columns of the bar."""
_stdout_changes = threading.Lock()
"""rich's bar looks whether another has replaced sys.stdout, and else replaces it. Of two threads
that did so at once, one bar would write through the other, and each wait for the other's lock."""


def new_console(quiet: bool = False) -> Console:
    """Return a console that prints lines unchanged, without colours or added line breaks."""
    return Console(highlight=False, soft_wrap=True, markup=False, quiet=quiet)


class EpochTable:
    """A table with a row for each epoch and, on a terminal, a progress bar below it.

    It is a context manager: at its end, the bar and the printing of log lines stop. Pass it as
    `nnxp.train(progress=...)`, and its `row` as a callback.

    Args:
        console: where to print.
        epochs: the largest number of epochs.
        log: whether to print log lines of the logger "nnxp" at INFO or above: scaled targets,
            where the data is, fall-backs.
        after_chunk: called after every chunk of steps.
    """

    def __init__(
        self,
        console: Console,
        epochs: int,
        log: bool = False,
        after_chunk: Callable[[], Any] = lambda: None,
    ) -> None:
        self.console = console
        self.epochs = epochs
        self._after_chunk = after_chunk
        self._status = _Status(console, epochs)
        self._bar = Progress(
            self._status,
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None)
        self._status.update = partial(self._bar.update, self._task)
        self._log = log
        self._printing = ExitStack()
        self._headed = False
        self._found: set[tuple[str, int | None]] = set()

    def __enter__(self) -> EpochTable:
        self._printing.enter_context(log_lines(self.console, self._log))
        with _stdout_changes:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        with _stdout_changes:
            self._bar.stop()
        self._printing.close()

    def expect(self, samples: int) -> None:
        """Set the number of samples in each epoch, for the bar."""
        self._bar.update(self._task, total=samples * self.epochs)

    def watch(self, running: Running) -> None:
        """Draw the bar by what is done of a training from now on; `train` calls this."""
        self._status.running = running

    def __call__(self, samples: int) -> None:
        """Note that a chunk of steps was queued, with its number of samples."""
        if self._status.running is None:
            self._bar.advance(self._task, samples)
        self._after_chunk()

    def row(self, network: MLP, history: History) -> None:
        """Print the last epoch, and each new finding of its diagnosis. A callback of training."""
        last = history.epochs[-1]
        self._status.last_loss = last.loss
        columns = last.columns(history.metric)
        widths = [max(10, len(heading)) for heading in columns]
        widths[0] = max(5, len(str(self.epochs)))
        if not self._headed:  # a resumed training begins with another epoch than 1
            self._headed = True
            self._line(widths, list(columns))
        self._line(widths, list(columns.values()))
        for finding in last.diagnosis.findings if last.diagnosis else ():
            if (finding.kind, finding.layer) not in self._found:
                self._found.add((finding.kind, finding.layer))
                self.console.print(f"{'':>{widths[0]}} warning: {finding.message}")

    def _line(self, widths: list[int], texts: list[str]) -> None:
        padded = (f"{text:>{width}}" for text, width in zip(texts, widths, strict=True))
        self.console.print(" ".join(padded))


class _Status(ProgressColumn):
    """One line about a running training, as long as the terminal is wide.

    A thread of its own draws it ten times a second, so it moves during a long chunk too.
    """

    running: Running | None = None
    last_loss: float | None = None
    """The loss of the last complete epoch."""
    update: Callable[..., Any]
    """Sets the number of completed samples."""

    def __init__(self, console: Console, epochs: int) -> None:
        super().__init__()
        self.console = console
        self.epochs = epochs

    def render(self, task: Task) -> Table:
        line = Table.grid()
        if task.total is None:
            line.add_row(Text("preparing the data"[: self.console.width]))
            return line
        loss = None
        if self.running is not None:
            done, loss = self.running.look()
            self.update(completed=done)
        before, after = self._texts(task, loss)
        if before:
            length = min(_WIDEST_BAR, self.console.width - len(before) - len(after) - 2)
            bar = ProgressBar(task.total, task.completed, width=length)
            line.add_row(Text(f"{before} "), bar, Text(f" {after}"))
        else:
            line.add_row(Text(after[: self.console.width]))
        return line

    def _texts(self, task: Task, loss: float | None) -> tuple[str, str]:
        """Return what stands before and after the bar; "" before it if there is no room for one.

        Where there is less room, words go first, then what is worth least.
        """
        width = self.console.width
        per_epoch = max(1.0, (task.total or 0) / max(1, self.epochs))
        epoch = f"{max(1, math.ceil(task.completed / per_epoch))}/{self.epochs}"
        speed = format_count(task.speed) if task.speed else "-"
        spent, left = _clock(task.elapsed), _clock(task.time_remaining)
        name, value = ("loss", loss) if loss is not None else ("last loss", self.last_loss)
        figure = "" if value is None else format_figure(value)
        before = f"epoch {epoch}"
        after = (
            f"{task.percentage:3.0f}%  {name if figure else '':>9} {figure:<6}  "
            f"{speed:>5} samples/s  {spent}, {left} left"
        )
        if len(before) + len(after) + 2 + _SHORTEST_BAR <= width:
            return before, after
        named = f"{name} {figure}" if figure else ""
        short = f"{'last ' * (name != 'loss')}{figure}" if figure else ""
        forms = (
            (epoch, named, f"{speed}/s", f"{spent}, {left} left"),
            (epoch, short, f"{speed}/s", f"{spent} -{left}"),
            (epoch, short, f"{speed}/s", f"-{left}"),
            (epoch, short, f"-{left}"),
            (epoch, f"-{left}"),
        )
        lines = [" ".join(filter(None, form)) for form in forms]
        return "", next((line for line in lines if len(line) <= width), epoch)


def _clock(seconds: float | None) -> str:
    """Format a time: 0:07, 12:34, 1:02:03; -:-- if it is not known."""
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def log_lines(console: Console, wanted: bool = True) -> Iterator[None]:
    """Print what the logger "nnxp" gets from this thread at INFO or above, if `wanted`."""
    if not wanted:
        yield
        return
    log, printer = logging.getLogger("nnxp"), _Printer(console)
    with _level.of(min(log.getEffectiveLevel(), logging.INFO)):
        log.addHandler(printer)
        try:
            yield
        finally:
            log.removeHandler(printer)


_level = Setting(
    lambda: logging.getLogger("nnxp").level, lambda level: logging.getLogger("nnxp").setLevel(level)
)
"""The level of nnxp's logger."""


class _Printer(logging.Handler):
    """A log handler that prints each record of the thread that made it on a line."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self.console = console
        self.thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self.thread:  # other trainings may print their own
            self.console.print(record.getMessage())

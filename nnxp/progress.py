"""The printed progress of a training: a row for each epoch, warnings, and nnxp's log lines.

Only the command line and `nnxp.train(verbose=True)` import this module, which needs rich.
"""

from __future__ import annotations

import logging

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from nnxp.history import History
from nnxp.network import MLP


def new_console(quiet: bool = False) -> Console:
    """Return a console that prints lines unchanged, without colours or added line breaks."""
    return Console(highlight=False, soft_wrap=True, markup=False, quiet=quiet)


class EpochTable:
    """A table with a row for each epoch and, on a terminal, a progress bar below it.

    It is a context manager: at its end, the bar and the printing of log lines stop.

    Args:
        console: where to print.
        epochs: the largest number of epochs.
        log: whether to print log lines of the logger "nnxp" at INFO or above: scaled targets,
            where the data is, fall-backs.
    """

    def __init__(self, console: Console, epochs: int, log: bool = False) -> None:
        self.console = console
        self.epochs = epochs
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=None)
        self._log = logging.getLogger("nnxp") if log else None
        self._printer = _Printer(console)
        self._found: set[tuple[str, int | None]] = set()

    def __enter__(self) -> EpochTable:
        if self._log:
            self._level = self._log.level
            self._log.setLevel(min(self._log.getEffectiveLevel(), logging.INFO))
            self._log.addHandler(self._printer)
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        if self._log:
            self._log.removeHandler(self._printer)
            self._log.setLevel(self._level)

    def expect(self, samples: int) -> None:
        """Set the number of samples in each epoch, for the bar."""
        self._bar.update(self._task, total=samples * self.epochs)

    def advance(self, samples: int) -> None:
        """Advance the bar by a number of samples. Pass it as `nnxp.train(progress=...)`."""
        self._bar.advance(self._task, samples)

    def row(self, network: MLP, history: History) -> None:
        """Print the last epoch, and each new finding of its diagnosis. A callback of training."""
        last = history.epochs[-1]
        columns = last.columns(history.metric)
        widths = [max(10, len(heading)) for heading in columns]
        widths[0] = max(5, len(str(self.epochs)))
        if last.epoch == 1:
            self._line(widths, list(columns))
        self._line(widths, list(columns.values()))
        for finding in last.diagnosis.findings if last.diagnosis else ():
            if (finding.kind, finding.layer) not in self._found:
                self._found.add((finding.kind, finding.layer))
                self.console.print(f"{'':>{widths[0]}} warning: {finding.message}")

    def _line(self, widths: list[int], texts: list[str]) -> None:
        padded = (f"{text:>{width}}" for text, width in zip(texts, widths, strict=True))
        self.console.print(" ".join(padded))


class _Printer(logging.Handler):
    """A log handler that prints each record on a line."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        self.console.print(record.getMessage())

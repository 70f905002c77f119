"""A log of each epoch as a table of comma-separated values."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from typing import Any, TextIO

from nnxp import files, options
from nnxp.callbacks.callback import Callback
from nnxp.errors import InputError
from nnxp.history import Epoch, History
from nnxp.network import MLP

_START = "epoch,loss,"
"""How each log begins."""
_NO_EPOCH = Epoch(0, 0.0, None, None, 0.0, 0.0, 0.0)
"""Its figures have the names of the columns."""


class CSVLog(Callback):
    """A callback that writes a line for each epoch to a csv file, as the epoch ends.

    The columns are epoch, loss, validation_loss, the validation metric under its name
    (validation_accuracy), learning_rate, seconds and samples_per_second; without validation data,
    those of validation are left out. The file has all epochs of the history, also those before a
    training that is resumed. Its lines are whole, whenever it is read and however training ends.

    Args:
        path: the file. A log that is there is replaced when training starts.

    Raises:
        InputError: in training, the file at `path` is something else and would be lost, or another
            training writes to it.
        OSError: in training, the folder or the disk refuses.

    Example:
        >>> import nnxp
        >>> log = nnxp.CSVLog("training.csv")
    """

    only_first = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = options.PATH(f"{type(self).__name__}: path", path)
        self._file: TextIO | None = None

    def check(self) -> None:
        """Raise InputError if the file at `path` is not a log, and would be lost."""
        if os.path.isfile(self.path) and os.path.getsize(self.path):
            with open(self.path, "rb") as file:
                if file.read(len(_START)) != _START.encode():
                    raise InputError(
                        f"{self.path}: is not a log of epochs, and would be lost; name another file"
                    )

    def start(self, network: MLP, history: History) -> None:
        """Open the file, and write the names of the columns and the epochs so far."""
        self.check()
        self._file = files.open_log(self.path)
        try:
            self._write(_NO_EPOCH.figures(history.metric))
            for epoch in history.epochs:
                self._write(epoch.figures(history.metric).values())
        except BaseException:  # a callback that did not start is not finished
            self.finish(network, history)
            raise

    def __call__(self, network: MLP, history: History) -> None:
        """Write the line of the last epoch."""
        self._write(history.epochs[-1].figures(history.metric).values())

    def finish(self, network: MLP, history: History) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, values: Iterable[Any]) -> None:
        assert self._file is not None
        csv.writer(self._file, lineterminator="\n").writerow(values)

"""A log of each epoch for TensorBoard."""

from __future__ import annotations

import os
from typing import Any

from nnxp import extras, options
from nnxp.callbacks.callback import Callback
from nnxp.errors import InputError
from nnxp.history import History
from nnxp.network import MLP


class TensorBoardLog(Callback):
    """A callback that writes the figures of each epoch for `tensorboard --logdir FOLDER`.

    It needs `pip install "nnxp[tensorboard]"`. The charts are "loss/training", "loss/validation",
    the validation metric ("accuracy/validation"), "learning_rate" and "samples_per_second". Each
    training adds a file of its own to the folder; trainings in folders beside each other are
    compared in one chart.

    Args:
        folder: the folder of the logs, which is made if it is not there.

    Raises:
        InputError: tensorboard is not installed; in training, `folder` is a file.
        OSError: in training, the folder or the disk refuses.

    Example:
        >>> import nnxp
        >>> log = nnxp.TensorBoardLog("runs/first")
    """

    only_first = True

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = options.PATH(f"{type(self).__name__}: folder", folder)
        self._writer: Any = None
        _writer_class()

    def check(self) -> None:
        """Raise InputError if there is a file in the place of the folder, or its name is bad."""
        try:
            self.folder.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{self.folder}: its name is not UTF-8, as TensorBoard needs; name another folder"
            ) from None
        if os.path.exists(self.folder) and not os.path.isdir(self.folder):
            raise InputError(f"{self.folder}: is no folder; name one for the logs of TensorBoard")

    def start(self, network: MLP, history: History) -> None:
        """Open a file in the folder."""
        self.check()
        os.makedirs(self.folder, exist_ok=True)
        self._writer = _writer_class()(self.folder)

    def __call__(self, network: MLP, history: History) -> None:
        """Write the figures of the last epoch, so that TensorBoard shows them now."""
        figures = history.epochs[-1].figures(history.metric)
        epoch = figures.pop("epoch")
        for name, value in figures.items():
            if value is not None and name != "seconds":
                self._writer.add_scalar(_tag(name), value, epoch)
        self._writer.flush()

    def finish(self, network: MLP, history: History) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _tag(name: str) -> str:
    """Return a chart's name; TensorBoard shows those together that agree up to the slash."""
    if name == "loss":
        return "loss/training"
    figure = name.removeprefix("validation_")
    return name if figure == name else f"{figure}/validation"


def _writer_class() -> Any:
    extras.require("tensorboard", "the log for TensorBoard", "tensorboard")
    from tensorboard.summary import Writer

    return Writer

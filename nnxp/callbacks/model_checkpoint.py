"""Model files while a training runs."""

from __future__ import annotations

import math
import os
from dataclasses import asdict
from pathlib import Path

from nnxp import checkpoint, options
from nnxp.callbacks.callback import Callback
from nnxp.errors import InputError, shown
from nnxp.history import MONITOR, Epoch, History
from nnxp.network import MLP


class ModelCheckpoint(Callback):
    """A callback that saves the network after each epoch, or after each that is the best so far.

    Args:
        path: the model file. Each save replaces the one before, completely or not at all. Figures
            of `nnxp.Epoch` in braces give each epoch a file of its own:
            "digits-{epoch:03d}-{validation_loss:.3f}.safetensors".
        monitor: the figure that tells which epoch is better, for `save_best_only`:
            "loss", "validation_loss" or "validation_metric"; see `EarlyStopping`.
        save_best_only: whether an epoch that is not better than all before, in a training that is
            resumed too, is not saved.

    Attributes:
        best_epoch: the number of the epoch that was saved last; None before.
        best_path: its file.

    Raises:
        InputError: a value is not valid; in training, a file at `path` is no model and would be
            lost, or there is no validation data.
        OSError: in training, the folder or the disk refuses; the file before is unchanged.

    Example:
        >>> import nnxp
        >>> keep = nnxp.ModelCheckpoint("best.safetensors", save_best_only=True)
    """

    only_first = True

    @options.checked(monitor=MONITOR, save_best_only=options.TRUTH)
    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str = "validation_loss",
        save_best_only: bool = False,
    ) -> None:
        self.path = options.PATH(f"{type(self).__name__}: path", path)
        self.monitor = monitor if save_best_only else None
        self.save_best_only = save_best_only
        self._path(Epoch(1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0))  # to find what is no figure
        self._reset()

    def _reset(self) -> None:
        self.best_epoch: int | None = None
        self.best_path: str | None = None
        self._best = math.inf

    def start(self, network: MLP, history: History) -> None:
        """Forget the training before; of the epochs before, keep the best if its file is there."""
        self._reset()
        for epoch in history.epochs if self.save_best_only else ():
            path, value = self._path(epoch), self._value(history, epoch)
            if value < self._best and os.path.exists(path):
                self.best_epoch, self.best_path, self._best = epoch.epoch, path, value
        if "{" not in self.path:
            self._check(self.path)

    def __call__(self, network: MLP, history: History) -> None:
        """Save the network."""
        epoch = history.epochs[-1]
        value, path = self._value(history, epoch), self._path(epoch)
        if self.save_best_only and not value < self._best:
            return
        self._check(path)
        network.save(path)
        self.best_epoch, self.best_path, self._best = epoch.epoch, path, value

    def _value(self, history: History, epoch: Epoch) -> float:
        return 0.0 if self.monitor is None else history.monitored(epoch, self.monitor)

    def _path(self, epoch: Epoch) -> str:
        try:
            return self.path.format(**asdict(epoch))
        except (KeyError, IndexError, ValueError, TypeError) as error:
            figures = ", ".join(name for name in asdict(epoch) if name != "diagnosis")
            raise InputError(
                f"path {shown(self.path)}: {error} in braces; an epoch has {figures}"
            ) from None

    @staticmethod
    def _check(path: str) -> None:
        """Raise InputError if a file would be lost that is not a model."""
        if Path(path).is_file() and os.path.getsize(path) and checkpoint.describe(path) is None:
            raise InputError(f"{path}: is not an nnxp model, and would be lost; name another")

"""Callbacks for `nnxp.train`."""

from __future__ import annotations

import math
from functools import partial

from nnxp import options
from nnxp.history import MONITOR, History, monitored
from nnxp.network import MLP
from nnxp.optimizers import Parameters


class EarlyStopping:
    """A callback that ends training when `monitor` stops improving.

    At the end of training, early or not, the network gets the parameters of its best epoch.

    Args:
        monitor: "loss" or "validation_loss", which improve when they fall, or
            "validation_metric", which improves when it rises.
        patience: the number of epochs without an improvement after which training ends, 1 or more.
        min_delta: the change that an improvement must exceed, not negative.

    Attributes:
        best_epoch: the number of the best epoch so far; None before the first epoch.

    Raises:
        InputError: a value is out of its range; in training, there is no validation data.

    Source: Prechelt, Early stopping - but when?, 1998.

    Example:
        >>> import nnxp
        >>> data = nnxp.datasets.load("digits")
        >>> network, stopping = nnxp.MLP([64, 16, 10]), nnxp.EarlyStopping(patience=2)
        >>> history = nnxp.train(
        ...     network, data.x, data.y, optimizer=nnxp.SGD(1.0), epochs=50, batch_size=32,
        ...     validation=0.2, callbacks=[stopping],
        ... )
        >>> len(history.epochs) == stopping.best_epoch + 2
        True
    """

    @options.checked(monitor=MONITOR, patience=options.whole(1), min_delta=options.NOT_NEGATIVE)
    def __init__(
        self, monitor: str = "validation_loss", patience: int = 5, min_delta: float = 0.0
    ) -> None:
        self.monitor = monitor
        self.patience = patience
        self.min_delta = min_delta
        self._start()

    def _start(self) -> None:
        self.best_epoch: int | None = None
        self._best = math.inf
        self._parameters: Parameters = []

    def __call__(self, network: MLP, history: History) -> bool:
        """Return whether training should end."""
        epoch = history.epochs[-1].epoch
        if epoch == 1:  # a new training begins
            self._start()
        value = monitored(history.epochs[-1], self.monitor)
        if self.best_epoch is None or value < self._best - self.min_delta:
            self.best_epoch, self._best = epoch, value
            # Copy them: other callbacks may write into the network's own arrays.
            copied = partial(network.backend.asarray, copy=True)
            self._parameters = [tuple(map(copied, layer)) for layer in network.parameters]
        return epoch - self.best_epoch >= self.patience

    def finish(self, network: MLP, history: History) -> None:
        """Restore the best epoch's parameters."""
        parameters, self._parameters = self._parameters, []  # the next training has its own
        if parameters:
            network.parameters = parameters

"""Callbacks for `nnxp.train`."""

from __future__ import annotations

import math
from functools import partial

from nnxp import options
from nnxp.history import MONITOR, History, monitored
from nnxp.network import MLP
from nnxp.optimizers import Parameters


class EarlyStopping:
    """End training when `monitor` stops improving, and keep the parameters of its best epoch.

    Also when training ends by itself, the network is left as it was after its best epoch.

    Args:
        monitor: what must fall, "loss" or "validation_loss", or rise, "validation_metric".
        patience: epochs without an improvement after which training ends, 1 or more.
        min_delta: what counts as an improvement; not negative.

    Attributes:
        best_epoch: the number of the best epoch so far; None before the first.

    Raises:
        InputError: a value is out of its range; in training, there is no validation data.

    Source: Prechelt, Early stopping - but when?, 1998.
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
        """Whether to stop."""
        epoch = history.epochs[-1].epoch
        if epoch == 1:  # a second training begins anew
            self._start()
        value = monitored(history.epochs[-1], self.monitor)
        if self.best_epoch is None or value < self._best - self.min_delta:
            self.best_epoch, self._best = epoch, value
            # A copy: the network's own are for other callbacks to write into.
            copied = partial(network.backend.asarray, copy=True)
            self._parameters = [tuple(map(copied, layer)) for layer in network.parameters]
        return epoch - self.best_epoch >= self.patience

    def finish(self, network: MLP, history: History) -> None:
        """Put the best epoch's parameters back."""
        if self._parameters:
            network.parameters = self._parameters

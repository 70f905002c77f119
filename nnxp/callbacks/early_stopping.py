"""Early stopping."""

from __future__ import annotations

import math
from typing import Any

from nnxp import options
from nnxp.arrays import to_numpy
from nnxp.callbacks.callback import Callback
from nnxp.history import MONITOR, History
from nnxp.network import MLP
from nnxp.optimizers import Parameters


class EarlyStopping(Callback):
    """A callback that ends training when `monitor` stops improving.

    At the end of training, also of one that is interrupted or diverges, the network gets the
    parameters of its best epoch. A training that is resumed begins anew: of the epochs before, the
    parameters are gone.

    Args:
        monitor: "loss", "validation_loss" or "validation_metric"; the last improves when it rises
            or, as RMSE and MAE do, when it falls.
        patience: the number of epochs without an improvement after which training ends, 1 or more.
        min_delta: the change that an improvement must exceed, not negative.

    Attributes:
        best_epoch: the number of the best epoch so far; None before the first epoch. At the end
            it is also `History.best_epoch`.

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
        self._reset()

    def _reset(self) -> None:
        self.best_epoch: int | None = None
        self._best = math.inf
        self._parameters: Parameters = []

    def start(self, network: MLP, history: History) -> None:
        """Forget the training before."""
        self._reset()

    def state(self) -> dict[str, Any]:
        """Return the best epoch so far, for a checkpoint."""
        parameters = [list(map(to_numpy, layer)) for layer in self._parameters]
        best = self._best if math.isfinite(self._best) else None
        return {"best_epoch": self.best_epoch, "best": best, "parameters": parameters}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from the best epoch of a checkpoint."""
        best = state["best"]
        self.best_epoch, self._best = state["best_epoch"], math.inf if best is None else best
        self._parameters = [tuple(layer) for layer in state["parameters"]]

    def __call__(self, network: MLP, history: History) -> bool:
        """Return whether training should end."""
        epoch = history.epochs[-1].epoch
        value = history.monitored(history.epochs[-1], self.monitor)
        if self.best_epoch is None or value < self._best - self.min_delta:
            self.best_epoch, self._best = epoch, value
            # Copy them: other callbacks may write into the network's own arrays.
            self._parameters = network.backend.copied(network.parameters)
        return epoch - self.best_epoch >= self.patience

    def finish(self, network: MLP, history: History) -> None:
        """Restore the best epoch's parameters."""
        parameters, self._parameters = self._parameters, []  # free their memory
        if parameters:
            network.parameters = parameters
            history.best_epoch = self.best_epoch

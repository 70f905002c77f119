"""When a training by sgd or adam ends, and the learning rates on the way: scikit-learn's rules."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from nnxp.history import History
from nnxp.network import MLP
from nnxp.optimizers import Parameters

SMALLEST_RATE = 1e-6
"""The rate down to which "adaptive" divides it."""


@dataclass
class Progress:
    """What an estimator remembers between trainings that go on from each other."""

    early_stopping: bool
    loss_curve: list[float] = field(default_factory=list)
    best_loss: float = math.inf
    validation_scores: list[float] = field(default_factory=list)
    best_score: float = -math.inf
    best_parameters: Parameters = field(default_factory=list)
    samples_seen: int = 0
    no_improvement: int = 0
    """The number of epochs without an improvement."""
    rate: float = 0.0


class Convergence:
    """A callback that ends a training by scikit-learn's rules; its `rate` is the schedule.

    A training ends when more than `n_iter_no_change` epochs in a row have not improved the loss,
    or with early stopping the validation score, by `tol`. With the learning rate "adaptive" the
    rate is divided by 5 instead, until it is very small. Early stopping restores the parameters of
    the best score.

    Args:
        progress: of the trainings before; updated here.
        parameters: the estimator's, as `parameters.check` returns them.
        samples: the number of samples of an epoch.
        score: score(history) returns the validation score of the last epoch.
        offset: what the loss is larger than that of the history.
    """

    def __init__(
        self,
        progress: Progress,
        parameters: SimpleNamespace,
        samples: int,
        score: Callable[[History], float],
        offset: float = 0.0,
    ) -> None:
        self.progress = progress
        self.parameters = parameters
        self.samples = samples
        self.score = score
        self.offset = offset
        self.epochs = 0
        self.converged = False

    def rate(self, base: float, epoch: int, epochs: int, history: History) -> float:
        """Return the learning rate of the next epoch."""
        return self.progress.rate

    def __call__(self, network: MLP, history: History) -> bool:
        """Return whether training should end."""
        progress, parameters = self.progress, self.parameters
        self.epochs += 1
        loss = history.epochs[-1].loss + self.offset
        progress.samples_seen += self.samples
        progress.loss_curve.append(loss)
        self._print(f"Iteration {self.epochs}, loss = {loss:.8f}")
        if parameters.early_stopping:
            self._compare_score(network, self.score(history))
        else:
            improved = loss <= progress.best_loss - parameters.tol
            progress.no_improvement = 0 if improved else progress.no_improvement + 1
            progress.best_loss = min(progress.best_loss, loss)
        if parameters.solver == "sgd" and parameters.learning_rate == "invscaling":
            scale = (progress.samples_seen + 1) ** parameters.power_t
            progress.rate = parameters.learning_rate_init / scale
        if progress.no_improvement > parameters.n_iter_no_change:
            self.converged = self._ends()
        return self.converged

    def restore(self, network: MLP) -> None:
        """Give the network the parameters of the best validation score."""
        if self.progress.best_parameters:
            network.parameters = self.progress.best_parameters

    def _compare_score(self, network: MLP, score: float) -> None:
        progress = self.progress
        progress.validation_scores.append(score)
        self._print(f"Validation score: {score:f}")
        improved = score >= progress.best_score + self.parameters.tol
        progress.no_improvement = 0 if improved else progress.no_improvement + 1
        if score > progress.best_score:
            progress.best_score = score
            progress.best_parameters = network.backend.copied(network.parameters)

    def _ends(self) -> bool:
        """Return whether training should end; divide an adaptive rate instead."""
        progress, parameters = self.progress, self.parameters
        what = "Validation score" if parameters.early_stopping else "Training loss"
        message = (
            f"{what} did not improve more than tol={parameters.tol:f} for "
            f"{parameters.n_iter_no_change} consecutive epochs."
        )
        if parameters.solver != "sgd" or parameters.learning_rate != "adaptive":
            self._print(f"{message} Stopping.")
            return True
        if progress.rate <= SMALLEST_RATE:
            self._print(f"{message} Learning rate too small. Stopping.")
            return True
        progress.rate /= 5
        progress.no_improvement = 0
        self._print(f"{message} Setting learning rate to {progress.rate:f}")
        return False

    def _print(self, line: Any) -> None:
        if self.parameters.verbose:
            print(line)

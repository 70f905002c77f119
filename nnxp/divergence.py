"""Divergence: a training that is no longer finite is noticed within a chunk, and its origin found.

The losses and parameters of each chunk of steps are read while the device works on the next one. If
they are not finite, the steps since the last copy of the state run again, one by one, until the
first one whose loss or parameters are not finite.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from nnxp.arrays import Array, namespace, rows, to_numpy
from nnxp.augmentation import Augmenter
from nnxp.data.feeds import Feed
from nnxp.distributed.world import ALONE, World
from nnxp.errors import BackendError, DivergenceError
from nnxp.executors import Runner
from nnxp.nested import leaves, rebuilt
from nnxp.network import MLP, propagate
from nnxp.regularization import Regularization, dropout
from nnxp.state import TrainState, with_batch_size

log = logging.getLogger("nnxp")

KEPT_STEPS, KEPT_ROWS = 2**10, 2**20
"""Steps, and rows that they take, after which the state is copied anew: few run again where a
training diverges, and a copy costs nothing beside them."""


@dataclass(frozen=True)
class Origin:
    """The first step whose loss or parameters are not finite."""

    step: int
    """1, 2, 3, ... in its epoch."""
    layer: int
    """1, 2, 3, ...: the layer of the first array that is not finite. If the loss is not finite
    and all outputs are, the last one."""
    problem: str
    """What is wrong with that layer, a clause."""
    loss: float
    """The step's loss."""


class DivergenceWatch:
    """Watches the chunks of one training.

    Args:
        network: the network in training.
        run: runs chunks of its steps.
        feed: the training data.
        regularization, seed: see `nnxp.train`.
        world: the processes of the training: each has a part of the rows of a step.
        augmenter: deforms the images of each step; None for no deformation.
    """

    def __init__(
        self,
        network: MLP,
        run: Runner,
        feed: Feed,
        regularization: Regularization,
        seed: int,
        world: World = ALONE,
        augmenter: Augmenter | None = None,
    ) -> None:
        self.backend = network.backend
        self.run = run
        self.feed = feed
        self.hidden = network.hidden
        self.shares = regularization.shares(len(network.hidden))
        self.seed = seed
        self.world = world
        self.augmenter = augmenter
        self._total = self.backend.compiled(_total)
        self._reads: deque[Callable[[], np.ndarray]] = deque()
        self._kept: TrainState | None = None
        """A copy of the state, on the host: the device may have no memory to spare."""
        self._epochs: list[tuple[np.ndarray, float]] = []
        """(order, rate) of the epochs since that copy."""
        self._done: int
        """The steps before that copy, of the first of these epochs."""
        self._since: int
        """The steps since that copy."""

    def begin(self, state: TrainState, order: np.ndarray, rate: float, done: int) -> None:
        """Begin an epoch, or go on in one.

        Args:
            state: the state, which is finite.
            order: the rows that the epoch visits, (samples,).
            rate: its learning rate.
            done: the number of its steps that are done.
        """
        if self._kept is None or self._is_due():
            self._keep(state, done)
        self._epochs.append((order, rate))

    def count(self, steps: int) -> None:
        """Count the steps of a chunk."""
        self._since += steps

    def _is_due(self) -> bool:
        return self._since >= KEPT_STEPS or self._since * self.feed.batch_size >= KEPT_ROWS

    def _keep(self, state: TrainState, done: int) -> None:
        """Copy the state, which is finite, after this number of steps of an epoch."""
        self._kept, self._done = _on_host(state), done
        self._epochs, self._since = [], 0

    def parameter_sum(self, state: TrainState) -> Array:
        """Return the sum of all parameters, a 0-d array: finite only if every parameter is."""
        with self.backend.active():
            return self._total(state.parameters)

    def is_finite(self, state: TrainState, loss: Array, done: int) -> bool:
        """Note a chunk that was queued; return whether the chunks so far are finite.

        Where the device runs behind the host, the answer is about the chunks before this one.

        Args:
            state: the state after the chunk.
            loss: the sum of its steps' losses, a 0-d array.
            done: the number of the epoch's steps that are done.
        """
        self._reads.append(self.backend.reading([loss, self.parameter_sum(state)]))
        waiting = 1 if self.backend.runs_ahead and not self._is_due() else 0
        while len(self._reads) > waiting:
            if not np.isfinite(self._reads.popleft()()).all():
                return False
        if self._is_due():
            epoch = self._epochs[-1]
            self._keep(state, done)
            self._epochs.append(epoch)
        return True

    def error(self, epoch: int, unit: float) -> DivergenceError:
        """Return the error that names the origin of what is not finite.

        Args:
            epoch: the number of the epoch: 1, 2, ...
            unit: the factor from the loss of a step to that of the targets' own unit.
        """
        rate = self._epochs[-1][1]
        try:
            origin = self._origin()
        except BackendError as problem:  # there was memory for the training, and not for this
            log.info("the step and the layer are not known: %s", problem)
            origin = None
        cure = f"lower the learning rate ({rate:g}), or scale the inputs"
        if origin is None:
            error = DivergenceError(f"the loss is inf in epoch {epoch}: {cure}")
        else:
            error = DivergenceError(
                f"the loss is {unit * origin.loss:g} in epoch {epoch}, step {origin.step}: "
                f"{origin.problem}: {cure}"
            )
            error.step, error.layer = origin.step, origin.layer
        error.epoch = epoch
        return error

    def _origin(self) -> Origin | None:
        """Run the steps since the last copy again, and return the first that is not finite.

        None if all of them are: where only the sum of a chunk overflows, or where a device does
        not repeat its bits.
        """
        assert self._kept is not None
        state, done = self.backend.copied(self._kept), self._done
        *before, (order, rate) = self._epochs
        for earlier, its_rate in before:
            for data, chunk in self.feed.chunks(earlier, done):
                state, _ = self.run(self._sized(state, done), data, chunk, its_rate)
                done += chunk.shape[0]
            done = 0
        for data, chunk in self.feed.chunks(order, done):
            state = self._sized(state, done)
            start = _on_host(state)  # steps write into their state
            state, loss = self.run(state, data, chunk, rate)
            if self._all_finite([loss, self.parameter_sum(state)]):
                done += chunk.shape[0]
                continue
            state = self.backend.copied(start)
            for k in range(chunk.shape[0]):
                start = _on_host(state)
                state, loss = self.run(state, data, chunk[k : k + 1, ...], rate)
                if not self._all_finite([loss, self.parameter_sum(state)]):
                    with self.backend.active():
                        batch = rows(data, chunk[k, ...])
                        before_step = self.backend.copied(start)
                        part = self._part(before_step, batch[0], state, float(loss), done + k + 1)
                        return self._first(part)
        return None

    def _sized(self, state: TrainState, done: int) -> TrainState:
        return with_batch_size(state, self.feed.batch_size_after(done), self.backend)

    def _first(self, part: tuple[int, Origin] | None) -> Origin | None:
        """Return the part that is computed first among those that the ranks found."""
        found = [each for each in self.world.exchange(part) if each is not None]
        return min(found, key=lambda each: each[0])[1] if found else None

    def _part(
        self, before: TrainState, x: Array, after: TrainState, loss: float, step: int
    ) -> tuple[int, Origin] | None:
        """Return the first part of a step that is not finite, with its place in the computation."""
        first = self.feed.share.first_row(x.shape[0])
        if self.augmenter:
            x = self.augmenter(x, before.deformation_fields[0], before.step, first)
        mask = dropout(self.shares, self.seed, before.step, first) if self.shares else None
        z, tape = propagate(before.parameters, self.hidden, x, mask)
        outputs = [*(inputs for inputs, _, _ in tape[1:]), z]
        for layer, array in enumerate(outputs, 1):
            if not _is_finite(array):
                problem = f"the outputs of layer {layer} are not finite"
                return layer, Origin(step, layer, problem, loss)
        if not math.isfinite(loss):
            largest = np.abs(to_numpy(z)).max()
            problem = f"the outputs of layer {layer} reach {largest:.2g}"
            return layer + 1, Origin(step, layer, problem, loss)
        # Backpropagation begins with the last layer.
        for layer, (weight, bias) in reversed([*enumerate(after.parameters, 1)]):
            for part, array in (("weights", weight), ("biases", bias)):
                if not _is_finite(array):
                    problem = f"its update of the {part} of layer {layer} is not finite"
                    return 2 * len(outputs) + 1 - layer, Origin(step, layer, problem, loss)
        return None  # each parameter is finite, and only their sum overflows

    def _all_finite(self, scalars: list[Array]) -> bool:
        return bool(np.isfinite(self.backend.read(scalars)).all())


def _on_host(state: TrainState) -> TrainState:
    return cast(TrainState, rebuilt(state, [np.array(to_numpy(each)) for each in leaves(state)]))


def _is_finite(array: Array) -> bool:
    return bool(np.isfinite(to_numpy(array)).all())


def _total(parameters: Any) -> Array:
    xp = namespace(parameters[0][0])
    return sum(xp.sum(array) for array in leaves(parameters))

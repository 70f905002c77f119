"""How far a training is: the chunks of steps that are done, and their loss, without waiting."""

from __future__ import annotations

import threading
from collections import deque

from nnxp.arrays import Array
from nnxp.backends import Backend


class Running:
    """The samples that a running training is through, and the mean loss of its epoch so far.

    A device works on chunks that were queued before. `look` asks which of them are done, and waits
    for none; other threads may call it. It reads losses only from the host's memory: with a GPU,
    a read would be a transfer that the training does not need.

    Args:
        backend: the backend that runs the steps.
        unit: the factor from the loss of a step to that of the targets' own unit.
    """

    def __init__(self, backend: Backend, unit: float) -> None:
        self._backend = backend
        self._unit = unit
        self._on_host = backend.device_name == "cpu"
        self._lock = threading.Lock()
        self._pending: deque[tuple[Array, int, int]] = deque()
        self._samples = 0
        self._of_epoch = 0
        self._total = 0.0

    def begin(self, samples: int) -> None:
        """Count the samples that were done before, in a training that goes on."""
        self._samples = samples

    def start_epoch(self) -> None:
        """Begin the loss of another epoch; all chunks of the one before are done."""
        with self._lock:
            self._samples += sum(steps * batch for _, steps, batch in self._pending)
            self._pending.clear()
            self._of_epoch, self._total = 0, 0.0

    def add(self, loss: Array, steps: int, batch: int) -> None:
        """Note a chunk that was queued.

        Args:
            loss: the sum of its steps' losses, a 0-d array, which is not changed later.
            steps, batch: its shape.
        """
        self._pending.append((loss, steps, batch))

    def look(self) -> tuple[int, float | None]:
        """Return the number of samples so far and the mean loss of those of this epoch.

        The loss is None while nothing of the epoch is done, and where it is not on the host.
        """
        with self._lock:
            while self._pending and self._backend.is_ready(self._pending[0][0]):
                loss, steps, batch = self._pending.popleft()
                self._samples += steps * batch
                self._of_epoch += steps * batch
                if self._on_host:
                    self._total += float(loss) * batch
            known = self._on_host and self._of_epoch
            return self._samples, self._unit * self._total / self._of_epoch if known else None

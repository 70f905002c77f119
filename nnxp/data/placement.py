"""Where data lives during a call, decided once: on the device, or on the host.

Data that fits beside the network is moved to the device once. Data that does not fit stays on the
host and is sent by chunks of steps, or by blocks of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nnxp.arrays import Array, index_dtype
from nnxp.backends.base import Backend
from nnxp.data import checks

CHUNK_BYTES = 2**26
"""A streamed chunk is no larger, unless one batch is: enough to hide what a copy costs."""
BLOCK_ELEMENTS = 2**22
"""Elements of the widest layer for which outputs are computed at once, outside of training."""


@dataclass(frozen=True)
class NetworkSpec:
    """The facts about a network that its data must fit."""

    sizes: tuple[int, ...]
    """Units per layer, inputs first."""
    dtype: str
    """"float32" or "float64"."""
    backend: Backend

    @property
    def itemsize(self) -> int:
        """Bytes of one number."""
        return np.dtype(self.dtype).itemsize

    @property
    def block_rows(self) -> int:
        """Samples whose outputs are computed at once."""
        return max(1, BLOCK_ELEMENTS // max(self.sizes))

    def on_device(self, x: Array) -> Array:
        """`x`, checked by `checks.matrix`, on the device; every value is checked.

        Raises:
            InputError: a value is not finite in the network's dtype.
        """
        return checks.on_device(x, self.backend, self.backend.dtype(self.dtype))

    def on_host(self, x: Array) -> np.ndarray:
        """`x`, checked by `checks.matrix`, as a NumPy array; every value is checked.

        Raises:
            InputError: a value is not finite in the network's dtype.
        """
        return checks.on_host(x, self.dtype)

    def targets(self, t: np.ndarray) -> Array:
        """Host targets on the device: classes as its index type, values as the network's dtype."""
        classes = t.dtype.kind == "i"
        dtype = index_dtype(self.backend.xp) if classes else self.backend.dtype(self.dtype)
        return self.backend.asarray(t, dtype=dtype)


@dataclass(frozen=True)
class Placement:
    """Where data lives, why, and how many bytes it takes."""

    network: NetworkSpec
    total_bytes: int
    bytes_on_device: int
    """Of the total, what is on the device already."""
    free_bytes: int | None
    """What is free on the device; None where the device is the host."""
    available_bytes: int | None
    """Of the free bytes, those that data may take."""
    stream: bool | None
    """What the caller asked for: True is on the host, False on the device, None to decide."""

    def keeps_on_host(self, x: Array) -> bool:
        """Whether `x` lives on the host."""
        if self.stream is not None:
            return self.stream
        missing = self.total_bytes - self.bytes_on_device
        if self.available_bytes is None or missing <= self.available_bytes:
            return False
        return not self.network.backend.holds(x)

    def place(self, x: Array) -> Array:
        """`x` where it is to live; every value is checked. See `NetworkSpec.on_device`."""
        return self.network.on_host(x) if self.keeps_on_host(x) else self.network.on_device(x)

    def describe(self) -> str:
        """Bytes, and what is free, in one phrase."""
        free = ""
        if self.free_bytes is not None:
            device = self.network.backend.device_name
            free = f", {bytes_text(self.free_bytes)} free on {device}"
        return f"data: {bytes_text(self.total_bytes)}{free}"


def decide(
    network: NetworkSpec,
    total_bytes: int,
    bytes_on_device: int = 0,
    batch_size: int = 1,
    stream: bool | None = None,
) -> Placement:
    """Decide whether data fits on the device beside a network.

    An estimate. Available is what is free, less a tenth for fragments and the libraries' own use;
    less eight times the parameters, for the state, gradients, updates and the copies in between;
    less four times the activations of a batch, or of a block of rows.

    Args:
        network: whose data it is.
        total_bytes, bytes_on_device, stream: see `Placement`.
        batch_size: samples per step.
    """
    free = available = network.backend.free_memory()
    if free is not None:
        sizes = network.sizes
        parameters = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(sizes))
        activations = max(batch_size, network.block_rows) * sum(sizes)
        available = int(0.9 * free) - network.itemsize * (8 * parameters + 4 * activations)
    return Placement(network, total_bytes, bytes_on_device, free, available, stream)


def decide_training(
    network: NetworkSpec,
    arrays: Sequence[Array],
    share: float,
    batch_size: int | None,
    stream: bool | None,
) -> Placement:
    """Decide where the data of a training lives.

    Args:
        network: whose data it is.
        arrays: x and, where they come apart, the x of validation.
        share: of the rows of x, how many are held out; on the device that is a copy.
        batch_size: samples per step; None for all.
        stream: see `Placement`.
    """
    features, *_, outputs = network.sizes
    samples = arrays[0].shape[0]
    elements = samples * (outputs + 1) + features * int(share * samples)  # targets and weights
    elements += sum(features * each.shape[0] for each in arrays)
    there = sum(features * each.shape[0] for each in arrays if network.backend.holds(each))
    size = network.itemsize
    batch = min(batch_size or samples, samples)
    return decide(network, size * elements, size * there, batch, stream)


def place(network: NetworkSpec, x: Array) -> Array:
    """`x` checked, for outputs to be computed: on the device, or on the host if it does not fit.

    On the host, too, where the host is the device: blocks of it are converted there, never all.

    Raises:
        InputError: the shape does not fit, or a value is not finite.
    """
    x = checks.matrix(x, network.sizes[0])
    size = x.shape[0] * x.shape[1] * network.itemsize
    if size <= CHUNK_BYTES:  # without a question to the driver
        return network.on_device(x)
    if network.backend.device_name == "cpu" and isinstance(x, np.ndarray):
        return network.on_host(x)
    return decide(network, size).place(x)


def bytes_text(size: float) -> str:
    """188000000 is "188 MB"."""
    unit, name = next(
        ((unit, name) for unit, name in ((1e9, "GB"), (1e6, "MB")) if size >= 0.9995 * unit),
        (1e3, "kB"),
    )
    return f"{size / unit:.0f} {name}" if size >= 99.95 * unit else f"{size / unit:.3g} {name}"

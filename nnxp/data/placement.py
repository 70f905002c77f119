"""The placement of data during a call, decided once: on the device or on the host.

Data that fits on the device together with the network is moved there once. Data that does not fit
stays on the host and is sent by chunks of steps, or by blocks of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from nnxp.arrays import Array, index_dtype
from nnxp.backends.base import Backend
from nnxp.data import batches, checks, sources

CHUNK_BYTES = 2**26
"""Most bytes of a streamed chunk, unless one batch is larger: enough to hide a copy's cost."""
BLOCK_ELEMENTS = 2**22
"""Elements of the widest layer's output that are computed at once, outside of training."""


@dataclass(frozen=True)
class NetworkSpec:
    """The properties of a network that its data must fit."""

    sizes: tuple[int, ...]
    """Units per layer, inputs first."""
    dtype: str
    """"float32" or "float64"."""
    backend: Backend

    @property
    def itemsize(self) -> int:
        """Bytes per number."""
        return np.dtype(self.dtype).itemsize

    @property
    def largest_weight(self) -> int:
        """Elements of the largest weight matrix: multiply-adds of a sample's largest product."""
        return max(fan_in * fan_out for fan_in, fan_out in pairwise(self.sizes))

    def chunk_steps(self, batch_size: int) -> int:
        """Return the most steps of a chunk of full batches that the executor takes at once."""
        if not self.backend.execution.long_chunks:
            return batches.STEPS_PER_CHUNK
        per_sample = sum(fan_in * fan_out for fan_in, fan_out in pairwise(self.sizes))
        return batches.long_chunk(per_sample * batch_size, self.backend.device_name)

    @property
    def block_rows(self) -> int:
        """Samples whose outputs are computed at once."""
        return max(1, BLOCK_ELEMENTS // max(self.sizes))

    def features(self, x: Any) -> Array:
        """Move a caller's `x` to the device; check its shape and that every value is finite.

        Raises:
            InputError: the shape does not fit, or a value is not finite in the network's dtype.
        """
        return checks.features(x, self.sizes[0], self.backend, self.backend.dtype(self.dtype))

    def on_device(self, x: Array) -> Array:
        """Move `x`, from `checks.matrix`, to the device; check that every value is finite.

        Raises:
            InputError: a value is not finite in the network's dtype.
        """
        return checks.on_device(x, self.backend, self.backend.dtype(self.dtype))

    def on_host(self, x: Array) -> np.ndarray | sources.Source:
        """Return `x`, from `checks.matrix`, on the host; check that every value is finite.

        Raises:
            InputError: a value is not finite in the network's dtype.
        """
        return checks.on_host(x, self.dtype)

    def targets(self, t: np.ndarray) -> Array:
        """Move targets to the device: classes in its index dtype, values in the network's dtype."""
        classes = t.dtype.kind == "i"
        dtype = index_dtype(self.backend.xp) if classes else self.backend.dtype(self.dtype)
        return self.backend.asarray(t, dtype=dtype)


@dataclass(frozen=True)
class Placement:
    """The decision where data lives, its reason, and the bytes of the data."""

    network: NetworkSpec
    total_bytes: int
    bytes_on_device: int
    """The part of the total that is already on the device."""
    free_bytes: int | None
    """Free bytes on the device; None if the device is the host."""
    available_bytes: int | None
    """The part of the free bytes that data may take."""
    stream: bool | None
    """The caller's choice: True for the host, False for the device, None to decide here."""

    def keeps_on_host(self, x: Array) -> bool:
        """Return whether `x` lives on the host, or on disk."""
        if isinstance(x, sources.Source):
            return self.stream is not False
        if self.stream is not None:
            return self.stream
        missing = self.total_bytes - self.bytes_on_device
        if self.available_bytes is None or missing <= self.available_bytes:
            return False
        return not self.network.backend.holds(x)

    def place(self, x: Array, assume_finite: bool = False) -> Array:
        """Move `x` to where it lives; check that every value is finite. See `NetworkSpec`.

        Args:
            x: from `checks.matrix`.
            assume_finite: whether to leave out the check for finite values, if `x` is on the host
                and in the network's dtype.
        """
        if isinstance(x, sources.Source) and self.stream is False:
            x = x.load()
        on_host = isinstance(x, (np.ndarray, sources.Source))
        known = assume_finite and on_host and x.dtype == self.network.dtype
        if self.keeps_on_host(x):
            return x if known else self.network.on_host(x)
        return self.network.backend.asarray(x) if known else self.network.on_device(x)

    def describe(self) -> str:
        """Return the bytes of the data and the free bytes in one phrase."""
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
    """Decide whether data fits on the device together with a network.

    This is an estimate. The available bytes are the free bytes, minus a tenth for fragments and the
    libraries' own use, minus eight times the parameters for the state, gradients, updates and
    temporary copies, minus four times the activations of a batch or of a block of rows.

    Args:
        network: the network that uses the data.
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
        network: the network that uses the data.
        arrays: x and, if validation data is given, its x.
        share: the part of the rows of x to hold out, which are copied on the device.
        batch_size: samples per step; None for all.
        stream: see `Placement`.
    """
    features, *_, outputs = network.sizes
    samples = arrays[0].shape[0]
    elements = samples * (outputs + 1) + features * int(share * samples)  # targets and weights
    elements += sum(features * each.shape[0] for each in arrays)
    on_device = sum(features * each.shape[0] for each in arrays if _holds(network, each))
    size = network.itemsize
    batch = min(batch_size or samples, samples)
    return decide(network, size * elements, size * on_device, batch, stream)


def _holds(network: NetworkSpec, x: Array) -> bool:
    return not isinstance(x, sources.Source) and network.backend.holds(x)


def place(network: NetworkSpec, x: Array, assume_finite: bool = False) -> Array:
    """Check `x` and move it to the device, or to the host if it does not fit, for a forward pass.

    If the device is the host, large data stays as it is and is converted by blocks.

    Args:
        network: the network that the data must fit.
        x: (samples, features), of any library.
        assume_finite: whether to leave out the check for finite values, on the host.

    Raises:
        InputError: the shape does not fit, or a value is not finite.
    """
    fits = type(x) is np.ndarray and x.dtype.kind == "f" and x.shape[1:] == network.sizes[:1]
    if assume_finite and fits and len(x) and network.backend.device_name == "cpu":
        return x  # the other checks take as long as a small product
    x = checks.matrix(x, network.sizes[0])
    size = x.shape[0] * x.shape[1] * network.itemsize
    if isinstance(x, sources.Source):
        return x if assume_finite else network.on_host(x)
    if size <= CHUNK_BYTES:  # small data needs no call of the driver
        return network.on_device(x)
    if network.backend.device_name == "cpu" and isinstance(x, np.ndarray):
        return network.on_host(x)
    return decide(network, size).place(x)


def bytes_text(size: float) -> str:
    """Format bytes: 188000000 is "188 MB"."""
    unit, name = next(
        ((unit, name) for unit, name in ((1e9, "GB"), (1e6, "MB")) if size >= 0.9995 * unit),
        (1e3, "kB"),
    )
    return f"{size / unit:.0f} {name}" if size >= 99.95 * unit else f"{size / unit:.3g} {name}"

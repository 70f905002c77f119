"""Buffers for data that is sent to the device: filled on the host, sent, then computed with.

On CUDA the host's memory is pinned and is copied on a stream of its own, while steps run on the
caller's current stream. Events order the two. The host waits only before it overwrites the source
of a copy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnxp.arrays import Array

Layout = list[tuple[tuple[int, ...], np.dtype[Any]]]
"""The shape and the dtype of each array; all have the same number of rows."""


class Staging:
    """Buffers for one chunk of data. This class works with every library: it copies to new arrays.

    The order of use: write to `host()`, `send`, compute with `device()`, and again from `host()`.
    """

    def __init__(self, backend: Any, layout: Layout) -> None:
        self.backend = backend
        self.arrays = [np.zeros(shape, dtype) for shape, dtype in layout]
        self.sent: tuple[Array, ...] = ()

    def host(self) -> list[np.ndarray]:
        """Wait until the last copy has read the host's arrays; return them to be written to."""
        return self.arrays

    def send(self, rows: int) -> None:
        """Begin to copy the first rows. Work that is already queued may still read the old data."""
        self.sent = ()
        self.sent = tuple(self.backend.asarray(array, copy=True) for array in self.arrays)

    def device(self) -> tuple[Array, ...]:
        """Return the arrays that were sent, for work that is queued from now on."""
        return self.sent


class SharedStaging(Staging):
    """Buffers for NumPy: steps read them where they are filled."""

    def send(self, rows: int) -> None:
        self.sent = tuple(self.arrays)


class JAXStaging(Staging):
    """Buffers for JAX: new host arrays each time, because JAX may read or share them later."""

    def __init__(self, backend: Any, layout: Layout) -> None:
        import jax

        self.jax, self.to, self.layout = jax, backend.device, layout
        self.one = self.mark = jax.device_put(np.float32(1), backend.device)
        self.sent = ()

    def host(self) -> list[np.ndarray]:
        # Without this JAX lets the host run dozens of chunks ahead, each in new memory.
        self.mark.block_until_ready()
        self.arrays = [np.empty(shape, dtype) for shape, dtype in self.layout]
        return self.arrays

    def send(self, rows: int) -> None:
        self.sent = ()
        self.sent = tuple(self.jax.device_put(array, self.to) for array in self.arrays)
        self.mark = -self.one  # a device computes in order: ready when the steps before are done


class CUDAStaging(Staging):
    """Buffers for CUDA: always the same arrays, pinned on the host, copied on a separate stream.

    A subclass sets the attributes that are declared here. The methods of streams and events have
    the same names in CuPy and PyTorch.
    """

    stream: Any
    """The stream that copies."""
    free: Any
    """The event after which the device's arrays may be overwritten."""
    copied: Any
    """The event after which the copy is complete."""

    def current(self) -> Any:
        """Return the stream that computes."""
        raise NotImplementedError

    def copy(self, rows: int) -> None:
        """Queue the copies on `stream`."""
        raise NotImplementedError

    def host(self) -> list[np.ndarray]:
        self.copied.synchronize()
        return self.arrays

    def send(self, rows: int) -> None:
        # Wait for all work queued so far: it may read the arrays, or their memory may have
        # belonged to other arrays that it still uses.
        self.free.record(self.current())
        self.stream.wait_event(self.free)
        self.copy(rows)
        self.copied.record(self.stream)

    def device(self) -> tuple[Array, ...]:
        self.current().wait_event(self.copied)
        return self.sent


class CuPyStaging(CUDAStaging):
    def __init__(self, layout: Layout) -> None:
        import cupy
        import cupyx

        self.cuda = cupy.cuda
        self.arrays = [cupyx.empty_pinned(shape, dtype) for shape, dtype in layout]
        self.sent = tuple(cupy.empty(shape, dtype) for shape, dtype in layout)
        # Non-blocking: a blocking stream waits for the default stream, where steps may run.
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self.free, self.copied = (cupy.cuda.Event(disable_timing=True) for _ in range(2))

    def current(self) -> Any:
        return self.cuda.get_current_stream()

    def copy(self, rows: int) -> None:
        for source, target in zip(self.arrays, self.sent, strict=True):
            target[:rows].set(source[:rows], stream=self.stream)


class TorchStaging(CUDAStaging):
    def __init__(self, device: Any, layout: Layout) -> None:
        import torch

        self.cuda, self.on = torch.cuda, device
        like = [(shape, torch.from_numpy(np.empty(0, dtype)).dtype) for shape, dtype in layout]
        self.pinned = [torch.empty(shape, dtype=dtype, pin_memory=True) for shape, dtype in like]
        self.arrays = [array.numpy() for array in self.pinned]
        self.sent = tuple(torch.empty(shape, dtype=dtype, device=device) for shape, dtype in like)
        self.stream = torch.cuda.Stream(device)
        self.free, self.copied = torch.cuda.Event(), torch.cuda.Event()

    def current(self) -> Any:
        return self.cuda.current_stream(self.on)

    def copy(self, rows: int) -> None:
        with self.cuda.stream(self.stream):
            for source, target in zip(self.pinned, self.sent, strict=True):
                target[:rows].copy_(source[:rows], non_blocking=True)

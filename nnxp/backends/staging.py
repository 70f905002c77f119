"""Places for data on its way to the device: filled on the host, sent, then computed with.

On CUDA the host's side is pinned and is copied on a stream of its own, beside the steps that run on
the caller's current stream. Events keep the two apart: nothing here waits on the host but for a
copy whose source is about to be overwritten.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnxp.arrays import Array

Layout = list[tuple[tuple[int, ...], np.dtype[Any]]]
"""The shape and the dtype of each array of a place; as many rows in all of them."""


class Staging:
    """One place. This one sends at once, to new arrays: right for every library.

    Used in turn: `host` and write, `send`, `device` and compute, `host` again.
    """

    def __init__(self, backend: Any, layout: Layout) -> None:
        self.backend = backend
        self.arrays = [np.zeros(shape, dtype) for shape, dtype in layout]
        self.sent: tuple[Array, ...] = ()

    def host(self) -> list[np.ndarray]:
        """Arrays to write to, once what was sent last no longer needs them."""
        return self.arrays

    def send(self, rows: int) -> None:
        """Begin to copy the first rows. What was asked of the device so far may still read it."""
        self.sent = ()
        self.sent = tuple(self.backend.asarray(array, copy=True) for array in self.arrays)

    def device(self) -> tuple[Array, ...]:
        """What was sent, for all that is asked of the device from now on."""
        return self.sent


class JAXStaging(Staging):
    """Sends arrays that are never written to again: JAX reads them later, or keeps them."""

    def __init__(self, backend: Any, layout: Layout) -> None:
        import jax

        self.jax, self.to, self.layout = jax, backend.device, layout
        self.one = self.mark = jax.device_put(np.float32(1), backend.device)
        self.sent = ()

    def host(self) -> list[np.ndarray]:
        # Of its own accord JAX lets the host run dozens of chunks ahead, each in new memory.
        self.mark.block_until_ready()
        self.arrays = [np.empty(shape, dtype) for shape, dtype in self.layout]
        return self.arrays

    def send(self, rows: int) -> None:
        self.sent = ()
        self.sent = tuple(self.jax.device_put(array, self.to) for array in self.arrays)
        self.mark = -self.one  # a device computes in order: ready once the steps before it are


class CUDAStaging(Staging):
    """The same arrays each time, pinned on the host, copied on a stream of their own.

    A subclass sets what is declared here; CuPy and PyTorch call the rest the same.
    """

    stream: Any
    """What copies."""
    free: Any
    """The event after which the device's arrays may be overwritten."""
    copied: Any
    """The event after which both sides are equal."""

    def current(self) -> Any:
        """The stream that computes."""
        raise NotImplementedError

    def copy(self, rows: int) -> None:
        """Queue the copies on `stream`."""
        raise NotImplementedError

    def host(self) -> list[np.ndarray]:
        self.copied.synchronize()
        return self.arrays

    def send(self, rows: int) -> None:
        # All that is queued so far: it may read the arrays, or be the last user of their memory
        # before they were made of it.
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
        # Non-blocking: another stream would wait for the default one, where steps may run.
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

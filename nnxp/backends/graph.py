"""A chunk of training steps captured on the GPU once, then launched as a whole.

What a library does to capture and to launch is its own, a `Library`; what is decided here is the
same for all: which chunks are alike, where a captured chunk finds its input and leaves its state,
that it is tried before it is believed, and that what cannot be captured runs by `eager`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Protocol

from nnxp.arrays import Array, device, namespace
from nnxp.backends import eager
from nnxp.backends.recording import leaves
from nnxp.errors import BackendError, described

KEPT = 8
"""Captured chunks that a runner keeps. An epoch takes three: whole chunks, a shorter one of the
last whole batches, the smaller last batch."""


class Library(Protocol):
    """What capturing asks of an array library. `play` takes nothing and returns nothing."""

    def place(self, array: Array) -> Hashable:
        """Where an array lies in memory: the same only for what kernels cannot tell apart."""
        ...

    def steps(
        self, step: Any, state: Any, data: Any, order: Array, learning_rate: Array
    ) -> Callable[..., Any]:
        """A function like `eager.run`, of these arrays: the steps as they are captured.

        May run them, and so change the state, to find out.
        """
        ...

    def warm_up(self, play: Callable[[], None]) -> None:
        """Run `play` once, and get ready what a capture may not: kernels, handles, memory."""
        ...

    def capture(self, play: Callable[[], None]) -> Callable[[], None]:
        """Record what `play` asks of the GPU, and run none of it; what launches it.

        What is launched has its memory to itself, and keeps it as long as it lives; it follows
        what was asked of the GPU before, and precedes what is asked later.
        """
        ...


def runner(step: Any, library: Library, fell_back: Callable[[str], Any]) -> Any:
    """A function like `eager.run` that launches captured chunks. It keeps what it captured.

    Args:
        step: see `nnxp.backends.base.Step`.
        library: how to capture.
        fell_back: called with the reason where chunks run eagerly.
    """
    chunks: dict[Hashable, _Chunk | None] = {}  # the longest unused first; None is not captured yet
    captured: set[Hashable] = set()
    given_up = False
    moved = 0

    def run(state: Any, data: Any, order: Any, learning_rate: Any) -> Any:
        nonlocal given_up, moved
        if given_up or not order.shape[0]:
            return eager.run(step, state, data, order, learning_rate)
        shapes = tuple((each.shape, each.dtype) for each in (order, *leaves(state), *data))
        # A captured chunk reads where the data lay then. It does not keep the data: what lies at
        # the same place later, in the same shape, will do.
        key = shapes, tuple(library.place(each) for each in data)
        seen = key in chunks
        chunk = chunks[key] = chunks.pop(key, None)
        if len(chunks) > KEPT:
            del chunks[next(iter(chunks))]
        if chunk is not None:
            return chunk.run(state, order, learning_rate)
        if shapes in captured and not seen:
            # As captured before, but at another place: if data come to a new one each time, then
            # to capture every chunk is far slower than to run it.
            moved += 1
            if moved > KEPT:  # so many places fill and come again
                fell_back("chunks run eagerly: their data lie at another place each time")
            return eager.run(step, state, data, order, learning_rate)
        chunk = _Chunk(step, library, state, order)
        problem = chunk.prepare(data, order, learning_rate)
        if problem:
            given_up = True
            chunks.clear()
            line = f"steps run eagerly from here on: they cannot be captured ({problem})"
            fell_back(line)
            warnings.warn(line, RuntimeWarning, stacklevel=2)
        else:
            captured.add(shapes)
            chunks[key] = chunk
        return chunk.result()

    return run


class _Chunk:
    """A captured chunk, and the arrays that it works on.

    Its state is the arrays that it was given when it was made, into which the steps write; every
    state that it returns is made of them. Chunks of other shapes that are run in turn with it are
    given that state, and so work on the same arrays.
    """

    def __init__(self, step: Any, library: Library, state: Any, order: Array) -> None:
        self.step = step
        self.library = library
        self.state = state
        self.leaves = leaves(state)
        first = self.leaves[0]
        xp = namespace(first)
        self.order = _copy(order)
        # The rate changes from epoch to epoch: a Python number would be captured as it is now.
        self.learning_rate = xp.zeros((), dtype=first.dtype, device=device(first))
        self.total = xp.zeros((), dtype=first.dtype, device=device(first))
        self.launch: Callable[[], None] = lambda: None

    def run(self, state: Any, order: Any, learning_rate: Any) -> tuple[Any, Array]:
        """Like `eager.run`, on the data that it was prepared with."""
        self._fill(state, order, learning_rate)
        self.launch()
        return self.result()

    def result(self) -> tuple[Any, Array]:
        """The state, and the summed loss where the next launch does not change it."""
        return self.state, _copy(self.total)

    def prepare(self, data: Any, order: Any, learning_rate: Any) -> str | None:
        """Run the chunk once and capture it; why it cannot be captured, None if it can.

        Either way the state and the sum are those of the chunk, run once. An error of the steps
        themselves is raised as it is.
        """
        self._fill(self.state, order, learning_rate)
        before = [_copy(leaf) for leaf in self.leaves]
        causes: list[Exception] = []
        try:
            self._capture(data, before, causes)
            return None
        except Exception as error:
            cause = causes[0] if causes else error
        _write(self.leaves, before)
        self._play(partial(eager.run, self.step), data)
        return described(cause)

    def _capture(self, data: Any, before: list[Array], causes: list[Exception]) -> None:
        arrays = self.state, data, self.order, self.learning_rate
        steps = self.library.steps(self.step, *arrays)
        _write(self.leaves, before)

        def play() -> None:
            try:
                self._play(steps, data)
            except Exception as error:
                # A capture that failed raises again, and says less, at its end.
                causes.append(error)
                raise

        self.library.warm_up(play)
        results = [*self.leaves, self.total]
        expected = [_copy(result) for result in results]
        _write(self.leaves, before)
        self.total[...] = -1.0
        self.launch = self.library.capture(play)
        self.launch()
        if not all(map(_equal, results, expected)):
            raise BackendError("a replay comes to something else than the steps themselves")

    def _play(self, steps: Callable[..., Any], data: Any) -> None:
        state, total = steps(self.state, data, self.order, self.learning_rate)
        self._take(state)
        self.total[...] = total

    def _take(self, state: Any) -> None:
        for mine, other in zip(self.leaves, leaves(state), strict=True):
            if other is not mine:
                mine[...] = other

    def _fill(self, state: Any, order: Any, learning_rate: Any) -> None:
        self._take(state)
        self.order[...] = order
        self.learning_rate[...] = learning_rate


def _copy(array: Array) -> Array:
    return namespace(array).asarray(array, copy=True)


def _write(arrays: list[Array], values: list[Array]) -> None:
    for array, value in zip(arrays, values, strict=True):
        array[...] = value


def _equal(x: Array, y: Array) -> bool:
    """Whether all values are the same; one that is no number equals its like."""
    xp = namespace(x)
    return bool(xp.all((x == y) | ((x != x) & (y != y))))

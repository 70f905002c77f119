"""A chunk of training steps that is captured on the GPU once, then launched as a whole.

Each library captures and launches in its own way, through a `Capturer`. This module has the part
that all share: which chunks are alike, and where a captured chunk reads its input and writes its
state. A captured chunk is compared with its warm-up before it is used. A chunk that cannot be
captured runs by `eager`.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Hashable
from functools import partial
from typing import Protocol

from nnxp.arrays import Array, device, namespace
from nnxp.errors import BackendError, described
from nnxp.executors import Rate, Report, Runner, State, Step, eager
from nnxp.nested import leaves

KEPT = 8
"""Captured chunks that a runner keeps. An epoch needs three: full chunks, a shorter one with the
last full batches, and the last, smaller batch."""


class Capturer(Protocol):
    """An array library's way to capture. `play` takes no arguments and returns None."""

    def place(self, array: Array) -> Hashable:
        """Return an array's address and layout: equal only if kernels cannot tell arrays apart."""
        ...

    def steps(
        self,
        step: Step,
        state: State,
        data: tuple[Array, ...],
        order: Array,
        learning_rate: Array,
    ) -> Runner:
        """Return a function like `eager.run` for these arrays, which runs the steps to capture.

        This may run the steps, and so change the state.
        """
        ...

    def warm_up(self, play: Callable[[], None]) -> None:
        """Run `play` once, to prepare what a capture cannot: kernels, handles, memory."""
        ...

    def capture(self, play: Callable[[], None]) -> Callable[[], None]:
        """Capture the work that `play` queues, without running it; return a function to launch it.

        The returned function owns the memory that the work uses. A launch runs after all work that
        was queued before it, and before all work that is queued later.
        """
        ...

    def release(self) -> None:
        """Free all memory that captures took. Nothing is captured or launched after this."""
        ...


def runner(step: Step, capturer: Capturer, report: Report) -> Runner:
    """Return a function like `eager.run` that captures chunks of `step` and launches them.

    Args:
        step: see `nnxp.executors.Step`.
        capturer: the library's way to capture.
        report: called with the reason if chunks run eagerly.
    """
    # In the order of last use. None is a chunk that was seen but is not captured.
    chunks: dict[Hashable, _Chunk | None] = {}
    captured: set[Hashable] = set()
    given_up = False
    moved = 0

    def run(
        state: State, data: tuple[Array, ...], order: Array, learning_rate: Rate
    ) -> tuple[State, Array]:
        nonlocal given_up, moved
        if given_up or not order.shape[0]:
            return eager.run(step, state, data, order, learning_rate)
        shapes = tuple((each.shape, each.dtype) for each in (order, *leaves(state), *data))
        # A captured chunk reads the data's addresses and does not keep the data. It also works for
        # other data of the same shape at the same address.
        key = shapes, tuple(capturer.place(each) for each in data)
        seen = key in chunks
        chunk = chunks[key] = chunks.pop(key, None)
        if len(chunks) > KEPT:
            del chunks[next(iter(chunks))]
        if chunk is not None:
            return chunk.run(state, order, learning_rate)
        if shapes in captured and not seen:
            # This chunk was captured at another address. If the data moves each time, capturing
            # every chunk is far slower than running it.
            moved += 1
            if moved <= KEPT:  # up to KEPT addresses may alternate
                return _Chunk(step, capturer, state, order).run_once(data, order, learning_rate)
            report("chunks run eagerly: their data have another address each time")
            return eager.run(step, state, data, order, learning_rate)
        chunk = _Chunk(step, capturer, state, order)
        problem = chunk.prepare(data, order, learning_rate)
        if problem is None:
            captured.add(shapes)
            chunks[key] = chunk
            return chunk.result()
        given_up = True
        state = chunk.state
        # Eager steps get the memory that the attempt and the chunks before it held.
        del chunk
        chunks.clear()
        capturer.release()
        gc.collect()
        result = eager.run(step, state, data, order, learning_rate)
        line = f"steps run eagerly from here on: they cannot be captured ({problem})"
        report(line)
        warnings.warn(line, RuntimeWarning, stacklevel=2)
        return result

    return run


class _Chunk:
    """A captured chunk and the arrays that it works on.

    The steps write into the arrays of the state that the constructor gets, and every returned
    state consists of these arrays. Chunks of other shapes get this state in turn, so they work on
    the same arrays.
    """

    def __init__(self, step: Step, capturer: Capturer, state: State, order: Array) -> None:
        self.step = step
        self.capturer = capturer
        self.state = state
        self.leaves = leaves(state)
        first = self.leaves[0]
        xp = namespace(first)
        self.order = _copy(order)
        # An array, because the rate changes between epochs and a Python number would be captured.
        self.learning_rate = xp.zeros((), dtype=first.dtype, device=device(first))
        self.total = xp.zeros((), dtype=first.dtype, device=device(first))
        self.launch: Callable[[], None] = lambda: None

    def run(self, state: State, order: Array, learning_rate: Rate) -> tuple[State, Array]:
        """Run the chunk like `eager.run`, on the data of `prepare`."""
        self._fill(state, order, learning_rate)
        self.launch()
        return self.result()

    def result(self) -> tuple[State, Array]:
        """Return the state and a copy of the summed loss, which the next launch overwrites."""
        return self.state, _copy(self.total)

    def run_once(
        self, data: tuple[Array, ...], order: Array, learning_rate: Rate
    ) -> tuple[State, Array]:
        """Run the chunk without capturing it, by the same kernels: eager steps round otherwise."""
        self._fill(self.state, order, learning_rate)
        before = [_copy(leaf) for leaf in self.leaves]
        steps = self.capturer.steps(self.step, self.state, data, self.order, self.learning_rate)
        _write(self.leaves, before)
        self.capturer.warm_up(partial(self._play, steps, data))
        return self.result()

    def prepare(self, data: tuple[Array, ...], order: Array, learning_rate: Rate) -> str | None:
        """Run the chunk once and capture it.

        Returns:
            None, or why the chunk cannot be captured. Then the state is as it was before.
        """
        self._fill(self.state, order, learning_rate)
        before: list[Array] = []
        causes: list[Exception] = []
        try:
            before += [_copy(leaf) for leaf in self.leaves]
            self._capture(data, before, causes)
            return None
        except Exception as error:
            problem = described(causes[0] if causes else error)
        causes.clear()  # their tracebacks hold the arrays of the attempt
        if before:
            _write(self.leaves, before)
        return problem

    def _capture(
        self, data: tuple[Array, ...], before: list[Array], causes: list[Exception]
    ) -> None:
        arrays = self.state, data, self.order, self.learning_rate
        steps = self.capturer.steps(self.step, *arrays)
        _write(self.leaves, before)

        def play() -> None:
            try:
                self._play(steps, data)
            except Exception as error:
                # The end of a failed capture raises another error, which says less.
                causes.append(error)
                raise

        self.capturer.warm_up(play)
        results = [*self.leaves, self.total]
        expected = [_copy(result) for result in results]
        _write(self.leaves, before)
        self.total[...] = -1.0
        self.launch = self.capturer.capture(play)
        self.launch()
        if not all(map(_equal, results, expected)):
            raise BackendError("a replay gives another result than the steps themselves")

    def _play(self, steps: Runner, data: tuple[Array, ...]) -> None:
        state, total = steps(self.state, data, self.order, self.learning_rate)
        self._take(state)
        self.total[...] = total

    def _take(self, state: State) -> None:
        for mine, other in zip(self.leaves, leaves(state), strict=True):
            if other is not mine:
                mine[...] = other

    def _fill(self, state: State, order: Array, learning_rate: Rate) -> None:
        self._take(state)
        self.order[...] = order
        self.learning_rate[...] = learning_rate


def _copy(array: Array) -> Array:
    return namespace(array).asarray(array, copy=True)


def _write(arrays: list[Array], values: list[Array]) -> None:
    for array, value in zip(arrays, values, strict=True):
        array[...] = value


def _equal(x: Array, y: Array) -> bool:
    """Return whether all values are equal; NaN equals NaN."""
    xp = namespace(x)
    return bool(xp.all((x == y) | ((x != x) & (y != y))))

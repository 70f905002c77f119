"""The protocol of callbacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from nnxp.concurrency import one_thread
from nnxp.errors import shown
from nnxp.history import History
from nnxp.network import MLP


class Callback:
    """A callback of `nnxp.train` that does nothing: derive from it, and override what you need.

    A plain function of (network, history) is a callback too: it has the part of `__call__`.

    Example:
        >>> import nnxp
        >>> class Clock(nnxp.Callback):
        ...     def start(self, network, history):
        ...         self.seconds = 0.0
        ...
        ...     def __call__(self, network, history):
        ...         self.seconds += history.epochs[-1].seconds
        ...         return self.seconds > 60  # enough
        >>> clock = Clock()
        >>> network = nnxp.MLP([2, 1], output="sigmoid")
        >>> _ = nnxp.train(
        ...     network, [[0, 1], [1, 0]], [0, 1], epochs=3, batch_size=2, callbacks=[clock]
        ... )
        >>> clock.seconds > 0
        True
    """

    only_first: bool = False
    """Whether, of several processes that train together, only the first calls it: it writes."""

    def start(self, network: MLP, history: History) -> None:
        """Begin a training: called once, before the first epoch.

        Where a training is resumed, `history` has the epochs before; else it has none.
        """

    def __call__(self, network: MLP, history: History) -> Any:
        """Look at an epoch, the last of `history`; return True to end the training after it."""

    def finish(self, network: MLP, history: History) -> None:
        """End a training: called once, whether it came to its end or an exception ended it.

        An exception is divergence, Ctrl-C or an error in another callback. The network then has the
        parameters of the last complete epoch.
        """


@contextmanager
def running(
    callbacks: Sequence[Callable[[MLP, History], Any]], network: MLP, history: History
) -> Iterator[None]:
    """Call `start` of each callback now, and at the end `finish` of each that has started.

    Both are called in the order of `callbacks`, where a callback has them. If one raises, the
    others still finish.

    Raises:
        InputError: a callback watches a training in another thread.
    """
    started = []
    with ExitStack() as used:
        for callback in callbacks:
            if hasattr(callback, "start"):  # it may keep what it sees of a training
                used.enter_context(one_thread(callback, f"the callback {shown(callback)}"))
        try:
            for callback in callbacks:
                if start := getattr(callback, "start", None):
                    start(network, history)
                started.append(callback)
            yield
        finally:
            with ExitStack() as stack:  # the first that is to be called comes last
                for callback in reversed(started):
                    if finish := getattr(callback, "finish", None):
                        stack.callback(finish, network, history)

"""What trainings in several Python threads share: settings of the process, networks, callbacks."""

from __future__ import annotations

import os
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

from nnxp.errors import InputError

Function = TypeVar("Function", bound=Callable[..., Any])


processes_on_cores = 1
"""The processes of a training that share the cores which this process may use: `nnxp.distributed`
sets it."""


class Setting:
    """A setting of the whole process that each call wants at a value of its own.

    Calls that want the same value run at once. One that wants another waits until those before it
    have left, so that no thread changes the setting while another computes. The last that leaves
    restores the value that the first found.

    Args:
        read: returns the setting, which is compared with values.
        write: changes it.
        each_thread: whether each thread has a setting of its own too, which must be written there.
    """

    def __init__(
        self, read: Callable[[], Any], write: Callable[[Any], Any], each_thread: bool = False
    ) -> None:
        self._read, self._write, self._each_thread = read, write, each_thread
        self._begin()
        if hasattr(os, "register_at_fork"):  # the threads that have entered are not in the child
            os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._queue: deque[object] = deque()
        self._inside = 0
        self._value: Any = None
        self._before: Any = None
        self._own = threading.local()

    @contextmanager
    def of(self, value: Any) -> Iterator[None]:
        """Run with this value, not None. Within it, another one may be entered."""
        outer = getattr(self._own, "value", None)
        if outer == value:
            yield
            return
        if outer is not None:  # who kept it while it waits might be waited for
            self._leave()
        self._enter(value)
        try:
            yield
        finally:
            self._leave()
            if outer is not None:
                self._enter(outer)

    def _enter(self, value: Any) -> None:
        with self._changed:
            if self._queue or self._must_wait(value):
                self._wait(value)
            if not self._inside:
                self._before = self._read()
            if self._each_thread or (not self._inside and value != self._before):
                self._write(value)
            self._value, self._own.value = value, value
            self._inside += 1

    def _must_wait(self, value: Any) -> bool:
        return self._inside > 0 and self._value != value

    def _wait(self, value: Any) -> None:
        mine = object()
        self._queue.append(mine)
        try:
            self._changed.wait_for(lambda: self._queue[0] is mine and not self._must_wait(value))
        finally:  # Ctrl-C may end the waiting
            self._queue.remove(mine)
            self._changed.notify_all()  # they look when this one has entered

    def _leave(self) -> None:
        with self._changed:
            if self._own.value is None:  # Ctrl-C has ended the return to an outer value
                return
            self._own.value = None
            self._inside -= 1
            if self._each_thread or (not self._inside and self._value != self._before):
                self._write(self._before)
            if self._queue:
                self._changed.notify_all()


_filters = threading.RLock()


@contextmanager
def warnings_ignored(message: str = "") -> Iterator[None]:
    """Ignore warnings that begin with a pattern, in one thread after the other.

    `warnings.catch_warnings` restores the filters that it found: of two threads that overlap, the
    second would restore what the first had set, and the process stayed silent.
    """
    with _filters, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=message)
        yield


_in_use: dict[int, tuple[int, int]] = {}
"""For each id of an object in use: the thread, and how often it has entered."""
_in_use_lock = threading.Lock()


def in_one_thread(function: Function) -> Function:
    """Return a function of a network that no other thread may call with the same one meanwhile."""

    @wraps(function)
    def call(network: Any, *arguments: Any, **options: Any) -> Any:
        with one_thread(network, "the network"):
            return function(network, *arguments, **options)

    return cast(Function, call)


@contextmanager
def one_thread(thing: object, what: str) -> Iterator[None]:
    """Use an object that only one thread may train with at a time.

    Args:
        thing: the object.
        what: what it is, for the error.

    Raises:
        InputError: another thread uses it.
    """
    key, thread = id(thing), threading.get_ident()
    with _in_use_lock:
        owner, times = _in_use.get(key, (thread, 0))
        if owner != thread:
            raise InputError(f"{what} is in use by a training in another thread: give each its own")
        _in_use[key] = thread, times + 1
    try:
        yield
    finally:
        with _in_use_lock:
            if times:
                _in_use[key] = thread, times
            else:
                del _in_use[key]

"""Counts the nodes of the CUDA graphs that are launched through CuPy.

A graph's nodes are what the device does when the graph is launched, so nothing has to be profiled.
"""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TYPES = ("kernel", "memcpy", "memset", "host", "graph", "empty", "event wait", "event record",
         "semaphore signal", "semaphore wait", "allocation", "free", "memory operations",
         "conditional")  # fmt: skip
"""The names of CUgraphNodeType of cuda.h, in its order."""


@contextmanager
def launches() -> Iterator[list[Any]]:
    """Yield a list to which each launch of a graph that is captured from now on adds the graph."""
    from cupy.cuda import Stream

    launched: list[Any] = []
    end = Stream.end_capture
    Stream.end_capture = lambda stream: _Graph(end(stream), launched)
    try:
        yield launched
    finally:
        Stream.end_capture = end


class _Graph:
    """A graph of CuPy that notes its launches."""

    def __init__(self, graph: Any, launched: list[Any]) -> None:
        self.graph = graph
        self.launched = launched

    def launch(self, stream: Any = None) -> None:
        self.launched.append(self.graph)
        self.graph.launch(stream)


def count(graph: Any, driver: Any = None) -> Counter[str]:
    """Count the nodes of a `cupy.cuda.Graph` by their type, a name of `TYPES`.

    The emulated CUDA of `ci/cupy` does not tell the types of nodes. There they are taken from its
    drawing of the graph.

    Args:
        graph: the graph.
        driver: the library of CUDA's driver; loaded if None.

    Raises:
        RuntimeError: the driver refuses.
    """
    driver = driver or ctypes.CDLL("libcuda.so.1")
    if not hasattr(driver, "cuGraphNodeGetType"):
        return _drawn(graph.debug_dot_str())

    def call(name: str, *arguments: Any) -> None:
        if status := getattr(driver, name)(*arguments):
            raise RuntimeError(f"{name} of CUDA failed with status {status}")

    handle, size = ctypes.c_void_p(graph.graph), ctypes.c_size_t()
    call("cuGraphGetNodes", handle, None, ctypes.byref(size))
    nodes = (ctypes.c_void_p * size.value)()
    call("cuGraphGetNodes", handle, nodes, ctypes.byref(size))
    found: Counter[str] = Counter()
    for node in nodes:
        kind = ctypes.c_int()
        call("cuGraphNodeGetType", ctypes.c_void_p(node), ctypes.byref(kind))
        known = kind.value < len(TYPES)
        found[TYPES[kind.value] if known else f"type {kind.value}"] += 1
    return found


def _drawn(text: str) -> Counter[str]:
    """Count the nodes in the emulation's drawing: a copy, a fill, or a kernel by its name."""
    kinds = {"copy": "memcpy", "memset": "memset"}
    return Counter(kinds.get(label, "kernel") for label in re.findall(r'\[label="(.*)"\]', text))

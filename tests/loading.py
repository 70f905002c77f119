"""Loads files in a process of its own, watched or with little memory; `test_loading` runs it.

    python loading.py watch|limit < requests

A request is a line of JSON: the name of a loader and a path. So is an answer: see `watch`, `limit`.
"""

import importlib
import json
import logging
import os
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path

import nnxp
from nnxp import datasets, resuming, weights
from nnxp.datasets import idx
from nnxp.errors import NnxpError

LOADERS = {
    "model": lambda path: nnxp.MLP.load(path, "numpy", "cpu"),
    "description": nnxp.checkpoint.describe,
    "checkpoint": lambda path: resuming.load(path.parent),
    "weights": weights.read,
    "data": datasets.load,
    "images": lambda path: idx.read(path, 3),
    "labels": lambda path: idx.read(path, 1),
}
MEMORY = 512 * 2**20
"""Bytes that a load may take."""
_ARROW = ("pyarrow.csv", "pyarrow.parquet", "pyarrow.compute", "pandas")
IMPORTS = {
    ".csv": _ARROW, ".parquet": _ARROW, ".h5": ("h5py",), ".keras": ("h5py",),
    ".onnx": ("onnx.reference",), ".safetensors": ("safetensors.numpy",),
}  # fmt: skip
RUNS = {"import", "exec", "compile", "pickle", "marshal", "code", "ctypes", "subprocess", "os",
        "pty", "socket", "urllib", "http", "ftplib", "smtplib", "shutil", "tempfile"}  # fmt: skip
"""What events that run, fetch or write something begin with."""


def outcome(loader, path):
    """Load a file.

    Returns:
        "loaded", "no model", the text of an error of nnxp, or "!" and what else was raised.
    """
    try:
        found = LOADERS[loader](Path(path))
    except NnxpError as error:
        return str(error)
    except BaseException as error:
        return f"! {type(error).__name__}: {error}"
    return "no model" if found is None else "loaded"


def watch(requests):
    """Answer with the outcome, the paths that were opened, and events of `RUNS`.

    Each loader first loads the first file of a suffix unwatched, because libraries import what
    they need when they are first used.
    """
    requests = list(requests)
    warm(requests)
    known, events, watching = set(), [], False
    sys.addaudithook(lambda event, args: events.append((event, args)) if watching else None)
    for loader, path in requests:
        if (loader, Path(path).suffix) not in known:
            known.add((loader, Path(path).suffix))
            outcome(loader, path)
        events.clear()
        watching = True
        found = outcome(loader, path)
        watching = False
        opened = [str(args[0]) for event, args in events if event == "open"]
        others = [
            f"{event}{args}"[:200]
            for event, args in events
            if event.partition(".")[0] in RUNS and not _is_harmless(event, args)
        ]
        yield found, opened, others


def _is_harmless(event, args):
    """Whether a folder is listed, or text parsed by `ast.literal_eval`, as NumPy's headers are."""
    return event == "os.listdir" or (event == "compile" and args[1] == "<unknown>")


def limit(requests):
    """Answer with the outcome and the seconds, each in a process that may take `MEMORY` more."""
    requests = list(requests)
    warm(requests)
    for loader, path in requests:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            with open("/proc/self/statm") as file:
                now = int(file.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY,) * 2)
            start = time.process_time()
            found = outcome(loader, path)
            answer = json.dumps((found, time.process_time() - start))
            os.write(writer, answer.encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as file:
            answer = file.read()
        _, status = os.waitpid(child, 0)
        yield json.loads(answer) if answer else (f"! the process ended: {status}", 0.0)


def warm(requests):
    """Import what loaders import when they are first used."""
    suffixes = {Path(path).suffix for _, path in requests}
    for name in sorted({name for suffix in suffixes for name in IMPORTS.get(suffix, ())}):
        with suppress(ImportError):
            importlib.import_module(name)


if __name__ == "__main__":
    logging.getLogger("nnxp").addHandler(logging.NullHandler())
    mode = {"watch": watch, "limit": limit}[sys.argv[1]]
    for each in mode(map(json.loads, sys.stdin)):
        print(json.dumps(each), flush=True)

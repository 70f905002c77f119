"""Defines the options that several benchmarks take, each described once."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from nnxp.backends import blas
from nnxp.benchmark import process
from nnxp.errors import NnxpError

OPTIONS: dict[str, dict[str, Any]] = {
    "backends": {"help": "nnxp's, besides numpy; default: all for the device"},
    "budget": {"type": float, "help": "seconds; what does not fit is left out"},
    "device": {"default": "cpu", "help": "cpu, cuda or cuda:1; numpy always runs on the CPU"},
    "min_seconds": {"type": float, "help": "least seconds of training in a round"},
    "output": {"type": Path, "help": "where the JSON goes"},
    "peers": {"help": "separated by commas; default: all"},
    "quick": {"action": "store_true", "help": "check that it runs; the figures mean nothing"},
    "repeat": {"type": int, "help": "rounds"},
    "workload": {"help": "workloads, separated by commas"},
}


def parser(doc: str | None, *names: str, **defaults: Any) -> argparse.ArgumentParser:
    """Return a parser that takes the options called `names` and those that have a default here.

    Args:
        doc: the script's docstring; its first line describes the command.
        names: options without a default of their own.
        defaults: options and their defaults.
    """
    made = argparse.ArgumentParser(description=(doc or "").split("\n", 1)[0])
    for name in names:
        made.add_argument(_flag(name), **OPTIONS[name])
    for name, default in defaults.items():
        made.add_argument(_flag(name), **OPTIONS[name] | {"default": default})
    return made


def run(main: Callable[[], int]) -> NoReturn:
    """Exit with the status of `main`, or with one line if it raises an error of nnxp's own."""
    try:
        sys.exit(main())
    except NnxpError as error:
        sys.exit(f"{Path(sys.argv[0]).stem}: {error}")


def restart_with_free_kernels() -> None:
    """Start this script anew if a variable forces the kernels of BLAS: it has been read already."""
    if found := blas.forced():
        print(f"left out: {blas.assignments(found)}", file=sys.stderr, flush=True)
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], process.environment())


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"

"""The command line: a file for each group of commands, imported when one of them runs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer

import nnxp
from nnxp.cli import options, running

COMMANDS = {
    "train": "nnxp.cli.train:train",
    "evaluate": "nnxp.cli.models:evaluate",
    "predict": "nnxp.cli.models:predict",
    "describe": "nnxp.cli.models:describe_model",
    "import-weights": "nnxp.cli.models:import_weights",
    "gradcheck": "nnxp.cli.models:gradcheck",
    "bench": "nnxp.cli.bench:bench",
    "backends": "nnxp.cli.backends:list_backends",
    "plot": "nnxp.cli.plot:app",
}
"""The module and attribute of each command: a function, or a `typer.Typer` for a group."""


def main() -> None:
    """Run the command line and leave with its exit status; see `nnxp.cli.running.leave_after`."""
    running.leave_after(run)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` name; None means the arguments of the process.

    Returns:
        The exit status. Errors are raised.
    """
    words = sys.argv[1:] if arguments is None else arguments
    # Import this command's file alone; `--help` and misspelt names need all of them.
    names = words[:1] if words and words[0] in COMMANDS else COMMANDS
    status: int | None = app(names)(arguments, standalone_mode=False)
    return status or 0


def app(names: Iterable[str] = tuple(COMMANDS)) -> typer.Typer:
    """Make the command line of these commands."""
    made = typer.Typer(
        name="nnxp",
        help="Train neural networks on NumPy, CuPy, PyTorch or JAX with one set of kernels.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        cls=options.Group,
    )
    made.callback()(_root)
    for name in names:
        module, _, attribute = COMMANDS[name].partition(":")
        found = getattr(importlib.import_module(module), attribute)
        if isinstance(found, typer.Typer):
            made.add_typer(found, name=name)
        else:
            made.command(name, cls=options.Command)(found)
    return made


def _version(wanted: bool) -> None:
    if wanted:
        print(f"nnxp {nnxp.__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass

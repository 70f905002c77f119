"""Check the outputs of commands before the work starts: no file is lost by accident."""

from __future__ import annotations

import os
from typing import Any

from nnxp import checkpoint, datasets, files
from nnxp.errors import InputError, shown
from nnxp.network import MLP
from nnxp.progress import new_console

console = new_console()
"""The console that commands print on, line by line."""


def check(outputs: dict[str, str | None], inputs: list[str]) -> None:
    """Check that each output can be written, and that none is an input or another output.

    Args:
        outputs: option to path, or to None if the output is not wanted.
        inputs: paths, or names of data sets.

    Raises:
        InputError: an output cannot be written there.
    """
    taken = {os.path.realpath(path): path for path in inputs}
    for option, path in outputs.items():
        if path is None:
            continue
        files.check_writable(path, option)
        real = os.path.realpath(path)
        if real in taken and os.path.basename(real) not in datasets.NAMES:
            raise InputError(f"{option} {path}: would overwrite {taken[real]}; name another file")
        taken[real] = f"what {option} writes"


def check_model(save: str) -> None:
    """Check that the file at `save` is an nnxp model or does not exist.

    Raises:
        InputError: it is another file.
    """
    if os.path.isfile(save) and os.path.getsize(save) and checkpoint.describe(save) is None:
        raise InputError(f"--save {save}: is not an nnxp model, and would be lost; name another")


def replaces(save: str, network: MLP, overwrite: bool) -> bool:
    """Return whether saving this network at `save` replaces a model.

    Raises:
        InputError: the model is of another network or other data, and `overwrite` is false.
    """
    there = checkpoint.describe(save) if os.path.isfile(save) else None
    if there is None or overwrite:
        return there is not None
    differences = [
        f"{name} {shown(found)}, not {shown(ours)}"
        for name, found, ours in (
            ("sizes", there.get("sizes"), list(network.sizes)),
            ("hidden activations", there.get("hidden"), list(network.hidden)),
            ("output", there.get("output"), network.output),
            ("data", _data(there.get("metadata")), _data(network.metadata)),
        )
        if found != ours
    ]
    if differences:
        raise InputError(
            f"--save {save}: a model with {'; '.join(differences)} is there, and would be lost: "
            "name another file with --save, or add --overwrite"
        )
    return True


def saved(save: str, replaced: bool) -> str:
    """Describe where a model was saved, and whether it replaced one."""
    return f"saved {save}" + (" in place of the model that was there" if replaced else "")


def _data(metadata: Any) -> Any:
    return metadata.get("data") if isinstance(metadata, dict) else None

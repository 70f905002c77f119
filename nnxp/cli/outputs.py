"""Check the outputs of commands before the work starts: no file is lost by accident."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nnxp import checkpoint, datasets, files
from nnxp.errors import InputError, shown
from nnxp.network import MLP
from nnxp.progress import new_console

console = new_console()
"""The console that commands print on, line by line."""


class Outputs:
    """The files that a command writes at its end.

    One that fails does not keep the others from being written, and a file that another run wrote
    since the command began is not replaced.

    Args:
        paths: option to path, or to None if the output is not wanted.
    """

    def __init__(self, paths: dict[str, str | None]) -> None:
        self.paths = {option: path for option, path in paths.items() if path is not None}
        self._stamps = {option: files.stamp(path) for option, path in self.paths.items()}
        self._written: list[str] = []
        self._problems: list[tuple[str, str]] = []

    def write(
        self, option: str, write: Callable[[str], object], *, replace: bool = False
    ) -> str | None:
        """Call write(path), if the output is wanted.

        Args:
            option: the output's.
            write: writes the file.
            replace: whether to replace what another run wrote, too.

        Returns:
            The path, perhaps another one, or None.
        """
        if option not in self.paths:
            return None
        path = self.paths[option]
        since = files.stamp(path) if replace else self._stamps[option]
        try:
            with files.claimed(path, since) as free:
                write(free)
        except OSError as error:
            self._problems.append((error.filename or path, error.strerror or str(error)))
            return None
        if free != path:
            self._problems.append((path, f"another run wrote it meanwhile: this one's is {free}"))
        self._written.append(free)
        return free

    def rename(self, option: str, word: str) -> None:
        """Write to a free name with a word in it: "model.interrupted.safetensors"."""
        path = Path(self.paths[option])
        name = f"{path.stem}.{word}{path.suffix}"
        self.paths[option] = files.free_name(path.with_name(name))
        self._stamps[option] = None

    def rescue(self, option: str, write: Callable[[str], object]) -> str | None:
        """Call write(path) for a file in the folder for temporary files; see `write`."""
        self.paths[option] = files.free_name(
            os.path.join(tempfile.gettempdir(), os.path.basename(self.paths[option]))
        )
        self._stamps[option] = None
        problems = list(self._problems)
        found = self.write(option, write)
        self._problems = problems
        return found

    def failed(self, error: OSError) -> None:
        """Note a problem with another file, which `end` tells."""
        self._problems.append((error.filename or "disk", error.strerror or str(error)))

    @property
    def problems(self) -> list[str]:
        """What failed, and why."""
        return [": ".join(each) for each in self._problems]

    def end(self) -> None:
        """Raise OSError if there was a problem; it names what was written nevertheless."""
        if self._problems:
            (path, first), *_ = self._problems
            told = [first, *self.problems[1:]]
            if self._written:
                told.append(f"saved {', '.join(self._written)}")
            raise OSError(errno.EIO, "; ".join(told), path)


def check(outputs: dict[str, str | None], inputs: list[str]) -> Outputs:
    """Check that each output can be written, and that none is an input or another output.

    Args:
        outputs: option to path, or to None if the output is not wanted.
        inputs: paths, or names of data sets.

    Returns:
        What writes them in the end.

    Raises:
        InputError: an output cannot be written there.
    """
    taken = {path: path for path in inputs if path not in datasets.NAMES}
    for option, path in outputs.items():
        if path is None:
            continue
        files.check_writable(path, option)
        for other, what in taken.items():
            if files.is_same(path, other):
                raise InputError(f"{option} {path}: would overwrite {what}; name another file")
        taken[path] = f"what {option} writes"
    return Outputs(outputs)


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

"""Checkpoints of a running training, from which another process goes on to the same bits.

A checkpoint is a model file of the last complete epoch's network (see `nnxp.checkpoint`), with one
more entry in its metadata, "training": the state after the last step, the place in the epoch, the
history, the state of callbacks, and what the training must be given again to go on.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from nnxp import checkpoint, files, options, reports
from nnxp.arrays import to_numpy
from nnxp.data import checks, sources
from nnxp.diagnostics import Diagnosis, Finding, Layer
from nnxp.errors import InputError, ModelError, first_line, printable, shown
from nnxp.history import Epoch, History
from nnxp.nested import leaves
from nnxp.network import MLP

log = logging.getLogger("nnxp")

KEEP = 2
"""The number of checkpoints that stay in a folder, the newest."""
_NAME, _PATTERN = "checkpoint-{:012d}.safetensors", re.compile(r"checkpoint-\d{12}\.safetensors")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_FORMAT = 1
_BLOCK_ELEMENTS = 2**20
_NAMES = {
    checkpoint.TRAINING: ("format", "progress", "state", "history", "callbacks", "settings", "data",
                 "environment"),
    "progress": ("steps", "losses", "sizes", "seconds"),
    "history": ("metric", "larger_is_better", "loss", "fallbacks", "steps", "epochs"),
}  # fmt: skip
"""The names in the entry of a training, and in entries of it. Settings have any names."""
_TEXTS = ("activation", "kind", "message")
"""What is text in a diagnosis: all else is a number or None."""
_TEXT = options.Rule("a string", lambda value: printable(options.TEXT.convert(value)))
_FIXED = ("batch size", "seed", "shuffle", "validation", "diagnose", "kind of optimizer")
"""Settings that say which rows a step takes: with others, no checkpoint can be gone on from."""


def _every(value: Any) -> int | str:
    if isinstance(value, str):
        if value == "epoch" or re.fullmatch(r"\d+(\.\d+)?[smh]", value):
            return value
        value = int(value)
    return int(options.whole(1).convert(value))


EVERY = options.Rule('a number of steps, 500, a time, "30s", "5m" or "1h", or "epoch"', _every)


class Checkpoints:
    """Where and how often a training is saved, to go on from there: `nnxp.train(checkpoint=...)`.

    A checkpoint is complete or not there, whenever the process is killed. It is a model file, too.

    Args:
        folder: the folder, which is made if it is not there. The two newest checkpoints stay in it.
        every: "epoch", after each one; a number of steps, after which the running chunk ends first;
            or a time, "30s", "5m", "1h". The end of a training, also by an exception, is saved too.

    Raises:
        InputError: `every` is something else; in training, `folder` is a file.

    Example:
        >>> import nnxp
        >>> often = nnxp.Checkpoints("runs/digits", every="30s")
    """

    @options.checked(folder=options.PATH, every=EVERY)
    def __init__(self, folder: str | os.PathLike[str], every: int | str = "epoch") -> None:
        self.folder = Path(folder)
        self.every = every

    def is_due(self, steps: int, seconds: float, within_epoch: bool) -> bool:
        """Return whether to save.

        Args:
            steps, seconds: since the last checkpoint.
            within_epoch: whether an epoch is in progress.
        """
        if isinstance(self.every, int):
            return steps >= self.every
        if self.every == "epoch":
            return not within_epoch
        return seconds >= float(self.every[:-1]) * _UNITS[self.every[-1]]


@dataclass
class Progress:
    """The part of the epoch in progress that is done."""

    steps: int = 0
    losses: list[Any] = field(default_factory=list)
    """The sum of the losses of each chunk's steps: 0-d arrays, or numbers from a checkpoint."""
    sizes: list[int] = field(default_factory=list)
    """The batch size of each chunk."""
    seconds: float = 0.0


@dataclass(frozen=True)
class Snapshot:
    """What a checkpoint holds of a training, besides the network of the last complete epoch."""

    progress: Progress
    state: list[np.ndarray]
    """The arrays of the `TrainState`, on the host."""
    history: History
    callbacks: list[tuple[str, dict[str, Any]]]
    """The class and the state of each callback."""
    settings: dict[str, str]
    data: dict[str, str]
    """What `fingerprint` returned."""
    environment: dict[str, str]


class Writer:
    """Saves one training.

    Args:
        checkpoints: where and how often.
        network: the network in training.
        settings, data: see `Snapshot`.
        steps: the number of steps of the training so far.
        clock: the time in seconds.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        network: MLP,
        settings: dict[str, Any],
        data: dict[str, str],
        steps: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.checkpoints = checkpoints
        self.network = network
        self.settings = settings
        self.data = data
        self.environment = environment(network)
        self.clock = clock
        self.last: int | None = None
        """The step of the last checkpoint that was written here."""
        self.steps_from, self.seconds_from = steps, clock()
        folder = checkpoints.folder
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: is no folder; name one for the checkpoints")
        files.make_folder(folder)

    def is_due(self, steps: int, within_epoch: bool) -> bool:
        """Return whether to save; see `Checkpoints.is_due`. The steps are the training's."""
        seconds = self.clock() - self.seconds_from
        return self.checkpoints.is_due(steps - self.steps_from, seconds, within_epoch)

    def save(
        self,
        progress: Progress,
        losses: np.ndarray,
        state: Any,
        history: History,
        callbacks: Sequence[Any],
    ) -> None:
        """Write a checkpoint, unless there is one of this step or a number is not finite.

        Args:
            progress, history: see `Snapshot`.
            losses: the numbers of `progress.losses`.
            state: the `TrainState`.
            callbacks: the training's; those with a state have a method `state`.
        """
        steps = history.steps
        if steps == self.last:
            return
        arrays = list(map(to_numpy, leaves(state)))
        if not all(np.isfinite(array).all() for array in (losses, *arrays)):
            return
        training = {
            "format": _FORMAT,
            "progress": {
                "steps": progress.steps,
                "losses": losses,
                "sizes": progress.sizes,
                "seconds": progress.seconds,
            },
            "state": arrays,
            "history": _history_to_json(history),
            "callbacks": [
                [type(each).__name__, each.state()] for each in callbacks if hasattr(each, "state")
            ],
            "settings": {name: str(value) for name, value in self.settings.items()},
            "data": self.data,
            "environment": self.environment,
        }
        model = self.network.as_model()
        path = self.checkpoints.folder / _NAME.format(steps)
        checkpoint.save(
            replace(model, metadata={**model.metadata, checkpoint.TRAINING: training}), path
        )
        self.last = self.steps_from = steps
        self.seconds_from = self.clock()
        for old in _files(self.checkpoints.folder)[KEEP:]:
            with suppress(OSError):
                old.unlink()


def load(folder: str | os.PathLike[str]) -> tuple[Path, checkpoint.Model, Snapshot]:
    """Read the newest whole checkpoint of a folder.

    Damaged ones are skipped, which the logger "nnxp" says at level WARNING.

    Raises:
        ModelError: the folder has no whole checkpoint.
    """
    found = _files(Path(folder))
    if not found:
        raise ModelError(f"{folder}: has no checkpoint of a training")
    for path in found:
        try:
            model = checkpoint.load(path)
            return path, model, _snapshot(path, model)
        except ModelError as error:
            log.warning("%s; the checkpoint before it is taken", error)
            last = error
    raise ModelError(f"{folder}: no checkpoint is whole ({last})")


def check(path: Path, model: checkpoint.Model, network: MLP) -> None:
    """Raise InputError unless a checkpoint is of a network like this one; name what differs."""
    ours = network.as_model()
    for name in ("sizes", "hidden", "output", "dtype"):
        there, here = getattr(model, name), getattr(ours, name)
        if there != here:
            raise InputError(
                f"{path}: is of a network with {name} {shown(there)}, not {shown(here)}"
            )


def check_again(
    path: Path, snapshot: Snapshot, settings: dict[str, Any], data: dict[str, str], network: MLP
) -> None:
    """Compare what the training is given with what it was given before.

    Other settings than `_FIXED` may change; the logger "nnxp" says so at level INFO, and at level
    WARNING if another version, processor or number of threads may round in another way.

    Raises:
        InputError: the data differs, or a setting on which the rows of a step depend.
    """
    for name in sorted(data.keys() | snapshot.data.keys(), reverse=True):  # x first
        if (difference := _difference(name, snapshot.data.get(name), data.get(name))) is not None:
            raise InputError(f"{path}: {difference}: give the same data, or start anew")
    for name in sorted(settings.keys() | snapshot.settings.keys()):
        before, now = snapshot.settings.get(name), str(settings.get(name))
        if before == now:
            continue
        if name in _FIXED:
            raise InputError(f"{path}: its {name} was {before}, not {now}: give that again")
        log.info("%s is %s, and was %s", name, now, before)
    here = environment(network)
    for name in sorted(here.keys() | snapshot.environment.keys()):
        if here.get(name) != snapshot.environment.get(name):
            log.warning(
                "%s is %s, and was %s: the last bits may differ",
                name, here.get(name), snapshot.environment.get(name),
            )  # fmt: skip


def _difference(name: str, before: str | None, now: str | None) -> str | None:
    """Return how an array differs from that of before; None if it does not."""
    if before == now:
        return None
    if before is None or now is None:
        return f"its training had {'no' if before is None else 'a'} {name}"
    (shape, _, _), (ours, _, _) = before.rpartition(" "), now.rpartition(" ")
    return f"its {name} had " + (f"shape {shape}, not {ours}" if shape != ours else "other values")


def restore(callbacks: Sequence[Any], states: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Give callbacks the state that those of the same class and order had."""
    waiting = list(callbacks)
    for name, state in states:
        found = next((each for each in waiting if type(each).__name__ == name), None)
        if found is None or not hasattr(found, "restore"):
            log.info("the callback %s of before is not there any more", name)
        else:
            waiting.remove(found)
            try:
                found.restore(state)
            except (KeyError, TypeError, ValueError) as error:
                raise ModelError(f"the checkpoint's state of {name} is damaged ({error})") from None


def fingerprint(dtype: str, x: Any, targets: Any, sample_weight: Any = None) -> dict[str, str]:
    """Return the shape and the SHA-256 of each array of data, as text; equal for equal values.

    Of data on disk, only rows at `nnxp.data.sources.SAMPLED` places are compared.

    Args:
        dtype: that of the network, in which features are compared.
        x, targets, sample_weight: see `nnxp.train`.
    """
    arrays = {"x": (x, dtype), "targets": (targets, "float64")}
    if sample_weight is not None:
        arrays["sample_weight"] = (sample_weight, "float64")
    return {name: _fingerprint(*each) for name, each in arrays.items()}


def _fingerprint(array: Any, dtype: str) -> str:
    if (source := sources.find(array)) is not None:
        return f"{source.shape} on disk {source.fingerprint(dtype)}"
    array, digest = checks.numbers(array, "data"), hashlib.sha256()
    rows = max(1, _BLOCK_ELEMENTS // max(1, math.prod(array.shape[1:])))
    for start in range(0, array.shape[0], rows):
        block = to_numpy(array[start : start + rows, ...])
        with np.errstate(over="ignore", invalid="ignore"):
            block = np.ascontiguousarray(block, dtype=np.dtype(dtype).newbyteorder("<"))
        digest.update(block.data)
    return f"{tuple(map(int, array.shape))} {digest.hexdigest()}"


def environment(network: MLP) -> dict[str, str]:
    """Return what the last bits of a training depend on, besides its settings."""
    backend = network.backend
    return {
        **reports.versions(backend),
        "backend": f"{backend.name} on {backend.device_name}, {backend.executor}",
        "processor": reports.processor(),
        "threads": str(backend.settings().get("threads")),
    }


def _files(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, the newest first."""
    try:
        names = sorted(filter(_PATTERN.fullmatch, os.listdir(folder)), reverse=True)
    except OSError as error:
        raise ModelError(f"{folder}: {error.strerror or error}") from None
    return [folder / name for name in names]


def _history_to_json(history: History) -> dict[str, Any]:
    return {
        "metric": history.metric,
        "larger_is_better": history.larger_is_better,
        "loss": history.loss,
        "fallbacks": history.fallbacks,
        "steps": history.steps,
        "epochs": [_with_texts(asdict(epoch)) for epoch in history.epochs],
    }


def _with_texts(value: Any) -> Any:
    """Replace numbers that JSON does not have, such as the R^2 of a constant, by texts."""
    if isinstance(value, dict):
        return {key: _with_texts(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_texts(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _snapshot(path: Path, model: checkpoint.Model) -> Snapshot:
    """Take the entry of a training out of a model's metadata.

    Raises:
        ModelError: there is none, or it is not one that `Writer` wrote.
    """
    given = model.metadata.pop(checkpoint.TRAINING, None)
    if given is None:
        raise ModelError(f"{path}: is a model, not a checkpoint of a training")
    try:
        if given["format"] != _FORMAT:
            raise ModelError(
                f"{path}: a checkpoint of format {shown(given['format'])}; this nnxp reads "
                f"{_FORMAT}: update nnxp"
            )
        for entry, known in _NAMES.items():
            found = given if entry == checkpoint.TRAINING else given[entry]
            checkpoint.check_names(path, f"its entry {entry!r}", found, known)
        progress, history = given["progress"], given["history"]
        losses = [float(loss) for loss in progress["losses"]]
        sizes = list(map(options.whole(1).convert, progress["sizes"]))
        if len(losses) != len(sizes):
            raise ValueError("losses and sizes of chunks differ in number")
        if not all(isinstance(array, np.ndarray) for array in given["state"]):
            raise ValueError("its state is not of arrays")
        return Snapshot(
            Progress(
                options.whole(0).convert(progress["steps"]), losses, sizes,
                options.NOT_NEGATIVE.convert(progress["seconds"]),
            ),
            given["state"],
            History(
                metric=options.optional(_TEXT).convert(history["metric"]),
                epochs=[_epoch(path, each) for each in history["epochs"]],
                fallbacks=list(map(_TEXT.convert, history["fallbacks"])),
                loss=options.optional(_TEXT).convert(history["loss"]),
                larger_is_better=options.TRUTH.convert(history["larger_is_better"]),
                steps=options.whole(0).convert(history["steps"]),
            ),
            [(_TEXT.convert(name), dict(state)) for name, state in given["callbacks"]],
            _texts(given["settings"]),
            {str(name): _TEXT.convert(value) for name, value in given["data"].items()},
            _texts(given["environment"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, ModelError):
            raise
        text = printable(first_line(error))
        raise ModelError(f"{path}: not a checkpoint that nnxp can use ({text})") from None


def _texts(given: dict[str, Any]) -> dict[str, str]:
    return {_TEXT.convert(name): _TEXT.convert(value) for name, value in given.items()}


def _epoch(path: Path, given: dict[str, Any]) -> Epoch:
    diagnosis = given.pop("diagnosis")
    if diagnosis is not None:
        layers, findings = (
            tuple(_record(path, kind, each) for each in diagnosis.pop(entry))
            for entry, kind in (("layers", Layer), ("findings", Finding))
        )
        diagnosis = _record(path, Diagnosis, diagnosis, layers=layers, findings=findings)
    epoch: Epoch = _record(path, Epoch, given, diagnosis=diagnosis)
    options.whole(1).convert(epoch.epoch)
    return epoch


def _record(path: Path, kind: Any, given: dict[str, Any], **more: Any) -> Any:
    """Make a dataclass of texts and of numbers, which `_with_texts` may have made texts, too."""
    checkpoint.check_names(path, f"a {kind.__name__}", given, [each.name for each in fields(kind)])
    values = {
        name: _TEXT.convert(value) if name in _TEXTS
        else value if value is None or isinstance(value, int)
        else float(value)
        for name, value in given.items()
    }  # fmt: skip
    return kind(**values, **more)

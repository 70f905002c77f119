"""Data sets by name or by file: training and test arrays, ready to train on.

A new named set is a module here with a `read(...)` that returns a `Raw`, and a line in `NAMES`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnxp import options
from nnxp.datasets import digits, mnist, moons, tables, targets
from nnxp.datasets.raw import Raw
from nnxp.datasets.splits import Split, content_hash, is_split
from nnxp.errors import DataError, InputError, ModelError, shown, unknown_name
from nnxp.names import PreprocessName, TaskName
from nnxp.preprocessing import KINDS, Preprocessing, pixels, standardize, whiten

__all__ = ["NAMES", "Dataset", "load", "load_features"]

NAMES = ("digits", "moons", "mnist", "fashion-mnist")
"""The sets that go by name; everything else is the path of a .csv or .npz file."""

PREPROCESS = ("auto", "none", "standardize", "pca", "zca")
"""What can be asked for to be done to the features; see `load`."""

TEST_SHARE = 0.2
"""Of data that comes in one piece, what part is kept for testing."""

log = logging.getLogger("nnxp")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test data, preprocessed.

    Attributes:
        name: the set's name, or the file's path.
        x, x_test: features, (samples, features), float32.
        y, y_test: classes, (samples,), int64; or float64, (samples, outputs), 0/1 labels or
            real values.
        task: "classify", "multilabel" or "regress".
        classes: the name of each class; None for other tasks.
        shape: of one sample before it was flattened: (28, 28), (4,).
        preprocessing: what was done to the features.
        features: the name of each feature, where the file named them.
        target: the name of the target column, likewise.
        header: the first line of a csv, which was taken for the columns' names.
        task_guessed: whether the task was told from the targets, which would allow another too.
        split: how the test rows were chosen; None where the data has a test part of its own.
        trained_on: of data in one piece, loaded `like` a model's: whether the model was trained
            on rows of it, none of which is in `x_test` then. None where that is not known.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    task: TaskName
    classes: tuple[str, ...] | None
    shape: tuple[int, ...]
    preprocessing: Preprocessing
    features: tuple[str, ...] | None
    target: str | None
    header: tuple[str, ...] | None = None
    task_guessed: bool = False
    split: Split | None = None
    trained_on: bool | None = None

    def metadata(self) -> dict[str, Any]:
        """What a model trained on this must know of it to be used on other data, for JSON."""
        return {
            "data": self.name,
            "task": self.task,
            "classes": self.classes,
            "shape": self.shape,
            "features": self.features,
            "target": self.target,
            "preprocessing": asdict(self.preprocessing),
            "split": asdict(self.split) if self.split else None,
        }

    @property
    def outputs(self) -> int:
        """How many units the output layer of a network for this data has."""
        return len(self.classes) if self.classes else int(self.y.shape[1])

    def describe_task(self) -> str:
        """The task and what it is about: "classify, 3 classes"."""
        if self.task == "regress":
            return "regress" + (f", {self.outputs} values" if self.outputs > 1 else "")
        kind = "classes" if self.task == "classify" else "labels"
        return f"{self.task}, {self.outputs} {kind}"


def _path(value: Any) -> str:
    path = os.fspath(value)
    if not isinstance(path, str):
        raise TypeError
    return path


PATH = options.Rule("a string or a path", _path)


@options.checked(
    name_or_path=PATH,
    data_dir=options.optional(PATH),
    target=options.optional(options.TEXT),
    task=options.optional(options.name("task", targets.TASKS)),
    preprocess=options.name("preprocessing", PREPROCESS),
    test_share=options.optional(options.number(0.0, 1.0, closed="both")),
    n=options.whole(4),
    noise=options.NOT_NEGATIVE,
    seed=options.whole(0),
    like=options.optional(options.instance(dict, "a model's metadata, a dict")),
    test_only=options.TRUTH,
)
def load(
    name_or_path: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    *,
    target: str | None = None,
    task: TaskName | None = None,
    preprocess: PreprocessName = "auto",
    test_share: float | None = None,
    n: int = moons.N,
    noise: float = moons.NOISE,
    seed: int = 0,
    like: dict[str, Any] | None = None,
    test_only: bool = False,
) -> Dataset:
    """Load a data set, split into training and test data and preprocessed.

    What was taken for granted on the way (a csv's header, the task, fewer test rows than asked
    for) is logged by "nnxp", as INFO.

    Args:
        name_or_path: "digits" (8x8 handwritten digits, bundled), "moons" (two interleaving
            half circles, made here), "mnist", "fashion-mnist", or the path of a file:
            `.npz` with arrays `x, y` and optionally `x_test, y_test`, or `.csv`, whose first line
            is taken for the columns' names.
        data_dir: where to look first for a folder called after the set; then come
            `$NNXP_DATA_DIR`, Debian's folder, the download cache and the public mirrors.
        target: the csv's target column; by default the last.
        task: "classify", "regress" or "multilabel". By default it is told from the targets: text
            is classes; whole numbers are if there are two distinct ones, or up to 20 in two rows
            or more each, on average; other numbers are regressed on; rows of 0 and 1 are classes
            or, with several 1s, labels.
        preprocess: what is done to the features, by the training part's figures: "none",
            "standardize", "pca", "zca" (see `nnxp.preprocessing`), or "auto": pixels are scaled
            to [0, 1], features from files standardised, the moons left alone.
        test_share: of data in one piece, what part is kept for testing, drawn evenly from each
            class, of which one row at least is left to train on; 0.2 by default. With `like`:
            what part is tested on at most; by default all rows that the model was not trained on.
        n, noise, seed: of moons; see `nnxp.datasets.moons.read`. `seed` is also that of a
            file's split.
        like: what a trained model knows of its data (`MLP.metadata`): the classes, features and
            preprocessing to use instead of this data's own, and the split. Where the content is
            that which the model was trained on, `x` has the rows that were kept for training then
            (those that `nnxp.train` validated on among them) and `x_test` the others; of any
            other content, `x_test` has every row.
        test_only: leave the training part out, `x` and `y` empty, and save its memory; needs
            `like`.

    Raises:
        InputError: nothing goes by this name, or an option has a wrong value.
        DataError: a file is missing, damaged or cannot be trained on; names the place.
    """
    new = like is None
    if new and test_only:
        raise InputError("test_only needs like: what is done to features is learnt in training")
    if new and test_share == 1:
        raise InputError("test_share must be less than 1: no rows would be left to train on")
    raw = _read(name_or_path, data_dir, target, n, noise, seed, like, test_only=test_only)
    if raw.y is None:
        column = (like or {}).get("target")
        what = f"column {column!r}" if column else "targets"
        raise DataError(f"{raw.name}: has no {what} to compare with")
    if raw.x_test is not None and test_share is not None:
        raise InputError(
            f"{raw.name} has test data of its own: a test share is for data in one piece"
        )
    if raw.header is not None:
        log.info("%s: the first line is the header: %s", raw.name, ", ".join(raw.header))
    like = like or {}
    task, classes, parts, guessed = _encoded(raw, target, task, like, new)
    split = trained_on = None
    if raw.x_test is None:
        labels = parts[0] if task == "classify" else np.zeros(len(parts[0]))
        split, trained_on = _split(raw, like, test_share, seed, new)
        rows = split.rows(labels)
        if trained_on and test_share is not None:
            rows = rows[0], split.unseen(labels, test_share)
        x, x_test, y, y_test = (array[part] for array in (raw.x, parts[0]) for part in rows)
    else:
        x, x_test, (y, y_test) = raw.x, raw.x_test, parts
    if new and classes is not None and len(classes) < 2:
        raise DataError(
            f"{raw.name}: only one class, {classes[0]!r}: there is nothing to tell apart"
        )

    done = _preprocessing(raw, x, preprocess) if new else _done(raw, like)
    if test_only:
        x, y = x[:0], y[:0]
    dataset = Dataset(
        raw.name, _apply(raw, done, x), y, _apply(raw, done, x_test), y_test, task, classes,
        raw.shape, done, raw.features, raw.target, raw.header, guessed and new, split, trained_on,
    )  # fmt: skip
    if dataset.task_guessed:
        log.info("%s: %s (guessed; see task)", raw.name, dataset.describe_task())
    if new and split and len(y_test) < (asked := round(split.share * (len(y) + len(y_test)))):
        log.info(
            "%s: %d rows to test on, not %d: each class keeps a row to train on",
            raw.name, len(y_test), asked,
        )  # fmt: skip
    return dataset


def described(network_metadata: dict[str, Any], sizes: Sequence[int]) -> dict[str, Any]:
    """A model's metadata, checked: what `Dataset.metadata` wrote, or nothing of the kind.

    Args:
        network_metadata: of the model.
        sizes: of its network's layers.

    Raises:
        ModelError: a value is not of its kind or does not fit the network, so the file was written
            by something else.
    """
    known = {key: network_metadata.get(key) for key in _DESCRIPTION}
    for key, fits in _DESCRIPTION.items():
        if known[key] is not None and not fits(known[key]):
            raise ModelError(
                f"the model's metadata has {key} {shown(known[key])}: not one of nnxp's"
            )
    if known["classes"] is not None and len(known["classes"]) != sizes[-1]:
        raise ModelError(f"the model names {len(known['classes'])} classes for {sizes[-1]} outputs")
    columns = _columns(known["preprocessing"])
    if columns not in (None, sizes[0]):
        raise ModelError(
            f"the model's preprocessing makes {columns} features for {sizes[0]} inputs"
        )
    return {key: value for key, value in known.items() if value is not None}


def _is_preprocessing(value: Any) -> bool:
    if not (
        isinstance(value, dict)
        and {"kind", "shift", "scale"} <= set(value) <= {"kind", "shift", "scale", "matrix"}
        and value["kind"] in KINDS
    ):
        return False
    shift, scale, matrix = _finite(value["shift"]), _finite(value["scale"]), value.get("matrix")
    if shift is None or scale is None or shift.shape != scale.shape:
        return False
    if value["kind"] in ("none", "pixels"):
        with np.errstate(over="ignore", under="ignore"):
            scale = scale.astype(np.float32)  # in which `Preprocessing.apply` divides by it
    if not (np.isfinite(scale) & (scale > 0)).all():
        return False
    whitens = value["kind"] in ("pca", "zca")
    return _is_matrix(matrix, shift.shape) if whitens else matrix is None


def _finite(value: Any) -> np.ndarray | None:
    """A finite number, or a list of them, as float64, 0-d or 1-d; None for anything else."""
    return np.asarray(_FIGURES.convert(value)) if _FIGURES.accepts(value) else None


def _is_matrix(value: Any, features: tuple[int, ...]) -> bool:
    return (
        isinstance(value, np.ndarray)
        and value.ndim == 2
        and value.dtype.kind == "f"
        and value.shape[:1] == features
    )


def _columns(preprocessing: dict[str, Any] | None) -> int | None:
    """How many features come of preprocessing; None where as many as go in, and any."""
    if preprocessing is None:
        return None
    if preprocessing.get("matrix") is not None:
        return int(preprocessing["matrix"].shape[1])
    shift = preprocessing["shift"]
    return len(shift) if isinstance(shift, (list, tuple)) else None


_FIGURES = options.one_or_each(options.FINITE)
_STRINGS = options.several(options.TEXT, least=0)
_LENGTHS = options.several(options.whole(1), least=0)
_DESCRIPTION = {
    "task": targets.TASKS.__contains__,
    "classes": _STRINGS.accepts,
    "features": _STRINGS.accepts,
    "target": lambda value: isinstance(value, str),
    "shape": _LENGTHS.accepts,
    "preprocessing": _is_preprocessing,
    "split": is_split,
}


@options.checked(
    name_or_path=PATH,
    data_dir=options.optional(PATH),
    like=options.instance(dict, "a model's metadata, a dict"),
    count=options.optional(options.whole(1)),
)
def load_features(
    name_or_path: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    *,
    like: dict[str, Any],
    count: int | None = None,
) -> np.ndarray:
    """The features of a set's test part, or of a whole file, as a trained model takes them.

    A file needs no targets.

    Args:
        name_or_path, data_dir: see `load`.
        like: the model's `metadata`.
        count: how many features the model takes; a csv with just as many columns has no target.
    """
    done = _saved(like, "preprocessing")
    if done is not None and done.features is not None:
        count = done.features
    raw = _read(name_or_path, data_dir, None, moons.N, moons.NOISE, 0, like, count, test_only=True)
    x = raw.x if raw.x_test is None else raw.x_test
    if raw.x_test is None and raw.classes is not None and raw.y is not None:
        x = x[_split(raw, like, None, 0, new=False)[0].rows(raw.y)[1]]
    return _apply(raw, _done(raw, like), x)


def _encoded(
    raw: Raw, target: str | None, task: TaskName | None, like: dict[str, Any], new: bool
) -> targets.Encoded:
    """The targets in numbers: classes as the model numbers them, if it is not a new one."""
    assert raw.y is not None
    parts = [raw.y] if raw.y_test is None else [raw.y, raw.y_test]
    known = like.get("classes")
    if raw.classes is None:
        numbered = not new and not known
        return targets.encode(raw.name, parts, like.get("task", task), known, numbered)
    # A named set: its classes are numbered already.
    if target is not None or task not in (None, "classify"):
        raise InputError(f"{raw.name} has classes: a target or another task is for files")
    if tuple(known or raw.classes) != raw.classes:
        raise DataError(f"{raw.name}: its classes are not those that the model was trained on")
    return targets.Encoded("classify", raw.classes, parts, guessed=False)


def _read(
    name_or_path: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None,
    target: str | None,
    n: int,
    noise: float,
    seed: int,
    like: dict[str, Any] | None,
    count: int | None = None,
    *,
    test_only: bool = False,
) -> Raw:
    name = str(name_or_path)
    if name == "digits":
        return digits.read()
    if name == "moons":
        return moons.read(n, noise, seed)
    if name in mnist.SETS:
        return mnist.read(name, data_dir, test_only)
    path = Path(name)
    if path.suffix.lower() == ".csv":
        known = like or {}
        return tables.read_csv(path, target or known.get("target"), known.get("features"), count)
    if path.suffix.lower() == ".npz":
        if target is not None:
            raise InputError(f"{name}: an npz has its targets in y; target {target!r} is for csv")
        return tables.read_npz(path, like is not None)
    if name and path.exists():
        raise DataError(f"{name}: know how to read .csv and .npz, not {path.suffix or 'this'!r}")
    if path.suffix or path.parent != Path(".") or not name:
        raise DataError(f"{name or repr(name)}: no such file")
    raise unknown_name("data set", name, [*NAMES, "FILE.csv", "FILE.npz"])


def _done(raw: Raw, like: dict[str, Any]) -> Preprocessing:
    """What the model's training did to its features; what this data's would do to pixels, if it
    is not said."""
    saved = _saved(like, "preprocessing")
    return saved or (pixels(raw.largest_pixel) if raw.largest_pixel else Preprocessing())


def _apply(raw: Raw, done: Preprocessing, x: np.ndarray) -> np.ndarray:
    if done.features not in (None, x.shape[1]):
        raise DataError(
            f"{raw.name} has {x.shape[1]} features a sample, the model takes {done.features}: "
            "it was trained on other data"
        )
    prepared = done.apply(x)
    if raw.from_file and not np.isfinite(prepared).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(prepared))[0])
        if done.matrix is not None:
            column = int(np.argmax(np.abs(done.standardized(x[row]))))
        name = repr(raw.features[column]) if raw.features else f"feature {column}"
        raise DataError(
            f"{raw.name}: {name} of sample {row} is {x[row, column]:g}, more than float32 holds: "
            "scale it"
        )
    return prepared


def _split(
    raw: Raw, like: dict[str, Any], share: float | None, seed: int, new: bool
) -> tuple[Split, bool | None]:
    """How data in one piece is split, and whether a model was trained on it; see `Dataset`."""
    content = content_hash(raw)
    saved = Split(**like["split"]) if like.get("split") else None
    if saved and saved.content == content:
        return saved, True
    if share is None:
        share = TEST_SHARE if new else 1.0
    return Split(share, seed, content), False if saved else None


def _saved(like: dict[str, Any], key: str) -> Preprocessing | None:
    return Preprocessing(**like[key]) if like.get(key) else None


def _preprocessing(raw: Raw, x: np.ndarray, wanted: str) -> Preprocessing:
    """What is to be done to the features of this data, learnt from its training part."""
    if wanted == "auto":
        if raw.largest_pixel:
            return pixels(raw.largest_pixel)
        wanted = "standardize" if raw.from_file else "none"
    if wanted == "standardize":
        return standardize(x, raw.largest_pixel or 1.0)
    return whiten(x, wanted, raw.largest_pixel) if wanted in ("pca", "zca") else Preprocessing()

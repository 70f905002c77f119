"""Data sets by name or file: training and test arrays, ready to train on.

To add a named set, write a module here with a `read(...)` that returns a `Raw`, and add its name
to `NAMES`.
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
"""The named sets; any other string is the path of a .csv or .npz file."""

PREPROCESS = ("auto", "none", "standardize", "pca", "zca")
"""The choices for the preprocessing of features; see `load`."""

TEST_SHARE = 0.2
"""The default share of test rows, for data without a test part."""

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
        shape: the shape of one sample before it was flattened: (28, 28), (4,).
        preprocessing: the preprocessing of the features.
        features: the name of each feature, if the file names them.
        target: the name of the target column, if the file names it.
        header: the first line of a csv, which is read as the columns' names.
        task_guessed: whether the task was guessed from the targets, which also allow another.
        split: how the test rows were chosen; None if the data has its own test part.
        trained_on: for data without a test part that was loaded `like` a model's: whether the
            model was trained on rows of it, which are then not in `x_test`. None if unknown.

    Example:
        >>> import nnxp
        >>> data = nnxp.datasets.load("moons")
        >>> data.task, data.classes, data.features
        ('classify', ('upper', 'lower'), ('x', 'y'))
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
        """Return the metadata, for JSON, that a model needs to be used on other data."""
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
        """The number of units in the output layer of a network for this data."""
        return len(self.classes) if self.classes else int(self.y.shape[1])

    def describe_task(self) -> str:
        """Describe the task and its outputs: "classify, 3 classes"."""
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
    """Load a data set, split it into training and test data and preprocess it.

    Assumptions (a csv's header, the task, fewer test rows than requested) are logged by "nnxp" at
    level INFO.

    Args:
        name_or_path: "digits" (8x8 handwritten digits, bundled), "moons" (two interleaving
            half circles, generated), "mnist", "fashion-mnist", or the path of a file:
            `.npz` with arrays `x, y` and optionally `x_test, y_test`, or `.csv`, whose first line
            is read as the columns' names.
        data_dir: the first place to look for a folder with the set's name, before
            `$NNXP_DATA_DIR`, Debian's folder, the download cache and the public mirrors.
        target: the csv's target column; the last by default.
        task: "classify", "regress" or "multilabel". By default it is guessed from the targets.
            Text is classes. Whole numbers are classes if there are two distinct ones, or up to 20
            with an average of two rows or more each. Other numbers are regressed on. Rows of 0
            and 1 are classes or, if a row has several 1s, labels.
        preprocess: the preprocessing of the features, with statistics of the training part:
            "none", "standardize", "pca", "zca" (see `nnxp.preprocessing`), or "auto": pixels are
            scaled to [0, 1], features from files are standardised, the moons are unchanged.
        test_share: for data without a test part, the share of rows to test on, equal for each
            class, which keeps at least one row to train on; 0.2 by default. With `like`: the
            largest share to test on; by default all rows that the model was not trained on.
        n, noise, seed: for moons; see `nnxp.datasets.moons.read`. `seed` is also the seed of a
            file's split.
        like: the metadata of a trained model (`MLP.metadata`): the classes, features and
            preprocessing to use instead of this data's own, and the split. If the model was
            trained on the same content, `x` has the rows that were kept for training (including
            those that `nnxp.train` validated on) and `x_test` the others. With other content,
            `x_test` has all rows.
        test_only: whether to leave the training part out and save its memory, with empty `x` and
            `y`; needs `like`.

    Raises:
        InputError: no set has this name, or an option has a wrong value.
        DataError: a file is missing, damaged or cannot be trained on; names the place.

    Example:
        >>> import nnxp
        >>> data = nnxp.datasets.load("digits")
        >>> data.x.shape, data.x_test.shape, data.shape
        ((1437, 64), (360, 64), (8, 8))
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

    preprocessing = _fit_preprocessing(raw, x, preprocess) if new else _saved_or_pixels(raw, like)
    if test_only:
        x, y = x[:0], y[:0]
    dataset = Dataset(
        raw.name, _apply(raw, preprocessing, x), y, _apply(raw, preprocessing, x_test), y_test,
        task, classes, raw.shape, preprocessing, raw.features, raw.target, raw.header,
        guessed and new, split, trained_on,
    )  # fmt: skip
    if dataset.task_guessed:
        log.info("%s: %s (guessed; see task)", raw.name, dataset.describe_task())
    if new and split and len(y_test) < (wanted := round(split.share * (len(y) + len(y_test)))):
        log.info(
            "%s: %d rows to test on, not %d: each class keeps a row to train on",
            raw.name, len(y_test), wanted,
        )  # fmt: skip
    return dataset


def described(network_metadata: dict[str, Any], sizes: Sequence[int]) -> dict[str, Any]:
    """Check the entries of a model's metadata that `Dataset.metadata` writes; return those present.

    Args:
        network_metadata: the model's metadata.
        sizes: the sizes of its network's layers.

    Raises:
        ModelError: a value has a wrong type or does not fit the network, so another program wrote
            the file.
    """
    values = {key: network_metadata.get(key) for key in _DESCRIPTION}
    for key, fits in _DESCRIPTION.items():
        if values[key] is not None and not fits(values[key]):
            raise ModelError(
                f"the model's metadata has {key} {shown(values[key])}: not one of nnxp's"
            )
    classes = values["classes"]
    if classes is not None and len(classes) != sizes[-1]:
        raise ModelError(f"the model names {len(classes)} classes for {sizes[-1]} outputs")
    columns = _columns(values["preprocessing"])
    if columns not in (None, sizes[0]):
        raise ModelError(
            f"the model's preprocessing makes {columns} features for {sizes[0]} inputs"
        )
    return {key: value for key, value in values.items() if value is not None}


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
            scale = scale.astype(np.float32)  # the dtype in which `Preprocessing.apply` divides
    if not (np.isfinite(scale) & (scale > 0)).all():
        return False
    whitens = value["kind"] in ("pca", "zca")
    return _is_matrix(matrix, shift.shape) if whitens else matrix is None


def _finite(value: Any) -> np.ndarray | None:
    """Convert a finite number or a list of them to float64, 0-d or 1-d; else return None."""
    return np.asarray(_FIGURES.convert(value)) if _FIGURES.accepts(value) else None


def _is_matrix(value: Any, features: tuple[int, ...]) -> bool:
    return (
        isinstance(value, np.ndarray)
        and value.ndim == 2
        and value.dtype.kind == "f"
        and value.shape[:1] == features
    )


def _columns(preprocessing: dict[str, Any] | None) -> int | None:
    """Return the number of features after preprocessing; None if it takes any number."""
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
    """Load the features of a set's test part or of a whole file, preprocessed for a trained model.

    A file needs no targets.

    Args:
        name_or_path, data_dir: see `load`.
        like: the model's `metadata`.
        count: the number of features of the model; a csv with this many columns has no target.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> import nnxp
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "new.csv")
        ...     np.savetxt(path, [[1.5, 2.0]], delimiter=",", header="width,height", comments="")
        ...     nnxp.datasets.load_features(path, like={}, count=2)
        array([[1.5, 2. ]], dtype=float32)
    """
    saved = _saved_preprocessing(like)
    if saved is not None and saved.features is not None:
        count = saved.features
    raw = _read(name_or_path, data_dir, None, moons.N, moons.NOISE, 0, like, count, test_only=True)
    x = raw.x if raw.x_test is None else raw.x_test
    if raw.x_test is None and raw.classes is not None and raw.y is not None:
        x = x[_split(raw, like, None, 0, new=False)[0].rows(raw.y)[1]]
    return _apply(raw, _saved_or_pixels(raw, like), x)


def _encoded(
    raw: Raw, target: str | None, task: TaskName | None, like: dict[str, Any], new: bool
) -> targets.Encoded:
    """Encode the targets as numbers; an existing model's classes keep their numbers."""
    assert raw.y is not None
    parts = [raw.y] if raw.y_test is None else [raw.y, raw.y_test]
    model_classes = like.get("classes")
    if raw.classes is None:
        numbered = not new and not model_classes
        return targets.encode(raw.name, parts, like.get("task", task), model_classes, numbered)
    # The classes of a named set are numbered already.
    if target is not None or task not in (None, "classify"):
        raise InputError(f"{raw.name} has classes: a target or another task is for files")
    if tuple(model_classes or raw.classes) != raw.classes:
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
        model = like or {}
        return tables.read_csv(path, target or model.get("target"), model.get("features"), count)
    if path.suffix.lower() == ".npz":
        if target is not None:
            raise InputError(f"{name}: an npz has its targets in y; target {target!r} is for csv")
        return tables.read_npz(path, like is not None)
    if name and path.exists():
        raise DataError(f"{name}: know how to read .csv and .npz, not {path.suffix or 'this'!r}")
    if path.suffix or path.parent != Path(".") or not name:
        raise DataError(f"{name or repr(name)}: no such file")
    raise unknown_name("data set", name, [*NAMES, "FILE.csv", "FILE.npz"])


def _saved_or_pixels(raw: Raw, like: dict[str, Any]) -> Preprocessing:
    """Return the model's preprocessing; if it has none, scale pixels."""
    saved = _saved_preprocessing(like)
    return saved or (pixels(raw.largest_pixel) if raw.largest_pixel else Preprocessing())


def _apply(raw: Raw, preprocessing: Preprocessing, x: np.ndarray) -> np.ndarray:
    if preprocessing.features not in (None, x.shape[1]):
        raise DataError(
            f"{raw.name} has {x.shape[1]} features a sample, the model takes "
            f"{preprocessing.features}: it was trained on other data"
        )
    prepared = preprocessing.apply(x)
    if raw.from_file and not np.isfinite(prepared).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(prepared))[0])
        if preprocessing.matrix is not None:
            column = int(np.argmax(np.abs(preprocessing.standardized(x[row]))))
        name = repr(raw.features[column]) if raw.features else f"feature {column}"
        raise DataError(
            f"{raw.name}: {name} of sample {row} is {x[row, column]:g}, more than float32 holds: "
            "scale it"
        )
    return prepared


def _split(
    raw: Raw, like: dict[str, Any], share: float | None, seed: int, new: bool
) -> tuple[Split, bool | None]:
    """Return the split, and whether a model was trained on the data; see `Dataset`."""
    content = content_hash(raw)
    saved = Split(**like["split"]) if like.get("split") else None
    if saved and saved.content == content:
        return saved, True
    if share is None:
        share = TEST_SHARE if new else 1.0
    return Split(share, seed, content), False if saved else None


def _saved_preprocessing(like: dict[str, Any]) -> Preprocessing | None:
    return Preprocessing(**like["preprocessing"]) if like.get("preprocessing") else None


def _fit_preprocessing(raw: Raw, x: np.ndarray, kind: str) -> Preprocessing:
    """Fit the preprocessing on the training features `x`; `kind` is one of `PREPROCESS`."""
    if kind == "auto":
        if raw.largest_pixel:
            return pixels(raw.largest_pixel)
        kind = "standardize" if raw.from_file else "none"
    if kind == "standardize":
        return standardize(x, raw.largest_pixel or 1.0)
    return whiten(x, kind, raw.largest_pixel) if kind in ("pca", "zca") else Preprocessing()

"""Data sets by name or file: training and test arrays, ready to train on.

To add a named set, write a module here with a `read(...)` that returns a `Raw`, and add its name
to `NAMES`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nnxp import options
from nnxp.data.sources import Source, Transformed
from nnxp.datasets import (
    digits,
    features,
    frames,
    mnist,
    moons,
    npz_files,
    rows,
    tables,
    targets,
)
from nnxp.datasets.features import Encoding
from nnxp.datasets.metadata import described
from nnxp.datasets.raw import Raw
from nnxp.datasets.splits import Split, content_hashes
from nnxp.errors import DataError, InputError, shown, unknown_name
from nnxp.names import ImputeName, PreprocessName, TaskName
from nnxp.preprocessing import Preprocessing, pixels, standardize, whiten

__all__ = ["FILES", "NAMES", "Dataset", "described", "load", "load_features"]

NAMES = ("digits", "moons", "mnist", "fashion-mnist")
"""The named sets; any other string is the path of a file of `FILES`."""

FILES = (*tables.FILES, ".npz", *rows.FILES)
"""The suffixes of files that are read; folders of npy or parquet files are, too."""

PREPROCESS = ("auto", "none", "standardize", "pca", "zca")
"""The choices for the preprocessing of features; see `load`."""

TEST_SHARE = 0.2
"""The default share of test rows, for data without a test part."""

_MNISTS = " and ".join(mnist.SETS)

log = logging.getLogger("nnxp")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test data, preprocessed.

    Attributes:
        name: the set's name, or the file's path.
        x, x_test: features, (samples, features), float32; a `nnxp.data.sources.Source` if they stay
            on disk, which `nnxp.train` and networks take, and of which x[5:8] is an array.
        y, y_test: classes, (samples,), int64; or float64, (samples, outputs), 0/1 labels or
            real values.
        task: "classify", "multilabel" or "regress".
        classes: the name of each class; None for other tasks.
        shape: the shape of one sample before it was flattened: (28, 28), (4,).
        preprocessing: the preprocessing of the features.
        features: the name of each column that features are made of, if the file names them.
        target: the name of the target column, if the file names it.
        header: the first line of a csv, which is read as the columns' names.
        task_guessed: whether the task was guessed from the targets, which also allow another.
        split: how the test rows were chosen; None if the data has its own test part.
        trained_on: for data without a test part that was loaded `like` a model's: whether the
            model was trained on rows of it, which are then not in `x_test`. None if unknown.
        encoding: the categories of text features and what missing values are filled with; None if
            there are neither.
        delimiter, decimal: the character between the fields of a csv and the decimal sign.
        filled: the number of values that were filled in, of each column that had any missing.

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
    encoding: Encoding | None = None
    delimiter: str | None = None
    decimal: str | None = None
    filled: dict[str, int] = field(default_factory=dict)

    def metadata(self) -> dict[str, Any]:
        """Return the metadata, for JSON, that a model needs to be used on other data."""
        return {
            "data": self.name,
            "task": self.task,
            "classes": self.classes,
            "shape": self.shape,
            "features": self.features,
            "target": self.target,
            "encoding": asdict(self.encoding) if self.encoding else None,
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


def _source(value: Any) -> Any:
    return value if frames.is_frame(value) else options.PATH.convert(value)


def _delimiter(value: Any) -> str:
    value = {"tab": "\t", "\\t": "\t"}.get(options.TEXT.convert(value), value)
    if len(value) != 1 or not value.isascii() or value.isalnum() or value in '"\r\n\0.+-_':
        raise ValueError
    return value


def _impute(value: Any) -> str | float:
    if not isinstance(value, str):
        return float(options.FINITE.convert(value))
    name = value.lower().replace("-", "_")
    if name not in features.STRATEGIES:
        raise unknown_name("impute", value, [*features.STRATEGIES, "a number"])
    return name


SOURCE = options.Rule("a string, a path or a DataFrame", _source)
DELIMITER = options.Rule('one character such as ";", or "tab"', _delimiter)
IMPUTE = options.Rule(f"{', '.join(features.STRATEGIES)} or a finite number", _impute)
COLUMNS = options.several(options.TEXT, least=0)


@options.checked(
    name_or_path=SOURCE,
    data_dir=options.optional(options.PATH),
    target=options.optional(options.TEXT),
    task=options.optional(options.name("task", targets.TASKS)),
    preprocess=options.name("preprocessing", PREPROCESS),
    test_share=options.optional(options.number(0.0, 1.0, closed="both")),
    n=options.whole(4),
    noise=options.NOT_NEGATIVE,
    seed=options.whole(0),
    like=options.optional(options.instance(dict, "a model's metadata, a dict")),
    test_only=options.TRUTH,
    drop=COLUMNS,
    one_hot=options.TRUTH,
    one_hot_columns=COLUMNS,
    impute=options.optional(IMPUTE),
    delimiter=options.optional(DELIMITER),
    features_name=options.optional(options.TEXT),
    targets_file=options.optional(options.PATH),
    stream=options.optional(options.TRUTH),
)
def load(
    name_or_path: str | os.PathLike[str] | Any,
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
    drop: Collection[str] = (),
    one_hot: bool = False,
    one_hot_columns: Collection[str] = (),
    impute: ImputeName | float | None = None,
    delimiter: str | None = None,
    features_name: str | None = None,
    targets_file: str | os.PathLike[str] | None = None,
    stream: bool | None = None,
) -> Dataset:
    """Load a data set, split it into training and test data and preprocess it.

    Assumptions (a csv's header and delimiter, the task, fewer test rows than requested) and what
    is done to text and missing values are logged by "nnxp" at level INFO.

    Args:
        name_or_path: "digits" (8x8 handwritten digits, bundled), "moons" (two interleaving
            half circles, generated), "mnist", "fashion-mnist", the path of a file, or a DataFrame
            of pandas or polars. Files are `.npz` with arrays `x, y` and optionally
            `x_test, y_test`, `.csv` (or `.tsv`), whose first line is read as the columns' names,
            and `.parquet`, which needs pyarrow. Those that may be larger than the memory are
            `.npy`, with `targets_file`; a folder of `.npy` or `.parquet` files, in the order of
            their names; `.h5`, which needs h5py, and `.zarr`, which needs zarr, with arrays `x, y`
            and optionally `x_test, y_test`.
        data_dir: the first place to look for a folder with the set's name, before
            `$NNXP_DATA_DIR`, Debian's folder, the download cache and the public mirrors.
        target: the target column of a table, the last by default; or the array of targets of an
            HDF5 or Zarr file.
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
        drop: the columns of a table to leave out.
        one_hot: whether each column of text becomes as many features as it has categories in all
            rows, each 1 in the rows of its category and 0 in the others. They are not
            standardised, but whitened as all features are.
        one_hot_columns: columns for which that is done whether they are text or numbers.
        impute: what missing values are replaced by: the "mean", the "median" or the
            "most_frequent" value of their column in the training part, or a number. Text is
            replaced by the most frequent one. In a column of numbers of a text file, words such as
            NA, null and ? are missing (`nnxp.datasets.texts.MISSING`), in one of text only empty
            fields. Missing targets are refused.
        delimiter: the character between the fields of a csv. By default the comma, semicolon, tab
            or vertical bar that divides the header and the first rows into equally many fields.
            Where it is not the comma, numbers may have decimal commas if none has a point.
        features_name: the array of features of an HDF5 or Zarr file.
        targets_file: an npy file of targets, for features in another file or folder.
        stream: for data that may be larger than the memory: whether features stay on disk, to be
            read by parts. None for those of more than 268 MB (`nnxp.data.sources.LOADED_BYTES`).

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
    if not new and (drop or one_hot or one_hot_columns or impute is not None):
        raise InputError(
            "drop, one_hot, one_hot_columns and impute are those of the model, where like is given"
        )
    reading = _Reading(
        target, tuple(drop), one_hot, tuple(one_hot_columns), impute, delimiter, features_name,
        None if targets_file is None else Path(targets_file), stream,
    )  # fmt: skip
    raw = _read(name_or_path, data_dir, reading, (n, noise, seed), like, test_only=test_only)
    if raw.y is None:
        column = target or (like or {}).get("target")
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
        chosen = split.rows(labels)
        if trained_on and test_share is not None:
            chosen = chosen[0], split.unseen(labels, test_share)
        x, x_test = (_selected(raw.x, part) for part in chosen)
        y, y_test = (parts[0][part] for part in chosen)
    else:
        x, x_test, (y, y_test) = raw.x, raw.x_test, parts
    if new and classes is not None and len(classes) < 2:
        raise DataError(
            f"{raw.name}: only one class, {classes[0]!r}: there is nothing to tell apart"
        )

    if test_only:
        x, y = _selected(x, np.empty(0, np.int64)), y[:0]
    saved = features.from_metadata(like.get("encoding"))
    encoding = _fit_encoding(raw, x, impute) if new else saved
    filled = _filled(raw, encoding, x, x_test)
    x, x_test = (_encode(raw, encoding, part) for part in (x, x_test))
    if new:
        preprocessing = _fit_preprocessing(raw, x, preprocess, encoding)
    else:
        preprocessing = _saved_or_pixels(raw, like)
    dataset = Dataset(
        raw.name,
        _apply(raw, encoding, preprocessing, x), y,
        _apply(raw, encoding, preprocessing, x_test), y_test,
        task, classes, raw.shape if encoding is None else (encoding.features,), preprocessing,
        raw.features, raw.target, raw.header, guessed and new, split, trained_on,
        encoding, raw.delimiter, raw.decimal, filled,
    )  # fmt: skip
    if dataset.task_guessed:
        log.info("%s: %s (guessed; see task)", raw.name, dataset.describe_task())
    if new and split and len(y_test) < (wanted := round(split.share * (len(y) + len(y_test)))):
        log.info(
            "%s: %d rows to test on, not %d: each class keeps a row to train on",
            raw.name, len(y_test), wanted,
        )  # fmt: skip
    return dataset


@options.checked(
    name_or_path=SOURCE,
    data_dir=options.optional(options.PATH),
    like=options.instance(dict, "a model's metadata, a dict"),
    count=options.optional(options.whole(1)),
    delimiter=options.optional(DELIMITER),
    features_name=options.optional(options.TEXT),
)
def load_features(
    name_or_path: str | os.PathLike[str] | Any,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    like: dict[str, Any],
    count: int | None = None,
    delimiter: str | None = None,
    features_name: str | None = None,
) -> np.ndarray:
    """Load the features of a set's test part or of a whole table, preprocessed for a trained model.

    A table needs no targets. What is filled in is logged, as `load` does.

    Args:
        name_or_path, data_dir, delimiter, features_name: see `load`.
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
    saved, encoding = _saved_preprocessing(like), features.from_metadata(like.get("encoding"))
    if encoding is not None:
        count = len(encoding.categories)
    elif saved is not None and saved.features is not None:
        count = saved.features
    moon = (moons.N, moons.NOISE, 0)
    reading = _Reading(delimiter=delimiter, features_name=features_name)
    raw = _read(
        name_or_path, data_dir, reading, moon, like, count, test_only=True, features_only=True
    )
    x = raw.x if raw.x_test is None else raw.x_test
    if raw.x_test is None and raw.classes is not None and raw.y is not None:
        x = _selected(x, _split(raw, like, None, 0, new=False)[0].rows(raw.y)[1])
    _filled(raw, encoding, x)
    return _apply(raw, encoding, _saved_or_pixels(raw, like), _encode(raw, encoding, x))


def _encoded(
    raw: Raw, target: str | None, task: TaskName | None, like: dict[str, Any], new: bool
) -> targets.Encoded:
    """Encode the targets as numbers; an existing model's classes keep their numbers."""
    assert raw.y is not None
    parts = [raw.y] if raw.y_test is None else [raw.y, raw.y_test]
    model_classes = like.get("classes")
    if raw.classes is None:
        numbered = not new and not model_classes
        written = None if raw.y_text is None else [raw.y_text]
        given = like.get("task", task)
        return targets.encode(raw.name, parts, given, model_classes, numbered, written)
    # The classes of a named set are numbered already.
    if target is not None or task not in (None, "classify"):
        raise InputError(f"{raw.name} has classes: a target or another task is for files")
    if tuple(model_classes or raw.classes) != raw.classes:
        raise DataError(f"{raw.name}: its classes are not those that the model was trained on")
    return targets.Encoded("classify", raw.classes, parts, guessed=False)


_OF_TABLES = ("target", "drop", "one_hot", "one_hot_columns", "impute")


@dataclass(frozen=True)
class _Reading:
    """The options of `load` that say what to read of a file."""

    target: str | None = None
    drop: tuple[str, ...] = ()
    one_hot: bool = False
    one_hot_columns: tuple[str, ...] = ()
    impute: str | float | None = None
    delimiter: str | None = None
    features_name: str | None = None
    targets_file: Path | None = None
    stream: bool | None = None

    def refuse(self, name: str, *allowed: str) -> None:
        """Raise InputError if an option is given that is not one of `allowed`."""
        for option, value in asdict(self).items():
            if option not in allowed and value is not None and value is not False and value != ():
                if option in ("features_name", "targets_file", "stream"):
                    kinds = f"{', '.join(rows.FILES)} and folders"
                    value = str(value) if isinstance(value, Path) else value
                    raise InputError(f"{option} {shown(value)} is for {kinds}, not for {name}")
                raise InputError(f"{option} {shown(value)} is for tables, and {name} is none")


def _read(
    name_or_path: Any,
    data_dir: str | os.PathLike[str] | None,
    reading: _Reading,
    moon: tuple[int, float, int],
    like: dict[str, Any] | None,
    count: int | None = None,
    *,
    test_only: bool = False,
    features_only: bool = False,
) -> Raw:
    if frames.is_frame(name_or_path):
        reading.refuse("a DataFrame", *_OF_TABLES)
        return _read_table(tables.open_frame(name_or_path), reading, like, count)
    name = str(name_or_path)
    if data_dir is not None and name not in mnist.SETS:
        log.info("%s: the data folder %s is not used: it is for %s", name, data_dir, _MNISTS)
    if name in NAMES:
        reading.refuse(name, "target")  # `_encoded` refuses this
        if name == "digits":
            return digits.read()
        return moons.read(*moon) if name == "moons" else mnist.read(name, data_dir, test_only)
    path = Path(name)
    suffix = path.suffix.lower()
    if name and rows.is_for(path):
        reading.refuse(name, "target", "features_name", "targets_file", "stream")
        _check_names(name, suffix, reading)
        names = rows.Names(
            reading.features_name, reading.target or (like or {}).get("target"),
            reading.targets_file,
        )  # fmt: skip
        columns = (like or {}).get("features")
        return rows.read(path, names, columns, reading.stream, features_only=features_only)
    if suffix in tables.FILES:
        if suffix != ".parquet":
            reading.refuse(name, *_OF_TABLES, "delimiter")
        else:
            reading.refuse(name, *_OF_TABLES)
        return _read_table(tables.open_file(path, reading.delimiter), reading, like, count)
    if suffix == ".npz":
        if reading.target is not None:
            raise InputError(
                f"{name}: an npz has its targets in y; target {reading.target!r} is for tables"
            )
        reading.refuse(name, "impute")
        fills = reading.impute is not None or bool((like or {}).get("encoding"))
        return npz_files.read(path, like is not None, fills)
    if os.path.exists(name):
        known = f"{', '.join(FILES[:-1])} and {FILES[-1]}"
        raise DataError(f"{name}: know how to read {known}, not {path.suffix or 'this'!r}")
    if path.suffix or path.parent != Path(".") or not name:
        raise DataError(f"{name or repr(name)}: no such file")
    raise unknown_name("data set", name, [*NAMES, *(f"FILE{suffix}" for suffix in FILES)])


def _check_names(name: str, suffix: str, reading: _Reading) -> None:
    """Raise InputError if arrays are named that a file or folder does not have."""
    if reading.target is not None and reading.targets_file is not None:
        raise InputError(
            f"target {reading.target!r} and targets_file {str(reading.targets_file)!r} are both "
            "targets: give one"
        )
    for option in ("target", "features_name") if suffix == ".npy" else ():
        if (value := getattr(reading, option)) is not None:
            raise InputError(f"{option} {value!r} is for files of several arrays, not for {name}")


def _read_table(
    table: tables.Table, reading: _Reading, like: dict[str, Any] | None, count: int | None
) -> Raw:
    if table.delimiter not in (None, ",") and reading.delimiter is None:
        commas = ", and numbers have decimal commas" if table.decimal == "," else ""
        log.info(
            "%s: a %s divides fields%s (found; see delimiter)",
            table.name, tables.DELIMITERS[table.delimiter], commas,
        )  # fmt: skip
    if like is None:
        return tables.read(
            table, reading.target, drop=reading.drop, one_hot=reading.one_hot,
            one_hot_columns=reading.one_hot_columns, impute=reading.impute is not None,
        )  # fmt: skip
    encoding = features.from_metadata(like.get("encoding"))
    target = reading.target or like.get("target")
    return tables.read_like(table, target, like.get("features"), encoding, count)


def _fit_encoding(raw: Raw, x: np.ndarray, impute: str | float | None) -> Encoding | None:
    """Fit what is done to text and missing values on the training features `x`."""
    if raw.categories is None and impute is None:
        return None
    columns = range(x.shape[1])
    categories = raw.categories or (None,) * x.shape[1]
    names = raw.features or tuple(f"feature {i}" for i in columns)
    encoding = features.fit(x, categories, impute, names, raw.name)
    for i, texts in enumerate(categories):
        if texts is not None:
            unseen = len(texts) - len(np.unique(x[~np.isnan(x[:, i]), i]))
            log.info(
                "%s: %r has %d categories%s", raw.name, names[i], len(texts),
                f", {unseen} of which are in no row to train on" if unseen else "",
            )  # fmt: skip
    return encoding


def _filled(raw: Raw, encoding: Encoding | None, *parts: Any) -> dict[str, int]:
    """Count the values that are filled in, of each column; log them."""
    if encoding is None:
        return {}
    missing = sum(np.isnan(x).sum(axis=0) for x in parts)
    rows = sum(map(len, parts))
    filled = {}
    for i in np.flatnonzero(missing):
        name = raw.features[i] if raw.features else f"feature {i}"
        filled[name] = int(missing[i])
        log.info(
            "%s: filled in %d of %d values of %r with %s", raw.name, missing[i], rows, name,
            features.described_fill(encoding.fill[i]),
        )  # fmt: skip
    return filled


def _saved_or_pixels(raw: Raw, like: dict[str, Any]) -> Preprocessing:
    """Return the model's preprocessing; if it has none, scale pixels."""
    saved = _saved_preprocessing(like)
    return saved or (pixels(raw.largest_pixel) if raw.largest_pixel else Preprocessing())


def _encode(raw: Raw, encoding: Encoding | None, x: Any) -> Any:
    if encoding is None:
        return x
    if isinstance(x, Source):
        raise DataError(
            f"{raw.name}: stays on disk, and the model fills in values or encodes text: "
            "load it (stream=False, --no-stream)"
        )
    _check_width(raw, x, len(encoding.categories))
    if raw.features is None and any(encoding.categories):
        raise DataError(
            f"{raw.name}: has no names of columns, and the model has categories of some: give a "
            "table"
        )
    return encoding.apply(x)


def _check_width(raw: Raw, x: Any, width: int | None) -> None:
    if width not in (None, x.shape[1]):
        raise DataError(
            f"{raw.name} has {x.shape[1]} features a sample, the model takes {width}: it was "
            "trained on other data"
        )


def _apply(raw: Raw, encoding: Encoding | None, preprocessing: Preprocessing, x: Any) -> Any:
    _check_width(raw, x, preprocessing.features)
    if isinstance(x, Source):
        return Transformed(x, preprocessing)
    names = encoding.names(raw.features) if encoding and raw.features else raw.features
    prepared = preprocessing.apply(x)
    if raw.from_file and not np.isfinite(prepared).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(prepared))[0])
        if preprocessing.matrix is not None:
            column = int(np.argmax(np.abs(preprocessing.standardized(x[row]))))
        name = repr(names[column]) if names else f"feature {column}"
        raise DataError(
            f"{raw.name}: {name} of sample {row} is {x[row, column]:g}, more than float32 holds: "
            "scale it"
        )
    return prepared


def _selected(x: Any, part: np.ndarray) -> Any:
    """Return rows of an array, or of a source without a copy."""
    return x.select(part) if isinstance(x, Source) else x[part]


def _split(
    raw: Raw, like: dict[str, Any], share: float | None, seed: int, new: bool
) -> tuple[Split, bool | None]:
    """Return the split, and whether a model was trained on the data; see `Dataset`."""
    content, *others = content_hashes(raw)
    saved = Split(**like["split"]) if like.get("split") else None
    if saved and saved.content in (content, *others):
        return saved, True
    if share is None:
        share = TEST_SHARE if new else 1.0
    return Split(share, seed, content), False if saved else None


def _saved_preprocessing(like: dict[str, Any]) -> Preprocessing | None:
    return Preprocessing(**like["preprocessing"]) if like.get("preprocessing") else None


def _fit_preprocessing(raw: Raw, x: Any, kind: str, encoding: Encoding | None) -> Preprocessing:
    """Fit the preprocessing on encoded training features; `kind` is one of `PREPROCESS`."""
    if kind == "auto":
        if raw.largest_pixel:
            return pixels(raw.largest_pixel)
        kind = "standardize" if raw.from_file else "none"
    if kind == "none":
        return Preprocessing()
    if kind != "standardize":
        if isinstance(x, Source):
            raise InputError(
                f"preprocess {kind!r} takes data in memory, and {raw.name} stays on disk: take "
                "standardize, or load it (stream=False, --no-stream)"
            )
        return whiten(x, kind, raw.largest_pixel)
    fitted = standardize(x, raw.largest_pixel or 1.0)
    if encoding is None:
        return fitted
    # A rare category would become a large number.
    shift = np.where(encoding.one_hot, 0.0, fitted.shift)
    return Preprocessing(
        kind, shift.tolist(), np.where(encoding.one_hot, 1.0, fitted.scale).tolist()
    )

"""MNIST and Fashion-MNIST: four IDX files each, found on this machine or downloaded.

Source: LeCun et al., Gradient-based learning applied to document recognition, 1998; Xiao,
Rasul and Vollgraf, Fashion-MNIST, 2017.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnxp.datasets import idx
from nnxp.datasets.raw import Raw
from nnxp.errors import DataError

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True)
class Source:
    """The places from which a set can be read."""

    debian: Path
    """The folder of Debian's package."""
    mirrors: tuple[str, ...]
    hashes: tuple[str, ...]
    """The hashes of the four .gz files on the mirrors, in the order of `FILES`."""
    classes: tuple[str, ...]


SETS = {
    "mnist": Source(
        Path("/usr/share/datasets/mnist"),
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        (
            "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
        tuple(str(digit) for digit in range(10)),
    ),
    "fashion-mnist": Source(
        Path("/usr/share/datasets/fashion-mnist"),
        (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        (
            "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "md5:25c81989df183df01b3e8a0aad5dffbe",
            "md5:bef4ecab320f06d8554ea6380940ec79",
            "md5:bb300cfdad3c16e7a12a480ee83cd310",
        ),
        (
            "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
            "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
        ),
    ),
}  # fmt: skip


def read(name: str, data_dir: str | os.PathLike[str] | None = None, test_only: bool = False) -> Raw:
    """Read the set called `name`: pixels 0 to 255, (samples, 784), and classes 0 to 9.

    With `test_only` the files of the training part are not read, and `x` and `y` are empty.

    The files are read from a folder with the set's name in `data_dir` or `$NNXP_DATA_DIR`, from
    Debian's folder or from the download cache; else they are downloaded.

    Raises:
        DataError: a file is missing, damaged, or does not fit the others.
    """
    files = FILES[2:] if test_only else FILES
    paths = _find(name, data_dir, files) or _download(name, files)
    pairs = [_read_pair(*pair) for pair in zip(paths[::2], paths[1::2], strict=True)]
    x_test, y_test = pairs[-1]
    x, y = (x_test[:0], y_test[:0]) if test_only else pairs[0]
    return Raw(name, x, y, (28, 28), x_test, y_test, SETS[name].classes, largest_pixel=255)


def _find(
    name: str, data_dir: str | os.PathLike[str] | None, files: tuple[str, ...]
) -> list[Path] | None:
    if data_dir is not None and not Path(data_dir).is_dir():
        raise DataError(f"data folder {data_dir}: no such folder")
    parents = [parent for parent in (data_dir, os.environ.get("NNXP_DATA_DIR")) if parent]
    incomplete = ""
    for folder in [*(Path(parent) / name for parent in parents), SETS[name].debian]:
        found = [
            next((p for p in (folder / f"{file}.gz", folder / file) if p.exists()), None)
            for file in files
        ]
        if all(found):
            return [path for path in found if path]
        if any(found) and not incomplete:
            missing = files[found.index(None)]
            incomplete = f"{folder}: has no {missing}.gz beside the others: add it"
    if incomplete:
        raise DataError(incomplete)
    return None


def _download(name: str, files: tuple[str, ...]) -> list[Path]:
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    source = SETS[name]
    folder = pooch.os_cache("nnxp") / name
    downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=20)
    paths = []
    hashes = dict(zip(FILES, source.hashes, strict=True))
    for file in files:
        problem: Exception | None = None
        for mirror in source.mirrors:
            try:
                paths.append(
                    pooch.retrieve(
                        f"{mirror}{file}.gz", hashes[file], f"{file}.gz", folder,
                        downloader=downloader,
                    )
                )  # fmt: skip
                break
            except (requests.RequestException, OSError, ValueError) as error:
                problem = error
        else:
            reason = "no network" if isinstance(problem, requests.ConnectionError) else problem
            raise DataError(
                f"{name}: cannot download {file}.gz ({str(reason).splitlines()[0]}): put the four "
                f"files in DIR/{name} and name DIR with --data-dir or NNXP_DATA_DIR"
            )
    return [Path(path) for path in paths]


def _read_pair(images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    x, y = idx.read(images, 3), idx.read(labels, 1)
    if x.shape[1:] != (28, 28):
        raise DataError(f"{images}: images of {x.shape[1]}x{x.shape[2]}, not 28x28")
    if len(x) != len(y):
        raise DataError(f"{images} has {len(x):,} images, {labels} has {len(y):,} labels")
    if len(x) == 0:
        raise DataError(f"{images}: has no images")
    if y.max() > 9:
        row = int(np.argmax(y > 9))
        raise DataError(f"{labels}: label {row} is {y[row]}, not 0 to 9")
    return x.reshape(len(x), -1), y.astype(np.int64)

"""What is fuzzed: functions of bytes, each with inputs to start from.

Only the errors of nnxp may leave a parser, which these functions take; everything else is a
finding. Where a checksum or a length stops random bytes early, the function makes that right.
"""

import atexit
import gzip
import hashlib
import io
import json
import struct
import tempfile
import time
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np

import nnxp
from nnxp import NnxpError, checkpoint, metrics, optimizers, resuming, schedules
from nnxp.datasets import idx, npz_files
from nnxp.weights import read as read_weights

SECONDS = 1.0
"""Processor time after which a parser hangs."""


@cache
def folder() -> Path:
    """A folder in memory, if there is one, until the end of the process."""
    shared = Path("/dev/shm")
    made = tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None)
    atexit.register(made.cleanup)
    return Path(made.name)


def _parse(name: str, content: bytes, parser: Callable[[Path], object]) -> object:
    """What a parser makes of a file with this content; the error's class if it refuses it."""
    path = folder() / name
    path.write_bytes(content)
    try:
        return parser(path)
    except NnxpError as error:
        said = error
    assert "\n" not in str(said), f"an error of several lines: {said}"
    return type(said)


# --- IDX


def _idx(values: np.ndarray) -> bytes:
    head = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return head + values.astype(np.uint8).tobytes()


IMAGES, LABELS = _idx(np.arange(12).reshape(3, 2, 2)), _idx(np.arange(4))


def idx_plain(data: bytes) -> None:
    """An IDX file; images and labels."""
    for dimensions in (1, 3):
        _parse("images", data, lambda path, n=dimensions: idx.read(path, n))


def idx_gzip(data: bytes) -> None:
    """Bytes that are called gzip."""
    _parse("images.gz", data, lambda path: idx.read(path, 3))


def idx_gzipped(data: bytes) -> None:
    """An IDX file in a right gzip file."""
    _parse("images.gz", gzip.compress(data, 1), lambda path: idx.read(path, 3))


# --- tables


CSVS = [
    b"a,b,c\n1,2,x\n3,4.5,y\n-1e3,.5,x\n0,1,y\n",
    b'"a;b";c\r\n"1,5";yes\r\n2;"n""o"\r\n3,25;yes\r\n4;no\r\n',
    "höhe\tart\n1.0\tü\n\tö\n3\tü\nnan\tö\n".encode(),
    b"\xef\xbb\xbfa,b\n1,0\n2,1\n3,0\n4,1\n",
]


def csv(data: bytes) -> None:
    """A csv file, read by pyarrow and line by line: to the same values."""

    def load(path: Path) -> tuple[np.ndarray, ...]:
        found = nnxp.datasets.load(path, impute="mean", one_hot=True)
        return found.x, found.y, found.x_test, found.y_test

    with mock.patch("nnxp.datasets.csv_files.LARGE", 1):  # pyarrow reads large files only
        fast = _parse("data.csv", data, load)
    with mock.patch("nnxp.datasets.csv_arrow.available", return_value=False):
        slow = _parse("data.csv", data, load)
    if isinstance(fast, type) or isinstance(slow, type):
        assert fast is slow, f"by pyarrow {fast}, line by line {slow}"
        return
    assert isinstance(fast, tuple)
    assert isinstance(slow, tuple)
    for one, other in zip(fast, slow, strict=True):
        np.testing.assert_array_equal(one, other)


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _zip(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


X, Y = _npy(np.arange(6.0).reshape(3, 2)), _npy(np.array([0, 1, 0]))


def npz(data: bytes) -> None:
    """An npz archive."""
    _parse("data.npz", data, npz_files.read)


def npz_member(data: bytes) -> None:
    """An array in an npz archive with right checksums."""
    _parse("data.npz", _zip(x=data, y=Y), npz_files.read)
    _parse("w.npz", _zip(W1=data, b1=Y), read_weights)


# --- models


@cache
def _model() -> bytes:
    path = folder() / "seed.safetensors"
    network = nnxp.MLP([2, 3, 2], backend="numpy")
    network.metadata = {"classes": ["a", "b"], "mean": np.arange(2.0)}
    network.save(path)
    return path.read_bytes()


def _with_digest(content: bytes) -> bytes:
    """A model file whose checksum is right."""
    start = content.find(b"sha256")
    digest = content[start + 12 : start + 76]  # after `sha256\": \"`
    if start < 0 or len(digest) < 64:
        return content
    zeros = checkpoint._NO_DIGEST.encode()
    right = hashlib.sha256(content.replace(digest, zeros, 1)).hexdigest()
    return content.replace(digest, right.encode(), 1)


def model(data: bytes) -> None:
    """A model file, and one whose checksum is right."""
    for content in (data, _with_digest(data)):
        _parse("model.safetensors", content, nnxp.MLP.load)
        _parse("model.safetensors", content, checkpoint.describe)
        _parse("model.safetensors", content, read_weights)


def _description(content: bytes) -> bytes:
    """The description in a model file."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    text: str = header["__metadata__"]["nnxp"]
    return text.encode()


def _described(content: bytes, description: bytes) -> bytes:
    """A model file with another description, and a right checksum."""
    import safetensors.numpy

    text = description.decode("utf-8", "replace")
    return _with_digest(
        safetensors.numpy.save(safetensors.numpy.load(content), metadata={"nnxp": text})
    )


def model_description(data: bytes) -> None:
    """A model file with this description."""
    _parse("model.safetensors", _described(_model(), data), nnxp.MLP.load)


@cache
def _training() -> bytes:
    """A checkpoint of a short training."""
    network = nnxp.MLP([2, 3, 2], backend="numpy")
    runs = folder() / "training"
    nnxp.train(
        network, np.eye(2), [0, 1], epochs=2, batch_size=1, checkpoint=runs, diagnose=True,
        callbacks=[nnxp.EarlyStopping("loss")],
    )  # fmt: skip
    return max(runs.glob("checkpoint-*.safetensors")).read_bytes()


def training_description(data: bytes) -> None:
    """A checkpoint of a training with this description."""
    (folder() / "run").mkdir(exist_ok=True)
    _parse(
        "run/checkpoint-000000000004.safetensors",
        _described(_training(), data),
        lambda path: resuming.load(path.parent),
    )


# --- weights of other libraries


def _header() -> bytes:
    shapes = {"0.weight": [2, 3], "0.bias": [2], "1.weight": [2, 2], "1.bias": [2]}
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in shapes.items():
        end = at + 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, end]}
        at = end
    return json.dumps(header).encode()


def foreign_safetensors(data: bytes) -> None:
    """A safetensors file with this header, whose length is right."""
    content = len(data).to_bytes(8, "little") + data + np.arange(14, dtype=np.float32).tobytes()
    _parse("w.safetensors", content, read_weights)


def weights(data: bytes) -> None:
    """A file of weights, of any format."""
    _parse("w", data, read_weights)


# --- options


def option(data: bytes) -> None:
    """The text of an option."""
    text = data.decode("utf-8", "replace")
    for parse in (
        schedules.get,
        optimizers.get,
        metrics.get,
        lambda value: resuming.Checkpoints("run", value),
        lambda value: nnxp.MLP([1, 1, 1], value, value),
        lambda value: nnxp.MLP([1, 1], initializer=value),
        lambda value: nnxp.MLP([1, 1], dtype=value),
        lambda value: nnxp.datasets.load("moons", preprocess=value, n=10),
    ):
        _parse("unused", b"", lambda _, parse=parse: parse(text))


TARGETS: dict[str, tuple[Callable[[bytes], None], Callable[[], list[bytes]]]] = {
    "idx": (idx_plain, lambda: [IMAGES, LABELS]),
    "idx_gzip": (idx_gzip, lambda: [gzip.compress(IMAGES)]),
    "idx_gzipped": (idx_gzipped, lambda: [IMAGES]),
    "csv": (csv, lambda: CSVS),
    "npz": (npz, lambda: [_zip(x=X, y=Y), _zip(x=X, y=Y, x_test=X, y_test=Y)]),
    "npz_member": (npz_member, lambda: [X, Y]),
    "model": (model, lambda: [_model()]),
    "model_description": (model_description, lambda: [_description(_model())]),
    "training_description": (training_description, lambda: [_description(_training())]),
    "safetensors": (foreign_safetensors, lambda: [_header()]),
    "weights": (weights, lambda: [_zip(W1=X, b1=Y), b"\x89HDF\r\n\x1a\n" + bytes(90)]),
    "options": (
        option,
        lambda: [b"cosine,warmup=5", b"adam", b"30s", b"step,every=3", b"accuracy", b"leaky-relu"],
    ),
}
"""For each name, the function, and what makes its first inputs."""


def run(name: str, data: bytes) -> None:
    """Run a target, which must be done within `SECONDS`."""
    start = time.process_time()
    TARGETS[name][0](data)
    took = time.process_time() - start
    assert took < SECONDS, f"{name}: {len(data)} bytes take {took:.1f} s"

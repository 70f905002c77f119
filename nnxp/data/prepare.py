"""The entry point for data: from a caller's arguments to a trainer's feed and validation data."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnxp.arrays import Array, index_dtype, rows, to_numpy
from nnxp.data import batches, checks, placement
from nnxp.data.feeds import Feed, Resident, Streamed
from nnxp.data.pixels import Pixels, packed
from nnxp.data.placement import NetworkSpec, Placement
from nnxp.data.sources import OneHot, Source
from nnxp.errors import InputError
from nnxp.target_scaling import TargetScaling

log = logging.getLogger("nnxp")


@dataclass(frozen=True)
class Validation:
    """Checked data to evaluate a network on."""

    x: Array
    """(samples, features), on the device, a NumPy array on the host, or a source on disk."""
    targets: np.ndarray
    """Targets on the host, from `checks.targets`."""
    classes: bool
    """Whether the targets were given as classes, one per sample."""
    rows: np.ndarray | None = None
    """The rows of `x` that the targets belong to, if `x` is on the host; None for all."""
    numbers: np.ndarray | None = None
    """The number of each row in the caller's x, for error messages; None for 0, 1, 2, ..."""


@dataclass(frozen=True)
class Prepared:
    """The data of a training, checked and placed."""

    feed: Feed
    validation: Validation | None
    target_scaling: TargetScaling | None
    pixels: Pixels | None = None
    """The training images, if the feed has their pixels as uint8."""


def prepare(
    network: NetworkSpec,
    loss: str,
    x: Any,
    targets: Any,
    *,
    batch_size: int | None,
    seed: int,
    validation: tuple[Any, Any] | float | None = None,
    sample_weight: Any = None,
    stream: bool | None = None,
    by_blocks: bool = False,
    assume_finite: bool = False,
    as_pixels: bool = False,
    choose_scaling: Callable[[np.ndarray, str], TargetScaling | None],
) -> Prepared:
    """Check the data of a training and place it on the device or the host.

    Args:
        network: the network that the data must fit.
        loss: the loss's name.
        by_blocks: whether data on disk is read by blocks, although rows at random may be cheap.
        as_pixels: whether the steps take uint8 pixels, where images have such values; see
            `nnxp.data.pixels`.
        choose_scaling: choose_scaling(targets, dtype) returns the scaling of the targets to train
            on, or None for no scaling. See `nnxp.target_scaling.choose`.
        x, targets, batch_size, seed, validation, sample_weight, stream, assume_finite: see
            `nnxp.train`.

    Raises:
        InputError: a shape, label or number is not valid.
    """
    features, *_, outputs = network.sizes
    share, pair = (validation, None) if isinstance(validation, float) else (0.0, validation)
    x = checks.matrix(x, features)
    x_val = None if pair is None else checks.matrix(pair[0], features)
    arrays = [x] if x_val is None else [x, x_val]
    where = placement.decide_training(network, arrays, share, batch_size, stream)

    on_host = where.keeps_on_host(x)
    pixels = _pixels(x) if as_pixels else None
    if pixels is not None and not on_host:
        x = network.backend.asarray(pixels.values)
    else:
        x = where.place(x, assume_finite)
    if by_blocks and isinstance(x, Source):
        x = x.in_blocks()
    elif by_blocks:
        log.info("rows are shuffled exactly, not by blocks: the data is in memory")
    t = checks.targets(targets, loss, x.shape[0], outputs)
    weight = None if sample_weight is None else checks.sample_weight(sample_weight, x.shape[0])

    train_rows: np.ndarray | None = None
    held_out: Validation | None = None
    if pair is not None:
        x_val = where.place(x_val)
        t_val = checks.targets(pair[1], loss, x_val.shape[0], outputs)
        held_out = Validation(x_val, t_val, checks.are_classes(pair[1], outputs))
    elif share and (split := _split(t, share, seed)):
        train_rows, val_rows = split
        classes = checks.are_classes(targets, outputs)
        # On the device the rows are gathered once; on the host by blocks in every epoch.
        held_out = (
            Validation(x, t[val_rows], classes, val_rows, val_rows)
            if on_host
            else Validation(
                _gathered(network, x, val_rows, pixels), t[val_rows], classes, numbers=val_rows
            )
        )

    scaling = choose_scaling(t if train_rows is None else t[train_rows], network.dtype)
    if scaling is not None:
        t = scaling.apply(t)
        log.info("targets are scaled for training: %s", scaling.describe())
    targets_and_weights = [_encoded(network, t, isinstance(x, Source))]
    if weight is not None:
        targets_and_weights.append(checks.unit_mean(weight, train_rows))
    if pixels is not None and on_host:
        x = pixels.values
    dtype = network.dtype if pixels is None else "uint8"
    feed = _feed(where, on_host, x, dtype, targets_and_weights, batch_size, train_rows)
    log.info("%s%s", where.describe(), _describe_feed(feed, where))
    return Prepared(feed, held_out, scaling, pixels)


def prepare_evaluation(network: NetworkSpec, loss: str, x: Any, targets: Any) -> Validation:
    """Check data to evaluate a network on and place it on the device or the host.

    Args:
        network: the network that the data must fit.
        loss: the loss's name.
        x, targets: see `nnxp.MLP.evaluate`.

    Raises:
        InputError: a shape, label or number is not valid.
    """
    outputs = network.sizes[-1]
    x = placement.place(network, x)
    t = checks.targets(targets, loss, x.shape[0], outputs)
    return Validation(x, t, checks.are_classes(targets, outputs))


def device_targets(network: NetworkSpec, t: np.ndarray) -> Array:
    """Move checked targets to the device, in the form that steps take."""
    return network.targets(np.asarray(_encoded(network, t)))


def _encoded(network: NetworkSpec, t: np.ndarray, on_disk: bool = False) -> np.ndarray | OneHot:
    """Encode classes as one-hot rows if these take at most a quarter of x's memory.

    Then a step gathers its rows instead of encoding them. If a compiler fuses the encoding with
    the gradient, classes are faster. Beside data on disk, rows are encoded as they are read.
    """
    features, *_, outputs = network.sizes
    if t.ndim == 1 and 4 * outputs <= features and not network.backend.execution.fuses:
        return OneHot(t, outputs) if on_disk else np.eye(outputs, dtype=np.float32)[t]
    return t


def _split(t: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the rows to train on and the rows to hold out, stratified by class.

    Return None if the share is less than a row.
    """
    samples = len(t)
    if round(share * samples) == samples:
        raise InputError(f"validation of {share:g} leaves none of {samples} rows to train on")
    train_rows, val_rows = batches.split(batches.strata(t), share, seed)
    if len(val_rows) < (wanted := round(share * samples)):
        log.info(
            "validation: %d rows, not %d: each class keeps a row to train on", len(val_rows), wanted
        )
    elif not wanted:
        log.info("validation: none, because %g of %d rows is less than one row", share, samples)
    return (train_rows, val_rows) if len(val_rows) else None


def _pixels(x: Array) -> Pixels | None:
    """Return x as uint8 pixels if it has such values; log why it has not."""
    found = None if isinstance(x, Source) else packed(x)
    if found is not None:
        log.info("images: kept as uint8 pixels")
    elif isinstance(x, Source):
        log.info("images: read from disk as numbers, not as uint8 pixels")
    else:
        log.info("images: kept as numbers: they are no whole pixels from 0 to 255, or these / 255")
    return found


def _gathered(
    network: NetworkSpec, x: Array, indices: np.ndarray, pixels: Pixels | None = None
) -> Array:
    backend = network.backend
    with backend.active():
        found = rows((x,), backend.asarray(indices, dtype=index_dtype(backend.xp)))[0]
        return found if pixels is None else pixels.numbers(found, backend.dtype(network.dtype))


def _feed(
    where: Placement,
    on_host: bool,
    x: Array,
    dtype: str,
    targets_and_weights: list[np.ndarray | OneHot],
    batch_size: int | None,
    train_rows: np.ndarray | None,
) -> Feed:
    """Make a feed of x, whose rows steps get in `dtype`, the targets and the weights."""
    network = where.network
    steps = network.chunk_steps(min(batch_size or x.shape[0], x.shape[0]))
    if on_host:
        # One row on the device shows the dtype that its library uses.
        dtypes = [to_numpy(network.targets(array[:1])).dtype for array in targets_and_weights]
        dtypes.insert(0, np.dtype(dtype))
        return Streamed(
            network.backend,
            (x, *targets_and_weights),
            batch_size,
            train_rows,
            dtypes,
            where.available_bytes,
            steps,
        )
    if isinstance(x, np.ndarray):
        x = np.ascontiguousarray(x)  # a gather from another layout copies the whole array
    data = (x, *(network.targets(np.asarray(each)) for each in targets_and_weights))
    return Resident(network.backend, data, batch_size, train_rows, steps)


def _describe_feed(feed: Feed, where: Placement) -> str:
    """Describe how the data reaches the steps, for the end of a log line."""
    if isinstance(feed, Streamed):
        size = placement.bytes_text(feed.steps * feed.batch_bytes)
        chunks = f"in chunks of {feed.steps} steps ({size})"
        x = feed.data[0]
        if isinstance(x, Source):
            return f": read from {x.name} {chunks}, {x.describe()}"
        return f": streamed {chunks}"
    if where.network.backend.device_name == "cpu":
        return " on the host"
    return ": there already" if where.bytes_on_device else ": moved once"

"""From what a caller gives to what the trainer takes: the one way in for data."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnxp.arrays import Array, index_dtype, rows, to_numpy
from nnxp.data import batches, checks, placement
from nnxp.data.feeds import Feed, Resident, Streamed
from nnxp.data.placement import NetworkSpec, Placement
from nnxp.errors import InputError
from nnxp.target_scaling import TargetScaling

log = logging.getLogger("nnxp")


@dataclass(frozen=True)
class Validation:
    """Checked data to evaluate a network on."""

    x: Array
    """(samples, features), on the device, or a NumPy array on the host."""
    targets: np.ndarray
    """On the host, as the loss takes them; see `checks.targets`."""
    classes: bool
    """Whether the targets were given as classes, one per sample."""
    rows: np.ndarray | None = None
    """The rows of `x`, then on the host, that the targets belong to; None for all."""


@dataclass(frozen=True)
class Prepared:
    """The data of a training, where it is to live."""

    feed: Feed
    validation: Validation | None
    target_scaling: TargetScaling | None


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
    choose_scaling: Callable[[np.ndarray, str], TargetScaling | None],
) -> Prepared:
    """Check the data of a training, and put it where it is to live.

    Args:
        network: what the data must fit.
        loss: the loss's name.
        choose_scaling: how to scale the targets that are trained on, for a network of this dtype;
            None for not at all. See `nnxp.target_scaling.choose`.
        x, targets, batch_size, seed, validation, sample_weight, stream: see `nnxp.train`.

    Raises:
        InputError: a shape, label or number is not valid.
    """
    features, *_, outputs = network.sizes
    share, pair = (validation, None) if isinstance(validation, float) else (0.0, validation)
    x = checks.matrix(x, features)
    x_held = None if pair is None else checks.matrix(pair[0], features)
    given = [x] if x_held is None else [x, x_held]
    where = placement.decide_training(network, given, share, batch_size, stream)

    on_host = where.keeps_on_host(x)
    x = where.place(x)
    t = checks.targets(targets, loss, x.shape[0], outputs)
    weight = None if sample_weight is None else checks.sample_weight(sample_weight, x.shape[0])

    kept: np.ndarray | None = None
    held_out: Validation | None = None
    if pair is not None:
        x_held = where.place(x_held)
        t_held = checks.targets(pair[1], loss, x_held.shape[0], outputs)
        held_out = Validation(x_held, t_held, checks.are_classes(pair[1], outputs))
    elif share and (split := _split(t, share, seed)):
        kept, held = split
        classes = checks.are_classes(targets, outputs)
        # On the device they are gathered once, on the host for every epoch's blocks.
        held_out = (
            Validation(x, t[held], classes, held)
            if on_host
            else Validation(_gathered(network, x, held), t[held], classes)
        )

    scaling = choose_scaling(t if kept is None else t[kept], network.dtype)
    if scaling is not None:
        t = scaling.apply(t)
        log.info("targets are scaled for training: %s", scaling.describe())
    beside = [_encoded(t, features, outputs)]
    if weight is not None:
        beside.append(checks.unit_mean(weight, kept))
    feed = _feed(where, on_host, x, beside, batch_size, kept)
    log.info("%s%s", where.describe(), _way(feed, where))
    return Prepared(feed, held_out, scaling)


def prepare_evaluation(network: NetworkSpec, loss: str, x: Any, targets: Any) -> Validation:
    """Check data to evaluate a network on, and put it where it is to live.

    Args:
        network: what the data must fit.
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
    """Checked targets on the device, as steps take them."""
    return network.targets(_encoded(t, network.sizes[0], network.sizes[-1]))


def _encoded(t: np.ndarray, features: int, outputs: int) -> np.ndarray:
    """Classes as one-hot rows where these take a quarter of x's memory at most.

    Then a step gathers its rows instead of making them.
    """
    if t.ndim == 1 and 4 * outputs <= features:
        return np.eye(outputs, dtype=np.float32)[t]
    return t


def _split(t: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The rows to train on and those to hold out, in proportion from every class.

    None where the share is less than a row.
    """
    samples = len(t)
    if round(share * samples) == samples:
        raise InputError(f"validation of {share:g} leaves none of {samples} rows to train on")
    kept, held = batches.split(batches.strata(t), share, seed)
    if len(held) < (asked := round(share * samples)):
        log.info(
            "validation: %d rows, not %d: each class keeps a row to train on", len(held), asked
        )
    elif not asked:
        log.info("validation: none, for a share of %g of %d rows is less than one", share, samples)
    return (kept, held) if len(held) else None


def _gathered(network: NetworkSpec, x: Array, indices: np.ndarray) -> Array:
    backend = network.backend
    with backend.active():
        return rows((x,), backend.asarray(indices, dtype=index_dtype(backend.xp)))[0]


def _feed(
    where: Placement,
    on_host: bool,
    x: Array,
    beside: list[np.ndarray],
    batch_size: int | None,
    kept: np.ndarray | None,
) -> Feed:
    """A feed of x and of the targets and weights beside it."""
    network = where.network
    if on_host:
        # A row on the device says in which dtype it holds the others.
        dtypes = [to_numpy(network.targets(array[:1])).dtype for array in beside]
        dtypes.insert(0, np.dtype(network.dtype))
        return Streamed(
            network.backend, (x, *beside), batch_size, kept, dtypes, where.available_bytes
        )
    if isinstance(x, np.ndarray):
        x = np.ascontiguousarray(x)  # every gather from another layout would copy all of it
    return Resident(network.backend, (x, *map(network.targets, beside)), batch_size, kept)


def _way(feed: Feed, where: Placement) -> str:
    """How the data reaches the steps, to end a line of the log."""
    if isinstance(feed, Streamed):
        size = placement.bytes_text(feed.steps * feed.batch_bytes)
        return f": streamed in chunks of {feed.steps} steps ({size})"
    if where.network.backend.device_name == "cpu":
        return " on the host"
    return ": there already" if where.bytes_on_device else ": moved once"

"""Augmentation: new random deformations of the training images in every step, on the device."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from nnxp import options
from nnxp.arrays import Array, device, namespace
from nnxp.data.pixels import Pixels
from nnxp.errors import InputError, shown, unknown_name
from nnxp.kernels import bilinear, inverse_affine, random_uniform
from nnxp.kernels.deformation import AFFINE_NUMBERS

log = logging.getLogger("nnxp")

STREAM = 0
"""The stream of random numbers that deforms; those of dropout are 1, 2, ..."""
KEPT_VARIANCE = 0.999
"""The part of an elastic field's variance that its largest modes keep."""


@dataclass(frozen=True)
class Elastic:
    """Elastic distortion: displacements alpha (n * g), of noise n and a Gaussian g.

    Each pixel is displaced by random numbers from [-1, 1] that are smoothed by a Gaussian, zero
    beyond the edge, and multiplied by alpha; rows and columns independently. Instead of a number
    for each pixel, `fields` draws one for each of the field's largest modes: its variances and
    covariances are equal within a thousandth, and some 30 numbers take the place of 784.

    Args:
        alpha: the scale of displacements, in pixels, above 0.
        sigma: the deviation of the Gaussian, in pixels, 0.5 or more.

    Raises:
        InputError: a value is out of its range.

    Source: Simard, Steinkraus and Platt, Best practices for convolutional neural networks, 2003.

    Example:
        >>> import nnxp
        >>> nnxp.Elastic(alpha=36, sigma=4.5).fields((28, 28)).shape[1]
        784
    """

    alpha: float = 36.0
    sigma: float = 4.5

    def __post_init__(self) -> None:
        options.check_fields(self, alpha=options.POSITIVE, sigma=options.number(0.5))

    def fields(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return the modes of a displacement, (modes, height width), float64.

        A displacement in pixels is their sum, each multiplied by a number from [-1, 1].
        """
        (down, rows), (across, columns) = (_modes(size, self.sigma) for size in shape[:2])
        sizes = np.multiply.outer(down, across).reshape(-1)
        order = np.argsort(-sizes, kind="stable")
        variance = np.cumsum(sizes[order] ** 2)
        count = int(np.searchsorted(variance, KEPT_VARIANCE * variance[-1])) + 1
        # What is left out is given to the others, so that displacements are not smaller.
        alpha = self.alpha * math.sqrt(variance[-1] / variance[count - 1])
        found = [
            alpha * sizes[k] * np.multiply.outer(rows[k // len(across)], columns[k % len(across)])
            for k in order[:count]
        ]
        return np.reshape(found, (count, -1))


def _modes(size: int, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the eigenvalues, all >= 0, and eigenvectors, (modes, size), of Gaussian smoothing."""
    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    reach = int(4 * sigma + 0.5)  # the Gaussian ends there, as in scipy.ndimage
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    smoothing = np.exp(-0.5 * (distance / sigma) ** 2) * (distance <= reach) / weights.sum()
    values, vectors = np.linalg.eigh(smoothing)
    vectors = vectors * np.where(vectors[:1] < 0, -1.0, 1.0)  # LAPACKs differ in the sign
    return np.abs(values), vectors.T


@dataclass(frozen=True)
class Deformation:
    """Random deformations of images: each image of each step gets another one.

    An image is scaled, flipped, sheared, rotated and shifted about its centre, its pixels are
    displaced by `elastic`, and the result is read between the pixels of the image, bilinearly;
    beyond the edge, the nearest pixel on it. All numbers are drawn evenly. A step, its seed and an
    image's place in the batch have the same numbers on every backend.

    Args:
        rotate: the largest angle, to both sides, in degrees, below 180.
        scale: s, where height and width are scaled by factors from [1 - s, 1 + s]; s < 1.
        shear: the largest slant, to both sides, in degrees, below 90.
        shift: the largest shift, up, down, left and right, in pixels.
        flip: whether every other image, at random, is mirrored, left and right.
        elastic: elastic distortion, or None.
        shape: (height, width) or (height, width, channels) of an image, which is flattened; None
            for a square of one channel.

    Raises:
        InputError: a value is out of its range, or nothing is deformed; in training, the shape does
            not fit.

    Source: Simard et al., 2003; Ciresan et al., Deep big simple neural nets excel on handwritten
    digit recognition, 2010.

    Example:
        >>> import nnxp
        >>> data = nnxp.datasets.load("digits")
        >>> history = nnxp.train(
        ...     nnxp.MLP([64, 32, 10]), data.x, data.y, epochs=1, batch_size=32,
        ...     augment=nnxp.Deformation(rotate=10, scale=0.1, shift=0.5),
        ... )
    """

    rotate: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    flip: bool = False
    elastic: Elastic | None = None
    shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        options.check_fields(
            self,
            rotate=options.number(0.0, 180.0),
            scale=options.number(0.0, 1.0),
            shear=options.number(0.0, 90.0),
            shift=options.NOT_NEGATIVE,
            flip=options.TRUTH,
            elastic=options.optional(options.instance(Elastic, "an nnxp.Elastic(alpha, sigma)")),
            shape=options.optional(options.several(options.whole(1), 2)),
        )
        if not (self.rotate or self.scale or self.shear or self.shift or self.flip or self.elastic):
            raise InputError(f"Deformation deforms nothing: give one of {', '.join(_KEYS)}")
        if self.shape and (len(self.shape) > 3 or min(self.shape[:2]) < 2):
            raise InputError(
                f"Deformation: shape must be (height, width) or (height, width, channels), 2 "
                f"pixels or more each way, not {self.shape}"
            )

    def describe(self) -> str:
        """Describe the deformation in one phrase."""
        each = {
            "rotated by up to {:g} degrees": self.rotate,
            "scaled by up to {:.3g} %": 100 * self.scale,
            "sheared by up to {:g} degrees": self.shear,
            "shifted by up to {:g} pixels": self.shift,
            "flipped": self.flip,
        }
        told = [text.format(value) for text, value in each.items() if value]
        if self.elastic:
            told.append(f"elastic (alpha {self.elastic.alpha:g}, sigma {self.elastic.sigma:g})")
        return ", ".join(told)

    def apply(self, x: Array, seed: int = 0, step: int = 0) -> Array:
        """Return the images as a step of training has them: for pictures and tests.

        Args:
            x: (batch, features), real floating, an array of any library.
            seed: the training's.
            step: the number of the step, from 0.

        Example:
            >>> import nnxp
            >>> data = nnxp.datasets.load("digits")
            >>> nnxp.Deformation(rotate=20).apply(data.x[:5]).shape
            (5, 64)
        """
        xp = namespace(x)
        augmenter = Augmenter(self.of_images(x.shape[1]), seed)
        fields = xp.asarray(augmenter.fields(), dtype=x.dtype, device=device(x))
        return augmenter(x, fields, xp.asarray(step, dtype=xp.int32, device=device(x)))

    def of_images(self, features: int) -> Deformation:
        """Return the deformation with the shape of images of so many features.

        Raises:
            InputError: no shape is given and the features are no square, or the shape has another
                number of them.
        """
        shape = self.shape
        if shape is None:
            side = math.isqrt(features)
            if side < 2 or side * side != features:
                raise InputError(
                    f"augment: {features} features are no square image: give its shape, "
                    "Deformation(shape=(height, width)) or shape=HEIGHTxWIDTH"
                )
            shape = (side, side)
            log.info("augment: %d features are taken as images of %d x %d", features, side, side)
        if math.prod(shape) != features:
            raise InputError(f"augment: images of {shape} have {math.prod(shape)} features, and x "
                             f"has {features}")  # fmt: skip
        return replace(self, shape=shape)


_KEYS = ("rotate", "scale", "shear", "shift", "flip", "elastic")


def _deformation(value: Any) -> Deformation:
    if isinstance(value, Deformation):
        return value
    return get([value] if isinstance(value, str) else value)


AUGMENT = options.Rule(
    'an nnxp.Deformation(rotate=12), a text, "elastic,alpha=36,sigma=4.5" or "rotate=12,flip", or '
    "a list of texts",
    _deformation,
)


def get(texts: Iterable[str]) -> Deformation:
    """Return the deformation of texts: "elastic,alpha=36,sigma=4.5", "rotate=12,scale=0.1", "flip".

    A text has parts with a comma between them. `elastic` and `flip` are words of their own; `alpha`
    and `sigma` belong to `elastic`; `shape=28x28` is the shape of an image.

    Raises:
        InputError: a part is not known, is given twice, or has a wrong value.

    Example:
        >>> from nnxp import augmentation
        >>> augmentation.get(["rotate=12,flip"])
        Deformation(rotate=12.0, scale=0.0, shear=0.0, shift=0.0, flip=True, elastic=None, shape=None)
    """  # noqa: E501
    given: dict[str, Any] = {}
    for text in texts:
        for part in options.TEXT("augment", text).split(","):
            key, equals, value = (each.strip() for each in part.partition("="))
            known = [*_KEYS, "alpha", "sigma", "shape"]
            if key not in known:
                raise unknown_name("augment", key or part, known)
            if key in given:
                raise InputError(f"augment: {key} is given twice")
            if bool(equals) == (key in ("flip", "elastic")):
                hint = f"{key} alone" if equals else f"{key}=NUMBER"
                raise InputError(f"augment: {shown(part)}: give {hint}")
            given[key] = _value(key, value)
    elastic = {key: given.pop(key) for key in ("alpha", "sigma") if key in given}
    if given.pop("elastic", False):
        given["elastic"] = Elastic(**elastic)
    elif elastic:
        raise InputError(f"augment: {next(iter(elastic))} is of elastic: give elastic,alpha=36")
    return Deformation(**given)


def _value(key: str, text: str) -> Any:
    if not text:
        return True
    if key == "shape":
        return tuple(options.from_text(part) for part in text.lower().split("x"))
    return options.from_text(text)


@dataclass(frozen=True)
class Augmenter:
    """What a step does with the pixels of its batch: deform them, and scale them.

    Args:
        deformation: with the shape of the images.
        seed: the seed of its random numbers.
        largest: the value by which pixels are divided, if they are kept as uint8.
    """

    deformation: Deformation
    seed: int
    largest: float | None = None

    def fields(self) -> np.ndarray:
        """Return the fields of which places are made, (3 + modes, height width), float64.

        They are 1, the row and the column from the centre, and the modes of elastic displacement.
        """
        return _fields(self.deformation)

    def __call__(self, x: Array, fields: Array, step: Array, first_row: int = 0) -> Array:
        """Deform a batch.

        Args:
            x: (batch, features): numbers, or uint8 pixels.
            fields: `fields`, on the device, in the dtype of the result.
            step: which step of training this is, a 0-d int32 array.
            first_row: the place of the first image in the batch of all processes.
        """
        xp, given = namespace(fields), self.deformation
        assert given.shape is not None
        modes = fields.shape[0] - 3
        numbers = random_uniform(
            (x.shape[0], AFFINE_NUMBERS + 2 * modes), fields.dtype, self.seed, step, STREAM,
            first_row,
        )  # fmt: skip
        rows, columns = inverse_affine(
            numbers[:, :AFFINE_NUMBERS], given.shape, math.radians(given.rotate), given.scale,
            math.radians(given.shear), given.shift, given.flip,
        )  # fmt: skip
        if modes:
            middle = AFFINE_NUMBERS + modes
            rows = xp.concat([rows, numbers[:, AFFINE_NUMBERS:middle]], axis=1)
            columns = xp.concat([columns, numbers[:, middle:]], axis=1)
        deformed = bilinear(x, rows @ fields, columns @ fields, given.shape)
        return deformed if self.largest is None else deformed / self.largest


def augmenter(
    deformation: Deformation | None, seed: int, pixels: Pixels | None
) -> Augmenter | None:
    """Return what deforms the images of a training; None if nothing does.

    Args:
        deformation: with the shape of the images.
        seed: the training's.
        pixels: the images, if they are kept as uint8.
    """
    if deformation is None:
        return None
    return Augmenter(deformation, seed, None if pixels is None else pixels.largest)


@lru_cache(maxsize=32)
def _fields(deformation: Deformation) -> np.ndarray:
    assert deformation.shape is not None
    height, width = deformation.shape[:2]
    row, column = np.mgrid[:height, :width].reshape(2, -1)
    fields = np.stack([np.ones(len(row)), row - (height - 1) / 2, column - (width - 1) / 2])
    if deformation.elastic is None:
        return fields
    return np.concatenate([fields, deformation.elastic.fields(deformation.shape)])

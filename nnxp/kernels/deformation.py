"""Deformation of images: where each pixel of the result is read, and bilinear reading there.

A deformation says for each pixel of the result a place (row, column) in the image, between pixels
in general. Places are linear in a few numbers of each image: those of an affine map, and the
amplitudes of smooth displacement fields. So a product of matrices gives all places of a batch:

    rows = coefficients @ fields,  (batch, k) @ (k, height width)

Coordinates are in pixels; row 0 is the uppermost, column 0 the leftmost. An affine map is about the
centre of the image, ((height - 1) / 2, (width - 1) / 2).

Example:
    >>> import numpy as np
    >>> from nnxp.kernels import bilinear
    >>> image = np.array([[0.0, 1.0, 4.0, 9.0]])  # of 2 x 2 pixels
    >>> rows, columns = np.array([[0.0, 0.5, 1.0, 9.0]]), np.array([[0.25, 0.5, 0.0, -1.0]])
    >>> bilinear(image, rows, columns, (2, 2))
    array([[0.25, 3.5 , 4.  , 4.  ]])
"""

from __future__ import annotations

from typing import Any

from nnxp.arrays import Array, device, index_dtype, namespace

AFFINE_NUMBERS = 7
"""The random numbers of each image that `inverse_affine` takes."""


def inverse_affine(
    numbers: Array,
    shape: tuple[int, ...],
    rotate: float = 0.0,
    scale: float = 0.0,
    shear: float = 0.0,
    shift: float = 0.0,
    flip: bool = False,
) -> tuple[Array, Array]:
    """The place in the image of each place in the result, as coefficients of (1, row, column).

    An image is scaled and flipped, then sheared, rotated and shifted, each about its centre:

        result = R(angle) [[1, 0], [tan(slant), 1]] [[scale_row, 0], [0, +-scale_column]] image
                 + shift

    and the returned map is the inverse of this one.

    Args:
        numbers: (batch, 7), in [-1, 1): of each image the angle, the scale of rows and of columns,
            the slant, the shift of rows and of columns, and the side.
        shape: (height, width, ...) of an image.
        rotate: the largest angle, in radians.
        scale: s, where rows and columns are scaled by factors from [1 - s, 1 + s], s < 1.
        shear: the largest slant of columns, in radians, less than pi / 2.
        shift: the largest shift, in pixels.
        flip: whether an image is mirrored, left and right, where its last number is negative.

    Returns:
        Two arrays, (batch, 3), of a, b and c: for a place of the result that is r rows below the
        centre and s columns right of it, the row in the image is a + b r + c s, and so is the
        column.
    """
    xp = namespace(numbers)
    angle, rows, columns, slant, down, right, side = (
        numbers[:, k : k + 1] for k in range(AFFINE_NUMBERS)
    )
    cos, sin, tan = xp.cos(angle * rotate), xp.sin(angle * rotate), xp.tan(slant * shear)
    row_scale = 1.0 / (rows * scale + 1.0)
    column_scale = 1.0 / (columns * scale + 1.0)
    if flip:
        column_scale = column_scale * (1.0 - 2.0 * xp.astype(side < 0.0, numbers.dtype))
    maps = []
    for size, of_row, of_column in (
        (shape[0], cos * row_scale, sin * row_scale),
        (shape[1], (cos * -tan - sin) * column_scale, (cos - sin * tan) * column_scale),
    ):
        start = (of_row * down + of_column * right) * -shift + (size - 1) / 2
        maps.append(xp.concat([start, of_row, of_column], axis=1))
    return maps[0], maps[1]


def bilinear(x: Array, rows: Array, columns: Array, shape: tuple[int, ...]) -> Array:
    """Read images between their pixels.

    At (r + a, c + b), where r and c are whole and a and b in [0, 1], it reads

        (1 - a) ((1 - b) x[r, c] + b x[r, c + 1]) + a ((1 - b) x[r + 1, c] + b x[r + 1, c + 1])

    Beyond the edge, it is the nearest place on it that is read.

    Args:
        x: (batch, features), of any real dtype: `shape` flattened.
        rows, columns: the places to read, (batch, height width), of the result's dtype.
        shape: (height, width) or (height, width, channels), 2 pixels or more each way.

    Returns:
        (batch, features).
    """
    xp = namespace(rows)
    height, width, channels = (*shape, 1)[:3]
    a, row = _split(rows, height)
    b, column = _split(columns, width)
    # By way of int32, which has room for a batch of 2^31 pixels: NumPy is faster so.
    index = xp.astype(row * float(width) + column, xp.int32)
    # All images are one list of pixels: the k-th begins after k height width of them.
    starts = xp.arange(x.shape[0], dtype=index.dtype, device=device(x)) * (height * width)
    index += xp.expand_dims(starts, axis=1)
    index = xp.reshape(xp.astype(index, index_dtype(xp), copy=False), (-1,))
    a, b = xp.reshape(a, (-1, 1)), xp.reshape(b, (-1, 1))
    pixels = xp.reshape(xp.astype(x, rows.dtype, copy=False), (-1, channels))

    def between(first: int) -> Array:
        """Read between a pixel and its right neighbour; `first` is added to each index."""
        left = xp.take(pixels[first:, ...], index, axis=0)
        right = xp.take(pixels[first + 1 :, ...], index, axis=0)
        right -= left
        right *= b
        right += left
        return right

    upper, lower = between(0), between(width)
    lower -= upper
    lower *= a
    lower += upper
    return xp.reshape(lower, x.shape)


def _split(places: Array, size: int) -> tuple[Array, Array]:
    """Split places on an axis of `size` pixels into the part behind a pixel, and that pixel.

    The pixel, a float, has a next one: the last place is 1 behind the last pixel but one.
    """
    xp = namespace(places)
    places = xp.clip(places, 0.0, size - 1.0)
    pixel: Any = xp.clip(xp.floor(places), max=size - 2.0)
    places -= pixel
    return places, pixel

"""The kernels that deform images, against scipy.ndimage, which nobody here wrote."""

import math

import numpy as np
import pytest
from conftest import require

from nnxp import kernels
from nnxp.arrays import device, namespace, to_numpy
from nnxp.kernels import bilinear, inverse_affine, random_bits, random_uniform

ndimage = pytest.importorskip("scipy.ndimage")
RNG = np.random.default_rng(0)
SHAPES = [(7, 5), (2, 9), (6, 6, 3)]


def images(shape, count=4, dtype="float64"):
    return RNG.random((count, math.prod(shape))).astype(dtype)


def places(shape, count=4, beyond=3.0):
    """Random places in images and up to `beyond` pixels outside, and some that are whole."""
    height, width = shape[:2]
    found = []
    for size in (height, width):
        each = RNG.uniform(-beyond, size - 1 + beyond, (count, height * width))
        each[:, ::3] = np.rint(each[:, ::3])
        each[:, 1] = size - 1
        found.append(each)
    return found


def by_scipy(x, rows, columns, shape):
    height, width, channels = (*shape, 1)[:3]
    found = np.empty(x.shape)
    for k, image in enumerate(x.astype(np.float64).reshape(-1, height, width, channels)):
        for c in range(channels):
            values = ndimage.map_coordinates(
                image[..., c], [rows[k], columns[k]], order=1, mode="nearest"
            )
            found[k].reshape(-1, channels)[:, c] = values
    return found


@pytest.mark.promise("any library")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_reading_between_pixels_is_scipys(library, shape, dtype):
    x, (rows, columns) = images(shape, dtype=dtype), places(shape)
    rows, columns = rows.astype(dtype), columns.astype(dtype)
    with library.backend.active():
        given = [library.asarray(each) for each in (x, rows, columns)]
        found = bilinear(*given, shape)
    assert namespace(found) is library.xp
    assert device(found) == device(given[0])
    assert found.dtype == getattr(library.xp, dtype)
    tolerance = 2e-6 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(
        to_numpy(found), by_scipy(x, rows, columns, shape), atol=tolerance, rtol=tolerance
    )
    for array, before in zip(given, (x, rows, columns), strict=True):
        np.testing.assert_array_equal(to_numpy(array), before, err_msg="an argument changed")


def test_pixels_of_one_byte_are_read_as_numbers(library):
    shape = (7, 5)
    x = RNG.integers(0, 256, (4, 35)).astype(np.uint8)
    rows, columns = (each.astype(np.float32) for each in places(shape))
    with library.backend.active():
        found = bilinear(*map(library.asarray, (x, rows, columns)), shape)
    assert found.dtype == library.xp.float32
    np.testing.assert_allclose(to_numpy(found), by_scipy(x, rows, columns, shape), atol=3e-4)


def test_an_image_that_is_read_where_its_pixels_are_is_the_same(library):
    """To the bit; in the last row and column, whose pixels are read behind others, to an ulp."""
    shape = (7, 5)
    row, column = (np.tile(each.ravel(), (4, 1)) for each in np.mgrid[:7.0, :5.0])
    x = images(shape)
    with library.backend.active():
        found = to_numpy(bilinear(*map(library.asarray, (x, row, column)), shape))
    inner = (slice(None), slice(-1), slice(-1))
    np.testing.assert_array_equal(found.reshape(4, *shape)[inner], x.reshape(4, *shape)[inner])
    np.testing.assert_allclose(found, x, rtol=0, atol=2**-52)


def forward(numbers, rotate, scale, shear, shift, flip):
    """The map from an image to its deformation, in (row, column) from the centre: R H S x + t."""
    angle, rows, columns, slant, down, right, side = numbers
    c, s = math.cos(angle * rotate), math.sin(angle * rotate)
    turn = np.array([[c, -s], [s, c]])  # counterclockwise, where rows count downwards
    lean = np.array([[1, 0], [math.tan(slant * shear), 1]])
    mirror = -1 if flip and side < 0 else 1
    size = np.diag([1 + rows * scale, mirror * (1 + columns * scale)])
    return turn @ lean @ size, shift * np.array([down, right])


OPTIONS = {
    "rotated": {"rotate": 0.3},
    "scaled": {"scale": 0.4},
    "sheared": {"shear": 0.5},
    "shifted": {"shift": 2.5},
    "flipped": {"flip": True},
    "all": {"rotate": 0.3, "scale": 0.2, "shear": 0.3, "shift": 1.5, "flip": True},
    "none": {},
}


@pytest.mark.promise("any library")
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_affine_maps_are_scipys(library, options):
    shape = height, width = 9, 12
    x, numbers = images(shape, 6), RNG.uniform(-1, 1, (6, kernels.deformation.AFFINE_NUMBERS))
    row, column = np.mgrid[:height, :width].reshape(2, -1)
    fields = np.stack([np.ones(len(row)), row - (height - 1) / 2, column - (width - 1) / 2])
    with library.backend.active():
        maps = inverse_affine(library.asarray(numbers), shape, **options)
        rows, columns = (each @ library.asarray(fields) for each in maps)
        found = to_numpy(bilinear(library.asarray(x), rows, columns, shape))
    chosen = {"rotate": 0, "scale": 0, "shear": 0, "shift": 0, "flip": False} | options
    centre = np.array([(height - 1) / 2, (width - 1) / 2])
    for image, result, each in zip(x, found, numbers, strict=True):
        matrix, moved = forward(each, **chosen)
        inverse = np.linalg.inv(matrix)
        expected = ndimage.affine_transform(
            image.reshape(shape), inverse, centre - inverse @ (centre + moved), order=1,
            mode="nearest",
        )  # fmt: skip
        np.testing.assert_allclose(result.reshape(shape), expected, atol=1e-12)


def test_the_sides_of_each_deformation_are_those_of_scipy_and_numpy():
    """By functions that say what they do: rotate, shift, flip."""
    shape = 9, 9
    image = images(shape, 1)
    row, column = np.mgrid[:9, :9].reshape(2, -1) - 4.0
    fields = np.stack([np.ones(81), row, column])

    def deformed(numbers, **options):
        rows, columns = inverse_affine(np.array([numbers]), shape, **options)
        return bilinear(image, rows @ fields, columns @ fields, shape).reshape(shape)

    turned = ndimage.rotate(image.reshape(shape), 20, reshape=False, order=1, mode="nearest")
    angle = deformed([1.0, 0, 0, 0, 0, 0, 0], rotate=math.radians(20))
    np.testing.assert_allclose(angle, turned, atol=1e-12)
    moved = ndimage.shift(image.reshape(shape), [2.5, -1.0], order=1, mode="nearest")
    np.testing.assert_allclose(deformed([0, 0, 0, 0, 1.0, -0.4, 0], shift=2.5), moved, atol=1e-12)
    mirrored = deformed([0, 0, 0, 0, 0, 0, -0.1], flip=True)
    np.testing.assert_allclose(mirrored, np.fliplr(image.reshape(shape)), atol=1e-12)
    assert (deformed([0, 0, 0, 0, 0, 0, 0.1], flip=True) == image.reshape(shape)).all()


def uniform(library, shape=(300, 7), seed=5, step=0, stream=0, first_row=0, dtype="float32"):
    with library.backend.active():
        number = library.asarray(np.array(step, dtype=np.int32))
        kind = getattr(library.xp, dtype)
        return to_numpy(random_uniform(shape, kind, seed, number, stream, first_row))


@pytest.mark.promise("any library")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_are_equal_bit_for_bit_on_every_library(library, dtype):
    """Against the hash's bits, which test_regularization.py has in Python's integers."""
    step = np.array(9, dtype=np.int32)
    bits = random_bits(300 * 7, 5, step, 3)
    expected = ((bits >> 7).astype(np.float64) / 2**23 - 1).reshape(300, 7)
    found = uniform(library, step=9, stream=3, dtype=dtype)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected)


def test_numbers_are_even_and_independent():
    from scipy import stats

    require("numpy")
    step = np.array(0, dtype=np.int32)
    base = random_uniform((10_000, 7), np.float64, 0, step, 0)
    assert -1 <= base.min() < base.max() < 1
    assert stats.kstest(base.ravel(), stats.uniform(-1, 2).cdf).pvalue > 1e-3
    others = [
        random_uniform((10_000, 7), np.float64, *key, 0)
        for key in ((1, step, 0), (0, step + np.int32(1), 0), (0, step, 1))
    ]
    for other in [*others, np.roll(base, 1, axis=1), np.roll(base, 1, axis=0)]:
        assert abs(np.corrcoef(base.ravel(), other.ravel())[0, 1]) < 5 / math.sqrt(base.size)


def test_a_part_of_a_batch_has_its_rows_of_the_numbers(library):
    whole = uniform(library, (20, 7))
    np.testing.assert_array_equal(uniform(library, (8, 7), first_row=12), whole[12:])


@pytest.mark.promise("no wait")
def test_deformation_does_not_wait_for_the_device(conversions):
    import array_api_strict as xp

    gpu = xp.Device("device1")
    step = xp.zeros((), dtype=xp.int32, device=gpu)
    numbers = random_uniform((3, 7), xp.float32, 0, step, 0)
    rows, columns = inverse_affine(numbers, (4, 4), 0.2, 0.1, 0.1, 1.0, True)
    fields = xp.ones((3, 16), dtype=xp.float32, device=gpu)
    x = xp.ones((3, 16), dtype=xp.float32, device=gpu)
    bilinear(x, rows @ fields, columns @ fields, (4, 4))
    assert conversions.count == 0

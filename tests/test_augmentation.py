"""Augmentation: what a deformation does, and trainings that deform."""

import logging
import math

import numpy as np
import pytest
from conftest import REGULARIZATIONS, require

import nnxp
from nnxp import (
    MLP,
    SGD,
    Deformation,
    Elastic,
    InputError,
    augmentation,
    find_learning_rate,
    train,
)
from nnxp.arrays import to_numpy
from nnxp.data import batches, prepare

EVERYTHING = Deformation(
    rotate=15, scale=0.15, shear=10, shift=1, flip=True, elastic=Elastic(20, 2)
)


@pytest.fixture(scope="module")
def pixels():
    """(60, 64) images of whole pixels over 255, float32, and their classes."""
    data = nnxp.datasets.load("digits")
    x = np.rint(data.x[:60] * 255).astype(np.float32) / np.float32(255)
    return x, data.y[:60]


def parameters(network):
    return [to_numpy(array) for layer in network.parameters for array in layer]


def assert_close(network, other, tolerance):
    for a, b in zip(parameters(network), parameters(other), strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance, rtol=tolerance)


# What a deformation does.


def test_displacements_have_the_covariance_of_smoothed_noise():
    """Simard's field is scipy's gaussian_filter of noise: the covariance of each pair of pixels."""
    ndimage = pytest.importorskip("scipy.ndimage")
    shape, elastic = (11, 14), Elastic(alpha=36, sigma=2.5)
    impulses = np.eye(math.prod(shape)).reshape(-1, *shape)
    smoothed = [
        36 * ndimage.gaussian_filter(each, 2.5, mode="constant").ravel() for each in impulses
    ]
    smoothing = np.array(smoothed)  # row k: what the noise at pixel k adds to each pixel
    expected = smoothing.T @ smoothing / 3  # the variance of numbers from [-1, 1]
    fields = elastic.fields(shape)
    assert len(fields) < 0.4 * math.prod(shape)
    found = fields.T @ fields / 3
    assert np.linalg.norm(found - expected) < 2e-3 * np.linalg.norm(expected)
    assert np.trace(found) == pytest.approx(np.trace(expected), rel=1e-12)


def test_with_every_mode_the_covariance_is_exact(monkeypatch):
    ndimage = pytest.importorskip("scipy.ndimage")
    monkeypatch.setattr(augmentation, "KEPT_VARIANCE", 1.0)
    impulses = np.eye(35).reshape(-1, 7, 5)
    smoothing = [ndimage.gaussian_filter(each, 1.2, mode="constant").ravel() for each in impulses]
    fields = Elastic(alpha=1, sigma=1.2).fields((7, 5))
    expected = np.transpose(smoothing) @ np.array(smoothing)
    np.testing.assert_allclose(fields.T @ fields, expected, atol=1e-12)


def test_few_numbers_make_the_field_of_a_large_image():
    assert len(Elastic(36, 4.5).fields((28, 28))) < 40
    assert Elastic(36, 4.5).fields((28, 28, 3)).shape[1] == 784


@pytest.mark.promise("any library")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_library_deforms_alike(library, pixels, dtype):
    x = pixels[0].astype(dtype)
    expected = EVERYTHING.apply(x, seed=3, step=11)
    assert np.abs(expected - x).max() > 0.5
    with library.backend.active():
        found = EVERYTHING.apply(library.asarray(x), seed=3, step=11)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(to_numpy(found), expected, atol=tolerance)


def test_each_image_step_and_seed_has_another_deformation(pixels):
    x = np.repeat(pixels[0][:1], 4, axis=0)
    found = np.concatenate(
        [EVERYTHING.apply(x, 0, 0), EVERYTHING.apply(x, 0, 1), EVERYTHING.apply(x, 1, 0)]
    )
    assert len(np.unique(found, axis=0)) == len(found)
    np.testing.assert_array_equal(EVERYTHING.apply(x, 0, 1), found[4:8])


def test_half_of_the_images_are_flipped(pixels):
    x = np.repeat(pixels[0][:1], 2000, axis=0)
    flipped = Deformation(flip=True).apply(x)
    mirrored = np.fliplr(x[0].reshape(8, 8)).ravel()
    is_mirrored = np.isclose(flipped, mirrored, atol=1e-6).all(axis=1)
    assert (is_mirrored | np.isclose(flipped, x[0], atol=1e-6).all(axis=1)).all()
    assert is_mirrored.mean() == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(2000))


def test_colours_move_together():
    x = np.random.default_rng(0).random((5, 6 * 8 * 3))
    given = Deformation(rotate=20, shift=1, shape=(6, 8, 3))
    found = given.apply(x).reshape(5, 48, 3)
    for c in range(3):
        one = Deformation(rotate=20, shift=1, shape=(6, 8)).apply(x.reshape(5, 48, 3)[..., c])
        np.testing.assert_allclose(found[..., c], one, atol=1e-14)


# Texts and values.

TEXTS = {
    "rotate=12": Deformation(rotate=12),
    "elastic": Deformation(elastic=Elastic()),
    "elastic,alpha=36,sigma=4.5": Deformation(elastic=Elastic(36, 4.5)),
    "flip, shift=2": Deformation(flip=True, shift=2),
    "scale=0.1,shape=6x8": Deformation(scale=0.1, shape=(6, 8)),
    "shear=10,shape=4x4x3": Deformation(shear=10, shape=(4, 4, 3)),
}


@pytest.mark.parametrize("text", TEXTS)
def test_texts_are_deformations(text):
    assert augmentation.get([text]) == TEXTS[text]


def test_several_texts_are_one_deformation():
    found = augmentation.get(["elastic,alpha=30,sigma=4", "rotate=12,scale=0.1"])
    assert found == Deformation(rotate=12, scale=0.1, elastic=Elastic(30, 4))


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["rotat=12"], "did you mean 'rotate'"),
        (["rotate"], "'rotate': give rotate=NUMBER"),
        (["flip=1"], "'flip=1': give flip alone"),
        (["rotate=12", "rotate=13"], "rotate is given twice"),
        (["alpha=36"], "alpha is of elastic"),
        (["rotate=fast"], "rotate must be a number in [0, 180), not 'fast'"),
        (["scale=1"], "scale must be a number in [0, 1), not 1"),
        (["rotate=nan"], "rotate must be a number in [0, 180), not nan"),
        (["elastic,sigma=0"], "sigma must be a finite number, 0.5 or more, not 0"),
        (["shape=4x4"], "deforms nothing: give one of rotate"),
        (["rotate=1,shape=4"], "shape must be a list of 2 or more"),
        (["rotate=1,shape=1x16"], "2 pixels or more each way"),
        ([""], "augment"),
    ],
)
def test_what_is_no_deformation_is_refused(pixels, texts, says):
    with pytest.raises(InputError) as caught:
        train(MLP([64, 10]), *pixels, epochs=1, batch_size=20, augment=texts)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("features", "augment", "says"),
    [
        (65, "rotate=12", "65 features are no square image: give its shape"),
        (64, "rotate=12,shape=4x4", "images of (4, 4) have 16 features, and x has 64"),
        (1, "rotate=12", "1 features are no square image"),
    ],
)
def test_features_that_are_no_images_are_refused(features, augment, says):
    x, t = np.zeros((4, features)), [0, 1, 0, 1]
    with pytest.raises(InputError) as caught:
        train(MLP([features, 2]), x, t, epochs=1, batch_size=2, augment=augment)
    assert says in str(caught.value)


def test_a_shape_that_was_guessed_is_told(pixels, caplog):
    with caplog.at_level(logging.INFO, "nnxp"):
        train(MLP([64, 10]), *pixels, epochs=1, batch_size=20, augment="rotate=5")
    assert "64 features are taken as images of 8 x 8" in caplog.text


# Trainings.


@pytest.mark.parametrize("regularization", REGULARIZATIONS.values(), ids=REGULARIZATIONS)
def test_every_backend_trains_alike_and_as_fast_as_it_can(backend, pixels, regularization):
    """Beside NumPy's eager steps: nothing falls back to them."""
    options = {
        "epochs": 3, "batch_size": 16, "augment": EVERYTHING, "optimizer": SGD(0.1, momentum=0.9),
        "regularization": regularization,
    }  # fmt: skip
    slow = nnxp.backends.get("numpy", executor="eager")
    expected = MLP([64, 20, 10], backend=slow, dtype="float64")
    train(expected, *pixels, **options)
    network = MLP([64, 20, 10], backend=backend, dtype="float64")
    history = train(network, *pixels, **options)
    assert history.fallbacks == []
    assert_close(network, expected, 1e-9)


def test_a_step_trains_on_the_deformed_images(backend, pixels):
    """The same by hand: deform the batch, then train on it without augmentation."""
    x, t = pixels
    deformation = Deformation(rotate=15, elastic=Elastic(20, 2))
    options = {"batch_size": None, "shuffle": False}
    network, by_hand = (MLP([64, 20, 10], backend=backend, dtype="float64") for _ in range(2))
    history = train(network, x, t, epochs=3, seed=7, augment=deformation, **options)
    losses = []
    for step in range(3):
        deformed = deformation.apply(x.astype(np.float64), seed=7, step=step)
        losses.append(train(by_hand, deformed, t, epochs=1, **options).epochs[0].loss)
    assert [epoch.loss for epoch in history.epochs] == pytest.approx(losses, rel=1e-6)
    assert_close(network, by_hand, 1e-6)  # 3 / 255 is no float64 that float32 has exactly


def test_pixels_stay_bytes_on_the_device(backend, pixels, caplog, monkeypatch):
    feeds = []
    real = prepare._feed
    monkeypatch.setattr(prepare, "_feed", lambda *given: feeds.append(real(*given)) or feeds[-1])
    options = {"epochs": 2, "batch_size": 16, "augment": EVERYTHING, "validation": 0.2}
    network, other = (MLP([64, 20, 10], backend=backend) for _ in range(2))
    with caplog.at_level(logging.INFO, "nnxp"):
        history = train(network, *pixels, **options)
    assert feeds[0].data[0].dtype == backend.xp.uint8
    assert "images: kept as uint8 pixels" in caplog.text
    monkeypatch.setattr(prepare, "packed", lambda x: None)
    with caplog.at_level(logging.INFO, "nnxp"):
        expected = train(other, *pixels, **options)
    assert feeds[1].data[0].dtype == backend.xp.float32
    assert "images: kept as numbers" in caplog.text
    assert_close(network, other, 1e-5)
    for a, b in zip(history.epochs, expected.epochs, strict=True):
        assert (a.validation_loss, a.loss) == pytest.approx((b.validation_loss, b.loss), rel=1e-5)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_pixels_of_any_dtype_lose_nothing(dtype):
    from nnxp.data.pixels import packed

    whole = np.arange(256).reshape(16, 16)
    x = whole.astype(dtype) if dtype == "uint8" else whole.astype(dtype) / 255
    found = packed(x)
    np.testing.assert_array_equal(found.values, whole)
    np.testing.assert_array_equal(found.numbers(found.values, x.dtype), x)
    if dtype != "uint8":
        for wrong in (np.nan, -1 / 255, 256 / 255, 0.5, np.nextafter(x[0, 3], x.dtype.type(2))):
            other = x.copy()
            other[1, 3] = wrong
            assert packed(other) is None
        np.testing.assert_array_equal(packed(whole.astype(dtype)).values, whole)


def test_validation_is_not_deformed(backend, pixels):
    x, t = pixels
    network = MLP([64, 20, 10], backend=backend)
    options = {"epochs": 2, "batch_size": 16, "augment": EVERYTHING, "validation": (x, t)}
    history = train(network, x, t, **options)
    figures = network.evaluate(x, t)
    assert history.epochs[-1].validation_loss == pytest.approx(figures["loss"], rel=1e-5)


def test_streamed_and_mapped_images_are_deformed_as_those_in_memory(backend, pixels, tmp_path):
    x, t = pixels
    np.save(tmp_path / "x.npy", x)
    options = {"epochs": 2, "batch_size": 16, "augment": EVERYTHING, "validation": 0.1}
    networks = [MLP([64, 20, 10], backend=backend) for _ in range(3)]
    first = train(networks[0], x, t, **options)
    second = train(networks[1], x, t, stream=True, **options)
    third = train(
        networks[2], np.load(tmp_path / "x.npy", mmap_mode="r"), t, stream=True, **options
    )
    assert first.fallbacks == second.fallbacks == third.fallbacks == []
    for network in networks[1:]:
        assert_close(network, networks[0], 1e-5)


def test_a_resumed_training_deforms_on(backend, pixels, tmp_path, caplog):
    options = {"batch_size": 16, "augment": EVERYTHING, "diagnose": True}
    whole, parts, saved = (MLP([64, 20, 10], backend=backend) for _ in range(3))
    expected = train(whole, *pixels, epochs=4, **options)
    history = train(parts, *pixels, epochs=2, **options)
    train(parts, *pixels, epochs=2, resume=history, **options)
    assert_close(parts, whole, 1e-6)
    train(saved, *pixels, epochs=2, checkpoint=tmp_path / "c", **options)
    again = MLP([64, 20, 10], backend=backend)
    history = train(again, *pixels, epochs=4, resume=tmp_path / "c", **options)
    assert_close(again, whole, 1e-6)
    assert [e.loss for e in history.epochs] == pytest.approx(
        [e.loss for e in expected.epochs], rel=1e-5
    )
    with caplog.at_level(logging.INFO, "nnxp"):
        train(again, *pixels, epochs=4, resume=tmp_path / "c", batch_size=16, diagnose=True)
    assert "augment is None, and was Deformation(rotate=15.0" in caplog.text


def test_a_checkpoint_has_no_fields(pixels, tmp_path):
    """They follow from the options; those of a large image are larger than a network."""
    sizes = []
    for augment in (None, "elastic,sigma=1"):
        folder = tmp_path / str(augment)
        train(MLP([64, 10]), *pixels, epochs=1, batch_size=16, augment=augment, checkpoint=folder)
        sizes.append(sum(file.stat().st_size for file in folder.iterdir()))
    assert abs(sizes[1] - sizes[0]) < 500


def test_divergence_names_the_step_of_a_deformed_batch(backend, pixels):
    x, t = pixels
    network = MLP([64, 20, 10], backend=backend)
    with pytest.raises(nnxp.DivergenceError) as caught:
        train(network, x, t, epochs=9, batch_size=16, augment=EVERYTHING, optimizer=SGD(1e30))
    assert caught.value.layer is not None


def test_the_learning_rate_finder_deforms(backend, pixels):
    network = MLP([64, 20, 10], backend=backend)
    options = {"batch_size": None, "steps": 20}
    found = find_learning_rate(network, *pixels, augment=EVERYTHING, **options)
    order = batches.ordered(True, 60, 0, 1, None)
    x, t = EVERYTHING.apply(pixels[0][order]), pixels[1][order]
    assert found.losses[0] == pytest.approx(network.evaluate(x, t)["loss"], rel=1e-5)


def test_jax_compiles_a_deforming_step_once_for_all_epochs(pixels):
    require("jax")
    from nnxp.executors import jax_scan

    before = jax_scan._compiled.cache_info().misses
    options = {"batch_size": 20, "augment": "rotate=7,elastic", "schedule": "cosine"}
    history = train(MLP([64, 21, 10], backend="jax"), *pixels, epochs=3, **options)
    train(MLP([64, 21, 10], backend="jax"), *pixels, epochs=3, resume=None, **options)
    assert len(history.epochs) == 3
    assert jax_scan._compiled.cache_info().misses - before <= 2

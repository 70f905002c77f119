"""Preprocessing: learnt on the training part, kept in the model file, done again on other data."""

import numpy as np
import pytest

import nnxp
from nnxp import datasets
from nnxp.data.sources import Mapped, Sliced
from nnxp.errors import DataError, InputError
from nnxp.preprocessing import BLOCK_ELEMENTS, PIXEL_VARIANCE, moments, pixels, standardize, whiten


@pytest.fixture
def x():
    rng = np.random.default_rng(0)
    mixed = rng.standard_normal((200, 5)) @ rng.standard_normal((5, 5))
    return mixed * [1, 1e-6, 1e6, 3, 0.5] + [5, 0, -1e6, 2, 1]


def covariance(x):
    return np.cov(x.astype(np.float64), rowvar=False)


@pytest.mark.parametrize("method", ["pca", "zca"])
def test_whitening_makes_the_covariance_the_identity_whatever_the_units(x, method):
    done = whiten(x, method)
    white = done.apply(x)
    assert white.dtype == np.float32
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(covariance(white), np.eye(5), atol=1e-4)
    np.testing.assert_allclose(done.invert(white), x, rtol=1e-4, atol=1e-6)


def test_pca_agrees_with_scikit_learn_up_to_the_signs(x):
    decomposition = pytest.importorskip("sklearn.decomposition")
    standardized = (x - x.mean(axis=0)) / x.std(axis=0)
    expected = decomposition.PCA(whiten=True).fit_transform(standardized)
    found = whiten(x, "pca").apply(x)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-4)


def test_zca_stays_as_near_to_the_standardised_features_as_a_whitening_can(x):
    plain = standardize(x).apply(x)
    pca, zca = (np.linalg.norm(whiten(x, method).apply(x) - plain) for method in ("pca", "zca"))
    assert zca < pca


def test_a_feature_that_depends_on_others_adds_no_direction(x):
    x = np.concatenate([x, x[:, :1] + x[:, 3:4], np.ones((len(x), 1))], axis=1)
    white = whiten(x, "pca").apply(x)
    variances = white.astype(np.float64).var(axis=0, ddof=1)
    np.testing.assert_allclose(np.sort(variances), [0, 0, 1, 1, 1, 1, 1], atol=1e-4)


def test_fewer_samples_than_features_leave_fewer_principal_axes(x):
    few = x[:3]
    assert whiten(few, "pca").apply(few).shape == (3, 3)
    assert whiten(few, "zca").apply(few).shape == (3, 5)


def test_whitening_of_pixels_adds_to_each_variance():
    image = np.random.default_rng(0).integers(0, 17, (500, 4)).astype(np.float64)
    white = whiten(image, "zca", 16.0).apply(image)
    variances = np.linalg.eigvalsh(covariance(image / 16))
    np.testing.assert_allclose(
        np.linalg.eigvalsh(covariance(white)), variances / (variances + PIXEL_VARIANCE), rtol=1e-4
    )


def test_a_column_that_never_varies_is_divided_by_what_was_said():
    x = np.array([[0.0, 1.0], [0.0, 3.0]])
    unseen = np.array([[255.0, 2.0]])
    assert standardize(x).apply(unseen).tolist() == [[255.0, 0.0]]
    assert standardize(x, 255.0).apply(unseen).tolist() == [[1.0, 0.0]]
    assert pixels(255).apply(unseen)[0, 0] == 1.0


def with_column(folder, column, name="data.csv"):
    """A csv of 50 rows: a column that tells the class, and another."""
    path = folder / name
    rows = zip(np.linspace(-1, 1, len(column)), column, strict=True)
    path.write_text("a,b,y\n" + "".join(f"{a},{b},{a > 0}\n" for a, b in rows))
    return path


NOISE = np.array([0.3, 0.1 + 0.2] * 25)


@pytest.mark.parametrize("kind", ["standardize", "pca", "zca"])
@pytest.mark.parametrize("column", [np.full(50, 0.1), NOISE, -1e9 * NOISE, 1e-300 * NOISE])
def test_a_constant_that_binary_cannot_hold_is_a_constant(tmp_path, column, kind):
    """Divided by its rounding, the hundredth part more would have come to 10^14."""
    data = datasets.load(with_column(tmp_path, column.tolist()), preprocess=kind)
    if kind != "pca":
        np.testing.assert_allclose(data.x[:, 1], 0, atol=1e-6)
    near = with_column(tmp_path, (1.01 * column).tolist(), "near.csv")
    if abs(column[0]) < 1:
        seen = datasets.load_features(near, like=data.metadata())
        np.testing.assert_allclose(seen[:, 0], np.linspace(-1, 1, 50) / 0.589, atol=0.1)
        assert np.abs(seen[:, 1:]).max() < 0.01


@pytest.mark.parametrize("kind", ["standardize", "pca", "zca"])
@pytest.mark.parametrize("factor", [1e160, 1e307, 1e-170, 1e-300])
def test_the_unit_of_a_feature_does_not_matter(tmp_path, factor, kind):
    column = np.cos(np.arange(50.0))
    one, other = (
        datasets.load(with_column(tmp_path, (f * column).tolist()), preprocess=kind)
        for f in (1.0, factor)
    )
    # The two features weigh alike, so rounding chooses which of them signs the axes of PCA.
    np.testing.assert_allclose(np.abs(other.x), np.abs(one.x), rtol=1e-5, atol=1e-6)
    assert np.isfinite(other.preprocessing.scale).all()


def test_whitening_of_constants_alone_gives_zeros():
    for method in ("pca", "zca"):
        assert (
            not whiten(np.stack([NOISE, np.full(50, 0.1)], axis=1), method)
            .apply(np.ones((3, 2)))
            .any()
        )


@pytest.mark.parametrize(
    ("dtype", "step"), [("float64", 1e-5), ("float32", 1e3), ("float16", 3.0), ("int64", 1)]
)
def test_a_column_that_varies_little_still_varies(dtype, step):
    """Time stamps by a hundred roundings of their type, or years in float16."""
    size = 2020 if dtype == "float16" else 10**9
    x = (size + step * (np.arange(50) % 2)).astype(dtype)[:, None]
    exact = x.astype(np.float64)
    mean, deviation = moments(x)
    assert deviation[0] == pytest.approx(np.ptp(exact) / 2, rel=1e-6)
    assert mean[0] == pytest.approx(size + np.ptp(exact) / 2, rel=1e-15)


def test_the_deviation_that_counts_as_rounding():
    eps = np.finfo(np.float64).eps
    signs = np.resize([1.0, -1.0], 50)[:, None]
    assert moments(1.0 + 3 * eps * signs)[1] == 0
    assert moments(1.0 + 6 * eps * signs)[1] == pytest.approx(6 * eps)
    eps = np.finfo(np.float32).eps
    assert moments((1.0 + 3 * eps * signs).astype(np.float32))[1] == 0
    assert moments((1.0 + 6 * eps * signs).astype(np.float32))[1] == pytest.approx(6 * eps)
    assert moments(1.0 + 3 * eps * signs)[1] == pytest.approx(3 * eps)


def test_moments_are_those_of_numpy(x):
    mean, deviation = moments(x)
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(deviation, x.std(axis=0), rtol=1e-13)
    before = x.copy()
    moments(x)
    np.testing.assert_array_equal(x, before)


def test_one_sample_has_nothing_to_whiten_by():
    with pytest.raises(InputError, match="2 samples or more"):
        whiten(np.ones((1, 3)), "pca")


def test_each_kind_on_the_digits():
    by_kind = {kind: datasets.load("digits", preprocess=kind) for kind in datasets.PREPROCESS}
    assert by_kind["auto"].x.max() == 1.0
    assert by_kind["none"].x.max() == 16.0
    varies = by_kind["none"].x.std(axis=0) > 0
    np.testing.assert_allclose(by_kind["standardize"].x[:, varies].std(axis=0), 1, rtol=1e-4)
    raw = by_kind["none"]
    for kind in ("standardize", "pca", "zca"):
        data = by_kind[kind]
        assert data.preprocessing.kind == kind
        np.testing.assert_allclose(data.x.mean(axis=0), 0, atol=1e-4)
        # Learnt from the training part alone, and done to the test part just so.
        np.testing.assert_array_equal(data.preprocessing.apply(raw.x_test), data.x_test)
        np.testing.assert_allclose(data.preprocessing.invert(data.x_test), raw.x_test, atol=0.3)


@pytest.mark.parametrize("kind", ["standardize", "pca", "zca"])
def test_the_model_file_keeps_it(tmp_path, backend, kind):
    data = datasets.load("moons", preprocess=kind)
    network = nnxp.MLP([2, 4, 2], backend=backend)
    network.metadata = data.metadata()
    path = tmp_path / "model.safetensors"
    network.save(path)
    loaded = nnxp.MLP.load(path, backend)
    known = datasets.described(loaded.metadata, loaded.sizes)
    again = datasets.load("moons", like=known)
    np.testing.assert_array_equal(again.x, data.x)
    np.testing.assert_array_equal(datasets.load_features("moons", like=known), data.x_test)
    assert loaded.predict(data.x_test).tolist() == network.predict(data.x_test).tolist()


@pytest.mark.parametrize("kind", ["standardize", "pca"])
def test_data_of_another_width_are_refused(tmp_path, kind):
    rng = np.random.default_rng(0)
    for width in (3, 4):
        np.savez(tmp_path / f"{width}.npz", x=rng.random((20, width)), y=np.arange(20) % 2)
    like = datasets.load(tmp_path / "4.npz", preprocess=kind).metadata()
    for refuse in (datasets.load, datasets.load_features):
        with pytest.raises(DataError, match="has 3 features a sample, the model takes 4"):
            refuse(tmp_path / "3.npz", like=like)


def test_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match=r"'pcs'.*pca"):
        datasets.load("moons", preprocess="pcs")


def test_moments_of_data_on_disk_are_those_in_memory(tmp_path):
    """To the bit, whatever parts it is read by; and those of NumPy to rounding."""
    rng = np.random.default_rng(0)
    x = rng.normal(1000.0, [1e-3, 1.0, 1e3], size=(90_000, 3))
    x[70_000:, 1] += 1e6
    np.save(tmp_path / "x.npy", x)
    mean, deviation = moments(x)
    for source in (Mapped(np.load(tmp_path / "x.npy", mmap_mode="r")), Sliced(x, "x")):
        found = moments(source)
        np.testing.assert_array_equal(found, (mean, deviation))
        assert source.finite
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(deviation, x.std(axis=0), rtol=1e-12)


def test_moments_of_blocks_of_very_different_sizes():
    """No square overflows, and what one block adds to another is in the same unit."""
    blocks = np.array([1e-300, 3e-300, 1.0, 5.0, 1e300, -1e300, 2e300, 0.0])
    x = np.repeat(blocks, BLOCK_ELEMENTS // 2)[:, None]
    mean, deviation = moments(x)
    scaled = x / 1e300
    np.testing.assert_allclose(mean, 1e300 * scaled.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(deviation, 1e300 * scaled.std(axis=0), rtol=1e-12)

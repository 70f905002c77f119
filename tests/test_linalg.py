from math import inf

import numpy as np
import pytest
import scipy.linalg
from conftest import require
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nnxp.arrays import device, namespace, to_numpy
from nnxp.errors import InputError
from nnxp.linalg import gram_schmidt, matrix_norm, vector_norm, whitening

ORDERS = [0, 1, 2, inf, -inf]
DTYPES = ["float32", "float64"]
EPS = {dtype: float(np.finfo(dtype).eps) for dtype in DTYPES}
both = pytest.mark.parametrize("dtype", DTYPES)


def normal(*shape, dtype="float64", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def hilbert(order, dtype="float64"):
    return scipy.linalg.hilbert(order).astype(dtype)


def same_kind(array, x):
    """Of x's library, device and dtype; on the host."""
    assert namespace(array) is namespace(x)
    assert device(array) == device(x)
    assert array.dtype == x.dtype
    return to_numpy(array)


def jitted(library, function):
    """Compiled where the library compiles: JAX, left to itself, compiles every operation."""
    if library.backend.name != "jax":
        return function
    import jax

    return jax.jit(function)


def off_identity(q):
    return np.abs(np.swapaxes(q, -1, -2) @ q - np.eye(q.shape[-1])).max()


@both
@pytest.mark.parametrize("order", ORDERS)
def test_vector_norms_are_numpys(library, order, dtype):
    x = normal(2, 3, 4, dtype=dtype) * np.array([1, 0, 1, 1], dtype)
    over = [(-1, False), (0, False), (1, True)]
    given_ = library.asarray(x)
    norms = jitted(library, lambda x: [vector_norm(x, order, axis=a, keepdims=k) for a, k in over])
    for norm, (axis, keepdims) in zip(norms(given_), over, strict=True):
        expected = np.linalg.norm(x, order, axis, keepdims)
        np.testing.assert_allclose(same_kind(norm, given_), expected, rtol=4 * EPS[dtype])
    several = jitted(library, lambda x: [vector_norm(x, order, axis=a) for a in (None, (0, 2))])
    whole, blocks = (to_numpy(norm) for norm in several(given_))
    assert whole == pytest.approx(np.linalg.norm(x.ravel(), order), rel=1e-6)
    expected = np.linalg.norm(np.moveaxis(x, 1, 0).reshape(3, 8), order, -1)
    np.testing.assert_allclose(blocks, expected, rtol=1e-6)


@both
def test_the_2_norm_neither_overflows_nor_underflows(library, dtype):
    x = np.array([[3e30, 4e30], [3e-30, -4e-30], [0, 0], [3, 4], [inf, 1], [np.nan, 1]], dtype)
    with library.backend.active():
        norm = to_numpy(vector_norm(library.asarray(x)))
    np.testing.assert_allclose(norm, [5e30, 5e-30, 0, 5, inf, np.nan], rtol=4 * EPS[dtype])


@pytest.mark.parametrize("order", ["fro", 1, inf, 2, "nuc"])
@both
def test_matrix_norms_are_numpys(library, order, dtype):
    x = normal(2, 3, 5, 4, dtype=dtype)
    given_ = library.asarray(x)
    if order in (2, "nuc") and library.name == "strict-minimal":
        with pytest.raises(InputError, match=f"of order {order!r} needs an SVD.* no linalg ext"):
            matrix_norm(given_, order)
        return
    norm = same_kind(matrix_norm(given_, order), given_)
    np.testing.assert_allclose(norm, np.linalg.norm(x, order, (-2, -1)), rtol=20 * EPS[dtype])


finite = st.floats(-1e6, 1e6).map(lambda v: v if abs(v) > 1e-6 else 0.0)
vectors = arrays(np.float64, 5, elements=finite)


@pytest.mark.parametrize("order", [1, 2, inf])
@given(vectors, vectors, finite)
def test_norms_are_norms(order, x, y, scale):
    size = vector_norm(x, order)
    assert (size > 0) == x.any()
    assert vector_norm(scale * x, order) == pytest.approx(abs(scale) * size, rel=1e-14)
    assert vector_norm(x + y, order) <= (size + vector_norm(y, order)) * (1 + 1e-15)
    assert vector_norm(x, inf) <= vector_norm(x) * (1 + 1e-15)
    assert vector_norm(x, -inf) <= vector_norm(x, inf)


@given(st.integers(0, 10_000))
def test_an_orthogonal_matrix_changes_no_norm_that_svd_gives(seed):
    x = normal(4, 4, seed=seed)
    q, rank = gram_schmidt(normal(4, 4, seed=seed + 1))
    assert rank == 4
    for order in ("fro", 2, "nuc"):
        assert matrix_norm(q @ x, order) == pytest.approx(matrix_norm(x, order), rel=1e-13)
    assert matrix_norm(q, 2) == pytest.approx(1, rel=1e-14)
    assert matrix_norm(x, 2) <= matrix_norm(x) <= matrix_norm(x, "nuc")


@pytest.mark.parametrize("order", [8, 10])
def test_the_hilbert_matrix_gives_orthonormal_columns(library, order):
    """Compiled by JAX too, which rounds a value anew wherever it is used; see `gram_schmidt`."""
    q, rank = jitted(library, gram_schmidt)(library.asarray(hilbert(order)))
    assert int(to_numpy(rank)) == order
    assert off_identity(to_numpy(q)) <= 1e-14


@both
def test_gram_schmidt_is_qr_with_a_positive_diagonal(library, dtype):
    a = library.asarray(normal(2, 3, 6, 4, dtype=dtype))
    q, rank = jitted(library, gram_schmidt)(a)
    q = same_kind(q, a)
    theirs, r = np.linalg.qr(to_numpy(a))
    signs = np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]
    np.testing.assert_allclose(q, theirs * signs, atol=50 * EPS[dtype])
    assert off_identity(q) <= 8 * EPS[dtype]
    assert library.xp.isdtype(rank.dtype, "integral")
    np.testing.assert_array_equal(to_numpy(rank), np.full((2, 3), 4))


@both
def test_dependent_columns_are_zero_and_counted(library, dtype):
    a = normal(3, 5, 4, dtype=dtype)
    a[0, :, 2] = a[0, :, 0] - 2 * a[0, :, 1]
    a[1, :, 0] = 0
    a[1, :, 3] = a[1, :, 1] * 1e-20
    a[2] *= np.array([1e-30, 1e30, 1e-5, 1], dtype)  # lengths say nothing about dependence
    q, rank = jitted(library, gram_schmidt)(library.asarray(a))
    q = to_numpy(q)
    np.testing.assert_array_equal(to_numpy(rank), [3, 2, 4])
    kept = np.array([[1, 1, 0, 1], [0, 1, 1, 0], [1, 1, 1, 1]])
    np.testing.assert_allclose(
        np.swapaxes(q, 1, 2) @ q, kept[:, :, None] * np.eye(4), atol=8 * EPS[dtype]
    )
    assert not np.swapaxes(q, 1, 2)[kept == 0].any()
    np.testing.assert_allclose(q @ (np.swapaxes(q, 1, 2) @ a), a, rtol=1e-3, atol=1e-30)


@settings(deadline=None)
@given(
    arrays(np.int64, st.tuples(st.integers(1, 5), st.integers(1, 6)), elements=st.integers(-4, 4))
)
def test_the_rank_is_the_rank(a):
    """Of whole numbers, where the rank is no matter of opinion; wide matrices too."""
    q, rank = gram_schmidt(a.astype(float))
    assert rank == np.linalg.matrix_rank(a)
    np.testing.assert_allclose(q @ (q.T @ a), a, atol=1e-13)


def test_columns_may_be_longer_than_their_dtype_can_say():
    q, rank = gram_schmidt(np.full((3, 1), 3e38, dtype=np.float32))
    np.testing.assert_allclose(q, np.full((3, 1), 3**-0.5), rtol=1e-6)
    assert rank == 1


@pytest.mark.parametrize("order", [8, 12, 20])
@both
def test_near_dependence_costs_rank_and_no_orthogonality(order, dtype):
    q, rank = gram_schmidt(hilbert(order, dtype))
    kept = q[:, (q != 0).any(axis=0)]
    assert kept.shape[1] == rank
    assert off_identity(kept) <= 8 * EPS[dtype]
    assert rank >= np.linalg.matrix_rank(hilbert(order, dtype)) - 1


@pytest.mark.parametrize("method", ["pca", "zca"])
@both
def test_whitened_data_have_the_identity_as_covariance(library, method, dtype):
    x = (normal(2, 50, 4) @ normal(2, 4, 4, seed=2) + 10).astype(dtype)
    given_ = library.asarray(x)
    if library.name == "strict-minimal":
        with pytest.raises(InputError, match=r"whitening needs an SVD.*\.to_numpy"):
            whitening(given_, method)
        return
    mean, matrix = (same_kind(array, given_) for array in whitening(given_, method))
    white = ((x - mean) @ matrix).astype("float64")
    covariance = np.swapaxes(white, 1, 2) @ white / 49
    np.testing.assert_allclose(covariance, [np.eye(4)] * 2, atol=200 * EPS[dtype])
    np.testing.assert_allclose(mean, x.mean(axis=1, keepdims=True), rtol=1e-5)
    if method == "zca":
        for block, ours in zip(x.astype("float64"), matrix, strict=True):
            theirs = scipy.linalg.inv(scipy.linalg.sqrtm(np.cov(block.T)))
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=200 * EPS[dtype] * theirs.max())


@pytest.mark.parametrize("shape", [(40, 5), (4, 7)])
def test_pca_is_scikit_learns(library, shape):
    from sklearn.decomposition import PCA

    if library.name == "strict-minimal":
        pytest.skip("has no SVD")
    x = normal(*shape) @ normal(shape[1], shape[1], seed=3)
    theirs = PCA(whiten=True, svd_solver="full").fit(x)
    mean, matrix = (to_numpy(array) for array in whitening(library.asarray(x)))
    kept = min(shape[1], shape[0] - 1)  # of 4 samples, 3 differences; the fourth axis is dropped
    expected = theirs.transform(x)[:, :kept]
    np.testing.assert_allclose(((x - mean) @ matrix)[:, :kept], expected, atol=1e-11)
    assert not matrix[:, kept:].any()


def test_directions_without_variance_are_dropped():
    x = normal(30, 4)
    x[:, 2] = 7.0
    x[:, 3] = x[:, 0] + x[:, 1]
    mean, pca = whitening(x)
    np.testing.assert_allclose(np.cov(((x - mean) @ pca).T), np.diag([1, 1, 0, 0]), atol=1e-13)
    _, zca = whitening(x, "zca")
    covariance = np.cov(((x - mean) @ zca).T)
    np.testing.assert_allclose(covariance @ covariance, covariance, atol=1e-13)  # a projection
    assert np.trace(covariance) == pytest.approx(2)
    assert not whitening(np.ones((3, 2)))[1].any()


def test_epsilon_is_added_to_each_variance():
    x = normal(30, 3) * [1e3, 1, 1e-6]
    variance = np.sort(np.linalg.eigvalsh(np.cov(x.T)))[::-1]
    mean, matrix = whitening(x, epsilon=0.01)
    np.testing.assert_allclose(
        ((x - mean) @ matrix).var(axis=0, ddof=1), variance / (variance + 0.01), rtol=1e-6
    )


def everything(x):
    norms = [vector_norm(x, order) for order in ORDERS]
    norms += [matrix_norm(x, order) for order in ("fro", 1, inf, 2, "nuc")]
    return [*norms, *gram_schmidt(x), *whitening(x), *whitening(x, "zca", 0.1)]


@pytest.mark.promise("no wait")
def test_nothing_waits_for_a_value(conversions):
    import array_api_strict

    gpu = array_api_strict.Device("device1")
    for array in everything(array_api_strict.asarray(normal(2, 5, 4), device=gpu)):
        assert array.device == gpu
    assert conversions.count == 0


def test_everything_traces_under_jit():
    require("jax")
    import jax

    jax.config.update("jax_enable_x64", True)
    x = normal(2, 5, 4)
    for ours, expected in zip(
        jax.jit(everything)(jax.numpy.asarray(x)), everything(x), strict=True
    ):
        np.testing.assert_allclose(ours, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: vector_norm(np.ones(3), 3), "order must be 0, 1, 2, inf or -inf, not 3"),
        (lambda: vector_norm(np.ones(3, int)), "takes float32 or float64, not int64: convert"),
        (lambda: vector_norm(np.ones((2, 0))), r"hold something, x has shape \(2, 0\)"),
        (lambda: matrix_norm(np.ones((2, 2)), 0), 'order must be "fro", 1, inf, 2 or "nuc", not 0'),
        (lambda: matrix_norm(np.ones(3)), r"2 axes or more, x has shape \(3,\)"),
        (lambda: gram_schmidt(np.ones((3, 0))), r"gram_schmidt takes .* shape \(3, 0\)"),
        (lambda: whitening(np.ones((1, 3))), "whitening takes 2 samples or more, not 1"),
        (lambda: whitening(np.ones((4, 3)), "pcaa"), "unknown whitening 'pcaa': did you mean 'pc"),
        (lambda: whitening(np.ones((4, 3)), epsilon=-1.0), "epsilon must be .*0 or more, not -1.0"),
    ],
)
def test_wrong_input_is_refused(call, says):
    with pytest.raises(InputError, match=says):
        call()

"""Products by cuBLAS, on a stand-in that computes what the documentation of gemm says.

By columns, from raw addresses: a wrong transposition, step or order shows as wrong numbers.
"""

import types

import numpy as np
import pytest
import stand_ins

from nnxp import BackendError
from nnxp.executors import cublas
from nnxp.executors.cublas import WORKSPACE, Cublas


def device_array(array):
    """As CuPy's has it: the address, and what it knows of its layout."""
    return types.SimpleNamespace(
        shape=array.shape, strides=array.strides, dtype=array.dtype, flags=array.flags,
        data=types.SimpleNamespace(ptr=array.ctypes.data), array=array,
    )  # fmt: skip


def handle(**options):
    blas = stand_ins.Blas()
    return blas, Cublas(1234, 5678, library=blas, **options)


def by_rows(x):
    return np.ascontiguousarray(x)


def by_columns(x):
    return np.asfortranarray(x)


def part_of_rows(x):
    """The first rows of more: contiguous, and its own base is not."""
    return np.concatenate([x, x])[: len(x)]


def in_a_row_of_rows(x):
    """A single row out of every second one: CuPy and NumPy call it contiguous."""
    return np.repeat(x, 2, axis=0)[::2][:1] if len(x) == 1 else by_rows(x)


LAYOUTS = [by_rows, by_columns, part_of_rows, in_a_row_of_rows]
SIZES = [1, 2, 3, 7]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("b_layout", LAYOUTS)
@pytest.mark.parametrize("a_layout", LAYOUTS)
def test_every_shape_and_layout(a_layout, b_layout, dtype):
    blas, product = handle()
    rng = np.random.default_rng(0)
    for m in SIZES:
        for k in SIZES:
            for n in SIZES:
                a = a_layout(rng.integers(-4, 5, (m, k)).astype(dtype))
                b = b_layout(rng.integers(-4, 5, (k, n)).astype(dtype))
                room = np.full(m * n + 2, np.nan, dtype=dtype)
                out = room[1:-1].reshape(m, n)
                product.product(*map(device_array, (a, b, out)))
                np.testing.assert_array_equal(out, a @ b)
                assert np.isnan(room[[0, -1]]).all()
    kinds = {arguments[-2] for name, arguments in blas.calls if name == "cublasGemmEx"}
    assert kinds == {{"float32": 68, "float64": 70}[dtype]}


def cupys_own(a, b):
    """What `dot`, `tensordot_core` and `tensordot_core_v11` of CuPy 14.2 come to, line by line.

    cupy/_core/_routines_linalg.pyx; for two matrices and an `out` by rows.
    """

    def to_cublas_contiguous(x, trans):
        if x.flags.f_contiguous:
            lda = x.strides[1] // x.itemsize
            return trans, max(lda, x.shape[0])
        assert x.flags.c_contiguous
        return 1 - trans, x.strides[0] // x.itemsize

    a = a.T  # rollaxis(a, 1, 0)
    (k, n), m = a.shape, b.shape[1]
    transa, lda = to_cublas_contiguous(a, 0)
    transb, ldb = to_cublas_contiguous(b, 1)
    return (transb, transa, m, n, k), (b.ctypes.data, ldb), (a.ctypes.data, lda), m


@pytest.mark.parametrize("b_layout", [by_rows, by_columns])
@pytest.mark.parametrize("a_layout", [by_rows, by_columns])
def test_it_is_what_cupy_asks(a_layout, b_layout):
    """So that cuBLAS takes the same kernel, and the bits are the same."""
    blas, product = handle()
    for m in SIZES:
        for k in SIZES:
            for n in SIZES:
                a = a_layout(np.ones((m, k), dtype=np.float32))
                b = b_layout(np.ones((k, n), dtype=np.float32))
                product.product(*map(device_array, (a, b, np.empty((m, n), np.float32))))
                name, asked = blas.calls[-1]
                assert name == "cublasGemmEx"
                found = (
                    asked[1:6], (asked[7].value, asked[9]), (asked[10].value, asked[12]), asked[16]
                )  # fmt: skip
                assert found == cupys_own(a, b)


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({}, {"float32": (68, 99), "float64": (70, 99)}),
        ({"tf32": True}, {"float32": (77, 99), "float64": (70, 99)}),
        ({"newer": False}, {"float32": (68, -1), "float64": (70, -1)}),
    ],
)
def test_precision_and_algorithm(options, asked):
    blas, product = handle(**options)
    for dtype in asked:
        x = device_array(np.eye(2, dtype=dtype))
        product.product(x, x, device_array(np.empty((2, 2), dtype=dtype)))
        assert blas.calls[-1][1][-2:] == asked[dtype]


def test_the_numbers_are_cublass():
    """Of cublas_api.h and library_types.h; nobody else would notice that one is wrong."""
    try:
        from cupy_backends.cuda.api import runtime
        from cupy_backends.cuda.libs import cublas as theirs
    except (ImportError, AttributeError):  # without CUDA its module does not import
        pytest.skip("needs CuPy and cuBLAS")
    assert cublas._COMPUTE == {
        "float32": theirs.CUBLAS_COMPUTE_32F, "float64": theirs.CUBLAS_COMPUTE_64F
    }  # fmt: skip
    assert cublas._COMPUTE_TF32 == theirs.CUBLAS_COMPUTE_32F_FAST_TF32
    assert cublas._TYPES == {"float32": runtime.CUDA_R_32F, "float64": runtime.CUDA_R_64F}
    assert cublas._DEFAULT == theirs.CUBLAS_GEMM_DEFAULT
    assert cublas._DEFAULT_TENSOR_OP == theirs.CUBLAS_GEMM_DEFAULT_TENSOR_OP


def test_the_workspace_is_set_after_the_stream_which_takes_it_away():
    blas, product = handle()
    assert blas.names() == ["cublasCreate_v2", "cublasSetStream_v2", "cublasSetWorkspace_v2"]
    assert blas.stream == 1234
    assert blas.workspace == (5678, WORKSPACE)
    assert product.handle.value == 77


def test_it_is_closed_once():
    blas, product = handle()
    product.close()
    product.close()
    assert blas.names().count("cublasDestroy_v2") == 1


@pytest.mark.parametrize(
    "name", ["cublasCreate_v2", "cublasSetStream_v2", "cublasSetWorkspace_v2", "cublasGemmEx",
             "cublasDestroy_v2"],
)  # fmt: skip
def test_a_refusal_is_one_line(name):
    blas = stand_ins.Blas()
    blas.status[name] = 13
    x = device_array(np.eye(2))

    def use():
        product = Cublas(1, 2, library=blas)
        product.product(x, x, device_array(np.empty((2, 2))))
        product.close()

    with pytest.raises(BackendError, match=f"^{name} of cuBLAS failed with status 13$"):
        use()


def test_a_matrix_with_gaps_is_refused():
    blas, product = handle()
    x, out = device_array(np.eye(4)[::2, ::2]), device_array(np.empty((2, 2)))
    plain = device_array(np.eye(2))
    for a, b in [(x, plain), (plain, x)]:
        with pytest.raises(BackendError, match=r"whose strides are \(64, 16\) is not known here"):
            product.product(a, b, out)
    by_columns = device_array(np.empty((2, 2), order="F"))
    with pytest.raises(BackendError, match=r"into a matrix whose strides are \(8, 16\)"):
        product.product(plain, plain, by_columns)
    assert "cublasGemmEx" not in blas.names()


def test_a_library_that_is_not_there_is_one_line(monkeypatch):
    def load(path):
        raise OSError(f"{path}: no such file")

    monkeypatch.setattr(cublas.ctypes, "CDLL", load)
    with pytest.raises(BackendError, match=r"^cuBLAS cannot be loaded: .+") as raised:
        Cublas(1, 2)
    assert raised.value.__cause__ is None

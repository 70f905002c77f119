"""Matrix products by a cuBLAS handle of nnxp's own.

CuPy refuses its products while a stream is captured; cuBLAS itself captures them (CuPy issue
6290). What is asked of cuBLAS here is what CuPy 14's `matmul` asks, so the bits are the same.
"""

from __future__ import annotations

import ctypes
from typing import Any

from nnxp.arrays import Array
from nnxp.errors import BackendError

WORKSPACE = 32 * 2**20
"""Bytes: what cuBLAS takes on Hopper when it is given none. Given none while it is captured, it
would add an allocation to the graph for each product."""

_TYPES = {"float32": 0, "float64": 1}  # CUDA_R_32F, CUDA_R_64F
_COMPUTE = {"float32": 68, "float64": 70}  # CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_64F
_COMPUTE_TF32 = 77  # CUBLAS_COMPUTE_32F_FAST_TF32
_SCALARS = {"float32": ctypes.c_float, "float64": ctypes.c_double}
_DEFAULT, _DEFAULT_TENSOR_OP = -1, 99  # CUBLAS_GEMM_DEFAULT, CUBLAS_GEMM_DEFAULT_TENSOR_OP
_AS_IT_IS, _TRANSPOSED = 0, 1


class Cublas:
    """A handle bound to one stream.

    Args:
        stream: the address of a CUDA stream, as a number.
        workspace: the address of `WORKSPACE` bytes on its device.
        tf32: whether float32 products may round their operands to ten bits.
        newer: whether the device's compute capability is 8.0 or more. Before, the algorithm for
            tensor cores may round float32 to float16.
        library: cuBLAS; loaded unless given.
    """

    def __init__(
        self,
        stream: int,
        workspace: int,
        tf32: bool = False,
        newer: bool = True,
        library: Any = None,
    ) -> None:
        self.library = library or _load()
        self.algorithm = _DEFAULT_TENSOR_OP if newer else _DEFAULT
        self.compute = _COMPUTE | ({"float32": _COMPUTE_TF32} if tf32 else {})
        self.handle = ctypes.c_void_p()
        self._check("cublasCreate_v2", ctypes.byref(self.handle))
        self._check("cublasSetStream_v2", self.handle, ctypes.c_void_p(stream))
        # After the stream: to set that takes the workspace away.
        self._check(
            "cublasSetWorkspace_v2",
            self.handle,
            ctypes.c_void_p(workspace),
            ctypes.c_size_t(WORKSPACE),
        )

    def product(self, a: Array, b: Array, out: Array) -> None:
        """out = a b, on the handle's stream.

        Args:
            a: (m, k), rows or columns contiguous.
            b: (k, n), likewise, of the same dtype, float32 or float64.
            out: (m, n), rows contiguous.

        Raises:
            BackendError: cuBLAS refuses.
        """
        dtype = out.dtype.name
        one, zero = _SCALARS[dtype](1.0), _SCALARS[dtype](0.0)
        (m, k), n = a.shape, b.shape[1]
        # cuBLAS goes by columns, in which memory by rows is the transpose: out^T = b^T a^T.
        a_is, a_step = _layout(a, by_rows_first=True)
        b_is, b_step = _layout(b, by_rows_first=False)
        kind = _TYPES[dtype]
        self._check(
            "cublasGemmEx",
            self.handle,
            b_is,
            a_is,
            n,
            m,
            k,
            ctypes.byref(one),
            ctypes.c_void_p(b.data.ptr),
            kind,
            b_step,
            ctypes.c_void_p(a.data.ptr),
            kind,
            a_step,
            ctypes.byref(zero),
            ctypes.c_void_p(out.data.ptr),
            kind,
            n,
            self.compute[dtype],
            self.algorithm,
        )

    def close(self) -> None:
        """Give the handle back."""
        handle, self.handle = self.handle, ctypes.c_void_p()
        if handle:
            self._check("cublasDestroy_v2", handle)

    def _check(self, name: str, *arguments: Any) -> None:
        status = getattr(self.library, name)(*arguments)
        if status != 0:
            raise BackendError(f"{name} of cuBLAS failed with status {status}")


def _layout(x: Array, *, by_rows_first: bool) -> tuple[int, int]:
    """How cuBLAS is to take a matrix's memory, and the elements from one row, or column, on.

    A matrix of one row or column lies both ways; `by_rows_first` says how CuPy then takes it.
    """
    by_rows, by_columns = x.flags.c_contiguous, x.flags.f_contiguous
    if by_rows and (by_rows_first or not by_columns):
        return _AS_IT_IS, max(1, x.shape[1])
    if by_columns:
        return _TRANSPOSED, max(1, x.shape[0])
    raise BackendError(f"a product of a matrix whose strides are {x.strides} is not known here")


def _load() -> Any:
    """cuBLAS: the very library that CuPy computes with."""
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib

        return ctypes.CDLL(load_nvidia_dynamic_lib("cublas").abs_path)
    except Exception as error:  # not installed, or no library to be found
        raise BackendError(f"cuBLAS cannot be loaded: {error}") from None

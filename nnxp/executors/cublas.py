"""Matrix products through a cuBLAS handle of nnxp's own.

CuPy refuses its products while a stream is captured, although cuBLAS can be captured (CuPy issue
6290). The calls here have the same arguments as those of CuPy 14's `matmul`, so the results have
the same bits.
"""

from __future__ import annotations

import ctypes
from typing import Any

from nnxp.arrays import Array
from nnxp.errors import BackendError

WORKSPACE = 32 * 2**20
"""Bytes: cuBLAS's own default on Hopper. Without a workspace, cuBLAS would add an allocation to
the graph for each product."""

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
        newer: whether the device's compute capability is 8.0 or more. On older devices the
            algorithm for tensor cores may round float32 to float16.
        library: cuBLAS; loaded if None.
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
        # Set it after the stream: setting the stream resets the workspace.
        self._check(
            "cublasSetWorkspace_v2",
            self.handle,
            ctypes.c_void_p(workspace),
            ctypes.c_size_t(WORKSPACE),
        )

    def product(self, a: Array, b: Array, out: Array) -> None:
        """Compute out = a b on the handle's stream.

        Args:
            a: (m, k), rows or columns contiguous.
            b: (k, n), likewise, of the same dtype, float32 or float64.
            out: (m, n), rows contiguous.

        Raises:
            BackendError: cuBLAS refuses, or the layout of a matrix is another one.
        """
        if not out.flags.c_contiguous:
            raise BackendError(f"a product into a matrix whose strides are {out.strides}")
        dtype = out.dtype.name
        one, zero = _SCALARS[dtype](1.0), _SCALARS[dtype](0.0)
        (m, k), n = a.shape, b.shape[1]
        # cuBLAS stores matrices by columns and so reads the transposes: out^T = b^T a^T.
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
        """Destroy the handle."""
        handle, self.handle = self.handle, ctypes.c_void_p()
        if handle:
            self._check("cublasDestroy_v2", handle)

    def _check(self, name: str, *arguments: Any) -> None:
        status = getattr(self.library, name)(*arguments)
        if status != 0:
            raise BackendError(f"{name} of cuBLAS failed with status {status}")


def _layout(x: Array, *, by_rows_first: bool) -> tuple[int, int]:
    """Return cuBLAS's operation for a matrix and its leading dimension, in elements.

    A matrix of one row or column is contiguous both ways; `by_rows_first` is then CuPy's choice.
    """
    by_rows, by_columns = x.flags.c_contiguous, x.flags.f_contiguous
    if by_rows and (by_rows_first or not by_columns):
        return _AS_IT_IS, max(1, x.shape[1])
    if by_columns:
        return _TRANSPOSED, max(1, x.shape[0])
    raise BackendError(f"a product of a matrix whose strides are {x.strides} is not known here")


def _load() -> Any:
    """Load the cuBLAS that CuPy uses."""
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib

        return ctypes.CDLL(load_nvidia_dynamic_lib("cublas").abs_path)
    except Exception as error:  # not installed, or cuBLAS is not found
        raise BackendError(f"cuBLAS cannot be loaded: {error}") from None

"""Fixtures: the backends and workloads that benchmarks run on."""

import os

# Before NumPy is imported: its BLAS reads at once which kernels it is forced to.
FORCED = {
    name: value
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "BLIS_ARCH_TYPE")
    if (value := os.environ.pop(name, None))
}

import pytest  # noqa: E402

from nnxp import backends  # noqa: E402
from nnxp.backends import blas  # noqa: E402
from nnxp.benchmark import WORKLOADS, Workload  # noqa: E402
from nnxp.errors import BackendError  # noqa: E402

DEVICE = os.environ.get("NNXP_TEST_DEVICE", "cpu")
"""Where PyTorch and JAX run; NumPy and CuPy each have only one kind of device."""


def pytest_report_header() -> str:
    """Name the kernels of NumPy's BLAS, and the variables that no longer force them."""
    removed = f"; left out: {blas.assignments(FORCED)}" if FORCED else ""
    return f"BLAS kernels: {blas.kernels() or 'unknown'}{removed}"


@pytest.fixture(params=["numpy", "cupy", "torch", "jax"])
def backend(request: pytest.FixtureRequest) -> backends.Backend:
    """Open every backend; a missing one fails if NNXP_REQUIRE names it, else it is skipped."""
    name = request.param
    device = {"numpy": "cpu", "cupy": "cuda"}.get(name, DEVICE)
    try:
        return backends.get(name, device)
    except BackendError as error:
        required = name in os.environ.get("NNXP_REQUIRE", "").split(",")
        (pytest.fail if required else pytest.skip)(str(error))


@pytest.fixture(params=[w.name for w in WORKLOADS.values() if DEVICE != "cpu" or not w.gpu])
def workload(request: pytest.FixtureRequest, smoke: bool) -> Workload:
    """Return every workload that suits the device."""
    found = WORKLOADS[request.param]
    return found.quick() if smoke else found


@pytest.fixture
def smoke(request: pytest.FixtureRequest) -> bool:
    """Return whether nothing is timed (--benchmark-disable), so that little data is enough."""
    return bool(request.config.getoption("benchmark_disable"))

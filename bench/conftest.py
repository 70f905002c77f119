"""Fixtures: the backends and workloads that benchmarks run on."""

import os

import pytest

from nnxp import backends
from nnxp.benchmark import WORKLOADS, Workload
from nnxp.errors import BackendError

DEVICE = os.environ.get("NNXP_TEST_DEVICE", "cpu")
"""Where PyTorch and JAX run; NumPy and CuPy each have only one kind of device."""


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

"""The backends and workloads that benchmarks run on."""

import os

import pytest

from nnxp import backends
from nnxp.benchmark import WORKLOADS, Workload
from nnxp.errors import BackendError

DEVICE = os.environ.get("NNXP_TEST_DEVICE", "cpu")
"""Of PyTorch and JAX; NumPy and CuPy have only one kind."""


@pytest.fixture(params=["numpy", "cupy", "torch", "jax"])
def backend(request: pytest.FixtureRequest) -> backends.Backend:
    """Every backend that one trains on; a missing one fails where NNXP_REQUIRE names it."""
    name = request.param
    device = {"numpy": "cpu", "cupy": "cuda"}.get(name, DEVICE)
    try:
        return backends.get(name, device)
    except BackendError as error:
        required = name in os.environ.get("NNXP_REQUIRE", "").split(",")
        (pytest.fail if required else pytest.skip)(str(error))


@pytest.fixture(params=[w.name for w in WORKLOADS.values() if DEVICE != "cpu" or not w.gpu])
def workload(request: pytest.FixtureRequest, smoke: bool) -> Workload:
    """Every workload that suits the device."""
    found = WORKLOADS[request.param]
    return found.quick() if smoke else found


@pytest.fixture
def smoke(request: pytest.FixtureRequest) -> bool:
    """Whether nothing is timed (--benchmark-disable): then little data is enough."""
    return bool(request.config.getoption("benchmark_disable"))

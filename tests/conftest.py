"""The array libraries that every test runs on, and what stands in for a GPU where there is none."""

import importlib.util
import json
import os
import xml.etree.ElementTree
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import MOON_CSV, figure, succeed
from promises import PROMISES, Cases

from nnxp import SGD, Adam, ClipNorm, Regularization, RMSprop, backends
from nnxp.arrays import to_numpy

MODULES = {
    "numpy": "numpy",
    "array-api-strict": "array_api_strict",
    "torch": "torch",
    "jax": "jax",
    "cupy": "cupy",
}
STRICT_VERSIONS = ("2023.12", "2024.12", "2025.12")
LIBRARIES = {
    "numpy": "numpy",
    "numpy-readonly": "numpy",
    **{f"strict-{version}": "array-api-strict" for version in STRICT_VERSIONS},
    "strict-minimal": "array-api-strict",
    "strict-device1": "array-api-strict",
    "torch": "torch",
    "jax": "jax",
    "cupy": "cupy",
}
"""Each variant's backend."""
BACKENDS = ("numpy", "array-api-strict", "strict-device1", "torch", "jax", "cupy")
"""One variant per backend, for what is about backends rather than kernels."""

RULES = {
    "sgd": SGD(0.1),
    "nesterov": SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": Adam(0.01, weight_decay=0.01),
    "rmsprop": RMSprop(0.01, momentum=0.5),
    "clipped": ClipNorm(SGD(0.1), 0.05),
}
REGULARIZATIONS = {
    "free": Regularization(),
    "penalised": Regularization(l1=0.01, l2=0.01, max_norm=1.0, dropout=0.5),
}
"""What steps differ by besides network and loss: for the ways to run them."""


def turning(every: Iterable[Any], beside: Iterable[Any], times: int = 1) -> list[tuple[Any, ...]]:
    """Each of `every`, `times` times, with the next of `beside`: a sample of their product."""
    every = list(every)
    pairs = zip(every * times, cycle(beside), strict=False)
    return [tuple(_flat(pair)) for pair in pairs]


def _flat(nested: Any) -> Iterator[Any]:
    for each in nested:
        yield from _flat(each) if type(each) is tuple else [each]


TEST_DEVICE = os.environ.get("NNXP_TEST_DEVICE", "cpu")
"""Where PyTorch and JAX are tested: `ci/gpu` says cuda."""


def require(name: str) -> None:
    """Skip where a backend is missing; fail where NNXP_REQUIRE says that it must be there."""
    required = os.environ.get("NNXP_REQUIRE", "").split(",")
    if importlib.util.find_spec(MODULES[name]) is None:
        if name in required:
            pytest.fail(f"NNXP_REQUIRE names {name}, which is not installed")
        pytest.skip(f"{name} is not installed")
    if name == "cupy":
        import cupy

        if not cupy.is_available():
            if name in required:
                pytest.fail("NNXP_REQUIRE names cupy, which finds no CUDA device")
            pytest.skip("cupy finds no CUDA device")


def is_emulated() -> bool:
    """Whether CuPy's CUDA is emulated, as in `ci/cupy`, where large products take minutes."""
    import cupy

    return bool(cupy.cuda.runtime.getDeviceProperties(0)["name"] == b"CUDA on a CPU")


@dataclass
class Library:
    """An array library as tests use it."""

    name: str
    backend: backends.Backend

    @property
    def xp(self) -> Any:
        return self.backend.xp

    def asarray(self, x: Any) -> Any:
        """A NumPy array on the library's device, its dtype kept."""
        x = np.asarray(x)
        array = self.backend.asarray(x, dtype=getattr(self.xp, x.dtype.name), copy=True)
        if self.name == "numpy-readonly":
            array.flags.writeable = False
        return array

    def to_numpy(self, x: Any) -> np.ndarray:
        return to_numpy(x)


class Conversions:
    """Counts Python scalars made of arrays on strict's device1: on a GPU each would wait."""

    def __init__(self) -> None:
        self.count = 0


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> Conversions:
    """Close the two holes through which device1 lets values reach the host.

    `__dlpack__` raises there, as `__array__` does; `float()` and its kin are counted.
    """
    require("array-api-strict")
    import array_api_strict
    from array_api_strict import Device

    array = type(array_api_strict.zeros(1))
    counter = Conversions()

    def counted(method: str) -> Any:
        original = getattr(array, method)

        def convert(self: Any) -> Any:
            counter.count += self.device != Device("CPU_DEVICE")
            return original(self)

        return convert

    for method in ("__float__", "__bool__", "__int__", "__index__", "__complex__"):
        monkeypatch.setattr(array, method, counted(method))
    export = array.__dlpack__

    def guarded(self: Any, **options: Any) -> Any:
        if self.device != Device("CPU_DEVICE"):
            raise RuntimeError("an array on device1 was exported to the host")
        return export(self, **options)

    monkeypatch.setattr(array, "__dlpack__", guarded)
    return counter


def _open(name: str, request: pytest.FixtureRequest, stack: ExitStack) -> Library:
    backend = LIBRARIES.get(name, name)
    require(backend)
    if backend == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    if backend == "array-api-strict":
        from array_api_strict import ArrayAPIStrictFlags

        version = name.removeprefix("strict-")
        if version in STRICT_VERSIONS:
            stack.enter_context(ArrayAPIStrictFlags(api_version=version))
        if name == "strict-minimal":
            stack.enter_context(
                ArrayAPIStrictFlags(
                    boolean_indexing=False, data_dependent_shapes=False, enabled_extensions=()
                )
            )
    if name == "strict-device1":
        request.getfixturevalue("conversions")
        return Library(name, backends.get(backend, "device1"))
    device = {"cupy": "cuda", "torch": TEST_DEVICE, "jax": TEST_DEVICE}.get(backend, "cpu")
    return Library(name, backends.get(backend, device))


@pytest.fixture(params=list(LIBRARIES))
def library(request: pytest.FixtureRequest) -> Iterator[Library]:
    """Every library and every strictness: for kernels."""
    with ExitStack() as stack:
        yield _open(request.param, request, stack)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[backends.Backend]:
    """Every backend: for networks and training."""
    with ExitStack() as stack:
        yield _open(request.param, request, stack).backend


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--every-case", action="store_true",
        help="try each case of the tests that draw a sample of thousands, as ci/reliability does",
    )  # fmt: skip
    parser.addoption(
        "--except-passed", metavar="FILE",
        help="leave out the tests that passed in a run whose results, from --junitxml, are FILE",
    )  # fmt: skip


@pytest.fixture
def cases(record_property: Any, request: pytest.FixtureRequest) -> Iterator[Cases]:
    """Counts what a test tries of its promise; see `promises`."""
    found = Cases(every=request.config.getoption("--every-case"))
    yield found
    record_property("tried", found.tried)
    record_property("failed", len(found.failed))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Any:
    """Fail a test of which a case failed, or that tried none, unless it was skipped."""
    result = yield
    found = pyfuncitem.funcargs.get("cases")
    if isinstance(found, Cases):
        if not found.tried:
            pytest.fail("no case was tried", pytrace=False)
        if found.failed:
            first = "\n".join(found.failed[:20])
            pytest.fail(f"{len(found.failed)} of {found.tried} cases:\n{first}", pytrace=False)
    return result


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what passed before; note the promise that a test shows with its result."""
    if (results := config.getoption("--except-passed")) is not None:
        passed = {
            f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
            for case in xml.etree.ElementTree.parse(results).iter("testcase")
            if not {"skipped", "failure", "error"} & {child.tag for child in case}
        }
        config.hook.pytest_deselected(items=[each for each in items if each.nodeid in passed])
        items[:] = [each for each in items if each.nodeid not in passed]
    for item in items:
        for marker in item.iter_markers("promise"):
            (name,) = marker.args
            assert name in PROMISES, f"{item.nodeid}: {name!r} is no promise of tests/promises.py"
            item.user_properties.append(("promise", name))


@pytest.fixture(autouse=True)
def _no_defaults_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NNXP_BACKEND", "NNXP_DEVICE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def trained_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `nnxp train --report report.json` ran; what it printed is in `printed`."""
    folder = tmp_path_factory.mktemp("digits")
    text = succeed(folder, "train", "--report", "report.json")
    (folder / "printed").write_text(text)
    return folder


@pytest.fixture(scope="session")
def printed(trained_digits: Path) -> str:
    """What the training on the digits printed."""
    return (trained_digits / "printed").read_text()


@pytest.fixture
def report(trained_digits: Path) -> Any:
    """The report of the training on the digits."""
    return json.loads((trained_digits / "report.json").read_text())


@pytest.fixture(scope="session")
def trained_moons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of a csv file whose classes are text, and what training printed."""
    folder = tmp_path_factory.mktemp("moons")
    (folder / "data.csv").write_text(MOON_CSV)
    options = ["--hidden", "16", "--epochs", "60", "--batch-size", "8"]
    text = succeed(folder, "train", "data.csv", *options)
    assert figure(text.partition("\ntest ")[2]) >= 0.95
    (folder / "printed").write_text(text)
    return folder

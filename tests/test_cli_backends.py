"""The command line on every backend, and `nnxp backends`."""

import json
import os
import re

import numpy as np
import pytest
from command_line import CONTROL, fail, figure, run_process, succeed
from conftest import require
from processes import python

import nnxp
from nnxp.backends import blas

BACKENDS = ("torch", "jax", "array-api-strict")


def test_backends_lists_each_with_its_version_or_its_cure(tmp_path):
    text = succeed(tmp_path, "backends")
    assert not CONTROL.search(text)
    lines = {line.split()[0]: line for line in text.splitlines() if "warning:" not in line}
    assert list(lines) == ["numpy", "cupy", "torch", "jax", "array-api-strict"]
    assert re.search(rf"{re.escape(np.__version__)} +usable: cpu", lines["numpy"])
    for line in lines.values():
        assert "usable: " in line or "install" in line


KERNELS = "import nnxp.backends.blas as blas; print(blas.kernels(), blas._processor())"


@pytest.mark.slow
def test_backends_names_the_kernels_of_blas_and_warns_of_slow_ones(tmp_path):
    free = dict.fromkeys(blas.FORCING, "")
    kernels, best = python(KERNELS, env=os.environ | free).stdout.split()
    assert f"usable: cpu; BLAS with {kernels} kernels" in succeed(
        tmp_path, "backends", run=run_process, **free
    )
    if kernels == "None" or best == "SSE":
        pytest.skip("no kernels of OpenBLAS for x86")
    forced = free | {"OPENBLAS_CORETYPE": "Nehalem", "OPENBLAS_L2_SIZE": "262144"}
    if python(KERNELS, env=os.environ | forced).stdout.split()[0] != "Nehalem":
        pytest.skip("this OpenBLAS has one set of kernels")
    assert (
        f"warning: BLAS multiplies with Nehalem kernels, by SSE, and this processor has {best}: "
        "OPENBLAS_CORETYPE=Nehalem and OPENBLAS_L2_SIZE=262144 force that; unset them\n"
    ) in succeed(tmp_path, "backends", run=run_process, **forced)


@pytest.mark.parametrize(
    ("kernels", "best", "text"),
    [
        ("Zen", "AVX-512", "by AVX2, and this processor has AVX-512: take a NumPy whose BLAS"),
        ("SkylakeX", "AVX-512", None),
        ("Zen", "AVX2", None),
        ("neoversev1", "SSE", None),
        (None, "AVX-512", None),
    ],
)
def test_slow_kernels_are_warned_of_where_nothing_forces_them(
    kernels, best, text, tmp_path, monkeypatch
):
    monkeypatch.setattr(blas, "kernels", lambda: kernels)
    monkeypatch.setattr(blas, "_processor", lambda: best)
    printed = succeed(tmp_path, "backends", **dict.fromkeys(blas.FORCING, ""))
    assert ("warning:" in printed) == bool(text)
    assert text is None or text in printed


@pytest.fixture(scope="module")
def losses(tmp_path_factory):
    """The losses and test figures of three epochs on NumPy."""
    return train_on(tmp_path_factory.mktemp("numpy"), "numpy")


def train_on(folder, backend, *options, **variables):
    succeed(
        folder, "train", "--backend", backend, "--epochs", 3, "--report", "report.json", *options,
        **variables,
    )  # fmt: skip
    report = json.loads((folder / "report.json").read_text())
    assert report["backend"] == backend
    assert report["device"] == "cpu"
    assert report["versions"][backend]
    figures = [[e["loss"], e["validation_loss"]] for e in report["history"]]
    return np.array([*figures, [report["test"]["loss"], report["test"]["loss"]]])


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_trains_the_digits_to_the_same_losses(tmp_path, losses, backend):
    require(backend)
    found = train_on(tmp_path, backend)
    np.testing.assert_allclose(found, losses, rtol=0, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_model_is_evaluated_alike_on_every_backend(trained_digits, printed, backend):
    require(backend)
    text = succeed(trained_digits, "evaluate", "model.safetensors", "--backend", backend)
    assert backend in text
    assert figure(text) == figure(printed.partition("\ntest ")[2])


def test_cupy_without_a_driver_is_one_line(tmp_path):
    if any(a.name == "cupy" and not a.problem for a in nnxp.backends.availability()):
        pytest.skip("there is a CUDA device here")
    line = fail(tmp_path, "train", "--backend", "cupy")
    assert "cupy" in line
    assert "install" in line
    assert not (tmp_path / "model.safetensors").exists()


def test_the_environment_sets_the_default_backend_and_device(tmp_path):
    require("array-api-strict")
    variables = {"NNXP_BACKEND": "array-api-strict", "NNXP_DEVICE": "device1"}
    text = succeed(tmp_path, "train", "--epochs", 1, **variables)
    assert re.search(r"on array-api-strict \S+ on device1", text)


def test_a_flag_wins_over_the_environment(tmp_path):
    variables = {"NNXP_BACKEND": "no-such", "NNXP_DEVICE": "nowhere"}
    flags = ["--backend", "numpy", "--device", "cpu"]
    text = succeed(tmp_path, "train", "--epochs", 1, *flags, **variables)
    assert re.search(r"on numpy \S+ on cpu", text)


def test_the_environment_is_read_by_evaluate_and_predict_too(trained_digits):
    require("array-api-strict")
    text = succeed(trained_digits, "evaluate", "model.safetensors", NNXP_BACKEND="array-api-strict")
    assert "array-api-strict" in text
    line = fail(trained_digits, "predict", "model.safetensors", "digits", NNXP_BACKEND="nunpy")
    assert "'numpy'" in line


def test_an_unknown_backend_in_the_environment_is_told_the_nearest(tmp_path):
    line = fail(tmp_path, "train", NNXP_BACKEND="torhc")
    assert "'torhc'" in line
    assert "'torch'" in line

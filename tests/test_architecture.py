"""The import rules of the package, read off its syntax trees."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import nnxp

ROOT = Path(nnxp.__file__).parent
LIBRARIES = {"numpy", "cupy", "torch", "jax", "array_api_strict"}
STANDARD = {"arrays", "errors", "options"}
ALLOWED = {
    # Where a module may import from, besides the standard library; imports run one way.
    "arrays": set(),
    "errors": set(),
    "options": {"errors"},
    "kernels.affine": {"arrays"},
    "kernels.activations": {"arrays"},
    "kernels.softmax": {"arrays"},
    "kernels.dropout": {"arrays"},
    "kernels.losses": {"arrays", "kernels.activations", "kernels.softmax"},
    "objectives": {"arrays", "kernels", "options"},
    "optimizers": {"arrays", "errors", "options"},
    "initializers": {"linalg", "options"},
    "linalg": {"arrays", "errors"},
    "history": {"diagnostics", "errors", "metrics", "options"},
    "schedules": {"errors", "history", "options"},
    "regularization": {"arrays", "errors", "kernels", "linalg", "optimizers", "options"},
    "randomness": {"options"},
    "batches": {"randomness"},
    "feeding": {"arrays", "batches", "backends.base", "backends.staging"},
    "nested": {"arrays"},
    "backends.staging": {"arrays"},
}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "nnxp":
                found |= {f"nnxp.{alias.name}" for alias in node.names}
            else:
                found.add(node.module or "")
    return found


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


MODULES = {module_name(path): imports(path) for path in ROOT.rglob("*.py")}


@pytest.mark.parametrize("module", ALLOWED)
def test_imports_run_one_way(module):
    ours = {name.removeprefix("nnxp.") for name in MODULES[module] if name.startswith("nnxp")}
    assert ours <= ALLOWED[module]


def test_no_kernel_names_an_array_library():
    kernels = [module for module in MODULES if module.startswith("kernels.")]
    assert len(kernels) >= 5
    for module in kernels:
        assert not {name.split(".")[0] for name in MODULES[module]} & (
            LIBRARIES | {"array_api_compat"}
        )


def test_only_backends_name_other_array_libraries_than_numpy():
    for module, found in MODULES.items():
        named = {name.split(".")[0] for name in found} & (LIBRARIES - {"numpy"})
        assert not named or module.startswith(("backends.", "executors.")), (
            f"{module} imports {named}"
        )


def test_array_api_compat_has_one_door():
    users = {m for m, found in MODULES.items() if any("array_api_compat" in n for n in found)}
    assert {m for m in users if not m.startswith(("backends.", "executors."))} == {"arrays"}


def test_backends_know_nothing_of_networks_and_training():
    for module, found in MODULES.items():
        if module.startswith("backends."):
            ours = {name.removeprefix("nnxp.") for name in found if name.startswith("nnxp")}
            below = ("backends", "executors", "nested")
            others = {name for name in ours - STANDARD if not name.startswith(below)}
            assert not others, f"{module} imports {others}"


def test_executors_know_nothing_of_backends_networks_and_training():
    for module, found in MODULES.items():
        if module.startswith("executors."):
            ours = {name.removeprefix("nnxp.") for name in found if name.startswith("nnxp")}
            below = ("executors", "nested")
            others = {name for name in ours - STANDARD if not name.startswith(below)}
            assert not others, f"{module} imports {others}"


@pytest.mark.parametrize(
    "module",
    ["backends.base", "executors.__init__", "executors.eager", "executors.fusion",
     "executors.cuda_graph"],
)  # fmt: skip
def test_what_all_libraries_share_names_none_of_them(module):
    assert not {name.split(".")[0] for name in MODULES[module]} & LIBRARIES


def test_nothing_imports_the_command_line_and_training_imports_no_user_of_it():
    for module, found in MODULES.items():
        assert "nnxp.cli" not in found, module
    assert not MODULES["network"] & {"nnxp.training", "nnxp.datasets"}
    assert "nnxp.training" not in MODULES["checkpoint"]


def test_import_nnxp_is_light():
    heavy = ("torch", "jax", "cupy", "array_api_strict", "typer", "rich", "pooch", "requests",
             "safetensors", "sklearn", "matplotlib")  # fmt: skip
    code = (
        "import sys, nnxp; [getattr(nnxp, name) for name in nnxp.__all__];"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_model_or_data_is_loaded_by_running_it():
    for path in ROOT.rglob("*.py"):
        names = {n.id for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Name)}
        assert not names & {"eval", "exec", "pickle"}, path
        assert "allow_pickle=True" not in path.read_text()

"""The import rules of the package, read off its syntax trees."""

import ast
from pathlib import Path

import pytest
from processes import python

import nnxp

ROOT = Path(nnxp.__file__).parent
LIBRARIES = {"numpy", "cupy", "torch", "jax", "array_api_strict"}
FLOORS = [
    # From the ground up. A module imports from floors below its own, and from its own floor where
    # that makes no circle. A name stands for a module or for all modules of a folder.
    {"arrays", "concurrency", "errors", "extras", "files", "html", "names", "nested",
     "npz", "options", "randomness", "registry", "safetensors", "strict_json"},
    {"distributed", "kernels", "linalg"},
    {"executors"},
    {"backends"},
    {"initializers", "objectives", "optimizers", "preprocessing", "regularization",
     "target_scaling"},
    {"checkpoint", "class_weights", "data", "metrics", "predictions", "summary", "weights"},
    {"augmentation", "network", "running"},
    {"perceptron", "registration", "state", "gradient_check"},
    {"diagnostics", "divergence"},
    {"history"},
    {"callbacks", "progress", "ranks", "reports", "resuming", "schedules", "step"},
    {"training", "learning_rate_finder"},
    {"testing", "sklearn"},
    {"datasets"},
    {"onnx", "plots"},
    {"benchmark"},
    {"cli"},
    {"__main__"},
]  # fmt: skip


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


MODULES = {module_name(path): imports(path) for path in ROOT.rglob("*.py")}


def ours(module: str) -> set[str]:
    """The modules of nnxp that a module imports, function-level imports and types included."""
    names = {name.removeprefix("nnxp.") for name in MODULES[module] if name.startswith("nnxp.")}
    found = set()
    for name in names:  # "data.batches.split" is of the module "data.batches"
        while name and name not in MODULES and f"{name}.__init__" not in MODULES:
            name = name.rpartition(".")[0]
        found.add(name if name in MODULES else f"{name}.__init__")
    return found - {module, ".__init__"}


def floor(module: str) -> int:
    place = module.partition(".")[0]
    (found,) = (number for number, names in enumerate(FLOORS) if place in names)
    return found


def test_every_module_has_a_floor():
    for module in set(MODULES) - {"__init__"}:
        assert floor(module) >= 0, module


def test_no_import_runs_up():
    for module in set(MODULES) - {"__init__"}:
        for other in ours(module):
            assert floor(other) <= floor(module), f"{module} imports {other}, from a floor above"


def test_no_imports_run_in_a_circle():
    rest = {module: ours(module) for module in MODULES if module != "__init__"}
    while leaves := [module for module, found in rest.items() if not found & rest.keys()]:
        for module in leaves:
            del rest[module]
    assert not rest, f"these import each other: {sorted(rest)}"


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
        assert not named or module.startswith(("backends.", "distributed.", "executors.")), (
            f"{module} imports {named}"
        )


def test_array_api_compat_has_one_door():
    users = {m for m, found in MODULES.items() if any("array_api_compat" in n for n in found)}
    assert {m for m in users if not m.startswith(("backends.", "executors."))} == {"arrays"}


@pytest.mark.parametrize(
    "module",
    ["backends.base", "executors.__init__", "executors.eager", "executors.fusion",
     "executors.cuda_graph"],
)  # fmt: skip
def test_what_all_libraries_share_names_none_of_them(module):
    assert not {name.split(".")[0] for name in MODULES[module]} & LIBRARIES


def test_import_nnxp_is_light():
    heavy = ("torch", "jax", "cupy", "array_api_strict", "typer", "rich", "pooch", "requests",
             "safetensors", "sklearn", "matplotlib", "tensorboard", "pyarrow", "pandas",
             "polars")  # fmt: skip
    code = (
        "import sys, nnxp; [getattr(nnxp, name) for name in nnxp.__all__];"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = python(code)
    assert done.stderr == ""
    assert done.stdout.strip() == "[]"


LOADING = (
    "checkpoint", "resuming", "safetensors", "strict_json", "npz", "files", "weights.", "datasets.",
)  # fmt: skip
"""The modules that read files which others wrote."""
RUNNING = {
    "code", "cloudpickle", "ctypes", "dill", "imp", "importlib", "joblib", "marshal", "pickle",
    "pty", "runpy", "shelve", "socket", "subprocess", "yaml",
}  # fmt: skip
"""What these may not import, since it runs, loads or fetches something."""
MAY_IMPORT = {
    "weights.__init__": {"importlib"},  # a module of nnxp.weights, for one of five formats
    "datasets.csv_arrow": {"importlib"},  # whether pyarrow is there
    "datasets.digits": {"importlib"},  # a file of the package
}


@pytest.mark.promise("nothing runs")
def test_no_model_or_data_is_loaded_by_running_it(cases):
    for path in ROOT.rglob("*.py"):
        module = module_name(path)
        nodes = list(ast.walk(ast.parse(path.read_text())))
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        imported = {name.split(".")[0] for name in MODULES[module]}
        names |= imported
        with cases(module):
            assert not names & {"eval", "exec", "pickle", "marshal", "shelve", "joblib", "yaml"}
            assert "allow_pickle=True" not in path.read_text()
            assert not {ast.unparse(each.func) for each in nodes if isinstance(each, ast.Call)} & {
                "torch.load", "compile", "__import__", "os.system", "os.popen", "builtins.eval",
                "builtins.exec",
            }  # fmt: skip
            if module.startswith(LOADING):
                assert not imported & RUNNING - MAY_IMPORT.get(module, set())

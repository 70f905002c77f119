"""Mutation testing: change nnxp's code in one place and see whether a test fails; see ci/mutation.

A test that fails, or takes longer than `LONGEST`, kills a mutant. The tests run in a copy of the
sources, in a fork of this process, which has the large libraries loaded. Those that killed others
run first.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import pytest
from mutants import Mutant, mutants

ROOT = Path(__file__).parents[1]
SURVIVORS = ROOT / "ci" / "mutation-survivors.md"
LONGEST = 30
"""Seconds for a test."""
PR_SET_CHILD_SUBREAPER = 36
"""Of Linux's prctl.h."""
KERNELS = ("test_kernels", "test_gradients")
TESTS = {
    "nnxp/kernels/__init__.py": KERNELS,
    "nnxp/kernels/activations.py": KERNELS,
    "nnxp/kernels/affine.py": KERNELS,
    "nnxp/kernels/dropout.py": (*KERNELS, "test_regularization"),
    "nnxp/kernels/losses.py": KERNELS,
    "nnxp/kernels/softmax.py": KERNELS,
    "nnxp/strict_json.py": ("test_strict_json", "test_loading"),
    "nnxp/safetensors.py": ("test_safetensors", "test_checkpoint", "test_loading"),
    "nnxp/files.py": ("test_files", "test_checkpoint", "test_resuming"),
    "nnxp/checkpoint.py": ("test_checkpoint", "test_loading", "test_registration"),
    "nnxp/resuming.py": ("test_resuming", "test_loading"),
    "nnxp/divergence.py": ("test_divergence",),
}
"""The tests that concern each module."""
CHOICE = "not torch and not jax and not cupy and not 2024.12 and not 2025.12"
"""NumPy, array-api-strict of one version and with less than the standard has, and its device1."""
LARGE = (
    *("numpy", "array_api_compat", "array_api_strict", "safetensors.numpy", "mpmath"),
    *("hypothesis.strategies", "asyncio", "email.message", "http.client", "unittest.mock"),
)
"""What most tests import, and takes long."""


class Order:
    """A plugin for pytest: the likely killers first, and what runs is noted.

    Those are the tests that name the changed function, of which those that killed others; then one
    case of each test, before the second of any.
    """

    def __init__(self, killers: list[str], function: str, note: Path) -> None:
        self.killers = {name: place for place, name in enumerate(killers)}
        self.word = re.sub(r".*\.|^_|_(backward|gradient)$", "", function)
        self.note = note

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        turns: Counter[tuple[str, bool]] = Counter()
        places = {}
        for item in items:
            test, other = item.nodeid.partition("[")[0], self.word not in item.nodeid
            killed = self.killers.get(item.nodeid, len(self.killers))
            places[item] = other, killed, turns[test, other]
            turns[test, other] += 1
        items.sort(key=places.__getitem__)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.note.write_text(nodeid)
        signal.alarm(LONGEST)  # its default action ends the process


def adopt() -> None:
    """Make this process the parent of what its children leave behind, in whatever session it is."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def end_children() -> None:
    """Kill each child of this process, and what it leaves behind, until there is none."""
    while children := Path("/proc/thread-self/children").read_text().split():
        for child in map(int, children):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


class Copy:
    """A copy of the sources, in which tests run on changed modules."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        leave = shutil.ignore_patterns("__pycache__", "*.safetensors")
        for name in ("nnxp", "tests"):
            shutil.copytree(ROOT / name, folder / name, ignore=leave)
        shutil.copy(ROOT / "pyproject.toml", folder)
        os.chdir(folder)
        sys.dont_write_bytecode = False
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        sys.path[:0] = [str(folder)]
        os.environ |= {"PYTHONPATH": str(folder), "NNXP_REQUIRE": "numpy,array-api-strict"}
        for name in LARGE:
            importlib.import_module(name)

    def put(self, module: str, source: str) -> None:
        """Write a module; Python would not see the change of one compiled in the same second."""
        path = self.folder / module
        path.write_text(source)
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            compiled.unlink()

    def test(self, arguments: list[str], killers: list[str], function: str = "") -> tuple[int, str]:
        """Run pytest in a fork; return its exit code, or -signal, and the last test that ran."""
        note, log = self.folder / "running", self.folder / "log"
        note.write_text("")
        child = os.fork()
        if not child:
            code = 3
            try:
                os.setsid()
                handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(handle, 1)
                os.dup2(handle, 2)
                options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", CHOICE]
                options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of LARGE
                options += ["--basetemp", str(self.folder / "tmp")]
                code = pytest.main(options + arguments, plugins=[Order(killers, function, note)])
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(int(code))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        end_children()
        return code, note.read_text()

    def tail(self) -> str:
        """What pytest printed last."""
        return (self.folder / "log").read_text(errors="replace")[-3000:]


def listed() -> dict[str, set[str]]:
    """Return the names of the survivors that are listed with a reason, by module."""
    found: dict[str, set[str]] = {}
    module = ""
    for line in SURVIVORS.read_text().splitlines():
        if line.startswith("## "):
            module = line[3:].strip()
        elif match := re.match(r"- `(.+?: .+? -> .+?)`:", line):
            found.setdefault(module, set()).add(match[1])
    return found


def choose(every: list[Mutant], known: set[str], sample: int | None, quick: bool) -> list[Mutant]:
    """Return the mutants to test: all, or a sample."""
    ranked = sorted(every, key=lambda mutant: mutant.rank)
    if quick:
        # Those of public functions, whose tests have their names, and so are found at once.
        fast = [
            each
            for each in ranked
            if "_" not in (each.function[0], each.function.split(".")[-1][0])
        ]
        return [each for each in fast if each.name not in known][: 1 + (len(every) > 100)]
    return ranked[:sample] if sample else every


def run(copied: Copy, module: str, chosen: list[Mutant]) -> list[Mutant]:
    """Test mutants of a module, print what came of each, and return the survivors."""
    tests = [f"tests/{name}.py" for name in TESTS[module]]
    killers: list[str] = []
    survivors = []
    for mutant in chosen:
        copied.put(module, mutant.source())
        began = time.monotonic()
        code, killer = copied.test(tests, killers, mutant.function)
        seconds = time.monotonic() - began
        if code == pytest.ExitCode.NO_TESTS_COLLECTED:
            sys.exit(f"{module}: no tests in {tests}\n{copied.tail()}")
        if not code:
            survivors.append(mutant)
            result = "SURVIVED"
        else:
            result = f"killed {'by time ' if code < 0 else ''}by {killer or 'its import'}"
        if code and killer:
            killers = [killer, *(each for each in killers if each != killer)]
        print(f"{module}:{mutant.line}: `{mutant.name}`: {result}, {seconds:.1f} s", flush=True)
    # What kills must pass on the code as it is: else it says nothing.
    copied.put(module, (ROOT / module).read_text())
    code, failed = copied.test(killers or [*tests, "--collect-only"], [])
    if code:
        sys.exit(f"{failed or module} fails on the code as it is\n{copied.tail()}")
    return survivors


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="ci/mutation", description="Mutation testing of nnxp.")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"part of {', '.join(TESTS)}")
    parser.add_argument("--sample", type=int, metavar="N", help="test N mutants of each module")
    parser.add_argument("--quick", action="store_true", help="test one or two of each module")
    parser.add_argument("--only", default="", metavar="TEXT", help="test those named so")
    given = parser.parse_args()
    names = [name for name in TESTS if any(each in name for each in given.modules or [""])]
    reasons = listed()
    table, surprises = [], []
    adopt()
    with tempfile.TemporaryDirectory() as folder:
        copied = Copy(Path(folder).resolve())
        for module in names:
            every = [each for each in mutants(ROOT / module, module) if given.only in each.name]
            known = reasons.get(module, set())
            chosen = choose(every, known, given.sample, given.quick)
            survivors = run(copied, module, chosen)
            killed = len(chosen) - len(survivors)
            table.append(f"{module}: {killed} of {len(chosen)} killed; it has {len(every)} mutants")
            surprises += [each for each in survivors if each.name not in known]
        os.chdir(ROOT)
    print(*table, sep="\n")
    for each in surprises:
        print(f"{each.module}:{each.line}: survived: `{each.name}`")
    if surprises:
        sys.exit(f"{len(surprises)} survived: add tests, or reasons to ci/{SURVIVORS.name}")


if __name__ == "__main__":
    main()

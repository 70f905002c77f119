"""Whether the tests have teeth: they fail where the code is changed."""

import os
import re
import sys
from pathlib import Path

import pytest
from processes import completed, python

ROOT = Path(__file__).parents[1]


@pytest.fixture
def mutate(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "ci")
    return __import__("mutate")


@pytest.mark.slow
@pytest.mark.promise("teeth")
def test_changes_of_the_code_are_noticed(mutate, cases):
    modules = cases.drawn(mutate.TESTS, 3)
    command = [sys.executable, "ci/mutate.py", "--quick", *modules]
    done = completed(command, cwd=ROOT, timeout=600)
    found = re.findall(r"^(.+): (killed|SURVIVED)", done.stdout, re.MULTILINE)
    assert found, done.stderr
    for mutant, result in found:
        with cases(mutant):
            assert result == "killed"
    assert done.returncode == 0, done.stderr


LEFT_BEHIND = """
import os, subprocess, sys
import mutate

mutate.adopt()
if not os.fork():  # it ends before what it started, which is in a session of its own
    null = subprocess.DEVNULL
    left = subprocess.Popen(["sleep", "600"], stdout=null, stderr=null, start_new_session=True)
    print(left.pid, flush=True)
    os._exit(0)
os.wait()
mutate.end_children()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's prctl")
def test_no_process_of_a_mutants_tests_is_left():
    env = {**os.environ, "PYTHONPATH": str(ROOT / "ci")}
    done = python(LEFT_BEHIND, env=env)
    assert done.returncode == 0, done.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_listed_survivors_are_changes_of_the_code_as_it_is(mutate):
    for module, names in mutate.listed().items():
        assert names <= {each.name for each in mutate.mutants(ROOT / module, module)}, module


def test_changes_leave_docstrings_annotations_and_messages(mutate, tmp_path):
    code = (
        "def f(x: int = 1) -> int | None:\n"
        '    """Add 1."""\n'
        "    if x < 2:\n"
        "        raise ValueError(f'{x + 1:,} is under {2}')\n"
        "    return g(x, y=True)"
    )
    (tmp_path / "code.py").write_text(code)
    assert [mutant.name for mutant in mutate.mutants(tmp_path / "code.py", "code.py")] == [
        "f: 1 -> 2",
        "f: x < 2 -> x <= 2",
        "f: x < 2 -> x < 3",
        "f: raise ValueError(f'{x + 1:,} is under {2}') -> nothing",
        "f: return g(x, y=True) -> return None",
        "f: g(..., y=True) -> g(...)",
        "f: True -> False",
    ]

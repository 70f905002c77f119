"""How the tests are run: samples of cases, and what is left out."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import completed, python
from promises import Cases


def test_a_sample_has_a_case_of_each_part_and_is_the_same_in_every_run():
    sample = Cases().drawn(range(1003), 10)
    assert [case // 10 for case in sample] == list(range(101))
    assert len({case % 10 for case in sample}) == 10
    assert sample == Cases().drawn(iter(range(1003)), 10)


def test_every_case_is_drawn_where_it_is_asked_for():
    assert Cases(every=True).drawn(iter("abc"), 2) == ["a", "b", "c"]


@pytest.mark.slow
def test_what_passed_before_is_left_out(tmp_path):
    tests = Path(__file__).parent
    (tmp_path / "conftest.py").symlink_to(tests / "conftest.py")
    environment = os.environ | {"PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}"}
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('x', ['a.b', 'c'])\n"
        "def test_passes(x): pass\n"
        "def test_fails(): assert False\n"
        "def test_is_skipped(): pytest.skip()\n"
        "class TestOfAClass:\n"
        "    def test_passes(self): pass\n"
    )

    def run(option):
        command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", option]
        done = completed(command, cwd=tmp_path, env=environment)
        found = re.findall("^test_some.py::(.*) [A-Z]+", done.stdout, re.MULTILINE)
        return found, done.stdout + done.stderr

    ran, text = run("--junitxml=results.xml")
    assert len(ran) == 5, text
    ran, text = run("--except-passed=results.xml")
    assert ran == ["test_fails", "test_is_skipped", "TestOfAClass::test_passes"], text
    assert "2 deselected" in text


def test_a_command_that_takes_too_long_ends_with_what_it_started():
    """`subprocess.run` would wait for its child, which has the pipes, too."""
    begin = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        completed(["bash", "-c", "sleep 60 & sleep 60"], timeout=0.2)
    assert time.monotonic() - begin < 20


def test_a_program_that_hangs_shows_where():
    with pytest.raises(AssertionError, match=r"more than 1 seconds: (?s:.*)line 2 in hang"):
        python("import time\ndef hang(): time.sleep(60)\nhang()", timeout=1)


@pytest.mark.slow
def test_a_test_that_hangs_is_named_and_fails(tmp_path):
    (tmp_path / "test_some.py").write_text(
        "import time\ndef test_hangs(): time.sleep(60)\ndef test_passes(): pass\n"
    )
    config = Path(__file__).parents[1] / "pyproject.toml"
    options = ["-c", config, "--rootdir=.", "-n1", "-o", "faulthandler_timeout=1", "test_some.py"]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]
    done = completed(command, cwd=tmp_path)
    assert done.returncode == 1
    assert "crashed while running 'test_some.py::test_hangs'" in done.stdout, done.stdout
    assert "1 failed, 1 passed" in done.stdout
    assert "line 2 in test_hangs" in done.stderr

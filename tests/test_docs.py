"""The reference names everything public, and everything that it shows has an example."""

import inspect
import pkgutil
import re
from pathlib import Path

import pytest
from promises import PROMISES

import nnxp

PAGES = Path(__file__).parent.parent / "docs" / "pages"
BLOCK = re.compile(r"^::: (\S+)\n((?:    .*\n)*)", re.M)


def shown():
    """What the reference shows: the objects by the name that the page gives."""
    found = {}
    for page in sorted((PAGES / "reference").glob("*.md")):
        for name, options in BLOCK.findall(page.read_text("utf-8")):
            if name.startswith("nnxp.sklearn"):
                pytest.importorskip("sklearn", minversion="1.9")
            value = found[name] = pkgutil.resolve_name(name)
            if inspect.ismodule(value):
                members = re.search(r"members: \[([^]]*)\]", options)
                names = members[1].split(", ") if members else own(value)
                found |= {f"{name}.{each}": getattr(value, each) for each in names}
    return found


def own(module):
    """The public functions and classes that a module defines."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


@pytest.fixture(scope="module")
def reference():
    return shown()


def test_the_reference_shows_every_public_name(reference):
    in_pages = {id(value) for value in reference.values()}
    kernels = {id(getattr(nnxp.kernels, name)) for name in nnxp.kernels.__all__}
    assert len(kernels - in_pages) == 1  # ACTIVATIONS, which is in names.md
    for name in set(nnxp.__all__) - {"kernels"}:
        assert id(getattr(nnxp, name)) in in_pages, f"docs/pages/reference does not show {name}"


def test_everything_in_the_reference_has_an_example(reference):
    """In its own docstring; a function also in that of its module."""
    without = [
        name
        for name, value in reference.items()
        if callable(value)
        and ">>>" not in (value.__doc__ or "")
        and ">>>" not in (inspect.getmodule(value).__doc__ or "")
    ]
    assert without == []


def test_every_file_that_a_page_names_is_there():
    root = PAGES.parent.parent
    named = {
        path
        for page in PAGES.rglob("*.md")
        for path in re.findall(
            r"`((?:nnxp|bench|ci|docs|examples)/[\w/.]+)`", page.read_text("utf-8")
        )
    }
    assert len(named) > 15
    assert [path for path in sorted(named) if not (root / path).exists()] == []


def test_the_page_of_promises_has_each_of_them_tried_and_kept():
    """Run `ci/reliability` where this fails."""
    text = (PAGES / "reliability.md").read_text("utf-8")
    rows = re.findall(r"^\| (.*) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", text, re.M)
    assert [row[0] for row in rows] == [*PROMISES.values(), "All of them"]
    for promise, tests, cases, failed in rows:
        assert int(tests.replace(",", "")) <= int(cases.replace(",", "")), promise
        assert tests != "0", promise
        assert failed == "0", promise

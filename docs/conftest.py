"""Run the Python of every page: a page is one session, from its top to its end, in a new folder."""

import os
import re
import tempfile
from doctest import ELLIPSIS
from typing import Any

from sybil import Sybil
from sybil.parsers.abstract.codeblock import (
    AbstractCodeBlockParser,
    PythonDocTestOrCodeBlockParser,
)
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer
from sybil.typing import Evaluator


class FencedPython(AbstractCodeBlockParser):
    """Find blocks called `python` or `pycon` (with prompts and output), with or without a title."""

    language = "py"

    def __init__(self, _: str, evaluator: Evaluator) -> None:
        fence = re.compile(r"(?P<arguments>py)(thon|con)( title=.*)?$\n", re.M)
        super().__init__([RawFencedCodeBlockLexer(fence)], evaluator=evaluator)


class PythonParser(PythonDocTestOrCodeBlockParser):
    """Run these blocks."""

    codeblock_parser_class = FencedPython


def enter_folder(session: dict[str, Any]) -> None:
    """Enter a new folder, for the files that a page writes."""
    session["__folder"] = tempfile.TemporaryDirectory(), os.getcwd()
    os.chdir(session["__folder"][0].name)


def leave_folder(session: dict[str, Any]) -> None:
    """Go back, and remove the folder."""
    folder, before = session["__folder"]
    os.chdir(before)
    folder.cleanup()


pytest_collect_file = Sybil(
    parsers=[PythonParser(doctest_optionflags=ELLIPSIS)],
    setup=enter_folder,
    teardown=leave_folder,
    path="pages",
    pattern="*.md",
).pytest()

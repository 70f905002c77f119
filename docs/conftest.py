"""Run the Python of every page: a page is one session, from its top to its end."""

import re
from doctest import ELLIPSIS

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


pytest_collect_file = Sybil(
    parsers=[PythonParser(doctest_optionflags=ELLIPSIS)],
    path="pages",
    pattern="*.md",
).pytest()

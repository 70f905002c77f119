"""Turn the formulas of a page into MathML while the site is built: browsers draw it themselves.

The extension `pymdownx.arithmatex` finds the formulas and leaves their LaTeX in the page.
"""

import re
from html import unescape

from latex2mathml.converter import convert

FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<latex>.*?)\\[)\]]</(?P=tag)>', re.S
)


def on_page_content(html: str, **_: object) -> str:
    """Replace each formula."""
    return FORMULA.sub(_mathml, html)


def _mathml(found: re.Match[str]) -> str:
    display = "block" if found["tag"] == "div" else "inline"
    return convert(unescape(found["latex"]), display=display)

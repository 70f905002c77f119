"""Draw the formulas of a page while the site is built: readers need no script and no font.

The extension `pymdownx.arithmatex` finds the formulas and leaves their LaTeX in the page.
"""

import re
from html import unescape
from xml.etree import ElementTree

import ziamath

FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<latex>.*?)\\[)\]]</(?P=tag)>', re.S
)
SIZE = 100  # units of an em

ziamath.config.svg2 = False  # glyphs as paths: identifiers would not be unique in a page


def on_page_content(html: str, **_: object) -> str:
    """Replace each formula by a picture of it."""
    return FORMULA.sub(_picture, html)


def _picture(found: re.Match[str]) -> str:
    latex, tag = unescape(found["latex"]).strip(), found["tag"]
    formula = ziamath.Latex(latex, size=SIZE, inline=tag == "span")
    svg = formula.svgxml()
    svg.set("role", "img")
    svg.set("aria-label", latex)
    for length in ("width", "height"):
        svg.set(length, f"{float(svg.get(length, 0)) / SIZE:.3f}em")
    svg.set("style", f"vertical-align: {formula.getyofst() / SIZE:.3f}em")
    return f'<{tag} class="formula">{ElementTree.tostring(svg, "unicode")}</{tag}>'

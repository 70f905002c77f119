"""Tables in HTML, for notebooks."""

from collections.abc import Sequence
from html import escape


def table(rows: Sequence[Sequence[str]], headings: Sequence[str] = ()) -> list[str]:
    """Return the lines of an HTML table of texts, with a row of headings unless there are none."""
    head = [f"<thead><tr>{_cells('th', headings)}</tr></thead>"] if headings else []
    body = [f"<tr>{_cells('td', row)}</tr>" for row in rows]
    return ["<table>", *head, "<tbody>", *body, "</tbody>", "</table>"]


def _cells(tag: str, texts: Sequence[str]) -> str:
    return "".join(f"<{tag}>{escape(text)}</{tag}>" for text in texts)

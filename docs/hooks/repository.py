"""Pages that are files of the repository, so that nothing is written twice.

A link from one of them to another page of the site leads there; a link to any other file of the
repository leads to a copy of it in the site.
"""

import posixpath
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "guides/readme.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "bench/README.md": "project/speed.md",
    "bench/results/README.md": "project/results.md",
}
LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)([^)#\s]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages, and copies of the files that they link to."""
    for source, page in PAGES.items():
        linked: set[str] = set()
        text = "\n".join(_indented((ROOT / source).read_text("utf-8")))
        text = LINK.sub(partial(_link, source, page, linked), text)
        files.append(File.generated(config, page, content=text))
        for path in sorted(linked):
            if files.get_file_from_path(f"files/{path}") is None:
                copy = str(ROOT / path)
                files.append(File.generated(config, f"files/{path}", abs_src_path=copy))
    return files


def _indented(text: str) -> Iterator[str]:
    """Yield the lines as Python-Markdown wants them.

    What belongs to an item of a list is indented by four spaces, not two. After an item of several
    paragraphs, a blank line precedes the next one.
    """
    fence: int | None = None
    has_paragraphs, previous = False, ""
    for line in text.splitlines():
        indentation = len(line) - len(line.lstrip(" "))
        is_item = line.lstrip().startswith("- ")
        if has_paragraphs and is_item and previous:
            yield ""
        yield " " * (indentation if fence is None else fence) + line
        if line.lstrip().startswith("```"):
            fence = indentation if fence is None else None
        if line and not indentation and not is_item:
            has_paragraphs = False
        elif indentation and not previous:
            has_paragraphs = True
        previous = line


def _link(source: str, page: str, linked: set[str], found: re.Match[str]) -> str:
    """Return a link of `source` as `page` must have it; add to `linked` what is not in the site."""
    text, link, anchor = found[1], found[2], found[3] or ""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    if (ROOT / path).is_dir():
        path += "/README.md"
        if path not in PAGES:  # a folder of files, which the site does not show
            return text
    target = PAGES.get(path) or path.removeprefix("docs/pages/")
    if target == path:
        linked.add(path)
        target = f"files/{path}"
    return f"[{text}]({posixpath.relpath(target, posixpath.dirname(page))}{anchor})"

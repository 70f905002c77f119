"""Draw the site's pictures: each public function of a file in docs/pictures gives NAME.svg."""

import io
import runpy
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from nnxp import plots

FOLDER = Path(__file__).parents[1] / "pictures"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pictures."""
    for draw in _functions():
        picture = io.BytesIO()
        with plots.styled():
            draw().savefig(picture, format="svg", metadata={"Date": None})
        path = f"pictures/{draw.__name__}.svg"
        files.append(File.generated(config, path, content=picture.getvalue()))
    return files


def _functions() -> Iterator[FunctionType]:
    for path in sorted(FOLDER.glob("*.py")):
        for name, value in runpy.run_path(str(path), run_name=path.stem).items():
            is_its_own = isinstance(value, FunctionType) and value.__module__ == path.stem
            if is_its_own and not name.startswith("_"):
                yield value

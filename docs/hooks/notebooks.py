"""Run the notebooks of docs/notebooks, and show each with its outputs; a cell must not fail.

They are kept as Python files, by jupytext. The page of a notebook begins with a link to it.
"""

from pathlib import Path

import jupytext
import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

FOLDER = Path(__file__).parents[1] / "notebooks"
SETUP = "%matplotlib inline\n%config InlineBackend.figure_formats = ['svg']"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page, its pictures and the notebook itself for each file."""
    for source in sorted(FOLDER.glob("*.py")):
        name, notebook = source.stem, jupytext.read(source)
        notebook.cells.insert(0, nbformat.v4.new_code_cell(SETUP))
        quiet = ["--log-level=ERROR"]
        client = NotebookClient(notebook, timeout=120, coalesce_streams=True, extra_arguments=quiet)
        client.execute(cwd=FOLDER)
        del notebook.cells[0]
        text, resources = MarkdownExporter().from_notebook_node(
            notebook, {"output_files_dir": f"{name}_files"}
        )
        title, _, rest = text.lstrip().partition("\n")
        text = f"{title}\n\n[Download the notebook]({name}.ipynb){{ .md-button download }}\n{rest}"
        files.append(File.generated(config, f"notebooks/{name}.md", content=text))
        files.append(
            File.generated(config, f"notebooks/{name}.ipynb", content=nbformat.writes(notebook))
        )
        for path, content in resources["outputs"].items():
            files.append(File.generated(config, f"notebooks/{path}", content=content))
    return files

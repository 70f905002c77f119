"""Write the page of the command line from the commands themselves, so that it never differs."""

import contextlib
import html
import io
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from nnxp import cli

PAGE = "reference/command-line.md"
INTRODUCTION = """# Command line

What `nnxp COMMAND --help` says. `python -m nnxp` is the same command. Bad input ends with one line
and exit status 2.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page."""
    group = typer.main.get_command(cli.app())
    above = group.make_context("nnxp", [], resilient_parsing=True)
    text = "\n".join([INTRODUCTION, *_sections(group, above)])
    files.append(File.generated(config, PAGE, content=text))
    return files


def _sections(group: Any, above: Any) -> Iterator[str]:
    """Yield the lines of each command of a group."""
    for name in group.list_commands(above):
        command = group.get_command(above, name)
        context = type(above)(command, info_name=name, parent=above)
        with contextlib.redirect_stdout(io.StringIO()):
            command.get_help(context)  # puts the names of the registries into the options' help
        usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
        yield f"\n## {context.command_path}\n\n{command.help}\n\n```text\n{usage}\n```\n"
        if hasattr(command, "list_commands"):
            yield from _sections(command, context)
        else:
            yield from _tables(command, context)


def _tables(command: Any, context: Any) -> Iterator[str]:
    """Yield a table for each panel of a command's `--help`."""
    records = [
        (getattr(each, "rich_help_panel", None) or _kind(each), each.get_help_record(context))
        for each in command.get_params(context)
    ]
    for panel, rows in groupby(records, key=lambda record: record[0]):
        yield f'<div class="options" markdown>\n\n| {panel} | |\n|---|---|'
        for _, (names, meaning) in filter(lambda row: row[1], rows):
            codes = " ".join(f"`{name}`" for name in names.split(" / "))
            yield f"| {_cell(codes)} | {_cell(html.escape(meaning))} |"
        yield "\n</div>\n"


def _kind(parameter: Any) -> str:
    return "Arguments" if parameter.param_type_name == "argument" else "Options"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")

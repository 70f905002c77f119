"""Options of commands: how they are declared, and those that several commands share.

A command is a function of its options, or of one dataclass of them; `Annotated` types say how each
is read and explained. Help is made from the registries of what can be chosen.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from nnxp import backends, datasets
from nnxp.errors import InputError, shown
from nnxp.kernels import ACTIVATIONS
from nnxp.objectives import LOSSES
from nnxp.options import LARGEST

# The panels of `--help`.
DATA = "Data"
NETWORK = "Network"
TRAINING = "Training"
REGULARISATION = "Regularisation"
DEVICE = "Device"
OUTPUT = "Output"


def text(panel: str, metavar: str, help: str, *names: str, **settings: Any) -> Any:
    """Declare an option that takes text, which `--help` calls `metavar`."""
    return typer.Option(*names, metavar=metavar, help=help, rich_help_panel=panel, **settings)


def whole(panel: str, help: str, *names: str) -> Any:
    """Declare an option that takes a whole number."""
    return text(panel, "INTEGER", help, *names, parser=_whole)


def number(panel: str, help: str, *names: str, metavar: str = "NUMBER") -> Any:
    """Declare an option that takes a number."""
    return text(panel, metavar, help, *names, parser=_number)


def flag(panel: str, help: str, *names: str) -> Any:
    """Declare an option that takes no value."""
    return typer.Option(*names, help=help, rich_help_panel=panel)


def _whole(value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise typer.BadParameter(f"{shown(value)} is not a whole number") from None


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise typer.BadParameter(f"{value!r} is not a number") from None


def either(names: Iterable[str]) -> str:
    """Join names for help: "a, b or c"."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def from_record(function: Callable[[Any], None]) -> Callable[..., None]:
    """Turn a function of one dataclass into a function of the dataclass's fields."""
    (parameter,) = inspect.signature(function).parameters
    record = get_type_hints(function)[parameter]
    hints = get_type_hints(record, include_extras=True)
    fields = dataclasses.fields(record)

    @wraps(function)
    def command(**values: Any) -> None:
        function(record(**values))

    keyword, missing = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.empty
    defaults = [
        missing if field.default is dataclasses.MISSING else field.default for field in fields
    ]
    signature = inspect.Signature(
        [
            inspect.Parameter(field.name, keyword, default=default, annotation=hints[field.name])
            for field, default in zip(fields, defaults, strict=True)
        ]
    )
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {field.name: hints[field.name] for field in fields}
    return command


class _PlainHelp:
    """Shows flags and arguments without a type, which would be `<bool>` and `<str>`, and `--help`
    itself in a panel; fills each paragraph, which has the lines of its docstring."""

    def __init__(self, *arguments: Any, help: str | None = None, **settings: Any) -> None:
        paragraphs = inspect.cleandoc(help or "").split("\n\n")
        filled = "\n\n".join(" ".join(each.split()) for each in paragraphs)
        super().__init__(*arguments, help=filled, **settings)  # type: ignore[call-arg]

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, `--help` among them."""
        found: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        options = [each for each in found if each.param_type_name == "option"]
        panels = [each.rich_help_panel for each in options if each.rich_help_panel]
        for parameter in found:
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""
            if parameter.param_type_name == "argument":
                parameter.display_type_rich = lambda ctx: None
            if parameter.name == "help":
                parameter.help = "Show this message."
                parameter.rich_help_panel = panels[-1] if panels else None
        return found


class Command(_PlainHelp, TyperCommand):
    """A command of `nnxp`."""


class Group(_PlainHelp, TyperGroup):
    """A group of commands: `nnxp` itself, and `nnxp plot`."""


# --- options that several commands have

Data = Annotated[
    str, typer.Argument(help=f"Data to use: {', '.join(datasets.NAMES)}, FILE.csv or FILE.npz.")
]
Model = Annotated[str, typer.Argument(help="Model file that 'nnxp train' saved.")]
DataDir = Annotated[
    str | None,
    text(DATA, "FOLDER", "Folder to search first for a data set's own folder.", "--data-dir"),
]
Target = Annotated[
    str | None,
    text(DATA, "COLUMN", "Target column of a csv file; the last one if not given.", "--target"),
]
Activation = Annotated[
    str,
    text(
        NETWORK,
        "NAMES",
        f"Activation of the hidden layers, one for all or one for each: {either(ACTIVATIONS)}.",
    ),
]
OutputActivation = Annotated[
    str, text(NETWORK, "NAME", f"Activation of the output layer: {either(ACTIVATIONS)}.")
]
DType = Annotated[
    str, text(NETWORK, "NAME", "Type of the network's numbers: float32 or float64.", "--dtype")
]
Loss = Annotated[
    str,
    text(TRAINING, "NAME", f"Loss: {either(LOSSES)}; auto fits the output activation.", "--loss"),
]
Backend = Annotated[
    str,
    text(
        DEVICE,
        "NAME",
        f"Array library: {either(backends.BACKENDS)}; auto takes a CUDA device where one answers "
        "and numpy elsewhere.",
        "--backend",
        envvar="NNXP_BACKEND",
    ),
]
Device = Annotated[
    str | None,
    text(
        DEVICE,
        "NAME",
        "Device: cpu, cuda, cuda:1 or mps; the backend's own if not given.",
        "--device",
        envvar="NNXP_DEVICE",
    ),
]
TF32 = Annotated[
    bool,
    flag(
        DEVICE,
        "Compute float32 products on CUDA in TF32: faster, with 10 of 23 bits.",
        "--tf32/--no-tf32",
    ),
]
Save = Annotated[
    str,
    text(OUTPUT, "FILE", "File for the model; it replaces a model of the same network and data."),
]
Overwrite = Annotated[bool, flag(OUTPUT, "Replace any other model too.", "--overwrite")]
Picture = Annotated[str, text(OUTPUT, "FILE", "File for the picture: .png, .svg or .pdf.")]


# --- values that several commands read


def activations(text: str) -> str | list[str]:
    """Read one activation's name, or one for each hidden layer, as `MLP` takes them."""
    names = [name.strip() for name in text.split(",")]
    return names if len(names) > 1 else names[0]


def layers(hidden: str) -> list[int]:
    """Read the sizes of the hidden layers."""
    sizes = []
    for text in hidden.split(",") if hidden.strip() else []:
        size = positive(text.strip())
        if size is None:
            raise InputError(
                f"--hidden {shown(hidden)}: {shown(text.strip())} is no size; give whole numbers "
                "like 128,64"
            )
        sizes.append(size)
    return sizes


def positive(text: str) -> int | None:
    """Read a whole number that an int64 holds, 1 or more; None for anything else."""
    if not text.isdecimal() or len(text) > 19:
        return None
    value = int(text)
    return value if 1 <= value <= LARGEST else None

"""Options of commands: how they are declared, and those that several commands share.

A command is a function of its options, or of one dataclass of them; `Annotated` types say how each
is read and explained. Help lists the names in the registries.
"""

from __future__ import annotations

import csv
import dataclasses
import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Annotated, Any, cast, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from nnxp import backends, datasets, metrics, optimizers
from nnxp.errors import InputError, shown
from nnxp.kernels import ACTIVATIONS
from nnxp.names import ActivationName, DTypeName, LossName
from nnxp.objectives import LOSSES
from nnxp.options import LARGEST
from nnxp.registry import Registry

# The panels of `--help`.
DATA = "Data"
NETWORK = "Network"
TRAINING = "Training"
REGULARISATION = "Regularisation"
DEVICE = "Device"
OUTPUT = "Output"


def text(panel: str, metavar: str, help: str, *names: str, **settings: Any) -> Any:
    """Declare an option that takes text, which `--help` calls `metavar`.

    The text is not checked here: its type may be one of `nnxp.names`, since the library function
    that takes it checks it, and its error names what is known.
    """
    settings = {"parser": str, **settings}
    return typer.Option(*names, metavar=metavar, help=help, rich_help_panel=panel, **settings)


def names(registry: Iterable[str], *also: str) -> Any:
    """Return the shell's completion of a name; of several names, that of the last one."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [before + comma + name for name in (*also, *registry) if name.startswith(last)]

    return {"autocompletion": complete}


def argument(help: str) -> Any:
    """Declare an argument that names a file or data; it is not empty."""
    return typer.Argument(help=help, parser=_name)


def whole(panel: str, help: str, *names: str) -> Any:
    """Declare an option that takes a whole number."""
    return text(panel, "INTEGER", help, *names, parser=_whole)


def number(panel: str, help: str, *names: str, metavar: str = "NUMBER") -> Any:
    """Declare an option that takes a number."""
    return text(panel, metavar, help, *names, parser=_number)


def flag(panel: str, help: str, *names: str) -> Any:
    """Declare an option that takes no value."""
    return typer.Option(*names, help=help, rich_help_panel=panel)


def _name(value: str) -> str:
    if not value:
        raise typer.BadParameter("it is empty")
    return value


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


def _threads(value: str) -> int | str:
    return value if value in ("all", "auto") else _whole(value)


REGISTRIES = (ACTIVATIONS, LOSSES, optimizers.OPTIMIZERS, backends.BACKENDS)


def either(names: Iterable[str]) -> str:
    """Join names for help: "a, b or c".

    Of a registry it returns "{kind}", which `--help` replaces: its list has the names of installed
    packages, and to search these takes longer than many a command.
    """
    return f"{{{names.kind}}}" if isinstance(names, Registry) else _joined(names)


def _joined(names: Iterable[str]) -> str:
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
    """Show flags and arguments without a type, such as `<bool>`, and `--help` in a panel."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Put the names of the registries into the help of the options."""
        for parameter in self.params:  # type: ignore[attr-defined]
            for registry in REGISTRIES:
                place = f"{{{registry.kind}}}"
                if place in (parameter.help or ""):
                    parameter.help = parameter.help.replace(place, _joined(registry))
        super().format_help(ctx, formatter)  # type: ignore[misc]

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, `--help` among them."""
        found: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        options = [each for each in found if each.param_type_name == "option"]
        # Older versions of typer have `--help` without the attribute.
        panels = [panel for each in options if (panel := getattr(each, "rich_help_panel", None))]
        for parameter in found:
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""
            elif parameter.param_type_name == "argument":
                parameter.display_type_rich = lambda ctx: ""
            if parameter.name == "help":
                parameter.help = "Show this message."
                parameter.rich_help_panel = panels[-1] if panels else None
        return found


class Command(_PlainHelp, TyperCommand):
    """A command of `nnxp`."""

    def __init__(self, *arguments: Any, help: str | None = None, **settings: Any) -> None:
        # typer would keep the docstring's line ends.
        paragraphs = inspect.cleandoc(help or "").split("\n\n")
        flowing = "\n\n".join(" ".join(each.split()) for each in paragraphs)
        super().__init__(*arguments, help=flowing, **settings)


class Group(_PlainHelp, TyperGroup):
    """A group of commands: `nnxp` itself, and `nnxp plot`."""


# --- options that several commands have

_FILES = [f"FILE{suffix}" for suffix in datasets.FILES]
DATA_HELP = f"Data to use: {', '.join((*datasets.NAMES, *_FILES[:-1]))} or {_FILES[-1]}."
Data = Annotated[str, argument(DATA_HELP)]
Model = Annotated[str, argument("Model file that 'nnxp train' saved.")]
DataDir = Annotated[
    str | None,
    text(DATA, "FOLDER", "Folder to search first: FOLDER/mnist for mnist.", "--data-dir"),
]
Target = Annotated[
    str | None,
    text(DATA, "COLUMN", "Target column of a table. If not given: the last one.", "--target"),
]
Targets = Annotated[
    str | None,
    text(DATA, "FILE", "Npy file of targets, for features in an npy file or a folder of files."),
]
Features = Annotated[
    str | None,
    text(DATA, "NAME", "Array of features in an HDF5 or Zarr file. If not given: x."),
]
Delimiter = Annotated[
    str | None,
    text(
        DATA,
        "CHARACTER",
        "Delimiter of a csv file, or tab. If not given, it is found: "
        f"{_joined(datasets.tables.DELIMITERS.values())}.",
        "--delimiter",
    ),
]
Activation = Annotated[
    str,  # a name or several
    text(
        NETWORK,
        "NAMES",
        f"Activation of the hidden layers, one for all or one for each: {either(ACTIVATIONS)}.",
        **names(ACTIVATIONS),
    ),
]
OutputActivation = Annotated[
    ActivationName,
    text(
        NETWORK,
        "NAME",
        f"Activation of the output layer: {either(ACTIVATIONS)}.",
        **names(ACTIVATIONS),
    ),
]
DType = Annotated[
    DTypeName,
    text(NETWORK, "NAME", "Type of the network's numbers: float32 or float64.", "--dtype"),
]
Loss = Annotated[
    LossName,
    text(
        TRAINING,
        "NAME",
        f"Loss: {either(LOSSES)}; auto fits the output activation.",
        "--loss",
        **names(LOSSES, "auto"),
    ),
]
Backend = Annotated[
    str,
    text(
        DEVICE,
        "NAME",
        f"Array library: {either(backends.BACKENDS)}; auto takes a CUDA device if there is one "
        "and numpy otherwise.",
        "--backend",
        envvar="NNXP_BACKEND",
        **names(backends.BACKENDS, "auto"),
    ),
]
Device = Annotated[
    str | None,
    text(
        DEVICE,
        "NAME",
        "Device: cpu, cuda, cuda:1 or mps. If not given: the backend's default.",
        "--device",
        envvar="NNXP_DEVICE",
    ),
]
TF32 = Annotated[
    bool,
    flag(
        DEVICE,
        "Compute float32 products on CUDA in TF32, which is faster and keeps 10 of 23 bits.",
        "--tf32/--no-tf32",
    ),
]
ThreadCount = Annotated[
    Any,
    text(
        DEVICE,
        "N",
        "Threads of the CPU on numpy and torch; all leaves them to the library. auto, on numpy, "
        "measures whether one or one per core is faster, again and again. If not given: on numpy, "
        "measured where no bit of the results depends on it.",
        "--threads",
        parser=_threads,
    ),
]
Save = Annotated[
    str,
    text(OUTPUT, "FILE", "File for the model. A model of the same network and data is replaced."),
]
Overwrite = Annotated[bool, flag(OUTPUT, "Replace any other model, too.", "--overwrite")]
Picture = Annotated[str, text(OUTPUT, "FILE", "File for the picture: .png, .svg or .pdf.")]


AUGMENT_HELP = (
    "Deform the training images of each step at random: rotate=DEGREES, scale=SHARE, "
    "shear=DEGREES, shift=PIXELS, flip (left and right), elastic,alpha=PIXELS,sigma=PIXELS, each "
    "up to that amount; shape=HEIGHTxWIDTH where the data does not say it."
)


Metrics = Annotated[
    str,
    text(
        OUTPUT,
        "NAMES",
        f"Metrics to compute, joined by commas: {either(metrics.METRICS)}; auto is accuracy, and "
        "for real values r2, rmse, mae.",
        **names(metrics.METRICS, "auto"),
    ),
]


# --- values that several commands read


def columns(text: str | None) -> list[str]:
    """Read the names of columns, in quotes where one has a comma."""
    try:
        fields = next(csv.reader([text or ""], skipinitialspace=True), [])
    except csv.Error as error:
        raise InputError(f"{shown(text)} is no list of columns like id,name ({error})") from None
    return [name.strip() for name in fields]


def activations(text: str) -> ActivationName | list[ActivationName]:
    """Read one activation's name, or one for each hidden layer; `MLP` checks them."""
    names = [cast(ActivationName, name.strip()) for name in text.split(",")]
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

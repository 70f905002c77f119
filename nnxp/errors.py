"""The errors nnxp raises on purpose: one line that names the value, the place and the cure."""

import difflib
from collections.abc import Iterable


class NnxpError(Exception):
    """Base of every error that nnxp raises about its input or surroundings."""


class InputError(NnxpError, ValueError):
    """An argument has a wrong value, shape or type."""


class DataError(NnxpError, ValueError):
    """A data file is missing, damaged or holds something that cannot be trained on."""


class ModelError(NnxpError, ValueError):
    """A model file is missing, damaged or not one of nnxp's."""


class BackendError(NnxpError, RuntimeError):
    """A backend or device that was asked for cannot be used here."""


class DivergenceError(NnxpError, ArithmeticError):
    """Training left the finite numbers."""


class GradientError(NnxpError, ArithmeticError):
    """Backpropagation disagrees with the differences it should equal."""


class NotSeparableError(NnxpError, ArithmeticError):
    """The perceptron rule found no weights that put every sample in its class."""


def first_line(error: Exception) -> str:
    """What an error says, if that runs to pages; of one that says nothing, its kind."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def described(error: Exception) -> str:
    """`first_line`, after the error's kind unless it is one of nnxp's own."""
    kind = "" if isinstance(error, NnxpError) else f"{type(error).__name__}: "
    return kind + first_line(error)


def unknown_name(kind: str, name: object, known: Iterable[str]) -> InputError:
    """The error for a name that nobody knows, with the nearest one that somebody does."""
    known = list(known)
    near = difflib.get_close_matches(str(name).lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return InputError(f"unknown {kind} {shown(name)}: {hint}known are {', '.join(known)}")


def shown(value: object) -> str:
    """A value in an error: its repr, of one line and 60 characters at most."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    lines = repr(value).splitlines() or [""]
    text = lines[0] + (" ..." if len(lines) > 1 else "")
    return text if len(text) <= 60 else text[:57] + "..."

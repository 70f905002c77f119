"""The errors that nnxp raises: one line that names the value, the place and the cure."""

import difflib
from collections.abc import Iterable


class NnxpError(Exception):
    """The base class of all errors that nnxp raises about its input or environment.

    The message is one line for a terminal, whatever it quotes: line ends and control characters
    become escapes.

    Example:
        >>> import nnxp
        >>> try:
        ...     nnxp.MLP([2, 1], backend="nunpy")
        ... except nnxp.NnxpError as error:
        ...     print(str(error).partition(" known")[0])
        unknown backend 'nunpy': did you mean 'numpy'?
    """

    def __init__(self, *values: object) -> None:
        super().__init__(*(printable(each) if isinstance(each, str) else each for each in values))


class InputError(NnxpError, ValueError):
    """An argument has a wrong value, shape or type.

    Example:
        >>> import nnxp
        >>> try:
        ...     nnxp.MLP([2, 1]).predict([[1.0, 2.0, 3.0]])
        ... except ValueError as error:  # it is a ValueError, too
        ...     print(error)
        x has shape (1, 3), the network takes (samples, 2)
    """


class DataError(NnxpError, ValueError):
    """A data file is missing, damaged or cannot be trained on.

    Example:
        >>> import nnxp
        >>> try:
        ...     nnxp.datasets.load("missing.csv")
        ... except nnxp.DataError as error:
        ...     print(error)
        missing.csv: No such file or directory
    """


class ModelError(NnxpError, ValueError):
    """A model file is missing, damaged or not written by nnxp.

    Example:
        >>> import nnxp
        >>> try:
        ...     nnxp.MLP.load("missing.safetensors")
        ... except nnxp.ModelError as error:
        ...     print(error)
        missing.safetensors: No such file or directory
    """


class BackendError(NnxpError, RuntimeError):
    """A requested backend or device cannot be used here.

    Example:
        >>> import nnxp
        >>> try:
        ...     nnxp.backends.get("numpy", "cuda")
        ... except nnxp.BackendError as error:
        ...     print(str(error).partition(";")[0])
        backend 'numpy' has no device 'cuda' here
    """


class DivergenceError(NnxpError, ArithmeticError):
    """The loss or a parameter became infinite or NaN in training.

    Example:
        >>> import nnxp
        >>> network = nnxp.MLP([1, 1], output="identity")
        >>> try:
        ...     nnxp.train(
        ...         network, [[9.0]], [[1.0]], optimizer=nnxp.SGD(9.0), epochs=50, batch_size=None,
        ...         scale_targets=False,
        ...     )
        ... except nnxp.DivergenceError as error:
        ...     print(str(error).partition(": lower")[0])
        ...     error.epoch, error.step, error.layer
        the loss is inf in epoch 8, step 1: the outputs of layer 1 reach 1.5e+21
        (8, 1, 1)
    """

    epoch: int | None = None
    """The epoch, 1, 2, ...; None outside of `nnxp.train`."""
    step: int | None = None
    """The step in the epoch, 1, 2, ..., where the loss or a parameter was first not finite; None if
    no single step is at fault, and for validation data."""
    layer: int | None = None
    """The layer, 1, 2, ..., whose outputs or update were first not finite; if the loss is
    not finite and all outputs are, the last layer."""


class GradientError(NnxpError, ArithmeticError):
    """The gradients of backpropagation differ from finite differences.

    Example:
        >>> import nnxp
        >>> issubclass(nnxp.GradientError, ArithmeticError)  # `nnxp gradcheck` raises it
        True
    """


class NotSeparableError(NnxpError, ArithmeticError):
    """The perceptron rule found no weights that put every sample in its class.

    Example:
        >>> import nnxp
        >>> try:
        ...     nnxp.Perceptron(2).train([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0])
        ... except nnxp.NotSeparableError as error:
        ...     print(str(error).partition(",")[0])
        the weights after epoch 3 are those after epoch 2
    """


class RankError(NnxpError, RuntimeError):
    """Another process of a distributed training has failed, and so this one ends.

    Example:
        >>> import nnxp
        >>> issubclass(nnxp.RankError, RuntimeError)  # the rank that failed has the error itself
        True
    """

    def __init__(self, message: str, depth: int = 0) -> None:
        super().__init__(message)
        self.depth = depth
        """How many `together` the process was in that failed."""


def first_line(error: Exception) -> str:
    """Return the first line of an error's message; if the message is empty, the error's class."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def described(error: Exception) -> str:
    """Return `first_line`, preceded by the error's class unless it is an error of nnxp."""
    kind = "" if isinstance(error, NnxpError) else f"{type(error).__name__}: "
    return kind + first_line(error)


def unknown_name(kind: str, name: object, known: Iterable[str]) -> InputError:
    """Return the error for an unknown name, which suggests the closest known name."""
    known = list(known)
    near = difflib.get_close_matches(str(name).lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return InputError(f"unknown {kind} {shown(name)}: {hint}known are {', '.join(known)}")


def printable(text: str) -> str:
    """Return text of a file for a terminal: control characters become escapes, as "\\x1b"."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown(value: object) -> str:
    """Return a value's repr for an error, cut to one line and 60 characters."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    lines = repr(value).splitlines() or [""]
    text = lines[0] + (" ..." if len(lines) > 1 else "")
    return text if len(text) <= 60 else text[:57] + "..."

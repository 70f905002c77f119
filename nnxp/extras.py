"""Import what only a part of nnxp needs: an extra, which `pip install nnxp` does not bring."""

from __future__ import annotations

import importlib
from typing import Any

from nnxp.errors import InputError


def require(module: str, use: str, extra: str) -> Any:
    """Import a module and return it.

    Args:
        module: the module's name.
        use: what needs it, for the error: "exporting to ONNX".
        extra: the extra of nnxp that brings it.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise InputError(f'{use} needs {module}: pip install "nnxp[{extra}]"') from None

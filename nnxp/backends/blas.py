"""The kernels of NumPy's BLAS, and the environment variables that force them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

FORCING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "BLIS_ARCH_TYPE")
"""Environment variables by which a BLAS takes other kernels or blocks than the processor's best.
A BLAS reads them once, when it is loaded."""

_INSTRUCTIONS = ("SSE", "AVX", "AVX2", "AVX-512")
"""From the narrowest vectors to the widest."""
_KERNELS = {
    "SSE": "generic katmai coppermine northwood prescott banias core2 penryn dunnington nehalem "
    "atom athlon opteron opteron_sse3 barcelona bobcat nano",
    "AVX": "sandybridge bulldozer piledriver steamroller",
    "AVX2": "haswell zen excavator",
    "AVX-512": "skylakex cooperlake sapphirerapids knl skx",
}
"""The instructions of each of OpenBLAS's and BLIS's kernels for x86."""
_FEATURES = {"AVX": "AVX", "AVX2": "AVX2", "AVX-512": "AVX512_SKX"}
"""The names by which NumPy knows the processor's instructions."""


@cache
def thread_pools() -> Any:
    """Return threadpoolctl's controller of the libraries that are loaded when it is first asked."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def kernels() -> str | None:
    """Return the kernels that BLAS uses, such as "SkylakeX"; None if threadpoolctl cannot tell."""
    found = (pool.get("architecture") for pool in thread_pools().info())
    return " and ".join(dict.fromkeys(name for name in found if name)) or None


def forced(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables of `FORCING` that are set, by name."""
    return {name: environment[name] for name in FORCING if environment.get(name)}


def assignments(variables: Mapping[str, str]) -> str:
    """Join variables: "A=1 and B=2"."""
    return " and ".join(f"{name}={value}" for name, value in variables.items())


def warning() -> str | None:
    """Say that BLAS multiplies more slowly than this processor can, why, and what to do; or None.

    None also stands for kernels or processors that are not known here, such as Arm's.
    """
    used = kernels()
    level = _instructions(used) if used else None
    best = _processor()
    if level is None or _INSTRUCTIONS.index(level) >= _INSTRUCTIONS.index(best):
        return None
    variables = forced()
    if variables:
        verb, them = ("forces", "it") if len(variables) == 1 else ("force", "them")
        cause = f"{assignments(variables)} {verb} that; unset {them}"
    else:
        cause = "take a NumPy whose BLAS has kernels for it, such as that of pip install numpy"
    return (
        f"BLAS multiplies with {used} kernels, by {level}, and this processor has {best}: {cause}"
    )


def _instructions(kernels: str) -> str | None:
    for level, names in _KERNELS.items():
        if kernels.lower() in names.split():
            return level
    return None


def _processor() -> str:
    """Return the widest of `_INSTRUCTIONS` that the processor has."""
    try:  # not a public name
        features = import_module("numpy._core._multiarray_umath").__cpu_features__
    except (ImportError, AttributeError):
        features = {}
    return next(
        (level for level in reversed(_INSTRUCTIONS) if features.get(_FEATURES.get(level))), "SSE"
    )

"""Describes the machine that a benchmark runs on."""

import datetime
import os
import platform
import subprocess
import time
from typing import Any

import nnxp
from nnxp import reports
from nnxp.backends import blas
from nnxp.benchmark import process

_VARIABLES = (
    *("THREADS", "XLA_", "CUPY_", "TF32", "CUDA_", "OMP_", "MKL_", "KMP_", "NNXP_"),
    *("OPENBLAS", "BLIS_", "DNN", "ATEN_"),
)
"""Parts of the names of environment variables that affect speed."""


_WATCHED = 1.0
"""Seconds in which the use of the cores is measured."""
BUSY = 0.2
"""Cores that other programs use from which a machine is not idle."""


def machine() -> dict[str, Any]:
    """Return processor, cores, load, system, GPUs, versions and relevant environment, for JSON.

    The environment is that of the timed processes, without the variables in "removed"; "warning"
    says how those slow other processes down.
    """
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": reports.processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "busy_cores": busy_cores(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "nnxp": nnxp.__version__,
        "gpus": _gpus(),
        "environment": {
            name: value
            for name, value in sorted(process.environment().items())
            if any(part in name for part in _VARIABLES)
        },
        "removed": blas.forced(),
        "warning": blas.warning(),
    }


def busy_cores() -> float | None:
    """Return how many cores other programs use; None where the system does not tell."""
    before = _ticks()
    time.sleep(_WATCHED)
    after = _ticks()
    if before is None or after is None:
        return None
    spent = [b - a for a, b in zip(before, after, strict=True)]
    idle = spent[3] + spent[4]  # idle and waiting for a disk
    return round((os.cpu_count() or 1) * (1 - idle / max(1, sum(spent))), 2)


def _ticks() -> list[int] | None:
    """Return the time that all cores have spent: user, nice, system, idle, iowait, ..., steal."""
    try:
        with open("/proc/stat", encoding="utf-8") as file:
            return [int(word) for word in file.readline().split()[1:9]]
    except OSError:
        return None


def disturbance(found: dict[str, Any]) -> str | None:
    """Say that other programs use the machine, and what to do; None if it is idle.

    Args:
        found: what `machine` returned.
    """
    busy = found.get("busy_cores")
    if busy is None or busy < BUSY:
        return None
    return (
        f"This machine is not idle: other programs use {busy:.1f} of its {found['cores']} cores. "
        "Stop them and start again: the figures will be too low, most of all those of several "
        "threads."
    )


def kernels(found: dict[str, Any]) -> list[str]:
    """Say which variables were left out, so that BLAS chose its kernels, and what they cost."""
    if not found.get("removed"):
        return []
    lines = [f"left out, so that BLAS chooses its kernels: {blas.assignments(found['removed'])}"]
    if found.get("warning"):
        lines.append(f"warning: other commands are slower than this: {found['warning']}")
    return lines


def headline(found: dict[str, Any]) -> str:
    """Describe the machine in one line, with its load, since times depend on that."""
    load = f", load {found['load'][0]:.1f}" if found["load"] else ""
    gpus = "".join(f", {gpu}" for gpu in found["gpus"])
    return (
        f"{found['cpu']}, {found['cores']} cores{load}{gpus}, {found['system']}, "
        f"Python {found['python']}, nnxp {found['nnxp']}"
    )


def _gpus() -> list[str]:
    """List each NVIDIA GPU with its driver; none where nvidia-smi is not installed or fails."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, encoding="utf-8", timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [", driver ".join(line.split(", ")) for line in done.stdout.splitlines()]

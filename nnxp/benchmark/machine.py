"""Describes the machine that a benchmark runs on."""

import datetime
import os
import platform
import subprocess
from typing import Any

import nnxp

_VARIABLES = ("THREADS", "XLA_", "CUPY_", "TF32", "CUDA_", "OMP_", "MKL_", "KMP_", "NNXP_")
"""Parts of the names of environment variables that affect speed."""


def machine() -> dict[str, Any]:
    """Return processor, cores, load, system, GPUs, versions and relevant environment, for JSON."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "nnxp": nnxp.__version__,
        "gpus": _gpus(),
        "environment": {
            name: value
            for name, value in sorted(os.environ.items())
            if any(part in name for part in _VARIABLES)
        },
    }


def headline(found: dict[str, Any]) -> str:
    """Describe the machine in one line, with its load, since times depend on that."""
    load = f", load {found['load'][0]:.1f}" if found["load"] else ""
    gpus = "".join(f", {gpu}" for gpu in found["gpus"])
    return (
        f"{found['cpu']}, {found['cores']} cores{load}{gpus}, {found['system']}, "
        f"Python {found['python']}, nnxp {found['nnxp']}"
    )


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [
                line.split(":", 1)[1].strip() for line in file if line.startswith("model name")
            ]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _gpus() -> list[str]:
    """List each NVIDIA GPU with its driver; none where nvidia-smi is not installed or fails."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [", driver ".join(line.split(", ")) for line in done.stdout.splitlines()]

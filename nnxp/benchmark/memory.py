"""Measures the peak memory of this process while a function runs."""

from collections.abc import Callable
from typing import Any


def resident() -> int | None:
    """Return this process's resident bytes; None where the system does not report them."""
    return _status("VmRSS")


def peak(action: Callable[[], Any]) -> int | None:
    """Return the peak resident bytes while `action` runs; None where they cannot be measured.

    Linux can reset the peak. Other systems report only the peak since the process began, which
    making the data has already raised.
    """
    try:
        with open("/proc/self/clear_refs", "w", encoding="utf-8") as file:
            file.write("5")
    except OSError:
        action()
        return None
    action()
    return _status("VmHWM")


def _status(name: str) -> int | None:
    try:
        with open("/proc/self/status", encoding="utf-8") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines[name].split()[0]) * 1024
    except (OSError, KeyError):
        return None

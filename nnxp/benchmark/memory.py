"""How much memory this process takes at most while something runs."""

from collections.abc import Callable
from typing import Any


def resident() -> int | None:
    """Bytes of this process that are in memory now; None where the system does not tell."""
    return _status("VmRSS")


def peak(action: Callable[[], Any]) -> int | None:
    """The most bytes that were in memory while `action` ran; None where nobody tells.

    Linux keeps the peak, and forgets it when asked to. Elsewhere there is only the peak since the
    process began, which making the data has set.
    """
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        action()
        return None
    action()
    return _status("VmHWM")


def _status(name: str) -> int | None:
    try:
        with open("/proc/self/status") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines[name].split()[0]) * 1024
    except (OSError, KeyError):
        return None

"""`nnxp backends`: what can be used here."""

from nnxp import backends
from nnxp.cli.outputs import console


def list_backends() -> None:
    """List every backend: version, devices, and what to install where it cannot be used."""
    for found in backends.availability():
        version = found.version or "-"
        state = f"usable: {', '.join(found.devices)}" if not found.problem else found.problem
        console.print(f"{found.name:<18}{version:<14}{state}")

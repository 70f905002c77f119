"""`nnxp backends`."""

from nnxp import backends
from nnxp.cli.outputs import console


def list_backends() -> None:
    """List every backend with its version and devices, or what to install to use it."""
    for found in backends.availability():
        version = found.version or "-"
        state = f"usable: {', '.join(found.devices)}" if not found.problem else found.problem
        if found.kernels:
            state += f"; BLAS with {found.kernels} kernels"
        console.print(f"{found.name:<18}{version:<14}{state}")
        if found.warning:
            console.print(f"warning: {found.warning}")

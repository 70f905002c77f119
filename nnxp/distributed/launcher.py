"""Find the other processes of a training that a launcher such as mpiexec started."""

from __future__ import annotations

import logging
import os

from nnxp.concurrency import warnings_ignored
from nnxp.distributed.world import ALONE, World
from nnxp.errors import BackendError, first_line
from nnxp.extras import require

log = logging.getLogger("nnxp")

LAUNCHERS = {
    "OMPI_COMM_WORLD_SIZE": "Open MPI's mpiexec",
    "PMI_SIZE": "MPICH's or Intel's mpiexec",
    "PALS_SIZE": "Cray's mpiexec",
    "MV2_COMM_WORLD_SIZE": "MVAPICH's mpiexec",
}
"""The variables by which launchers tell a process the number of processes."""
RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PALS_RANKID", "MV2_COMM_WORLD_RANK")
"""The variables by which launchers tell a process its number."""
LOCAL_RANKS = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "MV2_COMM_WORLD_LOCAL_RANK")
"""The variables by which launchers tell a process its number among those on its machine."""
COMMAND = "mpiexec -n 4 nnxp train ..."


def launched() -> tuple[int, str] | None:
    """Return the number of processes that a launcher started, and its name; None without one.

    Example:
        >>> import nnxp
        >>> nnxp.distributed.launched() is None
        True
    """
    for variable, name in LAUNCHERS.items():
        text = os.environ.get(variable, "")
        if text.isdecimal() and int(text) > 1:
            return int(text), name
    return None


def rank() -> int:
    """Return the number of this process that the launcher gave it; 0 without a launcher."""
    return int(next((os.environ[name] for name in RANKS if name in os.environ), "0"))


def is_first_on_machine() -> bool:
    """Return whether this process is the first on its machine, or alone, as far as is known."""
    return next((os.environ[name] for name in LOCAL_RANKS if name in os.environ), "0") == "0"


def world(backend: str = "numpy") -> World:
    """Return the processes that mpiexec started together with this one.

    Alone if no launcher started this process, which the logger "nnxp" says at level INFO.

    Args:
        backend: the backend that will train. JAX must join its processes before it is used.

    Raises:
        InputError: mpi4py is not installed.
        BackendError: mpi4py finds no MPI, or another one than the launcher's; or JAX has been used.

    Example:
        >>> import nnxp
        >>> nnxp.distributed.world().size
        1
    """
    found = launched()
    if found is None:
        log.info("one process trains: no launcher started others (%s)", COMMAND)
        return ALONE
    count, launcher = found
    mpi4py = require("mpi4py", f"a training in {count} processes, which {launcher} started,", "mpi")
    mpi4py.rc.thread_level = "serialized"  # other threads never call MPI
    try:
        with warnings_ignored():  # of another launcher: the error below names it
            from mpi4py import MPI
    except ImportError as error:
        raise BackendError(
            f"mpi4py is installed but finds no MPI ({first_line(error)}): "
            'pip install "nnxp[mpi]" brings one'
        ) from None
    if MPI.COMM_WORLD.Get_size() != count:
        library = MPI.Get_library_version().split(",")[0].split("\n")[0]
        raise BackendError(
            f"{launcher} started {count} processes, and mpi4py sees "
            f"{MPI.COMM_WORLD.Get_size()}: it uses another MPI ({library}): "
            "take the mpiexec that came with it, or install mpi4py for this one"
        )
    from nnxp.distributed.mpi_world import MPIWorld

    made = MPIWorld.of_process()
    made.join(backend)
    return made

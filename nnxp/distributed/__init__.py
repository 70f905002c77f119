"""Training in several processes: each computes a part of every batch, and gradients are added.

    mpiexec -n 4 nnxp train mnist --hidden 1024,1024 --batch-size 1024

Each process, a rank, has all parameters and the rows of its part of each batch. In every step
the gradients of all ranks are added, so that all take the same step. The result is that of one
process, except for rounding. In Python:

    nnxp.train(network, x, y, ..., distributed=nnxp.distributed.world())

`world` finds the other processes. `Communicator` is what a training step knows of them: it adds
arrays, by MPI in the host's memory, by NCCL for CuPy, and by JAX's own collectives.
"""

from nnxp.distributed.communicator import Communicator
from nnxp.distributed.launcher import launched, world
from nnxp.distributed.share import BatchShare
from nnxp.distributed.world import ALONE, World

__all__ = ["ALONE", "BatchShare", "Communicator", "World", "launched", "world"]

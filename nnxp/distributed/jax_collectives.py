"""Add arrays of JAX by its own collectives, inside of the compiled chunk.

`jax.distributed` makes the devices of all processes known to each. A chunk of steps runs under
`shard_map` on one device of each process, where `psum` adds the gradients: by gloo on CPUs, by NCCL
on GPUs. What differs between the processes, the rows of each batch, is given as if it were
the same: XLA takes what each process has.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from nnxp.arrays import Array
from nnxp.distributed.communicator import Communicator, Runner
from nnxp.errors import BackendError, first_line
from nnxp.nested import leaves, rebuilt, shapes

AXIS = "ranks"
PROGRAMS = 8
"""Programs that are kept: two lengths of chunk, and the last, smaller batch."""


TIMEOUT = 60
"""Seconds that the processes wait for each other."""


def initialize(world: Any) -> None:
    """Join the JAX of all processes; once, before JAX computes anything.

    Raises:
        BackendError: JAX is in use already.
    """
    import jax

    if jax.distributed.is_initialized():
        return
    address = world.first(_free_address())
    # The processes talk by gRPC, which would ask a proxy for the way to each other.
    variable, host = "no_grpc_proxy", address.rpartition(":")[0]
    direct = os.environ.get(variable, os.environ.get("no_proxy", ""))
    os.environ[variable] = ",".join(filter(None, [direct, host]))
    try:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(address, world.size, world.rank, initialization_timeout=TIMEOUT)
    except RuntimeError as error:
        raise BackendError(
            f"jax cannot join {world.size} processes ({first_line(error)}): "
            "call nnxp.distributed.world() and open the backend before all other work of JAX"
        ) from None


def _free_address() -> str:
    """Return an address at which nobody listens, of this machine."""
    import socket

    host = socket.gethostname()
    try:
        socket.getaddrinfo(host, None)
    except OSError:  # a machine that does not know its own name
        host = "localhost"
    with socket.socket() as listener:
        listener.bind(("", 0))
        return f"{host}:{listener.getsockname()[1]}"


class JAXCommunicator(Communicator):
    """The devices of JAX in all processes of a world, one in each.

    Args:
        world: the processes.
        backend: the JAX backend of this process.
    """

    name = "JAX"

    def __init__(self, world: Any, backend: Any) -> None:
        import jax
        from jax.sharding import Mesh, NamedSharding, PartitionSpec

        super().__init__(world, backend)
        by_process = {
            each.process_index: each for each in reversed(jax.devices(backend.device.platform))
        }
        if len(by_process) != world.size:
            raise BackendError(
                f"jax sees {len(by_process)} of {world.size} processes: open its backend after "
                "nnxp.distributed.world(), and before all other work of JAX"
            )
        by_process[world.rank] = backend.device
        self.mesh = Mesh([by_process[rank] for rank in range(world.size)], AXIS)
        self.spec = PartitionSpec()
        self.sharding = NamedSharding(self.mesh, self.spec)
        self._programs: dict[Any, Any] = {}

    def all_reduce(self, groups: Iterable[Sequence[Array]]) -> list[list[Array]]:
        import jax

        return [[jax.lax.psum(array, AXIS) for array in group] for group in groups]

    def refuses(self, executor: str) -> str | None:
        return None if executor == "jit" else "jax adds arrays of processes in compiled code only"

    def across(self, run: Runner) -> Runner:
        """Return a function like `run` whose chunks are one program on all devices."""

        def run_across(state: Any, data: Any, order: Array, learning_rate: Any) -> Any:
            rate = self.backend.asarray(learning_rate, dtype=leaves(state)[0].dtype)
            arguments = state, data, order, rate
            key = shapes(arguments)
            if key not in self._programs:
                while len(self._programs) >= PROGRAMS:
                    self._programs.pop(next(iter(self._programs)))
                self._programs[key] = self._compiled(run)
            program = self._programs[key]
            shared = rebuilt(arguments, map(self._shared, leaves(arguments)))
            result = program(*shared)
            return rebuilt(result, [each.addressable_data(0) for each in leaves(result)])

        return run_across

    def _compiled(self, run: Runner) -> Any:
        import jax

        across = partial(
            jax.shard_map, mesh=self.mesh, in_specs=self.spec, out_specs=self.spec, check_vma=False
        )
        return jax.jit(across(lambda *arguments: run(*arguments)), donate_argnums=0)

    def _shared(self, array: Array) -> Array:
        """Return this process's array as one of all processes, without a copy."""
        import jax

        return jax.make_array_from_single_device_arrays(array.shape, self.sharding, [array])

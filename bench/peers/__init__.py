"""Trains the workloads of `nnxp.benchmark` with other libraries, as their users write it well.

Each has a file, which imports its library at the top, since each runs in a process of its own.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """A contender that is not nnxp.

    Args:
        name: the name in tables.
        contender: "module:Class", an `nnxp.benchmark.Contender`.
        device: "any", or the one kind that it trains on, "cpu" or "cuda".
        workloads: the only workloads that it is timed on; empty for all.
    """

    name: str
    contender: str
    device: str = "any"
    workloads: tuple[str, ...] = ()


PEERS = {
    "pytorch": Peer("PyTorch", "peers.pytorch:PyTorch"),
    "pytorch_compiled": Peer("PyTorch compiled", "peers.pytorch_compiled:PyTorchCompiled"),
    "pytorch_cuda_graph": Peer(
        "PyTorch CUDA graph", "peers.pytorch_cuda_graph:PyTorchCUDAGraph", "cuda"
    ),
    "jax_jit": Peer("JAX jit", "peers.jax_jit:JAXJit"),
    "jax_scan": Peer("JAX jit + scan", "peers.jax_scan:JAXScan"),
    "scikit_learn": Peer("scikit-learn", "peers.scikit_learn:ScikitLearn", "cpu"),
    "keras": Peer("Keras", "peers.keras:Keras"),
    "thinc": Peer("Thinc", "peers.thinc:Thinc", "cpu"),
    # On larger workloads a single chunk takes minutes.
    "loop": Peer("per-sample loop", "peers.loop:Loop", "cpu", ("tiny", "small")),
}
"""The peers by file name."""

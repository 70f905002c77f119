"""Other libraries on the workloads of `nnxp.benchmark`, each as its own users write it well.

A file each; its library is imported at its top, since each runs in a process of its own.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """Who takes part beside nnxp.

    Args:
        name: what the tables call it.
        contender: "module:Class", an `nnxp.benchmark.Contender`.
        device: "any", or the one kind that it trains on, "cpu" or "cuda".
        workloads: the only ones that it is timed on; all, if none is named.
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
    # On larger ones a single chunk takes minutes.
    "loop": Peer("per-sample loop", "peers.loop:Loop", "cpu", ("tiny", "small")),
}
"""By the name of the file."""

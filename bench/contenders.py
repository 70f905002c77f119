"""Chooses the contenders of a workload: nnxp's backends and the peers in bench/peers."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from peers import PEERS
from report.ratios import OURS

from nnxp.benchmark import Entry, Workload
from nnxp.benchmark.backend import entry
from nnxp.errors import unknown_name

OPTIONS = ("workload", "backends", "peers", "device", "quick")
"""The options of `arguments` that choose contenders, workloads and device."""
_BACKENDS = {
    "cpu": ["numpy", "torch", "torch:compiled", "jax"],
    "cuda": ["numpy", "cupy:eager", "cupy:graph", "torch", "jax"],
}


def entries(each: Workload, backends: list[str], peers: list[str], device: str) -> list[Entry]:
    """Return the contenders of a workload: first nnxp[numpy], with which the others are compared.

    A workload for GPUs has no nnxp[numpy], which would take minutes for a chunk.
    """
    kind = device.partition(":")[0]
    names = [name for name in backends if name.partition(":")[0] != "numpy" or not each.gpu]
    ours = [replace(entry(name, device), name=f"{OURS}{name}]") for name in names or backends]
    theirs = [
        Entry(peer.name, peer.contender, device if peer.device == "any" else peer.device)
        for peer in (PEERS[name] for name in peers)
        if peer.device != "cuda" or kind == "cuda"
        if peer.device != "cpu" or not each.gpu
        if not peer.workloads or each.name in peer.workloads
    ]
    return ours + theirs


def chosen_entries(chosen: argparse.Namespace, each: Workload) -> list[Entry]:
    """Return the contenders of a workload that the command line chooses.

    Raises:
        InputError: a peer is unknown.
    """
    peers = list(PEERS) if chosen.peers is None else list(filter(None, chosen.peers.split(",")))
    for name in peers:
        if name not in PEERS:
            raise unknown_name("peer", name, PEERS)
    default = _BACKENDS["cuda" if chosen.device.startswith("cuda") else "cpu"]
    asked = ["numpy", *chosen.backends.split(",")] if chosen.backends else default
    return entries(each, list(dict.fromkeys(asked)), peers, chosen.device)


def failures(results: Sequence[Mapping[str, Any]]) -> int:
    """Print how many results have a "problem", and the first, in one line; return exit status."""
    failed = [each for each in results if each.get("problem")]
    if failed:
        first = f"{failed[0]['name']}: {failed[0]['problem']}"
        print(f"{len(failed)} of {len(results)} failed, the first of them {first}")
    return int(bool(failed))

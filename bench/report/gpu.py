"""Makes what a report on a GPU adds to the others: goals, ceilings, kernels, pictures."""

from __future__ import annotations

from typing import Any

from report.mdtable import table
from report.ratios import by_workload, fastest, quotient, shown, timed

from nnxp.benchmark.table import seconds

GRAPH, EAGER, HOST = "nnxp[cupy:graph]", "nnxp[cupy:eager]", "nnxp[numpy]"

GOALS = {"tiny": (1.0, 5.0), "small": (1.0, 5.0)}
"""By workload, the least ratios of a captured graph to the best peer and to eager steps."""
LARGE = (0.95, None)
"""The same for the other workloads, whose time is that of the products."""
MNIST = "in under 1 s, accuracy 0.975 or more"


def goals(content: dict[str, Any]) -> list[list[str]]:
    """Return the goals on a GPU beside the measurements; a dash where nothing was measured."""
    rows = [["", "goal", "measured"]]
    for workload, results in by_workload(content).items():
        known = timed(results)
        graph, peer = known.get(GRAPH), fastest(known.values(), ours=False)
        best = f" ({peer.name})" if graph and peer else ""
        beside_peer, beside_eager = (str(goal or "-") for goal in GOALS.get(workload, LARGE))
        rows += [
            [f"{workload}: {GRAPH} / best peer", beside_peer, shown(quotient(graph, peer)) + best],
            [
                f"{workload}: {GRAPH} / {EAGER}",
                beside_eager,
                shown(quotient(graph, known.get(EAGER))),
            ],
        ]
    mnist = content.get("mnist") or {"runs": []}
    rows += [
        [
            f"{mnist['what']}: {run['name']}",
            MNIST if run["name"].startswith("nnxp[cupy") else "-",
            trained(run),
        ]
        for run in mnist["runs"]
    ]
    for name, size in pays(content.get("sweep")).items():
        found = f"from batch size {size} on" if size else "never"
        rows.append([f"{name} outruns {HOST}", "-", found])
    return rows


def pays(sweep: dict[str, Any] | None) -> dict[str, int | None]:
    """Return, by contender, the batch size from which on it is faster than NumPy; else None.

    Args:
        sweep: "points" by increasing "point", each with its "results", as `nnxp bench` writes them.
    """
    points = {
        each["point"]: {
            result["name"]: result["samples_per_second"]["median"]
            for result in each["results"]
            if result["samples_per_second"]
        }
        for each in (sweep or {"points": []})["points"]
    }
    names = dict.fromkeys(name for speeds in points.values() for name in speeds if name != HOST)
    found: dict[str, int | None] = {}
    for name in names:
        found[name] = None
        for size, speeds in reversed(points.items()):
            if HOST in speeds and name in speeds:
                if speeds[name] <= speeds[HOST]:
                    break
                found[name] = size
    return found


def gpu_tables(content: dict[str, Any]) -> list[str]:
    """Return ceilings, kernels per step and pictures, as far as they were measured or drawn."""
    lines = []
    if content.get("ceilings"):
        lines += ["", "### What the device can do", "", *table(ceilings(content["ceilings"]))]
    if content.get("kernels"):
        lines += ["", "### Kernels per step", "", *table(kernels(content["kernels"]))]
    for name, what in content.get("pictures", {}).items():
        lines += ["", f"![{what}](results/{name})"]
    return lines


def ceilings(found: list[dict[str, Any]]) -> list[list[str]]:
    """Return the table rows of bench/ceilings.py, one per library."""
    rows = [["library", "device", "copy, GB/s", "float32, TFLOP/s", "TF32, TFLOP/s", "notes"]]
    for each in found:
        rates = [each.get(name) for name in ("copy", "float32", "tf32")]
        cells = [f"{rate['median']:.3g}" if rate else "-" for rate in rates]
        library = f"{each['library']} {each.get('version', '')}".strip()
        rows.append([library, each["device"], *cells, each.get("problem") or ""])
    return rows


def kernels(found: dict[str, Any]) -> list[list[str]]:
    """Return the table rows of bench/kernels.py, one per contender."""
    rows = [[found["workload"], "kernels", "copies and fills", "notes"]]
    for each in found["contenders"]:
        cells = ["-" if each.get(n) is None else f"{each[n]:.3g}" for n in ("kernels", "copies")]
        rows.append([each["name"], *cells, each.get("problem") or each.get("counted", "")])
    return rows


def trained(run: dict[str, Any]) -> str:
    """Describe one training of bench/mnist.py in one line."""
    if run.get("problem"):
        return f"- ({run['problem']})"
    figures = (
        f"{seconds(run['seconds'])}, {seconds(run['wall_seconds'])} with start-up, "
        f"accuracy {run['accuracy']:.4f}"
    )
    return "; ".join([figures, *run["warned"]])

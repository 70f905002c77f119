"""The digits that come with nnxp, trained by each backend: their losses must be NumPy's.

python bench/digits.py --device cuda --backends cupy,torch,jax
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from trained import train

TOLERANCE = 1e-4
"""Between the losses of any epoch."""


def main() -> int:
    """Train with all at once and compare; 1 if one fails or differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="of all but numpy")
    parser.add_argument("--backends", default="torch,jax", help="besides numpy")
    parser.add_argument("--quick", action="store_true", help="two epochs")
    chosen = parser.parse_args()
    names = ["numpy", *chosen.backends.split(",")]
    options = ("--epochs", "2") if chosen.quick else ()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(len(names)) as pool:

        def trained(name: str) -> dict[str, Any]:
            return train("digits", name, chosen.device, Path(folder), *options)

        found = dict(zip(names, pool.map(trained, names), strict=True))
    verdicts = [agrees(name, run, found["numpy"]) for name, run in found.items()]
    return int(not all(verdicts))


def agrees(name: str, run: dict[str, Any], reference: dict[str, Any]) -> bool:
    """Whether a training's losses are the reference's; says so."""
    if problem := run.get("problem") or reference.get("problem"):
        print(f"{name}: {problem}")
        return False
    losses, expected = ([epoch["loss"] for epoch in each["history"]] for each in (run, reference))
    worst = max(abs(one - other) for one, other in zip(losses, expected, strict=True))
    print(f"{name}: losses within {worst:.1e} of NumPy's, on {run['device']}")
    return worst <= TOLERANCE


if __name__ == "__main__":
    sys.exit(main())

"""Print the page of promises for the results of pytest, from --junitxml; see ci/reliability."""

import datetime
import sys
import xml.etree.ElementTree
from collections import Counter
from importlib.metadata import version
from pathlib import Path

from nnxp import reports

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from promises import PROMISES

LIBRARIES = ("numpy", "array-api-strict", "torch", "jax", "scikit-learn")
TEXT = """# Reliability

What nnxp promises, and how often its tests tried each promise. A case is one input, one place to
stop, one damaged byte, one backend, or the like: a test has one case or thousands. The table is
made by `bash ci/reliability`, which tries all of them. The same tests run before each change, and
then draw a sample where they have thousands of cases.

{date}, {processor}, Python {python}, {versions}.

| promise | tests | cases | failed |
|---|--:|--:|--:|
{rows}

The tests are marked with their promise, `@pytest.mark.promise(...)`:
`pytest -m "promise and (slow or not slow)" --every-case` runs them. Longer searches for what they
may miss run by hand: `ci/fuzz` and `ci/mutation`. What could not be tried is said where it belongs:
on [other systems](guides/platforms.md), on [GPUs](project/results.md), and in the
[threat model](project/security.md).
"""


def main(*results: str) -> None:
    """Print the page for files of results; of a test in several, the last counts."""
    cases = {
        (case.get("classname", ""), case.get("name", "")): case
        for path in results
        for case in xml.etree.ElementTree.parse(path).iter("testcase")
    }
    tests: dict[str, set[str]] = {name: set() for name in PROMISES}
    tried: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for (module, test), case in cases.items():
        properties = {each.get("name"): each.get("value", "") for each in case.iter("property")}
        if "promise" not in properties or case.find("skipped") is not None:
            continue
        promise = properties["promise"]
        tests[promise].add(f"{module}.{test.partition('[')[0]}")
        tried[promise] += int(properties.get("tried", 1))
        is_broken = case.find("failure") is not None or case.find("error") is not None
        failed[promise] += max(int(properties.get("failed", 0)), is_broken)
    rows = [
        f"| {sentence} | {len(tests[name])} | {tried[name]:,} | {failed[name]:,} |"
        for name, sentence in PROMISES.items()
    ]
    shown = sum(map(len, tests.values()))
    rows.append(f"| All of them | {shown} | {tried.total():,} | {failed.total():,} |")
    text = TEXT.format(
        date=datetime.date.today().isoformat(),
        processor=reports.processor(),
        python=sys.version.split()[0],
        versions=", ".join(f"{name} {version(name)}" for name in LIBRARIES),
        rows="\n".join(rows),
    )
    print(text, end="")


if __name__ == "__main__":
    main(*sys.argv[1:])

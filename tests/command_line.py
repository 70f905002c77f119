"""The command line as tests run it: `run` in this process, since starting another takes longer than
most commands do, and `run_process` in one of its own.

What belongs to a process (signals, closed streams, terminals, /dev/stdout) needs a real one:
`run_process` or those of `processes`.
"""

import csv
import io
import os
import re
import subprocess
import sys
from contextlib import ExitStack, chdir, redirect_stderr, redirect_stdout
from unittest import mock

from processes import completed

import nnxp
from nnxp.cli import main
from nnxp.cli.outputs import console

ROW = re.compile(r"^ +\d+ +\d+\.\d{4} ", re.MULTILINE)
"""The row of an epoch."""
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f\x9b]")

BOOK = {
    "W1": [[0.1, 0.3, 0.5], [0.2, 0.4, 0.6]], "b1": [0.1, 0.2, 0.3],
    "W2": [[0.1, 0.4], [0.2, 0.5], [0.3, 0.6]], "b2": [0.1, 0.2],
    "W3": [[0.1, 0.3], [0.2, 0.4]], "b3": [0.1, 0.2],
}  # fmt: skip
"""The weights of the books' network with three layers."""


def environment(folder, **changes):
    """This process's, without nnxp's own variables, without a network, with an empty cache."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NNXP_")}
    nowhere = "http://127.0.0.1:9"
    kept |= {"http_proxy": nowhere, "https_proxy": nowhere, "XDG_CACHE_HOME": str(folder / "cache")}
    return kept | {name: str(value) for name, value in changes.items()}


def run(folder, *arguments, **variables):
    """Run `nnxp ARGUMENTS` in `folder`, with these environment variables.

    Returns:
        What it printed and its exit status, like `subprocess.run`.
    """
    words = ["nnxp", *map(str, arguments)]
    output, errors = io.StringIO(), io.StringIO()
    changed = mock.patch.dict(os.environ, environment(folder, **variables), clear=True)
    status = 0
    with ExitStack() as stack:
        # The console that commands print on was made before, perhaps of another width.
        stack.callback(setattr, console, "width", console.width)
        console.width = int(variables.get("COLUMNS", 80))
        for each in (changed, mock.patch.object(sys, "argv", words), chdir(folder),
                     redirect_stdout(output), redirect_stderr(errors)):  # fmt: skip
            stack.enter_context(each)
        try:
            main()
        except SystemExit as leaving:
            status = leaving.code or 0
    return subprocess.CompletedProcess(words, status, output.getvalue(), errors.getvalue())


def run_process(folder, *arguments, timeout=60, **variables):
    """Run `python -m nnxp ARGUMENTS` in `folder`, in a process of its own."""
    return completed(
        [sys.executable, "-m", "nnxp", *map(str, arguments)],
        cwd=folder,
        env=environment(folder, **variables),
        timeout=timeout,
    )


def succeed(folder, *arguments, run=run, **variables):
    """What `nnxp ARGUMENTS` prints; it must succeed and complain of nothing."""
    done = run(folder, *arguments, **variables)
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


def fail(folder, *arguments, status=2, run=run, **variables):
    """The one line of an error, of a command that must fail."""
    done = run(folder, *arguments, **variables)
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("nnxp: ")
    assert not CONTROL.search(done.stderr)
    assert done.returncode == status
    return done.stderr


def figure(text, name="accuracy"):
    return float(re.search(rf"{name} (-?\d+\.\d+)", text)[1])


def table(text):
    """A csv's header and its rows."""
    header, *rows = csv.reader(io.StringIO(text))
    return header, rows


def moon_rows(n=200):
    data = nnxp.datasets.moons.read(n)
    return [(a, b, ("upper", "lower")[y]) for (a, b), y in zip(data.x, data.y, strict=True)]


MOON_CSV = "a,b,moon\n" + "".join(f"{100 * a:.4f},{b:.4f},{moon}\n" for a, b, moon in moon_rows())

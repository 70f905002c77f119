"""python -m fuzzing SECONDS [TARGET...]: fuzz targets by atheris; findings go to found/TARGET.

Only what is instrumented guides it: nnxp, and the modules of Python and NumPy that it parses by.
That takes longer than a short run, so it is done once, and each target runs in a fork.
"""

import ctypes
import io
import os
import re
import sys
import tempfile
import traceback
import warnings
from contextlib import redirect_stderr
from pathlib import Path

import atheris

PARSERS = ["nnxp", "gzip", "json", "zipfile", "numpy.lib"]

# It prints each module.
with redirect_stderr(io.StringIO()), atheris.instrument_imports(include=PARSERS):
    from fuzzing import targets


def fuzz(name: str, seconds: str, corpus: Path) -> None:
    """Fuzz a target, and end the process."""
    found = Path(__file__).parent / "found" / name
    found.mkdir(parents=True, exist_ok=True)
    # A short run is that of CI, which must not fail today for what it did not find yesterday.
    fixed = ["-seed=1"] if float(seconds) < 10 else []
    for number, seed in enumerate(targets.TARGETS[name][1]()):
        (corpus / str(number)).write_bytes(seed)
        targets.run(name, seed)  # what is only slow the first time
    atheris.Setup(
        [
            sys.argv[0], str(corpus), f"-max_total_time={seconds}", *fixed,
            "-rss_limit_mb=512", "-timeout=20", "-max_len=8192",
            f"-artifact_prefix={found}/", "-print_final_stats=1",
        ],
        lambda data: targets.run(name, data),
    )  # fmt: skip
    atheris.Fuzz()


def fuzz_in_fork(name: str, seconds: str) -> tuple[int, str]:
    """Return the exit code, or -signal, and what was printed."""
    with tempfile.TemporaryDirectory() as corpus, tempfile.TemporaryFile() as log:
        child = os.fork()
        if not child:
            try:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
                fuzz(name, seconds, Path(corpus))
            except BaseException:
                traceback.print_exc()
            finally:
                ctypes.CDLL(None).exit(3)  # where libFuzzer writes what it found
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        log.seek(0)
        return code, log.read().decode(errors="replace")


def main(seconds: str, *names: str) -> None:
    """Fuzz the targets, or all, in turn."""
    targets.folder()  # one for all forks, removed at the end of this process
    failed = []
    for name in names or targets.TARGETS:
        code, printed = fuzz_in_fork(name, seconds)
        if code:
            failed.append(name)
            print(printed[-4000:])
        else:
            executions, more = re.findall(r"^#(\d+)\s+DONE\s+(.*?) corp", printed, re.MULTILINE)[0]
            print(f"{name}: {executions} executions, {more}", flush=True)
    if failed:
        sys.exit(f"ci/fuzz: failures in {' '.join(failed)}: see tests/fuzzing/found")


if __name__ == "__main__":
    warnings.simplefilter("error")
    main(*sys.argv[1:])

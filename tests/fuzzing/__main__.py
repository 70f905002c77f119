"""python -m fuzzing TARGET SECONDS: fuzz one target by atheris; what it finds goes to found/TARGET.

Only what is instrumented guides it: nnxp, and the modules of Python and NumPy that it parses by.
"""

import sys
import tempfile
import warnings
from pathlib import Path

import atheris

PARSERS = ["nnxp", "gzip", "json", "zipfile", "numpy.lib"]

with atheris.instrument_imports(include=PARSERS):
    from fuzzing import targets

warnings.simplefilter("error")
name, seconds = sys.argv[1], sys.argv[2]
found = Path(__file__).parent / "found" / name
found.mkdir(parents=True, exist_ok=True)
with tempfile.TemporaryDirectory() as corpus:
    # A short run is that of CI, which must not fail today for what it did not find yesterday.
    fixed = ["-seed=1"] if float(seconds) < 10 else []
    for number, seed in enumerate(targets.TARGETS[name][1]()):
        Path(corpus, str(number)).write_bytes(seed)
        targets.run(name, seed)  # what is only slow the first time
    atheris.Setup(
        [
            sys.argv[0], corpus, f"-max_total_time={seconds}", *fixed,
            "-rss_limit_mb=512", "-timeout=20", "-max_len=8192",
            f"-artifact_prefix={found}/", "-print_final_stats=1",
        ],
        lambda data: targets.run(name, data),
    )  # fmt: skip
    atheris.Fuzz()

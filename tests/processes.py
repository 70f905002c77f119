"""Programs that tests run, each of which ends; what hangs shows where."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any


@contextmanager
def started(
    command: list[Any], *, sigint: Any = signal.default_int_handler, **options: Any
) -> Iterator[subprocess.Popen[Any]]:
    """A process that SIGINT reaches, or not; in the end it is killed with what it started.

    Shells ignore SIGINT for what they start in the background, and processes inherit that: so do
    the tests, and what they start.
    """
    # Set here and inherited: a preexec_fn would fork, of which JAX warns.
    earlier = signal.signal(signal.SIGINT, sigint)
    try:
        process = subprocess.Popen(command, start_new_session=True, **options)
    finally:
        signal.signal(signal.SIGINT, earlier)
    with process:
        try:
            yield process
        finally:
            if os.name == "nt":
                process.kill()
            else:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def until(
    condition: Callable[[], Any], process: subprocess.Popen[Any] | None = None, seconds: float = 60
) -> None:
    """Wait until a condition holds, which must be soon, and before the process ends."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None or condition(), "the process has ended"
        assert time.monotonic() < deadline, f"waited for {seconds} seconds"
        time.sleep(0.005)


def completed(
    command: list[Any],
    *,
    input: str | None = None,
    timeout: float = 120,
    check: bool = False,
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with its output as text; when its time is up, show where it is.

    What it started is killed, too. `subprocess.run` waits for that without limit, where it has the
    pipes: a test would never end.
    """
    pipe = subprocess.PIPE
    if input is not None:
        options["stdin"] = pipe
    options["env"] = {"PYTHONFAULTHANDLER": "1"} | dict(options.get("env") or os.environ)
    with started(command, stdout=pipe, stderr=pipe, text=True, **options) as process:
        try:
            stdout, stderr = process.communicate(input, timeout)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # it prints its stack
            with suppress(subprocess.TimeoutExpired):
                _, stderr = process.communicate(timeout=5)
                raise AssertionError(f"took more than {timeout} seconds: {stderr}") from None
            raise
    done = subprocess.CompletedProcess(command, process.returncode, stdout, stderr)
    if check:
        assert done.returncode == 0, stderr
    return done


def python(
    code: str, *arguments: Any, timeout: float = 60, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run code in another Python; see `completed`."""
    return completed([sys.executable, "-c", code, *arguments], timeout=timeout, **options)

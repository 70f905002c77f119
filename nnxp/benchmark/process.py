"""Runs a program in a session of its own, so that it ends together with all that it starts."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from nnxp.backends import blas


class Process:
    """A running program, whose output is passed on line by line. Leaving the context stops it.

    Args:
        command: the program and its arguments.
        on_line: called in another thread with each line of standard output, newline included.
        on_end: called in that thread when the output has ended.
        errors: a binary file for standard error; None merges it with standard output.
        stdin: as for `subprocess.Popen`.
        folder: the program's working directory; None for this process's own.
        environment: the program's environment; None for this process's own.
    """

    def __init__(
        self,
        command: Sequence[str],
        on_line: Callable[[str], Any],
        *,
        on_end: Callable[[], Any] = lambda: None,
        errors: IO[bytes] | None = None,
        stdin: int = subprocess.DEVNULL,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=errors or subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self._stopped = False
        self._reader = threading.Thread(target=self._read, args=(on_line, on_end), daemon=True)
        self._reader.start()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def status(self) -> int | None:
        """The exit status; minus the signal's number if one ended it; None while it runs."""
        return self._process.poll()

    def send(self, text: str) -> None:
        """Write to standard input; does nothing if the program has ended."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(text)
            self._process.stdin.flush()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end, `seconds` at most; return whether the program has ended."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.status is not None

    def interrupt(self) -> None:
        """Send SIGINT, as Ctrl-C does, to the program and all that it started."""
        self._signal(signal.SIGINT)

    def stop(self) -> None:
        """Kill the program and all that it started; a second call does nothing."""
        if self._stopped:
            return
        self._stopped = True
        self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        self._process.wait()
        # A descendant that has left the session may hold the pipe open: do not wait for ever.
        self._reader.join(1.0)
        if self._process.stdin is not None:
            with suppress(OSError):  # a command that was still in the buffer
                self._process.stdin.close()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, number)
            else:
                self._process.terminate()

    def _read(self, on_line: Callable[[str], Any], on_end: Callable[[], Any]) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                on_line(line)
        on_end()


class AnswerError(Exception):
    """Why a program gave no answer: one short line of printable characters.

    Args:
        text: the reason.
        missing: whether a library is missing.
    """

    def __init__(self, text: str, missing: bool = False) -> None:
        self.missing = missing
        plain = "".join(letter if letter.isprintable() else " " for letter in text)
        super().__init__(textwrap.shorten(plain, 500, placeholder=" ..."))


class AnsweringProcess:
    """A Python program that answers in lines of JSON. {"error": TEXT} says that it failed.

    It imports what this process can import, and nothing else from the current folder. No variable
    forces its BLAS to slower kernels; see `environment`.

    Args:
        arguments: of the interpreter: ["-m", "package.module", ...] or ["script.py", ...].
        timeout: seconds to wait for an answer.
    """

    def __init__(self, arguments: Sequence[str], timeout: float) -> None:
        self._timeout = timeout
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115, closed by stop
        self._lines: queue.Queue[str] = queue.Queue()
        path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
        self._process = Process(
            [sys.executable, "-P", *arguments],
            self._lines.put,
            on_end=lambda: self._lines.put(""),
            errors=self._errors,
            stdin=subprocess.PIPE,
            environment=environment() | {"PYTHONPATH": path},
        )

    def ask(self, command: str) -> dict[str, Any]:
        """Send a command as one line and return its answer; see `answer`."""
        self._process.send(command + "\n")
        return self.answer()

    def answer(self, timeout: float | None = None) -> dict[str, Any]:
        """Return the next answer, waiting for `timeout` seconds instead of the usual time.

        Raises:
            AnswerError: the program does not answer in time, fails or ends.
        """
        seconds = self._timeout if timeout is None else timeout
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            raise AnswerError(f"did not answer for {round(seconds, 1):g} seconds") from None
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            raise AnswerError(self._cause(line)) from None
        if "error" in answer:
            raise AnswerError(answer["error"], answer.get("missing", False))
        return answer

    def stop(self) -> None:
        """Kill the program and all that it started; a second call does nothing."""
        self._process.stop()
        self._errors.close()

    def _cause(self, line: str) -> str:
        """Say how the program ended, with the last line of its standard error."""
        if line:
            return f"answered {line.strip()!r}, which is no JSON"
        self._process.wait(self._timeout)
        status = self._process.status
        if status is None:
            return "closed its output and goes on"
        how = f"exit status {status}" if status >= 0 else signal.Signals(-status).name
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        last = next((text for text in reversed(lines) if text.strip()), "")
        return f"died ({how})" + (f": {last}" if last else "")


def environment() -> dict[str, str]:
    """Return the environment of a program that is timed: BLAS is free to choose its kernels.

    A BLAS reads the variables that force kernels when it is loaded, so they must be gone before
    the program starts.
    """
    kept = {name: value for name, value in os.environ.items() if name not in blas.FORCING}
    # Contenders share a GPU; by default JAX would reserve three quarters of it.
    return {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | kept

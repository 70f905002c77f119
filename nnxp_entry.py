"""Where the command `nnxp` starts: outside the package, whose imports take most of the time.

Ctrl-C in that time, and when all is done, is a line and an exit status, not a traceback.
"""

import os
import signal


def main() -> None:
    """Import the command line and run it."""
    # It stays ignored where it is: so shells start what is to run in the background.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    from nnxp.cli import main as run

    run()


def _leave(number: int, frame: object) -> None:
    """End the process at once: an exception might be swallowed by what is being imported."""
    os.write(2, b"nnxp: interrupted\n")
    os._exit(128 + number)

"""The commands `nnxp` and `python -m nnxp`.

Ctrl-C while the command line is imported, and when all is done, is a line and an exit status, not a
traceback.
"""

import os
import signal


def main() -> None:
    """Import the command line and run it."""
    # Where SIGINT is ignored it stays so: shells start background jobs like that.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    from nnxp.cli import main as run

    run()


def _leave(number: int, frame: object) -> None:
    """End the process at once: an exception might be swallowed by what is being imported."""
    os.write(2, b"nnxp: interrupted\n")
    os._exit(128 + number)


if __name__ == "__main__":
    main()

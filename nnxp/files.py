"""Writing files so that a reader sees the old content or the new, never a part."""

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from nnxp.errors import InputError

_WINDOWS = os.name == "nt"
_PREFIX, _RANDOM = ".nnxp-", 8
"""What `tempfile` makes the name of a temporary file of: the prefix and random characters."""


def write(path: str | os.PathLike[str], data: bytes) -> None:
    """Put `data` at `path`, at once: a temporary file beside it, fsync, rename, fsync the folder.

    A device or pipe, such as /dev/stdout, is written to as it is. A symbolic link stays one.
    Temporary files of processes that were killed while they wrote are removed from the folder.

    Raises:
        OSError: the folder or the disk refuses; what was at `path` is still there. The error
            names `path`.
    """
    try:
        _write(path, data)
    except OSError as error:  # the system's own may name no file, or the temporary one
        error.filename, error.filename2 = os.fspath(path), None
        raise


def _write(path: str | os.PathLike[str], data: bytes) -> None:
    if _is_device(path):
        Path(path).write_bytes(data)
        return
    path = Path(os.path.realpath(path))
    _sweep(path.parent)
    handle, temporary = _new_file(path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(temporary, _mode(path))
            if not _WINDOWS:  # it stays locked until it has its name
                os.replace(temporary, path)
        if _WINDOWS:  # which renames no file that is open
            os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync_folder(path.parent)


def _new_file(folder: Path) -> tuple[int, str]:
    """Open a temporary file, locked while it is open so that `_sweep` knows that it is in use."""
    while True:
        handle, path = tempfile.mkstemp(dir=folder, prefix=_PREFIX)
        if _lock(handle) is not False and os.path.exists(path):
            return handle, path
        os.close(handle)  # another process swept it before it was locked


def _sweep(folder: Path) -> None:
    """Remove the temporary files that nobody locks: the processes that made them are gone."""
    if _WINDOWS:
        return
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and len(entry.name) == len(_PREFIX) + _RANDOM:
                with suppress(OSError):
                    _remove_unlocked(entry)


def _remove_unlocked(entry: os.DirEntry[str]) -> None:
    if not entry.is_file(follow_symlinks=False):
        return
    handle = os.open(entry.path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        if _lock(handle):
            os.unlink(entry.path)
    finally:
        os.close(handle)


def _lock(handle: int) -> bool | None:
    """Lock a file until it is closed, also by the end of the process.

    Returns:
        False if another process has it locked; None where there are no locks.
    """
    if _WINDOWS:
        return None
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True


def check_writable(path: str | os.PathLike[str], option: str) -> None:
    """Raise InputError, naming `option`, if `write` could not put a file at `path`."""
    real = Path(os.path.realpath(path))
    try:
        if real.is_dir():
            raise InputError(f"{option} {path}: is a folder; name a file in it")
        if _is_device(path):
            return
        with tempfile.TemporaryFile(dir=real.parent):
            pass
    except OSError as error:
        raise InputError(
            f"{option} {path}: cannot write there ({error.strerror}); name a folder that you can "
            "write to"
        ) from None


def _is_device(path: str | os.PathLike[str]) -> bool:
    """Whether something other than a file or folder is there: before links are resolved, for
    /dev/stdout resolves to a pipe that has no path."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def _mode(path: Path) -> int:
    """What the file's permissions are, or would be if it were made the ordinary way."""
    if path.exists():
        return stat.S_IMODE(path.stat().st_mode)
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def _sync_folder(folder: Path) -> None:
    if _WINDOWS:  # folders cannot be opened there, and renames are durable enough
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""Writing files so that a reader sees the old content or the new, never a part."""

import os
import stat
import tempfile
from pathlib import Path

from nnxp.errors import InputError


def write(path: str | os.PathLike[str], data: bytes) -> None:
    """Put `data` at `path`, at once: a temporary file beside it, fsync, rename, fsync the folder.

    A device or pipe, such as /dev/stdout, is written to as it is. A symbolic link stays one.

    Raises:
        OSError: the folder or the disk refuses; what was at `path` is still there.
    """
    if _is_device(path):
        Path(path).write_bytes(data)
        return
    path = Path(os.path.realpath(path))
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".nnxp-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _mode(path))
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    _sync_folder(path.parent)


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
    if os.name == "nt":  # folders cannot be opened there, and renames are durable enough
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

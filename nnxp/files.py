"""Reads of files that end, and atomic writes: a reader sees old or new content, never a part."""

import errno
import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from nnxp import strict_json
from nnxp.errors import DataError, InputError

LARGEST_JSON = 100_000_000
"""Bytes that `read_json` reads at most."""
_fcntl: Any = None
"""Python's module; None on Windows, which has none."""
with suppress(ImportError):
    import fcntl

    _fcntl = fcntl

_WINDOWS = os.name == "nt"
_FOLDS_CASE = sys.platform in ("win32", "darwin")
_TRIES, _PAUSE = 20, 0.05
"""How often to try a rename on Windows, and the seconds between: virus scanners read new files."""
_PREFIX, _RANDOM = ".nnxp-", 8
"""The name of a temporary file: the prefix and the number of random characters of `tempfile`."""


def open_to_read(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file, or a pipe, for reading bytes.

    Raises:
        OSError: it cannot be read, or is a device: the content of /dev/zero never ends.
    """
    file = open(path, "rb")  # noqa: SIM115
    if stat.S_ISCHR(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "is a device, not a file", os.fspath(path))
    return file


def read(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a file, or of a pipe; see `open_to_read` for the errors."""
    with open_to_read(path) as file:
        return file.read()


def read_json(path: str | os.PathLike[str], made_by: str) -> Any:
    """Return the content of a JSON file; `made_by` says, for the error, what writes such a file.

    Raises:
        DataError: it cannot be read, is larger than `LARGEST_JSON`, or is not JSON that
            `strict_json` reads; numbers may be NaN or infinite.
    """
    try:
        with open_to_read(path) as file:
            content = file.read(LARGEST_JSON + 1)
        if len(content) > LARGEST_JSON:
            raise ValueError(f"more than {LARGEST_JSON:,} bytes")
        return strict_json.loads(content, finite=False)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}): {made_by} makes one") from None


def write(path: str | os.PathLike[str], data: bytes | Iterable[bytes]) -> None:
    """Write `data` to `path` atomically: temporary file in its folder, fsync, rename, fsync.

    Data in parts is written as they come, and never in memory as a whole.

    A device or pipe, such as /dev/stdout, is written to directly. A symbolic link stays a link.
    Temporary files of killed processes are removed from the folder.

    Raises:
        OSError: the folder or the disk refuses. The old file at `path` is unchanged. The error
            names `path`.
    """
    try:
        _write(path, [data] if isinstance(data, bytes) else data)
    except OSError as error:  # the system's error may name no file, or the temporary one
        raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from error


def _write(path: str | os.PathLike[str], parts: Iterable[bytes]) -> None:
    if _is_device(path):
        with open(path, "wb") as file:
            file.writelines(parts)
        return
    path = Path(os.path.realpath(path))
    _sweep(path.parent)
    handle, temporary = _new_file(path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(parts)
            file.flush()
            _sync(file.fileno())
            os.chmod(temporary, _mode(path))
            if not _WINDOWS:  # the lock lasts until the rename
                os.replace(temporary, path)
        if _WINDOWS:  # Windows cannot rename an open file
            _replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync_folder(path.parent)


Stamp = tuple[int, int, int, int] | None
"""What tells a file from one that replaces it; None if there is no file."""


def stamp(path: str | os.PathLike[str]) -> Stamp:
    """Return the stamp of the file at `path`."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


@contextmanager
def claimed(path: str | os.PathLike[str], since: Stamp) -> Iterator[str]:
    """Yield where to write: `path` if the file there has the stamp `since`, else a free name.

    The free name has a number: "model-2.safetensors". Until the end of the context, other processes
    that claim a file of the folder wait; on Windows they do not.
    """
    if _is_device(path):
        yield os.fspath(path)
        return
    with _alone(Path(os.path.realpath(path)).parent):
        yield os.fspath(path) if stamp(path) == since else free_name(path)


def free_name(path: str | os.PathLike[str]) -> str:
    """Return `path` if nothing is there, else with the first number from 2 that is free."""
    path = Path(path)
    names = chain([path.name], (f"{path.stem}-{i}{path.suffix}" for i in count(2)))
    return str(next(p for p in map(path.with_name, names) if not os.path.lexists(p)))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes out of this context for the same folder."""
    if _WINDOWS:
        yield
        return
    path = folder / f"{_PREFIX}lock"
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        _lock(handle, wait=True)
        try:
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                break
        except FileNotFoundError:
            pass
        os.close(handle)  # the process before removed it
    try:
        yield
    finally:
        with suppress(OSError):
            os.unlink(path)
        os.close(handle)


def _new_file(folder: Path) -> tuple[int, str]:
    """Open a temporary file and lock it, so that `_sweep` knows that it is in use."""
    while True:
        handle, path = tempfile.mkstemp(dir=folder, prefix=_PREFIX)
        if _lock(handle) is not False and os.path.exists(path):
            return handle, path
        os.close(handle)  # another process removed it before it was locked


def _sweep(folder: Path) -> None:
    """Remove temporary files without a lock, whose processes have ended."""
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


def _lock(handle: int, wait: bool = False) -> bool | None:
    """Lock a file until it is closed or the process ends.

    Args:
        handle: the open file.
        wait: whether to wait for another process that has the lock.

    Returns:
        False if another process has the lock; None if the system or file system has no locks.
    """
    if _fcntl is None:
        return None
    try:
        _fcntl.flock(handle, _fcntl.LOCK_EX | (0 if wait else _fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True


def make_folder(path: str | os.PathLike[str]) -> None:
    """Make a folder, and those above it that are missing; all are there after a power failure, too.

    Raises:
        OSError: the disk or a folder above refuses.
    """
    path = Path(path)
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        _sync_folder(folder.parent)


@contextmanager
def held(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Hold a folder, also against other threads, until the end of the context or of the process.

    Raises:
        InputError: another holds it.
    """
    taken = InputError(f"{folder}: another training saves there now; name another folder")
    if _WINDOWS:  # it cannot open folders; this file goes with its handle
        path = Path(folder) / f"{_PREFIX}lock"
        temporary = getattr(os, "O_TEMPORARY", 0)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | temporary)
        except FileExistsError:
            raise taken from None
    else:
        handle, temporary = os.open(folder, os.O_RDONLY | os.O_CLOEXEC), None
    try:
        if _lock(handle) is False:
            raise taken
        yield
    finally:
        os.close(handle)
        if temporary == 0:  # a stand-in for Windows, in tests
            os.unlink(path)


def open_log(path: str | os.PathLike[str]) -> TextIO:
    """Open a file for text that grows line by line, and empty it.

    Raises:
        InputError: another process has it open for this.
        OSError: the folder or the disk refuses.
    """
    # Without O_BINARY, Windows would write "\r\n" for each "\n".
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
    try:
        if stat.S_ISREG(os.fstat(handle).st_mode):
            if _lock(handle) is False:
                raise InputError(f"{path}: another process writes to it; name another file")
            os.ftruncate(handle, 0)
        # A buffer of one line: each is written as a whole.
        return os.fdopen(handle, "w", encoding="utf-8", newline="", buffering=1)
    except BaseException:
        os.close(handle)
        raise


def check_folder(folder: str | os.PathLike[str], option: str) -> None:
    """Raise InputError, naming `option`, if `folder` cannot be made or no file put into it."""
    there = Path(folder)
    if not os.fspath(folder):
        raise InputError(f"{option} '': name a folder")
    try:
        while not _exists(there):
            there = there.parent
        if not there.is_dir():
            what = "is no folder" if there == Path(folder) else f"{there} is no folder"
            raise InputError(f"{option} {folder}: {what}; name another")
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise _unwritable(option, folder, error) from None


def _exists(path: Path) -> bool:
    """Return whether there is something; unlike `Path.exists`, raise OSError for a bad name."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    return True


def is_same(a: str | os.PathLike[str], b: str | os.PathLike[str]) -> bool:
    """Return whether two paths name the same file, which may not be there.

    Windows and macOS do not tell capital letters from small ones.
    """
    with suppress(OSError):
        return os.path.samefile(a, b)
    first, second = map(os.path.realpath, (a, b))
    return first == second or (_FOLDS_CASE and first.casefold() == second.casefold())


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
        raise _unwritable(option, path, error) from None


def _unwritable(option: str, path: str | os.PathLike[str], error: OSError) -> InputError:
    return InputError(
        f"{option} {path}: cannot write there ({error.strerror}); name a folder that you can "
        "write to"
    )


def _is_device(path: str | os.PathLike[str]) -> bool:
    """Return whether `path` is something other than a file or folder, such as a device.

    Give the path before links are resolved, because /dev/stdout resolves to a pipe without a path.
    """
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def _mode(path: Path) -> int:
    """Return the file's permissions; for a new file, those that `open` would give it."""
    if path.exists():
        return stat.S_IMODE(path.stat().st_mode)
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def _replace(temporary: str, path: Path) -> None:
    """Rename on Windows, where a program that has `path` open for a moment keeps it from that."""
    for _ in range(_TRIES - 1):
        with suppress(PermissionError):
            os.replace(temporary, path)
            return
        time.sleep(_PAUSE)
    os.replace(temporary, path)


def _sync(handle: int) -> None:
    """Write a file to the disk; on macOS, where fsync leaves it in the disk's cache, really."""
    full = getattr(_fcntl, "F_FULLFSYNC", None)
    if full is not None:
        with suppress(OSError):  # some network file systems have none
            _fcntl.fcntl(handle, full)
            return
    os.fsync(handle)


def _sync_folder(folder: Path) -> None:
    if _WINDOWS:  # Windows cannot open folders, and its renames are durable enough
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

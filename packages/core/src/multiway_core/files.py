"""Writes that are whole or absent: a reader never sees half a file, whatever kills the writer.

Everything is written beside its destination, flushed to the disk, and moved into place in one step. What a killed
writer left there is removed by the next one.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, cast

from multiway_core.errors import InputError, OutputError, os_reason

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# What a disk says while bytes are written; any other OSError inside a block is not about the output.
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
_TEMPORARY = re.compile(r"\.[0-9a-f]{12}\.tmp")
_FRESH_SECONDS = 10  # a writer may not hold yet what it has just made
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def check_output(path: Path, *, inputs: Iterable[Path | None] = (), overwrite: bool = False) -> None:
    """Refuse to write a file over an input, or over a file that is there unless `overwrite` says so.

    Raises InputError. Special files (`/dev/stdout`, a pipe) and folders pass.
    """
    for read in inputs:
        if read is not None and os.path.realpath(read) == os.path.realpath(path):
            raise InputError(f"the output {path} would replace the input; give another name")
    if not overwrite and Path(path).is_file():
        raise InputError(f"{path} exists; give another name, or --overwrite")


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that becomes `path` when the block ends without an exception.

    Missing parent folders are made. After an exception `path` is as it was before. The handle's `.name` is
    the temporary file's path, for libraries that insist on opening a path. A special file (`/dev/stdout`, a
    pipe) is written directly.

    Raises OutputError: no space, no permission, or something is in the way.
    """
    path = Path(path)
    with _output_errors(path):
        mode = path.stat().st_mode if path.exists() else None
    if mode is not None and stat.S_ISDIR(mode):
        raise OutputError(f"cannot write {path}: it is a folder; give a file name")
    if mode is not None and not stat.S_ISREG(mode):
        try:
            with path.open("wb") as special:
                yield special
        except OSError as error:
            if isinstance(error, PermissionError) or error.errno in DISK_ERRORS:
                raise _cannot_write(path, error) from error
            raise
        return

    target = path.resolve() if path.is_symlink() else path  # a link stays; the file it names is replaced
    temporary = _beside(target)
    with _output_errors(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent.resolve())
        file = temporary.open("x+b")
    try:
        with file:
            _hold(file.fileno())
            yield cast(BinaryIO, file)
            file.flush()
            if mode is not None:
                temporary.chmod(stat.S_IMODE(mode))
            os.fsync(file.fileno())
        with _output_errors(path):
            temporary.replace(target)
            _sync(target.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise _cannot_write(path, error) from error
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically. Raises OutputError."""
    with atomic_write(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, line ends as they are, atomically. Raises OutputError.

    Lone surrogates (they come from file names that are not UTF-8) are written as `?`.
    """
    write_bytes(path, text.encode("utf-8", errors="replace"))


def sha256(path: Path) -> str:
    """The digest of a file's content, in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replace_folder(folder: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty temporary folder that becomes `folder` when the block ends without an exception.

    A non-empty `folder` is refused unless `overwrite` says that all of its content may go. On Linux the old
    and the new folder change places in one system call; elsewhere two renames follow one another.

    Raises OutputError: no space, no permission, or something is in the way.
    """
    folder = Path(folder).resolve()  # the parent of "." must not be "."
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"cannot write the folder {folder}: a file is in the way")
    if folder.is_dir() and not overwrite:
        with _output_errors(folder):
            is_empty = next(folder.iterdir(), None) is None
        if not is_empty:
            raise OutputError(f"cannot write the folder {folder}: it is not empty; give a new folder")
    temporary = _beside(folder)
    with _output_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder.parent)
        temporary.mkdir()
    held = None if os.name == "nt" else os.open(temporary, os.O_RDONLY)
    try:
        _hold(held)
        yield temporary
        with _output_errors(folder):
            for parent, _, names in os.walk(temporary):
                for name in names:
                    _sync(Path(parent, name))
                _sync(Path(parent))
            if folder.exists():
                _exchange(temporary, folder)
            else:
                temporary.rename(folder)
            _sync(folder.parent)
    except OSError as error:
        if error.errno in DISK_ERRORS:
            raise _cannot_write(folder, error) from error
        raise
    finally:  # what lies under the temporary name is now the old folder or an unfinished one
        shutil.rmtree(temporary, ignore_errors=True)
        if held is not None:
            os.close(held)


def private_cache_folder(name: str) -> Path:
    """``$XDG_CACHE_HOME/multiway/<name>`` (else below ``~/.cache``), which nobody but this user can enter.

    Raises OSError, RuntimeError: it cannot be made, is a link or another user's, or could be written by others.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base) if base else Path.home() / ".cache") / "multiway" / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if hasattr(os, "getuid"):
        for part in (folder.parent, folder):  # who owns the parent can exchange the folder
            status = part.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
                raise PermissionError(f"{part} is another user's")
            if part == folder and status.st_mode & 0o022:  # others may have put files there
                raise PermissionError(f"{part} can be written by another user")
            part.chmod(0o700)
    return folder


def _exchange(one: Path, other: Path) -> None:
    """Let two folders of one file system change names.

    Python has no call for it. Two renames leave a moment in which a killed process leaves no folder of that name, so
    Linux's ``renameat2`` is called where it is there.
    """
    if sys.platform == "linux":
        renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
        if renameat2 is not None:
            names = os.fsencode(one), os.fsencode(other)
            if renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
                return
            if ctypes.get_errno() not in (errno.EINVAL, errno.ENOSYS):  # those two: not on this file system
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(other))
    aside = _beside(other)
    other.rename(aside)
    try:
        one.rename(other)
    except BaseException:
        aside.rename(other)
        raise
    aside.rename(one)


def _beside(path: Path) -> Path:
    # Short and independent of the name, which may already be as long as the file system allows.
    return path.parent / f".{secrets.token_hex(6)}.tmp"


def _hold(descriptor: int | None) -> bool:
    """Lock what is being written for as long as it is open, so that `_sweep` knows that its writer lives.

    Whether it is locked now. Not `flock` for files: HDF5's library takes that itself.
    """
    if fcntl is None or descriptor is None:
        return False
    is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
    try:
        (fcntl.flock if is_folder else fcntl.lockf)(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another holds it, or a file system without locks
        return False
    return True


@cache
def _sweep(folder: Path) -> None:
    """Remove what killed writers left in `folder`, once a process: our temporary names that nobody holds."""
    for path in folder.glob(".*.tmp"):
        with suppress(OSError):
            status = path.lstat()
            if not _TEMPORARY.fullmatch(path.name) or time.time() - status.st_mtime < _FRESH_SECONDS:
                continue
            is_folder = stat.S_ISDIR(status.st_mode)
            descriptor = os.open(
                path, (os.O_RDONLY if is_folder else os.O_RDWR) | getattr(os, "O_NOFOLLOW", 0)
            )
            try:
                if _hold(descriptor):
                    shutil.rmtree(path) if is_folder else path.unlink()
            finally:
                os.close(descriptor)


def _sync(path: Path) -> None:
    if path.is_symlink() or (path.is_dir() and os.name == "nt"):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _output_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> OutputError:
    reason = os_reason(error)
    if isinstance(error, FileExistsError):
        reason = f"{error.filename} is a file, not a folder"
    return OutputError(f"cannot write {path}: {reason}")

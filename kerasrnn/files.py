"""All writing to disk goes through this module.

- `replacing` writes a file or a folder completely or not at all, and replaces only its own kind;
  `replacing_together` does the same with several that belong together;
- `check_place` raises the same errors before any work is done;
- `check_room` checks that a file of some size could be written;
- `locked` keeps other processes out of a folder;
- `scratch_folder` is a folder of this process alone, and `link` puts a file there without a copy;
- `writing` turns the errors of a full or read-only disk into one line;
- `remove` and `remove_strays` delete what the library itself has written.

No other module of the library renames or deletes files.
"""

import contextlib
import ctypes
import dataclasses
import errno
import functools
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from kerasrnn.wording import counted

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there
    fcntl = None

SCRATCH = ".kerasrnn-unfinished-"
"""The prefix of folders with unfinished files."""

LOCK = ".lock"
"""The name of a lock file, in the folder that it locks."""

NAMED_WITHIN = 1.0
"""The time in seconds that the holder of a lock has to sign its file after taking the lock."""

ADVICE = {
    errno.ENOSPC: "Free some space or some inodes there (df, df -i), or write to another place",
    errno.EDQUOT: "Free some of your quota, or write to another place",
    errno.EFBIG: "Raise the limit on the size of files (ulimit -f), or write to another place",
    errno.EROFS: "Write to another place",
    errno.EACCES: "Change the permissions, or write to another place",
    errno.EPERM: "Change the permissions, or write to another place",
    errno.ENAMETOOLONG: "Choose a shorter name",
    errno.ENOTDIR: "Write to another place",
    errno.EIO: "Check the disk, or write to another place",
}
"""Advice for each error of the disk."""

IN_WORDS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Errors that other packages report as their own errors, quoting only the system's message."""


class OccupiedError(FileExistsError):
    """A path contains something that would be lost if it were overwritten."""


class LockedError(RuntimeError):
    """Another process is using a folder."""


class WriteError(OSError):
    """A file or folder cannot be written. The message is one line: the path, the cause, advice."""

    def __str__(self) -> str:
        advice = ADVICE.get(self.errno)
        return f"{self.filename} cannot be written: {self.strerror}." + f" {advice}." * bool(advice)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of file or folder, which may be replaced by a new one of the same kind.

    Args:
        name: for error messages, such as "an ONNX file".
        recognizes: returns whether an existing file or folder is of this kind, by its content.
        is_folder: whether it is a folder.
    """

    name: str
    recognizes: Callable[[Path], bool] = lambda path: True
    is_folder: bool = False


FILE = Kind("a file")
"""Any regular file: for names inside the library's own folders."""


def check_place(path: str | Path, kind: Kind = FILE) -> Path:
    """Check that something of a kind can be written to a path without loss.

    Returns:
        The path with links resolved: a link keeps pointing to it.

    Raises:
        OccupiedError: the path contains something else, or is the working folder or above it.
        WriteError: permissions or the file system forbid it.
    """
    place = Path(os.path.realpath(path))
    with writing(place):
        if _exists(place):
            existing = _unlike(place, kind)
            if existing:
                raise OccupiedError(
                    f"path={str(path)!r}: there is {existing}; expected a new path, or "
                    f"{kind.name}, which would be replaced."
                )
            if not kind.is_folder and not os.access(place, os.W_OK):
                raise _refusal(errno.EACCES, place)
        above = place.parent
        while not os.path.lexists(above):
            above = above.parent
        if not above.is_dir():
            raise _refusal(errno.ENOTDIR, above)
        if not os.access(above, os.W_OK | os.X_OK):
            raise _refusal(errno.EACCES, above)
    return place


def _exists(place: Path) -> bool:
    """Whether anything exists there, including a broken link; an error if nothing can exist."""
    try:
        place.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _unlike(place: Path, kind: Kind) -> str:
    """Describe what is at a path unless it is of the given kind; then the text is empty."""
    if not place.is_dir():
        if not place.is_file():
            return "neither a file nor a folder"
        if kind.is_folder or not kind.recognizes(place):
            return f"a file of {counted(place.stat().st_size, 'byte')} that is not {kind.name}"
        return ""
    if Path(os.path.realpath(os.curdir)).is_relative_to(place):
        return "the working folder"
    if os.path.ismount(place):
        return "a mounted file system"
    names = sorted(os.listdir(place))
    if not kind.is_folder:
        return f"a folder of {counted(len(names), 'file or folder', 'files and folders')}"
    if names and not kind.recognizes(place):
        some = ", ".join(names[:3]) + ", ..." * (len(names) > 3)
        return f"a folder with other contents than {kind.name} ({some})"
    return ""


@contextlib.contextmanager
def replacing(path: str | Path, kind: Kind = FILE) -> Iterator[Path]:
    """A scratch path, with the name of `path`, that replaces it on success.

    Inside the `with` block the new file or folder is written to the scratch path. After the block
    it is flushed to disk, with the permissions of the one that it replaces, and then replaces it in
    one step: if the process is killed or the machine loses power, either the old one or the new one
    remains, complete. If the block raises, the old one is left unchanged.

    Raises:
        OccupiedError: `path` contains something of another kind: see `check_place`.
        WriteError: the disk is full or read-only, permissions are missing, and the like.
    """
    place = check_place(path, kind)
    with writing(place):
        remove_strays(place.parent)
        with scratch_folder(place.parent) as scratch:
            new = scratch / place.name
            yield new
            if place.exists():
                shutil.copymode(place, new)
            _sync(new)
            check_place(path, kind)
            _put_in_place(new, place, scratch)
            _sync_folder(place.parent)


@contextlib.contextmanager
def replacing_together(folder: str | Path, kinds: Mapping[str, Kind]) -> Iterator[Path]:
    """A scratch folder whose files and folders are moved into `folder` on success.

    Like `replacing`, for several that belong together: if the block raises, or the process is
    killed in it, the content of `folder` is left unchanged, and `folder` is not created. After the
    block they are moved one by one, each in one step.

    Args:
        folder: the destination, created if it does not exist.
        kinds: by name, what may be written; anything else in the scratch folder is not moved.

    Raises:
        OccupiedError: `folder` contains something of another kind under one of the names.
        WriteError: the disk is full or read-only, permissions are missing, and the like.
    """
    folder = Path(os.path.realpath(folder))
    for name, kind in kinds.items():
        check_place(folder / name, kind)
    above = folder
    while not above.is_dir():
        above = above.parent
    with writing(folder):
        remove_strays(above)
        with scratch_folder(above) as scratch:
            # The path equals that of the folder, except for the scratch folder: see `_shown`.
            staged = scratch / folder.relative_to(above)
            staged.mkdir(parents=True, exist_ok=True)
            yield staged
            written = [name for name in kinds if _exists(staged / name)]
            for name in written:
                if (folder / name).exists():
                    shutil.copymode(folder / name, staged / name)
                _sync(staged / name)
            create_folder(folder)
            for name in written:
                _put_in_place(staged / name, check_place(folder / name, kinds[name]), scratch)
            _sync_folder(folder)


def create_folder(path: str | Path, mode: int = 0o777) -> None:
    """Create a folder to write to, and its parents, unless it exists.

    Args:
        mode: the permissions of a new folder, but not of its parents.

    Raises:
        WriteError: it cannot be created or written to, or is a file.
    """
    with writing(path):
        try:
            Path(path).mkdir(mode, parents=True, exist_ok=True)
        except FileExistsError:
            raise _refusal(errno.ENOTDIR, path) from None
        except FileNotFoundError as error:  # some file systems, such as /proc, reject folders
            raise WriteError(error.errno, error.strerror, str(path)) from None
        if not os.access(path, os.W_OK | os.X_OK):
            raise _refusal(errno.EACCES, path)


def check_room(folder: Path, size: int) -> None:
    """Check that a file of a size in bytes could be written to a folder.

    Raises:
        WriteError: the disk has less space, or a quota or a limit on the size of files forbids it.
    """
    with writing(folder):
        if shutil.disk_usage(folder).free < size:
            raise _refusal(errno.ENOSPC, folder)
        if hasattr(os, "posix_fallocate"):
            with tempfile.TemporaryFile(dir=folder) as file:
                try:
                    os.posix_fallocate(file.fileno(), 0, size)
                except OSError as error:
                    if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # not supported there
                        raise _refusal(error.errno, folder) from None


def link(source: Path, path: Path) -> None:
    """Link a file to a new path on the same file system; copy it if there are no hard links.

    Raises:
        FileExistsError: the path exists.
    """
    try:
        os.link(source, path)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(source, path)


def _refusal(number: int, path: str | Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))


def is_empty(folder: Path) -> bool:
    """Whether a folder contains nothing but the library's own lock and unfinished files."""
    return all(name == LOCK or name.startswith(SCRATCH) for name in os.listdir(folder))


def remove(path: Path) -> None:
    """Delete a file or a folder that the library has written, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with writing(path):
            path.unlink(missing_ok=True)


def remove_if_empty(folder: Path) -> None:
    """Delete a folder unless something is in it."""
    with contextlib.suppress(OSError):
        folder.rmdir()


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn errors of the disk, reported by any package, into `WriteError`.

    Args:
        path: the path for the message if the original error has none.
    """
    try:
        yield
    except (WriteError, OccupiedError):
        raise
    except Exception as error:
        disk_error = disk_error_of(error, path)
        if disk_error is None:
            raise
        raise disk_error from error


def disk_error_of(error: BaseException, path: str | Path) -> "WriteError | None":
    """The error of the disk behind an error, if it can arise from writing to a path.

    Args:
        error: an error raised by any package.
        path: the path for the message if the error has none.
    """
    cause = _system_error_of(error)
    if cause is None:
        return None
    number, name = cause
    if number not in IN_WORDS and name is not None and not _related(name, path):
        return None  # for example of a file being read
    return WriteError(number, os.strerror(number), name or str(path))


def _system_error_of(error: BaseException) -> tuple[int, str | None] | None:
    """Number and file name of the error of the disk behind an error; None if there is none."""
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, OSError) and at.errno in ADVICE:
            return at.errno, _shown(at.filename)
        for number in IN_WORDS:
            if os.strerror(number) in str(at):
                return number, None
        at = at.__cause__ or at.__context__
    return None


def _related(name: str, path: str | Path) -> bool:
    """Whether a file is next to, below or above a path."""
    one, other = Path(os.path.realpath(name)), Path(os.path.realpath(path))
    return one.is_relative_to(other.parent) or other.is_relative_to(one)


def _shown(name: Any) -> str | None:
    """The name of a file as given by the user, rather than that in the scratch folder."""
    if not isinstance(name, (str, os.PathLike)):
        return None
    return re.sub(rf"{re.escape(os.sep + SCRATCH)}\w{{8}}(?=$|{re.escape(os.sep)})", "", str(name))


# Scratch folders: locked during the life of their process, so that others can recognize strays.


@contextlib.contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """A new folder in a folder, which is deleted after the `with` block.

    If the process is killed in the block, `remove_strays` deletes it later.
    """
    while True:
        try:
            scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=folder))
        except FileNotFoundError as error:  # some file systems, such as /proc, reject them
            raise WriteError(error.errno, error.strerror, str(folder)) from None
        lock = _Lock(scratch / LOCK)
        if lock.take("writing"):
            break
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        lock.close()


def remove_strays(folder: Path) -> None:
    """Remove the unfinished files of killed processes, and only those."""
    try:
        names = [
            name for name in os.listdir(folder) if re.fullmatch(re.escape(SCRATCH) + r"\w{8}", name)
        ]
    except OSError:  # writing there fails too, and reports it
        return
    for name in names:
        stray = folder / name
        if stray.is_symlink() or not stray.is_dir():
            continue
        if not (stray / LOCK).exists():
            with contextlib.suppress(OSError):
                stray.rmdir()  # killed before it was locked: it is empty
            continue
        lock = _Lock(stray / LOCK)
        with contextlib.suppress(OSError):
            if lock.take(None) and lock.is_real:
                _put_back(stray, folder)
                shutil.rmtree(stray, ignore_errors=True)
        lock.close()


# Replacing.


def _put_in_place(new: Path, place: Path, scratch: Path) -> None:
    if not place.is_dir():
        os.replace(new, place)
    elif not _exchange(new, place):
        # Between the two steps the path does not exist: `_put_back` repairs that.
        aside = scratch / "aside"
        aside.mkdir(exist_ok=True)
        shutil.move(place, aside / place.name)
        _sync_folder(aside)
        os.replace(new, place)


def _put_back(stray: Path, folder: Path) -> None:
    """Restore what a killed process moved aside without replacing it."""
    aside = stray / "aside"
    for name in os.listdir(aside) if aside.is_dir() else []:
        if not os.path.lexists(folder / name):
            os.replace(aside / name, folder / name)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two paths in one step; False if the system or the file system cannot."""
    call, arguments = _exchange_call()
    if call is None:
        return False
    paths = os.fsencode(one), os.fsencode(other)
    return call(*arguments(*paths)) == 0


@functools.cache
def _exchange_call() -> tuple[Any, Callable[..., tuple[Any, ...]]]:
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE; RENAME_SWAP of macOS is also 2
    if sys.platform == "linux":
        return _of_libc("renameat2"), lambda a, b: (here, a, here, b, exchange)
    if sys.platform == "darwin":
        return _of_libc("renamex_np"), lambda a, b: (a, b, exchange)
    return None, lambda a, b: (a, b)


def _of_libc(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None, use_errno=True), name, None)
    except OSError:
        return None


def _sync(path: Path) -> None:
    """Flush a file, or everything in a folder, to disk."""
    if path.is_dir():
        for folder, _, names in os.walk(path):
            for name in names:
                _sync_file(os.path.join(folder, name))
            _sync_folder(Path(folder))
    else:
        _sync_file(path)


def _sync_file(path: str | Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    """Flush the names in a folder to disk; some systems do not support it."""
    with contextlib.suppress(OSError):
        _sync_file(folder)


# Locks.


@contextlib.contextmanager
def locked(
    folder: str | Path,
    doing: str,
    name: str = LOCK,
    wait: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """Keep other processes out of a folder during a `with` block.

    The lock is the system's (`flock`), on a file that names the holder; it ends with the process,
    however that ends. If the file system does not support locks, nothing is locked.

    Args:
        folder: an existing folder.
        doing: what the process is doing there, for the errors of others, such as "training".
        name: name of the lock file.
        wait: called once, with a message that names the holder, if the lock is taken; then waits
            for the lock. Without it, a taken lock is an error.

    Raises:
        LockedError: another process holds the lock.
        WriteError: the lock file cannot be written.
    """
    lock = _Lock(Path(folder) / name)
    reported = False
    unnamed_until = time.monotonic() + NAMED_WITHIN
    with writing(lock.path):
        while not lock.take(doing):
            holder = lock.holder()
            if holder is None and time.monotonic() < unnamed_until:
                time.sleep(0.02)
                continue
            message = f"{folder} is in use" + (f": {holder}." if holder else " by another process.")
            if wait is None:
                raise LockedError(message)
            if not reported:
                wait(message)
                reported = True
            time.sleep(0.2)
    try:
        yield
    finally:
        lock.release()


class _Lock:
    """A lock file. Only its holder deletes it, while holding the lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.handle: int | None = None
        self.is_real = fcntl is not None
        """Whether the system supports the lock."""

    def take(self, doing: str | None) -> bool:
        """Take the lock unless another process has it, and record the holder (None: do not)."""
        try:
            self.handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        except PermissionError:
            if not self.path.exists():
                raise
            self.handle = os.open(self.path, os.O_RDONLY)  # another user's
        except FileNotFoundError:
            if self.path.parent.name.startswith(SCRATCH):
                return False  # mistaken for a stray before it was locked
            raise
        if not self._lock() or not self._is_current():
            self.close()
            return False
        if doing is not None:
            with contextlib.suppress(OSError):
                text = json.dumps(
                    {
                        "process": os.getpid(),
                        "host": platform.node(),
                        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
                        "doing": doing,
                    }
                )
                os.ftruncate(self.handle, 0)
                os.pwrite(self.handle, text.encode(), 0)
        return True

    def _lock(self) -> bool:
        if fcntl is None:
            return True
        try:
            fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK):
                return False
            self.is_real = False  # the file system does not support locks
        return True

    def _is_current(self) -> bool:
        """Whether the locked file is still the one with that name."""
        try:
            return os.path.samestat(os.fstat(self.handle), os.stat(self.path))
        except FileNotFoundError:
            return False

    def holder(self) -> str | None:
        """A description of the holder; None if nobody has signed the lock."""
        try:
            record = json.loads(self.path.read_text(encoding="utf-8"))
            return "{doing} by process {process} on {host} since {since}".format(**record)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def release(self) -> None:
        """Delete the file, and release the lock."""
        with contextlib.suppress(OSError):
            self.path.unlink()
        self.close()

    def close(self) -> None:
        """Release the lock, even if forked processes have inherited it."""
        if self.handle is None:
            return
        if fcntl is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(self.handle, fcntl.LOCK_UN)
        os.close(self.handle)
        self.handle = None


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Kinds.


def starts_with(pattern: bytes) -> Callable[[Path], bool]:
    """Check whether the first bytes of a file match a regular expression."""
    compiled = re.compile(pattern, re.DOTALL)

    def recognizes(path: Path) -> bool:
        with path.open("rb") as file:
            return compiled.match(file.read(256)) is not None

    return recognizes

"""Failed reads and writes of any library as one message: path, what the file system says, what is kept, what to do."""

import errno
import os
import re
import shutil
import tempfile
from pathlib import Path

from sam2ft.core.errors import DiskError, UserError

# Error number -> (reason, remedy) of a file system that fails while it is written.
_OF_DISK = {
    errno.ENOSPC: ("full (no space left on device)", "make room"),
    errno.EDQUOT: ("over quota (disk quota exceeded)", "remove files there or ask for a larger quota"),
    errno.EFBIG: ("file too large for its file system or `ulimit -f`", "raise the limit or use another file system"),
    errno.EROFS: ("read-only file system", "make it writable again"),
    errno.EIO: ("I/O error (input/output error)", "check the file system (`dmesg`, its server)"),
}
# Of a network file system; without a path they are those of a socket.
_OF_NETWORK = frozenset(
    (errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.EREMOTEIO, errno.ETIMEDOUT, errno.ENOTCONN, errno.ENOLCK)
)
# Error number -> remedy of a path that the user can change.
_FIXABLE = {
    errno.ENOENT: "give a path that exists",
    errno.ENOTDIR: "a part of the path is a file: give another path",
    errno.EISDIR: "it is a folder: give the path of a file",
    errno.EEXIST: "give another path, or remove what is there",
    errno.ENOTEMPTY: "give another path, or remove what is there",
    errno.EACCES: "change its permissions or give another path",
    errno.EPERM: "change its permissions or give another path",
    errno.EROFS: "give a path that can be written",
    errno.ELOOP: "give a path without a circle of links",
    errno.ENAMETOOLONG: "give a shorter path",
    errno.EXDEV: "give a path on the same file system",
}
# A file system with less free space, bytes, is full: the rest is too small for a file, or reserved.
_ALMOST_NOTHING = 2**20
_PROBE = bytes(2**16)
# As Rust, Arrow and Python put the number of the system into a text.
_NUMBER = re.compile(r"\b(?:os error|errno) (\d+)\b", re.IGNORECASE)
# Words of writers that do not tell the number: torch, C++ streams, SQLite, NumPy.
_WRITER = re.compile(
    r"PytorchStreamWriter|inline_container|iostream error|disk is full|disk I/O error|requested and \d+ written"
)
# Errors of a program, not of a write, whatever happened while they were made.
_DEFECTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    NameError,
    NotImplementedError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
)
_WRITTEN: set[bool] = set()


def note_written() -> None:
    """Remember that this process has changed something: from now on a read-only file system has failed underneath."""
    _WRITTEN.add(True)


def write_failure(error: Exception, path: Path, temporary: Path) -> OSError | None:
    """The failed write of `path` behind an exception that was raised while it was written in the folder `temporary`.

    Libraries raise what they like: a type of their own whose text holds the number of the system, a type of theirs
    while the OSError of the stream is handled, or no number at all. Then the folder of `path` is asked: it has next to
    no room, or a small file cannot be written there either.

    Returns:
        The error with its number and with `path` where it named a temporary file or none; `error` itself where it names
        another file; None when it is not a failed write.
    """
    if isinstance(error, _DEFECTS) or type(error).__module__.startswith("sam2ft."):
        return None
    if (found := _origin(error)) is not None:
        names = [Path(os.fsdecode(name)) for name in (found.filename, found.filename2) if name is not None]
        if names and not any(name.absolute().is_relative_to(temporary.absolute()) for name in names):
            return found if found is error else None
        return OSError(found.errno, found.strerror, str(path))
    if (number := _number_in(str(error)) or _asked(path.parent)) is None:
        if not (_WRITER.search(str(error)) or isinstance(error, OSError)):
            return None
        number = errno.EIO
    return OSError(number, f"{os.strerror(number)} ({_one_line(error)})", str(path))


def _origin(error: BaseException) -> OSError | None:
    """The first OSError with a number: `error` itself, its cause, or what was handled when it was raised."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno is not None:
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def _number_in(text: str) -> int | None:
    found = _NUMBER.search(text)
    return int(found[1]) if found and int(found[1]) in errno.errorcode else None


def _asked(folder: Path) -> int | None:
    """Error number of the file system when a small file is written in `folder` now; None when that works."""
    try:
        if shutil.disk_usage(folder).free < _ALMOST_NOTHING:
            return errno.ENOSPC
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(_PROBE)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        return error.errno
    return None


def translated(error: BaseException) -> UserError | DiskError | None:
    """A failed read or write as a message with path and reason; None for anything else, which is a defect."""
    if isinstance(error, UserError | DiskError):
        return error
    number, where = _of_system(error)
    if number is None:
        return None
    path = f"{where}: " if where else ""
    if _fails(number, where) and (number != errno.EROFS or _WRITTEN):
        away = os.strerror(number).lower(), "check the file system (is it mounted, does its server answer?)"
        reason, remedy = _OF_DISK.get(number, away)
        return DiskError(
            f"{path}{reason}; what was there before stays: {remedy}, then run the same command again, it continues"
        )
    if number in _FIXABLE:
        return UserError(f"{path}{os.strerror(number).lower()}; {_FIXABLE[number]}")
    return None


def of_disk(error: BaseException) -> bool:
    """Whether a file system failed, also one that was read-only from the start."""
    return isinstance(error, DiskError) or _fails(*_of_system(error))


def _fails(number: int | None, where: str) -> bool:
    return number in _OF_DISK or (number in _OF_NETWORK and bool(where))


def _of_system(error: BaseException) -> tuple[int | None, str]:
    """(error number, path) of an OSError, or of a library's error that names the number; (None, "") for others."""
    if isinstance(error, OSError) and error.errno is not None:
        where = error.filename if error.filename2 is None else error.filename2
        return error.errno, "" if where is None else os.fsdecode(where)
    if isinstance(error, OSError) or type(error).__name__ == "SafetensorError":
        return _number_in(str(error)), ""
    return None, ""


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__

"""Atomic file writes with fsync, JSON reading and writing, and sha256 digests."""

import hashlib
import json
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from sam2ft.core.digests.sealed import JSON_KEY, SealError, check_json, sealed_json
from sam2ft.core.errors import DataError
from sam2ft.core.sharing import make_as_readable_as_new_files
from sam2ft.core.system.path_errors import note_written, write_failure

# Folder -> check that runs before a file is put in or below it.
_FENCES: dict[Path, Callable[[], None]] = {}

PARTIAL = ".partial"
"""Name of the folder with the temporary files of all writers of a folder."""
_LONE_PARTIAL = ".?*.partial*"
"""Temporary files of sam2ft 0.1.0, and of a rendezvous."""
_TRIES = 100
# A temporary file of another machine whose writer still runs is younger.
_ABANDONED_S = 7 * 24 * 3600
_CHUNK = 2**22
# How often a folder is listed again in which a file vanished meanwhile.
_LISTINGS = 10


@contextmanager
def fenced(folder: Path, check: Callable[[], None]) -> Iterator[None]:
    """Run `check` inside the block before every `replacing` of a file in or below `folder`, from any caller.

    When `check` raises, the new file is removed and the old file is unchanged.
    """
    folder = folder.absolute()
    _FENCES[folder] = check
    try:
        yield
    finally:
        del _FENCES[folder]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Replace `path` atomically: yield a temporary path of the same name, which is renamed to `path` after the block.

    Steps: write the temporary file, fsync, rename, fsync of the folder. Without the fsyncs, the rename can survive a
    power loss while the content does not. When the block raises, `path` is unchanged. The temporary file has a folder
    of its own, `.partial/<writer>/` beside `path`, in which a library can make temporary files too (safetensors does);
    no reader looks there, and all of it is removed at the end, or by `remove_partial` after the writer was killed.

    Raises:
        OSError: the file cannot be written, whatever the writing library raised; it names `path`, and has the error
            number of the cause (core/system/path_errors).
    """
    own = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        own = _folder_of_writer(path.parent)
        partial = own / path.name
        yield partial
        if not partial.exists():  # whoever took over the folder has removed it
            _check_fences(path)
        with partial.open("rb") as stream:
            make_as_readable_as_new_files(stream.fileno())
            os.fsync(stream.fileno())
        _check_fences(path)
        partial.replace(path)
    except Exception as error:
        failure = write_failure(error, path, path.parent / PARTIAL)
        if failure is None or failure is error:
            raise
        raise failure from None
    finally:
        if own is not None:
            shutil.rmtree(own, ignore_errors=True)
            with suppress(OSError):  # files of other writers are in it
                own.parent.rmdir()
    note_written()
    sync_folder(path.parent)


def _folder_of_writer(folder: Path) -> Path:
    """A new folder for one temporary file below `folder`; removes those of writers that certainly were killed."""
    partial = folder / PARTIAL
    new = partial / f"{_this_process()}-{secrets.token_hex(4)}"
    for left in reversed(range(_TRIES)):
        try:
            partial.mkdir(exist_ok=True)
            new.mkdir()
            break
        except (FileNotFoundError, FileExistsError):  # another writer has just removed the folder, which was empty
            if not left:
                raise
    for other in listed_names(partial):
        if other != new.name and _is_abandoned(partial / other):
            shutil.rmtree(partial / other, ignore_errors=True)
    return new


def _this_process() -> str:
    """Host, process namespace and process; a pid alone says nothing in another container."""
    return f"{os.uname().nodename}-{_namespace()}-{os.getpid()}"


@cache
def _namespace() -> str:
    try:
        return re.sub("[^0-9]", "", os.readlink("/proc/self/ns/pid"))
    except OSError:  # not Linux
        return "0"


def _is_abandoned(writer: Path) -> bool:
    """Whether the process that made this folder of a temporary file has ended, or the folder is very old."""
    process, _, _ = writer.name.rpartition("-")
    place, _, pid = process.rpartition("-")
    try:
        if place == _this_process().rpartition("-")[0] and pid.isdecimal():
            os.kill(int(pid), 0)
        return time.time() - writer.stat().st_mtime > _ABANDONED_S
    except ProcessLookupError:
        return True
    except OSError:  # another user's process, or already removed
        return False


def _check_fences(path: Path) -> None:
    for folder, check in tuple(_FENCES.items()):
        if path.absolute().is_relative_to(folder):
            check()


def write_new(path: Path, data: bytes) -> None:
    """Write a new file with fsync but without a temporary file; for a folder that no process reads yet."""
    with naming_written(path), path.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def naming_written(path: Path) -> Iterator[None]:
    """Name `path` in the OSError of a block that writes this new file itself, and give it the number of its cause."""
    try:
        yield
    except OSError as error:
        raise write_failure(error, path, path) or error from None
    note_written()


@contextmanager
def naming_read(path: Path) -> Iterator[None]:
    """Name `path` in the OSError of a block that reads this file: that of an open file names none."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def read_through(path: Path) -> None:
    """Read a file to its end before a library maps it: where a mapped file cannot be read, the process is killed.

    Raises:
        OSError: with `path`; a library may call any failure a missing or damaged file.
    """
    with naming_read(path), path.open("rb", buffering=0) as stream:
        room = bytearray(_CHUNK)
        while stream.readinto(room):
            pass


def remove_partial(folder: Path) -> None:
    """Remove temporary files of killed writers in `folder` and below. The caller must be the only writer there."""
    for place, names, files in os.walk(folder):
        if PARTIAL in names:
            names.remove(PARTIAL)
            shutil.rmtree(Path(place, PARTIAL), ignore_errors=True)
        for name in files:
            if fnmatchcase(name, _LONE_PARTIAL):
                Path(place, name).unlink(missing_ok=True)


def listed_names(folder: Path, pattern: str = "*") -> list[str]:
    """Sorted names in `folder` that match `pattern`, without hidden ones; empty when there is no such folder."""
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(name for name in names if name[0] != "." and fnmatchcase(name, pattern))


def listed_files(folder: Path, pattern: str = "*") -> dict[Path, os.stat_result]:
    """The visible files in `folder`, sorted, with their stat; a file that is removed meanwhile is left out.

    The only way to list files that another process may be writing: temporary files never match.
    """
    found: dict[Path, os.stat_result] = {}
    for _ in range(_LISTINGS):
        names = listed_names(folder, pattern)
        found = {}
        for name in names:
            with suppress(FileNotFoundError):
                found[folder / name] = (folder / name).stat()
        if len(found) == len(names):
            break  # else a file was removed, whose successor the list may lack
    return found


def sync_folder(folder: Path) -> None:
    """fsync `folder`, so that renames and new files in it survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically (`replacing`), with LF line ends."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def indented_json(value: Any) -> str:
    """JSON: indent of two spaces, keys in the given order; NaN and infinity are refused (not JSON)."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write JSON for other programs and people, without a digest of its own (see `write_sealed_json`)."""
    write_text(path, indented_json(value))


def read_json(path: Path) -> Any:
    """The value of a JSON file, without the digest that it may carry.

    Raises:
        DataError: the file is missing, is not JSON, or differs from what was sealed; the message names the file, and
            the line of a syntax error.
    """
    return verified_json(path)[0]


def verified_json(path: Path) -> tuple[Any, bool]:
    """As `read_json`, and whether the file carries a digest."""
    for is_last in (False, True):
        try:
            return _parsed_json(path)
        except FileNotFoundError:
            raise DataError(f"{path}: no such file") from None
        except ValueError as error:
            # Read again before it is called damaged: on a network file system the first read may have been torn.
            if is_last:
                what = "damaged, or edited after it was written" if isinstance(error, SealError) else "not a JSON file"
                raise DataError(f"{path}: {what} ({error})") from None
    raise AssertionError


def _parsed_json(path: Path) -> tuple[Any, bool]:
    """The value and whether it was sealed; raises ValueError (SealError, a syntax error, not UTF-8)."""
    with naming_read(path):
        data = path.read_bytes()
    text = data.decode("utf-8")
    is_sealed = check_json(text)
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if is_sealed:
        del value[JSON_KEY]
    return value, is_sealed


def canonical_json(value: Any) -> str:
    """JSON text that is the same for equal values: sorted keys, no spaces, integral floats as integers (1.0 as 1)."""

    def plain(item: Any) -> Any:
        if isinstance(item, dict):
            return {str(key): plain(entry) for key, entry in item.items()}
        if isinstance(item, list | tuple):
            return [plain(entry) for entry in item]
        if isinstance(item, float) and item.is_integer():
            return int(item)
        return item

    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_text(text: str) -> str:
    """Hexadecimal sha256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Hexadecimal sha256 of the bytes of a file."""
    with naming_read(path), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def has_sha256(path: Path, sha256: str | None) -> bool:
    """Whether a file has this digest; read again before it is called damaged, because a first read may be torn."""
    return any(sha256_file(path) == sha256 for _ in range(2))


class DigestCache:
    """Cache of sha256 digests of large files, so that a plan does not read gigabytes twice.

    A digest is used while size, both times, inode and device of the file are the same. No number may rest on it: a
    file can rot with all of them kept, so a job takes the digest of its files itself and compares it with the plan's.

    A damaged cache is made again. When it cannot be written, digests are cached for this process only, so that a
    read-only experiment can be inspected.
    """

    def __init__(self, path: Path):
        self._path = path
        self._known: dict[str, list[str]] = {}
        """Resolved path -> state of the file, and its digest."""
        if not path.is_file():
            return
        try:
            found = read_json(path)
        except DataError as error:
            print(f"note: {error}; this cache of digests is made again", file=sys.stderr, flush=True)
            return
        if isinstance(found, dict):  # entries of version 0.1.0 are texts
            self._known = {file: entry for file, entry in found.items() if isinstance(entry, list) and len(entry) == 2}

    def sha256(self, file: Path) -> str:
        """Hexadecimal sha256 of a file, from the cache if nothing about the file has changed."""
        stat, name = file.stat(), str(file.resolve())
        state = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino} {stat.st_dev}"
        known = self._known.get(name)
        if known is None or known[0] != state:
            known = self._known[name] = [state, sha256_file(file)]
            with suppress(OSError):
                write_text(self._path, sealed_json(indented_json(self._known)))
        return known[1]

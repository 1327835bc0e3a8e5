"""Files appear whole or not at all, and what is read back is the file that was written."""

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sam2ft.core.errors import DataError

# Folder -> what is asked before a file appears in it or below.
_FENCES: dict[Path, Callable[[], None]] = {}


@contextmanager
def fenced(folder: Path, check: Callable[[], None]) -> Iterator[None]:
    """Inside the block, `check` runs right before any file appears in or below `folder`, whoever writes it.

    When it raises, the new file is removed and the old one is what it was.
    """
    folder = folder.absolute()
    _FENCES[folder] = check
    try:
        yield
    finally:
        del _FENCES[folder]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; when the block ends well it becomes `path`, whole and on disk.

    Write beside, fsync, rename, fsync of the folder: a rename without the syncs can survive a power loss while the
    content does not. When the block raises, the temporary file is removed and `path` is what it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        yield partial
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        for folder, check in tuple(_FENCES.items()):
            if path.absolute().is_relative_to(folder):
                check()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_new(path: Path, data: bytes) -> None:
    """A file in a folder that nobody reads yet: on disk, but neither beside nor renamed."""
    with path.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def remove_partial(folder: Path) -> None:
    """Remove what killed writers left in `folder` (not below it). Only for a folder that has one writer: the caller."""
    for leftover in folder.glob(".*.partial*"):
        leftover.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make renames and new names in `folder` survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """UTF-8, two spaces, keys in the order given; NaN and infinity are refused (they are not JSON)."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The value of a JSON file. Errors: DataError naming the file, and the line of a syntax error."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a JSON file ({error})") from None


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, and whole floats written as integers (1.0 and 1 are one)."""

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
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class DigestCache:
    """sha256 of large files, remembered by (path, size, mtime) so that a plan does not read gigabytes twice.

    Where nothing can be written it remembers for this process only: looking at a read-only experiment must be possible.
    """

    def __init__(self, path: Path):
        self._path = path
        self._known: dict[str, str] = read_json(path) if path.is_file() else {}

    def sha256(self, file: Path) -> str:
        stat = file.stat()
        key = f"{file.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
        if key not in self._known:
            self._known[key] = sha256_file(file)
            with suppress(OSError):
                write_json(self._path, self._known)
        return self._known[key]

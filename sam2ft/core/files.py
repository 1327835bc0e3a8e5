"""Atomic file writes with fsync, JSON reading and writing, and sha256 digests."""

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sam2ft.core.errors import DataError
from sam2ft.core.path_errors import note_written, write_failure

# Folder -> check that runs before a file is put in or below it.
_FENCES: dict[Path, Callable[[], None]] = {}


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
    """Replace `path` atomically: yield a temporary path in its folder, which is renamed to `path` after the block.

    Steps: write the temporary file, fsync, rename, fsync of the folder. Without the fsyncs, the rename can survive a
    power loss while the content does not. When the block raises, the temporary file is removed and `path` is unchanged.

    Raises:
        OSError: the file cannot be written, whatever the writing library raised; it names `path`, and has the error
            number of the cause (core/path_errors).
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
    except Exception as error:
        failure = write_failure(error, path, partial)
        if failure is None or failure is error:
            raise
        raise failure from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    note_written()
    sync_folder(path.parent)


def write_new(path: Path, data: bytes) -> None:
    """Write a new file with fsync but without a temporary file; for a folder that no process reads yet."""
    try:
        with path.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise write_failure(error, path, path) or error from None
    note_written()


def remove_partial(folder: Path) -> None:
    """Remove temporary files of killed writers in `folder` (not below it). The caller must be its only writer."""
    for leftover in folder.glob(".*.partial*"):
        leftover.unlink(missing_ok=True)


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


def write_json(path: Path, value: Any) -> None:
    """Write JSON: UTF-8, indent of two spaces, keys in the given order; NaN and infinity are refused (not JSON)."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        DataError: the file is missing or is not JSON; the message names the file, and the line of a syntax error.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a JSON file ({error})") from None


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
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class DigestCache:
    """Cache of sha256 digests of large files by (path, size, mtime), so that a plan does not read gigabytes twice.

    When the cache file cannot be written, digests are cached for this process only, so that a read-only experiment can
    be inspected.
    """

    def __init__(self, path: Path):
        self._path = path
        self._known: dict[str, str] = read_json(path) if path.is_file() else {}

    def sha256(self, file: Path) -> str:
        """Hexadecimal sha256 of a file, from the cache if size and modification time are unchanged."""
        stat = file.stat()
        key = f"{file.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
        if key not in self._known:
            self._known[key] = sha256_file(file)
            with suppress(OSError):
                write_json(self._path, self._known)
        return self._known[key]

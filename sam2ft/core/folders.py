"""Atomic replacement of a folder (readers find the old or the new one, never a mixture), and hard links of folders."""

import ctypes
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sam2ft.core.files import sync_folder

_NEW, _OLD = "new-", "old"
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
# Error numbers of a file system or kernel without exchange (such as NFS and Lustre; ext4, XFS, Btrfs and tmpfs can).
_CANNOT = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM}


@contextmanager
def replacing_folder(path: Path, work: Path) -> Iterator[Path]:
    """Yield a new, empty folder inside `work`; when the block ends without error it replaces the folder `path`.

    When the block raises, or the process is killed, `path` is unchanged. Where the file system cannot exchange two
    folders in one step, `path` is missing between two renames; if the process is killed between them, the next call
    restores the old folder. The files in the new folder must already be synced to disk (core/files).

    Args:
        path: folder to replace.
        work: folder on the same file system, used only by the caller, who holds a lock. Leftovers of a killed process
            are removed from it first.
    """
    recover_folder(path, work)
    new = work / f"{_NEW}{os.getpid()}-{secrets.token_hex(4)}"
    new.mkdir()
    try:
        yield new
        for folder in (new, *(found for found in new.rglob("*") if found.is_dir())):
            sync_folder(folder)
        _put(new, path, work / _OLD)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(work / _OLD, ignore_errors=True)


def recover_folder(path: Path, work: Path) -> None:
    """Restore the folder that a killed process had moved away, and remove its unfinished new folders."""
    work.mkdir(parents=True, exist_ok=True)
    if (work / _OLD).exists() and not path.exists():
        (work / _OLD).rename(path)
    for left in (work / _OLD, *work.glob(f"{_NEW}*")):
        shutil.rmtree(left, ignore_errors=True)


def _put(new: Path, path: Path, old: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        new.rename(path)
    elif not exchange(new, path):
        path.rename(old)
        new.rename(path)
    sync_folder(path.parent)


def exchange(first: Path, second: Path) -> bool:
    """Exchange the names of two folders in one step.

    Returns:
        False when the file system or kernel cannot do this; nothing was changed then.

    Raises:
        OSError: for any other failure.
    """
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    names = os.fsencode(first), os.fsencode(second)
    if renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), str(first), None, str(second))


def link_or_copy(source: Path, target: Path) -> None:
    """Create `target` as a hard link to `source`, or as a copy where the file system has no hard links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def link_tree(source: Path, target: Path) -> None:
    """Apply `link_or_copy` to a file or to all files in a folder; symbolic links stay symbolic links."""
    if source.is_dir() and not source.is_symlink():
        target.mkdir(parents=True, exist_ok=True)
        for entry in source.iterdir():
            link_tree(entry, target / entry.name)
    else:
        link_or_copy(source, target)

"""A folder that is replaced as a whole: a reader finds the old one or the new one, never a mixture."""

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
# What a file system or kernel without an exchange answers (NFS and Lustre are such; ext4, XFS, Btrfs and tmpfs can).
_CANNOT = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM}


@contextmanager
def replacing_folder(path: Path, work: Path) -> Iterator[Path]:
    """Yield a new, empty folder inside `work`; when the block ends well it becomes `path`, and what was there goes.

    `work` lies on the same file system and has one user: the caller, who holds a lock. What a killed process left in it
    is removed first. The files in the new folder are expected to be on disk (core/files). When the block raises, or the
    process is killed, `path` is what it was. Where the file system cannot exchange two folders in one step, `path` is
    missing between two renames; a process killed there has the old folder put back by the next call.
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
    """Put back what a killed process took away, and remove what it left half made."""
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
    """Let two folders change names in one step; whether this file system can. Errors: OSError for anything else."""
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
    """`target` as another name of the same file where the file system has such, else as a copy of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def link_tree(source: Path, target: Path) -> None:
    """`link_or_copy` for a file or everything in a folder; symbolic links stay what they are."""
    if source.is_dir() and not source.is_symlink():
        target.mkdir(parents=True, exist_ok=True)
        for entry in source.iterdir():
            link_tree(entry, target / entry.name)
    else:
        link_or_copy(source, target)

"""File lock of an experiment: only one launcher plans it at a time; the lock ends with the process that holds it."""

import getpass
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from sam2ft.core.digests.verified_files import write_sealed_json
from sam2ft.core.errors import DataError, UserError
from sam2ft.core.files import read_json
from sam2ft.core.system.path_errors import translated
from sam2ft.runs.layout import ExperimentLayout

LOCK_WAIT_S = 10.0


@contextmanager
def locked(layout: ExperimentLayout, wait_s: float | None = None) -> Iterator[None]:
    """Hold the experiment's lock while the block runs.

    The lock belongs to this process (flock), so it cannot outlive it.

    Raises:
        UserError: another launcher holds the lock, which is named, or the folder cannot be written.
        DiskError: its file system is full or failed.
    """
    from filelock import FileLock, Timeout

    with writable(layout.folder):
        layout.folder.mkdir(parents=True, exist_ok=True)
        # Without a mode it has the permissions of the umask: other users of the group may launch too where it says so.
        lock = FileLock(layout.lock, timeout=LOCK_WAIT_S if wait_s is None else wait_s)
        try:
            lock.acquire()
        except Timeout:
            raise UserError(
                f"{layout.folder}: another launcher is planning this experiment{_holder(layout)}; try again"
            ) from None
    try:
        with writable(layout.folder):
            write_sealed_json(layout.launcher, _self())
        yield
    finally:
        with suppress(OSError):
            layout.launcher.unlink(missing_ok=True)
        lock.release()


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Turn the OSError of a block that could not write into a message with the path.

    Raises:
        UserError: the folder cannot be written.
        DiskError: its file system is full or failed.
    """
    try:
        yield
    except OSError as error:
        named = error if error.filename is not None else OSError(error.errno, error.strerror, str(folder))
        if (message := translated(named)) is None:
            raise
        raise message from None


def _self() -> dict[str, str | int]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"user": user, "host": socket.gethostname(), "pid": os.getpid(), "since": now}


def _holder(layout: ExperimentLayout) -> str:
    """`: ada, process 12 on login1, since ...`; empty when it is not known."""
    with suppress(DataError, KeyError, TypeError, OSError):
        value = read_json(layout.launcher)
        return f": {value['user']}, process {value['pid']} on {value['host']}, since {value['since']}"
    return ""

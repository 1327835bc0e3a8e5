"""Exception classes, the process exit code of each, and parts of messages."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class UserError(Exception):
    """An error that the user can fix. Commands show the message without a traceback and exit with 2."""


class ConfigError(UserError):
    """An experiment, dataset or site file that cannot be used."""


class DataError(UserError):
    """Images, masks, metadata or a store that cannot be used."""


class CheckpointError(UserError):
    """Weights that cannot be loaded as requested."""


class DeviceError(UserError):
    """The GPUs that were planned are not there, or the processes of a job have unlike ones."""


class IncompleteError(Exception):
    """The work ended, but a part of the requested results is missing. Exit code 3."""


class DiskError(Exception):
    """Writing failed because a file system is full, over quota or broken. What was there stays. Exit code 4."""


class ClaimedError(Exception):
    """A newer attempt owns this run directory; this attempt must not write to it any more. Exit code 1."""


class StopRequestedError(Exception):
    """The run was asked to stop and saved what it needs to resume. Exit code 75 inside a Slurm allocation, else 143."""


@dataclass(frozen=True)
class Problem:
    """One error in a file or setting that a user wrote."""

    where: str
    """`path:line`, or only the path (or `--set`) when the line is not known."""
    key: str
    """Dotted path of the key; empty when the problem concerns the whole file."""
    message: str
    """What was found and what is allowed."""

    def __str__(self) -> str:
        return f"{self.where}: {self.key}: {self.message}" if self.key else f"{self.where}: {self.message}"


class ProblemsError(ConfigError):
    """All problems of a file, or of all points of a sweep, in one error."""

    def __init__(self, problems: Sequence[Problem]):
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file `path` in front of the message of a DataError that does not name it."""
    try:
        yield
    except DataError as error:
        raise DataError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


def listed(names: Sequence[str], most: int) -> str:
    """At most `most` names for a message: `a, b and 3 more`."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def number_of(count: int, what: str) -> str:
    """`1 slice`, `2 slices`."""
    return f"{count} {what}{'s' if count != 1 else ''}"


def printable(text: object) -> str:
    """`text` with control characters, which could move the cursor or hide text in a terminal, replaced by `�`."""
    return "".join(sign if sign.isprintable() else "�" for sign in str(text))


DONE = 0
FAILED = 1
USER_CAN_FIX = 2
INCOMPLETE = 3
DISK_FAILED = 4
TO_BE_CONTINUED = 75
INTERRUPTED = 130
TOLD_TO_STOP = 143


def exit_code_of(error: BaseException, *, in_allocation: bool = False) -> int:
    """Exit code of a command that ends with the uncaught exception `error` (docs/design.md, exit codes)."""
    if isinstance(error, UserError):
        return USER_CAN_FIX
    if isinstance(error, IncompleteError):
        return INCOMPLETE
    if isinstance(error, DiskError):
        return DISK_FAILED
    if isinstance(error, StopRequestedError):
        return TO_BE_CONTINUED if in_allocation else TOLD_TO_STOP
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return FAILED

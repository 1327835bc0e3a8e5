"""What can go wrong, and the exit code each kind ends a command with."""

from collections.abc import Sequence
from dataclasses import dataclass


class UserError(Exception):
    """Something the user can fix. Commands show the message without a traceback and exit with 2."""


class ConfigError(UserError):
    """An experiment, dataset or site file that cannot be used."""


class DataError(UserError):
    """Images, masks, metadata or a store that cannot be used."""


class CheckpointError(UserError):
    """Weights that cannot be loaded as asked."""


class IncompleteError(Exception):
    """The work ended, but a part of what was asked for is missing. Exit code 3."""


class ClaimedError(Exception):
    """A newer attempt owns this run directory; this one must not write to it any more. Exit code 1."""


class StopRequestedError(Exception):
    """The run was told to stop and saved what is needed to continue. Exit code 75 inside an allocation, else 143."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a file that a user wrote."""

    where: str
    """`path:line`, or only the path (or `--set`) when there is no line."""
    key: str
    """Dotted path of the key, empty when the problem is the whole file."""
    message: str
    """What was found and what is allowed."""

    def __str__(self) -> str:
        return f"{self.where}: {self.key}: {self.message}" if self.key else f"{self.where}: {self.message}"


class ProblemsError(ConfigError):
    """All problems of a file (or of all points of a sweep) at once."""

    def __init__(self, problems: Sequence[Problem]):
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


DONE = 0
FAILED = 1
USER_CAN_FIX = 2
INCOMPLETE = 3
TO_BE_CONTINUED = 75
INTERRUPTED = 130
TOLD_TO_STOP = 143


def exit_code_of(error: BaseException, *, in_allocation: bool = False) -> int:
    """The exit code a command ends with when `error` reaches the top (docs/design.md, exit codes)."""
    if isinstance(error, UserError):
        return USER_CAN_FIX
    if isinstance(error, IncompleteError):
        return INCOMPLETE
    if isinstance(error, StopRequestedError):
        return TO_BE_CONTINUED if in_allocation else TOLD_TO_STOP
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return FAILED

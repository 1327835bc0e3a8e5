"""Entry point wrapper of the commands in launch/: error messages, tracebacks and process exit codes.

An error that the user can fix is shown as a message; any other exception is a defect and shows its traceback.
"""

import os
import sys
from collections.abc import Callable
from typing import NoReturn

from sam2ft.core.digests.verified_files import unverified_note
from sam2ft.core.errors import (
    DONE,
    INTERRUPTED,
    ClaimedError,
    DiskError,
    IncompleteError,
    StopRequestedError,
    UserError,
    exit_code_of,
    translated,
)
from sam2ft.core.sharing import apply_umask


def in_allocation() -> bool:
    """Whether this process runs inside a Slurm job, interactive jobs included."""
    return "SLURM_JOB_ID" in os.environ


def tell_unverified() -> None:
    """Print a line to stderr when this process has read files without a digest."""
    if (note := unverified_note()) is not None:
        print(note, file=sys.stderr, flush=True)


def run_command(main: Callable[[], int | None]) -> NoReturn:
    """Run `main` and exit the process with its exit code (None is 0).

    The error classes of core/errors, and errors of paths and disks, are printed as a message without a traceback; any
    other exception is a defect and keeps its traceback (the interpreter prints it and exits with 1). A line on stderr
    names files that were read without a digest.
    """
    try:
        apply_umask()
        code = main() or DONE
        sys.stdout.flush()
        tell_unverified()
    except (UserError, IncompleteError, DiskError, ClaimedError, StopRequestedError) as error:
        print(error, file=sys.stderr)
        sys.exit(exit_code_of(error, in_allocation=in_allocation()))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of the pipe (`status.py | head`) has closed it; the interpreter must not flush into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(DONE)
    except OSError as error:
        message = translated(error)
        if message is None:
            raise
        print(message, file=sys.stderr)
        sys.exit(exit_code_of(message))
    sys.exit(code)

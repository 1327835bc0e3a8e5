"""How every command of launch/ ends: a message for what the user can fix, a traceback for a defect, the right code."""

import os
import sys
from collections.abc import Callable
from typing import NoReturn

from sam2ft.core.errors import (
    DONE,
    INTERRUPTED,
    ClaimedError,
    IncompleteError,
    StopRequestedError,
    UserError,
    exit_code_of,
)


def in_allocation() -> bool:
    """Whether this process runs inside a Slurm job (interactive ones included)."""
    return "SLURM_JOB_ID" in os.environ


def command(main: Callable[[], int | None]) -> NoReturn:
    """Run `main` and leave the process with its exit code (None is 0).

    Errors made for people are shown as their message alone; any other exception is a defect and keeps its traceback
    (the interpreter prints it and exits with 1).
    """
    try:
        code = main() or DONE
        sys.stdout.flush()
    except (UserError, IncompleteError, ClaimedError, StopRequestedError) as error:
        print(error, file=sys.stderr)
        sys.exit(exit_code_of(error, in_allocation=in_allocation()))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of a pipe (`status.py | head`) went away; the interpreter must not flush into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(DONE)
    sys.exit(code)

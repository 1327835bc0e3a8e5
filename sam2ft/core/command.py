"""Entry point wrapper of the commands in launch/: error messages, tracebacks and process exit codes.

An error that the user can fix is shown as a message; any other exception is a defect and shows its traceback.
"""

import os
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import NoReturn, TextIO

from sam2ft.core.digests.verified_files import unverified_note
from sam2ft.core.errors import (
    DONE,
    INTERRUPTED,
    ClaimedError,
    IncompleteError,
    StopRequestedError,
    exit_code_of,
)
from sam2ft.core.sharing import apply_umask
from sam2ft.core.system.path_errors import translated
from sam2ft.core.system.streams import STANDARD_OUTPUT, guarded_output, silence


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
    other exception is a defect and keeps its traceback (the interpreter prints it and exits with 1). Standard output
    that cannot be written is such an error; what standard error cannot take is dropped. A line on stderr names files
    that were read without a digest.
    """
    out = sys.stdout
    with guarded_output():
        code = _code_of(main, out)
    sys.exit(code)


def whole_number(text: str) -> int:
    """Type of an option that counts something."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r}; allowed: a whole number of 1 or more")
    return int(text)


def _code_of(main: Callable[[], int | None], out: TextIO) -> int:
    try:
        apply_umask()
        code = _flushed(main)
        tell_unverified()
        return code
    except (IncompleteError, ClaimedError, StopRequestedError) as error:
        print(error, file=sys.stderr)
        return exit_code_of(error, in_allocation=in_allocation())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of the pipe (`status.py | head`) has closed it; the interpreter must not flush into it again.
        silence(out)
        return DONE
    except Exception as error:
        message = translated(error)
        if message is None:
            raise
        print(message, file=sys.stderr)
        if getattr(error, "filename", None) == STANDARD_OUTPUT:
            silence(out)
        return exit_code_of(message)


def _flushed(main: Callable[[], int | None]) -> int:
    """Exit code of `main`, after everything that it printed has left this process."""
    try:
        code = main() or DONE
    except SystemExit:
        sys.stdout.flush()
        raise
    sys.stdout.flush()
    return code

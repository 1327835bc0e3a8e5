"""Ending of an attempt: final state in status.json, and the requeue request to the batch script. No torch."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sam2ft.core.command import in_allocation
from sam2ft.core.digests.verified_files import write_sealed_json
from sam2ft.core.errors import ClaimedError, StopRequestedError
from sam2ft.core.system.path_errors import of_disk, translated
from sam2ft.distributed.stop_signal import StopFlag
from sam2ft.runs.attempt.claim import Attempt
from sam2ft.runs.attempt.rank import is_main_rank
from sam2ft.runs.attempt.restarts import NotRestartableError, refuse_requeue
from sam2ft.runs.attempt.status import update_status
from sam2ft.runs.layout import RunLayout
from sam2ft.runs.plan_file import PlannedRun
from sam2ft.runs.states import FailureClass, State


@contextmanager
def record_ending(layout: RunLayout, run: PlannedRun, attempt: Attempt, stop: StopFlag) -> Iterator[None]:
    """Write to status.json how the block ended (rank 0), then raise its exception again.

    Raises:
        NotRestartableError: the run was stopped, and the job may not be continued.
    """

    def write_state(state: State, failure_class: FailureClass | None = None, reason: str = "") -> None:
        if is_main_rank():
            update_status(layout, attempt, state=state, failure_class=failure_class, reason=reason)

    def write_failure_state(error: Exception) -> None:
        try:
            write_state(State.FAILED, failure_class_of(error), _one_line(error))
        except OSError as unwritten:
            # The exit code and the log tell the class (sweeps/state); a failed disk is reported once.
            if not of_disk(error):
                print(f"{translated(unwritten) or unwritten} (the state could not be written)", file=sys.stderr)

    try:
        try:
            yield
        except StopRequestedError as error:
            if in_allocation() and not by_keyboard(error, stop):
                refuse_requeue(layout, run, attempt, warned=stop.signal != signal.SIGTERM)
            raise
    except (StopRequestedError, KeyboardInterrupt) as error:
        write_state(State.STOPPED, reason=str(error))
        # Not after Ctrl-C in an interactive allocation: the user wants the run to end.
        if is_main_rank() and in_allocation() and not by_keyboard(error, stop):
            write_sealed_json(layout.requeue, attempt.to_json())
        raise
    except ClaimedError:
        raise
    except NotRestartableError as error:
        write_state(State.FAILED, error.failure_class, str(error))
        raise
    except Exception as error:
        write_failure_state(error)
        raise
    try:
        write_state(State.DONE)
    except OSError as error:
        write_failure_state(error)
        raise


def by_keyboard(error: BaseException, stop: StopFlag) -> bool:
    """Whether the user ended the run with Ctrl-C (SIGINT)."""
    return isinstance(error, KeyboardInterrupt) or stop.signal == signal.SIGINT


def failure_class_of(error: BaseException) -> FailureClass:
    """Return the class whose exceptions or messages `error` shows, else `error`."""
    if of_disk(error):
        return FailureClass.DISK
    text = "\n".join((str(error), *(kind.__name__ for kind in type(error).__mro__)))
    return next((known for known in FailureClass if any(sign in text for sign in known.signs)), FailureClass.ERROR)


def _one_line(error: BaseException) -> str:
    error = translated(error) or error
    first = str(error).strip().splitlines()
    return f"{type(error).__name__}: {first[0]}" if first else type(error).__name__

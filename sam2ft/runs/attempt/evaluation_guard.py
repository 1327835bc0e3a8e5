"""Write guard for an evaluation that a user starts in the folder of a run: it claims the run as a job does."""

from collections.abc import Callable

from sam2ft.core.errors import UserError
from sam2ft.runs.attempt.claim import Attempt, check_claim, check_job, claim, holder
from sam2ft.runs.attempt.status import SILENCE_S, read_status
from sam2ft.runs.layout import RunLayout


def evaluation_guard(layout: RunLayout | None) -> Callable[[bool], None]:
    """Return the function that is called before each write, with whether this is the main rank (EvaluationJob.guard).

    The main rank claims the run at its first call and checks the claim at the later ones. Outside of a run (None) no
    other process writes to the folder, and everything is allowed.

    Raises:
        UserError: another process or job is working on the run.
        ClaimedError: another attempt has claimed the run since.
    """
    attempt, holds = Attempt.current(), False

    def guard(is_main: bool) -> None:
        nonlocal holds
        if layout is None:
            return
        if not is_main:
            check_job(layout, attempt)
            return
        if not holds:
            refuse_if_held(layout, attempt)
            claim(layout, attempt)
            holds = True
        check_claim(layout, attempt)

    return guard


def refuse_if_held(layout: RunLayout, attempt: Attempt) -> None:
    """Refuse a run that another process of this host, or a job with a recent heartbeat, is working on.

    Raises:
        UserError: the message names the other attempt.
    """
    current = holder(layout)
    if current is None or (current.host, current.pid) == (attempt.host, attempt.pid) or current.is_dead():
        return
    status = read_status(layout)
    is_recent = status is not None and status.state.active and status.silence_s() < SILENCE_S
    if current.is_alive_here() or is_recent:
        raise UserError(
            f"{layout.folder}: {current} is working on this run; wait for its end, or name another folder with --out"
        )

"""Write guard for an evaluation that a user starts in the folder of a run: it claims the run as a job does."""

from collections.abc import Callable

from sam2ft.core.errors import UserError
from sam2ft.runs.attempt.claim import Attempt, check_claim, check_job, claim, holder
from sam2ft.runs.attempt.status import SILENCE_S, read_status
from sam2ft.runs.layout import RunLayout


class EvaluationGuard:
    """Claims the run before the first write and checks the claim before each later write (EvaluationJob.guard)."""

    def __init__(self, layout: RunLayout):
        self.layout = layout
        self.attempt = Attempt.current()
        self._holds = False

    def __call__(self, is_main: bool) -> None:
        """Claim the run at the first call of the main rank, later check the claim.

        Raises:
            UserError: another process or job is working on the run.
            ClaimedError: another attempt has claimed the run since.
        """
        if not is_main:
            check_job(self.layout, self.attempt)
            return
        if not self._holds:
            refuse_if_held(self.layout, self.attempt)
            claim(self.layout, self.attempt)
            self._holds = True
        check_claim(self.layout, self.attempt)


def evaluation_guard(layout: RunLayout | None) -> Callable[[bool], None]:
    """Return a guard for the folder of a run, or a guard that allows everything for a folder outside of a run."""
    return _unfenced if layout is None else EvaluationGuard(layout)


def _unfenced(is_main: bool) -> None:
    """No other process writes to this folder."""


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

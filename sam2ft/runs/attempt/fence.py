"""An evaluation that a person starts in a run's folder is one more writer of it: it claims the run like a job does."""

from collections.abc import Callable

from sam2ft.core.errors import UserError
from sam2ft.runs.attempt.claim import Attempt, check_claim, check_job, claim, holder
from sam2ft.runs.attempt.status import ACTIVE, SILENCE_S, read_status
from sam2ft.runs.layout import RunLayout


class Fence:
    """Claims the run before the first write and looks at the claim again before each later one (Job.guard)."""

    def __init__(self, layout: RunLayout):
        self.layout = layout
        self.attempt = Attempt.current()
        self._holds = False

    def __call__(self, is_main: bool) -> None:
        """Errors: UserError while a job is at work on the run; ClaimedError when another attempt has taken it since."""
        if not is_main:
            check_job(self.layout, self.attempt)
            return
        if not self._holds:
            refuse_while_held(self.layout, self.attempt)
            claim(self.layout, self.attempt)
            self._holds = True
        check_claim(self.layout, self.attempt)


def fence_of(layout: RunLayout | None) -> Callable[[bool], None]:
    """A fence around the run's folder; none around a folder that belongs to no run."""
    return _unfenced if layout is None else Fence(layout)


def _unfenced(is_main: bool) -> None:
    """Nobody else writes there."""


def refuse_while_held(layout: RunLayout, attempt: Attempt) -> None:
    """Errors: UserError naming who is at work on the run: a process of this host, or a job that was heard of lately."""
    current = holder(layout)
    if current is None or (current.host, current.pid) == (attempt.host, attempt.pid) or current.is_dead():
        return
    status = read_status(layout)
    heard = status is not None and status.state in ACTIVE and status.silence_s() < SILENCE_S
    if current.is_alive_here() or heard:
        raise UserError(
            f"{layout.folder}: {current} is working on this run; wait for its end, or name another folder with --out"
        )

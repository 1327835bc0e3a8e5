"""Facts about one run: its status.json, and the job whose place in the queue, or whose end, decides its state."""

import pwd
import signal
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from sam2ft.core.errors import DISK_FAILED
from sam2ft.runs.attempt.claim import LOCAL
from sam2ft.runs.attempt.status import SILENCE_S, RunStatus
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import PlannedRun, evaluation_is_current
from sam2ft.runs.states import FailureClass, State
from sam2ft.slurm.accounting import Accounted
from sam2ft.slurm.states import SlurmState
from sam2ft.sweeps.state.logs import log_shows_out_of_memory
from sam2ft.sweeps.state.run_state import AccountingSays, Evidence, HeartbeatSays, QueueSays, StatusSays
from sam2ft.sweeps.state.slurm_snapshot import SlurmSnapshot
from sam2ft.sweeps.submit.records import Element


@dataclass(frozen=True)
class RunFacts:
    """Everything from which the state of one run is concluded."""

    layout: ExperimentLayout
    run: PlannedRun
    jobs: tuple[Element, ...]
    snapshot: SlurmSnapshot
    status: RunStatus | None
    damage: str
    """Why status.json cannot be read; empty when it can, or there is none."""
    fresh: bool
    """Whether a run that is done is trained again."""

    @property
    def trained(self) -> bool:
        """Whether only evaluations remain, according to status.json."""
        return self.run.baseline or (self.status is not None and self.status.trained)

    @cached_property
    def done(self) -> bool:
        """Whether it is trained and evaluated with the weights that it holds, and may stay so."""
        status, run_layout = self.status, self.layout.run(self.run.run_id)
        if status is None or status.state is not State.DONE or self.fresh:
            return False
        return all(
            evaluation_is_current(run_layout, self.run, eval_id, status.best_sha256) for eval_id in self.run.eval_ids
        )

    def in_queue(self, element: Element) -> bool:
        """Whether squeue lists the element's job."""
        return element.job in (self.snapshot.queue or {})

    def accounted(self, element: Element) -> Accounted | None:
        """Accounting of the element's job, or None."""
        return (self.snapshot.accounting or {}).get(element.job)

    def own(self, element: Element) -> RunStatus | None:
        """The run's status.json, if `element` was the last job that wrote it."""
        return self.status if self.status is not None and self.status.attempt.job == element.job else None

    def newest(self, element: Element, accounted: Accounted) -> RunStatus | None:
        """The run's status.json, if the newest attempt of the element wrote it; after a requeue it may not have."""
        own = self.own(element)
        return own if own is not None and own.attempt.restart >= accounted.restarts else None


# --- the job that decides ---------------------------------------------------------------------------------------------


def decider_of(facts: RunFacts) -> Element | None:
    """Return the job that decides: one that runs, else can start, else the last that ended; None when none does."""
    queue = facts.snapshot.queue or {}
    live = [element for element in facts.jobs if element.job in queue]
    if working := [element for element in live if not queue[element.job].waits]:
        return working[-1]
    if hopeful := [element for element in live if not _is_doomed(facts, element)]:
        # Trainings first: their evaluations wait for them.
        return min(hopeful, key=lambda element: element.stage == "eval")
    return None if facts.damage else _ended(facts)


def _is_doomed(facts: RunFacts, element: Element) -> bool:
    """Whether a waiting element can never start: its training failed, and Slurm has not removed the element yet."""
    assert facts.snapshot.queue is not None
    if facts.snapshot.queue[element.job].stuck:
        return True
    if element.stage != "eval" or facts.trained:
        return False
    trainings = [job for job in facts.jobs if job.stage != "eval" and job.submission <= element.submission]
    if not trainings or facts.in_queue(trainings[-1]):
        return False
    own, accounted = facts.own(trainings[-1]), facts.accounted(trainings[-1])
    ended_badly = accounted is not None and accounted.ended and accounted.state != SlurmState.COMPLETED
    return ended_badly or (own is not None and own.state in (State.FAILED, State.STOPPED))


def _ended(facts: RunFacts) -> Element | None:
    """The element whose end decides: the last training until one ended successfully, then evaluations."""
    relevant = [element for element in facts.jobs if facts.trained or element.stage != "eval"]
    for element in reversed(relevant):
        accounted = facts.accounted(element)
        if accounted is None or _is_older(facts, element, accounted):
            return None
        if facts.in_queue(element) or (not accounted.ended and not accounted.started):
            continue
        if not accounted.ended:
            return None if facts.own(element) else element
        if accounted.removed or (not accounted.started and facts.status is not None and len(relevant) > 1):
            # It never started: the state by the earlier jobs remains valid.
            continue
        if accounted.state != SlurmState.COMPLETED or facts.status is None:
            return element
        # COMPLETED says nothing about a run, unless that job's last word is that the run did not end.
        newest = facts.newest(element, accounted)
        return element if newest and newest.state in (State.STOPPED, State.FAILED) else None
    return None


def _is_older(facts: RunFacts, element: Element, accounted: Accounted) -> bool:
    """Whether another attempt (in the local pool, for example) wrote the run's status after this job ended."""
    end = accounted.attempts[-1].end
    if facts.status is None or facts.own(element) or end is None:
        return False
    return _utc(facts.status.heartbeat) > _utc(end)


def _utc(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


# --- what the sources say ---------------------------------------------------------------------------------------------


def evidence_of(facts: RunFacts, decider: Element | None) -> Evidence:
    """Return what the sources say; accounting and heartbeat are those of `decider`, where there is one."""
    own = facts.own(decider) if decider else facts.status
    queued = decider is not None and facts.in_queue(decider)
    accounted = facts.accounted(decider) if decider and not queued else None
    newest = facts.newest(decider, accounted) if decider and accounted else own
    return Evidence(
        _status_says(facts, newest),
        _queue_says(facts, decider if queued else None),
        _accounting_says(facts, decider, accounted, newest) if decider and accounted else "nothing",
        "none" if own is None or not own.state.active else _heartbeat_says(own, has_job=decider is not None),
    )


def _status_says(facts: RunFacts, newest: RunStatus | None) -> StatusSays:
    status = facts.status
    if status is None:
        return "unreadable" if facts.damage else "no file"
    if facts.done:
        return "done"
    if newest is None:
        return "older"
    if status.state is State.DONE:
        return "again" if facts.fresh else "stale"
    if status.state is State.FAILED:
        return "gave up" if status.failure_class and status.failure_class.saved else "failed"
    return "stopped" if status.state is State.STOPPED else "active"


def _queue_says(facts: RunFacts, decider: Element | None) -> QueueSays:
    if decider is not None and facts.snapshot.queue is not None:
        return "waits" if facts.snapshot.queue[decider.job].waits else "runs"
    if facts.status.attempt.job == LOCAL if facts.status else not facts.jobs:
        return "no job"
    return "no answer" if facts.snapshot.queue is None else "not listed"


def _accounting_says(
    facts: RunFacts, decider: Element, accounted: Accounted, newest: RunStatus | None
) -> AccountingSays:
    """Slurm without cgroups reports FAILED with 137:0, 9:0 or 0:9 for exhausted memory: only its log has the cause."""
    if not accounted.ended:
        return "not ended"
    if newest is not None and newest.state is State.FAILED:
        # One of its workers was killed, for example.
        suspect = newest.failure_class is FailureClass.ERROR
    else:
        failed = accounted.state == SlurmState.FAILED
        suspect = failed and _ended_by(accounted, signal.SIGKILL)
        if failed and accounted.code == DISK_FAILED:
            return "FAILED with 4"
        if failed and _ended_by(accounted, signal.SIGUSR2):
            return "FAILED by USR2"
    if suspect and log_shows_out_of_memory(facts.layout, facts.run.run_id, decider):
        return SlurmState.OUT_OF_MEMORY
    return accounted.state


def _ended_by(accounted: Accounted, number: signal.Signals) -> bool:
    """Whether a signal ended it: so named, or by the code of a shell (128 + number) or of srun in 22.05 (number)."""
    return accounted.code in (128 + number, number) or accounted.signal == number


def _heartbeat_says(status: RunStatus, *, has_job: bool) -> HeartbeatSays:
    silence_s = status.silence_s()
    if not has_job and status.attempt.is_dead():
        return "process ended"
    if abs(silence_s) < SILENCE_S:
        return "recent"
    return "old" if silence_s > 0 else "in the future"


# --- words of the reasons ---------------------------------------------------------------------------------------------


def words_of(facts: RunFacts, decider: Element | None) -> dict[str, Any]:
    """Return the words for the templates of reason and source in the table of cases."""
    status = facts.status
    words: dict[str, Any] = {"job": _job(facts, decider), "damage": facts.damage}
    if status is not None:
        silence_s = status.silence_s()
        words |= {"told": status.reason, "saved": status.reason or "saved, to be continued", "attempt": status.attempt}
        words |= {"silence_s": silence_s, "ahead_s": -silence_s, "silence_min": silence_s / 60}
    if decider is not None and (entry := (facts.snapshot.queue or {}).get(decider.job)):
        waits_for = "evaluation" if facts.trained or decider.stage == "eval" else "training"
        before = "evaluation, " if waits_for == "evaluation" and not facts.run.baseline else ""
        words |= {"state": entry.state, "waits": entry.reason, "before": before, "waits_for": waits_for}
    elif decider is not None and (accounted := facts.accounted(decider)):
        words |= {"state": accounted.state, "code": accounted.exit_code, "by": _by_whom(accounted)}
        words["how"] = (
            f"was killed by signal {accounted.signal}" if accounted.signal else f"ended with code {accounted.code}"
        )
        words["nodes"] = f" on {accounted.nodes}" if accounted.nodes else ""
    return words


def _job(facts: RunFacts, decider: Element | None) -> str | None:
    """The deciding job, else the one that wrote status.json, else the last one."""
    status = facts.status
    if decider is not None:
        return decider.job
    if status is not None and status.state is not State.DONE and status.attempt.job != LOCAL:
        return status.attempt.job
    # Of a run without a status the training, where there is one: its evaluation waited for it.
    trainings = [] if status or facts.damage else [job for job in facts.jobs if job.stage != "eval"]
    return next((element.job for element in reversed(trainings or facts.jobs)), None)


def _by_whom(accounted: Accounted) -> str:
    """` by alice`, without a user where sacct names none."""
    late = "" if accounted.started else " before it started"
    if accounted.cancelled_by is None:
        return late
    try:
        return f" by {pwd.getpwuid(int(accounted.cancelled_by)).pw_name}{late}"
    except (KeyError, ValueError):
        return f" by user {accounted.cancelled_by}{late}"

"""Conclusion of a run's state from its status file, Slurm's queue and Slurm's accounting.

The sources, in this order, after a status.json that reports done: an element in the queue that runs or can still
start; the end of the last element in the accounting; the heartbeat of an attempt that reports that it is active; the
last state that an attempt wrote to status.json.
"""

import pwd
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from sam2ft.runs.attempt.claim import LOCAL
from sam2ft.runs.attempt.status import ACTIVE, SILENCE_S, FailureClass, RunStatus
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import PlannedRun
from sam2ft.slurm.accounting import Accounted
from sam2ft.sweeps.state.logs import log_shows_out_of_memory
from sam2ft.sweeps.state.slurm_snapshot import SlurmSnapshot
from sam2ft.sweeps.submit.records import Element

State = Literal["new", "queued", "running", "stopped", "failed", "lost", "unknown", "done"]
"""State of a planned run; `starting`, `training` and `evaluating` of status.json are `running`."""

_KILLED = (128 + 9, 9)
"""Exit codes of a killed process: of a shell for signal 9, and of srun in Slurm 22.05."""
_GIVEN_UP = ("timeout", "no_progress")
"""Failure classes of a run that saved but must not be requeued; they do not count for a run that was cancelled."""
_ENDS: dict[str, tuple[State, str, FailureClass | None]] = {
    "CANCELLED": ("stopped", "was cancelled{by}", None),
    "PREEMPTED": ("stopped", "was preempted by SLURM (PREEMPTED) and not requeued", None),
    "REVOKED": ("stopped", "was revoked by SLURM (REVOKED)", None),
    "NODE_FAIL": ("lost", "lost its node (NODE_FAIL{nodes})", None),
    "BOOT_FAIL": ("lost", "got a node that did not boot (BOOT_FAIL{nodes})", None),
    "TIMEOUT": ("failed", "reached its time limit before it had saved", "timeout"),
    "DEADLINE": ("failed", "reached its deadline before it had saved", "timeout"),
    "OUT_OF_MEMORY": ("failed", "used more memory than it requested and was killed", "oom"),
    "FAILED": ("failed", "{how} without reporting a status", "error"),
}
"""Slurm's state of a job that ended without reporting a status -> state, reason, failure class."""


@dataclass(frozen=True)
class Conclusion:
    """A state with its reason and its source."""

    state: State
    reason: str
    failure_class: FailureClass | None
    job: str | None
    """The Slurm job that decided; None when none did."""
    source: str
    waits_for: str | None = None


@dataclass(frozen=True)
class RunFacts:
    """Everything from which the state of one run is concluded."""

    layout: ExperimentLayout
    run: PlannedRun
    status: RunStatus | None
    jobs: tuple[Element, ...]
    snapshot: SlurmSnapshot

    @property
    def trained(self) -> bool:
        """Whether only evaluations remain, according to status.json."""
        return self.run.baseline or (self.status is not None and self.status.trained)

    def accounted(self, element: Element) -> Accounted | None:
        """Accounting of the element's job, or None."""
        return (self.snapshot.accounting or {}).get(element.job)

    def own(self, element: Element) -> RunStatus | None:
        """The run's status.json, if `element` was the last job that wrote it."""
        return self.status if self.status is not None and self.status.attempt.job == element.job else None


def conclude(facts: RunFacts) -> Conclusion:
    """Conclude the state of a run whose status.json does not report done."""
    if (conclusion := _by_queue(facts)) is not None:
        return conclusion
    conclusion = _by_accounting(facts) or _by_itself(facts)
    if stuck := [element.job for element in facts.jobs if _in_queue(facts, element)]:
        note = f"job {', '.join(stuck)} waits for a dependency that can never be satisfied"
        return replace(conclusion, reason=f"{conclusion.reason}; {note}" if conclusion.reason else note)
    return conclusion


def _in_queue(facts: RunFacts, element: Element) -> bool:
    return element.job in (facts.snapshot.queue or {})


def _by_queue(facts: RunFacts) -> Conclusion | None:
    """State by an element that runs, or that waits for a dependency that can still be satisfied."""
    queue = facts.snapshot.queue or {}
    live = [element for element in facts.jobs if element.job in queue]
    if working := [element for element in live if not queue[element.job].waits]:
        job = working[-1].job
        return Conclusion(
            "running", _hanging(facts, working[-1]), None, job, f"the queue: job {job} {queue[job].state}"
        )
    waiting = [element for element in live if not _is_doomed(facts, element)]
    if not waiting:
        return None
    # Trainings first: their evaluations wait for them.
    first = min(waiting, key=lambda element: element.stage == "eval")
    entry = queue[first.job]
    after_training = first.stage == "eval" or facts.trained
    reason = f"job {first.job} {entry.state}: {entry.reason}"
    return Conclusion(
        "queued",
        f"evaluation, {reason}" if after_training and not facts.run.baseline else reason,
        None,
        first.job,
        f"the queue: job {first.job} {entry.state}",
        "evaluation" if after_training else "training",
    )


def _hanging(facts: RunFacts, element: Element) -> str:
    own = facts.own(element)
    silence_s = own.silence_s() if own is not None and own.state in ACTIVE else 0.0
    return f"no heartbeat for {silence_s / 60:.0f} min" if silence_s > SILENCE_S else ""


def _is_doomed(facts: RunFacts, element: Element) -> bool:
    """Whether a waiting element can never start: its training failed, and Slurm has not removed the element yet."""
    assert facts.snapshot.queue is not None
    if facts.snapshot.queue[element.job].stuck:
        return True
    if element.stage != "eval" or facts.trained:
        return False
    trainings = [job for job in facts.jobs if job.stage != "eval" and job.submission <= element.submission]
    if not trainings or trainings[-1].job in facts.snapshot.queue:
        return False
    own, accounted = facts.own(trainings[-1]), facts.accounted(trainings[-1])
    ended_badly = accounted is not None and accounted.ended and accounted.state != "COMPLETED"
    return ended_badly or (own is not None and own.state in ("failed", "stopped"))


def _by_accounting(facts: RunFacts) -> Conclusion | None:
    """State by the end of the deciding element: the last training until one ended successfully, then evaluations."""
    relevant = [element for element in facts.jobs if facts.trained or element.stage != "eval"]
    for element in reversed(relevant):
        accounted = facts.accounted(element)
        if accounted is None or _is_older(facts, element, accounted):
            return None
        if _in_queue(facts, element) or (not accounted.ended and not accounted.started):
            continue
        if not accounted.ended:
            # It has left the queue and the accounting is seconds late (or lost its end): earlier jobs do not count.
            return _of_unfinished(facts, element, accounted)
        if accounted.removed or (not accounted.started and facts.status is not None and len(relevant) > 1):
            # It never started: the state by the earlier jobs remains valid.
            continue
        return _end_of(facts, element, accounted)
    return None


def _of_unfinished(facts: RunFacts, element: Element, accounted: Accounted) -> Conclusion | None:
    """State of a run whose job left the queue without an end in the accounting; None where that job wrote a status."""
    if facts.own(element) is not None:
        return None
    source = f"the queue, and accounting: job {element.job} {accounted.state}"
    reason = f"job {element.job} left the queue without reporting a status; accounting still shows {accounted.state}"
    return Conclusion("lost", reason, None, element.job, source)


def _is_older(facts: RunFacts, element: Element, accounted: Accounted) -> bool:
    """Whether another attempt (in the local pool, for example) wrote the run's status after this job ended."""
    if facts.status is None or facts.own(element) is not None:
        return False
    end = accounted.attempts[-1].end
    return end is not None and _utc(facts.status.heartbeat) > _utc(end)


def _utc(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _end_of(facts: RunFacts, element: Element, accounted: Accounted) -> Conclusion | None:
    """State of the run by an element that ended; None when its end does not decide it (COMPLETED)."""
    source = f"accounting: job {element.job} {accounted.state} {accounted.exit_code}"
    own = facts.own(element)
    # False when the attempt that wrote the status was requeued, and the newest attempt wrote none.
    is_newest = own is not None and own.attempt.restart >= accounted.restarts
    gave_up = accounted.state == "CANCELLED" and own is not None and own.failure_class in _GIVEN_UP
    if own is not None and is_newest and own.state == "failed" and not gave_up:
        out_of_memory = own.failure_class == "error" and _ran_out_of_memory(facts, element, accounted, killed=False)
        failure_class = "oom" if out_of_memory else own.failure_class
        return Conclusion("failed", own.reason, failure_class, element.job, source)
    if own is not None and is_newest and own.state == "stopped" and accounted.state != "CANCELLED":
        return Conclusion("stopped", own.reason or "saved, to be continued", None, element.job, source)
    end = accounted.state
    if end == "FAILED" and _ran_out_of_memory(facts, element, accounted, killed=True):
        end = "OUT_OF_MEMORY"
    if end == "COMPLETED" and facts.status is None:
        reason = f"job {element.job} COMPLETED, but the run's folder has no status.json: was it removed?"
        return Conclusion("new", reason, None, element.job, source)
    if end not in _ENDS:
        return None
    state, reason, failure_class = _ENDS[end]
    reason = reason.format(
        how=f"was killed by signal {accounted.signal}" if accounted.signal else f"ended with code {accounted.code}",
        by=_by_whom(accounted) + ("" if accounted.started else " before it started"),
        nodes=f" on {accounted.nodes}" if accounted.nodes else "",
    )
    return Conclusion(state, f"job {element.job} {reason}", failure_class, element.job, source)


def _by_whom(accounted: Accounted) -> str:
    """` by alice`; empty when sacct names no user."""
    if accounted.cancelled_by is None:
        return ""
    try:
        return f" by {pwd.getpwuid(int(accounted.cancelled_by)).pw_name}"
    except (KeyError, ValueError):
        return f" by user {accounted.cancelled_by}"


def _ran_out_of_memory(facts: RunFacts, element: Element, accounted: Accounted, *, killed: bool) -> bool:
    """Without cgroups Slurm reports FAILED with 137:0, 9:0 or 0:9, and only its log contains the cause."""
    if accounted.state == "OUT_OF_MEMORY":
        return True
    by_signal = accounted.code in _KILLED or accounted.signal == signal.SIGKILL
    return (by_signal or not killed) and log_shows_out_of_memory(facts.layout, facts.run.run_id, element)


def _by_itself(facts: RunFacts) -> Conclusion:
    """State by the heartbeat and the last state in status.json alone."""
    status = facts.status
    if status is None:
        return _of_unstarted(facts.jobs, asked=facts.snapshot.queue is not None)
    if status.state in ACTIVE:
        return _of_active(status, asked=facts.snapshot.queue is not None)
    if status.state == "done":
        return Conclusion("new", "evaluation is missing or stale", None, None, "the run's folder")
    state: State = "failed" if status.state == "failed" else "stopped"
    job = None if status.attempt.job == LOCAL else status.attempt.job
    return Conclusion(state, status.reason, status.failure_class, job, "its status.json")


def _of_unstarted(jobs: Sequence[Element], *, asked: bool) -> Conclusion:
    if not jobs:
        return Conclusion("new", "", None, None, "the run's folder")
    # The training, where there is one: its evaluation waited for it.
    last = next((element for element in reversed(jobs) if element.stage != "eval"), jobs[-1]).job
    if not asked:
        reason = f"job {last} was submitted, and SLURM's queue cannot be read on this machine"
        return Conclusion("unknown", reason, None, last, "only the record of its submission")
    return Conclusion("new", f"job {last} left the queue before it started", None, last, "the queue")


def _of_active(status: RunStatus, *, asked: bool) -> Conclusion:
    attempt, silence_s = status.attempt, status.silence_s()
    of_slurm = attempt.job != LOCAL
    job = attempt.job if of_slurm else None
    if attempt.is_dead():
        return Conclusion("lost", f"{attempt} has ended without reporting a status", None, job, "its process has ended")
    if abs(silence_s) < SILENCE_S:
        return Conclusion("running", "", None, job, "its heartbeat")
    if silence_s < 0:
        reason = f"the heartbeat of {attempt} is {-silence_s:.0f} s in the future: one of two clocks is wrong"
        known = of_slurm and asked
        return Conclusion("lost" if known else "unknown", reason, None, job, "the queue" if known else "its heartbeat")
    reason = f"no heartbeat of {attempt} for {silence_s:.0f} s"
    if of_slurm and not asked:
        reason += ", and SLURM's queue cannot be read on this machine"
        return Conclusion("unknown", reason, None, job, "its heartbeat")
    if of_slurm:
        reason += ", and the job is not in the queue"
    return Conclusion("lost", reason, None, job, "its heartbeat")

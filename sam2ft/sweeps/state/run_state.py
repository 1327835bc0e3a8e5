"""Table of cases by which the state of a run is concluded from status.json, Slurm's queue, accounting and heartbeat.

docs/cluster.md shows the same rows.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

from sam2ft.runs.states import FailureClass, State
from sam2ft.slurm.states import SlurmState

StatusSays = Literal[
    "no file", "unreadable", "older", "active", "stopped", "failed", "gave up", "stale", "again", "done"
]
"""What status.json says.

older: of an attempt before the newest one of the job whose end accounting shows; active: starting, training or
evaluating; gave up: failed with a class that `FailureClass.saved` holds for; stale: done, but an evaluation is missing
or of other weights; again: done, and to be trained again (--force).
"""
QueueSays = Literal["runs", "waits", "not listed", "no answer", "no job"]
"""What squeue says about the jobs of the run.

waits: for something that can still happen; no job: the run, or its last attempt, was not submitted to Slurm.
"""
AccountingSays = Literal["nothing", "not ended", "FAILED with 4", "FAILED by USR2"] | SlurmState
"""What sacct says about the newest job that counts: how it ended.

FAILED with 4: with the exit code of a disk failure, and the run's own last word is not that it failed.
FAILED by USR2: the warning of the time limit, which Slurm may send up to a minute early, ended a process that was still
starting, or a wrapper that does not pass it on; and the run's own last word is not that it failed.
"""
HeartbeatSays = Literal["none", "recent", "old", "in the future", "process ended"]
"""What the heartbeat of an active attempt says; old: from SILENCE_S on."""
ANY: Literal[""] = ""


@dataclass(frozen=True)
class Evidence:
    """What the four sources say about one run."""

    status: StatusSays
    queue: QueueSays
    accounting: AccountingSays
    heartbeat: HeartbeatSays


@dataclass(frozen=True)
class Case:
    """One row: conditions on the four sources, and what follows when all are met."""

    status: StatusSays | tuple[StatusSays, ...] | Literal[""]
    queue: QueueSays | Literal[""]
    accounting: AccountingSays | tuple[SlurmState, ...] | Literal[""]
    heartbeat: HeartbeatSays | Literal[""]
    state: State
    failure_class: FailureClass | None
    """None for a failed run: the class that status.json gives."""
    reason: str
    source: str
    """Reason and source are templates for the words that run_facts.py knows."""

    def fits(self, evidence: Evidence) -> bool:
        """Whether all conditions are met."""
        return all(
            said in condition if isinstance(condition, tuple) else condition in (ANY, said)
            for said, condition in zip(vars(evidence).values(), vars(self).values(), strict=False)
        )


@cache
def case_of(evidence: Evidence) -> Case:
    """Return the first case that fits."""
    return next(case for case in CASES if case.fits(evidence))


S, C = SlurmState, FailureClass
ENDED = tuple(state for state in S if state.phase == "ended")
IN_QUEUE, AT_END = "the queue: job {job} {state}", "accounting: job {job} {state} {code}"
UNREAD = "and SLURM's queue cannot be read on this machine"
AHEAD = "the heartbeat of {attempt} is {ahead_s:.0f} s in the future: one of two clocks is wrong"
SILENT = "no heartbeat of {attempt} for {silence_s:.0f} s"

# fmt: off
CASES = (
    #    status.json  queue         accounting       heartbeat        state          class; reason and source
    Case("done",      ANY,          ANY,             ANY,             State.DONE,    None, "", "its status.json"),
    Case(ANY,         "runs",       ANY,             "old",           State.RUNNING, None,
         "no heartbeat for {silence_min:.0f} min", IN_QUEUE),
    Case(ANY,         "runs",       ANY,             ANY,             State.RUNNING, None, "", IN_QUEUE),
    Case(ANY,         "waits",      ANY,             ANY,             State.QUEUED,  None,
         "{before}job {job} {state}: {waits}", IN_QUEUE),
    Case("unreadable", ANY,         ANY,             ANY,             State.UNKNOWN, None,
         "{damage}", "its status.json, which cannot be read"),
    # It has left the queue, and accounting is seconds late or has lost its end: earlier jobs do not count.
    Case(ANY,         ANY,          "not ended",     ANY,             State.LOST,    None,
         "job {job} left the queue without reporting a status; accounting still shows {state}",
         "the queue, and accounting: job {job} {state}"),
    Case("failed",    ANY,          S.OUT_OF_MEMORY, ANY,             State.FAILED,  C.OOM, "{told}", AT_END),
    Case("failed",    ANY,          ENDED,           ANY,             State.FAILED,  None, "{told}", AT_END),
    # Before `gave up`: a run that had saved when it was cancelled may go on.
    Case(ANY,         ANY,          S.CANCELLED,     ANY,             State.STOPPED, None,
         "job {job} was cancelled{by}", AT_END),
    Case("gave up",   ANY,          ENDED,           ANY,             State.FAILED,  None, "{told}", AT_END),
    Case("stopped",   ANY,          ENDED,           ANY,             State.STOPPED, None, "{saved}", AT_END),
    Case(ANY,         ANY,          S.COMPLETED,     ANY,             State.NEW,     None,
         "job {job} COMPLETED, but the run's folder has no status.json: was it removed?", AT_END),
    Case(ANY,         ANY,          S.PREEMPTED,     ANY,             State.STOPPED, None,
         "job {job} was preempted by SLURM (PREEMPTED) and not requeued", AT_END),
    Case(ANY,         ANY,          S.REVOKED,       ANY,             State.STOPPED, None,
         "job {job} was revoked by SLURM (REVOKED)", AT_END),
    Case(ANY,         ANY,          S.NODE_FAIL,     ANY,             State.LOST,    None,
         "job {job} lost its node (NODE_FAIL{nodes})", AT_END),
    Case(ANY,         ANY,          S.BOOT_FAIL,     ANY,             State.LOST,    None,
         "job {job} got a node that did not boot (BOOT_FAIL{nodes})", AT_END),
    Case(ANY,         ANY,          S.TIMEOUT,       ANY,             State.FAILED,  C.TIMEOUT,
         "job {job} reached its time limit before it had saved", AT_END),
    Case(ANY,         ANY,          S.DEADLINE,      ANY,             State.FAILED,  C.TIMEOUT,
         "job {job} reached its deadline before it had saved", AT_END),
    Case(ANY,         ANY,          S.OUT_OF_MEMORY, ANY,             State.FAILED,  C.OOM,
         "job {job} used more memory than it requested and was killed", AT_END),
    Case(ANY,         ANY,          "FAILED with 4", ANY,             State.FAILED,  C.DISK,
         "job {job} ended with code 4: a file system failed, and the state of the run could not be written", AT_END),
    Case(ANY,         ANY,          "FAILED by USR2", ANY,            State.FAILED,  C.TIMEOUT,
         "job {job} was ended by the warning of its time limit (USR2) before it had saved", AT_END),
    Case(ANY,         ANY,          S.FAILED,        ANY,             State.FAILED,  C.ERROR,
         "job {job} {how} without reporting a status", AT_END),
    # Slurm does not decide: the run's own files do.
    Case("no file",   "no job",     ANY,             ANY,             State.NEW,     None, "", "the run's folder"),
    Case("no file",   "no answer",  ANY,             ANY,             State.UNKNOWN, None,
         "job {job} was submitted, " + UNREAD, "only the record of its submission"),
    Case("no file",   "not listed", ANY,             ANY,             State.NEW,     None,
         "job {job} left the queue before it started", "the queue"),
    Case("stale",     ANY,          ANY,             ANY,             State.NEW,     None,
         "evaluation is missing or stale", "the run's folder"),
    Case("again",     ANY,          ANY,             ANY,             State.NEW,     None,
         "to be trained again", "the run's folder"),
    Case("failed",    ANY,          ANY,             ANY,             State.FAILED,  None, "{told}", "its status.json"),
    Case("gave up",   ANY,          ANY,             ANY,             State.FAILED,  None, "{told}", "its status.json"),
    Case("stopped",   ANY,          ANY,             ANY,             State.STOPPED, None, "{told}", "its status.json"),
    Case("active",    ANY,          ANY,             "process ended", State.LOST,    None,
         "{attempt} has ended without reporting a status", "its process has ended"),
    Case("active",    ANY,          ANY,             "recent",        State.RUNNING, None, "", "its heartbeat"),
    Case("active",    "not listed", ANY,             "in the future", State.LOST,    None, AHEAD, "the queue"),
    Case("active",    ANY,          ANY,             "in the future", State.UNKNOWN, None, AHEAD, "its heartbeat"),
    Case("active",    "no answer",  ANY,             "old",           State.UNKNOWN, None,
         SILENT + ", " + UNREAD, "its heartbeat"),
    Case("active",    "not listed", ANY,             "old",           State.LOST,    None,
         SILENT + ", and the job is not in the queue", "its heartbeat"),
    Case("active",    "no job",     ANY,             "old",           State.LOST,    None, SILENT, "its heartbeat"),
)
# fmt: on

"""The table of cases row by row: an example of each from real files and Slurm's words, and the table of the docs."""

import itertools
import re
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest

from sam2ft.runs.attempt.status import RunStatus
from sam2ft.runs.states import FailureClass, State
from sam2ft.slurm.accounting import parse_sacct
from sam2ft.slurm.queue import parse_squeue
from sam2ft.slurm.states import SlurmState
from sam2ft.sweeps.state import reconcile as reconcile_module
from sam2ft.sweeps.state import run_state
from sam2ft.sweeps.state.reconcile import reconcile
from sam2ft.sweeps.state.run_state import CASES, Evidence, case_of
from sam2ft.sweeps.state.slurm_snapshot import SlurmSnapshot
from sam2ft.sweeps.submit.records import Record, RecordedArray, RecordedReport, RecordedRun, write_record

PAGE = (Path(__file__).parents[3] / "docs" / "cluster.md").read_text(encoding="utf-8")
NOBODY = 2**22 + 1
"""A process id that no machine gives."""


def sacct(state: str, code: str = "0:0", nodes: str = "n1", end: str = "2126-11-23T21:10:00") -> str:
    """The training 17_0, which ended on a day long after every heartbeat of these tests."""
    return f"17_0|{state}|{code}|10|cpu=1,node=1|2126-11-23T21:00:00|2126-11-23T21:00:00|{end}|{nodes}|None|x"


class Told(NamedTuple):
    """What lies in status.json."""

    state: str
    silent_s: float = 0.0
    job: str = "17_0"
    host: str = "elsewhere"
    values: Mapping[str, Any] = {}


class Example(NamedTuple):
    """What lies on disk and what Slurm answers, and the state, class and reason that follow."""

    state: str
    failure_class: str | None
    reason: str
    status: Told | str | None = None
    """None: no file; a text: a file that holds no status."""
    queue: str | None = ""
    sacct: str = ""
    submitted: bool = True
    evaluated: bool = False
    fresh: bool = False


def failed(failure_class: str) -> Told:
    return Told("failed", values={"failure_class": failure_class, "reason": "its own words"})


HERE = socket.gethostname()
BY_JOB, BY_LOCAL = "job 17_0 (restart 0, elsewhere, process 1)", "job local (restart 0, elsewhere, process 1)"
CLOCK = f"the heartbeat of {BY_JOB} is 7200 s in the future: one of two clocks is wrong"
UNREAD = "and SLURM's queue cannot be read on this machine"
RUNNING, PENDING = "17_0|RUNNING|None|n1", "17_0|PENDING|Priority|"
TRAINING, SILENT, AHEAD = Told("training"), Told("training", 1800), Told("training", -7200)
DONE = Told("done", values={"trained": True, "best_sha256": "b"})
FORGOTTEN = "job 17_0 COMPLETED, but the run's folder has no status.json: was it removed?"
LATE = "job 17_0 left the queue without reporting a status; accounting still shows RUNNING"
PREEMPTED = "job 17_0 was preempted by SLURM (PREEMPTED) and not requeued"
NO_BOOT = "job 17_0 got a node that did not boot (BOOT_FAIL on n1)"
LIMIT, DEADLINE = (f"job 17_0 reached its {what} before it had saved" for what in ("time limit", "deadline"))
MEMORY = "job 17_0 used more memory than it requested and was killed"
UNWRITTEN = "job 17_0 ended with code 4: a file system failed, and the state of the run could not be written"
WARNED = "job 17_0 was ended by the warning of its time limit (USR2) before it had saved"
KILLED = "job 17_0 was killed by signal 9 without reporting a status"
GONE = f"job local (restart 0, {HERE}, process {NOBODY}) has ended without reporting a status"

EXAMPLES = (
    Example("done", None, "", DONE, RUNNING, evaluated=True),
    Example("running", None, "no heartbeat for 30 min", SILENT, RUNNING),
    Example("running", None, "", TRAINING, RUNNING),
    Example("queued", None, "job 17_0 PENDING: Priority", SILENT, PENDING),
    Example("unknown", None, "not a JSON file", "{"),
    Example("lost", None, LATE, sacct=sacct("RUNNING", end="Unknown")),
    Example("failed", "oom", "its own words", failed("error"), sacct=sacct("OUT_OF_MEMORY", "0:125")),
    Example("failed", "error", "its own words", failed("error"), sacct=sacct("FAILED", "1:0")),
    Example("stopped", None, "job 17_0 was cancelled by root", failed("timeout"), sacct=sacct("CANCELLED by 0")),
    Example("failed", "timeout", "its own words", failed("timeout"), sacct=sacct("FAILED", "1:0")),
    Example("stopped", None, "saved, to be continued", Told("stopped"), sacct=sacct("TIMEOUT")),
    Example("new", None, FORGOTTEN, sacct=sacct("COMPLETED")),
    Example("stopped", None, PREEMPTED, TRAINING, sacct=sacct("PREEMPTED")),
    Example("stopped", None, "job 17_0 was revoked by SLURM (REVOKED)", sacct=sacct("REVOKED")),
    Example("lost", None, "job 17_0 lost its node (NODE_FAIL on n1)", TRAINING, sacct=sacct("NODE_FAIL")),
    Example("lost", None, NO_BOOT, sacct=sacct("BOOT_FAIL")),
    Example("failed", "timeout", LIMIT, TRAINING, sacct=sacct("TIMEOUT")),
    Example("failed", "timeout", DEADLINE, sacct=sacct("DEADLINE")),
    Example("failed", "oom", MEMORY, sacct=sacct("OUT_OF_MEMORY")),
    Example("failed", "disk", UNWRITTEN, TRAINING, sacct=sacct("FAILED", "4:0")),
    Example("failed", "timeout", WARNED, sacct=sacct("FAILED", "140:0")),
    Example("failed", "error", KILLED, TRAINING, sacct=sacct("FAILED", "0:9")),
    Example("new", None, "", submitted=False),
    Example("unknown", None, f"job 17_0 was submitted, {UNREAD}", queue=None),
    Example("new", None, "job 17_0 left the queue before it started"),
    Example("new", None, "evaluation is missing or stale", DONE),
    Example("new", None, "to be trained again", DONE, evaluated=True, fresh=True),
    Example("failed", "oom", "its own words", failed("oom")),
    Example("failed", "no_progress", "its own words", failed("no_progress")),
    Example("stopped", None, "saved", Told("stopped", values={"reason": "saved"})),
    Example("lost", None, GONE, Told("training", job="local", host=HERE)),
    Example("running", None, "", TRAINING, None),
    Example("lost", None, CLOCK, AHEAD),
    Example("unknown", None, CLOCK, AHEAD, None),
    Example("unknown", None, f"no heartbeat of {BY_JOB} for 1800 s, {UNREAD}", SILENT, None),
    Example("lost", None, f"no heartbeat of {BY_JOB} for 1800 s, and the job is not in the queue", SILENT),
    Example("lost", None, f"no heartbeat of {BY_LOCAL} for 1800 s", Told("training", 1800, "local"), None),
)
"""One example for each row of CASES, in their order."""


@pytest.mark.parametrize(("case", "example"), list(zip(CASES, EXAMPLES, strict=True)), ids=range(len(CASES)))
def test_every_row_decides_the_state_that_it_names(workplace, attempt, monkeypatch, case, example):
    plan, told = replace(workplace.plan(), fresh=example.fresh), example.status
    run, file = plan.runs[0], workplace.run(plan.runs[0]).status
    if example.evaluated:
        workplace.finish(run, attempt())
    if isinstance(told, str):
        file.parent.mkdir(parents=True)
        file.write_text(told)
    elif told is not None:
        by = attempt(job=told.job, host=told.host, pid=NOBODY if told.host == HERE else 1)
        workplace.write_status(run, told.state, by, **told.values)
        monkeypatch.setattr(RunStatus, "silence_s", lambda self: told.silent_s)
    if example.submitted:
        array = RecordedArray("1-t", "train", "17", "", tuple(RecordedRun(run.index, run.run_id) for run in plan.runs))
        write_record(workplace.layout, Record(1, plan.plan_id, "here", "", (array,), RecordedReport("r", None)))
    seen = []
    monkeypatch.setattr(reconcile_module, "case_of", lambda evidence: seen.append(evidence) or case_of(evidence))
    queue = None if example.queue is None else parse_squeue(example.queue)
    accounting = parse_sacct(example.sacct.splitlines()) or None
    found = reconcile(workplace.layout, plan, SlurmSnapshot(queue, accounting))[0]
    assert case_of(seen[0]) is case
    assert (found.state, found.failure_class) == (example.state, example.failure_class)
    assert found.reason.partition(" (Expecting")[0] == (f"{file}: " if isinstance(told, str) else "") + example.reason
    assert found.source


def possible(evidence: Evidence) -> bool:
    """Whether the four can be said at once."""
    queued = evidence.queue in ("runs", "waits")
    by_job = evidence.accounting != "nothing"
    return all((
        not (queued and by_job),
        evidence.status != "older" or by_job,
        evidence.accounting not in ("FAILED with 4", "FAILED by USR2") or evidence.status not in ("failed", "gave up"),
        evidence.accounting != "not ended" or evidence.status in ("no file", "older"),
        evidence.accounting != "COMPLETED" or evidence.status in ("no file", "stopped", "failed", "gave up"),
        evidence.heartbeat == "none" or evidence.status == "active",
        evidence.heartbeat != "none" or evidence.status != "active" or queued,
        evidence.heartbeat != "process ended" or not (queued or by_job),
        evidence.status not in ("done", "unreadable") or not by_job,
        evidence.status != "done" or not queued,
    ))  # fmt: skip


def test_whatever_the_sources_say_one_row_fits_and_no_row_is_hidden_by_those_above_it():
    words = ["nothing", "not ended", "FAILED with 4", "FAILED by USR2"]
    accounting = [*words, *(state for state in SlurmState if state.phase == "ended")]
    product = itertools.product(
        get_args(run_state.StatusSays), get_args(run_state.QueueSays), accounting, get_args(run_state.HeartbeatSays)
    )
    evidence = [one for said in product if possible(one := Evidence(*said))]
    assert len(evidence) > 200
    assert {id(case_of(one)) for one in evidence} == {id(case) for case in CASES}


# --- the documentation ------------------------------------------------------------------------------------------------


def table(*headings: str) -> list[tuple[str, ...]]:
    """Rows of the table in docs/cluster.md whose columns have these headings."""
    found = re.search(rf"^\| {re.escape(' | '.join(headings))} \|\n\|[-| ]*\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert found is not None
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in found[1].splitlines()]


def cell(condition: object) -> str:
    return "any end" if isinstance(condition, tuple) else str(condition)


def test_the_documentation_shows_the_same_table():
    rows = []
    for case in CASES:
        kind = f" ({case.failure_class or 'its class'})" if case.state is State.FAILED else ""
        conditions = (case.status, case.queue, case.accounting, case.heartbeat)
        rows.append((*map(cell, conditions), f"{case.state}{kind}"))
    assert table("`status.json`", "queue", "accounting", "heartbeat", "state") == rows


def test_the_documentation_names_every_state_and_every_class_of_failure():
    assert {state for state, _ in table("state", "meaning")} == {case.state for case in CASES}
    classes = [(f"`{known}`", known.remedy) for known in FailureClass]
    assert table("class", "before `make sweep ARGS='--retry CLASS'`") == classes

"""What became of every planned run, as plain values, handed to the report."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sam2ft.cluster.plan import Standing, reconcile
from sam2ft.cluster.queue import QueueEntry, read_queue
from sam2ft.core.errors import DataError
from sam2ft.core.layout import ExperimentLayout, RunLayout
from sam2ft.run.planned import Plan, load_plan

LOG_LINES = 8


def last_log_lines(layout: RunLayout, count: int = LOG_LINES) -> tuple[str, ...]:
    """The last lines of the newest log of a run that has any text."""
    logs = sorted(layout.logs.glob("*.log"), key=lambda path: path.stat().st_mtime)
    for path in reversed(logs):
        lines = [line.rstrip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
        if kept := [line for line in lines if line]:
            return tuple(kept[-count:])
    return ()


def reason_of(layout: ExperimentLayout, standing: Standing) -> str:
    """Why a run is not done: what the run or the queue says, and for a failure the end of its log."""
    if standing.state not in ("failed", "lost"):
        return standing.reason
    lines = last_log_lines(layout.run(standing.run.run_id))
    return "\n".join((standing.reason, *lines)) if lines else standing.reason


def newest_plan(layout: ExperimentLayout) -> Plan:
    """The plan that was made or submitted last. Errors: DataError when there is none."""
    paths = sorted(layout.folder.glob("plan-*.json"), key=lambda path: path.stat().st_mtime)
    if not paths:
        raise DataError(f"{layout.folder}: no plan here; run launch/sweep.py first")
    return load_plan(layout, paths[-1].stem.removeprefix("plan-"))


def standings_of(
    layout: ExperimentLayout, plan: Plan, queue: Mapping[str, QueueEntry] | None = None
) -> tuple[Standing, ...]:
    """Where the runs of a plan stand now; a finished run of a plan made with --force counts as done."""
    return reconcile(layout, Plan(plan.experiment, plan.source, fresh=False, runs=plan.runs), queue or read_queue())

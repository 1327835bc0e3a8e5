"""Difference of a plan from the previous one: points added, removed, or with other resources; orphaned runs."""

from collections.abc import Mapping
from dataclasses import dataclass

from sam2ft.core.errors import DataError, listed
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import Plan, PlannedRun, newest_plan
from sam2ft.sweeps.state.reconcile import reconcile
from sam2ft.sweeps.state.slurm_snapshot import SlurmSnapshot
from sam2ft.sweeps.submit.records import elements_of

_SHOWN = 4


@dataclass(frozen=True)
class Difference:
    """Difference of a plan from the previous one."""

    before: str
    """Id of the previous plan."""
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    """Names of points that request other resources."""

    def sentence(self) -> str:
        """Return the difference as text; empty when there is none."""
        # A point of the same name with another run_id: a setting that is not swept was changed.
        gone = set(self.removed)
        both = tuple(name for name in self.added if name in gone)
        kinds = (
            (tuple(name for name in self.added if name not in gone), "added"),
            (tuple(name for name in self.removed if name not in both), "removed"),
            (both, "with other settings"),
            (self.changed, "with other resources"),
        )
        parts = [
            f"{len(names)} {'point' if len(names) == 1 else 'points'} {what} ({listed(names, _SHOWN)})"
            for names, what in kinds
            if names
        ]
        return f"since plan {self.before}: {'; '.join(parts)}" if parts else ""


def previous_plan(layout: ExperimentLayout) -> Plan | None:
    """Return the previous plan; None when there is none, or it cannot be read (a plan of another version)."""
    try:
        return newest_plan(layout)
    except DataError:
        return None


def plan_difference(before: Plan, now: Plan) -> Difference:
    """Compare two plans: runs are identified by run_id and listed by name."""
    old = {run.run_id: run for run in before.runs}
    new = {run.run_id: run for run in now.runs}
    return Difference(
        before.plan_id,
        added=tuple(run.name for key, run in new.items() if key not in old),
        removed=tuple(run.name for key, run in old.items() if key not in new),
        changed=tuple(run.name for key, run in new.items() if key in old and _asks(old[key]) != _asks(run)),
    )


def _asks(run: PlannedRun) -> tuple[object, object]:
    return run.resources, run.eval_resources


def orphans(layout: ExperimentLayout, before: Plan | None, now: Plan, snapshot: SlurmSnapshot) -> dict[str, str]:
    """Return runs that are no longer in the plan but still run or wait: name (or run_id) -> state and job.

    They are never cancelled, because their results may still be wanted.
    """
    kept = {run.run_id for run in now.runs}
    found: dict[str, str] = {}
    gone = [run for run in (before.runs if before else ()) if run.run_id not in kept]
    known = {run.run_id for run in gone}
    if before is not None and gone:
        old = Plan(before.experiment, before.source, False, tuple(gone))
        for reconciled in reconcile(layout, old, snapshot):
            if reconciled.state.live:
                found[reconciled.run.name] = f"{reconciled.state}{_in_job(reconciled.job)}"
    queue: Mapping[str, object] = snapshot.queue or {}
    for run_id, elements in elements_of(layout).items():
        live = [element.job for element in elements if element.job in queue]
        if run_id not in kept and run_id not in known and live:
            found[run_id] = f"in the queue{_in_job(live[-1])}"
    return found


def _in_job(job: str | None) -> str:
    return f" (job {job})" if job else ""


def orphan_sentence(found: Mapping[str, str]) -> str:
    """Return the result of `orphans` as text; empty when there are none."""
    if not found:
        return ""
    what = listed([f"{name} {doing}" for name, doing in found.items()], _SHOWN)
    return f"no longer in the experiment, and not cancelled: {what}"

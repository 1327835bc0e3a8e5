"""Remedies of Slurm's queue, and excuses of the same kind as those of excuses.py."""

from dataclasses import replace
from typing import Any

from sam2ft.runs.plan_file import newest_plan
from sam2ft.sweeps.state.reconcile import reconcile
from sam2ft.sweeps.state.slurm_snapshot import snapshot_of
from sam2ft.sweeps.status.why import explanation
from sam2ft.sweeps.submit.throttle import throttle
from tests.fixtures.workplace import planned_runs
from tests.remedies.registry import excused, remedy

excused("no remedy", 'later="the next make sweep continues it')  # a line of the batch script
excused("elsewhere", "make lock ARGS='--upgrade-package {}")  # asks the package index for versions


@remedy("make throttle changes it", of="the throttle allows no more running elements")
def a_throttle_that_is_reached(slurm: Any) -> str:
    from tests.sweeps.submit.test_submit import plan_of

    slurm.sweep(plan_of(planned_runs(11)))
    snapshot = snapshot_of(slurm.layout)
    waiting = {job: replace(entry, reason="JobArrayTaskLimit") for job, entry in (snapshot.queue or {}).items()}
    (first, *_) = reconcile(slurm.layout, newest_plan(slurm.layout), snapshot)
    shown = "\n".join(explanation(slurm.layout, first, replace(snapshot, queue=waiting)))
    for most in (4, 7, 11):
        (slurm.folder / "control").unlink(missing_ok=True)
        throttle(slurm.layout, most)
        assert "ArrayTaskThrottle=" in (slurm.folder / "control").read_text()
    return shown

"""What a plan says of the one before it; points that were taken out are reported and left alone."""

from dataclasses import replace

from sam2ft.core.files import write_json
from sam2ft.runs.plan_file import save_plan
from sam2ft.slurm.queue import QueueEntry
from sam2ft.slurm.states import SlurmState
from sam2ft.sweeps.plan.difference import Difference, orphan_sentence, orphans, plan_difference, previous_plan
from sam2ft.sweeps.state.slurm_snapshot import SlurmSnapshot

THREE = ('sweep.grid={"module.optimizer.lr": [1e-3, 1e-4, 1e-5]}',)


def submitted(workplace, run, job, number=1):
    elements = [{"index": run.index, "run_id": run.run_id}]
    array = {"job_name": "x", "stage": "train", "job": job, "depends": "", "runs": elements}
    value = {"version": 2, "number": number, "plan": "p", "site": "s", "time": "2026-01-01T00:00:00+00:00"}
    write_json(
        workplace.layout.submission(number), value | {"arrays": [array], "report": {"job_name": "r", "job": None}}
    )


def test_points_that_came_went_or_ask_for_something_else(workplace):
    before, now = workplace.plan(), workplace.plan(THREE)
    assert plan_difference(before, now) == Difference(before.plan_id, added=("lr=1e-05",))
    assert plan_difference(now, before).removed == ("lr=1e-05",)
    more = replace(now, runs=tuple(replace(run, resources=replace(run.resources, hours=2)) for run in now.runs))
    assert plan_difference(now, more).changed == tuple(run.name for run in now.runs)
    assert plan_difference(now, now).sentence() == ""
    assert plan_difference(before, now).sentence() == f"since plan {before.plan_id}: 1 point added (lr=1e-05)"


def test_points_whose_common_settings_changed_are_not_called_new(workplace):
    before, now = workplace.plan(), workplace.plan(("module.num_epochs=3",))
    said = plan_difference(before, now).sentence()
    # the baseline is the same run: epochs do not change the initial weights
    assert said == f"since plan {before.plan_id}: 2 points with other settings (lr=0.001, lr=0.0001)"


def test_a_plan_of_another_version_is_no_reason_to_stop(workplace):
    assert previous_plan(workplace.layout) is None
    write_json(workplace.layout.plan("0" * 12), {"version": 1})
    assert previous_plan(workplace.layout) is None


def test_a_removed_point_that_still_runs_is_named_with_its_job(workplace, attempt):
    before, now = workplace.plan(THREE), workplace.plan()
    save_plan(workplace.layout, before)
    gone = next(run for run in before.runs if run.name == "lr=1e-05")
    assert orphans(workplace.layout, before, now, SlurmSnapshot({})) == {}
    submitted(workplace, gone, "12")
    snapshot = SlurmSnapshot({"12": QueueEntry(SlurmState.RUNNING, "None", "n1")})
    found = orphans(workplace.layout, before, now, snapshot)
    assert list(found) == ["lr=1e-05"]
    assert found["lr=1e-05"] == "running (job 12)"
    assert orphan_sentence(found) == "no longer in the experiment, and not cancelled: lr=1e-05 running (job 12)"
    assert orphans(workplace.layout, before, before, snapshot) == {}


def test_what_was_removed_two_plans_ago_is_still_found_in_the_queue(workplace):
    oldest, now = workplace.plan(THREE), workplace.plan()
    gone = next(run for run in oldest.runs if run.name == "lr=1e-05")
    submitted(workplace, gone, "12")
    found = orphans(workplace.layout, now, now, SlurmSnapshot({"12": QueueEntry(SlurmState.PENDING, "Priority", "")}))
    assert found == {gone.run_id: "in the queue (job 12)"}

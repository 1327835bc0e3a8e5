"""What goes to Slurm and in which order, with a fake Slurm that keeps a queue in a file."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sam2ft.core.errors import DataError, UserError
from sam2ft.core.files import read_json, write_json
from sam2ft.jobs.job_file import JobFile, element_of, read_job_file
from sam2ft.runs.plan_file import Plan, Resources
from sam2ft.slurm.lookup import SubmissionError, ids_by_name
from sam2ft.slurm.partitions import ArrayLimits
from sam2ft.sweeps.submit.arrays import arrays_of, name_prefix
from sam2ft.sweeps.submit.records import elements_of, next_number, read_record, records_of
from sam2ft.sweeps.submit.wanted_jobs import WantedJobs

GPU = Resources(nodes=1, tasks_per_node=1, gpus_per_node=1, cpus_per_task=8, mem_gb=64.0, hours=12.0)


def plan_of(*runs, fresh=False):
    return Plan("toy", "/toy.yaml", fresh, tuple(run for group in runs for run in group))


def finish_training(slurm, run):
    """What a training leaves."""
    run_layout = slurm.layout.run(run.run_id)
    attempt = {"job": "100_0", "restart": 0, "host": "elsewhere", "pid": 1, "started": "2026-01-01T00:00:00+00:00"}
    status = {"state": "done", "attempt": attempt, "heartbeat": attempt["started"], "trained": True, "best_sha256": "b"}
    write_json(run_layout.status, status)
    run_layout.best.parent.mkdir(parents=True)
    run_layout.best.write_bytes(b"best")


def test_twelve_points_become_chunks_of_five_each_with_its_evaluations_behind_it_and_one_report(slurm, runs_of):
    done = slurm.sweep(plan_of(runs_of(12)))
    assert slurm.jobs == [
        ("100", 5, ""),
        ("101", 5, "aftercorr:100"),
        ("102", 5, ""),
        ("103", 5, "aftercorr:102"),
        ("104", 2, ""),
        ("105", 2, "aftercorr:104"),
        ("106", 0, "afterany:100:101:102:103:104:105"),
    ]
    assert (done.jobs, done.report) == (("100", "101", "102", "103", "104", "105"), "106")
    assert (done.num_trainings, done.num_evaluations) == (12, 12)
    # Every point exactly once in each stage.
    for stage in ("train", "eval"):
        elements = [one for found in elements_of(slurm.layout).values() for one in found if one.stage == stage]
        assert len({element.job for element in elements}) == 12


def test_each_resource_class_is_an_array_of_its_own_and_one_run_is_a_plain_job(slurm, runs_of):
    large = replace(GPU, mem_gb=128.0)
    plan = plan_of(runs_of(2, GPU), runs_of(1, large, first=2), runs_of(2, GPU, first=3, evaluation=large))
    slurm.sweep(plan)
    assert [(count, depends) for _, count, depends in slurm.jobs[:-1]] == [
        (2, ""),
        (2, "aftercorr:100"),
        (0, ""),
        (0, "afterok:102"),
        (2, ""),
        (2, "aftercorr:104"),
    ]
    assert [line for line in slurm.script("105").splitlines() if "--mem=" in line] == ["#SBATCH --mem=131072MB"]
    assert "#SBATCH --mem=65536MB" in slurm.script("104")
    elements = elements_of(slurm.layout)
    assert [element.job for element in elements[plan.runs[2].run_id]] == ["102", "103"]
    assert [element.job for element in elements[plan.runs[1].run_id]] == ["100_1", "101_1"]


def test_only_what_waits_for_a_training_is_killed_when_that_fails(slurm, runs_of):
    slurm.sweep(plan_of(runs_of(2)))
    assert ["--kill-on-invalid-dep=yes" in slurm.script(job) for job in ("100", "101", "102")] == [False, True, False]


def test_submitting_twice_submits_nothing(slurm, runs_of):
    plan = plan_of(runs_of(12))
    slurm.sweep(plan)
    again = slurm.sweep(plan)
    assert (again.number, again.jobs, again.report) == (None, (), None)
    assert len(slurm.calls) == 7
    assert next_number(slurm.layout) == 2


def test_evaluations_of_trained_points_depend_on_nothing(slurm, runs_of):
    plan = plan_of(runs_of(3))
    for run in plan.runs[:2]:
        finish_training(slurm, run)
    slurm.sweep(plan)
    assert slurm.jobs == [("100", 0, ""), ("101", 0, "afterok:100"), ("102", 2, ""), ("103", 0, "afterany:100:101:102")]


def with_other_evaluations(plan):
    """The same runs, evaluated otherwise."""
    return replace(
        plan,
        runs=tuple(
            replace(run, points=(replace(run.points[0], eval_id=f"f{run.points[0].eval_id[1:]}"),)) for run in plan.runs
        ),
    )


def test_an_evaluation_of_a_run_in_training_waits_for_it_and_for_the_evaluation_before(slurm, runs_of):
    plan = plan_of(runs_of(2))
    slurm.sweep(plan)
    done = slurm.sweep(with_other_evaluations(plan))
    assert slurm.jobs[3:] == [
        ("103", 0, "afterok:100_0,afterany:101_0"),
        ("104", 0, "afterok:100_1,afterany:101_1"),
        ("105", 0, "afterany:100:101:103:104"),
    ]
    assert (done.num_trainings, done.num_evaluations) == (0, 2)
    # The report before would have come too early: it was cancelled.
    assert (slurm.folder / "gone").read_text() == "102\n"
    assert slurm.sweep(with_other_evaluations(plan)).number is None


def test_a_report_that_cannot_be_cancelled_fails_no_submission(slurm, runs_of):
    plan = plan_of(runs_of(2))
    slurm.sweep(plan)
    (slurm.folder / "scancel").unlink()
    done = slurm.sweep(with_other_evaluations(plan))
    assert (done.jobs, done.report) == (("103", "104"), "105")
    assert not (slurm.folder / "gone").exists()


def test_a_trained_run_that_is_being_evaluated_waits_for_that_evaluation_only(slurm, runs_of):
    plan = plan_of(runs_of(1))
    slurm.sweep(plan)
    slurm.remove("100")
    finish_training(slurm, plan.runs[0])
    slurm.sweep(with_other_evaluations(plan))
    assert slurm.jobs[3:] == [("103", 0, "afterany:101"), ("104", 0, "afterany:101:103")]


def test_a_report_follows_what_is_still_there_when_the_one_before_is_gone(slurm, runs_of):
    plan = plan_of(runs_of(2))
    slurm.sweep(plan)
    slurm.remove("102")
    done = slurm.sweep(plan)
    assert slurm.jobs[3:] == [("103", 0, "afterany:100:101")]
    assert (done.jobs, done.report) == ((), "103")
    assert "no runs" in done.sentence()
    assert slurm.sweep(plan).number is None


def test_a_job_file_holds_plain_ids_and_there_is_no_pickle(slurm, runs_of):
    plan = plan_of(runs_of(2))
    slurm.sweep(plan)
    arrays = read_record(slurm.layout, 1).arrays
    for stage, array in zip(("train", "eval"), arrays, strict=True):
        found = read_job_file(slurm.layout.scripts(1) / f"{array.job_name}.json")
        assert found == JobFile(str(slurm.layout.folder.resolve()), plan.plan_id, stage, (0, 1))
    kinds = {path.suffix for path in slurm.layout.scripts(1).iterdir()}
    assert kinds == {".sh", ".json"}


@pytest.mark.parametrize(("count", "variables", "expected"), [
    (2, {"SLURM_ARRAY_JOB_ID": "100", "SLURM_ARRAY_TASK_ID": "1", "SLURM_JOB_ID": "101"}, 1),
    (3, {"SLURM_ARRAY_JOB_ID": "100", "SLURM_ARRAY_TASK_ID": "0", "SLURM_JOB_ID": "101"}, 0),
    (1, {"SLURM_JOB_ID": "100"}, 0),
])  # fmt: skip
def test_a_job_finds_its_work_without_a_launcher(slurm, runs_of, count, variables, expected):
    slurm.sweep(plan_of(runs_of(count)))
    (command,) = [line for line in slurm.script("100").splitlines() if line.startswith("srun ")]
    words = f"printf '%s\\n' {command.partition('-m sam2ft.jobs.job ')[2]}"
    told = subprocess.run(["bash", "-c", words], env=variables, capture_output=True, text=True, check=True)
    path, element = map(str, told.stdout.splitlines())
    assert element_of(read_job_file(Path(path)), Path(path), element) == expected


def test_the_record_maps_elements_to_runs_and_says_what_they_wait_for(slurm, runs_of):
    plan = plan_of(runs_of(2))
    slurm.sweep(plan)
    value = read_json(slurm.layout.submission(1))
    assert {key: value[key] for key in ("version", "number", "plan", "site")} == {
        "version": 2, "number": 1, "plan": plan.plan_id, "site": "here",
    }  # fmt: skip
    assert [(array["stage"], array["job"], array["depends"]) for array in value["arrays"]] == [
        ("train", "100", ""),
        ("eval", "101", "aftercorr:100"),
    ]
    assert value["arrays"][1]["runs"][1] == {"index": 1, "run_id": plan.runs[1].run_id, "eval_ids": ["000000000001"]}
    assert value["report"]["job"] == "102"
    first, second = elements_of(slurm.layout)[plan.runs[1].run_id]
    assert (first.job, first.stage, first.submission) == ("100_1", "train", 1)
    assert (second.job, second.stage, second.eval_ids) == ("101_1", "eval", ("000000000001",))


def test_records_of_before_are_read_and_others_are_refused(slurm):
    runs = [{"index": 0, "run_id": "a"}, {"index": 1, "run_id": "b"}]
    arrays = [{"job_name": "x", "stage": "train_eval", "job": "7", "runs": runs}]
    write_json(slurm.layout.submission(1), {"number": 1, "plan": "p", "site": "s", "time": "", "arrays": arrays,
                                            "aggregate": "8"})  # fmt: skip
    assert [element.job for element in elements_of(slurm.layout)["b"]] == ["7_1"]
    assert records_of(slurm.layout)[0].report.job == "8"
    write_json(slurm.layout.submission(2), {"version": 3})
    with pytest.raises(DataError, match=r"2\.json: not the record of a submission \(version 3"):
        records_of(slurm.layout)


def test_job_names_differ_between_submissions_and_working_directories_and_fit_everywhere():
    assert name_prefix("toy", "/a", 1, "0") != name_prefix("toy", "/b", 1, "0")
    assert name_prefix("toy", "/a", 1, "0") != name_prefix("toy", "/a", 2, "0")
    assert name_prefix("toy", "/a", 1, "0") != name_prefix("toy", "/a", 1, "1")
    assert name_prefix("my knee, left", "/a", 1, "0").startswith("s2ft-my-knee--left-")
    assert len(name_prefix("x" * 300, "/a", 1, "0")) < 120


def test_at_most_as_many_elements_as_asked_run_at_once_over_all_arrays(slurm, runs_of):
    slurm.sweep(plan_of(runs_of(12)))  # max_parallel: 4, six arrays: each gets the one that it needs
    assert [f"%{1}\n" in slurm.script(str(job)) for job in range(100, 106)] == [True] * 6


@pytest.mark.parametrize("most", [1, 3, 4, 7, 20, 23, 24, 100])
def test_places_are_divided_over_arrays_and_never_exceed_what_was_asked(runs_of, most):
    wanted = [WantedJobs(run, train=True) for run in runs_of(24)]
    arrays = arrays_of(wanted, (), ArrayLimits(10), most)
    places = [array.parallel for array in arrays]
    assert all(1 <= array.parallel <= len(array.runs) for array in arrays)
    if most >= 24:
        assert places == [len(array.runs) for array in arrays]
    else:
        assert sum(places) <= max(most, len(arrays))
        trainings = sum(array.parallel for array in arrays if array.stage == "train")
        assert trainings >= sum(places) / 2
        assert sum(places) >= min(most, len(arrays))


def test_an_array_is_as_long_as_both_limits_allow(runs_of):
    wanted = [WantedJobs(run, train=False) for run in runs_of(12)]
    sizes = [len(array.runs) for array in arrays_of(wanted, (), ArrayLimits(8, 5), 4)]
    assert sizes == [5, 5, 2]
    # A cluster without arrays.
    assert len(arrays_of(wanted, (), ArrayLimits(0), 4)) == 12


def test_a_submission_from_inside_a_job_keeps_only_where_the_cluster_is(slurm, runs_of, monkeypatch):
    for name, value in {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "3", "SBATCH_PARTITION": "other", "RANK": "1",
                        "SLURM_CONF": "/etc/other/slurm.conf"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    slurm.sweep(plan_of(runs_of(1)))
    variables = {line.partition("=")[0] for line in (slurm.folder / "environment").read_text().splitlines()}
    assert {name for name in variables if name.startswith(("SLURM", "SBATCH", "RANK"))} == {"SLURM_CONF"}


def test_the_intent_is_on_disk_before_sbatch_and_a_refusal_is_shown(slurm, runs_of):
    slurm.set("refuse", "1|sbatch: error: invalid partition specified: gpu")
    plan = plan_of(runs_of(2))
    with pytest.raises(SubmissionError, match="invalid partition specified: gpu"):
        slurm.sweep(plan)
    record = read_record(slurm.layout, 1)
    assert [(array.job, array.stage) for array in record.arrays] == [(None, "train"), (None, "eval")]
    assert record.arrays[1].depends == f"aftercorr:{record.arrays[0].job_name}"
    assert [run.index for run in record.arrays[0].runs] == [0, 1]
    assert elements_of(slurm.layout) == {}


def test_after_a_refusal_the_next_call_submits_the_rest(slurm, runs_of):
    plan = plan_of(runs_of(12))
    slurm.set("refuse", "4|sbatch: error: QOSMaxSubmitJobPerUserLimit")
    with pytest.raises(SubmissionError, match="QOSMaxSubmitJobPerUserLimit"):
        slurm.sweep(plan)
    assert [count for _, count, _ in slurm.jobs] == [5, 5, 5]
    slurm.sweep(plan)
    assert slurm.jobs[3:] == [
        ("103", 2, ""),
        ("104", 2, "aftercorr:103"),
        # The evaluations of the chunk whose trainings were already there.
        ("105", 5, "aftercorr:102"),
        ("106", 0, "afterany:100:101:102:103:104:105"),
    ]
    assert slurm.sweep(plan).number is None


def test_evaluations_of_a_part_of_an_array_wait_for_their_own_training_each(slurm, runs_of):
    plan = plan_of(runs_of(3))
    slurm.set("refuse", "2|sbatch: error: no")
    with pytest.raises(SubmissionError):
        slurm.sweep(plan)
    slurm.sweep(plan_of(runs_of(3)[1:]))
    assert slurm.jobs[1:3] == [("101", 0, "afterok:100_1"), ("102", 0, "afterok:100_2")]


def test_an_sbatch_that_timed_out_may_have_made_the_job(slurm, runs_of):
    slurm.set("timeout", "1")
    plan = plan_of(runs_of(2))
    slurm.sweep(plan)
    assert slurm.jobs == [("100", 2, ""), ("101", 2, "aftercorr:100"), ("102", 0, "afterany:100:101")]
    assert slurm.sweep(plan).number is None


def test_nothing_is_submitted_while_the_queue_cannot_be_asked(slurm, runs_of):
    plan = plan_of(runs_of(2))
    slurm.set("no_queue", "1")
    with pytest.raises(SubmissionError, match="squeue does not answer; nothing is submitted"):
        slurm.sweep(plan)
    assert slurm.calls == []
    assert records_of(slurm.layout) == ()


def test_a_job_that_left_the_queue_is_found_in_the_accounting(slurm):
    slurm.set("accounting", "17_[0-4%2]|a\n18_3|b\n19|c\n20|of somebody else")
    found = ids_by_name(["a", "b", "c", "d"], "2026-01-01T00:00:00+00:00", [0])
    assert found == {"a": "17", "b": "18", "c": "19"}


def test_nothing_that_plans_or_adopts_imports_submitit():
    code = "import sys, sam2ft.sweeps.sweep, sam2ft.sweeps.submit.recover; sys.exit('submitit' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_throttle_of_what_is_queued_is_changed_and_shared(slurm, runs_of):
    from sam2ft.sweeps.submit.throttle import throttle

    slurm.sweep(plan_of(runs_of(11)))
    # The last chunk is one run, which takes one place: six for the arrays.
    said = throttle(slurm.layout, 7)
    updates = [line for line in (slurm.folder / "control").read_text().splitlines() if line.startswith("update")]
    assert updates == [
        "update JobId=100 ArrayTaskThrottle=2",
        "update JobId=101 ArrayTaskThrottle=1",
        "update JobId=102 ArrayTaskThrottle=2",
        "update JobId=103 ArrayTaskThrottle=1",
    ]
    assert said[0] == "array 100 (train, 5 left): 2 at once"
    with pytest.raises(UserError, match="throttle 0; allowed: 1 or more"):
        throttle(slurm.layout, 0)


def test_thousands_of_points_take_one_call_of_sbatch_for_each_array(slurm, runs_of):
    done = slurm.sweep(plan_of(runs_of(2500)), max_array_size=1001)
    assert [count for _, count, _ in slurm.jobs] == [1001, 1001, 1001, 1001, 498, 498, 0]
    assert (done.num_trainings, len(slurm.calls)) == (2500, 7)

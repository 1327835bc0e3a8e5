"""A launcher may die before and after everything it does: the next call finds what is there and submits the rest, once.

The effects are not listed by hand: an audit hook sees every file that is opened to be written, every rename, removal
and program, and ends the process (without any clean-up) before the one that is its turn.
"""

import multiprocessing
import os
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from dataclasses import replace

import pytest

from sam2ft.jobs.job_file import read_job_file
from sam2ft.runs.plan_file import Plan, Resources
from sam2ft.sweeps.submit.records import elements_of, records_of

OTHER = Resources(nodes=1, tasks_per_node=1, gpus_per_node=1, cpus_per_task=1, mem_gb=2.0, hours=2.0)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def changes_something(event, arguments):
    if event == "open":
        return bool(arguments[2] & _WRITES) and not str(arguments[0]).startswith("/dev/")
    if event == "os.mkdir":
        return not os.path.isdir(arguments[0])
    if event == "os.remove":
        return os.path.lexists(arguments[0])
    return event in ("os.rename", "os.symlink", "os.truncate", "subprocess.Popen")


def in_a_child(work, *, dies_at=None):
    """Fork, do `work`, die before effect `dies_at`. Returns the number of effects, or None when it died."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        seen = 0

        def hook(event, arguments):
            nonlocal seen
            if changes_something(event, arguments):
                if seen == dies_at:
                    os._exit(9)
                seen += 1

        try:
            sys.addaudithook(hook)
            work()
            os.write(writing, str(seen).encode())
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as stream:
        told = stream.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9), f"the launcher ended with {code}"
    return int(told) if code == 0 else None


def mixed_plan(runs_of):
    """Two points of one class, one of another, and a baseline: arrays and plain jobs of both stages."""
    baseline = replace(runs_of(1, first=3)[0], stage="eval", baseline=True)
    return Plan("toy", "/toy.yaml", False, (*runs_of(2), *runs_of(1, OTHER, first=2), baseline))


def started_by(slurm):
    """(index, stage) -> job ids that would start it, and the ids of the reports, by Slurm's queue and job files."""
    starts, reports = {}, []
    for line in (slurm.folder / "queue").read_text().splitlines():
        job, name, count, _ = line.split("|")
        (number,) = [path.parent.name for path in slurm.layout.submissions.glob(f"*/{name}.sh")]
        for position in range(max(1, int(count))):
            path = slurm.layout.submissions / number / f"{name}.json"
            if name.endswith("-report"):
                assert not path.exists()
                reports.append(job)
            else:
                found = read_job_file(path)
                key = found.runs[position], found.stage
                starts.setdefault(key, []).append(f"{job}_{position}" if int(count) else job)
    return starts, reports


def assert_whole(slurm, plan):
    """Every run once in each stage, each evaluation behind its own training, one report behind everything."""
    starts, reports = started_by(slurm)
    wanted = {
        (run.index, stage)
        for run in plan.runs
        for stage in ("train", "eval")
        if not (run.baseline and stage == "train")
    }
    assert {key: len(jobs) for key, jobs in starts.items()} == dict.fromkeys(wanted, 1)
    depends = {job: text for job, _, text in slurm.jobs}
    for run in plan.runs:
        (evaluation,) = starts[run.index, "eval"]
        text = depends[evaluation.partition("_")[0]]
        if run.baseline:
            assert text == ""
            continue
        (training,) = starts[run.index, "train"]
        array, _, position = training.partition("_")
        kind, _, target = text.partition(":")
        same_position = kind == "aftercorr" and target == array and evaluation.endswith(f"_{position}")
        assert same_position or (kind == "afterok" and target == training), (training, evaluation, text)
    gone = (slurm.folder / "gone").read_text().split() if (slurm.folder / "gone").is_file() else []
    (report,) = set(reports) - set(gone)
    arrays = {job.partition("_")[0] for jobs in starts.values() for job in jobs}
    assert set(depends[report].removeprefix("afterany:").split(":")) == arrays
    recorded = Counter(element.job for found in elements_of(slurm.layout).values() for element in found)
    assert recorded == Counter(job for jobs in starts.values() for job in jobs)
    assert records_of(slurm.layout)[-1].report.job == report


def clean(slurm):
    shutil.rmtree(slurm.layout.folder.parent, ignore_errors=True)
    for name in ("queue", "calls", "gone", "control", "environment"):
        (slurm.folder / name).unlink(missing_ok=True)


@pytest.mark.slow
def test_a_launcher_that_dies_before_or_after_any_effect_loses_nothing_and_repeats_nothing(slurm, runs_of):
    plan = mixed_plan(runs_of)
    slurm.sweep(plan)  # imports what is imported late, in the parent of all the launchers
    assert_whole(slurm, plan)
    clean(slurm)
    effects = in_a_child(lambda: slurm.sweep(plan))
    assert_whole(slurm, plan)
    assert effects is not None
    assert effects > 40
    for position in range(effects):
        clean(slurm)
        assert in_a_child(lambda: slurm.sweep(plan), dies_at=position) is None
        slurm.sweep(plan)
        assert_whole(slurm, plan)
        calls = len(slurm.calls)
        assert slurm.sweep(plan).number is None
        assert len(slurm.calls) == calls


def test_a_second_launcher_that_dies_while_it_repairs_loses_nothing_either(slurm, runs_of):
    plan = mixed_plan(runs_of)
    slurm.set("refuse", "4|sbatch: error: try later")
    with pytest.raises(Exception, match="try later"):
        slurm.sweep(plan)
    kept = slurm.layout.folder.parent.with_name("kept")
    shutil.copytree(slurm.layout.folder.parent, kept)
    queue = (slurm.folder / "queue").read_text()

    def again():
        clean(slurm)
        shutil.copytree(kept, slurm.layout.folder.parent)
        slurm.set("queue", queue)

    again()
    slurm.set("refuse", "")
    effects = in_a_child(lambda: slurm.sweep(plan))
    for position in range(0, effects, 6):
        again()
        assert in_a_child(lambda: slurm.sweep(plan), dies_at=position) is None
        slurm.sweep(plan)
        assert_whole(slurm, plan)


def test_a_job_that_is_being_made_while_its_launcher_is_killed_is_waited_for(slurm, runs_of):
    plan = mixed_plan(runs_of)
    slurm.set("slow", "1.0")
    if (launcher := os.fork()) == 0:
        slurm.sweep(plan)
        os._exit(0)
    while not (slurm.folder / "started").is_file():
        time.sleep(0.01)
    os.kill(launcher, signal.SIGKILL)
    os.waitpid(launcher, 0)
    assert slurm.jobs == []  # sbatch is still at it
    slurm.set("slow", "")
    slurm.sweep(plan)
    time.sleep(1.0)  # a job that nobody waited for would be there by now
    assert_whole(slurm, plan)


def test_two_launchers_at_the_same_moment_submit_everything_once(slurm, runs_of):
    plan = mixed_plan(runs_of)
    context = multiprocessing.get_context("fork")
    launchers = [context.Process(target=slurm.sweep, args=(plan,)) for _ in range(2)]
    for launcher in launchers:
        launcher.start()
    for launcher in launchers:
        launcher.join(30)
    assert [launcher.exitcode for launcher in launchers] == [0, 0]
    assert_whole(slurm, plan)
    assert len(slurm.calls) == 6

"""A launcher that dies while it submits, and two at once: nothing is lost, nothing runs twice."""

import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sam2ft.sweeps.submit.records import elements_of

pytestmark = pytest.mark.slurm

# Six runs: a chunk of five and one of one, each with its evaluations, and the report: five calls of sbatch.
SWEEP = "sweep: {grid: {module.optimizer.lr: [1e-4, 2e-4, 3e-4, 4e-4, 5e-4, 6e-4]}}\n"
# kill -9 of whoever called sbatch, before or after the real one has answered.
SBATCH = """\
#!/bin/bash
n=$(( $(cat "{count}" 2>/dev/null || echo 0) + 1 ))
echo $n > "{count}"
if [ "$n" = {call} ] && [ {when} = before ]; then kill -9 $PPID; exit 1; fi
answer=$("{sbatch}" "$@"); code=$?
if [ "$n" = {call} ] && [ {when} = after ]; then kill -9 $PPID; fi
echo "$answer"; exit $code
"""
KILLS = ((1, "before"), (1, "after"), (2, "after"), (4, "before"), (5, "after"))


def path_with_killer(slurm, folder: Path, call: int, when: str) -> str:
    """A PATH on which sbatch kills its caller at the `call`-th call."""
    folder.mkdir()
    real = slurm.run("which", "sbatch").strip()
    script = folder / "sbatch"
    script.write_text(SBATCH.format(count=folder / "count", call=call, when=when, sbatch=real))
    script.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def elements_in_queue(slurm, experiment) -> dict[str, Counter]:
    """Stage -> run_id -> number of elements that Slurm has, whatever was written down: by name of the array."""
    arrays = {array.job_name: array for record in experiment.records for array in record.arrays}
    counts = {"train": Counter(), "eval": Counter()}
    for line in slurm.run("squeue", "-h", "-r", "-O", "ArrayTaskID:20,Name:200").splitlines():
        position, name = line.split()
        if name in arrays:
            array = arrays[name]
            counts[array.stage][array.runs[int(position) if position.isdecimal() else 0].run_id] += 1
    return counts


def reports_in_queue(slurm, experiment) -> list[str]:
    names = {record.report.job_name for record in experiment.records}
    return [name for name in slurm.run("squeue", "-h", "-o", "%j").split() if name in names]


@pytest.fixture
def emptied(slurm):
    """The jobs of these tests only sleep; they go when the test ends."""
    yield
    slurm.run("scancel", "-u", str(os.getuid()))


def test_after_a_kill_9_at_any_call_of_sbatch_the_next_call_submits_the_rest_and_nothing_twice(
    slurm, experiment, tmp_path, emptied
):
    def killed_and_called_again(number: int):
        call, when = KILLS[number]
        runs = experiment(f"killed{number}", SWEEP)
        environment = {**os.environ, "PATH": path_with_killer(slurm, tmp_path / str(number), call, when)}
        runs.launch("sweep", runs.yaml, "--site", "asleep", expect=-9, env=environment)
        return runs, runs.sweep(site="asleep")

    with ThreadPoolExecutor(max_workers=3) as pool:
        called = list(pool.map(killed_and_called_again, range(len(KILLS))))
    for (call, when), (runs, said) in zip(KILLS, called, strict=True):
        where = f"killed {when} call {call}: {said}"
        once = Counter(place.run_id for place in runs.runs)
        assert len(once) == 6
        assert elements_in_queue(slurm, runs) == {"train": once, "eval": once}, where
        assert len(reports_in_queue(slurm, runs)) == 1, where
        assert {len(elements) for elements in elements_of(runs.layout).values()} == {2}, where
    third = called[0][0].sweep(site="asleep")
    assert third.startswith("0 to submit: ")


def test_two_launchers_at_the_same_moment_submit_once(slurm, experiment, emptied):
    runs = experiment("twice", SWEEP)
    command = [sys.executable, str(Path(__file__).parents[2] / "launch" / "sweep.py"), runs.yaml, "--site", "asleep"]
    both = [subprocess.Popen(command, cwd=runs.folder, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted("6 to submit: 0 done" in text for text in said) == [False, True]
    assert sorted("0 to submit: 0 done" in text for text in said) == [False, True]
    once = Counter(place.run_id for place in runs.runs)
    assert elements_in_queue(slurm, runs) == {"train": once, "eval": once}
    assert len(runs.records) == 1


def test_a_warning_of_the_time_limit_before_python_has_started_is_a_timeout_not_an_error(slurm, experiment, emptied):
    """Slurm may send it up to a minute before it is due: a job of one minute can still be starting."""
    runs = experiment("early")
    runs.sweep(site="slow start")
    (place,) = runs.runs
    job = runs.job(place)
    runs.wait(lambda: f"{job}.0" in slurm.run("squeue", "-h", "-s", "-o", "%i").split())
    slurm.run("scancel", "--signal=USR2", job)
    runs.wait(lambda: job not in slurm.queue())
    assert slurm.accounted(job)[job]["State"] == "FAILED"
    (row,) = runs.states()
    assert (row["state"], row["class"]) == ("failed", "timeout"), row
    assert "the warning of its time limit" in row["reason"]
    assert "1 to submit: " in runs.sweep("--retry", "timeout", "--dry-run", site="slow start")

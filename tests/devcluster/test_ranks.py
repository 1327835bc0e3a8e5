"""Two nodes with two tasks each: training, stopping together, resuming, a rank that dies, evaluation in parts."""

import os
import signal
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slurm

FOUR = "nodes: 2, tasks_per_node: 2, gpus_per_node: 0, cpus_per_task: 1, mem_gb: 4, hours: 0.5"


def tasks(job):
    """Rank -> process id of the tasks of a job on this machine, where all nodes are."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            block = (folder / "environ").read_bytes().decode(errors="replace")
            command = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        variables = dict(text.partition("=")[::2] for text in block.split("\0"))
        ours = variables.get("SLURM_CONF") == os.environ["SLURM_CONF"] and variables.get("SLURM_JOB_ID") == job
        if ours and "SLURM_PROCID" in variables and "sam2ft.jobs.job" in command and "srun" not in command:
            found[int(variables["SLURM_PROCID"])] = int(folder.name)
    return found


@pytest.fixture(scope="module")
def ended(slurm, experiment):
    """Trained by four ranks: warned once, then a rank is killed, then retried to the end and evaluated by four."""
    runs = experiment("ranks", num_epochs=16, batch_size=1, resources=FOUR)
    runs.sweep()
    (place,) = runs.runs
    first = runs.job(place)
    runs.wait(lambda: runs.step(place) >= 2)
    facts = {"step_at_warning": runs.step(place), "ranks": sorted(tasks(first))}
    slurm.run("scancel", "--signal=USR2", first)
    runs.wait_for_progress(place, restart=1)

    facts["checkpoints"] = [int(path.stem) for path in place.checkpoints.glob("*.safetensors")]
    os.kill(tasks(first)[3], signal.SIGKILL)
    killed = time.monotonic()
    runs.wait(lambda: first not in slurm.queue(), 60)
    facts["seconds_to_end"] = time.monotonic() - killed
    facts["first"] = slurm.job(first)
    facts["processes"] = tasks(first)
    runs.wait_for_end()
    facts["states"] = runs.states()
    runs.sweep("--retry", "failed")
    runs.wait_for_end()
    return runs, place, facts


def test_four_ranks_stop_together_and_continue(ended):
    _, place, facts = ended
    assert facts["ranks"] == [0, 1, 2, 3]
    assert facts["first"]["Restarts"] == "1"
    second = (place.logs / f"{facts['first']['JobId']}-1.log").read_text()
    assert "continues" in second
    # Saved when it was warned, with what all ranks had done until then.
    assert min(facts["checkpoints"]) >= facts["step_at_warning"]


def test_a_dead_rank_ends_the_job_in_under_ten_seconds(ended):
    facts = ended[2]
    assert facts["seconds_to_end"] < 10
    assert facts["processes"] == {}
    assert facts["first"]["JobState"] == "FAILED"
    (row,) = facts["states"]
    assert (row["state"], row["class"]) == ("failed", "error")


def test_retry_continues_what_the_dead_rank_ended(ended):
    runs, place, _ = ended
    assert runs.status(place).state == "done"
    assert runs.status(place).step == 16 * 2, "8 slices, one for each of 4 ranks"
    third = (place.logs / f"{runs.job(place)}-0.log").read_text()
    assert "continues" in third
    assert len(runs.records) == 2


def test_one_task_writes_the_same_tables_as_four(ended, tmp_path):
    runs, place, _ = ended
    (evaluation,) = place.evaluations.iterdir()
    by_four = {path.name: path.read_bytes() for path in evaluation.glob("*.csv")}
    assert {"slice.csv", "instance.csv", "volume.csv", "global.csv"} <= by_four.keys()
    assert runs.slurm.job(runs.job(place, "eval"))["NumTasks"] == "4"

    runs.launch("eval", "--ckpt", str(place.best), "--out", str(tmp_path / "alone"))
    alone = {path.name: path.read_bytes() for path in (tmp_path / "alone").glob("*.csv")}
    assert alone == by_four

"""What only a real Slurm can show."""

import json

import pytest

from sam2ft.core.files import read_json

pytestmark = pytest.mark.slurm


def submission(cluster, number=1):
    return read_json(cluster.folder / "runs" / "onslurm" / "submissions" / f"{number}.json")


def status(cluster):
    return json.loads(cluster.launch("status", "onslurm.yaml", "--json"))


def test_a_sweep_runs_a_failure_is_failed_and_the_report_follows(cluster):
    text = (cluster.folder / "onslurm.yaml").read_text().replace("baseline: false", "baseline: true")
    # A step of this size makes the next loss infinite; one skipped step is all that is allowed.
    text += "sweep: {grid: {module.optimizer.lr: [1e-4, 1e+30]}}\n"
    (cluster.folder / "onslurm.yaml").write_text(text)
    assert "3 to submit" in cluster.launch("sweep", "onslurm.yaml", "--site", "devcluster")
    record = submission(cluster)
    array, baseline = (entry["job"] for entry in record["arrays"])
    assert "0 to submit: 0 done" in cluster.launch("sweep", "onslurm.yaml", "--site", "devcluster", "--dry-run")
    cluster.wait_for_end()

    ended = {job: cluster.job(job) for job in (f"{array}_0", f"{array}_1", baseline, record["aggregate"])}
    assert [(job["JobState"], job["ExitCode"]) for job in ended.values()] == [
        ("COMPLETED", "0:0"),
        ("FAILED", "1:0"),
        ("COMPLETED", "0:0"),
        ("COMPLETED", "0:0"),
    ]
    ends = [job["EndTime"] for job in ended.values()]
    assert ended[record["aggregate"]]["StartTime"] >= max(ends[:3])

    coverage = read_json(cluster.folder / "runs" / "onslurm" / "report" / "coverage.json")
    assert (coverage["done"], coverage["failed"], coverage["missing"]) == (2, 1, 0)
    failed = next(run for run in coverage["runs"] if run["state"] == "failed")
    assert failed["name"] == "lr=1e+30"
    assert "FloatingPointError" in failed["reason"]
    log = next((cluster.folder / "runs" / "onslurm" / failed["run"] / "logs").glob("*.log")).read_text()
    assert "Traceback (most recent call last)" in log

    assert cluster.launch("sweep", "onslurm.yaml", "--site", "devcluster").strip() == (
        "0 to submit: 2 done, 0 running, 1 failed"
    )
    retried = cluster.launch("sweep", "onslurm.yaml", "--site", "devcluster", "--retry", "failed", "--dry-run")
    assert retried.startswith("1 to submit: 2 done")


def test_a_warned_element_saves_is_requeued_and_continues_and_a_cancelled_one_stays_away(cluster):
    text = (cluster.folder / "onslurm.yaml").read_text().replace("num_epochs: 1", "num_epochs: 100000")
    text += "sweep: {grid: {module.optimizer.lr: [1e-4, 1e-5]}}\n"
    (cluster.folder / "onslurm.yaml").write_text(text)
    cluster.launch("sweep", "onslurm.yaml", "--site", "devcluster")
    array = submission(cluster)["arrays"][0]["job"]
    warned, cancelled = f"{array}_0", f"{array}_1"
    cluster.wait(lambda: all((row["step"] or 0) >= 2 and row["state"] == "running" for row in status(cluster)))
    cluster.ask("scancel", "--signal=USR2", warned)
    cluster.ask("scancel", cancelled)
    cluster.wait(lambda: (status(cluster)[0]["restarts"] or 0) == 1 and status(cluster)[0]["stage"] == "training")
    saved = [
        int(path.stem)
        for path in (cluster.folder / "runs" / "onslurm" / status(cluster)[0]["run"] / "checkpoints").glob(
            "*.safetensors"
        )
    ]
    cluster.wait(lambda: status(cluster)[0]["step"] > max(saved))
    assert cluster.job(warned)["Restarts"] == "1"
    assert cluster.job(cancelled)["JobState"] == "CANCELLED"
    assert cluster.job(cancelled)["Restarts"] == "0"
    assert status(cluster)[1]["state"] == "stopped"
    cluster.ask("scancel", warned)
    cluster.wait_for_end()
    assert [row["state"] for row in status(cluster)] == ["stopped", "stopped"]

"""One of two processes fails while the other is far from any collective: both end at once, with the reason."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sam2ft.runs.attempt.status import read_status

pytestmark = [pytest.mark.sam2, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
RANK_1_FAILS = """
import os, sys, time
from sam2ft.evaluation.prediction.tester import Tester

def volume(self, volume):
    if os.environ.get("RANK", os.environ.get("SLURM_PROCID")) == "1":
        raise ValueError("no such slice")
    # Longer than torchrun or Slurm would wait.
    time.sleep(200)

Tester._volume = volume
from sam2ft.jobs.job import main
main(sys.argv[1:])
"""


def wait(processes):
    try:
        return [process.wait(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()


@pytest.mark.parametrize("launcher", ["srun", "torchrun"])
def test_a_rank_that_fails_in_an_evaluation_ends_the_others_at_once(finished, point_with, toy, tmp_path, launcher):
    point = point_with("eval.split=train", "module.visualize=false")
    plan = max(toy.folder.glob("runs/toy/plan-*.json"), key=lambda path: path.stat().st_mtime)
    (tmp_path / "failing.py").write_text(RANK_1_FAILS)
    job = [str(tmp_path / "failing.py"), "runs/toy", plan.stem.removeprefix("plan-"), "0", "eval"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    point.layout.claim.unlink()  # of the tests' own process, which lives on
    began = time.monotonic()
    if launcher == "torchrun":
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *job]
        codes = wait([subprocess.Popen(command, env=environment)])
    else:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        step = {"SLURM_JOB_ID": "5", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": "n1"}
        ranks = [{"SLURM_PROCID": rank, "SLURM_LOCALID": rank, "MASTER_PORT": port} for rank in "01"]
        codes = wait([subprocess.Popen([sys.executable, *job], env=environment | step | rank) for rank in ranks])
    assert codes == [1] * len(codes)
    assert time.monotonic() - began < 100
    status = read_status(point.layout)
    assert (status.state, status.failure_class) == ("failed", "error")
    assert status.reason == f"rank 1 ({socket.gethostname()}) failed: ValueError: no such slice"
    (log,) = point.layout.logs.glob("*.rank1.log")
    assert "Traceback" in log.read_text()

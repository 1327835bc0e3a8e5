"""Readers and claims while another process writes the same run: real processes that wait for each other's words."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from fixtures.file_sets import file_set
from fixtures.workplace import planned_runs

from sam2ft.core.files import listed_files
from sam2ft.runs.attempt.claim import Attempt, claim
from sam2ft.runs.attempt.restarts import progress_of
from sam2ft.runs.attempt.status import read_status
from sam2ft.runs.history import read_history
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import Plan, newest_plan, save_plan
from sam2ft.runs.provenance import recorded_attempts
from sam2ft.runs.states import State
from sam2ft.sweeps.plan.measured import TimedRun, measured

ROOT = Path(__file__).parents[2]
LOOKS = 60
OLD = Attempt("17_3", 0, "node1", 4242, "2026-01-01T00:00:00+00:00")

WRITER = """
import sys
from pathlib import Path
from sam2ft.core.files import replacing
from sam2ft.runs.attempt.claim import Attempt, claim
from sam2ft.runs.attempt.status import update_status
from sam2ft.runs.history import write_history
from sam2ft.runs.layout import RunLayout
from sam2ft.runs.provenance import record_provenance

layout, attempt = RunLayout(Path(sys.argv[1])), Attempt.current({})
claim(layout, attempt)
record_provenance(layout, attempt)
print("ready", flush=True)
rows, step = [], 0
while Path(sys.argv[2]).exists():
    step += 1
    with replacing(layout.resume(step)) as partial:
        partial.write_bytes(b"x" * 100_000)
    layout.resume(step - 2).unlink(missing_ok=True)
    rows = [*rows[-5:], {"epoch": str(step), "step": str(step), "improved": "1", "seconds": "1.0"}]
    write_history(layout, rows)
    update_status(layout, attempt, state="training", step=step, step_s=1.0)
print(step, flush=True)
"""

ZOMBIE = """
import sys
from pathlib import Path
from sam2ft.core.errors import ClaimedError
from sam2ft.core.files import fenced, replacing
from sam2ft.runs.attempt.claim import Attempt, check_claim
from sam2ft.runs.layout import RunLayout

layout, attempt = RunLayout(Path(sys.argv[1])), Attempt(*sys.argv[2:3], 0, "node1", 4242, "2026-01-01T00:00:00+00:00")
check_claim(layout, attempt)
try:
    with fenced(layout.folder, lambda: check_claim(layout, attempt)), replacing(layout.resume(7)) as partial:
        partial.write_bytes(b"old")
        print("half written", flush=True)
        sys.stdin.readline()
except ClaimedError as error:
    print(f"claimed: {error}", flush=True)
"""


@contextmanager
def process(code: str, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment) as child:
        try:
            yield child
        finally:
            child.kill()


@pytest.fixture
def experiment(tmp_path: Path) -> ExperimentLayout:
    return ExperimentLayout(tmp_path / "toy")


def test_status_and_plan_during_saves_see_whole_files_and_miss_none(experiment: ExperimentLayout, workplace) -> None:
    plan = Plan("toy", "toy.yaml", False, planned_runs(1))
    save_plan(experiment, plan)
    (run,) = plan.runs
    layout, goes_on = experiment.run(run.run_id), experiment.folder / "goes on"
    goes_on.touch()
    resolved = workplace.resolved().runs[0]
    with process(WRITER, layout.folder, goes_on) as writer:
        assert writer.stdout.readline() == "ready\n", writer.stderr.read()
        seen = set()
        while len(seen) < LOOKS:
            assert writer.poll() is None, writer.stderr.read()
            status = read_status(layout)
            assert newest_plan(experiment) == plan
            assert len(recorded_attempts(layout)) == 1
            rows = read_history(layout)
            assert all(int(row["epoch"]) + 1 == int(later["epoch"]) for row, later in pairwise(rows))
            if status is None:
                continue
            assert status.state is State.TRAINING
            seen.add(status.step)
            assert progress_of(layout, run)[1] > 0
            timed = TimedRun(layout, status, resolved.experiment, {}, run.resources, run.eval_resources)
            (speed,) = measured(experiment, [timed], lambda _: 1).training.values()
            assert speed.resume_bytes == 100_000
            assert all(stat.st_size == 100_000 for stat in listed_files(layout.checkpoints).values())
        goes_on.unlink()
        last = int(writer.stdout.readline())
        assert writer.wait() == 0
    assert last >= LOOKS
    assert file_set(layout.folder) == {
        *("claim.json", "status.json", "provenance.json", "history.csv", "history.csv.sha256", "checkpoints"),
        *(f"checkpoints/{step:09}.safetensors" for step in (last - 1, last)),
    }


def test_a_claim_while_an_older_attempt_writes_leaves_nothing_of_it(experiment: ExperimentLayout) -> None:
    layout = experiment.run("toy-0123456789abcdef")
    claim(layout, OLD)
    with process(ZOMBIE, layout.folder, OLD.job) as zombie:
        assert zombie.stdout.readline() == "half written\n", zombie.stderr.read()
        newer = replace(OLD, restart=1, host="node2")
        claim(layout, newer)
        assert file_set(layout.folder) <= {"claim.json", "checkpoints"}
        zombie.stdin.write("\n")
        zombie.stdin.flush()
        said = zombie.stdout.readline()
        assert said.startswith("claimed: "), zombie.stderr.read()
        assert "now held by job 17_3 (restart 1, node2" in said
        assert zombie.wait() == 0
    assert file_set(layout.folder) <= {"claim.json", "checkpoints"}


def test_what_a_killed_writer_left_is_gone_after_the_next_claim(experiment: ExperimentLayout) -> None:
    layout = experiment.run("toy-0123456789abcdef")
    claim(layout, OLD)
    with process(ZOMBIE, layout.folder, OLD.job) as zombie:
        assert zombie.stdout.readline() == "half written\n", zombie.stderr.read()
        zombie.kill()
        zombie.wait()
    assert list(layout.checkpoints.glob(".partial/*/*"))
    assert listed_files(layout.checkpoints) == {}
    claim(layout, replace(OLD, restart=1))
    assert file_set(layout.folder) <= {"claim.json", "checkpoints"}

"""The tail of a batch script, run by bash with a squeue and a scontrol that say what they are told."""

import os
import subprocess
from pathlib import Path

import pytest

from sam2ft.core.digests.verified_files import write_sealed_json
from sam2ft.runs.attempt.claim import MAX_RESTARTS, Attempt
from sam2ft.slurm.requeue import requeue_setup, requeue_tail

ELEMENT = {"SLURM_JOB_ID": "20", "SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "3"}
PLAIN = {"SLURM_JOB_ID": "20"}


class Node:
    """A node with the tools of Slurm, and the runs of an experiment."""

    def __init__(self, folder: Path):
        self.runs, self.bin, self.calls = folder / "an experiment's runs", folder / "bin", folder / "calls"
        self.bin.mkdir()
        self.calls.write_text("")
        for name in ("grep", "seq", "hostname", "cat", "wc"):
            (self.bin / name).symlink_to(subprocess.check_output(["which", name], text=True).strip())
        self.tool("sleep", 'echo "sleep $1" >> "$CALLS"')
        self.squeue("RUNNING 0")
        self.tool("scontrol", 'echo "scontrol $*" >> "$CALLS"')

    def tool(self, name: str, script: str) -> None:
        (self.bin / name).write_text(f"#!/bin/bash\n{script}\n")
        (self.bin / name).chmod(0o755)

    def squeue(self, answer: str) -> None:
        self.tool("squeue", f'echo "squeue $*" >> "$CALLS"\necho "{answer}"')

    def marker(self, run: str, job: str, restart: int) -> Path:
        path = self.runs / run / "requeue.json"
        write_sealed_json(path, Attempt(job, restart, "n1", 5, "2026-01-01T00:00:00+00:00").to_json())
        return path

    def run(self, environment: dict[str, str], *, rc: int = 75, max_restarts: int = 20) -> tuple[int, list[str], str]:
        """Exit code, calls of the tools but squeue's, and what the log says."""
        lines = [*requeue_setup(max_restarts), f"(exit {rc})", *requeue_tail(self.runs, max_restarts=max_restarts)]
        variables = {"PATH": str(self.bin), "CALLS": str(self.calls), **environment}
        done = subprocess.run(
            ["/bin/bash", "-c", "\n".join(lines)], env=variables, capture_output=True, text=True, check=False
        )
        assert not done.stderr, done.stderr
        calls = [line for line in self.calls.read_text().splitlines() if not line.startswith("squeue")]
        return done.returncode, calls, done.stdout


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_a_job_that_saved_and_is_still_running_is_requeued_and_waits_for_its_end(node: Node) -> None:
    node.marker("toy-1", "20", 0)
    code, calls, said = node.run(PLAIN)
    assert (code, calls) == (75, ["scontrol requeue 20", "sleep 60"])
    assert "job 20 saved and is to be continued; requeued after restart 0 of 20" in said
    assert "squeue -h -j 20 -O State:30,RestartCnt:12" in node.calls.read_text()


def test_an_element_requeues_itself_and_not_its_array(node: Node) -> None:
    """The raw id of an array's last element is the id of the array."""
    node.marker("toy-1", "17_3", 0)
    assert node.run({**ELEMENT, "SLURM_JOB_ID": "17"})[1] == ["scontrol requeue 17_3", "sleep 60"]


def test_the_code_of_the_work_is_kept_and_a_killed_srun_that_saved_is_requeued(node: Node) -> None:
    for rc in (0, 1, 2, 137):
        assert node.run(ELEMENT, rc=rc) == (rc, [], "")
    node.marker("toy-1", "17_3", 0)
    code, calls, _ = node.run(ELEMENT, rc=143)
    assert (code, calls[0]) == (143, "scontrol requeue 17_3")


@pytest.mark.parametrize(
    ("job", "restart"), [("17_2", 0), ("17_33", 0), ("17", 0), ("17_3", 1), ("17_3", 10), ("7_3", 0)]
)
def test_the_marker_of_another_element_or_restart_means_nothing(node: Node, job: str, restart: int) -> None:
    node.marker("toy-1", job, restart)
    assert node.run(ELEMENT)[1] == []


def test_the_marker_is_found_among_those_of_other_runs(node: Node) -> None:
    for number in range(30):
        node.marker(f"toy-{number}", f"17_{number}", 1)
    node.squeue("RUNNING 1")
    assert node.run({**ELEMENT, "SLURM_RESTART_COUNT": "1"})[1][0] == "scontrol requeue 17_3"


@pytest.mark.parametrize("state", ["CANCELLED", "COMPLETING", "PREEMPTED", "TIMEOUT"])
def test_a_job_that_slurm_ended_stays_ended(node: Node, state: str) -> None:
    node.marker("toy-1", "20", 0)
    node.squeue(f"{state} 0")
    code, calls, said = node.run(PLAIN)
    assert (code, calls) == (75, [])
    assert f"not requeued: it is {state} (restart 0) by now" in said


def test_the_old_script_of_a_dead_node_does_not_requeue_the_job_that_goes_on_elsewhere(node: Node) -> None:
    node.marker("toy-1", "20", 0)
    node.squeue("RUNNING 1")
    assert node.run(PLAIN)[1] == []


def test_after_the_last_restart_there_is_none(node: Node) -> None:
    node.marker("toy-1", "20", 2)
    node.squeue("RUNNING 2")
    environment = {**PLAIN, "SLURM_RESTART_COUNT": "2"}
    code, calls, said = node.run(environment, max_restarts=2)
    assert (code, calls) == (75, [])
    assert "no restart left (2 of 2), the next make sweep continues it" in said
    assert node.run(environment, max_restarts=3)[1][0] == "scontrol requeue 20"


@pytest.mark.parametrize("missing", ["squeue", "scontrol"])
def test_without_the_tools_of_slurm_the_log_says_who_continues(node: Node, missing: str) -> None:
    node.marker("toy-1", "20", 0)
    (node.bin / missing).unlink()
    code, calls, said = node.run(PLAIN)
    assert (code, calls) == (75, [])
    assert "squeue or scontrol is missing on" in said
    assert "the next make sweep continues it" in said


def test_a_controller_that_is_away_for_a_while_is_asked_again(node: Node) -> None:
    node.marker("toy-1", "20", 0)
    node.tool("squeue", 'echo x >> "$CALLS.n"; [ $(cat "$CALLS.n" | wc -l) -ge 3 ] && echo RUNNING 0')
    code, calls, _ = node.run(PLAIN)
    assert (code, calls) == (75, ["sleep 10", "sleep 10", "scontrol requeue 20", "sleep 60"])
    node.tool("squeue", "exit 1")
    node.calls.write_text("")
    assert node.run(PLAIN)[1] == ["sleep 10"] * 12


def test_a_refused_requeue_is_not_asked_again_and_one_that_got_no_answer_is(node: Node) -> None:
    node.marker("toy-1", "20", 0)
    refusal = "Requested operation is presently disabled for job 20"
    node.tool("scontrol", f'echo "scontrol $*" >> "$CALLS"; echo "{refusal}" >&2; exit 1')
    code, calls, said = node.run(PLAIN)
    assert (code, calls) == (75, ["scontrol requeue 20"])
    assert refusal in said
    node.calls.write_text("")
    node.tool("scontrol", 'echo "scontrol $*" >> "$CALLS"; echo "Unable to contact slurm controller"; exit 1')
    assert node.run(PLAIN)[1].count("scontrol requeue 20") == 12


def test_the_work_knows_the_limit_and_a_strict_shell_reaches_the_tail(node: Node) -> None:
    lines = [
        "set -eu",
        *requeue_setup(7),
        f'echo "${MAX_RESTARTS}"',
        "(exit 3)",
        *requeue_tail(node.runs, max_restarts=7),
    ]
    done = subprocess.run(
        ["/bin/bash", "-c", "\n".join(lines)], env={**os.environ, **PLAIN}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "7\n", "")

import os
from dataclasses import replace
from pathlib import Path

import pytest

from sam2ft.distributed.launcher_environment import (
    LauncherEnvironment,
    own_address,
    read_launcher_environment,
)

SLURM = {
    "SLURM_JOB_ID": "77", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
}  # fmt: skip
TORCHRUN = {"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1"}


def test_places_come_from_torchrun_or_from_a_slurm_step() -> None:
    launcher = read_launcher_environment(TORCHRUN)
    assert launcher == LauncherEnvironment(2, 4, 0, "-", "a", 1)
    assert read_launcher_environment({**TORCHRUN, "WORLD_SIZE": "1", "RANK": "0"}) is None
    launcher = read_launcher_environment({**SLURM, "MASTER_PORT": "31000"})
    assert launcher is not None
    assert replace(launcher, places=tuple) == LauncherEnvironment(3, 4, 1, "0-77-0-0", port=31000)
    anywhere = read_launcher_environment(SLURM)
    assert anywhere is not None
    assert anywhere.port == 0, "any free one"


def test_whoever_listens_is_rank_0_or_torchruns_agent() -> None:
    agent = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "1", "TORCHELASTIC_RUN_ID": "x"}
    first = read_launcher_environment({**TORCHRUN, "RANK": "0"})
    served = read_launcher_environment({**TORCHRUN, "RANK": "0", **agent})
    assert first is not None
    assert served is not None
    assert (first.keeps_store, served.keeps_store, served.identity) == (True, False, "x-1")
    rank_0 = read_launcher_environment({**SLURM, "SLURM_PROCID": "0"})
    assert rank_0 is not None
    assert rank_0.keeps_store


def test_the_batch_script_of_a_job_of_many_tasks_is_alone() -> None:
    without_step = {name: value for name, value in SLURM.items() if not name.startswith("SLURM_STEP")}
    assert read_launcher_environment(without_step) is None
    assert read_launcher_environment({**SLURM, "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}) is None


def test_the_identity_differs_between_jobs_steps_and_restarts() -> None:
    """Or a requeued job would read the address that its former attempt has left."""
    changes = [{}, {"SLURM_JOB_ID": "78"}, {"SLURM_STEP_ID": "1"}, {"SLURM_RESTART_COUNT": "1"}]
    changes += [{"SLURM_CLUSTER_NAME": "other"}]
    launchers = [read_launcher_environment({**SLURM, **change}) for change in changes]
    assert len({launcher.identity for launcher in launchers if launcher}) == len(changes)


def scontrol(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    (folder / "scontrol").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def address(**changes: str) -> str:
    return own_address({**SLURM, "SLURMD_NODENAME": "n1", **changes})


def test_the_address_is_the_nodes_as_slurm_knows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scontrol(tmp_path, monkeypatch, '[ "$*" = "show node n1" ] && echo "NodeName=$3 NodeAddr=10.1.2.3 NodeHostName=h"')
    assert address() == "10.1.2.3"
    assert address(MASTER_ADDR="10.9.9.9") == "10.9.9.9"
    assert address(SLURM_STEP_NODELIST="n1") == "127.0.0.1", "one node needs no network"


@pytest.mark.parametrize("script", ["exit 1", None])
def test_without_scontrol_the_address_is_where_srun_was_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None
) -> None:
    """As in a container; and the node's name where even that is unknown."""
    if script:
        scontrol(tmp_path, monkeypatch, script)
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
    assert address(SLURM_LAUNCH_NODE_IPADDR="10.4.4.4") == "10.4.4.4"
    assert address() == "n1"


def named(rank: int, **changes: str) -> str:
    launcher = read_launcher_environment({**SLURM, **changes})
    assert launcher is not None
    return launcher.name_of(rank)


def test_the_node_of_a_rank_is_known_where_slurm_fills_node_by_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scontrol(tmp_path, monkeypatch, '[ "$*" = "show hostnames n[1-2]" ] && printf "n1\\nn2\\n"')
    by_three = {"SLURM_STEP_TASKS_PER_NODE": "3,1"}
    assert [named(rank, **by_three) for rank in (0, 2, 3)] == ["0 (node n1)", "2 (node n1)", "3 (node n2)"]
    assert [named(rank) for rank in (1, 2)] == ["1 (node n1)", "2 (node n2)"]
    assert named(3, SLURM_DISTRIBUTION="block:cyclic") == "3 (node n2)"
    for unknown in ({"SLURM_DISTRIBUTION": "cyclic"}, {"SLURM_STEP_TASKS_PER_NODE": ""}):
        assert named(3, **unknown) == "3 (one of the nodes n[1-2])"
    assert named(3, SLURM_STEP_TASKS_PER_NODE="2(x3)") == "3 (one of the nodes n[1-2])"


def test_without_scontrol_all_nodes_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container: which of them, only Slurm's own expansion of the list tells."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert named(3) == "3 (one of the nodes n[1-2])"


def test_slurm_is_asked_for_the_nodes_once_and_only_when_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scontrol(tmp_path, monkeypatch, f'echo "$*" >> {tmp_path}/asked; printf "n1\\nn2\\n"')
    launcher = read_launcher_environment(SLURM)
    assert launcher is not None
    assert not (tmp_path / "asked").exists()
    assert [launcher.name_of(rank) for rank in (0, 3)] == ["0 (node n1)", "3 (node n2)"]
    assert (tmp_path / "asked").read_text() == "show hostnames n[1-2]\n"

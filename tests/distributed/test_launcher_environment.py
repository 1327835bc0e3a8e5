import os
from pathlib import Path

import pytest

from sam2ft.distributed.launcher_environment import (
    LauncherEnvironment,
    expanded_node_list,
    nodes_of_ranks,
    ports_of,
    read_launcher_environment,
)

SLURM = {
    "SLURM_JOB_ID": "77", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_STEP_TASKS_PER_NODE": "2(x2)", "MASTER_ADDR": "10.0.0.1",
}  # fmt: skip
TORCHRUN = {"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1"}


def test_places_come_from_torchrun_or_from_a_slurm_step() -> None:
    launcher = read_launcher_environment(TORCHRUN)
    assert launcher == LauncherEnvironment(2, 4, 0, "a", (1,), "|")
    assert read_launcher_environment({**TORCHRUN, "WORLD_SIZE": "1", "RANK": "0"}) is None
    launcher = read_launcher_environment({**SLURM, "MASTER_PORT": "31000"})
    assert launcher == LauncherEnvironment(3, 4, 1, "10.0.0.1", (31000,), "0|77|0|0", ("n1", "n1", "n2", "n2"))
    assert launcher.name_of(3) == "3 (node n2)"


def test_whoever_listens_is_rank_0_or_torchruns_agent() -> None:
    agent = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "1", "TORCHELASTIC_RUN_ID": "x"}
    first = read_launcher_environment({**TORCHRUN, "RANK": "0"})
    served = read_launcher_environment({**TORCHRUN, "RANK": "0", **agent})
    assert first is not None
    assert served is not None
    assert (first.keeps_store, served.keeps_store, served.identity) == (True, False, "x|1")
    rank_0 = read_launcher_environment({**SLURM, "SLURM_PROCID": "0"})
    assert rank_0 is not None
    assert rank_0.keeps_store


def test_the_batch_script_of_a_job_of_many_tasks_is_alone() -> None:
    without_step = {name: value for name, value in SLURM.items() if not name.startswith("SLURM_STEP")}
    assert read_launcher_environment(without_step) is None
    assert read_launcher_environment({**SLURM, "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}) is None


def test_the_ports_lie_below_32768_and_differ_between_jobs_and_restarts() -> None:
    launcher = read_launcher_environment(SLURM)
    assert launcher is not None
    assert launcher.ports == ports_of({**SLURM, "SLURM_PROCID": "0"}), "all tasks derive the same"
    assert len(set(launcher.ports)) == 8
    found = [ports_of({**SLURM, "SLURM_JOB_ID": str(job)}) for job in range(200)]
    assert len({ports[0] for ports in found}) > 190
    assert all(12000 <= port < 32768 for ports in found for port in ports)
    assert ports_of({**SLURM, "SLURM_RESTART_COUNT": "1"}) != ports_of(SLURM)


def scontrol(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    (folder / "scontrol").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def address(**changes: str) -> str:
    launcher = read_launcher_environment({**{name: SLURM[name] for name in SLURM if name != "MASTER_ADDR"}, **changes})
    assert launcher is not None
    return launcher.address


def test_the_address_is_the_first_nodes_as_slurm_knows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scontrol(tmp_path, monkeypatch, 'echo "NodeName=$3 Arch=x NodeAddr=10.1.2.3 NodeHostName=h"')
    assert address() == "10.1.2.3"
    assert address(MASTER_ADDR="10.9.9.9") == "10.9.9.9"
    assert address(SLURM_STEP_NODELIST="n1") == "127.0.0.1", "one node needs no network"


@pytest.mark.parametrize("script", ["exit 1", None])
def test_without_scontrol_the_address_is_where_srun_was_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None
) -> None:
    """As in a container; and the first node's name where even that is unknown."""
    if script:
        scontrol(tmp_path, monkeypatch, script)
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
    assert address(SLURM_LAUNCH_NODE_IPADDR="10.4.4.4") == "10.4.4.4"
    assert address() == "n1"


def test_node_lists_are_expanded() -> None:
    assert expanded_node_list("n[1-2,07],m3") == ("n1", "n2", "n07", "m3")
    assert expanded_node_list("n[08-11]") == ("n08", "n09", "n10", "n11")
    assert expanded_node_list("r[1-2]c[1,3]-ib") == ("r1c1-ib", "r1c3-ib", "r2c1-ib", "r2c3-ib")
    assert expanded_node_list("gpu-a") == ("gpu-a",)


def test_the_node_of_a_rank_is_known_where_slurm_fills_node_by_node() -> None:
    assert nodes_of_ranks({**SLURM, "SLURM_STEP_TASKS_PER_NODE": "3,1"}) == ("n1", "n1", "n1", "n2")
    assert nodes_of_ranks({**SLURM, "SLURM_DISTRIBUTION": "cyclic"}) == ()
    assert nodes_of_ranks({**SLURM, "SLURM_STEP_TASKS_PER_NODE": ""}) == ()
    assert nodes_of_ranks({**SLURM, "SLURM_STEP_TASKS_PER_NODE": "2(x3)"}) == ()

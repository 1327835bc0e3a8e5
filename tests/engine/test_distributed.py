import os
import random
import socket
import subprocess
import sys
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
import torch

from sam2ft.core.errors import ConfigError
from sam2ft.engine.distributed import (
    ALONE,
    Place,
    choose_device,
    distributed,
    place_from_environment,
    port_of,
    seed_step,
)

SLURM = {
    "SLURM_JOB_ID": "77", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "n[1-2]", "MASTER_ADDR": "10.0.0.1",
}  # fmt: skip


def test_a_process_on_its_own_needs_no_group() -> None:
    with distributed(device="cpu", environment={}) as ranks:
        assert (ranks.rank, ranks.world_size, ranks.is_main) == (0, 1, True)
        assert ranks.total([1.5, 2.0]) == [1.5, 2.0]
        assert ranks.maxima([3, 1]) == [3, 1]
        model = torch.nn.Linear(1, 1)
        assert ranks.wrap(model) is model
        assert not torch.distributed.is_initialized()


def test_places_come_from_torchrun_or_from_a_slurm_step() -> None:
    torchrun = {"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    assert place_from_environment(torchrun) == Place(2, 4, 0)
    assert place_from_environment({**torchrun, "WORLD_SIZE": "1", "RANK": "0"}) is None
    assert place_from_environment({**SLURM, "MASTER_PORT": "31000"}) == Place(3, 4, 1, "10.0.0.1", 31000)


def test_the_batch_script_of_a_job_of_many_tasks_is_alone() -> None:
    without_step = {name: value for name, value in SLURM.items() if not name.startswith("SLURM_STEP")}
    assert place_from_environment(without_step) is None
    assert place_from_environment({**SLURM, "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}) is None


def test_the_port_lies_below_32768_and_differs_between_jobs_and_restarts() -> None:
    place = place_from_environment(SLURM)
    assert place is not None
    assert place.port == port_of(SLURM)
    ports = {port_of({**SLURM, "SLURM_JOB_ID": str(job)}) for job in range(200)}
    assert len(ports) > 190
    assert all(12000 <= port < 32768 for port in ports)
    assert port_of({**SLURM, "SLURM_RESTART_COUNT": "1"}) != port_of(SLURM)


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        environment = {**SLURM, "SLURM_PROCID": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        with pytest.raises(ConfigError, match=f"port {port} .* is in use"), distributed(environment=environment):
            pass


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_device_that_is_not_there_is_refused() -> None:
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(ConfigError, match="no GPU is visible"):
        choose_device("cuda")


def test_a_step_s_draws_depend_on_seed_step_and_rank_only() -> None:
    def draws(*key: int) -> tuple[float, float, float]:
        seed_step(*key)
        return float(torch.rand(1)), float(np.random.random()), random.random()

    assert draws(1, 2, 3) == draws(1, 2, 3)
    assert len({draws(*key) for key in ((1, 2, 3), (1, 2, 4), (1, 3, 3), (2, 2, 3), (3, 2, 1))}) == 5


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_two_ranks_with_uneven_instances_and_an_idle_rank_make_the_steps_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Path(__file__).with_name("two_ranks.py")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    clean |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    step = {**SLURM, "SLURM_NTASKS": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    out = str(tmp_path / "end")
    children = [
        subprocess.Popen(
            [sys.executable, str(script), out], env=clean | step | {"SLURM_PROCID": str(r), "SLURM_LOCALID": str(r)}
        )
        for r in range(2)
    ]
    for name in SLURM:
        monkeypatch.delenv(name, raising=False)
    run_path(str(script))["main"](out)
    assert [child.wait(timeout=120) for child in children] == [0, 0]
    alone, first, second = (torch.load(tmp_path / f"end.{name}.pt") for name in ("1.0", "2.0", "2.1"))
    for kind in ("weights", "gradients"):
        for name, tensor in alone[kind].items():
            assert torch.equal(first[kind][name], second[kind][name])
            assert (tensor - first[kind][name]).abs().max() <= 1e-12 * tensor.abs().max()
    assert alone["slices"] == first["slices"] == [4, 3, 4, 3]
    assert second["values"] == []
    for one, two in zip(alone["values"], first["values"], strict=True):
        assert one == pytest.approx(two, rel=1e-12)


def test_ranks_alone_are_the_default() -> None:
    assert ALONE.gather([1.0]) == [[1.0]]

"""Devices without a GPU on the machine: what torch says about CUDA is replaced, everything else is real."""

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.distributed import TCPStore

from sam2ft.core.errors import ConfigError, DeviceError, exit_code_of
from sam2ft.distributed import device as module
from sam2ft.distributed.device import choose_device, promised_gpus, refuse_unlike_devices
from sam2ft.distributed.launcher_environment import PLANNED_GPUS, planned_gpus
from sam2ft.runs.attempt.ending import failure_class_of


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.parametrize(
    ("environment", "promise"),
    [
        ({}, ""),
        ({"CUDA_VISIBLE_DEVICES": ""}, ""),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, ""),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles", "SLURM_JOB_GPUS": "0"}, ""),
        ({"SLURM_GPUS_ON_NODE": "0"}, ""),
        ({"CUDA_VISIBLE_DEVICES": "0"}, "CUDA_VISIBLE_DEVICES=0"),
        ({"CUDA_VISIBLE_DEVICES": "MIG-1"}, "CUDA_VISIBLE_DEVICES=MIG-1"),
        ({"SLURM_JOB_GPUS": "0"}, "SLURM_JOB_GPUS=0"),
        ({"SLURM_GPUS_ON_NODE": "2"}, "SLURM_GPUS_ON_NODE=2"),
        ({"CUDA_VISIBLE_DEVICES": "none"}, ""),
        ({"CUDA_VISIBLE_DEVICES": "-1,0"}, ""),
        ({"CUDA_VISIBLE_DEVICES": "all"}, "CUDA_VISIBLE_DEVICES=all"),
        ({"CUDA_VISIBLE_DEVICES": "GPU-5c89,GPU-77"}, "CUDA_VISIBLE_DEVICES=GPU-5c89,GPU-77"),
        ({PLANNED_GPUS: "0", "SLURM_JOB_GPUS": "1"}, "SLURM_JOB_GPUS=1"),
        ({PLANNED_GPUS: "0"}, ""),
    ],
)
def test_a_promised_gpu_that_torch_does_not_see_is_a_failure_and_never_the_cpu(
    environment: dict[str, str], promise: str, no_gpu: None
) -> None:
    assert promised_gpus(environment) == promise
    if not promise:
        assert choose_device("auto", 0, environment) == torch.device("cpu")
        return
    with pytest.raises(DeviceError, match=f"^{promise}, but torch sees no GPU on .*CUDA_VISIBLE_DEVICES") as caught:
        choose_device("auto", 0, environment)
    assert "\n" not in str(caught.value)
    assert failure_class_of(caught.value) == "device"
    assert exit_code_of(caught.value) == 2


@pytest.mark.parametrize(
    ("cuda", "driver", "visible", "words"),
    [
        (
            "13.0",
            "535.104",
            None,
            "CUDA 13.0 needs the NVIDIA driver 580 or newer, found 535.104, CUDA_VISIBLE_DEVICES is not",
        ),
        ("13.0", None, "", "driver 580 or newer, and no driver answers, CUDA_VISIBLE_DEVICES is empty"),
        ("13.0", "580.65", "7", "driver 580.65 is new enough for CUDA 13.0, CUDA_VISIBLE_DEVICES is 7; compare"),
        ("99.0", None, "7", "torch has CUDA 99.0, CUDA_VISIBLE_DEVICES is 7; compare them with `nvidia-smi` there"),
        (None, None, "7", "this torch is for CPUs; install the one of requirements/run.txt"),
    ],
)
def test_a_planned_gpu_that_is_missing_says_what_was_found_and_what_to_do(
    cuda: str | None,
    driver: str | None,
    visible: str | None,
    words: str,
    no_gpu: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(module, "driver_version", lambda: driver)
    environment = {PLANNED_GPUS: "4"} | ({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
    with pytest.raises(DeviceError, match=r"^resources.gpus_per_node: 4 planned, but torch sees no GPU") as caught:
        choose_device("auto", 0, environment)
    assert words in str(caught.value)
    assert str(caught.value).endswith("(slurm.exclude of the site), or plan with gpus_per_node: 0 for the CPU")
    assert "\n" not in str(caught.value)
    assert failure_class_of(caught.value) == "device"


def test_a_plan_without_gpus_is_for_the_cpu_but_takes_what_slurm_gave_it(two_gpus: None) -> None:
    """On clusters without cgroups a job sees the GPUs of others."""
    assert choose_device("auto", 0, {PLANNED_GPUS: "0"}) == torch.device("cpu")
    assert choose_device("auto", 0, {PLANNED_GPUS: "0", "CUDA_VISIBLE_DEVICES": "NoDevFiles"}) == torch.device("cpu")
    assert choose_device("auto", 0, {PLANNED_GPUS: "0", "CUDA_VISIBLE_DEVICES": "1"}) == torch.device("cuda", 0)
    assert choose_device("cuda", 0, {PLANNED_GPUS: "0"}) == torch.device("cuda", 0)
    assert choose_device("auto", 0, {}) == torch.device("cuda", 0)


def test_a_plan_holds_inside_its_block_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLANNED_GPUS, "8")
    with planned_gpus(0):
        assert os.environ[PLANNED_GPUS] == "0"
        with planned_gpus(None):
            assert PLANNED_GPUS not in os.environ
    assert os.environ[PLANNED_GPUS] == "8"


def test_a_rank_takes_its_gpu_or_the_only_one_that_it_sees(two_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [choose_device("auto", rank, {}).index for rank in range(2)] == [0, 1]
    assert choose_device("auto", 1, {PLANNED_GPUS: "2"}).index == 1
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # with --gpu-bind=single every task sees one
    assert choose_device("auto", 1, {}) == torch.device("cuda", 0)
    assert choose_device("cpu", 1, {"CUDA_VISIBLE_DEVICES": "0"}) == torch.device("cpu")


def test_a_named_device_that_is_not_there_is_refused(no_gpu: None) -> None:
    with pytest.raises(ConfigError, match="no GPU is visible"):
        choose_device("cuda")


def of_all_ranks(devices: Sequence[Sequence[str]], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What every rank says, each with a connection of its own; devices: (kind, host, UUID[, why it is missing])."""
    main = TCPStore("127.0.0.1", 0, None, True, timedelta(seconds=20), wait_for_workers=False)
    said = [""] * len(devices)
    place = threading.local()
    monkeypatch.setattr(module.os, "uname", lambda: SimpleNamespace(nodename=devices[place.rank][1]))
    monkeypatch.setattr(module, "_uuid", lambda _device: devices[place.rank][2])

    def names(rank: int) -> str:
        return f"{rank} (n{rank})"

    def run(rank: int) -> None:
        place.rank = rank
        store = TCPStore("127.0.0.1", main.port, None, False, timedelta(seconds=20), wait_for_workers=False)
        try:
            kind, _, _, *missing = devices[rank]
            refuse_unlike_devices(store, rank, len(devices), torch.device(kind), names, *missing)
        except DeviceError as error:
            said[rank] = str(error)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(len(devices))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return said


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        ([("cpu", "a", "")] * 3, ""),
        ([("cuda", "a", "GPU-1"), ("cuda", "a", "GPU-2"), ("cuda", "b", "GPU-1")], ""),
        ([("cuda", "a", "GPU-1"), ("cpu", "b", ""), ("cpu", "b", "")], "rank 1 (n1), 2 (n2) of 3 sees no GPU"),
        ([("cuda", "a", "GPU-1"), ("cuda", "a", "GPU-1")], "rank 0 (n0) and rank 1 (n1) have the same GPU of a"),
        ([("cuda", "a", "GPU-1"), ("cuda", "b", "GPU-1"), ("cuda", "b", "GPU-1")], "rank 1 (n1) and rank 2 (n2)"),
        ([("cuda", "a", "GPU-1"), ("cpu", "b", "", "4 planned, none seen")], "rank 1 (n1) of 2: 4 planned, none seen"),
        ([("cpu", "a", "", "first"), ("cpu", "b", "", "second")], "rank 0 (n0), 1 (n1) of 2: first"),
    ],
)
def test_all_ranks_refuse_unlike_or_shared_devices_with_the_same_words(
    devices: list[Sequence[str]], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = of_all_ranks(devices, monkeypatch)
    assert len(set(said)) == 1
    assert said[0].startswith(message)
    assert bool(said[0]) == bool(message)


RANK = """
import sys, time
import torch
from pathlib import Path
from sam2ft.core.errors import DeviceError
from sam2ft.distributed.ranks import process_group
try:
    with process_group(Path(sys.argv[1]), init_timeout_s=60):
        print("computes")
except DeviceError as error:
    print(error)
"""


def test_every_process_of_a_job_ends_with_the_reason_when_one_misses_its_gpu(tmp_path: Path) -> None:
    """None is ended by the launcher, which would look like a request to stop, and be requeued."""
    step = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": "n1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(tmp_path)],
            env=os.environ | step | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank, "MASTER_ADDR": "127.0.0.1"} | given,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank, given in (("0", {"CUDA_VISIBLE_DEVICES": ""}), ("1", {PLANNED_GPUS: "2", "CUDA_VISIBLE_DEVICES": ""}))
    ]
    said = [rank.communicate(timeout=100)[0] for rank in ranks]
    assert said[0] == said[1]
    assert "resources.gpus_per_node: 2 planned, but torch sees no GPU on" in said[0]
    assert said[0].count("\n") == 1

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
from sam2ft.distributed.device import (
    choose_device,
    deterministic_algorithms,
    promised_gpus,
    refuse_missing_gpus,
    refuse_unlike_devices,
)
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
    ],
)
def test_a_promised_gpu_that_torch_does_not_see_is_a_failure_and_never_the_cpu(
    environment: dict[str, str], promise: str, no_gpu: None
) -> None:
    assert promised_gpus(environment) == promise
    if not promise:
        assert choose_device("auto", 0, environment) == torch.device("cpu")
        return
    with pytest.raises(DeviceError, match=f"^{promise}, but torch sees no GPU; compare `nvidia-smi`") as caught:
        choose_device("auto", 0, environment)
    assert "\n" not in str(caught.value)
    assert failure_class_of(caught.value) == "device"
    assert exit_code_of(caught.value) == 2


def test_gpus_of_the_plan_are_looked_for_and_a_plan_without_is_for_the_cpu(no_gpu: None) -> None:
    refuse_missing_gpus(0, {})
    with pytest.raises(DeviceError, match=r"gpus_per_node: 4 planned.*CUDA_VISIBLE_DEVICES \(found not set\)"):
        refuse_missing_gpus(4, {})


def test_a_rank_takes_its_gpu_or_the_only_one_that_it_sees(two_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [choose_device("auto", rank, {}).index for rank in range(2)] == [0, 1]
    refuse_missing_gpus(2, {})
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # with --gpu-bind=single every task sees one
    assert choose_device("auto", 1, {}) == torch.device("cuda", 0)
    assert choose_device("cpu", 1, {"CUDA_VISIBLE_DEVICES": "0"}) == torch.device("cpu")


def test_a_named_device_that_is_not_there_is_refused(no_gpu: None) -> None:
    with pytest.raises(ConfigError, match="no GPU is visible"):
        choose_device("cuda")


def of_all_ranks(devices: Sequence[tuple[str, str, str]], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What every rank says, each with a connection of its own; devices: (kind, host, UUID)."""
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
            refuse_unlike_devices(store, rank, len(devices), torch.device(devices[rank][0]), names)
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
    ],
)
def test_all_ranks_refuse_unlike_or_shared_devices_with_the_same_words(
    devices: list[tuple[str, str, str]], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = of_all_ranks(devices, monkeypatch)
    assert len(set(said)) == 1
    assert said[0].startswith(message)
    assert bool(said[0]) == bool(message)


CODE = """
import torch
from sam2ft.distributed.device import float32_products
print(torch.backends.cuda.matmul.allow_tf32)
for kind in ("ieee", "tf32", "ieee"):
    float32_products(kind)
    print(torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
"""


def test_float32_products_are_said_whatever_the_environment_says() -> None:
    """NGC images set TORCH_ALLOW_TF32_CUBLAS_OVERRIDE, which torch reads when it starts."""
    environment = {**os.environ, "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"}
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", *("False", "False"), *("True", "True"), *("False", "False")]


WARNED = """
import sys, warnings
sys.path.insert(0, sys.argv[1])
import torch
from fixtures.trainers import trainer_settings
from fixtures.trainings import PlainLoss, ToyData, TwoConvolutions
from sam2ft.distributed.device import deterministic_algorithms
from sam2ft.training.trainer import Trainer

deterministic_algorithms(wanted=True)
deterministic_algorithms(wanted=True)

def undetermined():
    torch.zeros(4).put_(torch.tensor([1]), torch.tensor([2.0]))

class Undetermined(torch.autograd.Function):
    @staticmethod
    def forward(context, value):
        undetermined()
        return value.clone()

    @staticmethod
    def backward(context, gradient):
        undetermined()
        return gradient

def loss(logits, iou, batch):
    return PlainLoss()(Undetermined.apply(logits), iou, batch)

model, data = TwoConvolutions(), ToyData(4, 1)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
state = Trainer(model, loss, optimizer, None, trainer_settings(num_epochs=2)).fit(data.train, data.val)
warnings.warn("another", stacklevel=1)
print(state.step)
"""


def test_an_operation_that_is_not_deterministic_is_said_once_and_not_in_every_step() -> None:
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(tests.parent)}
    command = [sys.executable, "-c", WARNED, str(tests)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["8"]
    assert done.stderr.count("put_ does not have a deterministic implementation") == 1
    assert done.stderr.count("UserWarning: another") == 1


@pytest.mark.parametrize(
    ("found", "set_to"),
    [(None, ":4096:8"), (":4096:8", ":4096:8"), (":16:8", ":16:8"), (":0:0", ":4096:8"), (":4096:2:16:8", ":4096:8")],
)
def test_a_workspace_with_which_cublas_is_not_deterministic_is_replaced(
    found: str | None, set_to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(module.warnings, "showwarning", module.warnings.showwarning)
    if found is not None:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", found)
    try:
        deterministic_algorithms(wanted=False)
        assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == found
        deterministic_algorithms(wanted=True)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == set_to
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        deterministic_algorithms(wanted=False)

"""Arithmetic of a process on a GPU: settings of torch, which need no GPU to be made."""

import os
import subprocess
import sys
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sam2ft.config.schema.module import Module
from sam2ft.distributed.arithmetic import deterministic_algorithms
from sam2ft.distributed.ranks import Ranks
from sam2ft.evaluation import run as evaluation

CODE = """
import torch
from sam2ft.distributed.arithmetic import float32_products
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
from sam2ft.distributed.arithmetic import deterministic_algorithms
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
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # restored after the test, also where it was not set
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
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


class _BeginsError(Exception):
    pass


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize(
    ("device", "settings", "wanted"),
    [
        ("cuda", [False], False),
        ("cuda", [True], True),
        ("cuda", [False, True], True),
        ("cpu", [True], False),
    ],
)
def test_an_evaluation_uses_the_algorithms_of_its_training_whatever_the_process_did_before(
    device: str, settings: list[bool], wanted: bool, before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`before`: another run was trained in this process. The mode is set before the model of any job is built."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # restored after the test, whatever is set in it
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def group(_folder: Path) -> AbstractContextManager[Ranks]:
        return nullcontext(Ranks(device=torch.device(device)))

    def begins(_job: Any, _ranks: Ranks) -> None:
        raise _BeginsError

    monkeypatch.setattr(evaluation, "process_group", group)
    monkeypatch.setattr(evaluation, "_work", begins)
    jobs = [
        SimpleNamespace(
            evaluation=SimpleNamespace(folder=Path()),
            experiment=SimpleNamespace(
                eval=SimpleNamespace(dicom_seg=False), module=Module(sam2_model_cfg="sam2_nano", deterministic=one)
            ),
        )
        for one in settings
    ]
    try:
        torch.use_deterministic_algorithms(before, warn_only=True)
        with pytest.raises(_BeginsError):
            evaluation.evaluate_jobs(jobs)  # type: ignore[arg-type]
        assert torch.are_deterministic_algorithms_enabled() == wanted
        assert torch.backends.cudnn.deterministic == wanted
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == (":4096:8" if wanted else "")
    finally:
        deterministic_algorithms(wanted=False)


ONE_AFTER_ANOTHER = """
import sys, torch
from pathlib import Path
from sam2ft.distributed.arithmetic import deterministic_algorithms, float32_products
from sam2ft.distributed.ranks import process_group
torch.cuda.is_available, torch.cuda.device_count, torch.cuda.set_device = lambda: True, lambda: 1, lambda device: None
for stage in ("training", "evaluation"):
    with process_group(Path(sys.argv[1])) as ranks:
        print(ranks.device, torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic,
              torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
        float32_products("tf32")
        deterministic_algorithms(wanted=True)
"""


def test_an_evaluation_after_a_training_of_the_same_process_computes_as_one_in_its_own(tmp_path: Path) -> None:
    """Neither TF32 nor the algorithms of the training stay: numbers would depend on which stages share a job."""
    command = [sys.executable, "-c", ONE_AFTER_ANOTHER, str(tmp_path)]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=True)
    training, evaluation = done.stdout.splitlines()
    assert training == evaluation == "cuda:0 False False False False"

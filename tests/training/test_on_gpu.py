"""Steps of a real, tiny SAM 2 on every device that there is: bits of a resume, waits, and the ranks' gradients."""

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.batches import batch_of_two_boxes
from fixtures.trainers import trainer_settings

from sam2ft.config.schema.module import Loss, Trainable
from sam2ft.config.schema.optimizer import Optimizer
from sam2ft.distributed.arithmetic import float32_products
from sam2ft.distributed.device import choose_device
from sam2ft.distributed.launcher_environment import PLANNED_GPUS
from sam2ft.distributed.ranks import Ranks
from sam2ft.model.losses import build_loss
from sam2ft.model.segmenter import build_untrained
from sam2ft.model.trainable import freeze_unreachable, set_trainable
from sam2ft.training.accumulation import Group
from sam2ft.training.activation_checkpointing import checkpoint_activations
from sam2ft.training.checkpoints.nested_state import pack, unpack
from sam2ft.training.optimizer import build_optimizer
from sam2ft.training.state import TrainerContext, TrainState
from sam2ft.training.trainer import Trainer

pytestmark = pytest.mark.sam2
SIDE = 128


batch = partial(batch_of_two_boxes, SIDE)


def trainer_on(device: torch.device, **keys: Any) -> Trainer:
    loss = build_loss(Loss(seg="BCE"))
    model = build_untrained("sam2_nano", image_size=SIDE, seed=1)
    set_trainable(model, Trainable())
    freeze_unreachable(model, loss, {"box": 1.0})
    chosen = Optimizer(**{"lr": 1e-3, **keys.pop("optimizer", {})})
    settings = trainer_settings(**{"num_epochs": 2, "max_skipped_steps": 20, **keys})
    context = TrainerContext(ranks=Ranks(device=device))
    return Trainer(model.to(device), loss, build_optimizer(model, chosen), None, settings, context)


BATCHES = [batch(0, 2), batch(1, 2), batch(3)]


def steps(trainer: Trainer, state: TrainState, number: int) -> TrainState:
    """That many steps, of one batch each."""
    for _ in range(number):
        state = trainer._step(Group([BATCHES[state.step % len(BATCHES)]], 0.0), state)
    return state


@pytest.mark.parametrize("precision", ["fp32", "bf16", pytest.param("fp16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_with_deterministic_algorithms_a_resume_equals_the_uninterrupted_training_to_the_bit(
    device: torch.device, precision: Any, checkpointing: bool, deterministic: None
) -> None:
    def begun() -> Trainer:
        trainer = trainer_on(device, precision=precision, ema={"decay": 0.9})
        if checkpointing:
            checkpoint_activations(trainer.model)
        return trainer

    first = begun()
    state = steps(first, TrainState(), 2)
    tensors, text = pack(first.snapshot(state))
    snapshot = unpack({name: tensor.clone() for name, tensor in tensors.items()}, text)
    steps(first, state, 3)
    second = begun()
    steps(second, second.restore(snapshot), 3)
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name
    assert all(torch.equal(tensor, second.weights()[name]) for name, tensor in first.weights().items())
    assert first.scaler.state_dict() == second.scaler.state_dict()


@pytest.fixture
def only_reads_wait(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Anything in a step that waits for a GPU fails, but for `_read`; the reads."""
    reads: list[str] = []
    stock = Trainer._read

    def mode(name: str) -> None:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode(name)

    def read(self: Trainer, *arguments: Any) -> Any:
        mode("default")
        try:
            return stock(self, *arguments)
        finally:
            reads.append("read")
            mode("error")

    monkeypatch.setattr(Trainer, "_read", read)
    yield reads
    mode("default")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_waits_for_the_device_in_its_one_read_alone(
    device: torch.device, precision: Any, only_reads_wait: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_on(device, precision=precision, clip_grad=1.0)
    if device.type == "cuda":
        pinned = [one.pin_memory() for one in BATCHES]
        monkeypatch.setattr(sys.modules[__name__], "BATCHES", pinned)
    state = steps(trainer, TrainState(), 1)  # the first one allocates
    only_reads_wait.clear()
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    steps(trainer, state, 3)
    assert only_reads_wait == ["read"] * 3


def test_fused_and_foreach_updates_are_close(device: torch.device) -> None:
    ends = []
    for kind in ("fused", "foreach"):
        trainer = trainer_on(device, optimizer={"type": "AdamW", kind: True})
        steps(trainer, TrainState(), 3)
        ends.append(dict(trainer.model.named_parameters()))
    for name, tensor in ends[0].items():
        assert torch.allclose(tensor, ends[1][name], rtol=1e-3, atol=1e-4), name


RANKS = """
import sys
from pathlib import Path
import torch
from sam2ft.distributed.ranks import process_group

with process_group(Path(sys.argv[1]), device=sys.argv[2]) as ranks:
    assert ranks.device.type == sys.argv[3]
    backend = torch.distributed.get_backend()
    assert backend == ("nccl" if sys.argv[3] == "cuda" else "gloo"), backend
    model = ranks.wrap(torch.nn.Linear(3, 1, bias=False).to(ranks.device))
    weight = model.module.weight
    model(torch.full((2, 3), 1.0 + ranks.rank, device=ranks.device)).sum().backward()
    assert torch.equal(weight.grad, torch.full_like(weight, 3.0)), weight.grad
    gathered = ranks.gather(torch.tensor([ranks.rank, 0.5], device=ranks.device))
    assert gathered == [[0.0, 0.5], [1.0, 0.5]], gathered
    print(ranks.total([1.0, float(ranks.rank)]), ranks.maxima([float(ranks.rank)]), weight.tolist())
    ranks.barrier()
"""


def test_two_ranks_average_gradients_on_their_devices_and_speak_on_their_hosts(
    device: torch.device, tmp_path: Path
) -> None:
    if device.type == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    clean |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2]), "SLURM_JOB_ID": "79"}
    clean |= {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": "n1"}
    command = [sys.executable, "-c", RANKS, str(tmp_path), "auto" if device.type == "cuda" else "cpu", device.type]
    children = [
        subprocess.Popen(
            command, env=clean | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank}, stdout=subprocess.PIPE, text=True
        )
        for rank in ("0", "1")
    ]
    try:
        said = [child.communicate(timeout=200)[0] for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert [child.returncode for child in children] == [0, 0]
    assert said[0] == said[1]
    assert said[0].startswith("[2.0, 1.0] [1.0] ")


@pytest.mark.gpu
def test_a_gpu_is_chosen_by_itself_and_known_by_the_id_that_the_driver_prints() -> None:
    device = choose_device("auto", 0, {PLANNED_GPUS: "1"})
    assert device == torch.device("cuda", 0)
    printed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    assert str(torch.cuda.get_device_properties(device).uuid) in printed


@pytest.mark.gpu
def test_float32_products_of_a_gpu_are_as_exact_as_said() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(512, 512, generator=generator).cuda() for _ in range(2))
    exact = one.double() @ other.double()
    errors = {}
    try:
        for kind in ("ieee", "tf32"):
            float32_products(kind)  # type: ignore[arg-type]
            errors[kind] = float(((one @ other).double() - exact).abs().max() / exact.abs().max())
    finally:
        float32_products("ieee")
    assert errors["ieee"] < 1e-5
    if torch.cuda.get_device_capability() >= (8, 0):
        assert errors["tf32"] > 10 * errors["ieee"]

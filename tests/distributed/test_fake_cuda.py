"""Training and validation on a fake GPU: nothing on two devices, and no wait of the host that is not counted here."""

from collections import Counter
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fixtures.fake_cuda import DEVICE, Wait, fake_cuda, moved
from fixtures.fake_training import INSTANCES, SIDE, SIZES, Setup, trained
from torch import nn

from sam2ft.config.schema.module import Loss, Trainable
from sam2ft.config.schema.optimizer import Optimizer, Scheduler
from sam2ft.distributed.ranks import Ranks
from sam2ft.model.losses import LOSSES, build_loss
from sam2ft.model.segmenter import build_untrained
from sam2ft.model.trainable import freeze_unreachable, set_trainable
from sam2ft.training.ema import WeightAverage
from sam2ft.training.optimizer import FUSED, build_optimizer, chooses_fused

pytestmark = pytest.mark.sam2

READ = {"tolist": 1}
"""The one read of a step or of a validation."""
READ_OF_RANKS = {"D2H pageable blocking": 1}
"""The same where several ranks exchange what was read, on their hosts."""

SETUPS = {
    "fp32": Setup("fp32"),
    "bf16, accumulation, EMA, mixed prompts": Setup(
        "bf16",
        kinds=("box", "point", "mask"),
        loss=Loss(frame="decoder", iou_weight=0.1, ce_args={"pos_weight": 2.0}),
        optimizer=Optimizer(lr=1e-3, layer_decay=0.9, no_decay_norms=True),
        scheduler=Scheduler(type="OneCycleLR", max_lr=1e-3, total_steps=10, interval="step", warmup_steps=1),
        batches_per_step=2,
        module={"clip_grad": 1.0, "ema": {"decay": 0.9}},
    ),
    "fp16, LoRA, checkpointing, points": Setup(
        "fp16",
        kinds=("point",),
        loss=Loss(seg="GeneralizedDiceLoss", ce="DiceFocalLoss", ce_args={"alpha": 0.3}),
        lora=True,
        checkpointing=True,
        module={"clip_grad": 1.0},
    ),
    "fp16, not fused": Setup("fp16", optimizer=Optimizer(lr=1e-3, foreach=True), kinds=("mask",)),
    "bf16, two ranks": Setup("bf16", world_size=2, kinds=("box", "point"), batches_per_step=2),
}
WAITS_PER_STEP = {
    "fp32": READ,
    "bf16, accumulation, EMA, mixed prompts": READ,
    "fp16, LoRA, checkpointing, points": READ,
    # The scaler reads whether a gradient is infinite; a fused optimizer looks on the device.
    "fp16, not fused": READ | {"item": 1},
    "bf16, two ranks": READ_OF_RANKS,
}


def counts(waits: Sequence[Wait]) -> dict[str, int]:
    return dict(Counter(wait.kind for wait in waits))


def listed(waits: Sequence[Wait]) -> str:
    return "\n".join(map(str, waits))


@pytest.fixture
def two_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other rank has the same values; whatever is exchanged has to be on the host."""

    def all_gather(everyone: Sequence[torch.Tensor], mine: torch.Tensor, group: Any = None) -> None:
        for one in (*everyone, mine):
            assert one.device.type == "cpu"
            one.copy_(mine)

    monkeypatch.setattr(torch.distributed, "all_gather", all_gather)
    # Its reducer is written in C++ and waits for nothing on the host.
    monkeypatch.setattr(Ranks, "wrap", lambda _ranks, model: model)


@pytest.mark.parametrize("name", SETUPS)
@pytest.mark.usefixtures("two_ranks")
def test_a_step_waits_once_and_copies_without_waiting(name: str) -> None:
    setup = SETUPS[name]
    with fake_cuda() as cuda:
        # The first step makes what later ones have: moments, the scale of the loss.
        seen = trained(cuda, setup, num_steps=2 if setup.batches_per_step == 1 else 1)
    for waits in seen.steps:
        assert counts(waits) == WAITS_PER_STEP[name], listed(waits)
    to_device = {copy.kind for copy in seen.copies if copy.kind.startswith("H2D")}
    assert to_device == {"H2D pinned queued"}
    read = READ if setup.world_size == 1 else READ_OF_RANKS
    assert counts(seen.validation) == read, listed(seen.validation)
    # Whether all weights are finite, which the ranks need not exchange.
    assert counts(seen.choice) == READ, listed(seen.choice)
    assert not seen.samples


@pytest.mark.parametrize("kinds", [("box",), ("box", "point", "mask")])
def test_pictures_cost_one_copy_per_batch(kinds: tuple[str, ...]) -> None:
    with fake_cuda() as cuda:
        seen = trained(cuda, Setup("bf16", kinds=kinds), num_steps=1, num_samples=3)
    assert counts(seen.validation) == READ | {"D2H pageable blocking": 2}, listed(seen.validation)
    assert [one.predictions_nyx.shape for one in seen.samples] == [
        (INSTANCES, *size) for size in (*SIZES[:2], SIZES[0])
    ]


LOSS_ARGUMENTS: dict[str, list[dict[str, Any]]] = {
    "BCE": [{}, {"pos_weight": 3.0}],
    "FocalLoss": [{}, {"alpha": 0.3}, {"alpha": [0.3]}],
    "DiceFocalLoss": [{}, {"alpha": 0.3}],
    "DiceCELoss": [{}, {"lambda_ce": 0.5, "squared_pred": True}],
    "DiceLoss": [{}, {"jaccard": True}, {"soft_label": True}],
    "GeneralizedDiceLoss": [{}, {"w_type": "simple"}, {"w_type": "uniform"}],
    "TverskyLoss": [{"alpha": 0.3, "beta": 0.7}],
}


@pytest.mark.parametrize("frame", ["original", "decoder"])
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_no_loss_waits(name: str, frame: Any) -> None:
    masks = tuple(torch.ones((INSTANCES, *size), dtype=torch.bool) for size in SIZES)
    for arguments in LOSS_ARGUMENTS[name]:
        loss = build_loss(Loss(seg=name, seg_args=arguments, ce=name, ce_args=arguments, frame=frame, iou_weight=0.1))
        with fake_cuda() as cuda:
            logits = torch.zeros(len(SIZES) * INSTANCES, 1, 32, 32, device=DEVICE, requires_grad=True)
            iou = torch.zeros(len(logits), device=DEVICE)
            on_device = tuple(mask.pin_memory().to(DEVICE, non_blocking=True) for mask in masks)
            cuda.clear()
            loss(logits, iou, SimpleNamespace(masks=on_device))["loss"].sum().backward()
            assert not cuda.waits, f"{arguments}: {cuda.listed()}"
            assert not cuda.copies
            assert logits.grad is not None
            assert logits.grad.device == DEVICE


# ASGD is left out: torch's code of it reads its own state several times per tensor (optim/asgd.py).
OPTIMIZERS = ("AdamW", "Adam", "SGD", "Adagrad", "NAdam", "RAdam", "Adamax", "RMSprop", "Adadelta", "Rprop")


def _two_layers() -> nn.Module:
    return moved(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1)))


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        (kind, how)
        for kind in OPTIMIZERS
        for how in ("chosen", "foreach", "fused", "one by one")
        if how != "fused" or kind in FUSED
    ],
)
@pytest.mark.parametrize("scaled", [False, True])
def test_optimizers_wait_only_for_the_scaler(kind: str, how: str, scaled: bool) -> None:
    chosen: dict[str, Any] = {"chosen": {}, "one by one": {"foreach": False}}.get(how, {how: True})
    with fake_cuda() as cuda:
        model = _two_layers()
        section = Optimizer(type=kind, lr=1e-3, **chosen)
        optimizer = build_optimizer(model, section, fused=chooses_fused(section, DEVICE.type))
        scaler = torch.amp.GradScaler("cuda", enabled=scaled)
        average = WeightAverage(model, 0.9)
        for _ in range(3):
            optimizer.zero_grad()
            cuda.clear()
            scaler.scale(model(torch.zeros(2, 4, device=DEVICE)).sum()).backward()
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
            average.update()
        is_fused = how == "fused" or (how == "chosen" and kind in FUSED)
        assert cuda.counts() == ({"item": 1} if scaled and not is_fused else {}), cuda.listed()


def test_the_trial_step_runs_where_the_model_is() -> None:
    """Which tensors the loss reaches is decided by values, which a fake has not: here all that get any gradient.

    They are one read per kind of prompt.
    """
    model = build_untrained("sam2_nano", image_size=SIDE)
    set_trainable(model, Trainable(prompt_encoder=True))
    with fake_cuda() as cuda:
        moved(model)
        cuda.clear()
        report = freeze_unreachable(model, build_loss(Loss()), {"box": 0.5, "mask": 0.5}, "bf16")
    reads = {kind: count for kind, count in cuda.counts().items() if not kind.startswith("H2D")}
    assert reads == {"tolist": 2}, cuda.listed()
    assert {row.part for row in report.rows if row.trained} >= {"image_encoder", "prompt_encoder", "mask_decoder"}


def test_a_planted_mismatch_fails_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this file is for: a loss that makes a tensor on the host."""
    from sam2ft.training.trainer import Trainer

    whole = Trainer.calculate_loss

    def wrong(trainer: Trainer, batch: Any) -> Any:
        found = whole(trainer, batch)
        return found._replace(losses={"loss": found.losses["loss"] * torch.ones(len(batch.labels_n))})

    monkeypatch.setattr(Trainer, "calculate_loss", wrong)
    with fake_cuda() as cuda, pytest.raises(RuntimeError, match=r"device.*(cuda:0 and cpu|cpu and cuda:0)"):
        trained(cuda, Setup("fp32"), num_steps=1)


def test_a_planted_wait_is_seen_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    from sam2ft.training.trainer import Trainer

    whole = Trainer.calculate_loss

    def waiting(trainer: Trainer, batch: Any) -> Any:
        found = whole(trainer, batch)
        assert float(found.losses["loss"].detach().sum()) > 0
        return found

    monkeypatch.setattr(Trainer, "calculate_loss", waiting)
    with fake_cuda() as cuda:
        seen = trained(cuda, Setup("fp32"), num_steps=1)
    assert counts(seen.steps[0]) == READ | {"item": 1}
    assert "test_fake_cuda.py" in listed(seen.steps[0])

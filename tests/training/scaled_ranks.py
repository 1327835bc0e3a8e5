"""fp16 trainings with planted infinite gradients, alone or as one of two ranks; run by test_loss_scale.py."""

import math
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace
from typing import Any

import torch

from sam2ft.data.samples.batch import Batch
from sam2ft.distributed.ranks import Ranks, process_group
from sam2ft.training.checkpoints.nested_state import pack, unpack
from sam2ft.training.state import TrainerContext, TrainState
from sam2ft.training.trainer import Trainer

FIXTURES = Path(__file__).parents[1] / "fixtures"
TOY, TRAINERS = (SimpleNamespace(**run_path(str(FIXTURES / name))) for name in ("trainings.py", "trainers.py"))
STEPS_PER_EPOCH, ACCUMULATED, NUM_EPOCHS = 5, 2, 2
PLANTED = 6
"""The step (0-based) in which one rank's gradient is infinite: the second of the second epoch."""
CASES = {"infinite": math.inf, "negative": -math.inf, "nan": math.nan}


class Planted(torch.autograd.Function):
    """A finite value whose gradient is multiplied by a factor that is not finite."""

    @staticmethod
    def forward(context: Any, value: torch.Tensor, factor: float) -> torch.Tensor:
        context.factor = factor
        return value.clone()

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient * context.factor, None


@dataclass
class Kept:
    """What a training has after every step on this rank, and its end."""

    scales: list[float] = field(default_factory=list)
    skipped: list[bool] = field(default_factory=list)
    weights: list[dict[str, torch.Tensor]] = field(default_factory=list)
    snapshots: list[Any] = field(default_factory=list)
    end: Any = None


def batches(ranks: Ranks, epoch: int, skip: int = 0) -> Iterator[Batch]:
    """One slice per batch; its number tells epoch, batch and rank."""
    for number in range(skip, STEPS_PER_EPOCH * ACCUMULATED):
        yield TOY.collate([TOY.make_sample(100 * epoch + 10 * number + ranks.rank)])


def planted_loss(ranks: Ranks, factor: float) -> Callable[..., Any]:
    """Its gradient is not finite in the first of the two batches of one step, on the last rank or the only one."""
    epoch, step = divmod(PLANTED, STEPS_PER_EPOCH)
    at = 100 * epoch + 10 * ACCUMULATED * step + ranks.world_size - 1

    def loss(logits: Any, iou: Any, batch: Batch) -> Any:
        here = batch.keys[0].index == at and torch.is_grad_enabled()
        return TOY.PlainLoss()(Planted.apply(logits, factor) if here else logits, iou, batch)

    return loss


class KeptSteps(Trainer):
    """A trainer that keeps its state after every step, on every rank: observers are told on the main one only."""

    kept: Kept

    def _after_step(self, event: Any, state: TrainState, batches: Any) -> None:
        super()._after_step(event, state, batches)
        tensors, text = pack(self.snapshot(replace(state, epoch_seconds=0.0)))
        copied = unpack({name: tensor.clone() for name, tensor in tensors.items()}, text)
        self.kept.snapshots.append(copied)
        self.kept.scales.append(self.scaler.get_scale())
        self.kept.skipped.append(event.skipped)
        self.kept.weights.append(copied["model"])


def training(ranks: Ranks, factor: float, snapshot: Any = None) -> Kept:
    model = TOY.TwoConvolutions()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    settings = TRAINERS.trainer_settings(
        precision="fp16",
        num_epochs=NUM_EPOCHS,
        batches_per_step=ACCUMULATED,
        clip_grad=0.5,
        ema={"decay": 0.9},
        max_skipped_steps=1,
    )
    context = TrainerContext(ranks=ranks)
    trainer = KeptSteps(model, planted_loss(ranks, factor), optimizer, None, settings, context)
    trainer.kept = Kept()
    state = None if snapshot is None else trainer.restore(deepcopy(snapshot))
    end = trainer.fit(lambda epoch, skip: batches(ranks, epoch, skip), lambda: batches(ranks, 9), state)
    trainer.kept.end = trainer.snapshot(replace(end, epoch_seconds=0.0))
    return trainer.kept


def main(out: str) -> None:
    with process_group(Path(out).parent, device="cpu", init_timeout_s=60) as ranks:
        found = {}
        for name, factor in CASES.items():
            whole = training(ranks, factor)
            stops = (PLANTED - 1, PLANTED, PLANTED + 1, PLANTED + 2) if name == "infinite" else (PLANTED + 1,)
            # The snapshot after n steps; the planted step is number PLANTED + 1.
            resumed = {stop: training(ranks, factor, whole.snapshots[stop - 1]) for stop in stops}
            found[name] = {"whole": vars(whole), "resumed": {stop: vars(kept) for stop, kept in resumed.items()}}
        torch.save(found, f"{out}.{ranks.world_size}.{ranks.rank}.pt")


if __name__ == "__main__":
    main(sys.argv[1])

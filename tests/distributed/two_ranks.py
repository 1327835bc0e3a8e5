"""Trainings of the two-convolution model, alone or as one of two ranks; run by test_ranks.py."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace
from typing import Any

import torch

from sam2ft.core.errors import StopRequestedError
from sam2ft.data.samples.batch import Batch
from sam2ft.distributed.ranks import Ranks, process_group
from sam2ft.training.state import TrainerContext, TrainState
from sam2ft.training.trainer import Trainer

FIXTURES = Path(__file__).parents[1] / "fixtures"
TOY, TRAINERS = (SimpleNamespace(**run_path(str(FIXTURES / name))) for name in ("trainings.py", "trainers.py"))
NUM_SLICES = 13
SLICES_PER_STEP = 8
DIES_WITH = 7


def batches_of(ranks: Ranks, batch_size: int, num_slices: int = NUM_SLICES) -> Iterator[Batch]:
    """Pieces of batch_size slices per rank, divided as data/samples/loader does; a rank may have nothing left to do."""
    for start in range(0, num_slices, batch_size * ranks.world_size):
        first = start + ranks.rank * batch_size
        mine = range(first, min(first + batch_size, num_slices))
        idle = replace(TOY.collate([TOY.make_sample(0)]), weight=0.0)
        yield TOY.collate([TOY.make_sample(number) for number in mine]) if mine else idle


class KeepSteps:
    """Values of epochs, and of every step its gradients and number of slices; told on rank 0 only."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        self.values: list[dict[str, float]] = []
        self.slices: list[int] = []
        self.gradients: list[dict[str, torch.Tensor]] = []

    def on_step(self, event: Any, state: Any) -> None:
        self.slices.append(event.num_slices)
        tensors = [(name, tensor.grad) for name, tensor in self._model.named_parameters()]
        self.gradients.append({name: grad.clone() for name, grad in tensors if grad is not None})

    def on_epoch(self, event: Any, state: Any) -> None:
        self.values.append(dict(event.values))

    def on_samples(self, epoch: int, samples: Any) -> None: ...


def trainer_of(
    ranks: Ranks, *, dtype: torch.dtype = torch.float64, loss: Any = None, stop: Any = None, **settings: Any
) -> tuple[Trainer, KeepSteps, list[TrainState]]:
    model = TOY.TwoConvolutions(dtype)
    seen, saved = KeepSteps(model), []
    given = {} if stop is None else {"stop": stop}
    context = TrainerContext(ranks=ranks, observer=seen, save=saved.append, **given)
    chosen = TRAINERS.trainer_settings(**{"num_epochs": 2, **settings})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    return Trainer(model, loss or TOY.PlainLoss(), optimizer, None, chosen, context), seen, saved


def accumulated(ranks: Ranks, batch_size: int, dtype: torch.dtype) -> dict[str, Any]:
    """Steps of eight slices, and of the five that are left, in batches of `batch_size` per rank."""
    grad_accum = SLICES_PER_STEP // (batch_size * ranks.world_size)
    trainer, seen, _ = trainer_of(ranks, dtype=dtype, batches_per_step=grad_accum)
    trainer.fit(lambda epoch, skip: batches_of(ranks, batch_size), lambda: batches_of(ranks, batch_size))
    weights = trainer.model.state_dict()
    return {"weights": weights, "gradients": seen.gradients, "values": seen.values, "slices": seen.slices}


def poisoned(ranks: Ranks) -> dict[str, Any]:
    """The losses of rank 1 (or of the process alone) are not finite from slice 5 on."""
    plain = TOY.PlainLoss()

    def loss(logits: Any, iou: Any, batch: Batch) -> Any:
        bad = any(key.index >= 5 for key in batch.keys) and ranks.rank == ranks.world_size - 1
        return {name: values * (float("nan") if bad else 1.0) for name, values in plain(logits, iou, batch).items()}

    trainer, _, _ = trainer_of(ranks, loss=loss, max_skipped_steps=2)
    said = ""
    try:
        trainer.fit(lambda epoch, skip: batches_of(ranks, 1), lambda: batches_of(ranks, 1))
    except FloatingPointError as error:
        said = str(error)
    return {"said": said, "weights": trainer.model.state_dict()}


def early_stopped(ranks: Ranks) -> dict[str, Any]:
    rule = {"patience": 2, "min_delta": 0.01}
    grad_accum = 2 // ranks.world_size
    trainer, _, _ = trainer_of(ranks, num_epochs=30, early_stopping=rule, batches_per_step=grad_accum)
    state = trainer.fit(lambda epoch, skip: batches_of(ranks, 2), lambda: batches_of(ranks, 2))
    return {"epoch": state.epoch, "stopping": state.stopping}


class ToldAt:
    """One rank, the last, is told to stop when it is asked for the n-th time, or when `now` is set."""

    def __init__(self, ranks: Ranks, number: int | None = None) -> None:
        self._left = number if ranks.rank == ranks.world_size - 1 else None
        self.now = False

    @property
    def requested(self) -> bool:
        if self._left is not None:
            self._left -= 1
        return self.now or (self._left is not None and self._left <= 0)


def stopped(ranks: Ranks, stop: ToldAt, val: Callable[[], Iterable[Batch]]) -> dict[str, Any]:
    trainer, _, saved = trainer_of(ranks, stop=stop)
    said = ""
    try:
        trainer.fit(lambda epoch, skip: batches_of(ranks, 1), val)
    except StopRequestedError as error:
        said = str(error)
    return {"said": said, "saved": [(state.epoch, state.step) for state in saved]}


def stopped_in_validation(ranks: Ranks) -> dict[str, Any]:
    stop, numbers = ToldAt(ranks), []

    def val() -> Iterator[Batch]:
        for number, batch in enumerate(batches_of(ranks, 1, num_slices=80)):
            numbers.append(number)
            stop.now = number >= 5 and ranks.rank == ranks.world_size - 1
            yield batch

    return {**stopped(ranks, stop, val), "batches": len(numbers)}


def die_in_training(ranks: Ranks) -> None:
    """Rank 1 is gone from one moment to the next, as after an out-of-memory kill."""

    def batches() -> Iterator[Batch]:
        for number, batch in enumerate(batches_of(ranks, 1)):
            if number == 3 and ranks.rank == 1:
                os._exit(DIES_WITH)
            yield batch

    trainer_of(ranks)[0].fit(lambda epoch, skip: batches(), batches)


def main(out: str) -> None:
    with process_group(Path(out).parent, device="cpu", init_timeout_s=60) as ranks:
        found = {
            f"{dtype} batches of {size}": accumulated(ranks, size, dtype)
            for dtype in (torch.float64, torch.float32)
            for size in ((8, 2) if ranks.world_size == 1 else (4, 2, 1))
        }
        found |= {"poisoned": poisoned(ranks), "early_stopped": early_stopped(ranks)}
        found["stopped"] = stopped(ranks, ToldAt(ranks, 4), lambda: batches_of(ranks, 1))
        found["stopped_in_validation"] = stopped_in_validation(ranks)
        torch.save(found, f"{out}.{ranks.world_size}.{ranks.rank}.pt")
        if ranks.world_size > 1:
            die_in_training(ranks)


if __name__ == "__main__":
    main(sys.argv[1])

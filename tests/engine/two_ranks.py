"""One training of the two-convolution model, alone or as one of two ranks; run by test_distributed.py."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import torch

from sam2ft.data.batch import Batch
from sam2ft.engine.distributed import Ranks, distributed
from sam2ft.engine.train_state import Surroundings, TrainerSettings
from sam2ft.engine.trainer import Trainer

NUM_SLICES = 7
SLICES_PER_PIECE = 2


def toys() -> Any:
    spec = spec_from_file_location("toys", Path(__file__).with_name("conftest.py"))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def batches_of(toy: Any, ranks: Ranks) -> Iterator[Batch]:
    """Pieces of two slices, divided among the ranks as data/loader does: the last piece has one slice only."""
    size = SLICES_PER_PIECE // ranks.world_size
    for start in range(0, NUM_SLICES, SLICES_PER_PIECE):
        mine = list(range(NUM_SLICES))[start + ranks.rank * size : start + (ranks.rank + 1) * size]
        mine = [number for number in mine if number < min(NUM_SLICES, start + SLICES_PER_PIECE)]
        idle = toy.collate([toy.make_sample(0)])
        yield toy.collate([toy.make_sample(number) for number in mine]) if mine else replace(idle, weight=0.0)


class KeepValues:
    def __init__(self) -> None:
        self.values: list[dict[str, float]] = []
        self.slices: list[int] = []

    def on_step(self, event: Any, state: Any) -> None:
        self.slices.append(event.num_slices)

    def on_epoch(self, event: Any, state: Any) -> None:
        self.values.append(dict(event.values))

    def on_samples(self, epoch: int, samples: Any) -> None: ...


def main(out: str) -> None:
    toy = toys()
    with distributed(device="cpu", init_timeout_s=60) as ranks:
        model = toy.TwoConvolutions(torch.float64)
        seen = KeepValues()
        trainer = Trainer(
            model,
            toy.PlainLoss(),
            torch.optim.SGD(model.parameters(), lr=0.5),
            None,
            TrainerSettings(num_epochs=2, seed=0, grad_accum=2),
            Surroundings(ranks=ranks, observer=seen),
        )
        trainer.fit(lambda epoch, skip: batches_of(toy, ranks), lambda: batches_of(toy, ranks))
        gradients = {name: tensor.grad for name, tensor in model.named_parameters()}
        kept = {"weights": model.state_dict(), "gradients": gradients, "values": seen.values, "slices": seen.slices}
        torch.save(kept, f"{out}.{ranks.world_size}.{ranks.rank}.pt")


if __name__ == "__main__":
    main(sys.argv[1])

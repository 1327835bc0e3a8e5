"""Benchmark of the time that training waits for data: real dataset, loader and Trainer on a phantom cohort.

python benchmarks/bench_loader.py [--store FOLDER] [--workers 2] [--steps N] [--only nano-256 ...] [--quick]

The aim is less than 5 % of the time of the steps. The first step of a run waits for the workers to start; its time is
reported separately.
"""

import argparse
import tempfile
from collections.abc import Iterator
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

from plain_loop import SETTINGS, Setting, make_loss, make_model, make_trainer
from timing import machine_line, say

from sam2ft.cli.prepare import prepare_phantom
from sam2ft.config.schema.datamodule import Datamodule, Transform
from sam2ft.core.events import Observers, StepDone
from sam2ft.data.samples.augment import augmentation_of
from sam2ft.data.samples.batch import Batch
from sam2ft.data.samples.dataset import SliceDataset, SliceSettings
from sam2ft.data.samples.loader import train_loader
from sam2ft.data.store.store import Store
from sam2ft.training.state import TrainState

BATCH_SIZE = 2


class Steps:
    """Observer that stores the step events of the Trainer."""

    def __init__(self) -> None:
        self.done: list[StepDone] = []

    def on_step(self, event: StepDone, state: TrainState) -> None:
        self.done.append(event)

    def on_epoch(self, *_: Any) -> None: ...

    def on_samples(self, *_: Any) -> None: ...


def measure(setting: Setting, store: Store, num_workers: int, num_steps: int) -> str:
    """Measure with jittered boxes and half of the slices flipped, the usual work of a data loader worker."""
    settings = SliceSettings(
        setting.image_size,
        seed=0,
        bbox_shift_px=5,
        augmentation=augmentation_of((Transform(type="RandFlip", prob=0.5, spatial_axis=1),)),
    )
    dataset = SliceDataset((store,), store.split_volumes("train", None), settings)
    loader = train_loader(dataset, Datamodule(batch_size=BATCH_SIZE, num_workers=num_workers))

    def batches(_epoch: int, _skip: int) -> Iterator[Batch]:
        return islice(chain.from_iterable(loader(epoch) for epoch in count()), num_steps + 1)

    loss, steps = make_loss(), Steps()
    trainer = make_trainer(make_model(setting, loss), loss, Observers((steps,)), bf16=False)
    trainer.fit(batches, lambda: islice(loader(0), 1))
    first, *others = steps.done
    waited, whole = sum(step.data_seconds for step in others), sum(step.seconds for step in others)
    return (
        f"{setting.name:9} {num_workers} workers   waited {waited:6.2f} s of {whole:7.1f} s in {len(others)} steps: "
        f"{waited / whole:.2%}   (first step {first.data_seconds:.1f} s)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = {setting.name: setting for setting in SETTINGS}
    default = ["nano-256", "tiny-512"]
    parser.add_argument("--store", type=Path, help="a prepared store (default: a temporary phantom cohort)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--only", nargs="+", choices=known, default=default, help="settings to measure")
    parser.add_argument("--quick", action="store_true", help="two steps of the nano: a short trial")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = given.store or Path(folder) / "knee"
        if given.store is None:
            prepare_phantom("knee", 3, 0, path)
        store = Store.open(path)
        say(machine_line())
        say(f"batches of {BATCH_SIZE} slices, {', '.join(given.only)}")
        for name in given.only[:1] if given.quick else given.only:
            say(measure(known[name], store, given.workers, 2 if given.quick else given.steps))


if __name__ == "__main__":
    main()

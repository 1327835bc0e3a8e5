"""Train the nano SAM 2 of tests and demos from random weights: `python -m sam2ft.tools.nano_train` (make nano)."""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from sam2ft.config.schema.model_names import NANO
from sam2ft.config.schema.module import Loss, Module
from sam2ft.core.command import run_command
from sam2ft.core.events import EpochDone, Observers, SlicePrediction, StepDone
from sam2ft.core.files import replacing
from sam2ft.data.samples.batch import Batch, collate
from sam2ft.model.losses import build_loss
from sam2ft.model.nano.overrides import IMAGE_SIZE
from sam2ft.model.segmenter import FinetunedSAM2, build_segmenter, build_untrained
from sam2ft.model.trainable import freeze_unreachable, set_trainable
from sam2ft.model.weights import nano_weights_path
from sam2ft.tools.nano_pictures import Mixture, batches, boxed, pictures_of
from sam2ft.tools.nano_quality import describe_quality, evaluate_nano, mean_over_labels, shortfalls
from sam2ft.training.optimizer import build_optimizer
from sam2ft.training.schedule import build_scheduler
from sam2ft.training.state import TrainerContext, TrainerSettings
from sam2ft.training.trainer import Trainer

# The number of threads is part of the recipe: it changes the order of sums, and so the bytes of the weights.
THREADS = 2
MIXTURE = Mixture({"shapes": 0.25, "knee": 0.4, "spine": 0.35}, subjects=40, max_instances=3, bbox_shift_px=3)


@dataclass(frozen=True)
class Recipe:
    """All settings that determine the weights, apart from the versions of torch and numpy."""

    seed: int = 20_250
    steps: int = 1200
    """A multiple of steps_per_epoch."""
    scheduled_steps: int = 2000
    """Length of the one-cycle schedule. Training ends before the rate has decayed: the model is good enough by
    then, and fine-tuning can still improve it."""
    steps_per_epoch: int = 100
    """Interval at which progress is printed and unfinished weights are saved."""
    batch_size: int = 12
    peak_lr: float = 6e-4
    rising_share: float = 0.1
    """Fraction of steps with a rising rate: torch's default of 0.3 only delays the learning of box prompts."""
    weight_decay: float = 0.01
    clip_grad: float = 1.0
    iou_weight: float = 0.05
    ema_decay: float | None = 0.99
    mixture: Mixture = MIXTURE


class Log:
    """Observer that prints progress as lines (for a log file) and saves the weights of the last epoch."""

    def __init__(self, path: Path | None):
        self.trainer: Trainer | None = None
        self._path = path
        self._began = time.monotonic()

    def on_step(self, event: StepDone, state: Any) -> None:
        """Steps are not printed, because epochs are short."""

    def on_epoch(self, event: EpochDone, state: Any) -> None:
        shown = "  ".join(f"{name} {event.values[name]:.4f}" for name in ("train_loss", "val_loss", "val_dice"))
        wall, cpu = time.monotonic() - self._began, time.process_time()
        _print_stderr(f"step {event.step}  {shown}  {wall:.0f} s, cpu {cpu:.0f} s")
        if self._path is not None and self.trainer is not None:
            save(self.trainer.weights(), self._path)

    def on_samples(self, epoch: int, samples: Sequence[SlicePrediction]) -> None:
        """Pictures are not saved."""


def train_nano(recipe: Recipe, *, processes: int, unfinished: Path | None = None) -> dict[str, Tensor]:
    """Train the model and return its stock state dict; bitwise equal for equal recipe, THREADS and versions."""
    began = time.monotonic()
    sources, subjects = recipe.mixture.shares, recipe.mixture.subjects
    pool = {
        source: pictures_of(source, seed=recipe.seed, indices=range(subjects), processes=processes)
        for source in sources
    }
    unseen = (pictures_of(source, seed=recipe.seed, indices=[subjects]) for source in sources)
    held_out = list(chain.from_iterable(unseen))
    counts = ", ".join(f"{len(pictures)} {source}" for source, pictures in pool.items())
    _print_stderr(f"pictures: {counts}; {time.monotonic() - began:.0f} s")

    def train_batches(epoch: int, skip: int) -> Iterator[Batch]:
        stream = batches(
            pool, recipe.mixture, batch_size=recipe.batch_size, image_size=IMAGE_SIZE, seed=recipe.seed,
            first=epoch * recipe.steps_per_epoch + skip,
        )  # fmt: skip
        return islice(stream, recipe.steps_per_epoch - skip)

    def val_batches() -> Iterator[Batch]:
        return (collate([boxed(picture, IMAGE_SIZE)]) for picture in held_out[::3])

    log = Log(unfinished)
    trainer = log.trainer = _trainer(recipe, TrainerContext(observer=Observers((log,))))
    trainer.fit(train_batches, val_batches)
    return trainer.weights()


def _trainer(recipe: Recipe, context: TrainerContext) -> Trainer:
    model = build_untrained(NANO, image_size=IMAGE_SIZE, seed=recipe.seed)
    _set_object_present(model)
    loss = build_loss(Loss(iou_weight=recipe.iou_weight))
    module = Module.model_validate(
        {
            "sam2_model_cfg": NANO,
            "trainable": {"image_encoder": True, "prompt_encoder": True, "mask_decoder": True},
            "optimizer": {"type": "AdamW", "lr": recipe.peak_lr, "weight_decay": recipe.weight_decay},
            "scheduler": {
                "type": "OneCycleLR",
                "interval": "step",
                "max_lr": recipe.peak_lr,
                "total_steps": recipe.scheduled_steps,
                "pct_start": recipe.rising_share,
            },
            "num_epochs": recipe.steps // recipe.steps_per_epoch,
            "clip_grad": recipe.clip_grad,
            "early_stopping": {"enabled": False, "min_delta": 0.0},
            "ema": None if recipe.ema_decay is None else {"decay": recipe.ema_decay},
        }
    )
    set_trainable(model, module.trainable)
    freeze_unreachable(model, loss, module.prompts.shares)
    optimizer = build_optimizer(model, module.optimizer)
    schedule = build_scheduler(
        optimizer, module.scheduler, steps_per_epoch=recipe.steps_per_epoch, num_epochs=module.num_epochs
    )
    settings = TrainerSettings(module, recipe.seed, steps_per_epoch=recipe.steps_per_epoch, num_samples=0)
    return Trainer(model, loss, optimizer, schedule, settings, context)


@torch.no_grad()
def _set_object_present(model: FinetunedSAM2) -> None:
    """Set the presence head to "present": single slices do not train it, and in 3-D its output would be random."""
    last = model.sam2_model.sam_mask_decoder.pred_obj_score_head.layers[-1]
    last.weight.zero_()
    last.bias.fill_(10.0)


def save(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write a stock state dict in 16 bit to a safetensors file."""
    halves = {key: tensor.detach().half().contiguous() for key, tensor in weights.items()}
    with replacing(path) as partial:
        save_file(halves, partial, metadata={"made_by": "sam2ft.tools.nano_train", "for": "tests and demos only"})


def _print_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=nano_weights_path().parent, help="folder of weights and README")
    parser.add_argument("--steps", type=int, default=Recipe.steps, help=f"a multiple of {Recipe.steps_per_epoch}")
    parser.add_argument("--processes", type=int, default=THREADS, help="processes that generate the phantoms")
    given = parser.parse_args()
    torch.set_num_threads(THREADS)
    began, recipe = time.monotonic(), Recipe(steps=given.steps)
    path = given.out / nano_weights_path().name
    save(train_nano(recipe, processes=given.processes, unfinished=path.with_suffix(".unfinished.safetensors")), path)
    path.with_suffix(".unfinished.safetensors").unlink(missing_ok=True)
    made = {
        "recipe": asdict(recipe),
        "threads": THREADS,
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
        "seconds": {"wall": round(time.monotonic() - began), "cpu": round(time.process_time())},
    }
    model = build_segmenter(NANO, image_size=IMAGE_SIZE, checkpoint=path)
    measured = evaluate_nano(model, processes=given.processes)
    describe_quality(path, model, measured, made)
    for source, values in measured.items():
        _print_stderr(f"{source}: mean {mean_over_labels(values):.3f}  {values}")
    if missing := shortfalls(measured):
        _print_stderr("\n".join(missing))
        return 1
    return 0


if __name__ == "__main__":
    run_command(main)

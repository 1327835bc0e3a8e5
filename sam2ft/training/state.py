"""Training state, settings and context: the trainer's progress, its parameters, and its observers and callbacks."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import Tensor

from sam2ft.config.schema.module import Module
from sam2ft.core.events import Observer, Observers
from sam2ft.data.samples.batch import Batch
from sam2ft.distributed.ranks import ALONE, Ranks
from sam2ft.distributed.stop_signal import NeverStop, StopRequest
from sam2ft.model.precision import Precision
from sam2ft.training.early_stopping import Stopping

MOST_SCALE_SEARCHES = 24
"""The scale of the loss begins at 2^16: after 24 halvings in a row it is not what makes gradients infinite."""

TrainBatches = Callable[[int, int], Iterable[Batch]]
"""(epoch, skip) -> this rank's batches of `epoch` without the first `skip`; depends only on these arguments."""
ValBatches = Callable[[], Iterable[Batch]]
"""This rank's validation batches, the same at every call. In both, every rank has the same number of batches."""
Loss = Callable[[Tensor, Tensor, Batch], Mapping[str, Tensor]]
"""(logits (n, 1, h, w), predicted IoU (n,), batch) -> `loss` and its terms, one value per instance (n,)."""


@dataclass(frozen=True)
class TrainerSettings:
    """The section `module:` of an experiment, and what its seed, processes and data add to it."""

    module: Module
    seed: int
    precision: Precision = "fp32"
    batches_per_step: int = 1
    """Batches of this rank per optimizer step; the last group of an epoch may be shorter and makes a step too."""
    steps_per_epoch: int = 0
    """For progress displays; 0: unknown."""
    num_samples: int = 4
    """Number of validation slices passed to the observers for pictures after each epoch: always the first ones."""


@dataclass(frozen=True)
class TrainerContext:
    """Ranks, observer, stop request and save function of a trainer; by default one process without observers."""

    ranks: Ranks = ALONE
    observer: Observer = field(default_factory=Observers)
    """Called on rank 0 only."""
    stop: StopRequest = field(default_factory=NeverStop)
    save: Callable[["TrainState"], None] = lambda _state: None
    """Called on rank 0 when training stops on request, before StopRequestedError is raised; by default nothing is
    written."""


@dataclass(frozen=True)
class TrainState:
    """Progress of a training, apart from model, optimizer and schedule. Step counts include skipped steps."""

    epoch: int = 0
    """Current epoch, 0-based: also the number of finished epochs, that is of rows in history.csv."""
    step_in_epoch: int = 0
    """Steps made in the current epoch."""
    step: int = 0
    """Steps made in total."""
    skipped_steps: int = 0
    skipped_in_a_row: int = 0
    """Without those that only searched the scale of the loss."""
    scale_searches: int = 0
    """Skipped steps in a row with a finite loss in fp16: each halves the scale of the loss."""
    loss_sums: Mapping[str, float] = field(default_factory=dict)
    """Sums of `loss` and its terms over the instances of this epoch so far, all ranks."""
    num_instances: int = 0
    """Number of instances in loss_sums."""
    num_vanished: int = 0
    """Instances of this epoch so far that augmentation moved out of the image, all ranks."""
    epoch_seconds: float = 0.0
    stopping: Stopping = field(default_factory=Stopping)

    def after_step(
        self,
        sums: Mapping[str, float],
        num_instances: int,
        seconds: float,
        *,
        num_vanished: int = 0,
        skipped: bool,
        is_scaled: bool = False,
    ) -> "TrainState":
        """The state after one more step; the losses of a skipped step are not added.

        Args:
            is_scaled: the loss is scaled (fp16), so that a step may be skipped only because the scale was too large.
        """
        searching = skipped and is_scaled and all(map(math.isfinite, sums.values()))
        searching = searching and self.scale_searches < MOST_SCALE_SEARCHES
        state = replace(
            self,
            step_in_epoch=self.step_in_epoch + 1,
            step=self.step + 1,
            epoch_seconds=self.epoch_seconds + seconds,
            num_vanished=self.num_vanished + num_vanished,
            skipped_steps=self.skipped_steps + skipped,
            skipped_in_a_row=self.skipped_in_a_row + (not searching) if skipped else 0,
            scale_searches=self.scale_searches + searching if skipped else 0,
        )
        if skipped:
            return state
        added = {name: self.loss_sums.get(name, 0.0) + value for name, value in sums.items()}
        return replace(state, loss_sums=added, num_instances=self.num_instances + num_instances)

    def train_values(self) -> dict[str, float]:
        """Training values of the epoch so far.

        `train_<term>` is the mean over instances, NaN when every step was skipped; `train_vanished` is the number of
        instances that augmentation moved out of the image.
        """
        count = self.num_instances or float("nan")
        means = {f"train_{name}": value / count for name, value in self.loss_sums.items()}
        return {**(means or {"train_loss": float("nan")}), "train_vanished": float(self.num_vanished)}

    def after_epoch(self, stopping: Stopping) -> "TrainState":
        """The state at the begin of the next epoch."""
        return replace(
            self,
            epoch=self.epoch + 1,
            step_in_epoch=0,
            loss_sums={},
            num_instances=0,
            num_vanished=0,
            epoch_seconds=0.0,
            stopping=stopping,
        )

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_state_dict(cls, value: Mapping[str, Any]) -> "TrainState":
        return cls(**{**value, "stopping": Stopping(**value["stopping"])})


def written_precision(snapshot: Mapping[str, Any], now: Precision) -> Precision:
    """The precision in which a snapshot was written; snapshots of sam2ft 0.1.0 do not say it.

    There, only fp16 has a scaler with a state; without one, a training that would be fp16 now was begun on a GPU that
    has bf16.
    """
    if "precision" in snapshot:
        written: Precision = snapshot["precision"]
        return written
    if snapshot["scaler"]:
        return "fp16"
    return "bf16" if now == "fp16" else now

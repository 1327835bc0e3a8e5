"""Training events (step done, epoch done, sample predictions) and the observer protocol (callbacks) that receives them.

Observers write the history, checkpoints, tracker logs and pictures of predictions, and show progress.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sam2ft.core.keys import SliceKey
from sam2ft.core.prompts import Box, Mask, Point


@dataclass(frozen=True)
class StepDone:
    """Event after one optimizer update."""

    epoch: int
    step: int
    """Total number of steps so far, including this one and skipped ones."""
    steps_in_epoch: int
    losses: Mapping[str, float]
    """`loss` and each of its terms, averaged over the instances of the step (all ranks)."""
    learning_rates: Sequence[float]
    num_slices: int
    seconds: float
    data_seconds: float
    """Part of `seconds` spent waiting for the data loader."""
    gradient_norm: float | None = None
    skipped: bool = False
    num_vanished: int = 0
    """Instances of the step that augmentation moved out of the image (all ranks)."""
    memory_bytes: int = 0
    """Peak memory of the main rank so far: allocated on its GPU, or resident memory without a GPU; 0: not known."""


@dataclass(frozen=True)
class EpochDone:
    """Event after one epoch (a pass over the training slices) and its validation."""

    epoch: int
    """0-based number of the epoch that ended."""
    step: int
    values: Mapping[str, float]
    """`train_loss`, `val_loss`, `val_dice`, each loss term as `train_<term>` / `val_<term>`, `lr`; `train_vanished`:
    number of instances that augmentation moved out of the image and that were therefore left out."""
    improved: bool
    """Whether the monitored value is the best so far; then best.pt contains the weights of this epoch."""
    seconds: float


@dataclass(frozen=True)
class SlicePrediction:
    """One slice with the masks of its instances, in the ORIGINAL frame, for pictures."""

    key: SliceKey
    image_yx: npt.NDArray[np.float32]
    """Intensities in [0, 1]."""
    labels_n: Sequence[int]
    boxes_n: Sequence[Box]
    references_nyx: Mask
    predictions_nyx: Mask
    prompts_n: Sequence[Box | Point | Mask] = ()
    """The prompt of each instance; empty: each was prompted with its box."""


class Observer(Protocol):
    """Receiver (callback) of training events: steps, epochs and sample predictions. An exception in it ends the run."""

    def on_step(self, event: StepDone, state: Any) -> None: ...

    def on_epoch(self, event: EpochDone, state: Any) -> None: ...

    def on_samples(self, epoch: int, samples: Sequence[SlicePrediction]) -> None: ...


@dataclass(frozen=True)
class Observers:
    """Several observers combined into one; they are called in order."""

    members: Sequence[Observer] = ()

    def on_step(self, event: StepDone, state: Any) -> None:
        for member in self.members:
            member.on_step(event, state)

    def on_epoch(self, event: EpochDone, state: Any) -> None:
        for member in self.members:
            member.on_epoch(event, state)

    def on_samples(self, epoch: int, samples: Sequence[SlicePrediction]) -> None:
        for member in self.members:
            member.on_samples(epoch, samples)

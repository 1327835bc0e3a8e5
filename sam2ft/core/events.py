"""What the engine announces and what `run/` does about it (history, checkpoints, trackers, QC pictures, progress)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sam2ft.core.keys import SliceKey
from sam2ft.core.prompts import Box, Mask, Point


@dataclass(frozen=True)
class StepDone:
    """One optimizer update."""

    epoch: int
    step: int
    """Number of steps made in all, this one and skipped ones included."""
    steps_in_epoch: int
    losses: Mapping[str, float]
    """`loss` and each of its terms, averaged over the instances of the step (all ranks)."""
    learning_rates: Sequence[float]
    num_slices: int
    seconds: float
    data_seconds: float
    """Share of `seconds` spent waiting for the loader."""
    gradient_norm: float | None = None
    skipped: bool = False
    num_vanished: int = 0
    """Instances of the step that augmentation moved out of the picture (all ranks)."""
    memory_bytes: int = 0
    """Largest memory of the main rank until now: allocated on its GPU, or resident without one; 0: not known."""


@dataclass(frozen=True)
class EpochDone:
    """One pass over the training slices, validated."""

    epoch: int
    """0-based number of the epoch that ended."""
    step: int
    values: Mapping[str, float]
    """`train_loss`, `val_loss`, `val_dice`, each loss term as `train_<term>` / `val_<term>`, `lr`; `train_vanished`:
    instances that augmentation moved out of the picture, which were then left out."""
    improved: bool
    """Whether the monitored value is the best so far: this is the epoch that best.pt holds."""
    seconds: float


@dataclass(frozen=True)
class SlicePrediction:
    """One slice with its instances, in the ORIGINAL frame, for pictures."""

    key: SliceKey
    image_yx: npt.NDArray[np.float32]
    """Intensities in [0, 1]."""
    labels_n: Sequence[int]
    boxes_n: Sequence[Box]
    references_nyx: Mask
    predictions_nyx: Mask
    prompts_n: Sequence[Box | Point | Mask] = ()
    """What each instance was prompted with; empty: its box."""


class Observer(Protocol):
    """Whoever wants to know. Methods return nothing; an exception in one ends the run."""

    def on_step(self, event: StepDone, state: Any) -> None: ...

    def on_epoch(self, event: EpochDone, state: Any) -> None: ...

    def on_samples(self, epoch: int, samples: Sequence[SlicePrediction]) -> None: ...


@dataclass(frozen=True)
class Observers:
    """Several observers as one, called in order."""

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

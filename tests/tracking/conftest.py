from collections.abc import Callable

import numpy as np
import pytest

from sam2ft.core.events import EpochDone, SlicePrediction, StepDone
from sam2ft.core.keys import VolumeKey


@pytest.fixture
def step() -> Callable[..., StepDone]:
    def make(number: int, **other: object) -> StepDone:
        given = {"losses": {"loss": 0.5, "seg": 0.75}, "learning_rates": [1e-4], "gradient_norm": 2.0, "skipped": False}
        fixed = {"epoch": 0, "step": number, "steps_in_epoch": 4, "num_slices": 8, "seconds": 2.0, "data_seconds": 0.5}
        return StepDone(**(fixed | given | other))  # type: ignore[arg-type]  # a test's shorthand

    return make


@pytest.fixture
def epoch() -> Callable[..., EpochDone]:
    def make(number: int, improved: bool = True) -> EpochDone:
        values = {"train_loss": 0.5, "val_loss": 0.25, "val_dice": 0.875, "lr": 1e-4}
        return EpochDone(epoch=number, step=4 * (number + 1), values=values, improved=improved, seconds=8.0)

    return make


@pytest.fixture
def sample() -> SlicePrediction:
    none = np.zeros((0, 8, 8), bool)
    return SlicePrediction(VolumeKey("knee", "P1", "t2").slice(4), np.zeros((8, 8), np.float32), [], [], none, none)

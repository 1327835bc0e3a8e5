"""Common parts of all trackers: interface, protection of the run from tracker errors, and names of logged values."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sam2ft.core.events import EpochDone, Observer, SlicePrediction, StepDone

logger = logging.getLogger(__name__)

Draw = Callable[[SlicePrediction], npt.NDArray[np.uint8]]
"""Draws one slice as (height, width, 3). The run passes a function, so that trackers do not import pictures/figures."""


@dataclass(frozen=True)
class ResultTable:
    """Result table of an evaluation."""

    name: str
    """`test-<eval_id>`: equal for all runs that were evaluated with the same settings on the same volumes."""
    columns: Sequence[str]
    rows: Sequence[Sequence[str | int | float | None]]
    summary: Mapping[str, float]
    """Name -> main result by which runs are compared, e.g. `knee/dice/mean_of_labels`."""


class Tracker(Observer, Protocol):
    """An observer that also receives the final tables and is closed at the end of a run."""

    def on_table(self, table: ResultTable) -> None:
        """Log a result table."""

    def close(self) -> None:
        """Finish the tracker at the end of a run."""


class FaultTolerantTracker:
    """Wrapper of a tracker whose errors do not end the run.

    The tracker is created at the first event, and disabled with one warning at its first exception: a training must not
    be lost because the disk is full, a server is down or a package is not installed. Results of the run (checkpoints,
    tables) are not written by trackers.
    """

    def __init__(self, name: str, make: Callable[[], Tracker]):
        self._name = name
        self._make = make
        self._tracker: Tracker | None = None
        self._disabled = False

    def on_step(self, event: StepDone, state: Any) -> None:
        self._try(lambda tracker: tracker.on_step(event, state))

    def on_epoch(self, event: EpochDone, state: Any) -> None:
        self._try(lambda tracker: tracker.on_epoch(event, state))

    def on_samples(self, epoch: int, samples: Sequence[SlicePrediction]) -> None:
        self._try(lambda tracker: tracker.on_samples(epoch, samples))

    def on_table(self, table: ResultTable) -> None:
        self._try(lambda tracker: tracker.on_table(table))

    def close(self) -> None:
        if self._tracker is not None:
            self._try(lambda tracker: tracker.close())

    def _try(self, act: Callable[[Tracker], None]) -> None:
        if self._disabled:
            return
        try:
            if self._tracker is None:
                self._tracker = self._make()
            act(self._tracker)
        except Exception as error:  # noqa: BLE001 (the run continues after any tracker error)
            self._disabled = True
            logger.warning("%s is disabled, the run continues: %s", self._name, _reason(error))
            with suppress(Exception):
                if self._tracker is not None:
                    self._tracker.close()


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return f"{place}{error.strerror.lower()}"
    return f"{type(error).__name__}: {error}"


def scalars_of_step(event: StepDone) -> dict[str, float]:
    """Name -> value of one optimizer step: `train/<loss term>`, `lr/<group>`, `train/gradient_norm`, `speed/...`."""
    values = {f"train/{name}": float(value) for name, value in event.losses.items()}
    values |= {"train/skipped": float(event.skipped), "train/vanished": float(event.num_vanished)}
    values |= {f"lr/group_{number}": float(rate) for number, rate in enumerate(event.learning_rates)}
    if event.gradient_norm is not None:
        values["train/gradient_norm"] = float(event.gradient_norm)
    if event.seconds > 0:
        values["speed/slices_per_s"] = event.num_slices / event.seconds
        values["speed/share_waiting_for_data"] = event.data_seconds / event.seconds
    if event.memory_bytes:
        values["speed/peak_memory_gb"] = event.memory_bytes / 1e9
    return values


def scalars_of_epoch(event: EpochDone) -> dict[str, float]:
    """Name -> value of one epoch: `epoch/<value>`, `epoch/seconds`."""
    return {f"epoch/{name}": float(value) for name, value in event.values.items()} | {"epoch/seconds": event.seconds}

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


@pytest.fixture
def wandb_records() -> Callable[[Path], list[Any]]:
    """Reads a .wandb file, once it is whole, as protobuf records."""
    return all_records_in


def records_in(path: Path) -> list[Any]:
    """The protobuf records of a .wandb file: a header of 7 bytes, then LevelDB's log format (32 KiB blocks)."""
    from wandb.proto.wandb_internal_pb2 import Record

    content = path.read_bytes()
    assert content[:4] == b":W&B"
    records, joined, at = [], b"", 7
    while at + 7 <= len(content):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        if kind == 0:
            break
        joined += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            record = Record()
            record.ParseFromString(joined)
            records.append(record)
            joined = b""
    return records


def all_records_in(path: Path, within_s: float = 60.0) -> list[Any]:
    """The records once the last one (`exit`) is there: wandb's own process writes on after `finish` has returned."""
    deadline = time.monotonic() + within_s
    while True:
        records = records_in(path)
        if any(record.WhichOneof("record_type") == "exit" for record in records) or time.monotonic() > deadline:
            return records
        time.sleep(0.05)

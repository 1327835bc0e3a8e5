"""A sweep's summary in TensorBoard and in Weights & Biases (offline)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam2ft.config.schema.module import WandB
from sam2ft.tracking.base import ResultTable
from sam2ft.tracking.summary import SweepSummary, TrackerError, to_tensorboard, to_wandb
from sam2ft.tracking.wandb import WandbRun


@pytest.fixture
def summary(tmp_path: Path) -> SweepSummary:
    picture = tmp_path / "labels.png"
    Image.fromarray(np.arange(60, dtype=np.uint8).reshape(4, 5, 3)).save(picture)
    table = ResultTable("compare", ["name", "dice"], [["lr=0.1", 0.91], ["lr=0.2", None]], {"lr=0.1/knee/dice": 0.91})
    return SweepSummary([table], {"labels": picture})


def read(folder: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0, "scalars": 0})
    found.Reload()
    return found


def test_tensorboard_has_table_numbers_and_figures_once_however_often(summary: SweepSummary, tmp_path: Path) -> None:
    for _ in range(2):
        to_tensorboard(tmp_path / "tb", summary)
    events = read(tmp_path / "tb")
    assert events.Tags()["images"] == ["labels"]
    (scalar,) = events.Scalars("compare/lr=0.1/knee/dice")
    assert scalar.value == pytest.approx(0.91)
    assert "compare/text_summary" in events.Tags()["tensors"]
    assert len(list((tmp_path / "tb").glob("events.out.tfevents.*"))) == 1


def test_wandb_takes_it_offline_under_an_id_of_its_own(
    summary: SweepSummary, tmp_path: Path, wandb_records: Callable[[Path], list[Any]]
) -> None:
    pytest.importorskip("wandb")
    to_wandb(WandbRun("knee-summary", "knee summary", "knee", tmp_path / "wb", WandB(mode="offline")), summary)
    (path,) = (tmp_path / "wb").rglob("*knee-summary.wandb")
    records = wandb_records(path)
    (run,) = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    assert (run.run_id, run.run_group, run.job_type) == ("knee-summary", "knee", "summary")
    logged = {(item.nested_key or [item.key])[0] for record in records for item in record.history.item}
    assert {"compare", "labels"} <= logged
    updated = {".".join(item.nested_key or [item.key]) for record in records for item in record.summary.update}
    assert "compare/lr=0.1/knee/dice" in updated


def test_a_tracker_that_refuses_says_so_and_that_the_report_is_there(summary: SweepSummary, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(TrackerError, match=r"TensorBoard could not store the summary .* the report itself was written"):
        to_tensorboard(tmp_path / "file" / "tb", summary)

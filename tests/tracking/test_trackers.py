import json
import logging
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tensorboard.summary.writer.event_file_writer import AtomicCounter

from sam2ft.config.schema.module import WandB
from sam2ft.core.events import EpochDone, Observers, SlicePrediction, StepDone
from sam2ft.tracking.base import FaultTolerantTracker, ResultTable, scalars_of_step
from sam2ft.tracking.tensorboard import TensorBoardTracker, table_markdown
from sam2ft.tracking.wandb import WandbRun, WandbTracker

Steps = Callable[..., StepDone]
Epochs = Callable[..., EpochDone]


def draw(sample: SlicePrediction) -> npt.NDArray[np.uint8]:
    return np.zeros((6, 9, 3), np.uint8)


class Fake:
    """Remembers what it was told; fails at the step it is asked to fail at."""

    def __init__(self, fails_at: int | None = None):
        self.told: list[object] = []
        self.fails_at = fails_at

    def on_step(self, event: StepDone, state: Any) -> None:
        if event.step == self.fails_at:
            raise OSError("no space left on device")
        self.told.append(event.step)

    def on_epoch(self, event: EpochDone, state: Any) -> None:
        self.told.append(event)

    def on_samples(self, epoch: int, samples: Sequence[SlicePrediction]) -> None:
        self.told.append(samples)

    def on_table(self, table: ResultTable) -> None:
        self.told.append(table)

    def close(self) -> None:
        self.told.append("closed")


def test_a_tracker_that_fails_warns_once_and_is_not_asked_again(
    step: Steps, epoch: Epochs, caplog: pytest.LogCaptureFixture
) -> None:
    fake, other = Fake(fails_at=2), Fake()
    guarded = FaultTolerantTracker("W&B", lambda: fake)
    observers = Observers([guarded, other])
    for number in (1, 2, 3):
        observers.on_step(step(number), None)
    observers.on_epoch(epoch(0), None)
    guarded.close()
    assert fake.told == [1, "closed"]
    assert len(other.told) == 4
    assert [record.getMessage() for record in caplog.records] == [
        "W&B is disabled, the run continues: OSError: no space left on device"
    ]


def test_a_package_that_is_not_installed_does_not_end_the_run(
    step: Steps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    settings = WandbRun("r-0123", "point 0", "exp", tmp_path, WandB(mode="offline"))
    guarded = FaultTolerantTracker("W&B", lambda: WandbTracker(settings, config={}, draw=draw))
    guarded.on_step(step(1), None)
    guarded.on_step(step(2), None)
    guarded.close()
    assert len(caplog.records) == 1
    assert caplog.records[0].levelno == logging.WARNING


def test_a_stop_is_not_swallowed(step: Steps) -> None:
    class Stopped(Fake):
        def on_step(self, event: StepDone, state: Any) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FaultTolerantTracker("x", Stopped).on_step(step(1), None)


def test_a_tracker_is_made_at_the_first_event_and_closed_only_if_made(step: Steps) -> None:
    made: list[Fake] = []
    guarded = FaultTolerantTracker("x", lambda: made.append(Fake()) or made[-1])
    guarded.close()
    assert made == []
    guarded.on_step(step(1), None)
    guarded.close()
    assert made[0].told == [1, "closed"]


def test_a_step_becomes_named_numbers(step: Steps) -> None:
    assert scalars_of_step(step(1)) == {
        "train/loss": 0.5,
        "train/seg": 0.75,
        "train/skipped": 0.0,
        "train/vanished": 0.0,
        "lr/group_0": 1e-4,
        "train/gradient_norm": 2.0,
        "speed/slices_per_s": 4.0,
        "speed/share_waiting_for_data": 0.25,
    }


def events_in(folder: Path) -> dict[str, list[int]]:
    """tag -> steps, as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    accumulator.Reload()
    found: dict[str, list[int]] = defaultdict(list)
    for kind, read in (
        ("scalars", accumulator.Scalars),
        ("images", accumulator.Images),
        ("tensors", accumulator.Tensors),
    ):
        for tag in accumulator.Tags()[kind]:
            found[tag] = [event.step for event in read(tag)]
    return found


def test_tensorboard_gets_losses_values_pictures_and_the_configuration(
    step: Steps, epoch: Epochs, sample: SlicePrediction, tmp_path: Path
) -> None:
    tracker = TensorBoardTracker(tmp_path / "tb", config_text="module:\n  num_epochs: 3\n", draw=draw)
    for number in (1, 2, 3, 4):
        tracker.on_step(step(number), None)
    tracker.on_epoch(epoch(0), None)
    tracker.on_samples(0, [sample])
    tracker.close()
    found = events_in(tmp_path / "tb")
    assert found["train/loss"] == [1, 2, 3, 4]
    assert found["epoch/val_dice"] == [4]
    assert found["qc/knee/P1/t2 slice 4"] == [4]
    assert found["config/text_summary"] == [0]


def test_after_a_resume_the_steps_that_are_done_again_are_shown_once(
    step: Steps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Files of one second and process are read in the order of this number as text, in which 10 comes before 9; the
    # attempts of a run are other processes.
    monkeypatch.setattr("tensorboard.summary.writer.event_file_writer._global_uid", AtomicCounter(0))
    first = TensorBoardTracker(tmp_path, config_text="", draw=draw)
    for number in range(1, 8):
        first.on_step(step(number), None)
    first.close()
    again = TensorBoardTracker(tmp_path, config_text="", draw=draw, first_step=4)
    for number in range(5, 10):
        again.on_step(step(number), None)
    again.close()
    assert events_in(tmp_path)["train/loss"] == list(range(1, 10))


def test_wandb_offline_keeps_the_run_under_its_own_id(
    step: Steps, epoch: Epochs, sample: SlicePrediction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    logged: list[dict[str, Any]] = []

    class Run:
        def define_metric(self, *given: Any, **named: Any) -> None: ...

        def log(self, values: dict[str, Any]) -> None:
            logged.append(values)

        def finish(self) -> None:
            logged.append({"finished": True})

    class Module:
        Image = staticmethod(lambda pixels, caption: (pixels.shape, caption))
        Settings = staticmethod(lambda **named: named)

        @staticmethod
        def init(**named: Any) -> Run:
            asked.update(named)
            return Run()

    monkeypatch.setitem(sys.modules, "wandb", Module)
    tracker = WandbTracker(
        WandbRun("exp-0123456789abcdef", "point 0", "exp", tmp_path / "logs", WandB(mode="offline")),
        config={"a": 1},
        draw=draw,
    )
    tracker.on_step(step(1), None)
    tracker.on_epoch(epoch(0), None)
    tracker.on_samples(0, [sample])
    tracker.close()
    assert (asked["id"], asked["resume"], asked["group"]) == ("exp-0123456789abcdef", "allow", "exp")
    assert (asked["mode"], asked["project"], asked["dir"]) == ("offline", "exp", str(tmp_path / "logs"))
    assert [values.get("step") for values in logged] == [1, 4, 4, None]
    assert logged[2]["qc"] == [((6, 9, 3), "knee/P1/t2 slice 4")]
    assert json.dumps(logged[0])


TABLE = ResultTable(
    "test-0123456789ab",
    ("label_name", "measure", "n", "mean"),
    [("femoral | cartilage", "dice", 2, 0.87654), ("mean_of_labels", "dice", 2, None)],
    {"knee/dice/mean_of_labels": 0.875},
)


def test_tensorboard_shows_final_tables_and_the_numbers_to_compare_by(step: Steps, tmp_path: Path) -> None:
    tracker = TensorBoardTracker(tmp_path, config_text="", draw=draw, first_step=8)
    tracker.on_table(TABLE)
    tracker.close()
    found = events_in(tmp_path)
    assert found["results/test-0123456789ab/text_summary"] == [8]
    assert found["test-0123456789ab/knee/dice/mean_of_labels"] == [8]
    assert table_markdown(TABLE).splitlines() == [
        "| label_name | measure | n | mean |",
        "| --- | --- | --- | --- |",
        "| femoral \\| cartilage | dice | 2 | 0.8765 |",
        "| mean_of_labels | dice | 2 |  |",
    ]


def test_a_fresh_start_hides_what_was_there_before(step: Steps, epoch: Epochs, tmp_path: Path) -> None:
    for numbers in ((1, 2, 3, 4), (1, 2)):
        tracker = TensorBoardTracker(tmp_path, config_text="", draw=draw)
        for number in numbers:
            tracker.on_step(step(number), None)
        tracker.close()
    assert events_in(tmp_path)["train/loss"] == [1, 2]


def test_a_tracker_that_fails_at_a_table_does_not_end_the_run(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> Any:
        raise OSError("no network")

    FaultTolerantTracker("W&B", fail).on_table(TABLE)
    assert "the run continues: OSError: no network" in caplog.text


def nested(items: Iterable[Any]) -> dict[str, Any]:
    """Items of `a.b = json` as a tree; the last value of each."""
    tree: dict[str, Any] = {}
    for item in items:
        *above, last = item.nested_key or [item.key]
        place = tree
        for name in above:
            place = place.setdefault(name, {})
        place[last] = json.loads(item.value_json)
    return tree


def test_the_real_wandb_keeps_offline_what_can_be_read_back(
    step: Steps,
    epoch: Epochs,
    sample: SlicePrediction,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wandb_records: Callable[[Path], list[Any]],
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    settings = WandbRun("exp-01", "point 0", "exp", tmp_path, WandB(mode="offline"))
    tracker = WandbTracker(settings, config={"module": {"num_epochs": 3}}, draw=draw)
    tracker.on_step(step(1), None)
    tracker.on_epoch(epoch(0), None)
    tracker.on_samples(0, [sample])
    tracker.on_table(TABLE)
    tracker.close()
    (path,) = tmp_path.rglob("*exp-01.wandb")
    records = wandb_records(path)
    (run,) = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    assert (run.run_id, run.run_group, run.project, run.display_name) == ("exp-01", "exp", "exp", "point 0")
    assert {item.key: item.value_json for item in run.config.update}["module"] == '{"num_epochs":3}'
    logged = nested(item for record in records for item in record.history.item)
    assert (logged["train/loss"], logged["epoch/val_dice"], logged["step"]) == (0.5, 0.875, 4)
    assert (logged["qc"]["_type"], logged["qc"]["captions"]) == ("images/separated", ["knee/P1/t2 slice 4"])
    table = logged["results/test-0123456789ab"]
    assert (table["_type"], table["nrows"], table["ncols"]) == ("table-file", 2, 4)
    kept = json.loads((path.parent / "files" / table["path"]).read_text())
    assert kept["columns"] == list(TABLE.columns)
    assert kept["data"] == [list(row) for row in TABLE.rows]
    summary = nested(item for record in records for item in record.summary.update)
    assert summary["test-0123456789ab/knee/dice/mean_of_labels"] == 0.875


def test_a_continued_run_asks_wandb_for_the_same_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wandb, asked = pytest.importorskip("wandb"), []

    def init(**named: Any) -> Any:
        asked.append((named["id"], named["resume"], named["group"], named["mode"]))
        raise OSError("no network")

    monkeypatch.setattr(wandb, "init", init)
    for _ in range(2):
        settings = WandbRun("exp-01", "point 0", "exp", tmp_path)
        FaultTolerantTracker("W&B", lambda settings=settings: WandbTracker(settings, config={}, draw=draw)).on_table(
            TABLE
        )
    assert asked == [("exp-01", "allow", "exp", "online")] * 2

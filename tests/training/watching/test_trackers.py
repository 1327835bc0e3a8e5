"""What a run's trackers were told: curves, pictures, the configuration, and what the evaluation came to."""

import time
from typing import Any

import pytest

from sam2ft.evaluation.run import read_global
from sam2ft.runs.attempt.log import Tee
from sam2ft.runs.layout import RunLayout
from sam2ft.runs.trackers import show_results
from sam2ft.training.watching.trackers import progress_observers

pytestmark = pytest.mark.sam2


def events_of(layout: RunLayout) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(layout.tensorboard), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    return accumulator.Reload()


def test_tensorboard_has_the_whole_story_of_a_run_without_being_asked(finished: Any) -> None:
    assert not finished.experiment.module.use_wandb
    events = events_of(finished.layout)
    tags = events.Tags()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(1, 11))
    assert [event.step for event in events.Scalars("epoch/val_dice")] == [5, 10]
    assert events.Scalars("speed/peak_memory_gb")[-1].value > 0.1
    assert {tag for tag in tags["images"] if tag.startswith("qc/")} == {f"qc/toy/d/image slice {i}" for i in (1, 2, 3)}
    assert [event.step for event in events.Images("qc/toy/d/image slice 1")] == [5, 10]
    config = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "    num_epochs: 2" in config
    name = f"test-{finished.eval_id}"
    table = events.Tensors(f"results/{name}/text_summary")[0].tensor_proto.string_val[0].decode()
    rows = read_global(finished.evaluation)
    assert table.count("\n") == len(rows) + 1
    (overall,) = [row for row in rows if (row["measure"], row["label_name"]) == ("dice", "mean_of_labels")]
    assert events.Scalars(f"{name}/toy/dice/mean_of_labels")[-1].value == pytest.approx(overall["mean"])


def test_wandb_gets_the_table_under_the_id_of_the_run(
    finished: Any, point_with: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    point = point_with("module.use_wandb=true", "module.wandb.mode=offline")
    assert point.layout == finished.layout
    show_results(point.experiment, point.layout, point.eval_id, read_global(point.evaluation))
    run = f"wandb/wandb/offline-run-*-{point.layout.run_id}"
    table = f"files/media/table/results/test-{point.eval_id}*.table.json"
    # wandb's own process writes on after it was told to finish.
    deadline = time.monotonic() + 60
    while not all(list(point.layout.folder.glob(f"{run}/{file}")) for file in (table, "run-*.wandb")):
        assert time.monotonic() < deadline, f"wandb kept no table in {point.layout.folder}"
        time.sleep(0.05)


def test_a_tracker_that_cannot_start_leaves_the_results_alone(
    finished: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*given: Any, **named: Any) -> Any:
        raise OSError("no space left on device")

    monkeypatch.setattr("sam2ft.runs.trackers.TensorBoardTracker", fail)
    show_results(finished.experiment, finished.layout, finished.eval_id, read_global(finished.evaluation))
    assert "TensorBoard is disabled, the run continues: OSError: no space left on device" in caplog.text


def test_a_warning_takes_the_live_line_away_and_is_in_the_log(
    finished: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    import sys
    from io import StringIO

    from sam2ft.core.events import StepDone
    from sam2ft.data.store.store import Store

    class Terminal(StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    terminal, log = Terminal(), StringIO()
    monkeypatch.setattr(sys, "stderr", Tee(terminal, log))
    stores = {"toy": Store.open(finished.experiment.dataset["toy"].store)}
    layout = RunLayout(tmp_path / "toy-1")
    with progress_observers(finished.experiment, layout, stores, None) as (on_terminal, on_log, *_):
        step = StepDone(0, 1, 5, {"loss": 0.5}, [1e-3], 2, 1.0, 0.1)
        for console in (on_terminal, on_log):
            console.on_step(step, None)
        print("a warning", file=sys.stderr)
    assert terminal.getvalue().endswith("\x1b[2Ka warning\n")
    assert "epoch 1/2" in terminal.getvalue()
    assert log.getvalue() == "a warning\n"

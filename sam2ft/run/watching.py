"""Who watches a training besides what is kept of it: the console, TensorBoard, Weights & Biases."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from sam2ft.config.experiment import dump_experiment
from sam2ft.config.schema import Experiment
from sam2ft.core.events import Observer, SlicePrediction
from sam2ft.core.layout import RunLayout
from sam2ft.core.rows import Row
from sam2ft.data.store import Store
from sam2ft.engine.train_state import TrainState
from sam2ft.run.keeping import picture_of
from sam2ft.run.output import Tee
from sam2ft.run.status import read_status
from sam2ft.tracking.base import Draw, Guarded, ResultTable
from sam2ft.tracking.console import ConsoleProgress
from sam2ft.tracking.tensorboard import TensorBoardTracker
from sam2ft.tracking.wandb import WandbSettings, WandbTracker

RESULT_COLUMNS = (
    *("dataset", "label", "label_name", "measure", "n", "mean", "sd", "median", "ci_low", "ci_high"),
    *("n_absent", "n_missed", "n_spurious"),
)
COMPARED = ("dice", "iou")


@contextmanager
def watchers(
    experiment: Experiment, layout: RunLayout, stores: Mapping[str, Store], state: TrainState | None
) -> Iterator[tuple[Observer, ...]]:
    """The watchers of a training that begins (or goes on) at `state`; closed when the block ends, however it ends."""
    consoles = [ConsoleProgress(experiment.module.num_epochs, stream=stream) for stream in _streams()]
    trackers = _trackers(experiment, layout, _drawing(stores), state.step if state else 0)
    try:
        with _undisturbed(consoles[0]):
            yield (*consoles, *trackers)
    finally:
        for console in consoles:
            console.close()
        for tracker in trackers:
            tracker.close()


def show_results(experiment: Experiment, layout: RunLayout, eval_id: str, rows: Sequence[Row]) -> None:
    """Give the rows of an evaluation's global.csv to the trackers of its run; as always, they cannot fail a run."""
    status = read_status(layout)
    table = ResultTable(
        f"{experiment.eval.split}-{eval_id}",
        RESULT_COLUMNS,
        [[row[name] for name in RESULT_COLUMNS] for row in rows],
        {
            f"{row['dataset']}/{row['measure']}/{row['label_name']}": float(row["mean"])
            for row in rows
            if row["measure"] in COMPARED and row["mean"] is not None
        },
    )
    for tracker in _trackers(experiment, layout, _no_pictures, (status.step if status else None) or 0):
        tracker.on_table(table)
        tracker.close()


def _trackers(experiment: Experiment, layout: RunLayout, draw: Draw, first_step: int) -> list[Guarded]:
    text = dump_experiment(experiment)
    trackers = [
        Guarded(
            "TensorBoard",
            lambda: TensorBoardTracker(layout.tensorboard, config_text=text, draw=draw, first_step=first_step),
        )
    ]
    if experiment.module.use_wandb:
        trackers.append(Guarded("Weights & Biases", lambda: _wandb(experiment, layout, draw)))
    return trackers


def _no_pictures(sample: SlicePrediction) -> npt.NDArray[np.uint8]:
    raise ValueError(f"{sample.key}: an evaluation's pictures are files in its folder")


def _wandb(experiment: Experiment, layout: RunLayout, draw: Draw) -> WandbTracker:
    asked = experiment.module.wandb
    settings = WandbSettings(
        run_id=layout.run_id,
        name=layout.run_id,
        experiment=experiment.experiment.name,
        folder=layout.folder / "wandb",
        mode=asked.mode,
        project=asked.project,
    )
    config: dict[str, Any] = json.loads(experiment.model_dump_json())
    return WandbTracker(settings, config=config, draw=draw)


def _drawing(stores: Mapping[str, Store]) -> Draw:
    def draw(sample: SlicePrediction) -> npt.NDArray[np.uint8]:
        from sam2ft.report.figures import figure_rgb

        figure = picture_of(sample, stores)
        pixels = figure_rgb(figure)
        figure.clear()
        return pixels

    return draw


@contextmanager
def _undisturbed(console: ConsoleProgress) -> Iterator[None]:
    """Whatever else is printed on the terminal meanwhile (a warning) first takes the live line away."""
    outputs = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, Tee)]
    for output in outputs:
        output.before_terminal = console.clear
    try:
        yield
    finally:
        for output in outputs:
            output.before_terminal = None


def _streams() -> tuple[TextIO, ...]:
    """Where progress goes: the terminal and the log apart, so that no log holds the control sequences of a bar."""
    if isinstance(sys.stderr, Tee) and sys.stderr.isatty():
        return (sys.stderr.terminal, sys.stderr.log)
    return (sys.stderr,)

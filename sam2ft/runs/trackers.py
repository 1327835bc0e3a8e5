"""Trackers of a run (TensorBoard, Weights & Biases) and the results of an evaluation that they receive."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.config.load_experiment import dump_experiment
from sam2ft.config.schema.experiment import Experiment
from sam2ft.core.events import SlicePrediction
from sam2ft.core.tables.rows import Row
from sam2ft.runs.attempt.status import read_status
from sam2ft.runs.layout import RunLayout
from sam2ft.tracking.base import Draw, FaultTolerantTracker, ResultTable
from sam2ft.tracking.tensorboard import TensorBoardTracker
from sam2ft.tracking.wandb import WandbRun, WandbTracker

RESULT_COLUMNS = (
    *("dataset", "label", "label_name", "measure", "n", "mean", "sd", "median", "ci_low", "ci_high"),
    *("n_absent", "n_missed", "n_spurious"),
)
COMPARED = ("dice", "iou")


def show_results(experiment: Experiment, layout: RunLayout, eval_id: str, rows: Sequence[Row]) -> None:
    """Send the rows of an evaluation's global.csv to the trackers of its run; errors in a tracker never fail a run."""
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
    for tracker in trackers_of(experiment, layout, _no_pictures, (status.step if status else None) or 0):
        tracker.on_table(table)
        tracker.close()


def trackers_of(experiment: Experiment, layout: RunLayout, draw: Draw, first_step: int) -> list[FaultTolerantTracker]:
    """Return the trackers of a run: TensorBoard, and Weights & Biases with `module.use_wandb`."""
    text = dump_experiment(experiment)
    trackers = [
        FaultTolerantTracker(
            "TensorBoard",
            lambda: TensorBoardTracker(layout.tensorboard, config_text=text, draw=draw, first_step=first_step),
        )
    ]
    if experiment.module.use_wandb:
        trackers.append(FaultTolerantTracker("Weights & Biases", lambda: _wandb(experiment, layout, draw)))
    return trackers


def _no_pictures(sample: SlicePrediction) -> npt.NDArray[np.uint8]:
    raise ValueError(f"{sample.key}: pictures of an evaluation are files in its folder")


def _wandb(experiment: Experiment, layout: RunLayout, draw: Draw) -> WandbTracker:
    target = WandbRun(
        run_id=layout.run_id,
        name=layout.run_id,
        experiment=experiment.experiment.name,
        folder=layout.folder / "wandb",
        section=experiment.module.wandb,
    )
    config: dict[str, Any] = json.loads(experiment.model_dump_json())
    return WandbTracker(target, config=config, draw=draw)

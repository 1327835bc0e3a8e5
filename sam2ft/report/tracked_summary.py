"""Logging of a finished report to TensorBoard or Weights & Biases as one summary of the sweep: tables and figures."""

import re
from pathlib import Path
from typing import Literal

from sam2ft.config.schema.module import WandB
from sam2ft.core.tables.rows import TABLES, read_csv
from sam2ft.report.comparison.compare import COMPARE, MEASURES
from sam2ft.report.layout import ReportLayout
from sam2ft.tracking.base import ResultTable
from sam2ft.tracking.summary import SweepSummary, to_tensorboard, to_wandb
from sam2ft.tracking.wandb import WandbRun

Mode = Literal["online", "offline"]
_MOST_ROWS = 10_000
"""Limit of rows per table, because trackers show tables in a browser."""


def log_summary(layout: ReportLayout, name: str, folder: Path, *, tensorboard: bool, wandb: Mode | None) -> list[str]:
    """Log the report in `layout` to the requested trackers.

    Args:
        layout: paths of the report.
        name: name of the experiment.
        folder: where the event files and the files of wandb are written.

    Returns:
        one sentence for each tracker that received the summary.

    Raises:
        TrackerError: of tracking.summary, when a tracker cannot be used.
    """
    summary = summary_of(layout)
    sentences = []
    if tensorboard:
        to_tensorboard(folder, summary)
        sentences.append(f"summary for tensorboard --logdir {folder.parent}")
    if wandb is not None:
        target = WandbRun(f"{name}-summary", f"{name} summary", name, folder, WandB(mode=wandb))
        to_wandb(target, summary)
        sentences.append(
            f"summary in wandb run {target.run_id}" + (f", to be synced from {folder}" if wandb == "offline" else "")
        )
    return sentences


def summary_of(layout: ReportLayout) -> SweepSummary:
    """The summary: compare.csv and global.csv as tables, the scores of every point, and the figures."""
    compared = read_csv(layout.table("compare"), COMPARE)
    numbers = {
        f"{_key(str(row['name']))}/{row['dataset']}/{measure}": float(row[measure] or 0)
        for row in compared
        for measure in MEASURES
        if row[measure] is not None
    }
    cohort = TABLES["global"]
    rows = read_csv(layout.table("global"), cohort)[:_MOST_ROWS]
    tables = [
        ResultTable(table.name, names := table.column_names(), [[row[name] for name in names] for row in of], shown)
        for table, of, shown in ((COMPARE, compared, numbers), (cohort, rows, {}))
    ]
    return SweepSummary(tables, {path.stem: path for path in sorted(layout.figures.glob("*.png"))})


def _key(name: str) -> str:
    """A point's name as one component of a tracker's metric name."""
    return re.sub(r"[^\w.=,+-]+", "_", name)

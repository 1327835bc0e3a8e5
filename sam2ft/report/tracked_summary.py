"""The tables and figures of a report that is there, handed to a tracker as one summary of the sweep."""

import re
from pathlib import Path
from typing import Literal

from sam2ft.core.tables.rows import TABLES, read_csv
from sam2ft.report.comparison.compare import COMPARE, MEASURES
from sam2ft.report.layout import ReportLayout
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.tracking.base import ResultTable
from sam2ft.tracking.summary import SweepSummary, to_tensorboard, to_wandb
from sam2ft.tracking.wandb import WandbSettings

Mode = Literal["online", "offline"]
_MOST_ROWS = 10_000
"""Trackers show tables in a browser."""


def log_summary(layout: ReportLayout, name: str, folder: Path, *, tensorboard: bool, wandb: Mode | None) -> list[str]:
    """Hand the report in `layout` of experiment `name` on; returns a sentence for each tracker that took it.

    `folder`: where the event files and wandb's own files go. Errors: tracking.summary.TrackerError.
    """
    summary = summary_of(layout)
    said = []
    if tensorboard:
        to_tensorboard(folder, summary)
        said.append(f"summary for tensorboard --logdir {folder.parent}")
    if wandb is not None:
        settings = WandbSettings(f"{name}-summary", f"{name} summary", name, folder, mode=wandb)
        to_wandb(settings, summary)
        said.append(
            f"summary in wandb run {settings.run_id}" + (f", to be synced from {folder}" if wandb == "offline" else "")
        )
    return said


def summary_folder(layout: ExperimentLayout) -> Path:
    """Beside the report, which is replaced as a whole."""
    return layout.folder / "summary"


def summary_of(layout: ReportLayout) -> SweepSummary:
    """compare.csv and global.csv as tables, the numbers of every point, and the figures."""
    compared = read_csv(layout.table("compare"), COMPARE)
    numbers = {
        f"{_key(str(row['name']))}/{row['dataset']}/{measure}": float(row[measure] or 0)
        for row in compared
        for measure in MEASURES
        if row[measure] is not None
    }
    columns = COMPARE.column_names()
    tables = [ResultTable("compare", columns, [[row[name] for name in columns] for row in compared], numbers)]
    cohort = TABLES["global"]
    rows = read_csv(layout.table("global"), cohort)[:_MOST_ROWS]
    names = cohort.column_names()
    tables.append(ResultTable("global", names, [[row[name] for name in names] for row in rows], {}))
    return SweepSummary(tables, {path.stem: path for path in sorted(layout.figures.glob("*.png"))})


def _key(name: str) -> str:
    """A point's name as a part of a tracker's path."""
    return re.sub(r"[^\w.=,+-]+", "_", name)

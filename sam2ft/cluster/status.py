"""One table: where every run of an experiment stands."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from sam2ft.cluster.collect import experiment_layout, last_log_lines, newest_plan, standings_of
from sam2ft.cluster.standing import Standing, State
from sam2ft.core.layout import ExperimentLayout
from sam2ft.report.terminal import show
from sam2ft.report.words import printable

COLOURS = {"done": "green", "failed": "red", "lost": "red", "running": "cyan", "stopped": "yellow", "unknown": "yellow"}
BAD: tuple[State, ...] = ("failed", "lost")


def show_status(path: Path, *, only_failed: bool = False, as_json: bool = False) -> int:
    """What launch/status.py does: the table (or JSON) of an experiment's newest plan on stdout."""
    layout = experiment_layout(path)
    rows = status_rows(layout, standings_of(layout, newest_plan(layout)))
    shown = [row for row in rows if row["state"] in BAD] if only_failed else rows
    if as_json:
        print(json.dumps(shown, indent=2))
    else:
        show([status_table(shown)], sys.stdout)
    return 0


def status_rows(layout: ExperimentLayout, standings: Sequence[Standing]) -> list[dict[str, Any]]:
    """One plain mapping per run, for `--json` and for the table."""
    return [_row(layout, standing) for standing in standings]


def _row(layout: ExperimentLayout, standing: Standing) -> dict[str, Any]:
    status = standing.status
    return {
        "index": standing.run.index,
        "name": standing.run.name,
        "run": standing.run.run_id,
        "state": standing.state,
        "stage": status.state if status is not None and standing.state == "running" else None,
        "class": standing.failure_class,
        "epoch": status.epoch if status else None,
        "num_epochs": status.num_epochs if status else None,
        "step": status.step if status else None,
        "monitor": status.monitor if status else None,
        "best_value": status.best_value if status else None,
        "step_s": status.step_s if status else None,
        "host": status.attempt.host if status else None,
        "job": status.attempt.job if status else None,
        "restarts": status.attempt.restart if status else None,
        "heartbeat": status.heartbeat if status else None,
        "reason": standing.reason,
        "log": list(last_log_lines(layout.run(standing.run.run_id))) if standing.state in BAD else [],
    }


def status_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows for a terminal; the full reason of a failure is in `--json` and in the run's log."""
    table = Table(box=None, pad_edge=False)
    for heading, justify in (
        ("#", "right"),
        ("point", "left"),
        ("state", "left"),
        ("epoch", "right"),
        ("best", "right"),
        ("s/step", "right"),
        ("node", "left"),
        ("reason", "left"),
    ):
        table.add_column(heading, justify="right" if justify == "right" else "left", overflow="fold")
    for row in rows:
        table.add_row(
            str(row["index"]),
            Text(printable(row["name"])),
            Text(row["stage"] or row["state"], style=COLOURS.get(row["state"], "")),
            _epoch(row),
            "" if row["best_value"] is None else f"{row['best_value']:.4f}",
            "" if row["step_s"] is None else f"{row['step_s']:.2f}",
            row["host"] or "",
            Text(printable(row["reason"])),
        )
    return table


def _epoch(row: Mapping[str, Any]) -> str:
    """1-based, as people count: `3/12`."""
    if row["epoch"] is None:
        return ""
    return f"{row['epoch'] + 1}/{row['num_epochs']}" if row["num_epochs"] else str(row["epoch"] + 1)

"""Status table: state, epoch, best value, ETA, restarts and node of every run of an experiment."""

import json
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from sam2ft.core.errors import printable
from sam2ft.report.terminal import show
from sam2ft.runs.history import history_if_readable
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import Plan, newest_plan
from sam2ft.runs.states import State
from sam2ft.sweeps.plan.stale_code import stale_runs
from sam2ft.sweeps.state.collect import experiment_layout, reconciled_runs_of
from sam2ft.sweeps.state.logs import last_log_lines
from sam2ft.sweeps.state.reconcile import ReconciledRun
from sam2ft.sweeps.state.slurm_snapshot import NOTHING_KNOWN, SlurmSnapshot, snapshot_of

MOST_ROWS = 200
"""A terminal shows at most this many runs, failed ones first. Files and --json get all."""
_HEADINGS = ("#", "point", "state", "epoch", "best", "s/step", "ETA", "restarts", "node", "reason")
_NUMBERS = frozenset({"#", "epoch", "best", "s/step", "ETA", "restarts"})
_BY_URGENCY = tuple(State)
_PROGRESS = ("epoch", "num_epochs", "step", "monitor", "best_value", "step_s")
"""Fields of status.json that are also in a row."""
_RECENT_EPOCHS = 5


def show_status(path: Path, *, only_failed: bool = False, as_json: bool = False) -> int:
    """Print the table (or JSON) of an experiment's newest plan to stdout (launch/status.py)."""
    layout = experiment_layout(path)
    plan, snapshot = newest_plan(layout), snapshot_of(layout)
    rows = reconciled_rows(layout, plan, snapshot)
    shown = [row for row in rows if row["state"].bad] if only_failed else rows
    if as_json:
        print(json.dumps(shown, indent=2))
    elif sys.stdout.isatty():
        show([status_page(shown, rows, snapshot)], sys.stdout)
    else:
        # Without rich, which takes seconds for thousands of rows.
        print(plain_table(shown), footer(rows, snapshot), sep="\n")
    return 0


def reconciled_rows(layout: ExperimentLayout, plan: Plan, snapshot: SlurmSnapshot) -> list[dict[str, Any]]:
    """Return the status rows of a plan as of `snapshot`, with stale code marked."""
    reconciled_runs = reconciled_runs_of(layout, plan, snapshot)
    return status_rows(layout, reconciled_runs, snapshot, frozenset(stale_runs(layout, reconciled_runs)))


def status_rows(
    layout: ExperimentLayout,
    reconciled_runs: Sequence[ReconciledRun],
    snapshot: SlurmSnapshot = NOTHING_KNOWN,
    stale: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Return one plain mapping per run, for `--json` and for the table.

    Args:
        stale: names of runs that were made with a different version of the code.
    """
    return [_row(layout, reconciled, snapshot, reconciled.run.name in stale) for reconciled in reconciled_runs]


def _row(layout: ExperimentLayout, reconciled: ReconciledRun, snapshot: SlurmSnapshot, stale: bool) -> dict[str, Any]:
    status, attempt = reconciled.status, reconciled.status.attempt if reconciled.status else None
    running = reconciled.state is State.RUNNING
    accounted = (snapshot.accounting or {}).get(reconciled.job or "")
    entry = (snapshot.queue or {}).get(reconciled.job or "")
    # Until a job has written its status, status.json is that of another attempt.
    is_current = attempt is not None and (entry is None or attempt.job == reconciled.job)
    gpu_hours = [known.gpu_hours for job in reconciled.jobs if (known := (snapshot.accounting or {}).get(job.job))]
    return {
        "index": reconciled.run.index,
        "name": reconciled.run.name,
        "run": reconciled.run.run_id,
        "state": reconciled.state,
        "stage": _stage(reconciled, is_current=is_current),
        "class": reconciled.failure_class,
        **{name: getattr(status, name, None) for name in _PROGRESS},
        "eta_s": eta_s(layout, reconciled) if running else None,
        "host": attempt.host if attempt and is_current else None,
        "nodes": (entry.nodes if entry else accounted.nodes if accounted else "") or None,
        "job": reconciled.job or (attempt.job if attempt else None),
        "jobs": [{"job": job.job, "stage": job.stage, "submission": job.submission} for job in reconciled.jobs],
        "restarts": max([attempt.restart if attempt else 0, accounted.restarts if accounted else 0])
        if attempt or accounted
        else None,
        "gpu_hours": round(sum(gpu_hours), 6) if gpu_hours else None,
        "heartbeat": status.heartbeat if status else None,
        "stale_code": stale,
        "reason": reconciled.reason,
        "source": reconciled.source,
        "log": list(last_log_lines(layout, reconciled.run.run_id, reconciled.jobs)) if reconciled.state.bad else [],
    }


def _stage(reconciled: ReconciledRun, *, is_current: bool) -> str | None:
    """Stage of a run; `ending` is a job that Slurm still cleans up after the run reported its end."""
    if reconciled.state is not State.RUNNING:
        return reconciled.waits_for
    if reconciled.status is None or not is_current:
        return State.STARTING
    return reconciled.status.state if reconciled.status.state.active else "ending"


def eta_s(layout: ExperimentLayout, reconciled: ReconciledRun) -> float | None:
    """Return the seconds until a training has done all its epochs, validations included.

    None before its first epoch has ended. Early stopping may end it sooner; time in the queue and the evaluation are
    not included.
    """
    status = reconciled.status
    if status is None or status.state is not State.TRAINING or status.step is None or not status.num_epochs:
        return None
    epochs = history_if_readable(layout.run(reconciled.run.run_id))
    if not epochs or not epochs[-1]["step"]:
        return None
    steps_per_epoch = epochs[-1]["step"] / (epochs[-1]["epoch"] + 1)
    # Only the last epochs: the first one is slow, and the node may have changed at a requeue.
    epoch_s = median(epoch["seconds"] for epoch in epochs[-_RECENT_EPOCHS:])
    return max(0.0, status.num_epochs - status.step / steps_per_epoch) * epoch_s


def status_page(
    shown: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], snapshot: SlurmSnapshot
) -> Group:
    """Return table and summary for a terminal; of very many runs, failed and lost ones are shown first."""
    chosen = sorted(shown, key=lambda row: -_BY_URGENCY.index(row["state"]))[:MOST_ROWS]
    left = len(shown) - len(chosen)
    more = f"{left} more runs not shown; `--json` or a pipe shows all" if left else ""
    lines = [Text(line, style="dim") for line in (more, footer(rows, snapshot)) if line]
    return Group(status_table(sorted(chosen, key=lambda row: row["index"])), *lines)


def footer(rows: Sequence[Mapping[str, Any]], snapshot: SlurmSnapshot) -> str:
    """Return the summary: `12 runs: 9 done, 2 running, 1 failed (1 oom); 3.2 GPU-hours so far`."""
    counts = Counter(row["state"] for row in rows)
    classes = Counter(row["class"] for row in rows if row["class"])
    parts = [f"{counts[state]} {state}" for state in State if counts[state]]
    text = f"{len(rows)} runs: {', '.join(parts)}" if rows else "no runs"
    if classes:
        text += f" ({', '.join(f'{count} {name}' for name, count in sorted(classes.items()))})"
    hours = [row["gpu_hours"] for row in rows if row["gpu_hours"]]
    if hours:
        text += f"; {sum(hours):.1f} GPU-hours so far"
    if snapshot.queue is None and any(row["jobs"] for row in rows):
        text += "; SLURM's queue does not answer here"
    return text


def status_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the rows as a table for a terminal; the full reason of a failure is in `--json` and in the run's log."""
    table = Table(box=None, pad_edge=False)
    used = _used(rows)
    for heading in used:
        table.add_column(heading, justify="right" if heading in _NUMBERS else "left", overflow="fold")
    for row in rows:
        cells = _cells(row)
        styled = [Text(cells[name], style=row["state"].colour if name == "state" else "") for name in used]
        table.add_row(*styled)
    return table


def plain_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as plain text without a width limit, for files, pipes and thousands of rows."""
    used, cells = _used(rows), [_cells(row) for row in rows]
    lines = [dict(zip(used, used, strict=True)), *cells]
    widths = {name: max(len(line[name]) for line in lines) for name in used}
    return "\n".join(
        "  ".join(
            line[name].rjust(widths[name]) if name in _NUMBERS else line[name].ljust(widths[name]) for name in used
        ).rstrip()
        for line in lines
    )


def _used(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Headings of the columns that are shown; ETA and restarts only when a run has them."""
    optional = {"ETA": any(row["eta_s"] for row in rows), "restarts": any(row["restarts"] for row in rows)}
    return [name for name in _HEADINGS if optional.get(name, True)]


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    state = row["stage"] if row["state"] is State.RUNNING else row["state"]
    return {
        "#": str(row["index"]),
        "point": printable(row["name"]),
        "state": f"{state} ({row['class']})"
        if row["class"]
        else f"{state}{', stale code' if row['stale_code'] else ''}",
        "epoch": _epoch(row),
        "best": "" if row["best_value"] is None else f"{row['best_value']:.4f}",
        "s/step": "" if row["step_s"] is None else f"{row['step_s']:.2f}",
        "ETA": "" if row["eta_s"] is None else f"at most {duration(row['eta_s'])}",
        "restarts": str(row["restarts"] or ""),
        "node": printable(row["nodes"] or row["host"] or ""),
        "reason": printable(_reason(row)),
    }


def _reason(row: Mapping[str, Any]) -> str:
    """The reason, with the last line of the log when the run ended with an error that it did not report itself."""
    last = row["log"][-1].strip() if row["log"] and row["class"] == "error" else ""
    return row["reason"] if not last or last in row["reason"] or row["reason"] in last else f"{row['reason']}: {last}"


def _epoch(row: Mapping[str, Any]) -> str:
    """1-based: `3/12`."""
    if row["epoch"] is None:
        return ""
    return f"{row['epoch'] + 1}/{row['num_epochs']}" if row["num_epochs"] else str(row["epoch"] + 1)


def duration(seconds: float) -> str:
    """Return a duration as text: `50 s`, `12 min`, `3 h 05 min`, `2 d 4 h`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"

"""Aggregation (launch/aggregate.py): one report of any number of runs, and the exports made from it."""

import sys
from collections.abc import Sequence
from pathlib import Path

from sam2ft.core.errors import IncompleteError, UserError, listed
from sam2ft.report.export_best import export_best
from sam2ft.report.layout import ReportLayout
from sam2ft.report.report import report
from sam2ft.report.request import PaperFormats, ReportRequest
from sam2ft.report.tracked_summary import Mode, log_summary
from sam2ft.sweeps.state.collect import show_outcome
from sam2ft.sweeps.state.sources import default_report, sources_of

_MOST_NAMES = 3


def aggregate_sources(
    given: Sequence[str],
    out: Path | None,
    *,
    export: bool,
    require_complete: bool,
    papers: PaperFormats,
    tensorboard: bool,
    wandb: Mode | None,
) -> int:
    """Write the report of all given runs and the requested exports; returns the exit code.

    Args:
        given: experiment files, folders of experiments, runs and evaluations, patterns.
        out: folder of the report; with `export` that of the exported best point.

    Raises:
        UserError: no argument is an experiment, run or evaluation, or --out holds other files.
        IncompleteError: --require-complete was given and a planned run is not done.
    """
    sources = sources_of(given)
    layout = default_report(sources, given)
    if out is not None and not export:
        layout = _refuse_others_folder(ReportLayout(out))
    if layout.folder.is_symlink():
        layout = ReportLayout(layout.folder.resolve())
    title = listed(sources.names, _MOST_NAMES)
    states = sources.named()
    outcome = report(ReportRequest(title, layout, states, tuple(sources.problems), papers))
    show_outcome(outcome)
    if export:
        experiment, weights = export_best(outcome.comparison, states, out or layout.export)
        print(f"{experiment}\n{weights}", flush=True)
    if tensorboard or wandb:
        folder = layout.folder.with_name(f"{layout.folder.name}-summary")
        for message in log_summary(layout, title, folder, tensorboard=tensorboard, wandb=wandb):
            print(message, file=sys.stderr)
    if require_complete and not outcome.coverage.complete:
        raise IncompleteError(f"{title}: {outcome.coverage.sentence()}")
    return 0


def _refuse_others_folder(layout: ReportLayout) -> ReportLayout:
    """Refuse a folder that holds anything but a report, because a report replaces its whole folder."""
    folder = layout.folder
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder}: is a file; allowed: a new or empty folder, or that of an earlier report")
    if folder.is_dir() and any(folder.iterdir()) and not layout.coverage.is_file():
        raise UserError(
            f"--out {folder}: holds other files and no coverage.json; allowed: a new or empty folder, or that of an "
            "earlier report"
        )
    if folder.resolve() == Path.cwd():
        raise UserError(f"--out {folder}: is the working directory, which a report would replace")
    return layout

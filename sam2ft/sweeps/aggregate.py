"""Aggregation (launch/aggregate.py): one report of any number of runs, and the exports made from it."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from sam2ft.core.errors import IncompleteError, UserError
from sam2ft.report.export_best import export_best
from sam2ft.report.layout import ReportLayout
from sam2ft.report.report import report
from sam2ft.report.request import PaperFormats, ReportOutcome, ReportRequest
from sam2ft.report.tracked_summary import Mode, log_summary
from sam2ft.sweeps.state.collect import show_outcome
from sam2ft.sweeps.state.sources import ReportSources, default_report, sources_of

_MOST_NAMES = 3


@dataclass(frozen=True)
class AggregateRequest:
    """Command line of launch/aggregate.py."""

    given: tuple[str, ...]
    """Experiment files, folders of experiments, runs and evaluations, patterns."""
    out: Path | None = None
    """Folder of the report; with `export` that of the exported best point."""
    export: bool = False
    require_complete: bool = False
    papers: PaperFormats = field(default_factory=PaperFormats)
    tensorboard: bool = False
    wandb: Mode | None = None


def aggregate_sources(asked: AggregateRequest) -> int:
    """Write the report of all given runs and the requested exports; returns the exit code.

    Raises:
        UserError: no argument is an experiment, run or evaluation, or --out holds other files.
        IncompleteError: --require-complete was given and a planned run is not done.
    """
    sources = sources_of(asked.given)
    layout = default_report(sources, asked.given)
    if asked.out is not None and not asked.export:
        layout = _refuse_others_folder(ReportLayout(asked.out))
    if layout.folder.is_symlink():
        layout = ReportLayout(layout.folder.resolve())
    title = _title(sources)
    states = sources.named()
    outcome = report(ReportRequest(title, layout, states, tuple(sources.problems), asked.papers))
    show_outcome(outcome)
    if asked.export:
        exported = export_best(outcome.comparison, states, asked.out or layout.export)
        print(f"{exported.experiment}\n{exported.weights}", flush=True)
    if asked.tensorboard or asked.wandb:
        folder = layout.folder.with_name(f"{layout.folder.name}-summary")
        for message in log_summary(layout, title, folder, tensorboard=asked.tensorboard, wandb=asked.wandb):
            print(message, file=sys.stderr)
    if asked.require_complete:
        _refuse_incomplete(title, outcome)
    return 0


def _refuse_incomplete(title: str, outcome: ReportOutcome) -> None:
    if not outcome.coverage.complete:
        raise IncompleteError(f"{title}: {outcome.coverage.sentence()}")


def _title(sources: ReportSources) -> str:
    names = sources.names
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"{', '.join(names[:_MOST_NAMES])}{more}"


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

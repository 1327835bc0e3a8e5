"""The tables and the page of any number of runs, from what they wrote. No torch.

The order is: which evaluations count (report_collect), their tables put together (report_tables), the comparison, the
page (report_page), tables for papers (PAPERS), and index.html last. All of it goes into a new folder that takes the
place of the report when it is whole (core/folders).
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from sam2ft.core.errors import DataError
from sam2ft.core.files import replacing, write_json, write_text
from sam2ft.core.layout import ReportLayout
from sam2ft.core.rows import write_csv
from sam2ft.report.compare import COMPARE, Comparison, PointRun, compare, compare_rows
from sam2ft.report.coverage import Coverage
from sam2ft.report.coverage import PlannedRun as CoveredRun
from sam2ft.report.html import render
from sam2ft.run.report_collect import collect
from sam2ft.run.report_folder import next_report
from sam2ft.run.report_page import page_of
from sam2ft.run.report_state import Files, Gathered, ReportOutcome, ReportRequest, ReportTables, RunState
from sam2ft.run.report_tables import collated

PAPERS: tuple[Callable[[Gathered], Files], ...] = ()
"""What is made for papers and models beside the page: each gives files by their path in the report."""


def report(request: ReportRequest) -> ReportOutcome:
    """Put every finished evaluation of the request's runs together, in the place of an earlier report.

    Only evaluations with `_SUCCESS` count whose tables are those that it names, made with the weights that the run
    holds now. What is left out is named in coverage.json and on the page. Errors: DataError when there is no run.
    """
    if not request.states:
        raise DataError(f"{request.title}: no planned run, there is nothing to report")
    with next_report(request.layout) as new:
        counted = collect(request.states)
        tables = collated(counted, new)
        comparison = comparison_of(request.states, tables)
        coverage = Coverage(tuple(_covered(state) for state in request.states))
        problems = (*request.problems, *counted.problems, *tables.problems)
        gathered = Gathered(request, tables, comparison, coverage, problems)
        write_csv(new.table("compare"), COMPARE, compare_rows(comparison))
        write_json(new.coverage, coverage.to_json(problems))
        for make in PAPERS:
            _put_all(new, make(gathered))
        page = page_of(gathered)
        _put_all(new, page.assets)
        write_text(new.page, render(page.data))
    return ReportOutcome(comparison, coverage, problems, request.layout.page)


def comparison_of(states: Sequence[RunState], tables: ReportTables) -> Comparison:
    """One line per point of the runs."""
    points = [point for state in states for point in points_of(state)]
    return compare(points, tables.rows("global"))


def points_of(state: RunState) -> list[PointRun]:
    """The points of the sweep that a run stands for; the baseline has no index."""
    status, planned = state.status, state.planned
    return [
        PointRun(
            index=None if planned.baseline else planned.index,
            name=point.name,
            run=planned.run_id,
            overrides=point.overrides,
            state=state.state,
            reason=state.reason,
            best_epoch=None if status is None else status.best_epoch,
            monitor=(status.monitor if status else None) or "val_loss",
            mode="max" if status is not None and status.mode == "max" else "min",
            validation=None if status is None or planned.baseline else status.best_value,
        )
        for point in planned.points
    ]


def _covered(state: RunState) -> CoveredRun:
    return CoveredRun(
        name=state.planned.name,
        run=state.planned.run_id,
        state=state.state,
        reason=state.reason,
        failure_class=state.failure_class,
        gpu_hours_planned=state.gpu_hours_planned,
        gpu_hours_used=state.gpu_hours_used,
    )


def _put_all(new: ReportLayout, files: Files) -> None:
    """Bytes, or copies of other files, at their places in the report."""
    for name, content in files.items():
        with replacing(new.folder / name) as partial:
            if isinstance(content, Path):
                shutil.copyfile(content, partial)
            else:
                partial.write_bytes(content)

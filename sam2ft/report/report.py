"""Creation of a report from the output files of any number of runs: result tables, comparison, HTML page. No torch.

The order is: select the evaluations that count (tables/collect), combine their tables (tables/collate), compare the
points, write the files for papers (PAPERS), and write index.html last. Everything is written into a new folder that
replaces the old report when it is complete (core/folders).
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from sam2ft.core.errors import DataError
from sam2ft.core.files import replacing, write_json, write_text
from sam2ft.core.tables.rows import write_csv
from sam2ft.report.comparison.compare import COMPARE, Comparison, compare, compare_rows
from sam2ft.report.comparison.improvement import IMPROVEMENT, Improvement, improvement_rows, improvements
from sam2ft.report.comparison.misses import LEVELS, MISSES, Misses, miss_rows, misses_of, new_misses
from sam2ft.report.comparison.point_tests import POINT_TESTS, point_test_rows
from sam2ft.report.comparison.rank_study import rank_study
from sam2ft.report.layout import ReportLayout
from sam2ft.report.page.figures import cached_page_program
from sam2ft.report.page.html import render_page
from sam2ft.report.page.page import page_of
from sam2ft.report.papers import papers
from sam2ft.report.request import (
    Files,
    Gathered,
    ReportOutcome,
    ReportRequest,
    ReportTables,
    RunState,
    baseline_of,
    points_of,
)
from sam2ft.report.tables.collate import collated
from sam2ft.report.tables.collect import collect_evaluations
from sam2ft.report.tables.coverage import Coverage, CoveredRun
from sam2ft.report.tables.failures import failed_rows, failure_counts, present_counts
from sam2ft.report.tables.folder import next_report
from sam2ft.runs.states import State

PAPERS: tuple[Callable[[Gathered], Files], ...] = (papers.texts, papers.tables)
"""Functions that make files for papers and models: each returns files by their path in the report."""


def report(request: ReportRequest) -> ReportOutcome:
    """Combine all finished evaluations of the requested runs into a report, which replaces an earlier one.

    An evaluation counts if it has `_SUCCESS`, its tables have the digests stored in `_SUCCESS`, and it was made with
    the weights that the run holds now. Everything that is left out is named in coverage.json and on the page.

    Raises:
        DataError: when the request contains no run, or files of an evaluation change while they are read.
    """
    if not request.states:
        raise DataError(f"{request.title}: no planned run, there is nothing to report")
    stopwatch, given = _Stopwatch(), request.states
    # A run that is given twice becomes one line; collect_evaluations checks that its evaluations are equal.
    request = replace(request, states=tuple({state.planned.run_id: state for state in given[::-1]}.values())[::-1])
    with next_report(request.layout) as new:
        combined = collated(collect_evaluations(given), request.layout, new)
        stopwatch("tables")
        comparison = comparison_of(request.states, combined.tables)
        tests = point_test_rows(comparison, combined.values)
        stopwatch("comparison")
        coverage = Coverage(tuple(_covered(state, combined.refused) for state in request.states))
        refused = [text for texts in combined.refused.values() for text in texts]
        problems = tuple(dict.fromkeys([*request.problems, *sorted(refused), *combined.notes]))
        misses, improved = _against_the_baseline(request.states, combined.tables, comparison)
        found = (tests, misses, improved, rank_study(combined.values))
        gathered = Gathered(request, combined.tables, comparison, coverage, problems, *found)
        _write_compared(new, gathered)
        write_json(new.coverage, coverage.to_json(problems))
        papers = {name: content for make in PAPERS for name, content in make(gathered).items()}
        _put_all(new, papers)
        page, assets = page_of(gathered, papers)
        _put_all(new, assets)
        write_text(new.page, render_page(page, partial(cached_page_program, request.layout.work)))
        stopwatch("page")
    return ReportOutcome(comparison, coverage, problems, request.layout.page, stopwatch.seconds)


class _Stopwatch:
    """Stopwatch: each call stores the seconds since the previous call."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def __call__(self, what: str) -> None:
        now = time.monotonic()
        self.seconds[what], self._last = now - self._last, now


def comparison_of(states: Sequence[RunState], tables: ReportTables) -> Comparison:
    """Comparison of all points of the runs, one line per point and evaluation."""
    baselines = {state.experiment: state.planned.run_id for state in states if state.planned.baseline}
    points = [point for state in states for point in points_of(state, baselines.get(state.experiment, ""))]
    return compare(points, tables.rows("global"))


def _against_the_baseline(
    states: Sequence[RunState], tables: ReportTables, comparison: Comparison
) -> tuple[Misses, tuple[Improvement, ...]]:
    """(failures of all runs, with the misses of the best point that its baseline finds, best point - baseline)."""
    best, baseline = comparison.best, baseline_of(states, comparison.best)
    runs = [run for run in dict.fromkeys((best, baseline)) if run]
    misses = misses_of(
        {level: failure_counts(tables, level) for level in LEVELS},
        {level: present_counts(tables, level, runs) for level in LEVELS},
        runs,
    )
    if best is None or baseline is None:
        return misses, ()
    new = new_misses(failed_rows(tables, runs), comparison, baseline)
    rows = [row for run in runs for row in tables.rows("volume", run)]
    return replace(misses, new=new), improvements(comparison, baseline, rows)


def _write_compared(new: ReportLayout, gathered: Gathered) -> None:
    """The tables that compare points."""
    best = gathered.comparison.best
    write_csv(new.table("compare"), COMPARE, compare_rows(gathered.comparison))
    write_csv(new.table("point_tests"), POINT_TESTS, gathered.tests)
    write_csv(new.table("misses"), MISSES, miss_rows(gathered.misses, best))
    improved = improvement_rows(gathered.improvements, best, baseline_of(gathered.states, best))
    write_csv(new.table("improvement"), IMPROVEMENT, improved)


def _covered(state: RunState, refused: Mapping[str, Sequence[str]]) -> CoveredRun:
    """Coverage of a run; a run that is done but has an evaluation that does not count is `uncounted`."""
    why = refused.get(state.planned.run_id, ())
    return CoveredRun(
        name=state.planned.name,
        run=state.planned.run_id,
        state=State.UNCOUNTED if why and state.state == State.DONE else state.state,
        reason=state.reason or "; ".join(why),
        failure_class=state.failure_class,
        gpu_hours_planned=state.gpu_hours_planned,
        gpu_hours_used=state.gpu_hours_used,
    )


def _put_all(new: ReportLayout, files: Files) -> None:
    """Write bytes, or copies of other files, to their paths in the report."""
    for name, content in files.items():
        with replacing(new.folder / name) as unfinished:
            if isinstance(content, Path):
                shutil.copyfile(content, unfinished)
            else:
                unfinished.write_bytes(content)

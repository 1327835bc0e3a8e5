"""Assembly of the page of a report: values, plots and pictures gathered from the runs. No torch."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from sam2ft.config.load_experiment import load_experiment
from sam2ft.config.schema.experiment import Experiment
from sam2ft.report.comparison.drawn import drawn_in_part
from sam2ft.report.page.agreement import agreement_of
from sam2ft.report.page.cases import cases_of
from sam2ft.report.page.content import (
    LabelSection,
    ReportData,
    SliceCase,
    SubjectSummary,
    label_sections,
    statistics_section,
)
from sam2ft.report.page.facts import facts_of
from sam2ft.report.page.figures import figure_files
from sam2ft.report.page.first_screen import first_screen
from sam2ft.report.page.html import render_subject
from sam2ft.report.page.plot_input import plot_input
from sam2ft.report.page.point_facts import costs_of, differences_of
from sam2ft.report.page.subjects import SubjectPage, subject_pages
from sam2ft.report.page.volumes import Assets, ShownVolume, shown_volumes
from sam2ft.report.papers.papers import PAPER_FILES
from sam2ft.report.plots.page_plots import page_plots
from sam2ft.report.request import Files, Gathered, RunState, baseline_of
from sam2ft.report.tables.failures import value_rows
from sam2ft.report.tables.folder import COMPARED

TABLE_FILES = (
    ("compare.csv", "one line per point"),
    ("global.csv", "per label and measure, over subjects"),
    ("volume.csv", "per volume and label"),
    ("slice.csv", "per slice and label"),
    ("instance.csv", "per prompt"),
    ("biomarker_global.csv", "agreement of biomarkers"),
    ("biomarker_volume.csv", "biomarkers per volume"),
    ("biomarker_slice.csv", "biomarkers per slice"),
    ("improvement.csv", "chosen point - baseline, per label"),
    ("misses.csv", "missed and spurious slices and volumes"),
    ("point_tests.csv", "tests against the chosen point, and ranks"),
    *PAPER_FILES,
    ("coverage.json", "what was planned and what became of it"),
)


def page_of(gathered: Gathered, papers: Files | None = None) -> tuple[ReportData, Files]:
    """Everything on the page of a report, and its files; `papers` holds the files for papers beside it."""
    papers = papers or {}
    states, tables, comparison = gathered.states, gathered.tables, gathered.comparison
    configs = _experiments(states)
    experiments = list(configs.values())
    baseline = baseline_of(states, comparison.best)
    shown = comparison.best or baseline
    names = gathered.names
    assets: Assets = {}
    sections = _label_sections(gathered, shown, baseline)
    cases, sheets = cases_of(states, shown, assets)
    given = plot_input(gathered, shown, baseline, sections[0].evaluation if sections else None)
    volumes = shown_volumes(states, shown, assets)
    pages = _subjects(gathered, shown, baseline, cases, volumes)
    trained = {state.planned.run_id for state in states if not state.planned.baseline}
    of_shown = (tables.rows("biomarker_global"), tables.rows("biomarker_volume", shown)) if shown else ([], [])
    data = ReportData(
        experiment=gathered.request.title,
        description=experiments[0].experiment.description if experiments else "",
        generated=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        coverage=gathered.coverage,
        comparison=comparison,
        first=first_screen(comparison, shown, configs.get(shown or ""), cases, gathered.misses, gathered.improvements),
        misses=gathered.misses,
        improvements=tuple(gathered.improvements),
        facts=facts_of(states, experiments, gathered.coverage),
        labels=sections,
        plots_of=page_plots(given),
        statistics=statistics_section(comparison, gathered.tests),
        agreement=agreement_of(names[shown], shown, *of_shown) if shown else (),
        label_sheets=sheets,
        cases=cases,
        volumes=volumes,
        failures=tuple(state for state in states if state.state.bad),
        problems=gathered.problems,
        files=tuple(
            (name, what)
            for name, what in TABLE_FILES
            if name.removesuffix(".csv") in (*tables.names, *COMPARED) or name in (*papers, "coverage.json")
        ),
        costs=costs_of(states, given.histories),
        differences=differences_of({names[run]: one for run, one in configs.items() if run in trained}),
        subjects=tuple(map(_summary, pages)),
        methods=_text(papers.get("methods.md", b"")),
    )
    figures = figure_files(data.plots, gathered.request.layout)
    return data, {**assets, **figures, **_rendered(pages, data.generated)}


def _label_sections(gathered: Gathered, shown: str | None, baseline: str | None) -> tuple[LabelSection, ...]:
    """Results per label of the shown run, each under the name of the point that was evaluated so."""
    if shown is None:
        return ()
    drawn = drawn_in_part(value_rows(gathered.tables, [shown]))
    known = (gathered.tables.rows("global"), baseline, gathered.misses, gathered.improvements)
    sections = label_sections(gathered.names[shown], shown, *known)
    name_of = gathered.comparison.name_of_evaluation
    return tuple(
        replace(one, point=name_of(shown, one.evaluation) or one.point, drawn=drawn.get(one.evaluation, ()))
        for one in sections
    )


def _subjects(
    gathered: Gathered,
    shown: str | None,
    baseline: str | None,
    cases: Sequence[SliceCase],
    volumes: Sequence[ShownVolume],
) -> tuple[SubjectPage, ...]:
    """The pages of subjects; without a chosen point, the baseline is what is shown."""
    roles = {run: role for run, role in ((baseline, "baseline"), (shown, "best")) if run}
    return subject_pages(gathered.request.title, gathered.tables, gathered.comparison, roles, cases, volumes)


def _summary(page: SubjectPage) -> SubjectSummary:
    chosen, baseline = page.means.get("best"), page.means.get("baseline")
    return SubjectSummary(page.subject, page.path, chosen, baseline, page.failed("best"), len(page.cases))


def _rendered(pages: Sequence[SubjectPage], generated: str) -> dict[str, bytes]:
    """Path -> content of the pages of subjects, each with links to its neighbours."""
    beside = zip(pages, (None, *pages), (*pages[1:], None), strict=False)
    return {page.path: render_subject(page, generated, before, after).encode() for page, before, after in beside}


def _text(content: bytes | Path) -> str:
    return (content.read_bytes() if isinstance(content, Path) else content).decode()


def _experiments(states: Sequence[RunState]) -> dict[str, Experiment]:
    """run_id -> its resolved configuration, of every run that has one."""
    having = [state for state in states if state.layout.config.is_file()]
    return {state.planned.run_id: load_experiment(state.layout.config).points[0].experiment for state in having}

"""Assembly of the page of a report: values, plots and pictures gathered from the runs. No torch."""

from collections.abc import Sequence
from datetime import UTC, datetime

from sam2ft.config.load_experiment import load_experiment
from sam2ft.config.schema.experiment import Experiment
from sam2ft.report.page.agreement import agreement_of
from sam2ft.report.page.cases import cases_of
from sam2ft.report.page.content import ReportData, label_sections, statistics_section
from sam2ft.report.page.facts import facts_of
from sam2ft.report.page.figures import figure_files
from sam2ft.report.page.first_screen import first_screen
from sam2ft.report.page.plot_input import plot_input
from sam2ft.report.page.volumes import Assets, shown_volumes
from sam2ft.report.papers.papers import PAPER_FILES
from sam2ft.report.plots.page_plots import page_plots
from sam2ft.report.request import Files, Gathered, RunState, baseline_of
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
    ("point_tests.csv", "tests against the best point, and ranks"),
    *PAPER_FILES,
    ("coverage.json", "what was planned and what became of it"),
)


def page_of(gathered: Gathered, papers: Sequence[str] = ()) -> tuple[ReportData, Files]:
    """Everything on the page of a report, and its files; `papers` holds the names of the files for papers beside it."""
    states, tables, comparison = gathered.states, gathered.tables, gathered.comparison
    experiments = _experiments(states)
    baseline = baseline_of(states, comparison.best)
    shown = comparison.best or baseline
    names = gathered.names
    assets: Assets = {}
    known = (tables.rows("global"), baseline, gathered.misses, gathered.improvements)
    sections = label_sections(names[shown], shown, *known) if shown else ()
    cases, sheets = cases_of(states, shown, assets)
    of_shown = (tables.rows("biomarker_global"), tables.rows("biomarker_volume", shown)) if shown else ([], [])
    data = ReportData(
        experiment=gathered.request.title,
        description=experiments[0].experiment.description if experiments else "",
        generated=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        coverage=gathered.coverage,
        comparison=comparison,
        first=first_screen(
            comparison, shown, _experiment_of(states, shown), cases, gathered.misses, gathered.improvements
        ),
        misses=gathered.misses,
        improvements=tuple(gathered.improvements),
        facts=facts_of(states, experiments, gathered.coverage),
        labels=sections,
        plots_of=page_plots(plot_input(gathered, shown, baseline, sections[0].evaluation if sections else None)),
        statistics=statistics_section(comparison, gathered.tests),
        agreement=agreement_of(names[shown], shown, *of_shown) if shown else (),
        label_sheets=sheets,
        cases=cases,
        volumes=shown_volumes(states, shown, assets),
        failures=tuple(state for state in states if state.state.bad),
        problems=gathered.problems,
        files=tuple(
            (name, what)
            for name, what in TABLE_FILES
            if name.removesuffix(".csv") in (*tables.names, *COMPARED) or name in (*papers, "coverage.json")
        ),
    )
    return data, {**assets, **figure_files(data.plots, gathered.request.layout)}


def _experiment_of(states: Sequence[RunState], shown: str | None) -> Experiment | None:
    """The configuration of a run; None where it has none, as masks that were made elsewhere."""
    own = [state for state in states if state.planned.run_id == shown]
    return next(iter(_experiments(own)), None)


def _experiments(states: Sequence[RunState]) -> list[Experiment]:
    """The resolved configuration of every run that has one."""
    configs = (state.layout.config for state in states)
    return [load_experiment(path).points[0].experiment for path in configs if path.is_file()]

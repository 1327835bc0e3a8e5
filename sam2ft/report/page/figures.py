"""Plots of a report and their figure files; files of unchanged plots are reused from the earlier report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sam2ft.core.files import read_json, write_text
from sam2ft.core.tables.rows import Row
from sam2ft.report.comparison.compare import ComparedEvaluation
from sam2ft.report.comparison.number_text import MEASURE_WORDS
from sam2ft.report.layout import ReportLayout
from sam2ft.report.page.content import SubjectScores, label_scores
from sam2ft.report.plots.files import SUFFIXES, page_program, plot_files, program_digest
from sam2ft.report.plots.results import comparison_plot, distribution_plot, label_plot, learning_plot
from sam2ft.report.plots.vega import Plot, json_text
from sam2ft.report.request import Gathered
from sam2ft.runs.history import history_values
from sam2ft.statistics.cohort import subject_values

DIGESTS = "figures/digests.json"


@dataclass(frozen=True)
class ResultPlots:
    """Plots by section of the page."""

    comparison: tuple[Plot, ...]
    labels: tuple[Plot, ...]
    distributions: tuple[Plot, ...]
    learning: tuple[Plot, ...]


def result_plots(
    gathered: Gathered, shown: str | None, baseline: str | None, evaluation: ComparedEvaluation | None
) -> ResultPlots:
    """Plots of the run `shown` together with the baseline; `evaluation` is the one used for the plots of labels."""
    names, tables = gathered.names, gathered.tables
    roles = {run: role for run, role in ((baseline, "baseline"), (gathered.comparison.best, "best")) if run}
    labels: tuple[Plot, ...] = ()
    distributions: list[SubjectScores] = []
    if evaluation is not None:
        labels = _some(label_plot(label_scores(names, roles, tables.rows("global"), evaluation)))
        for run in dict.fromkeys(run for run in (shown, baseline) if run):
            distributions += _of_subjects(tables.rows("volume", run), run, names[run], roles[run], evaluation)
    histories = {state.planned.name: history_values(state.layout) for state in gathered.states}
    histories = {name: rows for name, rows in histories.items() if rows}
    best = gathered.comparison.best
    return ResultPlots(
        comparison=_some(comparison_plot(gathered.comparison)),
        labels=labels,
        distributions=_some(distribution_plot(distributions)),
        learning=_some(learning_plot(histories, names[best] if best else None)),
    )


def _some(plot: Plot | None) -> tuple[Plot, ...]:
    return () if plot is None else (plot,)


def _of_subjects(
    volume_rows: Sequence[Row], run: str, point: str, role: str, evaluation: ComparedEvaluation
) -> list[SubjectScores]:
    """Values per subject of every label and measure of one run, for the dataset, split and protocol of `evaluation`."""
    alike = (evaluation.dataset, evaluation.split, evaluation.protocol)
    rows = [row for row in volume_rows if (row["dataset"], row["split"], row["protocol"]) == alike]
    found = []
    for one in subject_values(rows):
        label, measure = one.key["label"], str(one.key["measure"])
        if label not in (None, "") and measure in MEASURE_WORDS:
            values = {str(subject): value for (_, subject), value in one.values.items()}
            found.append(SubjectScores(int(label), str(one.key["label_name"]), point, run, role, measure, values))
    return found


def figure_files(plots: Sequence[Plot], earlier: ReportLayout) -> dict[str, bytes | Path]:
    """Path -> content of `figures/<name>.{svg,pdf,png}` of every plot, and of the file with their digests."""
    known = _digests(earlier)
    made: dict[str, bytes | Path] = {}
    digests = {plot.name: plot.digest() for plot in plots}
    for plot in plots:
        kept = {suffix: earlier.figures / f"{plot.name}.{suffix}" for suffix in SUFFIXES}
        unchanged = known.get(plot.name) == digests[plot.name] and all(path.is_file() for path in kept.values())
        files: Mapping[str, bytes | Path] = kept if unchanged else plot_files(plot)
        made |= {f"figures/{plot.name}.{suffix}": content for suffix, content in files.items()}
    if plots:
        made[DIGESTS] = json_text(digests).encode()
    return made


def _digests(earlier: ReportLayout) -> Mapping[str, str]:
    path = earlier.folder / DIGESTS
    return read_json(path) if path.is_file() else {}


def cached_page_program(work: Path) -> str:
    """The script of `plots.files.page_program()`, cached in `work` for all later reports."""
    path = work / f"vega-{program_digest()}.js"
    if not path.is_file():
        for left in work.glob("vega-*.js"):
            left.unlink()
        write_text(path, page_program())
    return path.read_text("utf-8")

"""All plots of the page by section, except those of biomarkers, which belong to a row of a table (agreement_plots).

A new plot is a function in this folder and a line of `PLOTS`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sam2ft.core.tables.rows import Row
from sam2ft.report.comparison.compare import Comparison
from sam2ft.report.comparison.effects import learning_curves, main_effects
from sam2ft.report.comparison.rank_study import RankStudy
from sam2ft.report.page.content import LabelScores, SubjectScores
from sam2ft.report.plots.curves import curve_plot, noise_plot
from sam2ft.report.plots.effect_plots import effect_plots, parallel_plot
from sam2ft.report.plots.rank_plots import rank_plot, significance_map
from sam2ft.report.plots.results import History, comparison_plot, distribution_plot, label_plot, learning_plot
from sam2ft.report.plots.subject_plots import paired_plot, size_plot, sized_slices
from sam2ft.report.plots.vega import Plot


@dataclass(frozen=True)
class PlotInput:
    """Everything from which plots are made."""

    comparison: Comparison
    tests: Sequence[Row] = ()
    """Rows of point_tests.csv."""
    labels: Sequence[LabelScores] = ()
    """Of all points on one evaluation."""
    subjects: Sequence[SubjectScores] = ()
    """Of the best point and the baseline on the same evaluation."""
    histories: Mapping[str, History] = field(default_factory=dict)
    """Name of a point -> rows of its history.csv."""
    num_subjects: Mapping[str, int] = field(default_factory=dict)
    """run_id -> number of training subjects, where the sweep changes it."""
    noise: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    """Name of a point -> rows of its prompt_noise_global.csv."""
    ranks: RankStudy = field(default_factory=RankStudy)
    overall: Sequence[SubjectScores] = ()
    """Mean over labels of the same runs, as label 0."""
    slices: Sequence[Row] = ()
    """Rows of slice.csv of the point that is shown, on the same evaluation."""


PLOTS: tuple[tuple[str, Callable[[PlotInput], Iterable[Plot | None]]], ...] = (
    ("comparison", lambda given: [comparison_plot(given.comparison)]),
    ("statistics", lambda given: [rank_plot(given.tests, given.comparison.best, given.ranks)]),
    ("statistics", lambda given: [significance_map(given.tests, given.ranks)]),
    ("statistics", lambda given: [parallel_plot(given.comparison)]),
    ("statistics", lambda given: [curve_plot(learning_curves(given.comparison, given.num_subjects))]),
    ("statistics", lambda given: [noise_plot(given.noise)]),
    ("effects", lambda given: effect_plots(main_effects(given.comparison))),
    ("labels", lambda given: [label_plot(given.labels)]),
    ("distributions", lambda given: [distribution_plot(given.subjects)]),
    ("pairs", lambda given: [paired_plot([*given.overall, *given.subjects])]),
    ("pairs", lambda given: [_sizes(given)]),
    ("learning", lambda given: [learning_plot(given.histories, given.comparison.name_of(given.comparison.best))]),
)
"""(section of the page, function that makes its plots), in the order of the page; None: there is nothing to show."""


def _sizes(given: PlotInput) -> Plot | None:
    slices, unit = sized_slices(given.slices)
    best = given.comparison.name_of(given.comparison.best)
    return size_plot(slices, unit, best or "initial weights")


def page_plots(given: PlotInput) -> dict[str, tuple[Plot, ...]]:
    """Section -> its plots; a section without plots is left out."""
    found: dict[str, tuple[Plot, ...]] = {}
    for section, make in PLOTS:
        if plots := tuple(plot for plot in make(given) if plot is not None):
            found[section] = (*found.get(section, ()), *plots)
    return found

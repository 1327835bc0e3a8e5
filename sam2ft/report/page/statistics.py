"""Statistics section of the page: tests between points, ranks, spread over seeds and effects of settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sam2ft.core.tables.rows import Row
from sam2ft.report.comparison.compare import Comparison
from sam2ft.report.comparison.effects import SeedGroup, learning_curves, main_effects, seed_groups
from sam2ft.report.plots.curves import curve_plot, noise_plot
from sam2ft.report.plots.effect_plots import effect_plots, parallel_plot, rank_plot
from sam2ft.report.plots.vega import Plot

MEASURE = "dice_slice_mean"


@dataclass(frozen=True)
class StatisticsSection:
    """Statistics of a comparison of at least two evaluated points."""

    tests: tuple[Row, ...]
    """Rows of point_tests.csv for MEASURE, sorted by rank; NaN becomes None."""
    best: str | None
    """run_id of the point against which the others are tested."""
    groups: tuple[SeedGroup, ...]
    wide: tuple[Plot, ...]
    """Ranks, parallel coordinates, curves."""
    effects: tuple[Plot, ...]

    @property
    def plots(self) -> tuple[Plot, ...]:
        return (*self.wide, *self.effects)


def statistics_section(
    comparison: Comparison,
    tests: Sequence[Row],
    num_subjects: Mapping[str, int],
    noise: Mapping[str, Sequence[Row]],
) -> StatisticsSection | None:
    """The statistics section, or None when there is nothing to compare.

    Args:
        comparison: the compared points.
        tests: rows of point_tests.csv.
        num_subjects: run_id -> number of training subjects.
        noise: name of a point -> rows of its prompt_noise_global.csv.
    """
    shown = sorted(
        (_plain(row) for row in tests if row["measure"] == MEASURE),
        key=lambda row: (str(row["dataset"]), str(row["split"]), str(row["protocol"]), float(row["rank"] or 0)),
    )
    optional = (
        rank_plot(tests, comparison.best),
        parallel_plot(comparison),
        curve_plot(learning_curves(comparison, num_subjects)),
        noise_plot(noise),
    )
    wide = tuple(plot for plot in optional if plot is not None)
    effects, groups = effect_plots(main_effects(comparison)), seed_groups(comparison)
    if len(shown) < 2 and not wide and not effects and not groups:
        return None
    return StatisticsSection(tuple(shown), comparison.best, groups, wide, effects)


def _plain(row: Row) -> Row:
    return {name: None if value != value else value for name, value in row.items()}  # noqa: PLR0124 (only NaN differs)

"""How firmly a ranking stands: shares of ranks on cohorts drawn anew, and which point is above which (challengeR)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sam2ft.core.grouping import grouped
from sam2ft.report.comparison.compare import MAIN_MEASURE
from sam2ft.report.comparison.point_tests import PointValues, with_values_alike
from sam2ft.statistics.paired_tests import superiority
from sam2ft.statistics.ranking import ranking

MOST_RANKED = 30
"""Maximum number of points in plots of ranks; all ranks are in point_tests.csv."""


@dataclass(frozen=True)
class RankStudy:
    """Of MAIN_MEASURE on the first dataset, split and protocol."""

    shares: Mapping[str, Mapping[float, float]] = field(default_factory=dict)
    """run_id -> rank -> share of the cohorts drawn anew on which the point has this rank."""
    above: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """(run_id, run_id) -> p that the first is not above the second, corrected over all pairs."""
    order: tuple[str, ...] = ()
    """run_id of the points in `above`, by rank: at most MOST_RANKED."""
    n: int = 0
    """Number of subjects that all points have."""
    how: tuple[str, str, str] | None = None
    """Dataset, split and protocol."""


def rank_study(values: Sequence[PointValues]) -> RankStudy:
    """Empty where there are too few points or subjects for a ranking."""
    of_measure = sorted((one for one in values if one.measure == MAIN_MEASURE), key=lambda one: one.evaluation.how)
    family = next(iter(grouped(of_measure, lambda one: one.evaluation.how).values()), [])
    named = {one.run: values for one, values in zip(family, with_values_alike(family), strict=True)}
    found = ranking(named)
    if found is None:
        return RankStudy()
    order = sorted(named, key=lambda run: found.ranks[run].rank)[:MOST_RANKED]
    return RankStudy(
        found.shares, superiority({run: named[run] for run in order}), tuple(order), found.n, family[0].evaluation.how
    )

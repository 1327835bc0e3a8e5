"""Intervals and tests of few subjects: when a bootstrap is too narrow, and what the smallest possible p is."""

import math
from collections.abc import Iterable, Sequence

from sam2ft.core.tables.rows import Row, number_in
from sam2ft.statistics.bootstrap import CONFIDENCE

FEW = 10
"""Below this number of subjects an interval is Student's t instead of a bootstrap: with 4 values a percentile bootstrap
of 95 % covers the mean in 81 % (tests/statistics/test_small_samples.py)."""
TOO_SMALL = "n is too small for a conclusion"
LEVEL = 0.05


def t_interval(mean: float, sd: float, n: int) -> tuple[float, float]:
    """95 % interval of the mean by Student's t, exact for normal values; NaN for fewer than two.

    Args:
        mean: mean of n values.
        sd: their standard deviation with divisor n - 1.
        n: number of subjects.
    """
    if n < 2 or math.isnan(sd):
        return math.nan, math.nan
    from scipy import special  # the import takes 0.3 s, which a plan on a login node need not wait for

    reach = float(special.stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * sd / math.sqrt(n)
    return mean - reach, mean + reach


def shown_interval(
    mean: float, sd: float | None, n: int, bootstrap: tuple[float | None, float | None], limits: tuple[float, float]
) -> tuple[float, float] | None:
    """The interval that pages and texts show: Student's t below FEW subjects, else the bootstrap interval of the table.

    It is cut at the limits of the measure, beyond which no mean can lie (a Dice above 1). None where there is none.
    """
    if n < 2:
        return None
    low, high = bootstrap
    if n < FEW and sd is not None:
        low, high = t_interval(mean, sd, n)
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return None
    return max(low, limits[0]), min(high, limits[1])


def limits_of(measure: str) -> tuple[float, float]:
    """Smallest and largest possible value of a measure; those of metrics of users are not known."""
    if measure in ("dice", "iou", "dice_slice_mean", "iou_slice_mean", "nsd"):
        return 0.0, 1.0
    return (0.0 if measure in ("hd_mm", "hd95_mm", "assd_mm") else -math.inf), math.inf


def with_shown_interval(row: Row) -> Row:
    """A row of a global table (measure, mean, sd, n, ci_low, ci_high) whose ci_low and ci_high are `shown_interval`."""
    found = _interval_in(row, ("mean", "sd", "n", "ci_low", "ci_high"), limits_of(str(row["measure"])))
    low, high = found or (None, None)
    return {**row, "ci_low": low, "ci_high": high}


def shown_difference(row: Row) -> tuple[float, float] | None:
    """`shown_interval` of a paired difference, from the row of a table that holds one; None where there is none.

    Its columns: measure, n_paired, difference, difference_sd, difference_ci_low, difference_ci_high.
    """
    smallest, largest = limits_of(str(row["measure"]))
    columns = ("difference", "difference_sd", "n_paired", "difference_ci_low", "difference_ci_high")
    return _interval_in(row, columns, (smallest - largest, largest))


def _interval_in(
    row: Row, columns: tuple[str, str, str, str, str], limits: tuple[float, float]
) -> tuple[float, float] | None:
    """`shown_interval` of a row; `columns` hold mean, standard deviation, number and both ends of the bootstrap."""
    mean, sd, n, low, high = (number_in(row, name) for name in columns)
    if math.isnan(mean) or math.isnan(n):
        return None
    return shown_interval(mean, None if math.isnan(sd) else sd, int(n), (low, high), limits)


def interval_words(sizes: Iterable[int]) -> str:
    """What the intervals of `shown_interval` are for means over these numbers of subjects; empty where none has one."""
    several = {n for n in sizes if n > 1}
    if not several:
        return ""
    if max(several) < FEW:
        return f"95 % confidence interval by Student's t, because there are fewer than {FEW} subjects"
    if min(several) >= FEW:
        return "95 % bootstrap confidence interval"
    return f"95 % confidence interval: by Student's t below {FEW} subjects, else by bootstrap"


def smallest_p(n: int) -> float:
    """The smallest p of a two-sided Wilcoxon signed-rank test of n differences other than 0: all have one sign."""
    return min(1.0, 2.0 ** (1 - n))


def can_be_significant(n: int, tests: int = 1) -> bool:
    """Whether any result of n subjects can have p below 0.05 after a correction (Holm) over `tests` tests."""
    return smallest_p(n) * tests < LEVEL


def sample_sd(values: Sequence[float]) -> float:
    """Standard deviation with divisor n - 1; NaN for fewer than two values."""
    if len(values) < 2:
        return math.nan
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))

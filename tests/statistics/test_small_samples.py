"""Few subjects: coverage of the intervals, and the smallest p that a test can give."""

import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp, wilcoxon

from sam2ft.statistics.bootstrap import bootstrap_interval
from sam2ft.statistics.small_samples import (
    FEW,
    can_be_significant,
    interval_words,
    sample_sd,
    shown_difference,
    shown_interval,
    smallest_p,
    t_interval,
    with_shown_interval,
)

COHORTS = 4000
EVERYWHERE = (-math.inf, math.inf)


def covered(n: int, mean: float = 0.85, sd: float = 0.05) -> float:
    """Share of simulated cohorts of n normal values whose shown interval holds the true mean."""
    draws = np.random.default_rng([19, n]).normal(mean, sd, (COHORTS, n))
    found = 0
    for values in draws:
        interval = shown_interval(float(values.mean()), sample_sd(list(values)), n, (None, None), EVERYWHERE)
        assert interval is not None
        found += interval[0] <= mean <= interval[1]
    return found / COHORTS


@pytest.mark.parametrize("n", [3, 4, 5, 8])
def test_the_interval_of_few_subjects_covers_what_it_promises(n: int) -> None:
    assert 0.93 <= covered(n) <= 0.97


def test_the_bootstrap_of_four_subjects_does_not_which_is_why_it_is_not_shown() -> None:
    draws = np.random.default_rng(4).normal(0.85, 0.05, (400, 4))
    ends = [bootstrap_interval(values, resamples=1000) for values in draws]
    assert np.mean([low <= 0.85 <= high for low, high in ends]) < 0.88


@pytest.mark.parametrize("values", [[0.9, 0.8], [0.9, 0.91, 0.7], [-3.0, 5.0, 0.1, 2.2]])
def test_the_interval_is_that_of_the_t_test(values: list[float]) -> None:
    low, high = t_interval(float(np.mean(values)), sample_sd(values), len(values))
    theirs = ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (low, high) == (pytest.approx(theirs.low), pytest.approx(theirs.high))


def test_one_subject_has_no_interval_and_many_keep_their_bootstrap() -> None:
    assert shown_interval(0.8, math.nan, 1, (None, None), EVERYWHERE) is None
    assert shown_interval(0.8, 0.1, FEW, (0.7, 0.9), EVERYWHERE) == (0.7, 0.9)
    assert shown_interval(0.8, 0.1, FEW - 1, (0.7, 0.9), EVERYWHERE) != (0.7, 0.9)
    assert shown_interval(0.8, None, 4, (0.7, 0.9), EVERYWHERE) == (0.7, 0.9)


def test_no_interval_of_a_dice_leaves_its_range_and_none_of_few_loses_coverage_by_it() -> None:
    assert shown_interval(0.95, 0.1, 3, (None, None), (0.0, 1.0)) == (pytest.approx(0.7016, abs=1e-4), 1.0)


@pytest.mark.parametrize("n", range(1, 9))
def test_the_smallest_p_is_that_of_differences_of_one_sign(n: int) -> None:
    assert smallest_p(n) == pytest.approx(float(wilcoxon(np.arange(1, n + 1), method="exact").pvalue))


def test_below_six_subjects_nothing_can_be_significant_and_later_after_a_correction() -> None:
    assert [n for n in range(1, 12) if not can_be_significant(n)] == [1, 2, 3, 4, 5]
    assert not can_be_significant(6, tests=2)
    assert can_be_significant(9, tests=8)


@pytest.mark.parametrize(
    ("sizes", "student", "bootstrap"),
    [((4, 9), True, False), ((10, 40), False, True), ((4, 10), True, True), ((1, 12), False, True)],
)
def test_the_words_of_an_interval_are_those_of_how_it_was_made(
    sizes: tuple[int, ...], student: bool, bootstrap: bool
) -> None:
    words = interval_words(sizes)
    assert ("Student's t" in words, "bootstrap" in words) == (student, bootstrap)


@pytest.mark.parametrize("sizes", [(), (1,), (0, 1)])
def test_where_no_mean_has_an_interval_there_are_no_words(sizes: tuple[int, ...]) -> None:
    assert interval_words(sizes) == ""


def row_of(values: np.ndarray, measure: str = "dice") -> dict[str, object]:
    """The columns of a table for a mean of values, and for a mean of differences."""
    low, high = bootstrap_interval(values)
    mean, sd, n = float(values.mean()), float(values.std(ddof=1)), len(values)
    summary = {"mean": mean, "sd": sd, "n": n, "ci_low": low, "ci_high": high}
    difference = {"difference": mean, "difference_sd": sd, "n_paired": n}
    return {"measure": measure, **summary, **difference, "difference_ci_low": low, "difference_ci_high": high}


@pytest.mark.parametrize("n", [4, 9, 10, 30])
def test_rows_of_means_and_of_differences_show_one_interval_by_one_rule(n: int) -> None:
    row = row_of(np.random.default_rng(n).normal(0.6, 0.05, n))
    ends = (row["ci_low"], row["ci_high"]) if n >= FEW else t_interval(row["mean"], row["sd"], n)
    assert shown_difference(row) == pytest.approx(ends)
    shown = with_shown_interval(row)
    assert (shown["ci_low"], shown["ci_high"]) == pytest.approx(ends)
    assert {**shown, "ci_low": row["ci_low"], "ci_high": row["ci_high"]} == row


@pytest.mark.parametrize(
    "missing", [{"mean": None, "difference": None}, {"n": 1, "n_paired": 1}, {"mean": math.nan, "difference": math.nan}]
)
def test_a_row_without_an_interval_shows_none(missing: dict[str, object]) -> None:
    row = row_of(np.array([0.5, 0.6, 0.7])) | {"ci_low": None, "ci_high": None} | missing
    shown = with_shown_interval(row)
    assert (shown["ci_low"], shown["ci_high"]) == (None, None)
    assert shown_difference(row) is None


def test_a_difference_of_dice_may_reach_minus_one_and_a_mean_may_not() -> None:
    row = row_of(np.array([-0.9, -0.1, 0.4]))
    assert shown_difference(row)[0] == -1
    assert with_shown_interval(row)["ci_low"] == 0

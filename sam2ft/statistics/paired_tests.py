"""Paired comparison of two predictions: mean difference, Wilcoxon signed-rank test, effect size, Holm correction."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from sam2ft.statistics.bootstrap import RESAMPLES, bootstrap_interval

Subject = TypeVar("Subject", bound=Hashable)


@dataclass(frozen=True)
class Paired:
    """Comparison second - first over the subjects with a value in both; NaN if n is too small."""

    n: int
    difference: float
    ci_low: float
    """Lower end of the 95 % bootstrap interval (over subjects) of the mean difference."""
    ci_high: float
    p: float
    """p value of the two-sided Wilcoxon signed-rank test without differences of 0; 1 if all differences are 0."""
    effect: float = math.nan
    """Matched-pairs rank-biserial correlation (Kerby 2014), -1 to 1: share of the rank sum that positive differences
    have, minus the share of negative differences; 0 if all differences are 0."""
    sd: float = math.nan
    """Standard deviation of the differences with divisor n - 1."""


def paired(
    first: Mapping[Subject, float], second: Mapping[Subject, float], *, seed: int = 0, resamples: int = RESAMPLES
) -> Paired:
    """Compare two predictions with one value per subject; neither mapping contains NaN."""
    both = sorted(first.keys() & second.keys(), key=str)
    if not both:
        return Paired(0, *(math.nan,) * 4)
    differences = np.array([second[one] - first[one] for one in both], dtype=np.float64)
    low, high = bootstrap_interval(differences, seed=seed, resamples=resamples)
    tests = _wilcoxon(differences), rank_biserial(differences)
    sd = float(differences.std(ddof=1)) if len(both) > 1 else math.nan
    return Paired(len(both), float(differences.mean()), low, high, *tests, sd)


def _wilcoxon(differences: np.ndarray) -> float:
    if not differences.any():
        return 1.0
    from scipy.stats import wilcoxon

    return float(wilcoxon(differences, zero_method="wilcox", method="auto").pvalue)


def superiority(values: Mapping[str, Mapping[Subject, float]]) -> dict[tuple[str, str], float]:
    """(first, second) -> p that the first is not above the second, of all ordered pairs, corrected after Holm over all.

    Wilcoxon's signed-rank test, one-sided, over the subjects that both have; NaN without such subjects. As in the
    significance maps of challengeR (Wiesenfarth et al. 2021, doi:10.1038/s41598-021-82017-6).
    """
    pairs = [(first, second) for first in values for second in values if first != second]
    found = holm([_above(values[first], values[second]) for first, second in pairs])
    return dict(zip(pairs, found, strict=True))


def _above(first: Mapping[Subject, float], second: Mapping[Subject, float]) -> float:
    both = sorted(first.keys() & second.keys(), key=str)
    differences = np.array([first[one] - second[one] for one in both], dtype=np.float64)
    if not both:
        return math.nan
    if not differences.any():
        return 1.0
    from scipy.stats import wilcoxon

    return float(wilcoxon(differences, zero_method="wilcox", alternative="greater", method="auto").pvalue)


def rank_biserial(differences: np.ndarray) -> float:
    """Rank-biserial correlation by Kerby's simple difference formula, on the Wilcoxon ranks; ignores zeros."""
    from scipy.stats import rankdata

    nonzero = differences[differences != 0]
    if not len(nonzero):
        return 0.0
    ranks = rankdata(np.abs(nonzero))
    return float((ranks * np.sign(nonzero)).sum() / ranks.sum())


def holm(p_values: Sequence[float]) -> list[float]:
    """p values with Holm correction for multiple tests (1979), in the given order; NaN stays and is not counted."""
    order = sorted((p, position) for position, p in enumerate(p_values) if not math.isnan(p))
    corrected, largest = list(p_values), 0.0
    for rank, (p, position) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        corrected[position] = largest
    return corrected

"""Two predictions of the same subjects: their paired difference, how sure it is, and correction for many looks."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from sam2ft.statistics.bootstrap import RESAMPLES, bootstrap_interval

Subject = TypeVar("Subject", bound=Hashable)


@dataclass(frozen=True)
class Paired:
    """Second minus first, over the subjects that both have a value of; NaN where n is too small."""

    n: int
    difference: float
    ci_low: float
    """95 % bootstrap interval of the mean difference, over subjects."""
    ci_high: float
    p: float
    """Wilcoxon's signed-rank test, two-sided; differences of 0 are left out, and 1 where there is no other."""
    effect: float = math.nan
    """Matched-pairs rank-biserial correlation (Kerby 2014), -1 to 1: the share of the ranks of the differences that
    favour the second minus the share that favour the first; 0 where nothing differs."""


def paired(
    first: Mapping[Subject, float], second: Mapping[Subject, float], *, seed: int = 0, resamples: int = RESAMPLES
) -> Paired:
    """Compare one value per subject; neither mapping holds NaN."""
    both = sorted(first.keys() & second.keys(), key=str)
    if not both:
        return Paired(0, *(math.nan,) * 4)
    differences = np.array([second[one] - first[one] for one in both], dtype=np.float64)
    low, high = bootstrap_interval(differences, seed=seed, resamples=resamples)
    return Paired(len(both), float(differences.mean()), low, high, _wilcoxon(differences), rank_biserial(differences))


def _wilcoxon(differences: np.ndarray) -> float:
    if not differences.any():
        return 1.0
    from scipy.stats import wilcoxon

    return float(wilcoxon(differences, zero_method="wilcox", method="auto").pvalue)


def rank_biserial(differences: np.ndarray) -> float:
    """Kerby's simple difference formula on the ranks that Wilcoxon's test sums; differences of 0 are left out."""
    from scipy.stats import rankdata

    moved = differences[differences != 0]
    if not len(moved):
        return 0.0
    ranks = rankdata(np.abs(moved))
    return float((ranks * np.sign(moved)).sum() / ranks.sum())


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values corrected after Holm (1979), in their order; NaN stays and counts for nothing."""
    order = sorted((p, position) for position, p in enumerate(p_values) if not math.isnan(p))
    corrected, largest = list(p_values), 0.0
    for rank, (p, position) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        corrected[position] = largest
    return corrected

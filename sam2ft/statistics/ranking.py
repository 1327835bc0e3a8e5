"""Stability (uncertainty) of a ranking: bootstrap over subjects of the ranks of several predictions."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Subject = TypeVar("Subject", bound=Hashable)
Values = npt.NDArray[np.float64]

RESAMPLES = 1_000
FEWEST = 3
"""Smallest number of subjects for which a bootstrap of a ranking is meaningful."""


@dataclass(frozen=True)
class Rank:
    """Rank of one prediction; rank 1 has the highest mean, ties get the mean of their ranks."""

    rank: float
    median: float
    """Median of the ranks on the bootstrap cohorts."""
    low: float
    """2.5th percentile of those ranks; `high` is the 97.5th."""
    high: float
    first: float
    """Share of the bootstrap cohorts on which it is the best; a tie for the best is divided equally."""


@dataclass(frozen=True)
class Ranking:
    """Ranks by the mean over the subjects that have a value for every prediction."""

    ranks: Mapping[str, Rank]
    """Name -> rank, in the given order."""
    n: int
    """Number of these subjects."""
    shares: Mapping[str, Mapping[float, float]] = field(default_factory=dict)
    """Name -> rank -> share of the bootstrap cohorts on which it has this rank; shares of 0 are left out."""


def ranking(
    values: Mapping[str, Mapping[Subject, float]], *, seed: int = 0, resamples: int = RESAMPLES
) -> Ranking | None:
    """Bootstrap of a ranking over subjects (Wiesenfarth et al. 2021, doi:10.1038/s41598-021-82017-6); higher is better.

    Args:
        values: name -> subject -> value, without NaN.
        seed: seed of the bootstrap.
        resamples: number of bootstrap cohorts.

    Returns:
        None for fewer than two names, or fewer than FEWEST subjects with a value for every name.
    """
    shared = set.intersection(*(set(one) for one in values.values())) if values else set()
    if len(values) < 2 or len(shared) < FEWEST:
        return None
    subjects = sorted(shared, key=str)
    table = np.array([[one[subject] for subject in subjects] for one in values.values()], dtype=np.float64)
    drawn = np.random.default_rng([seed, len(subjects)]).integers(0, len(subjects), size=(resamples, len(subjects)))
    # Counts instead of indices, so that one matrix product gives the means of all names on all cohorts.
    counts = np.apply_along_axis(np.bincount, 1, drawn, minlength=len(subjects))
    observed = _ranks(table.mean(axis=1)[None])[0]
    resampled = _ranks((counts @ table.T) / len(subjects))
    low, median, high = np.quantile(resampled, (0.025, 0.5, 0.975), axis=0)
    best = resampled == resampled.min(axis=1, keepdims=True)
    first = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    ranks = zip(observed, median, low, high, first, strict=True)
    named = {name: Rank(*(float(number) for number in one)) for name, one in zip(values, ranks, strict=True)}
    shares = {name: _shares(resampled[:, position]) for position, name in enumerate(values)}
    return Ranking(named, len(subjects), shares)


def _shares(ranks: Values) -> dict[float, float]:
    found, counts = np.unique(ranks, return_counts=True)
    return {float(rank): float(count) / len(ranks) for rank, count in zip(found, counts, strict=True)}


def _ranks(means: Values) -> Values:
    """(cohorts, names) means -> ranks along the names, 1 for the highest.

    Means are rounded to 12 digits, so that the order of summation does not break ties.
    """
    from scipy.stats import rankdata

    ranks: Values = rankdata(-np.round(means, 12), axis=1)
    return ranks

"""How firmly a ranking of several predictions stands: the ranks again, on subjects drawn anew."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Subject = TypeVar("Subject", bound=Hashable)
Values = npt.NDArray[np.float64]

RESAMPLES = 1_000
FEWEST = 3
"""Subjects below which drawing again says nothing about a ranking."""


@dataclass(frozen=True)
class Rank:
    """One of the ranked; rank 1 has the highest mean, ties share the mean of their ranks."""

    rank: float
    median: float
    """Of the ranks on the drawn cohorts."""
    low: float
    """2.5 % of those ranks are below."""
    high: float
    first: float
    """Share of the drawn cohorts on which it is the best; of a tie for the best, its part."""


@dataclass(frozen=True)
class Ranking:
    """Ranks by the mean over the subjects that all have a value of."""

    ranks: Mapping[str, Rank]
    """By name, in the order given."""
    n: int
    """Those subjects."""


def ranking(
    values: Mapping[str, Mapping[Subject, float]], *, seed: int = 0, resamples: int = RESAMPLES
) -> Ranking | None:
    """Bootstrap of a ranking over subjects (Wiesenfarth et al. 2021, doi:10.1038/s41598-021-82017-6); higher is better.

    None with fewer than two names, or fewer than FEWEST subjects that all of them have a value of. No NaN in `values`.
    """
    shared = set.intersection(*(set(one) for one in values.values())) if values else set()
    if len(values) < 2 or len(shared) < FEWEST:
        return None
    subjects = sorted(shared, key=str)
    table = np.array([[one[subject] for subject in subjects] for one in values.values()], dtype=np.float64)
    drawn = np.random.default_rng([seed, len(subjects)]).integers(0, len(subjects), size=(resamples, len(subjects)))
    # Counts instead of indices: the means of all names on all cohorts are then one matrix product.
    counts = np.apply_along_axis(np.bincount, 1, drawn, minlength=len(subjects))
    ours = _ranks(table.mean(axis=1)[None])[0]
    theirs = _ranks((counts @ table.T) / len(subjects))
    low, median, high = np.quantile(theirs, (0.025, 0.5, 0.975), axis=0)
    best = theirs == theirs.min(axis=1, keepdims=True)
    first = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    ranks = zip(ours, median, low, high, first, strict=True)
    named = {name: Rank(*(float(number) for number in one)) for name, one in zip(values, ranks, strict=True)}
    return Ranking(named, len(subjects))


def _ranks(means: Values) -> Values:
    """(cohorts, names) means -> ranks along the names, 1 for the highest.

    Rounding to 12 digits: the order of summation must not tell equal means apart.
    """
    from scipy.stats import rankdata

    ranks: Values = rankdata(-np.round(means, 12), axis=1)
    return ranks

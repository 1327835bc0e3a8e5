"""Bootstrap confidence intervals (BCa) of means over subjects, and summary statistics."""

import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Subject = TypeVar("Subject", bound=Hashable)

RESAMPLES = 10_000
CONFIDENCE = 0.95
SAME = 1e-12
# With fewer subjects the jackknife estimate of skewness is unreliable: plain percentiles are used instead of BCa.
FEWEST_FOR_BCA = 5
# Number of drawn indices in memory at once: 32 MB, for any number of subjects.
_BLOCK = 4_000_000


@dataclass(frozen=True)
class Summary:
    """Summary statistics of one measure over subjects; NaN if n is too small (sd and interval: below 2)."""

    n: int
    mean: float
    sd: float
    """Standard deviation with divisor n - 1."""
    median: float
    q25: float
    q75: float
    ci_low: float
    """Lower end of the 95 % confidence interval of the mean."""
    ci_high: float


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % confidence interval; NaN where there is none."""

    value: float
    low: float = math.nan
    high: float = math.nan

    def root(self) -> "Estimate":
        """Square root of the value and of both ends of the interval."""
        return Estimate(math.sqrt(self.value), math.sqrt(self.low), math.sqrt(self.high))

    def times(self, factor: float) -> "Estimate":
        """Value and interval multiplied by a factor above 0."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)


def subject_means(values: Iterable[tuple[Subject, float]]) -> dict[Subject, float]:
    """Subject -> mean of its values without NaN; subjects without a value are excluded, the others are sorted.

    A subject with many volumes has the same weight as a subject with a single volume.
    """
    found: dict[Subject, list[float]] = {}
    for subject, value in values:
        if not math.isnan(value):
            found.setdefault(subject, []).append(value)
    ordered = sorted(found, key=str)
    return {subject: math.fsum(found[subject]) / len(found[subject]) for subject in ordered}


def summary(values: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES) -> Summary:
    """Summary of one value per subject; values contain no NaN. With `resamples` = 0 the interval is NaN."""
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        return Summary(0, *(math.nan,) * 7)
    q25, median, q75 = (float(value) for value in np.quantile(array, (0.25, 0.5, 0.75)))
    sd = float(array.std(ddof=1)) if len(array) > 1 else math.nan
    low, high = bootstrap_interval(array, seed=seed, resamples=resamples) if resamples else (math.nan, math.nan)
    return Summary(len(array), float(array.mean()), sd, median, q25, q75, low, high)


def bootstrap_interval(values: Values, *, seed: int = 0, resamples: int = RESAMPLES) -> tuple[float, float]:
    """95 % bootstrap interval of the mean: bias-corrected and accelerated (BCa; Efron 1987).

    Plain percentiles for fewer than 5 values, NaN for fewer than two. If all values are equal up to rounding, both
    ends are this value.
    """
    if len(values) < 2:
        return math.nan, math.nan
    if are_equal(values):
        return float(values[0]), float(values[0])
    means = resampled_means(values, seed=seed, resamples=resamples)
    shares = np.array([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    if len(values) >= FEWEST_FOR_BCA:
        shares = _bca_shares(values, means, shares)
    low, high = np.quantile(means, shares)
    return float(low), float(high)


def are_equal(values: Values) -> bool:
    """Whether all values are equal up to rounding errors, so that their spread has no meaning."""
    return bool(np.ptp(values) <= SAME * np.abs(values).max())


def resampled_means(values: Values, *, seed: int, resamples: int) -> Values:
    """(resamples,) means of values drawn with replacement; draws depend only on the seed and the number of values."""
    drawn = _cached_draws if len(values) * resamples <= _BLOCK else _draws
    return np.concatenate([values[rows].mean(axis=1) for rows in drawn(seed, len(values), resamples)])


def _draws(seed: int, n: int, resamples: int) -> Iterator[Indices]:
    """Blocks of (resamples, n) indices."""
    rng = np.random.default_rng([seed, n])
    rows = max(1, _BLOCK // n)
    for start in range(0, resamples, rows):
        yield rng.integers(0, n, size=(min(rows, resamples - start), n))


@lru_cache(maxsize=2)
def _cached_draws(seed: int, n: int, resamples: int) -> tuple[Indices, ...]:
    """Cached `_draws` for few subjects: drawing is six times slower than the means, and a table has many measures."""
    return tuple(_draws(seed, n, resamples))


def _bca_shares(values: Values, means: Values, shares: Values) -> Values:
    """Percentiles to use instead of `shares`: BCa correction for bias and skewness."""
    center = values.mean()
    below = (np.count_nonzero(means < center) + np.count_nonzero(means <= center)) / (2 * len(means))
    from scipy import special  # the import takes 0.3 s, which a plan on a login node need not wait for

    bias = special.ndtri(below)
    left_out = (values.sum() - values) / (len(values) - 1)
    deviations = left_out.mean() - left_out
    skewness = (deviations**3).sum() / (6 * (deviations**2).sum() ** 1.5)
    z = bias + special.ndtri(shares)
    corrected: Values = special.ndtr(bias + z / (1 - skewness * z))
    return corrected

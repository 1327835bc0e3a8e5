"""Intraclass correlation coefficients (ICC) of n subjects and k raters, with the intervals of McGraw and Wong 1996."""

import numpy as np
import numpy.typing as npt
from scipy import special

from sam2ft.statistics.bootstrap import CONFIDENCE, Estimate

Ratings = npt.NDArray[np.float64]
UPPER = (1 + CONFIDENCE) / 2


def _mean_squares(ratings_nk: Ratings) -> tuple[float, float, float]:
    """Mean squares of subjects, raters and error in a two-way analysis of variance (ANOVA) without replicates."""
    n, k = ratings_nk.shape
    of_subjects, of_raters = ratings_nk.mean(axis=1, keepdims=True), ratings_nk.mean(axis=0, keepdims=True)
    mean = of_raters.mean()
    rest = ratings_nk - of_subjects - of_raters + mean
    return (
        float(k * ((of_subjects - mean) ** 2).sum()) / (n - 1),
        float(n * ((of_raters - mean) ** 2).sum()) / (k - 1),
        float((rest**2).sum()) / ((n - 1) * (k - 1)),
    )


def icc_c1(ratings_nk: Ratings) -> Estimate:
    """ICC(C,1), ICC(3,1) of Shrout and Fleiss: consistency; ignores a constant difference between raters.

    The interval is that of F; like `icc_a1`, it needs at least 2 subjects (rows) that differ and 2 raters (columns).
    1 if the residual is 0.
    """
    (n, k), (subjects, _, error) = ratings_nk.shape, _mean_squares(ratings_nk)
    if error == 0:
        return Estimate(1.0, 1.0, 1.0)
    numerator, freedom = n - 1, (n - 1) * (k - 1)
    ratio = subjects / error
    ends = ratio / special.fdtri(numerator, freedom, UPPER), ratio * special.fdtri(freedom, numerator, UPPER)
    value, low, high = ((end - 1) / (end + k - 1) for end in (ratio, *ends))
    return Estimate(float(value), float(low), float(high))


def icc_a1(ratings_nk: Ratings) -> Estimate:
    """ICC(A,1), ICC(2,1) of Shrout and Fleiss: absolute agreement of single measurements, two-way model."""
    (n, k), (subjects, raters, error) = ratings_nk.shape, _mean_squares(ratings_nk)
    between = k * raters + (k * n - k - n) * error
    value = n * (subjects - error) / (n * subjects + between)
    if raters == 0 and error == 0:
        return Estimate(1.0, 1.0, 1.0)
    # Satterthwaite's degrees of freedom, multiplied out to avoid a division by zero if the error is 0.
    weight = n * (1 + (k - 1) * value) - k * value
    of_raters, of_error = k * value * raters, weight * error
    freedom = (n - 1) * (k - 1) * (of_raters + of_error) ** 2 / ((n - 1) * of_raters**2 + of_error**2)
    below, above = special.fdtri(n - 1, freedom, UPPER), special.fdtri(freedom, n - 1, UPPER)
    return Estimate(
        value,
        float(n * (subjects - below * error) / (below * between + n * subjects)),
        float(n * (above * subjects - error) / (between + n * above * subjects)),
    )

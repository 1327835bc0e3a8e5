"""Intraclass correlation coefficients (ICC) of n subjects and k raters, with the intervals of McGraw and Wong 1996."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from sam2ft.statistics.bootstrap import CONFIDENCE, Estimate

Ratings = npt.NDArray[np.float64]
UPPER = (1 + CONFIDENCE) / 2


@dataclass(frozen=True)
class MeanSquares:
    """Mean squares of a two-way analysis of variance (ANOVA) without replicates."""

    n: int
    """Subjects (rows)."""
    k: int
    """Raters (columns)."""
    subjects: float
    raters: float
    error: float


def mean_squares(ratings_nk: Ratings) -> MeanSquares:
    """Mean squares of a table (subjects, raters) with at least 2 of each."""
    n, k = ratings_nk.shape
    of_subjects, of_raters = ratings_nk.mean(axis=1, keepdims=True), ratings_nk.mean(axis=0, keepdims=True)
    mean = of_raters.mean()
    rest = ratings_nk - of_subjects - of_raters + mean
    return MeanSquares(
        n=n,
        k=k,
        subjects=float(k * ((of_subjects - mean) ** 2).sum()) / (n - 1),
        raters=float(n * ((of_raters - mean) ** 2).sum()) / (k - 1),
        error=float((rest**2).sum()) / ((n - 1) * (k - 1)),
    )


def icc_c1(squares: MeanSquares) -> Estimate:
    """ICC(C,1), ICC(3,1) of Shrout and Fleiss: consistency; ignores a constant difference between raters.

    The interval is that of F; like `icc_a1`, it needs subjects that differ. 1 if the residual is 0.
    """
    if squares.error == 0:
        return Estimate(1.0, 1.0, 1.0)
    numerator, freedom = squares.n - 1, (squares.n - 1) * (squares.k - 1)
    ratio = squares.subjects / squares.error
    ends = ratio / special.fdtri(numerator, freedom, UPPER), ratio * special.fdtri(freedom, numerator, UPPER)
    value, low, high = ((end - 1) / (end + squares.k - 1) for end in (ratio, *ends))
    return Estimate(float(value), float(low), float(high))


def icc_a1(squares: MeanSquares) -> Estimate:
    """ICC(A,1), ICC(2,1) of Shrout and Fleiss: absolute agreement of single measurements, two-way model."""
    n, k, raters, error = squares.n, squares.k, squares.raters, squares.error
    between = k * raters + (k * n - k - n) * error
    value = n * (squares.subjects - error) / (n * squares.subjects + between)
    if raters == 0 and error == 0:
        return Estimate(1.0, 1.0, 1.0)
    # Satterthwaite's degrees of freedom, multiplied out to avoid a division by zero if the error is 0.
    weight = n * (1 + (k - 1) * value) - k * value
    of_raters, of_error = k * value * raters, weight * error
    freedom = (n - 1) * (k - 1) * (of_raters + of_error) ** 2 / ((n - 1) * of_raters**2 + of_error**2)
    below, above = special.fdtri(n - 1, freedom, UPPER), special.fdtri(freedom, n - 1, UPPER)
    return Estimate(
        value,
        float(n * (squares.subjects - below * error) / (below * between + n * squares.subjects)),
        float(n * (above * squares.subjects - error) / (between + n * above * squares.subjects)),
    )

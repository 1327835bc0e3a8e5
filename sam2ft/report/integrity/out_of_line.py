"""Values of a cohort that are out of line: far from the median, by the median absolute deviation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ROBUST_SDS = 5.0
"""A value is out of line when it is farther from the median than this many robust standard deviations ..."""
SD_OF_MAD = 1.4826
"""... which are this many median absolute deviations (the factor of a normal distribution)."""
FEWEST_JUDGED = 8
"""Of fewer values the deviation says little: they are compared with the median alone, by a wider factor."""
FEWEST_COMPARED = 3
"""Of fewer values none is out of line."""
MIXED_SHARE = 0.2
"""Where more than this part of the values is out of line, there are several kinds of values, not outliers."""


@dataclass(frozen=True)
class Tolerance:
    """Factors by which a value may always differ from the median."""

    factor: float
    """With FEWEST_JUDGED values or more, also where most values are the same."""
    of_few: float
    """With fewer."""


SPACING = Tolerance(1.1, 1.5)
VOLUME = Tolerance(2.0, 3.0)
INTENSITY = Tolerance(2.0, 5.0)


@dataclass(frozen=True)
class Judged:
    """What is out of line among some values."""

    outside: tuple[int, ...]
    """Positions of the values."""
    median: float
    is_mixed: bool = False
    """Whether they are too many to be outliers."""


def judged(values: Sequence[float], tolerance: Tolerance) -> Judged:
    """Which of some positive values are out of line, by the rule above on their logarithms.

    Raises:
        ValueError: a value is not above 0.
    """
    logs = np.log(np.asarray(values, dtype=np.float64)) if min(values, default=1) > 0 else None
    if logs is None:
        raise ValueError("a value is not above 0")
    return _judged(logs, math.log(tolerance.factor), math.log(tolerance.of_few), is_log=True)


def judged_signed(values: Sequence[float], ranges: Sequence[float]) -> Judged:
    """As `judged`, for values that may be 0 or below: by differences, of at least half the typical range.

    Args:
        ranges: the range of intensities of each volume.
    """
    least = 0.5 * float(np.median(ranges)) if ranges else 0.0
    return _judged(np.asarray(values, dtype=np.float64), least, 2 * least, is_log=False)


def _judged(values: npt.NDArray[np.float64], least: float, least_of_few: float, *, is_log: bool) -> Judged:
    if len(values) == 0:
        return Judged((), math.nan)
    median = float(np.median(values))
    shown = math.exp(median) if is_log else median
    if len(values) < FEWEST_COMPARED:
        return Judged((), shown)
    distances = np.abs(values - median)
    room = least_of_few
    if len(values) >= FEWEST_JUDGED:
        room = max(least, ROBUST_SDS * SD_OF_MAD * float(np.median(distances)))
    # Of a value exactly at the limit, rounding must not make an outlier.
    outside = tuple(int(at) for at in np.flatnonzero(distances > room * (1 + 1e-9)))
    return Judged(outside, shown, is_mixed=len(outside) > max(1, MIXED_SHARE * len(values)))

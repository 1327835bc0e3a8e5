"""T2 and T1rho mapping: fit of S = S0 exp(-t / T) to a series of images by non-linear least squares in every voxel.

For a given T the best S0 has a closed form, so each voxel is a problem in one variable, the rate 1 / T (variable
projection: Golub and Pereyra, SIAM J. Numer. Anal. 1973). It is solved for all voxels together by damped Gauss-Newton
steps (Levenberg 1944, Marquardt 1963; Jacobian as in Kaufman, BIT 1975). The start is a log-linear fit weighted with
the squared signals, because the logarithm scales the noise by 1 / signal.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.config.schema.maps import MapSource
from sam2ft.core.errors import DataError

MODEL = "S0 exp(-t / T)"
FEWEST_TIMES = 3
"""With two times the fit is always exact, and r2 carries no information."""

# Voxels that are fitted together: the arrays of one piece fit into the CPU cache.
_PIECE = 4096
_MOST_STEPS = 60
# A voxel has converged when a step changes its rate by less than this relative amount: 1e-7 ms at T = 100 ms.
_SMALL_STEP = 1e-9
# Limits of the rate: at the largest, the signal falls to a millionth within the shortest interval; at the smallest
# (a negative rate), it grows by a factor of a million over all times. Rates beyond cannot be distinguished.
_LARGEST_CHANGE = math.log(1e6)
# A step that increases the residual is repeated at a quarter of its length (Levenberg and Marquardt).
_SHORTER, _LONGER = 0.25, 4.0
# The Newton curvature is used where it is at least this fraction of the Gauss-Newton one, which is never negative.
_MIN_CURVATURE_RATIO = 0.1
# Converged voxels are removed from the arrays once the unconverged ones are less than this fraction.
_COMPACT_BELOW = 0.8

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Decay:
    """Result of the fit, on the grid of the images."""

    t_ms: npt.NDArray[np.float32]
    """T in ms, NaN where the voxel is not valid: no finite fit, T out of bounds, or r2 too low. Never clipped."""
    s0: npt.NDArray[np.float32]
    """Signal at time 0, in the unit of the images; NaN where T is NaN."""
    r2: npt.NDArray[np.float32]
    """1 - residual / total sum of squares, also of invalid voxels; NaN where no fit was possible."""


def fit_decay(
    images: npt.NDArray[Any], times_ms: Sequence[float], bounds_ms: tuple[float, float], source: MapSource
) -> Decay:
    """Fit every voxel of `images`, shape (times, ...), in float64.

    A voxel with a non-finite value, or without a positive value, is not fitted. T is valid if it is above the first of
    `bounds_ms`, up to the second, and r2 is at least `source.r2_min`. With `source.skip_first` the first image is left
    out: stimulated echoes make the first image of a multi-echo train too dark.

    Raises:
        DataError: when times do not increase, are too few, or are not as many as the images.
    """
    times = checked_times(times_ms, skip_first=source.skip_first)
    if len(times_ms) != len(images):
        raise DataError(f"{len(times_ms)} times for {len(images)} images; allowed: one time for each")
    flat = images.reshape(len(images), -1)[len(images) - len(times) :]
    found = np.full((3, flat.shape[1]), np.nan, dtype=np.float32)
    for start in range(0, flat.shape[1], _PIECE):
        signals = np.ascontiguousarray(flat[:, start : start + _PIECE], dtype=np.float64)
        usable = np.flatnonzero(np.isfinite(signals).all(axis=0) & (signals > 0).any(axis=0))
        if len(usable):
            found[:, start + usable] = _valid(*_fit(signals[:, usable], times), bounds_ms, source.r2_min)
    t_ms, s0, r2 = found.reshape(3, *images.shape[1:])
    return Decay(t_ms, s0, r2)


def checked_times(times_ms: Sequence[float], *, skip_first: bool) -> Values:
    """The times used for the fit, ms (without the first when `skip_first` is set).

    Raises:
        DataError: when times do not increase or are too few.
    """
    shown = ", ".join(f"{time:g}" for time in times_ms)
    if any(second <= first for first, second in pairwise(times_ms)):
        raise DataError(f"times {shown} ms do not increase; allowed: increasing times, each once")
    used = times_ms[1:] if skip_first else times_ms
    if len(used) < FEWEST_TIMES:
        left_out = " without the first" if skip_first else ""
        raise DataError(f"{len(used)} times ({shown} ms{left_out}); allowed: at least {FEWEST_TIMES} to fit a decay to")
    return np.asarray(used, dtype=np.float64)


def _valid(t_ms: Values, s0: Values, r2: Values, bounds_ms: tuple[float, float], r2_min: float) -> Values:
    """(T, S0, r2) with NaN for T and S0 of invalid voxels."""
    low, high = bounds_ms
    # Comparisons with NaN are false. The bounds are compared with the value that is stored as float32.
    stored = t_ms.astype(np.float32)
    valid = (stored > low) & (stored <= high) & (r2 >= r2_min) & (s0 > 0)
    return np.stack([np.where(valid, t_ms, np.nan), np.where(valid, s0, np.nan), r2])


def _fit(signals: Values, times: Values) -> tuple[Values, Values, Values]:
    """(T, S0, r2) of `signals`, shape (times, voxels); each voxel has at least one positive value.

    T is NaN where the search ended at the limit of its range: at most the first time has signal.
    """
    # With times relative to the first one the decay factor starts at 1, and nothing overflows.
    since_first = times - times[0]
    limits = (-_LARGEST_CHANGE / float(since_first[-1]), _LARGEST_CHANGE / float(np.diff(times).min()))
    state = _search(signals, since_first, np.clip(_start(signals, since_first), *limits), limits)
    total = np.square(signals - signals.mean(axis=0)).sum(axis=0)
    inside = (state.rate > limits[0]) & (state.rate < limits[1])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        t_ms = np.where(inside, 1 / state.rate, np.nan)
        return t_ms, state.first * np.exp(state.rate * times[0]), 1 - state.residual / total


def _start(signals: Values, times: Values) -> Values:
    """Rates of weighted log-linear fits; 0 where only one value is positive."""
    weight = np.square(np.maximum(signals, 0))
    logarithm = np.log(np.where(signals > 0, signals, 1))
    scale = weight.sum(axis=0)
    centred = times[:, None] - (times @ weight) / scale
    covariance = (weight * centred * logarithm).sum(axis=0)
    variance = (weight * centred**2).sum(axis=0)
    slope: Values = np.divide(covariance, variance, out=np.zeros_like(scale), where=variance > 1e-12 * scale)
    return -slope


@dataclass
class _State:
    """State of the search in each voxel."""

    rate: Values
    first: Values
    """The best signal at the first time for this rate."""
    residual: Values
    """Residual sum of squares."""
    step: Values
    """Full-length step of the rate; 0 where no step is possible."""

    def where(self, chosen: npt.NDArray[np.bool_], other: "_State") -> "_State":
        pairs = zip(self.values, other.values, strict=True)
        return _State(*(np.where(chosen, mine, others) for mine, others in pairs))

    def take(self, where: npt.NDArray[Any]) -> "_State":
        return _State(*(values[where] for values in self.values))

    def put(self, where: npt.NDArray[Any], other: "_State") -> None:
        for mine, others in zip(self.values, other.values, strict=True):
            mine[where] = others

    @property
    def values(self) -> tuple[Values, ...]:
        return self.rate, self.first, self.residual, self.step


def _search(signals: Values, times: Values, rate: Values, limits: tuple[float, float]) -> _State:
    """Iterate until no step reduces the residual; the result of a voxel does not depend on the other voxels."""
    result = _state(signals, times, rate)
    active, state, length = np.arange(len(rate)), result, np.ones(len(rate))
    for _ in range(_MOST_STEPS):
        trial = _state(signals, times, np.clip(state.rate + length * state.step, *limits))
        small = np.abs(trial.rate - state.rate) <= _SMALL_STEP * np.abs(state.rate)
        better = trial.residual <= state.residual
        state = trial.where(better, state)
        length = np.where(better, np.minimum(length * _LONGER, 1), length * _SHORTER)
        result.put(active, state)
        open_ = np.flatnonzero(~small)
        if not len(open_):
            break
        if len(open_) < _COMPACT_BELOW * len(active):
            active, signals, state, length = active[open_], signals[:, open_], state.take(open_), length[open_]
    return result


def _state(signals: Values, times: Values, rate: Values) -> _State:
    decay = np.exp(-times[:, None] * rate)
    falling = times[:, None] * decay
    power = np.square(decay).sum(axis=0)
    first = (decay * signals).sum(axis=0) / power
    remaining = signals - first * decay
    # Half the first and second derivative of the residual with respect to the rate, with S0 optimal for each rate.
    slope = first * (falling * remaining).sum(axis=0)
    shared, fallen = (falling * decay).sum(axis=0), np.square(falling).sum(axis=0)
    mixed = (falling * remaining).sum(axis=0) - first * shared
    newton = first * (first * fallen - (times @ (falling * remaining))) - np.square(mixed) / power
    gauss = np.square(first) * (fallen - np.square(shared) / power)
    curvature = np.where(newton > _MIN_CURVATURE_RATIO * gauss, newton, gauss)
    step = np.divide(-slope, curvature, out=np.zeros_like(rate), where=curvature > 0)
    return _State(rate, first, np.square(remaining).sum(axis=0), step)

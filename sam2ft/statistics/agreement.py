"""Agreement of prediction and reference over subjects: Bland-Altman limits, ICC, CCC, Pearson's r, TOST.

Sources are listed in docs/agreement.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from scipy import special

from sam2ft.statistics.bootstrap import CONFIDENCE, RESAMPLES, SAME, Estimate, Values, are_equal, bootstrap_interval
from sam2ft.statistics.intraclass import icc_a1, icc_c1

FEWEST = 3
"""Smallest number of subjects for any measure of spread."""
LIMIT = 1.96
TOST_LEVEL = 0.05
_NONE = Estimate(math.nan)


@dataclass(frozen=True)
class Agreement:
    """Agreement statistics of one biomarker; a value that cannot be computed is NaN, and `reason` gives the cause."""

    n: int
    reference_mean: float
    prediction_mean: float
    bias: Estimate
    """Mean of prediction - reference."""
    sd_difference: float
    loa_low: Estimate
    """Lower limit of agreement: bias - 1.96 sd_difference (Bland and Altman 1986)."""
    loa_high: Estimate
    mae: Estimate
    rmse: Estimate
    icc_a1: Estimate
    icc_c1: Estimate
    ccc: Estimate
    pearson_r: Estimate
    rms_cv_percent: Estimate
    yardstick_percent: float
    """Scan-rescan (repeatability) coefficient of variation in percent, as given by the caller."""
    margin: float
    """yardstick_percent of the mean reference: the margin of the equivalence test."""
    tost_p: float
    equivalent_within: float
    """Smallest margin for which tost_p would be 0.05."""
    reason: str

    @property
    def within_yardstick(self) -> int | None:
        """1 if rms_cv_percent is at most yardstick_percent, 0 if it is larger, None if either is NaN."""
        if math.isnan(self.rms_cv_percent.value) or math.isnan(self.yardstick_percent):
            return None
        return int(self.rms_cv_percent.value <= self.yardstick_percent)

    def columns(self) -> dict[str, str | int | float | None]:
        """Column -> cell of biomarker_global.csv; an estimate has three columns (value, ci_low, ci_high)."""
        found: dict[str, str | int | float | None] = {"within_yardstick": self.within_yardstick}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Estimate):
                found |= {field.name: value.value}
                found |= {f"{field.name}_ci_low": value.low, f"{field.name}_ci_high": value.high}
            else:
                found[field.name] = value
        return found


def agreement(
    references: Sequence[float],
    predictions: Sequence[float],
    *,
    yardstick_percent: float = math.nan,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Agreement:
    """Agreement of one reference and one prediction per subject.

    With fewer than three subjects only means and mean errors exist. Correlations need both sides to vary over subjects,
    rms_cv_percent needs values above 0. Intervals of mae, rmse and rms_cv_percent are bootstraps over subjects.

    Args:
        references: one value per subject, no NaN.
        predictions: those of the same subjects in the same order, no NaN.
        yardstick_percent: scan-rescan coefficient of variation; NaN if unknown.
    """
    reference, prediction = np.asarray(references, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
    difference, n = prediction - reference, len(reference)
    enough = n >= FEWEST
    bias, sd = _mean(difference), float(difference.std(ddof=1)) if enough else math.nan
    standard_error = sd / math.sqrt(n) if enough else math.nan
    margin = yardstick_percent / 100 * abs(_mean(reference))
    low, high = limits(bias, sd, n)
    same = _constant_sides(reference, prediction) if enough else f"{n} subjects, {FEWEST} are needed"
    ratings = np.stack([prediction, reference], axis=1)
    variation, no_variation = _variation(reference, prediction) if enough else (None, "")
    mae, rmse = _bootstrapped(np.abs(difference), seed, resamples), _bootstrapped(difference**2, seed, resamples).root()
    return Agreement(
        n=n,
        reference_mean=_mean(reference),
        prediction_mean=_mean(prediction),
        bias=_t_interval(bias, standard_error, n),
        sd_difference=sd,
        loa_low=low,
        loa_high=high,
        mae=mae,
        rmse=rmse,
        icc_a1=icc_a1(ratings) if not same else _NONE,
        icc_c1=icc_c1(ratings) if not same else _NONE,
        ccc=concordance(reference, prediction) if not same else _NONE,
        pearson_r=correlation(reference, prediction) if not same else _NONE,
        rms_cv_percent=_NONE if variation is None else _bootstrapped(variation, seed, resamples).root().times(100),
        yardstick_percent=yardstick_percent,
        margin=margin,
        tost_p=tost(bias, standard_error, n, margin),
        equivalent_within=abs(bias) + _t(1 - TOST_LEVEL, n) * standard_error,
        reason="; ".join(part for part in (same, no_variation) if part),
    )


def limits(bias: float, sd: float, n: int) -> tuple[Estimate, Estimate]:
    """Lower and upper limit of agreement, with exact intervals for normal differences (Carkeet 2015, Shieh 2018).

    (limit - bias) / (sd / sqrt(n)) has a noncentral t distribution. The usual approximation is symmetric; its interval
    is too narrow on the outer and too wide on the inner side. NaN for fewer than three subjects.
    """
    if n < FEWEST or math.isnan(sd):
        return _NONE, _NONE
    near, far = (
        float(special.nctdtrit(n - 1, LIMIT * math.sqrt(n), share)) * sd / math.sqrt(n)
        for share in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
    )
    return (
        Estimate(bias - LIMIT * sd, bias - far, bias - near),
        Estimate(bias + LIMIT * sd, bias + near, bias + far),
    )


def tost(bias: float, standard_error: float, n: int, margin: float) -> float:
    """p of equivalence (TOST): two one-sided paired t tests, mean difference within +- margin (Schuirmann 1987)."""
    if math.isnan(standard_error) or math.isnan(margin):
        return math.nan
    if standard_error == 0:
        return 0.0 if abs(bias) < margin else 1.0
    return float(special.stdtr(n - 1, (abs(bias) - margin) / standard_error))


def concordance(reference: Values, prediction: Values) -> Estimate:
    """Lin's concordance correlation (CCC; 1989, erratum 2000): variances divided by n, interval by Fisher's z."""
    spreads = float(reference.std()), float(prediction.std())
    r = correlation(reference, prediction).value
    offset = float(prediction.mean() - reference.mean()) ** 2
    accuracy = 2 * spreads[0] * spreads[1] / (spreads[0] ** 2 + spreads[1] ** 2 + offset)
    value, shift = accuracy * r, offset / (spreads[0] * spreads[1])
    rest = 1 - value**2
    if rest <= SAME:
        return Estimate(value, value, value)
    variance = (1 - r**2) * accuracy**2 / rest + value**2 * accuracy * shift * (
        2 * (1 - value) - accuracy * shift / 2
    ) / rest**2
    return _fisher_interval(value, math.sqrt(max(variance, 0.0) / (len(reference) - 2)))


def correlation(reference: Values, prediction: Values) -> Estimate:
    """Pearson's r with its interval by Fisher's z; with three subjects the interval is -1 to 1."""
    first, second = reference - reference.mean(), prediction - prediction.mean()
    value = float((first / np.linalg.norm(first)) @ (second / np.linalg.norm(second)))
    value = min(max(value, -1.0), 1.0)
    if 1 - abs(value) <= SAME:
        return Estimate(value, value, value)
    return _fisher_interval(value, 1 / math.sqrt(len(reference) - 3) if len(reference) > FEWEST else math.inf)


def _fisher_interval(value: float, standard_error: float) -> Estimate:
    center, reach = math.atanh(value), float(special.ndtri((1 + CONFIDENCE) / 2)) * standard_error
    return Estimate(value, math.tanh(center - reach), math.tanh(center + reach))


def _variation(reference: Values, prediction: Values) -> tuple[Values | None, str]:
    """(squared coefficient of variation of each subject's two values (Gluer 1995), ""), or (None, reason)."""
    means = (reference + prediction) / 2
    if not (means > 0).all():
        return None, "rms_cv_percent needs values above 0"
    return (prediction - reference) ** 2 / 2 / means**2, ""


def _constant_sides(reference: Values, prediction: Values) -> str:
    sides = {"references": reference, "predictions": prediction}
    same = [name for name, values in sides.items() if are_equal(values)]
    return f"all {' and '.join(same)} are equal" if same else ""


def _bootstrapped(values: Values, seed: int, resamples: int) -> Estimate:
    if len(values) < FEWEST:
        return Estimate(_mean(values))
    return Estimate(_mean(values), *bootstrap_interval(values, seed=seed, resamples=resamples))


def _t_interval(value: float, standard_error: float, n: int) -> Estimate:
    reach = _t((1 + CONFIDENCE) / 2, n) * standard_error
    return Estimate(value, value - reach, value + reach)


def _t(share: float, n: int) -> float:
    return float(special.stdtrit(n - 1, share)) if n >= FEWEST else math.nan


def _mean(values: Values) -> float:
    return float(values.mean()) if len(values) else math.nan

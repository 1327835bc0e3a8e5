"""Agreement against published tables, pingouin (its numbers are in agreement_oracle.json), scipy and simulation."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import stats

from sam2ft.statistics.agreement import agreement, concordance, correlation, limits, tost
from sam2ft.statistics.bootstrap import Estimate, bootstrap_interval
from sam2ft.statistics.intraclass import icc_a1, icc_c1
from sam2ft.statistics.yardsticks import yardstick_percent

ORACLE = json.loads((Path(__file__).parent / "agreement_oracle.json").read_text())

# Bland and Altman 1986 (Lancet 1:307), table 1, first readings of 17 subjects, l/min.
WRIGHT = (494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427)
MINI = (512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451)

# Shrout and Fleiss 1979 (Psychological Bulletin 86:420), table 2: six targets, four judges.
JUDGES = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)

MEASURES = npst.arrays(float, 6, elements=st.integers(50, 1000).map(lambda value: value / 10))
DIFFERENCES = npst.arrays(float, 6, elements=st.integers(-30, 30).map(lambda value: value / 10))


def three(estimate: Estimate) -> list[float]:
    return [estimate.value, estimate.low, estimate.high]


def test_the_table_of_shrout_and_fleiss_1979():
    assert icc_a1(JUDGES).value == pytest.approx(0.2898, abs=5e-5)
    assert icc_c1(JUDGES).value == pytest.approx(0.7148, abs=5e-5)
    for name, function in (("icc_a1", icc_a1), ("icc_c1", icc_c1)):
        assert three(function(JUDGES)) == pytest.approx(ORACLE["shrout_fleiss_1979"][name], abs=1e-6)


def test_peak_flow_of_bland_and_altman_1986():
    found = agreement(MINI, WRIGHT)
    assert found.bias.value == pytest.approx(-2.118, abs=5e-4)
    assert found.sd_difference == pytest.approx(38.765, abs=5e-4)
    assert (found.loa_low.value, found.loa_high.value) == pytest.approx((-78.10, 73.86), abs=5e-3)
    # The paper's interval of the bias is -22.0 to 17.8.
    assert (found.bias.low, found.bias.high) == pytest.approx((-22.0, 17.8), abs=0.06)


@pytest.mark.parametrize("case", ORACLE["cases"], ids=lambda case: f"n={len(case['references'])}")
def test_the_numbers_are_those_of_pingouin(case):
    found = agreement(case["references"], case["predictions"])
    for name in ("icc_a1", "icc_c1", "pearson_r"):
        assert three(getattr(found, name)) == pytest.approx(case[name], abs=1e-6)
    assert [found.bias.low, found.bias.high] == pytest.approx(case["bias_ci"], abs=1e-6)
    error = found.sd_difference / math.sqrt(found.n)
    assert tost(found.bias.value, error, found.n, case["margin"]) == pytest.approx(case["tost_p"], rel=1e-6, abs=0)


@pytest.mark.parametrize("n", [3, 5, 17, 100, 5000])
def test_limits_have_the_quantiles_of_scipys_noncentral_t(n):
    low, high = limits(2.0, 3.0, n)
    ends = 2 + stats.nct.ppf([0.025, 0.975], n - 1, 1.96 * math.sqrt(n)) * 3 / math.sqrt(n)
    assert (high.low, high.high) == pytest.approx(tuple(ends), rel=1e-10)
    assert (low.low, low.high) == pytest.approx((4 - ends[1], 4 - ends[0]), rel=1e-9)


def test_many_subjects_bring_the_limits_interval_to_that_of_bland_and_altman():
    """Their 1986 approximation of its standard error is sqrt(3 / n) sd, 1999: sqrt(1 / n + 1.96^2 / (2 (n - 1))) sd."""
    high = limits(0.0, 1.0, 100_000)[1]
    error = math.sqrt(1 / 100_000 + 1.96**2 / 2 / 99_999)
    assert (high.high - high.low) / 2 == pytest.approx(1.96 * error, rel=1e-3)


def test_limits_of_five_subjects_cover_the_truth_where_the_approximation_does_not():
    rng, exact, approximate = np.random.default_rng(0), 0, 0
    for differences in rng.normal(size=(4000, 5)):
        bias, sd = differences.mean(), differences.std(ddof=1)
        high = limits(bias, sd, 5)[1]
        exact += high.low <= 1.96 <= high.high
        reach = stats.t.ppf(0.975, 4) * sd * math.sqrt(1 / 5 + 1.96**2 / 8)
        approximate += bias + 1.96 * sd - reach <= 1.96 <= bias + 1.96 * sd + reach
    assert exact / 4000 == pytest.approx(0.95, abs=0.01)
    assert approximate / 4000 < 0.93


def test_lins_concordance_by_hand():
    """x = 1 2 3, y = 2 4 6: variances 2/3 and 8/3, covariance 4/3, means 2 apart: 2 * 4/3 / (10/3 + 4)."""
    assert concordance(np.array([1.0, 2, 3]), np.array([2.0, 4, 6])).value == pytest.approx((8 / 3) / (10 / 3 + 4))


def test_the_interval_of_the_concordance_covers_the_truth_about_as_often_as_it_says():
    # Reference of variance 4, prediction = reference + 0.5 + noise of variance 1: 2 * 4 / (4 + 5 + 0.25).
    rng, truth, hits = np.random.default_rng(1), 8 / 9.25, 0
    for _ in range(2000):
        reference = rng.normal(scale=2, size=50)
        found = concordance(reference, reference + 0.5 + rng.normal(size=50))
        hits += found.low <= truth <= found.high
    assert hits / 2000 == pytest.approx(0.95, abs=0.015)


def test_the_standard_error_of_the_concordance_is_that_of_the_jackknife():
    rng = np.random.default_rng(2)
    reference = rng.normal(scale=2, size=3000)
    prediction = 0.8 * reference + 1.0 + rng.normal(size=3000)
    found = concordance(reference, prediction)
    left_out = [
        math.atanh(concordance(np.delete(reference, i), np.delete(prediction, i)).value) for i in range(0, 3000, 3)
    ]
    jackknife = math.sqrt(3000 * np.var(left_out))
    assert (math.atanh(found.high) - math.atanh(found.low)) / 2 / 1.96 == pytest.approx(jackknife, rel=0.06)


def test_pearsons_r_is_scipys():
    rng = np.random.default_rng(4)
    reference, prediction = rng.normal(size=(2, 12))
    oracle = stats.pearsonr(reference, prediction)
    interval = oracle.confidence_interval()
    assert three(correlation(reference, prediction)) == pytest.approx([oracle.statistic, interval.low, interval.high])


def test_the_coefficient_of_variation_by_hand():
    """Pairs (9, 11), (10, 10), (22, 18): SDs sqrt 2, 0, 2 sqrt 2 over means 10, 10, 20."""
    found = agreement([9, 10, 22], [11, 10, 18])
    assert found.rms_cv_percent.value == pytest.approx(100 * math.sqrt((0.02 + 0 + 0.02) / 3))
    assert found.rms_cv_percent.low < found.rms_cv_percent.value < found.rms_cv_percent.high


def test_the_intervals_of_mean_errors_are_bootstraps_over_subjects():
    rng = np.random.default_rng(5)
    reference, difference = rng.normal(40, 4, 20), rng.normal(1, 2, 20)
    found = agreement(reference, reference + difference, resamples=2000)
    again = reference + difference - reference
    assert (found.mae.low, found.mae.high) == bootstrap_interval(np.abs(again), resamples=2000)
    low, high = bootstrap_interval(again**2, resamples=2000)
    assert (found.rmse.low, found.rmse.high) == pytest.approx((math.sqrt(low), math.sqrt(high)))
    other = agreement(reference, reference + difference, resamples=2000, seed=1)
    assert other.mae != found.mae
    assert agreement(reference, reference + difference, resamples=2000).mae == found.mae


def test_equivalence_is_shown_just_within_the_smallest_margin():
    rng = np.random.default_rng(6)
    reference = rng.normal(40, 4, 15)
    found = agreement(reference, reference + rng.normal(-0.3, 1, 15), yardstick_percent=4.0)
    assert found.margin == pytest.approx(0.04 * reference.mean())
    error = found.sd_difference / math.sqrt(15)
    assert found.tost_p == tost(found.bias.value, error, 15, found.margin)
    assert found.tost_p < 0.05
    assert tost(found.bias.value, error, 15, found.equivalent_within) == pytest.approx(0.05)


@pytest.mark.parametrize(("error", "inside"), [(0.5, 1), (5.0, 0)])
def test_an_error_is_held_against_the_noise_of_measuring_again(error, inside):
    reference = np.array([38.0, 40.0, 42.0, 44.0])
    found = agreement(reference, reference + np.array([1, -1, 1, -1]) * error, yardstick_percent=4.0)
    assert found.within_yardstick == inside
    assert agreement(reference, reference + error).within_yardstick is None


def test_yardsticks_are_those_of_cartilage():
    assert yardstick_percent("Femoral Cartilage", "t2", "mean") == 4.0
    assert yardstick_percent("femoral condyle", "cartilagethickness", "ThCcAB") == 1.2
    for other in (("disc", "t2", "mean"), ("femoral cartilage", "t2", "sd"), ("disc", "tissueheight", "height")):
        assert math.isnan(yardstick_percent(*other))


def test_two_subjects_have_means_and_no_spread():
    found = agreement([1.0, 2.0], [1.5, 2.5])
    assert (found.n, found.bias.value, found.mae.value, found.rmse.value) == (2, 0.5, 0.5, 0.5)
    assert found.reason == "2 subjects, 3 are needed"
    numbers = (found.sd_difference, found.tost_p, found.equivalent_within, found.bias.low, found.mae.low)
    measures = (found.loa_low, found.icc_a1, found.icc_c1, found.ccc, found.pearson_r, found.rms_cv_percent)
    assert all(math.isnan(value) for value in (*numbers, *(value for one in measures for value in three(one))))


def test_no_pairs_agree_on_nothing():
    found = agreement([], [])
    assert (found.n, found.reason) == (0, "0 subjects, 3 are needed")
    assert math.isnan(found.bias.value)


@pytest.mark.parametrize(
    ("references", "predictions", "reason"),
    [
        ([2.0] * 4, [1.0, 2.0, 3.0, 4.0], "all references are equal"),
        ([1.0, 2.0, 3.0, 4.0], [0.1 + 0.2, 0.3, 0.3, 0.3], "all predictions are equal"),
        ([2.0] * 4, [3.0] * 4, "all references and predictions are equal"),
    ],
)
def test_values_that_do_not_vary_have_no_correlation_but_limits(references, predictions, reason):
    found = agreement(references, predictions)
    assert found.reason == reason
    for one in (found.icc_a1, found.icc_c1, found.ccc, found.pearson_r):
        assert all(math.isnan(value) for value in three(one))
    assert not math.isnan(found.loa_low.value)
    assert not math.isnan(found.rms_cv_percent.low)


def test_a_value_of_zero_has_no_coefficient_of_variation():
    found = agreement([0.0, 5.0, 6.0], [0.0, 5.5, 6.0])
    assert math.isnan(found.rms_cv_percent.value)
    assert found.reason == "rms_cv_percent needs values above 0"
    assert not math.isnan(found.icc_a1.value)


@given(MEASURES)
def test_perfect_agreement_is_1_whatever_the_values(values):
    found = agreement(values, values, yardstick_percent=1.0, resamples=50)
    assert (found.bias, found.mae, found.rmse) == (Estimate(0.0, 0.0, 0.0),) * 3
    assert (found.tost_p, found.equivalent_within, found.within_yardstick) == (0.0, 0.0, 1)
    if not found.reason:
        for one in (found.icc_a1, found.icc_c1, found.ccc, found.pearson_r):
            assert three(one) == pytest.approx([1.0] * 3)


@given(MEASURES, DIFFERENCES, st.sampled_from([0.5, 2.0, 8.0]), st.sampled_from([0.0, 16.0, 64.0]))
def test_another_unit_and_zero_change_no_ratio_and_scale_every_length(reference, difference, scale, zero):
    found = agreement(reference, reference + difference, resamples=50)
    other = agreement(scale * reference + zero, scale * (reference + difference) + zero, resamples=50)
    assert other.reason == found.reason
    for name in ("icc_a1", "icc_c1", "ccc", "pearson_r"):
        assert three(getattr(other, name)) == pytest.approx(three(getattr(found, name)), abs=1e-6, nan_ok=True)
    # A resample's mean may equal the centre but for rounding, so that ends of bootstraps move by a resample or two.
    assert [other.mae.value, other.rmse.value] == pytest.approx([scale * found.mae.value, scale * found.rmse.value])
    for name in ("bias", "loa_low", "loa_high"):
        expected = [scale * value for value in three(getattr(found, name))]
        assert three(getattr(other, name)) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(MEASURES, DIFFERENCES)
def test_the_bias_is_prediction_minus_reference_and_swapping_both_turns_it_round(reference, difference):
    found = agreement(reference, reference + difference, resamples=50)
    other = agreement(reference + difference, reference, resamples=50)
    assert found.bias.value == pytest.approx(difference.mean(), abs=1e-9)
    assert three(other.bias) == pytest.approx([-found.bias.value, -found.bias.high, -found.bias.low], abs=1e-9)
    assert three(other.loa_high) == pytest.approx([-found.loa_low.value, -found.loa_low.high, -found.loa_low.low])
    for name in ("icc_a1", "icc_c1", "ccc", "pearson_r", "mae", "rms_cv_percent"):
        assert three(getattr(other, name)) == pytest.approx(three(getattr(found, name)), abs=1e-6, nan_ok=True)


@given(MEASURES, DIFFERENCES, st.integers(1, 40).map(lambda value: value / 2))
def test_an_offset_that_all_share_costs_agreement_but_not_consistency(reference, difference, offset):
    found = agreement(reference, reference + difference, resamples=50)
    moved = agreement(reference, reference + difference + offset + 3.0, resamples=50)
    if not found.reason:
        assert three(moved.icc_c1) == pytest.approx(three(found.icc_c1), abs=1e-6)
        assert three(moved.pearson_r) == pytest.approx(three(found.pearson_r), abs=1e-6)
        # An offset may also take a bias to the other side, as far from 0 as it was.
        if found.ccc.value > 0.01 and abs(moved.bias.value) > abs(found.bias.value) + 1e-6:
            assert moved.ccc.value < found.ccc.value

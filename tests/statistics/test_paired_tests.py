"""Paired differences, their test and the correction for many of them."""

import math

import numpy as np
import pytest

from sam2ft.statistics.paired_tests import holm, paired, rank_biserial


def test_the_difference_is_of_the_subjects_that_both_have():
    found = paired({"a": 0.5, "b": 0.6, "c": 0.9}, {"b": 0.7, "c": 0.8, "d": 0.1})
    assert (found.n, found.difference) == (2, pytest.approx(0.0))


def test_a_constant_gain_has_a_narrow_interval_and_the_exact_p():
    first = {number: number / 10 for number in range(6)}
    found = paired(first, {number: value + 0.01 * (number + 1) for number, value in first.items()})
    assert found.difference == pytest.approx(0.035)
    assert 0.01 < found.ci_low < 0.035 < found.ci_high < 0.06
    # All six differences have one sign: 2 / 2^6 of all signs are as extreme.
    assert found.p == pytest.approx(2 / 2**6)


def test_wilcoxon_agrees_with_a_count_of_all_signs():
    differences = np.array([0.3, -0.1, 0.2, 0.5, -0.4, 0.7, 0.6])
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    signs = np.array(np.meshgrid(*[[0, 1]] * 7)).reshape(7, -1).T
    sums = signs @ ranks
    observed = min(ranks[differences > 0].sum(), ranks[differences < 0].sum())
    expected = min(1.0, 2 * np.mean(sums <= observed))
    found = paired(dict.fromkeys(range(7), 0.0), dict(enumerate(differences)))
    assert found.p == pytest.approx(expected)


def test_equal_predictions_have_no_difference_and_nothing_in_common_has_no_number():
    same = paired({"a": 0.5, "b": 0.6}, {"a": 0.5, "b": 0.6})
    assert (same.difference, same.ci_low, same.ci_high, same.p) == (0.0, 0.0, 0.0, 1.0)
    assert math.isnan(paired({"a": 0.5}, {"b": 0.5}).difference)
    assert math.isnan(paired({"a": 0.5}, {"a": 0.7}).ci_low)


def test_holm_multiplies_by_what_is_left_and_never_falls():
    assert holm([0.01, 0.04, 0.03, math.nan])[:3] == pytest.approx([0.03, 0.06, 0.06])
    assert math.isnan(holm([0.01, math.nan])[1])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_effect_is_the_share_of_ranks_for_minus_those_against():
    # |differences| 1, 2, 3, 4 have these ranks; 2 goes against: (1 + 3 + 4 - 2) / 10.
    assert rank_biserial(np.array([0.1, -0.2, 0.3, 0.4, 0.0])) == pytest.approx(0.6)
    assert rank_biserial(np.array([-1.0, -2.0])) == -1
    assert rank_biserial(np.zeros(3)) == 0
    assert paired({"a": 0.5, "b": 0.5}, {"a": 0.6, "b": 0.8}).effect == 1


def test_holm_agrees_with_statsmodels():
    from statsmodels.stats.multitest import multipletests

    p_values = np.random.default_rng(4).uniform(0, 0.2, 30).tolist()
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])

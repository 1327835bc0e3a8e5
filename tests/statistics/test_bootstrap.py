import math

import numpy as np
import pytest
from scipy import stats

from sam2ft.statistics.bootstrap import bootstrap_interval, resampled_means, subject_means, summary


def test_summary_of_five_numbers_by_hand():
    found = summary([1.0, 2.0, 3.0, 4.0, 10.0])
    assert (found.n, found.mean, found.median, found.q25, found.q75) == (5, 4.0, 3.0, 2.0, 4.0)
    assert found.sd == pytest.approx(math.sqrt((9 + 4 + 1 + 0 + 36) / 4))
    assert found.ci_low < found.mean < found.ci_high


def test_one_subject_has_no_spread_and_no_interval():
    found = summary([0.8])
    assert (found.n, found.mean) == (1, 0.8)
    assert all(math.isnan(value) for value in (found.sd, found.ci_low, found.ci_high))


def test_equal_values_have_an_interval_of_no_width():
    assert bootstrap_interval(np.full(7, 0.9)) == (0.9, 0.9)


def test_the_interval_is_the_one_scipy_computes():
    values = np.random.default_rng(3).gamma(2.0, size=30)
    oracle = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(1))
    found = bootstrap_interval(values, resamples=20_000)
    width = oracle.confidence_interval.high - oracle.confidence_interval.low
    assert found == pytest.approx(tuple(oracle.confidence_interval), abs=0.03 * width)


@pytest.mark.parametrize("n", [5, 6, 20, 101])
def test_the_interval_of_the_same_resamples_is_the_one_scipy_computes(n):
    values = np.random.default_rng(n).gamma(2.0, size=n)
    # Our draws come from this generator in one block; scipy makes the same ones from it.
    oracle = stats.bootstrap(
        (values,), np.mean, n_resamples=2000, batch=2000, method="BCa", rng=np.random.default_rng([0, n])
    )
    found = bootstrap_interval(values, resamples=2000)
    assert np.array_equal(oracle.bootstrap_distribution, resampled_means(values, seed=0, resamples=2000))
    assert found == pytest.approx(tuple(oracle.confidence_interval), rel=1e-12, abs=0)


def test_below_five_subjects_the_interval_is_that_of_plain_percentiles():
    values = np.array([0.2, 0.7, 0.8, 0.95])
    plain = np.quantile(resampled_means(values, seed=0, resamples=10_000), (0.025, 0.975))
    assert bootstrap_interval(values) == tuple(plain)
    assert bootstrap_interval(np.append(values, 0.9)) != tuple(
        np.quantile(resampled_means(np.append(values, 0.9), seed=0, resamples=10_000), (0.025, 0.975))
    )


def test_skewed_values_move_the_interval_towards_their_tail():
    values = np.random.default_rng(3).gamma(0.5, size=30)
    low, high = bootstrap_interval(values)
    plain_low, plain_high = np.quantile(resampled_means(values, seed=0, resamples=10_000), (0.025, 0.975))
    assert low > plain_low
    assert high > plain_high


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        low, high = bootstrap_interval(rng.normal(size=40), resamples=1000)
        hits += low <= 0 <= high
    assert 0.90 <= hits / 200 <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["normal", "like Dice"])
def test_a_95_percent_interval_of_20_subjects_covers_92_to_97_percent(shape):
    """4,000 studies of 20 subjects each; the standard error of the share is 0.4 %.

    92.8 % is what theory gives for a bootstrap of the mean of 20 normal values: it divides by n where a t interval
    divides by n - 1, and reads normal quantiles (Hesterberg 2015, The American Statistician 69:371).
    """
    rng, truth, hits = np.random.default_rng(0), {"normal": 0.0, "like Dice": 9 / 11}[shape], 0
    for study in range(4000):
        values = rng.normal(size=20) if shape == "normal" else rng.beta(9, 2, size=20)
        low, high = bootstrap_interval(values, seed=study)
        hits += low <= truth <= high
    print(f"coverage of {shape} values: {hits / 4000:.1%}")
    assert 0.92 <= hits / 4000 <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["normal", "skewed"])
def test_the_interval_of_40_subjects_covers_93_to_97_percent(shape):
    """1,000 cohorts each (standard error 0.7 %); smaller ones are printed, and docs/report.md says what came out."""
    law = {"normal": stats.norm(0.85, 0.05), "skewed": stats.beta(8, 1.5)}[shape]
    found = {}
    for n in (8, 15, 40):
        cohorts = law.rvs(size=(1000, n), random_state=np.random.default_rng(1))
        ends = np.array([bootstrap_interval(values) for values in cohorts])
        found[n] = float(np.mean((ends[:, 0] <= law.mean()) & (law.mean() <= ends[:, 1])))
    print(f"coverage of {shape} values: {', '.join(f'n = {n}: {share:.1%}' for n, share in found.items())}")
    assert 0.93 <= found[40] <= 0.97
    assert found[8] < found[40]


@pytest.mark.slow
def test_subjects_with_several_volumes_are_covered_as_subjects_and_not_as_volumes():
    """20 subjects, half of them with four volumes that are nearly alike: their number makes nothing more certain."""
    rng, by_subject, by_volume = np.random.default_rng(1), 0, 0
    for study in range(500):
        levels = rng.normal(size=20)
        of = [
            (subject, level + rng.normal(scale=0.1))
            for subject, level in enumerate(levels)
            for _ in range(1 + 3 * (subject % 2))
        ]
        found = summary(list(subject_means(of).values()), seed=study, resamples=2000)
        by_subject += found.ci_low <= 0 <= found.ci_high
        low, high = bootstrap_interval(np.array([value for _, value in of]), seed=study, resamples=2000)
        by_volume += low <= 0 <= high
    print(f"coverage: over subjects {by_subject / 500:.1%}, over volumes {by_volume / 500:.1%}")
    assert 0.90 <= by_subject / 500 <= 0.98
    assert by_volume / 500 < 0.85


def test_the_same_seed_draws_the_same_and_another_seed_does_not():
    values = np.arange(10.0)
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)


def test_drawing_in_blocks_gives_every_resample():
    assert resampled_means(np.arange(5000.0), seed=0, resamples=1700).shape == (1700,)


def test_subject_means_leave_out_what_is_not_a_number():
    found = subject_means([("b", 1.0), ("a", math.nan), ("b", 3.0), ("c", math.nan), ("a", 5.0)])
    assert found == {"a": 5.0, "b": 2.0}
    assert list(found) == ["a", "b"]

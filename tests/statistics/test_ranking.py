"""How firmly a ranking stands."""

import itertools

import numpy as np
import pytest
from scipy.stats import rankdata

from sam2ft.statistics.ranking import ranking


def test_three_subjects_can_be_counted_out():
    # b - a is -2, -2, +5 in the three subjects: of the 27 cohorts, b is first where it has the larger sum.
    a, b = {"x": 3.0, "y": 3.0, "z": 0.0}, {"x": 1.0, "y": 1.0, "z": 5.0}
    sums = [sum(b[one] - a[one] for one in cohort) for cohort in itertools.product("xyz", repeat=3)]
    share = sum(total > 0 for total in sums) / 27
    found = ranking({"a": a, "b": b}, resamples=20_000)
    assert found.n == 3
    assert (found.ranks["a"].rank, found.ranks["b"].rank) == (2, 1)
    assert found.ranks["b"].first == pytest.approx(share, abs=0.01)
    assert found.ranks["a"].first + found.ranks["b"].first == pytest.approx(1)


def test_who_is_better_in_every_subject_is_first_on_every_cohort():
    rng = np.random.default_rng(1)
    low = {number: float(value) for number, value in enumerate(rng.uniform(0.3, 0.8, 12))}
    found = ranking({"low": low, "high": {number: value + 0.01 for number, value in low.items()}})
    assert (found.ranks["high"].first, found.ranks["high"].low, found.ranks["high"].high) == (1, 1, 1)


def test_equal_ones_share_rank_and_first_place():
    values = {"a": 0.5, "b": 0.7, "c": 0.1}
    found = ranking({"one": values, "same": dict(values), "less": {name: value / 2 for name, value in values.items()}})
    assert (found.ranks["one"].rank, found.ranks["same"].rank, found.ranks["less"].rank) == (1.5, 1.5, 3)
    assert found.ranks["one"].first == found.ranks["same"].first == pytest.approx(0.5)


def test_the_drawn_ranks_agree_with_ranks_taken_one_cohort_at_a_time():
    rng = np.random.default_rng(2)
    table = rng.normal(0.8, 0.1, (4, 9))
    values = {f"p{row}": dict(enumerate(table[row].tolist())) for row in range(4)}
    found = ranking(values, seed=5, resamples=300)
    drawn = np.random.default_rng([5, 9]).integers(0, 9, size=(300, 9))
    ranks = np.array([rankdata(-table[:, cohort].mean(axis=1)) for cohort in drawn])
    for row in range(4):
        assert found.ranks[f"p{row}"].median == np.median(ranks[:, row])


def test_only_subjects_that_all_have_count_and_too_few_give_nothing():
    first = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.9}
    found = ranking({"x": first, "y": {"a": 0.2, "b": 0.3, "c": 0.4}})
    assert found.n == 3
    assert found.ranks["y"].rank == 1
    assert ranking({"x": first, "y": {"a": 0.2, "b": 0.3}}) is None
    assert ranking({"x": first}) is None
    assert ranking({}) is None


def test_the_order_of_subjects_and_names_changes_nothing():
    rng = np.random.default_rng(3)
    values = {name: dict(zip("abcdefgh", rng.uniform(0, 1, 8).tolist(), strict=True)) for name in ("x", "y", "z")}
    turned = {name: dict(reversed(values[name].items())) for name in reversed(values)}
    assert dict(ranking(values).ranks) == dict(ranking(turned).ranks)

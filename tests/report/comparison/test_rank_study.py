"""Ranks on cohorts drawn anew and comparisons of all pairs, on planted values."""

import math

import pytest
from scipy.stats import wilcoxon

from sam2ft.report.comparison.compare import ComparedEvaluation
from sam2ft.report.comparison.point_tests import PointValues
from sam2ft.report.comparison.rank_study import MOST_RANKED, RankStudy, rank_study
from sam2ft.report.plots.files import plot_files
from sam2ft.report.plots.rank_plots import rank_plot, significance_map

EVALUATION = ComparedEvaluation("e" * 12, "knee", "test", "box")


def values(run, numbers, evaluation=EVALUATION, measure="dice_slice_mean"):
    return PointValues(run, evaluation, measure, tuple((("knee", f"s{i}"), value) for i, value in enumerate(numbers)))


def row(run, rank, n=12):
    key = {"dataset": "knee", "split": "test", "protocol": "box", "measure": "dice_slice_mean"}
    return {"run": run, "name": f"point {run}", "n": n, "rank": rank, "rank_low": rank, "rank_high": rank, **key} | {
        "first_share": 0.0
    }


@pytest.fixture
def study():
    level = [0.5 + i / 100 for i in range(12)]
    better = [one + 0.1 + i / 1000 for i, one in enumerate(level)]
    mixed = [one + (0.002 if i % 2 else -0.0021) for i, one in enumerate(level)]
    return rank_study([values("a", level), values("b", better), values("c", mixed)])


def test_shares_of_a_point_are_one_in_all_and_a_clear_first_is_always_first(study):
    assert all(sum(shares.values()) == pytest.approx(1) for shares in study.shares.values())
    assert study.shares["b"] == {1.0: 1.0}
    assert study.order[0] == "b"
    assert study.n == 12


def test_only_the_clear_one_is_above_the_others(study):
    significant = {pair for pair, p in study.above.items() if p < 0.05}
    assert significant == {("b", "a"), ("b", "c")}


def test_p_is_that_of_scipy_corrected_over_all_ordered_pairs():
    first, second = [0.5, 0.6, 0.7, 0.8, 0.9, 0.55, 0.65], [0.4, 0.62, 0.6, 0.7, 0.8, 0.5, 0.6]
    study = rank_study([values("a", first), values("b", second)])
    above = wilcoxon([a - b for a, b in zip(first, second, strict=True)], alternative="greater").pvalue
    assert study.above["a", "b"] == pytest.approx(2 * above)
    assert study.above["b", "a"] == pytest.approx(1 - above, abs=0.02)


def test_equal_points_are_not_above_each_other():
    same = [0.5, 0.6, 0.7]
    study = rank_study([values("a", same), values("b", same)])
    assert set(study.above.values()) == {1.0}
    assert study.shares["a"] == {1.5: 1.0}


def test_one_evaluation_is_studied_the_first_by_name_and_few_subjects_are_none():
    other = ComparedEvaluation("f" * 12, "spine", "test", "box")
    both = [values("a", [0.1] * 4), values("b", [0.2] * 4), values("a", [0.3] * 4, other)]
    assert rank_study(both).how == ("knee", "test", "box")
    assert rank_study([values("a", [0.1, 0.2]), values("b", [0.1, 0.3])]) == RankStudy()
    assert rank_study([values("a", [0.1] * 5)]) == RankStudy()
    assert rank_study([]) == RankStudy()


def test_of_many_points_the_first_are_compared():
    many = [values(f"r{i}", [0.5 + i / 100 + j / 1000 for j in range(4)]) for i in range(MOST_RANKED + 5)]
    study = rank_study(many)
    assert len(study.order) == MOST_RANKED
    assert study.order[0] == f"r{MOST_RANKED + 4}"
    assert len(study.shares) == MOST_RANKED + 5
    assert not any(math.isnan(p) for p in study.above.values())


def test_the_map_is_blue_where_a_row_is_above_a_column(study):
    plot = significance_map([row("b", 1.0), row("c", 2.0), row("a", 3.0)], study)
    kinds = {(one["order"], one["number"]): one["kind"] for one in plot.rows()}
    assert {place for place, kind in kinds.items() if kind == "above"} == {(0, 2), (0, 3)}
    assert {place for place, kind in kinds.items() if kind == "itself"} == {(0, 1), (1, 2), (2, 3)}
    assert "2 of 6" in plot.alt
    assert plot_files(plot)["svg"]


def test_few_subjects_are_said_under_the_map():
    tiny = rank_study([values("a", [0.1, 0.2, 0.3, 0.4]), values("b", [0.5, 0.6, 0.7, 0.9])])
    plot = significance_map([row("b", 1.0, 4), row("a", 2.0, 4)], tiny)
    assert "With 4 subjects no p can be below 0.125" in plot.caption
    assert min(tiny.above.values()) == pytest.approx(0.125)


def test_blobs_are_the_shares_of_ranks(study):
    plot = rank_plot([row("b", 1.0), row("c", 2.0), row("a", 3.0)], "b", study)
    blobs = {(one["run"], one["rank"]): one["share"] for one in plot.rows() if one["kind"] == "blob"}
    assert blobs["b", 1.0] == 1.0
    assert sum(share for (run, _), share in blobs.items() if run == "c") == pytest.approx(1)
    assert "disc" in plot.caption
    assert "disc" not in rank_plot([row("b", 1.0), row("c", 2.0)], "b").caption

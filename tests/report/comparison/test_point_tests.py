"""Paired tests of a sweep's points against the one that validation chose."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from sam2ft.core.tables.rows import format_csv
from sam2ft.report.comparison.compare import ComparedEvaluation, PointRun, compare
from sam2ft.report.comparison.point_tests import POINT_TESTS, PointValues, point_test_rows, point_values
from sam2ft.statistics.cohort import global_rows
from sam2ft.statistics.paired_tests import paired

SUBJECTS = "abcdefgh"


def points(*validation):
    return [
        PointRun(None, "baseline", "base"),
        *(PointRun(index, f"p{index}", f"run-{index}", validation=value) for index, value in enumerate(validation)),
    ]


@pytest.fixture
def volumes(volume_row):
    """Rows of the volumes of one run; `tp` of 100 pixels of label 1 in each subject, label 2 always perfect."""

    def make(run, tps):
        rows = []
        for subject, tp in zip(SUBJECTS, tps, strict=False):
            rows.append(volume_row(run, subject, 1, num_slices=3, tp=tp, fp=100 - tp, fn=100 - tp))
            rows.append(volume_row(run, subject, 2, num_slices=3, tp=10, fp=0, fn=0))
        return rows

    return make


@pytest.fixture
def made(volumes):
    rows = [
        *volumes("base", [50, 52, 54, 56, 58, 60, 62, 64]),
        *volumes("run-0", [90, 81, 82, 83, 84, 85, 86, 87]),
        *volumes("run-1", [80, 81, 82, 83, 84, 85, 86, 88]),
    ]
    comparison = compare(points(0.4, 0.3), global_rows(rows))
    return comparison, point_values(rows)


def found_by(rows, measure="dice"):
    return {row["name"]: row for row in rows if row["measure"] == measure}


def test_every_point_is_tested_against_the_best_of_validation_and_that_one_is_not(made):
    rows = found_by(point_test_rows(*made))
    assert made[0].best == "run-1"
    assert rows["p1"]["p_wilcoxon"] is None
    assert rows["p0"]["n_paired"] == 8
    # Dice of label 1 is tp / 100, label 2 is 1: the mean over labels moves by half.
    assert rows["p0"]["difference"] == pytest.approx((10 - 1) / 2 / 100 / 8)
    assert rows["baseline"]["effect"] == -1
    assert rows["baseline"]["p_wilcoxon"] == pytest.approx(2 / 2**8)


def test_holm_counts_the_other_points_of_one_measure(made):
    rows = found_by(point_test_rows(*made))
    small, large = sorted((rows["p0"]["p_wilcoxon"], rows["baseline"]["p_wilcoxon"]))
    assert sorted((rows["p0"]["p_holm"], rows["baseline"]["p_holm"])) == [2 * small, max(2 * small, large)]


def test_the_values_are_those_behind_the_mean_of_labels(made):
    comparison, values = made
    for one in values:
        line = next(line for line in comparison.lines if line.point.run == one.run)
        assert math.fsum(one.values.values()) / len(one.values) == pytest.approx(line.scores[one.measure].mean)


def test_values_kept_as_json_are_the_same_to_the_last_bit(made):
    _, values = made
    as_json = TypeAdapter(tuple[PointValues, ...])
    assert as_json.validate_json(as_json.dump_json(values)) == values


@settings(deadline=None)
@given(
    name=st.text(st.characters(exclude_categories=("Cs",))) | st.sampled_from(["001", "1e5", "null", "nan", "True"]),
    value=st.floats(allow_nan=False, allow_infinity=False),
)
def test_a_subjects_name_stays_text_and_its_value_keeps_every_bit_as_json(name, value):
    one = PointValues("run", ComparedEvaluation("e", "knee", "test", "box"), "dice", ((("knee", name), value),))
    as_json = TypeAdapter(PointValues)
    assert repr(as_json.validate_json(as_json.dump_json(one))) == repr(one)


def test_ranks_are_by_the_test_mean_whatever_validation_says(made):
    rows = found_by(point_test_rows(*made))
    assert [rows[name]["rank"] for name in ("p0", "p1", "baseline")] == [1, 2, 3]
    assert rows["baseline"]["first_share"] == 0
    assert rows["p0"]["first_share"] + rows["p1"]["first_share"] == pytest.approx(1)


def test_without_a_best_point_there_are_ranks_and_no_tests(volumes):
    rows = [*volumes("base", [50] * 8), *volumes("run-0", [60] * 8)]
    comparison = compare(points(None), global_rows(rows))
    found = found_by(point_test_rows(comparison, point_values(rows)))
    assert [found[name]["p_holm"] for name in found] == [None, None]
    assert found["p0"]["rank"] == 1


def test_two_subjects_have_a_difference_and_no_ranks(volumes):
    rows = [*volumes("run-0", [50, 60]), *volumes("run-1", [60, 70])]
    comparison = compare(points(0.4, 0.3), global_rows(rows))
    found = found_by(point_test_rows(comparison, point_values(rows)))
    assert found["p0"]["rank"] is None
    assert found["p0"]["difference"] == pytest.approx(-0.05)


def test_evaluations_of_another_protocol_are_another_family(volumes):
    other = [row | {"protocol": "point", "eval": "f" * 12} for row in volumes("run-0", [30] * 8)]
    rows = [*volumes("run-0", [50] * 8), *other, *volumes("run-1", [60] * 8)]
    comparison = compare(points(0.4, 0.3), global_rows(rows))
    found = [row for row in point_test_rows(comparison, point_values(rows)) if row["measure"] == "dice"]
    assert [(row["protocol"], row["n_paired"]) for row in found] == [("box", 8), ("box", None), ("point", None)]


def test_the_rows_make_the_table(made):
    text = format_csv(POINT_TESTS, point_test_rows(*made))
    assert text.splitlines()[0] == ",".join(POINT_TESTS.column_names())
    assert len(text.splitlines()) == 1 + 3


def test_the_numbers_are_those_of_the_paired_test_itself(made):
    comparison, values = made
    of = {one.run: one.values for one in values if one.measure == "dice"}
    row = found_by(point_test_rows(comparison, values))["p0"]
    direct = paired(of["run-1"], of["run-0"])
    assert (row["difference_ci_low"], row["difference_ci_high"]) == (direct.ci_low, direct.ci_high)

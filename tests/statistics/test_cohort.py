import math

import numpy as np
import pytest

from sam2ft.core.keys import VolumeKey
from sam2ft.core.tables.rows import TABLES, format_csv
from sam2ft.statistics.cohort import biomarker_global_rows, global_rows

STAMP = {"run": "r", "eval": "e", "split": "test", "protocol": "box"}


def picture(*pixels: int) -> np.ndarray:
    """One slice of 4 x 4 whose first pixels are as given."""
    mask = np.zeros((1, 4, 4), np.uint8)
    mask.flat[: len(pixels)] = pixels
    return mask


def volumes(score, *cases):
    """Stamped volume rows of (subject, volume, prediction, reference) cases."""
    found = []
    for subject, volume, prediction, reference in cases:
        rows = score(prediction, reference, names=("dice", "hd"), key=VolumeKey("phantom", subject, volume))
        found += [{**STAMP, **one} for one in rows["volume"]]
    return found


def row(rows, **key):
    (found,) = [one for one in rows if all(one[name] == value for name, value in key.items())]
    return found


def test_a_perfect_prediction_scores_1_though_a_class_is_absent_from_the_test_set(score):
    """The predecessor averaged the absent class in as 0 and wrote 0.5."""
    rows = global_rows(
        volumes(score, ("anna", "v", picture(1, 1), picture(1, 1)), ("bert", "v", picture(1), picture(1)))
    )
    assert row(rows, label=1, measure="dice")["mean"] == 1.0
    overall = row(rows, label_name="mean_of_labels", measure="dice")
    assert (overall["mean"], overall["n"], overall["n_absent"]) == (1.0, 2, 2)
    absent = row(rows, label=2, measure="dice")
    assert (absent["n"], absent["n_absent"]) == (0, 2)
    assert math.isnan(absent["mean"])


def test_a_miss_counts_as_zero_and_is_counted(score):
    cases = (
        ("anna", "v", picture(1, 1), picture(1, 1)),
        ("bert", "v", picture(), picture(1)),
        ("cleo", "v", picture(2), picture(1)),
    )
    rows = global_rows(volumes(score, *cases))
    one, two = row(rows, label=1, measure="dice"), row(rows, label=2, measure="dice")
    assert (one["n"], one["n_missed"], one["mean"]) == (3, 2, pytest.approx(1 / 3))
    assert (two["n"], two["n_absent"], two["n_spurious"], two["mean"]) == (1, 2, 1, 0.0)
    diagonal = math.sqrt(33)
    assert row(rows, label=1, measure="hd_mm")["mean"] == pytest.approx(2 * diagonal / 3)


def test_a_subject_with_two_volumes_counts_once(score):
    cases = (
        ("anna", "v1", picture(1), picture(1)),
        ("anna", "v2", picture(1), picture(1, 1, 1)),
        ("bert", "v", picture(), picture(1)),
    )
    found = row(global_rows(volumes(score, *cases)), label=1, measure="dice")
    assert (found["n"], found["mean"]) == (2, pytest.approx(((1 + 0.5) / 2 + 0) / 2))


def test_pooled_adds_the_counts_of_all_labels(score):
    case = ("anna", "v", picture(1, 1, 1, 0, 2), picture(1, 1, 1, 1, 0))
    rows = global_rows(volumes(score, case))
    assert row(rows, label_name="pooled", measure="dice")["mean"] == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    assert row(rows, label_name="mean_of_labels", measure="dice")["mean"] == pytest.approx((6 / 7 + 0) / 2)
    assert not [one for one in rows if one["label_name"] == "pooled" and one["measure"] == "hd_mm"]


def test_distances_that_nobody_asked_for_have_no_rows(score):
    rows = global_rows(volumes(score, ("anna", "v", picture(1), picture(1))))
    assert {one["measure"] for one in rows} == {"dice", "iou", "dice_slice_mean", "iou_slice_mean", "hd_mm"}


def test_runs_are_kept_apart_and_the_order_of_rows_does_not_matter(score):
    cases = [
        ("anna", "v", picture(1), picture(1, 1)),
        ("bert", "v", picture(1), picture(1)),
        ("cleo", "v", picture(1), picture(1)),
    ]
    good = volumes(score, *cases)
    bad = [{**one, "run": "worse", "dice": 0.0} for one in good]
    rows = global_rows(good + bad)
    assert row(rows, run="worse", label=1, measure="dice")["mean"] == 0.0
    text = format_csv(TABLES["global"], rows)
    assert text == format_csv(TABLES["global"], global_rows((good + bad)[::-1]))


def biomarkers(**values):
    """Whole-tissue rows of one biomarker, subject -> (reference, prediction)."""
    plain = {**STAMP, "dataset": "phantom", "volume": "v", "label": 1, "tissue": "disc", "instance": None}
    kind = {"biomarker": "tissueheight", "definition": "height", "unit": "mm", "n_reference": 1, "n_prediction": 1}
    return [
        {
            **plain,
            **kind,
            "subject": name,
            "reference": r,
            "prediction": p,
            "difference": p - r,
            "dz_source": "positions",
            "status": status,
        }
        for name, (r, p, status) in values.items()
    ]


def test_agreement_of_three_subjects_by_hand():
    rows = biomarkers(a=(2.0, 3.0, "ok"), b=(4.0, 4.0, "ok"), c=(6.0, 8.0, "ok"), d=(5.0, math.nan, "missed"))
    (found,) = biomarker_global_rows(rows)
    assert (found["n"], found["n_missed"], found["n_spurious"]) == (3, 1, 0)
    assert (found["reference_mean"], found["prediction_mean"], found["bias"]) == (4.0, 5.0, 1.0)
    assert found["sd_difference"] == 1.0
    assert (found["loa_low"], found["loa_high"]) == pytest.approx((1 - 1.96, 1 + 1.96))
    assert found["mae"] == 1.0
    assert found["rmse"] == pytest.approx(math.sqrt(5 / 3))
    (line,) = format_csv(TABLES["biomarker_global"], [found]).splitlines()[1:]
    assert line.count(",") == len(TABLES["biomarker_global"].columns) - 1
    assert found["reason"] == ""


def test_every_number_of_four_subjects_that_differ_is_there_with_its_interval():
    pairs = {f"s{number}": (10.0 + number, 10.2 + 0.9 * number, "ok") for number in range(4)}
    (found,) = biomarker_global_rows(biomarkers(**pairs))
    unknown = {"yardstick_percent", "within_yardstick", "margin", "tost_p"}
    for column in TABLES["biomarker_global"].measures:
        if column.kind != "text" and column.name not in unknown:
            assert math.isfinite(found[column.name]), column.name


def test_cartilage_has_a_yardstick_and_a_margin():
    rows = biomarkers(a=(40.0, 40.5, "ok"), b=(44.0, 44.0, "ok"), c=(36.0, 35.5, "ok"))
    rows = [{**row, "tissue": "femoral cartilage", "biomarker": "t2", "definition": "mean"} for row in rows]
    (found,) = biomarker_global_rows(rows)
    assert (found["yardstick_percent"], found["within_yardstick"], found["margin"]) == (4.0, 1, pytest.approx(1.6))
    assert 0 < found["tost_p"] < 0.05


def test_a_subject_with_two_volumes_counts_once_in_every_number():
    """Two volumes of one subject, 1 and 3 too high: the subject is 2 too high."""
    rows = biomarkers(a=(10.0, 11.0, "ok"), b=(12.0, 12.5, "ok"), c=(14.0, 14.2, "ok"))
    more = [*rows, {**rows[0], "volume": "v2", "prediction": 13.0, "difference": 3.0}]
    plain = biomarkers(a=(10.0, 12.0, "ok"), b=(12.0, 12.5, "ok"), c=(14.0, 14.2, "ok"))
    (found,), (expected,) = biomarker_global_rows(more), biomarker_global_rows(plain)
    assert {name: str(value) for name, value in found.items()} == {name: str(value) for name, value in expected.items()}


def test_instances_are_used_only_where_there_is_no_whole():
    whole = biomarkers(a=(2.0, 3.0, "ok"))
    parts = [{**whole[0], "instance": 1, "prediction": 9.0}, {**whole[0], "instance": 2, "prediction": 11.0}]
    assert biomarker_global_rows(whole + parts)[0]["prediction_mean"] == 3.0
    assert biomarker_global_rows(parts)[0]["prediction_mean"] == 10.0
    assert biomarker_global_rows(parts)[0]["n"] == 1


def test_no_rows_give_no_rows():
    assert global_rows([]) == []
    assert biomarker_global_rows([]) == []

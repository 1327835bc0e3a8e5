"""Warnings about values of few valid voxels: pictures with arithmetic."""

import numpy as np
import pytest

from sam2ft.core.keys import VolumeKey
from sam2ft.core.tables.rows import TABLES, format_csv
from sam2ft.evaluation.summary import warning_lines
from sam2ft.statistics.cohort import biomarker_global_rows
from sam2ft.statistics.valid_share import valid_share_warnings, warning_texts

STAMP = {"run": "r", "eval": "e", "split": "test", "protocol": "box"}


def rows_of(score, *invalid: int, biomarker: str = "t2"):
    """Rows of biomarker_volume.csv: a subject per number of invalid voxels out of 20."""
    mask, found = np.ones((1, 4, 5), np.uint8), []
    for number, voxels in enumerate(invalid):
        times = np.full(mask.shape, 40, np.float32)
        times.flat[:voxels] = np.nan
        key = VolumeKey("d", f"s{number}", "v")
        rows = score(mask, mask, names=(biomarker,), maps={biomarker: times}, key=key)
        found += [{**STAMP, **row} for row in rows["biomarker_volume"]]
    return found


@pytest.mark.parametrize("biomarker", ["t2", "t1rho"])
@pytest.mark.parametrize(
    ("invalid", "text"),
    [
        ((0, 0, 0), ""),
        ((2, 2, 1), ""),  # 0.9 is not below 0.9
        ((3, 0, 0), "valid_share below 0.9 in 1 of 3 volumes, lowest 0.85: values are of the valid rest"),
        ((3, 10, 0, 2), "valid_share below 0.9 in 2 of 4 volumes, lowest 0.50: values are of the valid rest"),
        ((20,), "valid_share below 0.9 in 1 of 1 volumes, lowest 0.00: values are of the valid rest"),
    ],
)
def test_a_share_below_nine_tenths_is_a_warning_in_every_row_of_the_biomarker(score, biomarker, invalid, text):
    rows = rows_of(score, *invalid, biomarker=biomarker)
    of_tissue = [row for row in biomarker_global_rows(rows, resamples=0) if row["tissue"] == "one"]
    assert {row["definition"] for row in of_tissue} == {"mean", "median", "sd", "valid_share"}
    for row in of_tissue:
        assert (text in str(row["reason"])) if text else "valid_share" not in str(row["reason"])
    lines = [f"warning: {biomarker} of one: {text}"] if text else []
    assert warning_lines(rows) == lines


def test_a_warning_changes_no_other_column_and_stands_after_other_reasons(score):
    """Of the same values with and without a row of valid_share."""
    rows = rows_of(score, 10, 10, 10)
    without = [row for row in rows if row["definition"] != "valid_share"]
    warned = [row for row in biomarker_global_rows(rows) if row["definition"] != "valid_share"]
    for row, plain in zip(warned, biomarker_global_rows(without), strict=True):
        changed = {name for name in row if not np.array_equal(row[name], plain[name], equal_nan=row[name] != row[name])}
        assert changed == ({"reason"} if row["tissue"] == "one" else set())
        if row["tissue"] == "one":
            assert str(row["reason"]).startswith(
                f"{plain['reason']}; valid_share" if plain["reason"] else "valid_share"
            )
    assert "valid_share below" in format_csv(TABLES["biomarker_global"], [{**row, "eval": "e"} for row in warned])


def test_the_lower_side_counts_and_a_side_without_a_value_has_none(score):
    mask = np.ones((1, 4, 5), np.uint8)
    times = np.full(mask.shape, 40, np.float32)
    times[0, :, 4] = 2000
    narrow = mask.copy()
    narrow[0, :, 4] = 0
    for prediction, reference, expected in ((mask, narrow, 0.8), (narrow, mask, 0.8), (0 * mask, mask, 0.8)):
        rows = score(prediction, reference, names=("t2",), maps={"t2": times})["biomarker_volume"]
        (warning,) = valid_share_warnings(rows).values()
        assert warning.lowest == pytest.approx(expected)
    rows = score(narrow, narrow, names=("t2",), maps={"t2": times})["biomarker_volume"]
    assert warning_texts(rows) == []


def test_a_plate_that_leaves_the_image_is_a_warning_too(score):
    from sam2ft.core.labels import Label, LabelTable

    mask = np.zeros((6, 14, 20), np.uint8)
    mask[:, :8], mask[:, 8:] = 2, 1
    labels = LabelTable((Label(1, "plate", interface="bone"), Label(2, "bone")))
    rows = score(mask, mask, names=("cartilagethickness",), labels=labels)["biomarker_volume"]
    assert [text.split(":")[0] for text in warning_texts(rows)] == ["cartilagethickness of plate"]


def test_several_datasets_are_named_apart(score):
    rows = rows_of(score, 10)
    other = [{**row, "dataset": "second"} for row in rows]
    assert [text.split(":")[0] for text in warning_texts([*rows, *other])] == [
        "t2 of one (d, box)",
        "t2 of one (second, box)",
    ]

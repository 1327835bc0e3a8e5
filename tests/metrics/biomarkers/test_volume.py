import numpy as np
import pytest


def test_volume_is_voxels_times_spacing_in_mm3_and_ml(score):
    reference, prediction = np.zeros((4, 10, 10), np.uint8), np.zeros((4, 10, 10), np.uint8)
    reference[1:3, :5, :5] = 1
    prediction[1, :5, :5] = 1
    rows = score(prediction, reference, names=("tissuevolume",), spacing=(4.0, 0.5, 0.25))
    mm3, ml = (one for one in rows["biomarker_volume"] if one["label"] == 1)
    assert (mm3["unit"], mm3["reference"], mm3["prediction"], mm3["difference"]) == ("mm3", 25.0, 12.5, -12.5)
    assert (ml["unit"], ml["reference"]) == ("mL", 0.025)
    assert (mm3["n_reference"], mm3["dz_source"], mm3["status"]) == (50, "positions", "ok")
    assert [(one["slice"], one["reference"], one["status"]) for one in rows["biomarker_slice"]] == [
        (1, 12.5, "ok"),
        (2, 12.5, "missed"),
    ]
    assert sum(one["prediction"] for one in rows["biomarker_slice"]) == pytest.approx(mm3["prediction"])


def test_a_missed_tissue_has_a_real_volume_of_zero(score):
    reference = np.ones((1, 2, 2), np.uint8)
    rows = score(0 * reference, reference, names=("tissuevolume",))["biomarker_volume"]
    found = next(one for one in rows if one["label"] == 1)
    assert (found["prediction"], found["difference"], found["status"]) == (0.0, -4.0, "missed")


def test_only_the_tissues_asked_for_are_measured(score):
    mask = np.array([[[1, 2]]], np.uint8)
    rows = score(mask, mask, names=("tissuevolume",), tissues=(2,))["biomarker_volume"]
    assert {one["tissue"] for one in rows} == {"two"}

import math

import numpy as np
import pytest


def values(rows, biomarker, definition):
    (found,) = [
        one for one in rows if (one["label"], one["biomarker"], one["definition"]) == (1, biomarker, definition)
    ]
    return found


def block(*shape: int) -> np.ndarray:
    return np.ones(shape, np.uint8)


def test_a_map_of_40_everywhere_is_40_in_every_tissue(score):
    """The predecessor's "total" over the tissues was 26.7."""
    mask = block(2, 6, 6)
    mask[:, 3:] = 2
    rows = score(mask, mask, names=("t1rho",), maps={"t1rho": np.full(mask.shape, 40, np.float32)})["biomarker_volume"]
    means = [one for one in rows if one["definition"] == "mean"]
    assert [(one["label"], one["reference"], one["prediction"], one["unit"]) for one in means] == [
        (1, 40, 40, "ms"),
        (2, 40, 40, "ms"),
    ]


@pytest.mark.parametrize("biomarker", ["t2", "t1rho"])
def test_failed_fits_are_left_out_not_counted_as_zero_and_not_clipped(score, biomarker):
    """Half of the voxels 0, a fifth at 2000, the rest 40: the predecessor wrote 32."""
    times = np.full((1, 10, 10), 40, np.float32)
    times.flat[:50] = 0
    times.flat[50:70] = 2000
    times.flat[70] = np.nan
    rows = score(block(1, 10, 10), block(1, 10, 10), names=(biomarker,), maps={biomarker: times})["biomarker_volume"]
    found = values(rows, biomarker, "mean")
    assert (found["reference"], found["n_reference"]) == (40, 29)
    assert values(rows, biomarker, "sd")["reference"] == 0
    assert values(rows, biomarker, "valid_share")["reference"] == pytest.approx(0.29)


def test_voxels_are_pooled_not_slices_averaged(score):
    """10,000 voxels at 40 and 4 at 80 in another slice: the predecessor wrote 60."""
    mask, times = np.zeros((2, 100, 100), np.uint8), np.full((2, 100, 100), 40, np.float32)
    mask[0], mask[1, 0, :4], times[1] = 1, 1, 80
    rows = score(mask, mask, names=("t2",), maps={"t2": times})
    assert values(rows["biomarker_volume"], "t2", "mean")["prediction"] == pytest.approx(40.016, abs=5e-4)
    assert [one["reference"] for one in rows["biomarker_slice"]] == [40, 80]
    assert values(rows["biomarker_volume"], "t2", "median")["reference"] == 40


def test_an_empty_prediction_has_no_t2_and_says_missed(score):
    rows = score(0 * block(1, 4, 4), block(1, 4, 4), names=("t2",), maps={"t2": np.full((1, 4, 4), 30, np.float32)})
    found = values([one for one in rows["biomarker_volume"] if one["label"] == 1], "t2", "mean")
    assert (found["reference"], found["status"], found["n_prediction"]) == (30, "missed", 0)
    assert math.isnan(found["prediction"])
    assert math.isnan(found["difference"])


def test_the_bound_of_t1rho_can_be_set(score):
    from sam2ft.metrics.factory import metric_factory

    times = {"t1rho": np.array([[[40, 150]]], np.float32)}
    narrow = metric_factory("T1rho", upper_ms=100.0)
    rows = score(block(1, 1, 2), block(1, 1, 2), names=(), metrics=(narrow,), maps=times)["biomarker_volume"]
    assert values(rows, "t1rho", "mean")["reference"] == 40

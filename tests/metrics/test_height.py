import math

import numpy as np
import pytest

from sam2ft.core.geometry import Geometry
from sam2ft.metrics.height import TissueHeightMetric, anterior_direction_yx, disc_heights
from sam2ft.metrics.measurement import MaskPair

SPACING = (4.0, 0.5, 0.5)


def discs(count: int, *, num_slices: int = 5) -> np.ndarray:
    """Sagittal discs 10 px (5 mm) high and 60 px (30 mm) long, one above the other."""
    mask = np.zeros((num_slices, 20 * count + 10, 80), np.uint8)
    for number in range(count):
        mask[1:-1, 20 * number + 5 : 20 * number + 15, 10:70] = 1
    return mask


def heights(rows, definition="height"):
    return [one for one in rows if one["label"] == 1 and one["definition"] == definition]


def test_five_discs_of_5_mm_are_5_mm_each(score):
    """The predecessor measured the label as one thing: 29.5 mm."""
    rows = heights(score(discs(5), discs(5), names=("tissueheight",), spacing=SPACING)["biomarker_volume"])
    assert [(one["instance"], one["reference"], one["prediction"]) for one in rows] == [
        *((number, pytest.approx(5.0), pytest.approx(5.0)) for number in (1, 2, 3, 4, 5)),
        (None, pytest.approx(5.0), pytest.approx(5.0)),
    ]
    assert rows[-1]["n_reference"] == 5


def test_an_empty_prediction_has_no_height_and_says_missed(score):
    """The predecessor wrote 0.0 mm."""
    found = heights(score(0 * discs(1), discs(1), names=("tissueheight",), spacing=SPACING)["biomarker_volume"])
    assert [one["status"] for one in found] == ["missed", "missed"]
    assert all(math.isnan(one["prediction"]) and one["reference"] == pytest.approx(5.0) for one in found)


def test_one_missed_disc_of_two_is_missed_and_the_other_is_not(score):
    prediction = discs(2)
    prediction[:, 20:] = 0
    first, second, whole = heights(
        score(prediction, discs(2), names=("tissueheight",), spacing=SPACING)["biomarker_volume"]
    )
    assert (first["status"], second["status"], whole["status"]) == ("ok", "missed", "ok")
    assert (whole["n_reference"], whole["n_prediction"]) == (2, 1)


def test_a_predicted_disc_in_two_pieces_is_one_instance_and_a_made_up_one_is_spurious():
    reference, prediction = discs(2) > 0, discs(2) > 0
    prediction[:, :, 40] = False
    prediction[:, 45:, 70:] = True
    metric = TissueHeightMetric()
    pair = MaskPair(prediction, reference, Geometry.axis_aligned(reference.shape, SPACING))
    found = {one.instance: one.status for one in metric.measure(pair) if one.definition == "height"}
    assert found == {1: "ok", 2: "ok", 3: "spurious", None: None}


@pytest.mark.parametrize("degrees", [0, 10, 30, 43, 75, 90])
def test_a_tilted_disc_keeps_its_height_within_half_a_pixel(degrees):
    angle = np.deg2rad(degrees)
    y, x = np.mgrid[:400, :400] * 0.1
    u = (y - 20.03) * np.sin(angle) + (x - 19.97) * np.cos(angle)
    v = (y - 20.03) * np.cos(angle) - (x - 19.97) * np.sin(angle)
    found = disc_heights((abs(u) < 15) & (abs(v) < 2.5), (0.1, 0.1), (0.0, 1.0))
    assert found["height"] == pytest.approx(5.0, abs=0.05)
    assert found["area"] == pytest.approx(150, rel=0.01)


def test_a_wedge_is_higher_in_front_and_front_is_where_the_affine_says():
    """A disc 60 px long whose height falls from 20 px on the left to 8 px on the right, 0.5 mm pixels."""
    y, x = np.mgrid[:40, :80]
    wedge = (x >= 10) & (x < 70) & (abs(y - 20) < (20 - 12 * (x - 10) / 60) / 2)
    left = disc_heights(wedge, (0.5, 0.5), (0.0, -1.0))
    right = disc_heights(wedge, (0.5, 0.5), (0.0, 1.0))
    assert left["height_anterior"] == pytest.approx(9.0, abs=0.5)
    assert left["height_middle"] == pytest.approx(7.0, abs=0.5)
    assert left["height_posterior"] == pytest.approx(5.0, abs=0.5)
    assert right["height_posterior"] == pytest.approx(left["height_anterior"])


def test_the_anterior_direction_is_that_of_the_affine():
    # Sagittal: slices to the right, rows downwards (inferior), columns towards posterior.
    affine = [[0, 0, 4, 0], [-0.5, 0, 0, 0], [0, -0.5, 0, 0], [0, 0, 0, 1]]
    assert anterior_direction_yx(Geometry.from_affine((5, 40, 80), affine)) == (0.0, -1.0)


def test_the_height_is_the_median_of_the_three_most_central_slices(score):
    mask = discs(1, num_slices=7)
    mask[1, :10] = mask[5, :10] = 0  # the outermost slices of the disc are half as high
    found = heights(score(mask, mask, names=("tissueheight",), spacing=SPACING)["biomarker_volume"])
    assert found[0]["reference"] == pytest.approx(5.0)

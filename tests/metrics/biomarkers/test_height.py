import math

import numpy as np
import pytest

from sam2ft.core.geometry import Geometry
from sam2ft.core.labels import Label, LabelTable
from sam2ft.metrics.biomarkers.height import TissueHeightMetric, anterior_direction_yx, disc_heights, vertebra_height
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


SPINE = LabelTable((Label(1, "disc", vertebra="vertebra"), Label(2, "vertebra")))


def spine(count: int = 3) -> np.ndarray:
    """Discs of 10 x 60 px between vertebrae of 40 x 60 px (20 mm high), each with an arch behind it."""
    mask = np.zeros((5, 50 * count + 50, 100), np.uint8)
    for number in range(count + 1):
        mask[1:-1, 50 * number + 5 : 50 * number + 45, 10:70] = 2
        mask[1:-1, 50 * number + 20 : 50 * number + 24, 70:95] = 2
    for number in range(count):
        mask[1:-1, 50 * number + 45 : 50 * number + 55, 10:70] = 1
    return mask


def test_the_height_index_is_the_height_over_that_of_the_vertebrae_beside(score):
    rows = score(spine(), spine(), names=("tissueheight",), spacing=SPACING, labels=SPINE)["biomarker_volume"]
    found = heights(rows, "DHI")
    assert [one["reference"] for one in found] == pytest.approx([0.25] * 4)
    assert {one["unit"] for one in found} == {"1"}
    assert not [one for one in rows if one["definition"] == "DHI" and one["tissue"] == "vertebra"]


def test_the_prediction_is_held_against_the_vertebrae_of_the_reference(score):
    prediction = np.where(spine() == 1, 1, 0).astype(np.uint8)
    prediction[:, 50:55] = 0  # half of the first disc
    found = heights(
        score(prediction, spine(), names=("tissueheight",), spacing=SPACING, labels=SPINE)["biomarker_volume"], "DHI"
    )
    assert [one["prediction"] for one in found[:3]] == pytest.approx([0.125, 0.25, 0.25])


def test_at_the_end_of_the_picture_one_vertebra_stands_for_both_and_without_any_there_is_no_index(score):
    mask = spine(1)
    mask[:, 55:] = 0
    (one, whole) = heights(
        score(mask, mask, names=("tissueheight",), spacing=SPACING, labels=SPINE)["biomarker_volume"], "DHI"
    )
    assert one["reference"] == whole["reference"] == pytest.approx(0.25)
    mask[mask == 2] = 0
    rows = score(mask, mask, names=("tissueheight",), spacing=SPACING, labels=SPINE)["biomarker_volume"]
    assert all(math.isnan(one["reference"]) for one in heights(rows, "DHI"))
    assert heights(rows)[0]["reference"] == pytest.approx(5.0)


@pytest.mark.parametrize("degrees", [0, 25, 60, 140])
def test_a_tilted_disc_has_the_same_index(degrees):
    angle = np.deg2rad(degrees)
    y, x = np.mgrid[:700, :700] * 0.1 - 35.03
    u, v = y * np.sin(angle) + x * np.cos(angle), y * np.cos(angle) - x * np.sin(angle)
    vertebrae = np.where(abs(u) < 15, 1 * ((v > 2.5) & (v < 22.5)) + 2 * ((v < -2.5) & (v > -22.5)), 0)
    height = vertebra_height((abs(u) < 15) & (abs(v) < 2.5), vertebrae.astype(np.int32), (0.1, 0.1))
    assert height == pytest.approx(20.0, rel=0.01)

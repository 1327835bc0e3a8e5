import math

import numpy as np
import pytest

from sam2ft.core.geometry import Geometry
from sam2ft.core.labels import Label, LabelTable
from sam2ft.metrics.biomarkers.sensitivity import _moved_pairs
from sam2ft.metrics.measurement import MaskPair
from sam2ft.statistics.cohort import biomarker_global_rows

LABELS = LabelTable((Label(1, "plate", interface="bone"), Label(2, "bone")))


def plate() -> np.ndarray:
    """6 rows of cartilage on 8 of bone, across the whole image."""
    mask = np.zeros((6, 24, 20), np.uint8)
    mask[:, :8], mask[:, 8:14] = 2, 1
    return mask


def sensitivities(score, mask, names, **given):
    rows = score(mask, mask, names=names, sensitivity=True, spacing=(3.0, 0.5, 0.4), **given)
    return {(one["label"], one["definition"], one["unit"]): one.get("sensitivity") for one in rows["biomarker_volume"]}


def test_a_plate_gets_a_pixel_thicker_when_both_of_its_faces_move_by_half_a_pixel(score):
    """Half a pixel outwards and half a pixel inwards, at the bone and at the surface: 2 x 0.5 mm between the two."""
    found = sensitivities(score, plate(), ("cartilagethickness",), labels=LABELS)
    assert found[1, "ThCcAB", "mm"] == pytest.approx(1.0, abs=0.01)
    assert found[1, "dAB", "percent"] == 0


def test_the_volume_changes_by_its_surface_times_a_pixel(score):
    mask = np.zeros((5, 30, 40), np.uint8)
    mask[1:4, 5:15, 10:30] = 1  # 10 x 20 pixels of 0.5 x 0.4 mm in three slices of 3 mm: 120 mm3
    found = sensitivities(score, mask, ("tissuevolume",), labels=LabelTable((Label(1, "block"),)))
    # In pixels of half the size: 2 x (20 + 40) around it are added, 4 fewer along its inside are taken off.
    per_slice = (120 + 116) * 0.25 * 0.2
    assert found[1, "volume", "mm3"] == pytest.approx(3 * 3.0 * per_slice, rel=1e-9)
    assert found[1, "volume", "mL"] == pytest.approx(3 * 3.0 * per_slice / 1000, rel=1e-9)


def test_beyond_the_image_a_plate_goes_on(score):
    """Across 20 columns: half a pixel at each of two faces, outwards and inwards, in 6 slices."""
    found = sensitivities(score, plate(), ("tissuevolume",), labels=LABELS, tissues=(1,))
    assert found[1, "volume", "mm3"] == pytest.approx(6 * 3.0 * 20 * 0.4 * (4 * 0.25), rel=1e-9)


def test_half_a_pixel_is_exact_and_the_volume_stays_where_it_is():
    mask = np.zeros((3, 40, 40), bool)
    mask[1, 20:24, 20:23] = True
    affine = np.array([[0, 0, 3, 5], [-0.5, 0, 0, 7], [0, -0.4, 0, 9], [0, 0, 0, 1.0]])
    pair = MaskPair(mask, mask, Geometry.from_affine(mask.shape, affine))
    larger, smaller = _moved_pairs(pair)
    assert larger.geometry.spacing_zyx_mm == pytest.approx((3.0, 0.2, 0.25))
    assert (larger.reference_zyx.sum(), smaller.reference_zyx.sum()) == (8 * 6 + 2 * (8 + 6), 6 * 4)
    for moved in (larger, smaller):
        z, y, x = np.argwhere(moved.reference_zyx).mean(axis=0)
        assert moved.geometry.affine @ (x, y, z, 1) == pytest.approx(affine @ (21, 21.5, 1, 1))


def test_a_height_changes_by_a_pixel_and_relaxation_by_its_gradient(score):
    mask = np.zeros((5, 40, 80), np.uint8)
    mask[1:4, 10:20, 10:70] = 1
    times = np.broadcast_to(np.arange(40, dtype=np.float32)[:, None] + 30, mask.shape).copy()
    found = sensitivities(
        score, mask, ("tissueheight", "t2"), labels=LabelTable((Label(1, "disc"),)), maps={"t2": times}
    )
    assert found[1, "height", "mm"] == pytest.approx(1.0, abs=0.02)  # two faces, half a pixel each way
    assert found[1, "mean", "ms"] == pytest.approx(0, abs=1e-9)  # the gradient is symmetric about the middle


def test_rows_of_slices_and_instances_and_of_missed_tissue_have_none(score):
    mask = np.zeros((5, 40, 80), np.uint8)
    mask[1:4, 10:20, 10:70] = 1
    # Slices to the right, rows downwards: the planes in which a height is measured.
    sagittal = Geometry.from_affine((5, 40, 80), [[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    rows = score(0 * mask, mask, names=("tissuevolume", "tissueheight"), sensitivity=True, geometry=sagittal)
    assert all("sensitivity" not in one for one in rows["biomarker_slice"])
    assert all("sensitivity" not in one for one in rows["biomarker_volume"] if one["instance"] is not None)
    whole = [one for one in rows["biomarker_volume"] if one["label"] == 1 and one["instance"] is None]
    assert all(one["status"] == "missed" and one["sensitivity"] > 0 for one in whole if one["definition"] == "height")
    assert not any("sensitivity" in one for one in rows["biomarker_volume"] if one["label"] == 2)


def test_a_plate_of_one_pixel_that_erosion_leaves_nothing_of_has_no_sensitivity_of_thickness(score):
    mask = np.zeros((6, 24, 20), np.uint8)
    mask[:, :8], mask[:, 8] = 2, 1
    found = sensitivities(score, mask, ("cartilagethickness", "tissuevolume"), labels=LABELS)
    assert math.isnan(found[1, "ThCcAB", "mm"])
    assert found[1, "volume", "mm3"] > 0


def test_it_is_only_there_when_it_is_asked_for_and_its_mean_stands_in_the_global_table(score):
    plain = score(plate(), plate(), names=("tissuevolume",), labels=LABELS)["biomarker_volume"]
    assert all("sensitivity" not in one for one in plain)
    asked = score(plate(), plate(), names=("tissuevolume",), labels=LABELS, sensitivity=True)["biomarker_volume"]
    by_unit = {one["unit"]: one["sensitivity"] for one in asked if one["label"] == 1}
    for rows, expected in ((plain, None), (asked, by_unit["mm3"])):
        stamped = [{"run": "r", "eval": "e", "split": "test", "protocol": "box", **row} for row in rows]
        made = [one for one in biomarker_global_rows(stamped) if (one["tissue"], one["unit"]) == ("plate", "mm3")]
        assert made[0].get("sensitivity_mean") == expected

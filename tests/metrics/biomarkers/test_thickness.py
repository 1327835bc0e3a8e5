import math

import numpy as np
import pytest

from sam2ft.core.errors import DataError
from sam2ft.core.geometry import Geometry
from sam2ft.core.labels import Label, LabelTable
from sam2ft.metrics.biomarkers.thickness import UNITS, CartilageThicknessMetric
from sam2ft.metrics.measurement import MaskPair

PLATE_ON_BONE = LabelTable((Label(1, "plate", interface="bone"), Label(2, "bone")))
SPACINGS = [(0.5, 0.5, 0.5), (0.7, 0.365, 0.365), (3.0, 0.5, 0.5)]


def measured(prediction, reference, bone, spacing) -> dict[str, tuple[float, float]]:
    geometry = Geometry.axis_aligned(reference.shape, spacing)
    pair = MaskPair(prediction, reference, geometry, bone_zyx=bone)
    return {one.definition: (one.reference, one.prediction) for one in CartilageThicknessMetric().measure(pair)}


def grid_mm(spacing, extent_mm):
    """Coordinates of voxel centres, the middle of the block at 0, off the voxel raster on purpose."""
    axes = [
        (np.arange(math.ceil(extent_mm / step)) + offset) * step - extent_mm / 2
        for step, offset in zip(spacing, (0.13, 0.37, 0.71), strict=True)
    ]
    return np.meshgrid(*axes, indexing="ij")


def slab(voxels: int, axis: int, shape=(24, 26, 28)) -> tuple[np.ndarray, np.ndarray]:
    """(bone, plate of so many voxels on it), both across the whole image."""
    position = np.indices(shape)[axis]
    return position < 8, (position >= 8) & (position < 8 + voxels)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("voxels", [1, 3, 6])
def test_a_slab_along_an_axis_is_as_thick_as_its_voxels(axis, voxels):
    spacing = (0.7, 0.365, 0.5)
    bone, plate = slab(voxels, axis)
    found = measured(plate, plate, bone, spacing)
    for definition in ("ThCcAB", "ThCtAB", "P5", "P95"):
        assert found[definition] == pytest.approx((voxels * spacing[axis],) * 2, rel=1e-6)
    assert found["dAB"] == (0, 0)
    assert found["valid_share"] == (1, 1)


@pytest.mark.parametrize("slice_thickness", [1.0, 3.0, 4.0])
def test_a_slab_of_3_mm_is_3_mm_at_any_slice_thickness(score, slice_thickness):
    """The predecessor multiplied by the slice thickness: 2.93, 8.78 and 11.71 mm."""
    mask = np.zeros((8, 24, 30), np.uint8)
    mask[:, :10], mask[:, 10:16] = 2, 1
    rows = score(mask, mask, names=("CartilageThickness",), labels=PLATE_ON_BONE, spacing=(slice_thickness, 0.5, 0.5))
    (found,) = [one for one in rows["biomarker_volume"] if one["definition"] == "ThCcAB"]
    assert (found["reference"], found["prediction"]) == (pytest.approx(3.0), pytest.approx(3.0))
    assert (found["tissue"], found["unit"], found["status"]) == ("plate", "mm", "ok")
    assert {one["tissue"] for one in rows["biomarker_volume"]} == {"plate"}


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_cap_on_a_sphere_is_as_thick_as_its_shell(spacing):
    z, y, x = grid_mm(spacing, 70)
    radius = np.sqrt(z * z + y * y + x * x)
    cap = (radius >= 25) & (radius < 27.4) & (y > 0.3 * radius)
    found = measured(cap, cap, radius < 25, spacing)
    tolerance = 0.05 if max(spacing) >= 3 else 0.02
    assert found["ThCcAB"][0] == pytest.approx(2.4, rel=tolerance)
    assert found["cAB"][0] == pytest.approx(2 * math.pi * 25**2 * 0.7, rel=0.03)


def test_a_tilted_slab_is_as_thick_as_across_it():
    spacing = (0.7, 0.365, 0.365)
    z, y, x = grid_mm(spacing, 40)
    normal = np.array([0.3, 0.8, 0.5]) / np.linalg.norm([0.3, 0.8, 0.5])
    depth = z * normal[0] + y * normal[1] + x * normal[2]
    plate = (depth >= 0) & (depth < 2.4) & (np.abs(np.stack([z, y, x])).max(axis=0) < 14)
    found = measured(plate, plate, (depth < 0) & (depth > -12), spacing)
    # The rim of the plate is cut along the axes, not along the rays: the middle of the distribution is the slab.
    assert found["P95"][0] == pytest.approx(2.4, rel=0.1)
    assert found["ThCcAB"][0] == pytest.approx(2.4, rel=0.06)


def test_a_partly_missed_plate_counts_zero_where_it_is_missed():
    bone, plate = slab(6, axis=1)
    prediction = plate & (np.indices(plate.shape)[2] < 14)
    found = measured(prediction, plate, bone, (1.0, 0.5, 0.5))
    # The plate spans voxel centres 0..27: 27 steps of bone, of which a prediction of columns 0..13 covers 13.5.
    assert found["ThCcAB"] == pytest.approx((3.0, 3.0), rel=0.02)
    assert found["ThCtAB"] == pytest.approx((3.0, 1.5), rel=0.02)
    assert found["dAB"] == pytest.approx((0.0, 50.0), abs=2)
    assert found["tAB"][1] == found["tAB"][0]
    assert found["cAB"][1] == pytest.approx(found["cAB"][0] / 2, rel=0.04)


def test_a_wholly_missed_plate_has_no_thickness_and_a_made_up_one_no_reference():
    bone, plate = slab(6, axis=1)
    nothing = np.zeros_like(plate)
    assert all(math.isnan(value[1]) for value in measured(nothing, plate, bone, (1, 0.5, 0.5)).values())
    spurious = measured(plate, nothing, bone, (1.0, 0.5, 0.5))
    assert all(math.isnan(value[0]) for value in spurious.values())
    assert spurious["ThCcAB"][1] == pytest.approx(3.0)
    assert math.isnan(spurious["ThCtAB"][1])


def test_an_absent_plate_still_has_its_rows():
    bone, plate = slab(6, axis=1)
    found = measured(plate & False, plate & False, bone, (1.0, 0.5, 0.5))
    assert set(found) == set(UNITS)
    assert all(math.isnan(value) for pair in found.values() for value in pair)


def test_without_bone_in_the_volume_there_is_no_number_and_the_status_says_so(score):
    mask = np.zeros((8, 24, 30), np.uint8)
    mask[:, 10:16] = 1
    maps = {"t2": np.full(mask.shape, 40, np.float32)}
    rows = score(mask, mask, names=("cartilagethickness", "t2"), labels=PLATE_ON_BONE, tissues=(1,), maps=maps)
    thickness = [one for one in rows["biomarker_volume"] if one["biomarker"] == "cartilagethickness"]
    assert {one["definition"] for one in thickness} == set(UNITS)
    assert {one["status"] for one in thickness} == {"absent"}
    assert all(math.isnan(one["reference"]) and one["n_reference"] == 0 for one in thickness)
    t2 = {one["definition"]: one for one in rows["biomarker_volume"] if one["biomarker"] == "t2"}
    assert (t2["mean"]["reference"], t2["mean"]["status"]) == (40, "ok")
    assert math.isnan(t2["mean_deep"]["reference"])


def test_a_prediction_far_from_the_bone_covers_nothing_of_it():
    bone, plate = slab(3, axis=1)
    found = measured(np.roll(plate, 8, axis=1), plate, bone, (1.0, 0.5, 0.5))
    assert found["cAB"][1] == 0
    assert found["dAB"][1] == 100
    assert found["ThCtAB"][1] == 0
    assert math.isnan(found["ThCcAB"][1])


def test_cartilage_beyond_a_gap_belongs_to_the_other_bone():
    position = np.indices((10, 30, 12))[1]
    bone, plate = position < 8, ((position >= 8) & (position < 12)) | ((position >= 16) & (position < 20))
    assert measured(plate, plate, bone, (1.0, 0.5, 0.5))["ThCcAB"][0] == pytest.approx(2.0)


def test_rays_that_leave_the_image_inside_cartilage_are_not_counted():
    position = np.indices((10, 12, 12))[1]
    found = measured(position >= 8, position >= 8, position < 8, (1.0, 0.5, 0.5))
    assert found["valid_share"] == (0, 0)
    assert math.isnan(found["ThCcAB"][0])


@pytest.mark.parametrize("order", [(1, 0, 2), (2, 1, 0), (1, 2, 0)])
def test_the_order_of_axes_does_not_matter(order):
    spacing = (0.8, 0.5, 0.6)
    z, y, x = grid_mm(spacing, 24)
    radius = np.sqrt(z * z + y * y + x * x)
    bone, cap = radius < 8, (radius >= 8) & (radius < 10) & (y > 0.2 * radius)
    plain = measured(cap, cap, bone, spacing)
    turned = measured(*(np.transpose(one, order) for one in (cap, cap, bone)), tuple(spacing[axis] for axis in order))
    for definition in ("ThCcAB", "ThCtAB", "cAB", "tAB", "P95"):
        assert turned[definition] == pytest.approx(plain[definition], rel=0.01)


def test_twice_the_spacing_is_twice_the_thickness_and_four_times_the_area():
    bone, plate = slab(4, axis=2)
    once, twice = (measured(plate, plate, bone, tuple(k * s for s in (0.7, 0.4, 0.5))) for k in (1, 2))
    assert twice["ThCcAB"][0] == pytest.approx(2 * once["ThCcAB"][0])
    assert twice["cAB"][0] == pytest.approx(4 * once["cAB"][0])


def test_a_tissue_without_an_interface_has_its_local_thickness_when_it_is_asked_for(score):
    mask = np.zeros((12, 24, 30), np.uint8)
    mask[:, :10], mask[:, 10:14] = 2, 1
    rows = score(mask, mask, names=("cartilagethickness",), labels=PLATE_ON_BONE, tissues=(1, 2), spacing=(1, 0.5, 0.5))
    of_bone = [one for one in rows["biomarker_volume"] if one["tissue"] == "bone"]
    assert [(one["definition"], one["unit"]) for one in of_bone] == [("local_thickness", "mm")]
    assert of_bone[0]["prediction"] == pytest.approx(5.0, rel=1e-3)
    assert {one["definition"] for one in rows["biomarker_volume"] if one["tissue"] == "plate"} == set(UNITS)


def test_a_table_without_any_interface_is_refused_unless_tissues_are_named(score):
    mask = np.ones((2, 4, 4), np.uint8)
    with pytest.raises(DataError, match=r"has none; metric\.tissues names those to measure without one"):
        score(mask, mask, names=("cartilagethickness",))

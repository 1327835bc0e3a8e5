"""Thickness of shapes whose thickness is known, off the voxel raster on purpose, on isotropic and other grids."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam2ft.core.geometry import Geometry
from sam2ft.metrics.biomarkers.local_thickness import local_thickness_mm
from sam2ft.metrics.biomarkers.thickness import CartilageThicknessMetric
from sam2ft.metrics.measurement import MaskPair

ISOTROPIC, KNEE, THICK = (0.5, 0.5, 0.5), (0.7, 0.365, 0.365), (3.0, 0.5, 0.5)
SPACINGS = [ISOTROPIC, KNEE, THICK]
OFFSETS = [(0.13, 0.37, 0.71), (0.5, 0.05, 0.9), (0.82, 0.61, 0.24)]
THICKNESS = 2.4


def grid(spacing, extent_mm, offset):
    axes = [(np.arange(math.ceil(extent_mm / step)) + at) * step - extent_mm / 2 for step, at in zip(spacing, offset)]  # noqa: B905
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def frame(normal):
    """Three orthonormal directions, the first along `normal`."""
    first = np.asarray(normal, float) / np.linalg.norm(normal)
    second = np.cross(first, np.eye(3)[np.argmin(np.abs(first))])
    second /= np.linalg.norm(second)
    return first, second, np.cross(first, second)


def shell(spacing, offset, *, radius=16.0, half=False):
    """(bone, cartilage, thickness, area): a ball of bone in a shell, whole or the half around an oblique direction."""
    points = grid(spacing, 2 * radius + 8, offset)
    distance = np.linalg.norm(points, axis=0)
    plate = (distance >= radius) & (distance < radius + THICKNESS)
    if half:
        plate &= np.tensordot((0.25, 0.9, 0.36), points, 1) > 0
    return distance < radius, plate, THICKNESS, 4 * math.pi * radius**2 / (2 if half else 1)


def cylinder(spacing, offset, *, axis, radius=20.0, length=20.0):
    points = grid(spacing, 54, offset)
    along, across, _ = frame(axis)
    height = np.tensordot(along, points, 1)
    distance = np.sqrt(np.maximum((points**2).sum(axis=0) - height**2, 0))
    plate = (distance >= radius) & (distance < radius + THICKNESS) & (abs(height) < length / 2)
    if not np.isclose(np.abs(along).max(), 1):
        plate &= np.tensordot(across, points, 1) > 0
        length /= 2
    return (distance < radius) & (abs(height) < 18), plate, THICKNESS, 2 * math.pi * radius * length


def slab(spacing, offset, *, normal):
    """A round plate of 12 mm radius on a round slab of bone."""
    points = grid(spacing, 40, offset)
    depth, *plane = (np.tensordot(direction, points, 1) for direction in frame(normal))
    distance = np.hypot(*plane)
    bone = (depth < 0) & (depth > -10) & (distance < 16)
    return bone, (depth >= 0) & (depth < THICKNESS) & (distance < 12), THICKNESS, math.pi * 144


def ramp(spacing, offset, *, normal):
    """A square plate, 1.5 mm at one edge and 3.5 mm at the other."""
    points = grid(spacing, 44, offset)
    depth, u, v = (np.tensordot(direction, points, 1) for direction in frame(normal))
    bone = (depth < 0) & (depth > -10) & (abs(u) < 16) & (abs(v) < 16)
    plate = (depth >= 0) & (depth < 2.5 + u / 12) & (abs(u) < 12) & (abs(v) < 12)
    return bone, plate, 2.5, 576.0


SHAPES = {
    "shell": (shell, {}),
    "half shell": (shell, {"half": True}),
    "cylinder along slices": (cylinder, {"axis": (0, 0, 1)}),
    "cylinder across slices": (cylinder, {"axis": (1, 0, 0)}),
    "tilted half cylinder": (cylinder, {"axis": (0.5, 0.3, 1)}),
    "tilted slab": (slab, {"normal": (0.3, 0.8, 0.5)}),
    "slightly tilted slab": (slab, {"normal": (0.1, 1, 0.15)}),
    "tilted ramp": (ramp, {"normal": (0.3, 0.8, 0.5)}),
    "slightly tilted ramp": (ramp, {"normal": (0.1, 1, 0.15)}),
}


def measured(bone, plate, spacing):
    pair = MaskPair(plate, plate, Geometry.axis_aligned(plate.shape, spacing), bone_zyx=bone)
    return {one.definition: one.reference for one in CartilageThicknessMetric().measure(pair)}


def check(shape, spacing, offset):
    make, options = SHAPES[shape]
    bone, plate, thickness, area = make(spacing, offset, **options)
    found = measured(bone, plate, spacing)
    thick = max(spacing) >= 3
    assert found["ThCcAB"] == pytest.approx(thickness, rel=0.05 if thick else 0.02)
    assert found["ThCtAB"] == found["ThCcAB"]
    assert found["cAB"] == pytest.approx(area, rel=0.15 if thick else 0.03)
    assert found["dAB"] == 0


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_thickness_of_a_known_shape_is_within_2_percent_and_5_on_slices_of_3_mm(shape, spacing):
    check(shape, spacing, OFFSETS[0])


@pytest.mark.slow
@pytest.mark.parametrize("offset", OFFSETS[1:])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_wherever_the_shape_lies_in_its_voxels(shape, spacing, offset):
    check(shape, spacing, offset)


def test_a_ramp_has_its_percentiles():
    bone, plate, _, _ = ramp(KNEE, OFFSETS[0], normal=(0.1, 1, 0.15))
    found = measured(bone, plate, KNEE)
    assert found["P5"] == pytest.approx(1.6, abs=0.2)
    assert found["P95"] == pytest.approx(3.4, abs=0.2)


def test_a_plate_thinner_than_its_slices_and_along_them_keeps_its_volume():
    """2.4 mm on slices of 3 mm: one fifth of the plate lies between slices, and is gap in the mask."""
    bone, plate, thickness, area = slab(THICK, OFFSETS[0], normal=(1, 0.2, 0.3))
    found = measured(bone, plate, THICK)
    assert found["ThCcAB"] * found["cAB"] == pytest.approx(thickness * area, rel=0.05)
    assert found["ThCcAB"] == pytest.approx(thickness, rel=0.08)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("shape", ["shell", "half shell", "tilted half cylinder"])
def test_the_volume_of_a_smooth_shape_is_within_1_percent(shape, spacing):
    make, options = SHAPES[shape]
    bone, plate, _, _ = make(spacing, OFFSETS[0], **options)
    voxel = math.prod(spacing)
    whole = 2 if shape == "half shell" else 1
    outer, inner = 16 + THICKNESS, 16
    if shape == "tilted half cylinder":
        truth = math.pi * ((20 + THICKNESS) ** 2 - 20**2) * 20 / 2
    else:
        truth = 4 / 3 * math.pi * (outer**3 - inner**3) / whole
        assert bone.sum() * voxel == pytest.approx(4 / 3 * math.pi * inner**3, rel=0.01)
    assert plate.sum() * voxel == pytest.approx(truth, rel=0.015 if shape == "tilted half cylinder" else 0.01)


def cap(spacing=(0.8, 0.5, 0.6), normal=(0.3, 0.8, 0.5)):
    points = grid(spacing, 24, OFFSETS[0])
    distance = np.linalg.norm(points, axis=0)
    return distance < 8, (distance >= 8) & (distance < 10) & (np.tensordot(normal, points, 1) > 2)


LENGTHS, AREAS = ("ThCcAB", "ThCtAB", "P5", "P95"), ("cAB", "tAB")


@settings(max_examples=4, deadline=None)
@given(factor=st.floats(0.3, 4.0))
def test_lengths_scale_with_the_spacing_and_areas_with_its_square(factor):
    spacing = (0.8, 0.5, 0.6)
    once = measured(*cap(), spacing)
    scaled = measured(*cap(), tuple(factor * step for step in spacing))
    for name in LENGTHS:
        assert scaled[name] == pytest.approx(factor * once[name], rel=1e-4)
    for name in AREAS:
        assert scaled[name] == pytest.approx(factor**2 * once[name], rel=1e-3)


@settings(max_examples=6, deadline=None)
@given(order=st.permutations([0, 1, 2]))
def test_the_order_of_axes_does_not_matter(order):
    spacing = (0.8, 0.5, 0.6)
    plain = measured(*cap(), spacing)
    turned = measured(*(np.transpose(one, order) for one in cap()), tuple(spacing[axis] for axis in order))
    for name in (*LENGTHS, *AREAS):
        assert turned[name] == pytest.approx(plain[name], rel=0.01)


@settings(max_examples=6, deadline=None)
@given(shift=st.tuples(*[st.integers(-3, 3)] * 3))
def test_where_the_plate_lies_in_the_image_does_not_matter(shift):
    spacing = (0.8, 0.5, 0.6)
    padded = [np.pad(one, 4) for one in cap()]
    plain = measured(*padded, spacing)
    moved = measured(*(np.roll(one, shift, axis=(0, 1, 2)) for one in padded), spacing)
    for name in (*LENGTHS, *AREAS):
        assert moved[name] == pytest.approx(plain[name], rel=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_left_knee_is_a_mirrored_right_one(axis):
    spacing = (0.8, 0.5, 0.6)
    plain, mirrored = measured(*cap(), spacing), measured(*(np.flip(one, axis) for one in cap()), spacing)
    for name in (*LENGTHS, *AREAS):
        assert mirrored[name] == pytest.approx(plain[name], rel=0.01)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("voxels", [1, 2, 3, 6])
def test_the_local_thickness_of_a_slab_along_an_axis_is_that_of_its_voxels(axis, voxels):
    spacing = (1.2, 0.7, 0.5)
    position = np.indices((40, 40, 40))[axis]
    plate = (position >= 8) & (position < 8 + voxels)
    assert local_thickness_mm(plate, spacing)[0] == pytest.approx(voxels * spacing[axis], rel=2e-3)


@pytest.mark.parametrize("spacing", [ISOTROPIC, KNEE])
@pytest.mark.parametrize("shape", ["half shell", "tilted half cylinder", "tilted slab", "tilted ramp"])
def test_the_local_thickness_of_a_known_shape_is_within_3_percent(shape, spacing):
    make, options = SHAPES[shape]
    _, plate, thickness, _ = make(spacing, OFFSETS[0], **options)
    assert local_thickness_mm(plate, spacing)[0] == pytest.approx(thickness, rel=0.03)


def test_nothing_has_no_local_thickness():
    assert local_thickness_mm(np.zeros((3, 3, 3), bool), ISOTROPIC)[1] == 0

"""Area-weighted surfaces: small pictures by hand, and the package that defined them as oracle."""

import math

import numpy as np
import pytest
import surface_distance
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from surface_distance import lookup_tables

from sam2ft.metrics.masks.surface import surface_distances
from sam2ft.metrics.masks.surfel import contour_lengths, neighbour_codes, surface_areas, surfel_distances

# The oracle (2024) imports from namespaces that scipy has since deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")

SPACING = st.sampled_from([0.365, 0.5, 1.0, 3.0])
SHAPES_2D = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=8)
SHAPES_3D = hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6)


@st.composite
def pairs(draw, shapes):
    shape = draw(shapes)
    masks = [draw(hnp.arrays(bool, shape)) for _ in range(2)]
    assume(all(mask.any() for mask in masks))
    return *masks, tuple(draw(SPACING) for _ in shape)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (3.0, 0.5)])
def test_the_lines_of_every_square_are_as_long_as_those_of_the_oracle(spacing):
    expected = lookup_tables.create_table_neighbour_code_to_contour_length(spacing)
    # The oracle's bits run the other way: its first voxel is the highest bit.
    reversed_bits = [int(f"{code:04b}"[::-1], 2) for code in range(16)]
    np.testing.assert_allclose(contour_lengths(spacing), expected[reversed_bits], atol=1e-15)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.5, 0.7), (0.7, 0.365, 0.365)])
def test_the_patches_of_every_cube_are_as_large_as_those_of_the_oracle(spacing):
    expected = lookup_tables.create_table_neighbour_code_to_surface_area(spacing)
    reversed_bits = [int(f"{code:08b}"[::-1], 2) for code in range(256)]
    np.testing.assert_allclose(surface_areas(spacing), expected[reversed_bits], atol=1e-15)


def test_the_contour_of_a_rectangle_is_its_perimeter_with_corners_cut():
    mask = np.ones((4, 6), bool)
    # Lines pass half a pixel outside the pixel centres: sides of 3 x 2 mm and 5 x 0.5 mm, four half-diagonal corners.
    expected = 2 * (3 * 2.0 + 5 * 0.5) + 4 * math.hypot(2.0, 0.5) / 2
    assert contour_lengths((2.0, 0.5))[neighbour_codes(mask)].sum() == pytest.approx(expected)


def test_the_faces_of_a_large_box_are_its_area_in_mm2():
    mask = np.zeros((3, 40, 50), bool)
    mask[1] = True
    areas = surface_areas((2.0, 0.5, 0.25))[neighbour_codes(mask)]
    # Two faces of 39 x 49 inner corners; the rim is left out here.
    assert areas[:, 1:-1, 1:-1].sum() == pytest.approx(2 * 39 * 49 * 0.5 * 0.25)


def test_a_sheet_that_moves_by_its_own_thickness_differs_by_a_factor_of_two_between_definitions():
    """Every voxel is 1 mm from the other sheet, but of its two faces one has become the other's."""
    reference = np.zeros((4, 60, 60), bool)
    reference[1] = True
    prediction = np.roll(reference, 1, 0)
    voxel, surfel = (of(prediction, reference, (1.0, 1.0, 1.0)) for of in (surface_distances, surfel_distances))
    assert voxel.assd_mm == 1.0
    assert surfel.assd_mm == pytest.approx(0.5, rel=0.05)


def check(masks, spacing) -> None:
    prediction, reference = masks
    found = surfel_distances(prediction, reference, spacing)
    oracle = surface_distance.compute_surface_distances(reference, prediction, spacing)
    sizes = [oracle[name].sum() for name in ("surfel_areas_gt", "surfel_areas_pred")]
    averages = surface_distance.compute_average_surface_distance(oracle)
    assert found.assd_mm == pytest.approx(np.average(averages, weights=sizes), abs=1e-12)
    assert found.hd_mm == pytest.approx(surface_distance.compute_robust_hausdorff(oracle, 100), abs=1e-12)
    assert found.hd95_mm == pytest.approx(surface_distance.compute_robust_hausdorff(oracle, 95), abs=1e-12)
    for tolerance in (0.4, 1.0, 3.0):
        expected = surface_distance.compute_surface_dice_at_tolerance(oracle, tolerance)
        assert found.nsd(tolerance) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None, max_examples=80)
@given(pairs(SHAPES_2D))
def test_slices_are_measured_as_the_oracle_does(pair):
    *masks, spacing = pair
    check(masks, spacing)


@settings(deadline=None, max_examples=80)
@given(pairs(SHAPES_3D))
def test_volumes_are_measured_as_the_oracle_does(pair):
    *masks, spacing = pair
    check(masks, spacing)


def test_large_sparse_masks_are_measured_as_the_oracle_does():
    """Large enough for the search tree, which small pictures never reach."""
    z, y, x = np.indices((20, 40, 40))
    reference = np.hypot(np.hypot((z - 10) * 2, y - 20), x - 20) < 15
    check((np.roll(reference, (1, 2), (0, 1)) & (x > 8), reference), (3.0, 0.5, 0.7))


def test_columns_say_which_boundary_they_are_of(score):
    mask = np.zeros((2, 6, 6), np.uint8)
    mask[0, 1:4, 1:4] = 1
    rows = score(np.roll(mask, 1, 2), mask, names=("hd", "hd_surfel", "hd95_surfel", "assd_surfel", "nsd_surfel"))
    for table in ("slice", "volume"):
        row = rows[table][0]
        assert (row["hd_mm"], row["hd_surfel_mm"]) == (1.0, 1.0)
        assert row["hd95_surfel_mm"] == 1.0
        assert 0 < row["assd_surfel_mm"] < 1
        assert row["nsd_surfel"] == 1.0


def test_an_empty_mask_has_no_surface():
    with pytest.raises(ValueError, match="two non-empty masks"):
        surfel_distances(np.zeros((2, 2), bool), np.ones((2, 2), bool), (1.0, 1.0))

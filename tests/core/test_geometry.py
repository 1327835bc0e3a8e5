import json
import math

import numpy as np
import pytest

from sam2ft.core.errors import DataError
from sam2ft.core.geometry import Geometry


def test_spacings_are_the_lengths_of_the_affine_columns_in_reverse():
    angle = math.radians(20)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine[:3, :3] *= [0.5, 0.7, 4.0]
    geometry = Geometry.from_affine((10, 20, 30), affine)
    assert geometry.spacing_zyx_mm == pytest.approx((4.0, 0.7, 0.5))
    assert geometry.voxel_volume_mm3 == pytest.approx(1.4)
    assert geometry.pixel_area_mm2 == pytest.approx(0.35)


def test_the_diagonal_includes_the_voxel_edges():
    geometry = Geometry.axis_aligned((3, 4, 5), (4.0, 1.0, 0.6))
    assert geometry.diagonal_mm == pytest.approx(math.sqrt(12**2 + 4**2 + 3**2))


@pytest.mark.parametrize("spacing", [(0.0, 1.0, 1.0), (1.0, -1.0, 1.0), (math.nan, 1.0, 1.0), (math.inf, 1.0, 1.0)])
def test_spacings_that_cannot_be_are_refused(spacing):
    with pytest.raises(DataError, match="every spacing must be finite and > 0"):
        Geometry((1, 1, 1), spacing, tuple(map(tuple, np.eye(4))))


def test_a_geometry_survives_json_exactly():
    geometry = Geometry.from_affine((3, 4, 5), np.diag([0.1, 1 / 3, 2.2, 1]), dz_source="slice_thickness")
    assert Geometry.from_json(json.loads(json.dumps(geometry.to_json()))) == geometry


def test_rounding_of_headers_is_the_same_grid_and_a_hundredth_of_a_voxel_is_not():
    plain = Geometry.axis_aligned((20, 256, 256), (3.0, 0.5, 0.5))
    rounded = Geometry.from_affine(plain.shape_zyx, plain.affine.astype(np.float32))
    assert plain.difference(rounded) is None
    shifted = plain.affine.copy()
    shifted[0, 3] += 0.006
    assert "corners lie up to 0.006 mm apart" in plain.difference(Geometry.from_affine(plain.shape_zyx, shifted))
    assert plain.difference(Geometry.axis_aligned((19, 256, 256), (3.0, 0.5, 0.5))).startswith("shape (z, y, x)")
    assert "spacing (3, 0.5, 0.5) against (4, 0.5, 0.5) mm" in plain.difference(
        Geometry.axis_aligned(plain.shape_zyx, (4.0, 0.5, 0.5))
    )


@pytest.mark.parametrize("spacing", [(4.0001, 1.0, 0.5), (4.0, 1.1, 0.5), (4.0, 0.5, 1.0)])
def test_spacing_and_affine_are_one_truth_except_in_a_record(spacing):
    geometry = Geometry.axis_aligned((3, 4, 5), (4.0, 1.0, 0.5))
    with pytest.raises(ValueError, match="but the columns of the affine are"):
        Geometry(geometry.shape_zyx, spacing, geometry.affine_ras)
    # A store of version 1 holds the median step in one and the mean step in the other: it keeps its numbers.
    old = Geometry.from_json({**geometry.to_json(), "spacing_zyx_mm": list(spacing)})
    assert old.spacing_zyx_mm == spacing
    assert old.to_json() == {**geometry.to_json(), "spacing_zyx_mm": list(spacing)}


def test_the_tolerance_of_one_grid_is_an_argument():
    plain = Geometry.axis_aligned((20, 256, 256), (3.0, 0.5, 0.5))
    shifted = plain.affine.copy()
    shifted[0, 3] += 0.04
    moved = Geometry.from_affine(plain.shape_zyx, shifted)
    assert "corners lie up to 0.04 mm apart" in plain.difference(moved)
    assert plain.difference(moved, 0.1) is None
    assert plain.corner_distance_mm(moved) == pytest.approx(0.04)

import re

import numpy as np
import pytest

from sam2ft.core.geometry import Geometry
from sam2ft.metrics.biomarkers.thickness import CartilageThicknessMetric
from sam2ft.metrics.biomarkers.thickness_map import thickness_map
from sam2ft.metrics.measurement import MaskPair

# Sagittal: slices to the right, rows downwards (inferior), columns towards posterior.
AFFINE = [[0, 0, 3, 10], [0, -0.4, 0, 20], [-0.5, 0, 0, 30], [0, 0, 0, 1]]
AFFINE = np.array(AFFINE)[:, [1, 0, 2, 3]]


def pair(bone_rows: int = 8) -> MaskPair:
    """A plate of 6 rows on bone; the prediction has 4 rows, in columns 0 to 13 of 28."""
    row, column = np.indices((6, 24, 28))[1:]
    plate = (row >= 8) & (row < 14)
    return MaskPair(
        plate & (row < 12) & (column < 14), plate, Geometry.from_affine(plate.shape, AFFINE), bone_zyx=row < bone_rows
    )


def test_a_map_holds_the_thickness_at_every_vertex_in_the_frame_of_the_patient():
    found = thickness_map(pair())
    assert found is not None
    assert found.reference_mm_n == pytest.approx(3.0)
    column = (20 - found.vertices_ras_mm_n3[:, 1]) / 0.4
    assert found.prediction_mm_n[column < 13] == pytest.approx(2.0)
    assert not found.prediction_mm_n[column > 14].any()
    # The bone ends between rows 7 and 8, 0.5 mm apart, going down from 30 mm.
    assert found.vertices_ras_mm_n3[:, 2] == pytest.approx(30 - 7.5 * 0.5, abs=0.01)


def test_the_mean_of_a_map_is_that_of_the_table():
    rows = {one.definition: one for one in CartilageThicknessMetric().measure(pair())}
    found = thickness_map(pair())
    mean = np.average(found.prediction_mm_n, weights=found.areas_mm2_n)
    assert rows["ThCtAB"].prediction == pytest.approx(mean, rel=0.03)


def test_a_mesh_can_be_read_by_its_own_header():
    found = thickness_map(pair())
    header, _, body = found.ply().partition(b"end_header\n")
    vertices, faces = (int(number) for number in re.findall(rb"element \w+ (\d+)", header))
    assert (vertices, faces) == (len(found.areas_mm2_n), len(found.faces_m3))
    assert len(body) == vertices * (6 * 4 + 3) + faces * (1 + 3 * 4)
    first = np.frombuffer(body, "<f4", count=6)
    assert first[:3] == pytest.approx(found.vertices_ras_mm_n3[0], rel=1e-5)
    assert first[3:5] == pytest.approx([found.reference_mm_n[0], found.prediction_mm_n[0]])
    corners = np.frombuffer(body, np.dtype([("n", "u1"), ("at", "<i4", 3)]), offset=vertices * 27)["at"]
    assert (corners == found.faces_m3).all()
    assert corners.max() < vertices


def test_the_triangles_of_a_map_have_its_area():
    found = thickness_map(pair())
    corners = found.vertices_ras_mm_n3[found.faces_m3]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    assert areas.sum() == pytest.approx(found.areas_mm2_n.sum(), rel=0.01)


def test_without_bone_there_is_no_map():
    assert thickness_map(pair(bone_rows=0)) is None

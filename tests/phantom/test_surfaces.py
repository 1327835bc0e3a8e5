"""Distances, arcs and plates: exactness that the truth of the phantoms rests on."""

import numpy as np
import pytest

from sam2ft.phantom.plates import Plate
from sam2ft.phantom.shapes import Hull, capsule, domed, extruded, rounded_box
from sam2ft.phantom.spine import Disc

HULL = Hull(12.0, 1.0, 17.0, -12.0, -1.0, 20.0)


def _f(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def test_a_point_put_outside_the_outline_is_at_that_distance_and_arc() -> None:
    arc = np.linspace(-25, HULL.flat_length + 33, 60)
    for offset in (0.0, 2.5, 6.0):
        a, s = HULL.outline(arc, np.full_like(arc, offset))
        distance, found = HULL.distance_and_arc(a.astype(np.float32), s.astype(np.float32))
        assert distance == pytest.approx(np.full(60, offset), abs=1e-4)
        assert found == pytest.approx(arc, abs=1e-3)


def test_the_arc_length_is_the_length_walked_along_the_outline() -> None:
    arc = np.linspace(-25, HULL.flat_length + 33, 20001)
    a, s = HULL.outline(arc, np.zeros_like(arc))
    walked = np.hypot(np.diff(a), np.diff(s)).sum()
    assert walked == pytest.approx(arc[-1] - arc[0], rel=1e-5)


def test_the_hull_of_two_circles_ends_where_the_circles_do() -> None:
    assert HULL.distance(_f(12.0, -12.0), _f(1.0, -1.0))[0] == pytest.approx(-17.0, abs=0.5)
    far = np.array([[-12 - 20 - 3.0, -1.0]])
    assert HULL.distance(_f(far[0, 0]), _f(far[0, 1]))[0] == pytest.approx(3.0, abs=0.1)


def test_simple_shapes_have_exact_distances() -> None:
    assert capsule(_f(5.0), _f(4.0), (0.0, 0.0), (10.0, 0.0), 1.0)[0] == pytest.approx(3.0)
    assert capsule(_f(13.0), _f(4.0), (0.0, 0.0), (10.0, 0.0), 1.0)[0] == pytest.approx(4.0)
    assert rounded_box(_f(8.0), _f(0.0), 5.0, 2.0, 1.0)[0] == pytest.approx(3.0)
    assert rounded_box(_f(4.0 + 3), _f(1.0 + 4), 5.0, 2.0, 1.0)[0] == pytest.approx(4.0)
    # Beyond the rounded edge of a stretched shape: 3 mm beside, 4 mm above the edge's centre line, radius 1.
    assert extruded(_f(3.0 - 1), _f(9.0 + 4), 10.0, 1.0)[0] == pytest.approx(4.0)


def _plate(**changes: object) -> Plate:
    values = {
        "tissue": "x",
        "extent_u": (-10.0, 10.0),
        "extent_v": (-5.0, 5.0),
        "thin_mm": 3.0,
        "swell_mm": 0.0,
        "wave": (0.0, 20.0, 0.0, 20.0),
        "t2_deep_superficial_ms": (30.0, 50.0),
        "t1rho_deep_superficial_ms": (40.0, 60.0),
    }
    return Plate(**(values | changes))  # type: ignore[arg-type]  # one dict for fields of several types


def test_a_flat_plate_s_truth_is_arithmetic() -> None:
    truth = _plate().truth()
    assert truth["area_mm2"] == pytest.approx(200.0)
    # 17 mm at full thickness, and two rims of 1.5 mm that rise as a square root: 2/3 of the thickness on average.
    assert truth["thickness_mean_mm"] == pytest.approx(3.0 * (17 + 2 * 1.5 * 2 / 3) / 20, rel=0.01)
    assert truth["volume_mm3"] == pytest.approx(truth["area_mm2"] * truth["thickness_mean_mm"])
    # The slow change along u is odd around 0 and cancels.
    assert truth["t2_mean_ms"] == pytest.approx(40.0, abs=0.01)
    assert truth["t2_mean_deep_ms"] == pytest.approx(35.0, abs=0.01)
    assert truth["t1rho_mean_superficial_ms"] == pytest.approx(55.0, abs=0.01)


def test_a_plate_on_a_cylinder_holds_more_than_area_times_thickness() -> None:
    bent = _plate(extent_u=(-20.0, -1.0), curves=(HULL, HULL)).truth()
    flat = _plate(extent_u=(-20.0, -1.0)).truth()
    assert bent["thickness_mean_mm"] == flat["thickness_mean_mm"]
    # t + t^2 / (2 r) for t = 3 at full thickness and r = 17.
    assert bent["volume_mm3"] / flat["volume_mm3"] == pytest.approx(1 + 3 / (2 * 17), rel=0.01)


def test_the_gap_takes_its_area_away() -> None:
    assert _plate(gap=(0.0, -2.0, 2.0)).truth()["area_mm2"] == pytest.approx(200.0 - 10 * 4)


def test_a_normal_ray_leaves_the_plate_at_its_thickness() -> None:
    plate = _plate(extent_u=(-20.0, 40.0), thin_mm=2.5, swell_mm=1.0, curves=(HULL, HULL))
    arc = np.linspace(-15, 35, 11)
    thickness = plate.thickness(arc.astype(np.float32), np.zeros(11, dtype=np.float32))
    for share, inside in ((0.98, True), (1.02, False)):
        a, s = HULL.outline(arc, thickness.astype(np.float64) * share)
        distance, u = HULL.distance_and_arc(a.astype(np.float32), s.astype(np.float32))
        assert ((plate.distance(distance, u, np.zeros(11, dtype=np.float32)) < 0) == inside).all()


def test_a_disc_without_wedge_is_as_high_everywhere_but_at_its_round_ends() -> None:
    disc = Disc("L1/L2", (0.0, 0.0), 0.0, 10.0, 0.0, 17.5, 22.0, 1.0, True)
    truth = disc.truth()
    # Each end is a quarter ellipse pair of 2.5 mm: pi/4 of the rectangle.
    assert truth["height_mean_mm"] == pytest.approx(10 * (30 + 5 * np.pi / 4) / 35, rel=1e-3)
    assert truth["height_middle_mm"] == pytest.approx(10.0)
    assert truth["height_anterior_mm"] == pytest.approx(truth["height_posterior_mm"], rel=1e-4)


def test_a_dome_is_the_extruded_shape_below_it_and_half_an_ellipse_above() -> None:
    disc = _f(-10.0, -10.0, -10.0, 0.0, 2.0, -5.0)
    across = _f(0.0, 30.0, 32.0, 10.0, -20.0, 30.0)
    distance = domed(disc, across, 30.0, 8.0, 10.0)
    # Middle: inside, at its top, beyond it; below the dome: as given; beside the middle of the top: outside.
    assert distance[:3] == pytest.approx([-10.0, 0.0, 2.0], abs=1e-5)
    assert distance[3:5] == pytest.approx([0.0, 2.0])
    assert distance[5] > 0
    share = np.linspace(0.01, 0.99, 9)
    on = domed(_f(*(-10 * (1 - share))), _f(*(22 + 8 * np.sqrt(1 - share**2))), 30.0, 8.0, 10.0)
    assert on == pytest.approx(np.zeros(9), abs=1e-4)


@pytest.mark.parametrize("degrees", [-3.0, 1.0, 2.5])
def test_an_oblique_plane_leaves_a_dome_gradually_and_a_flat_face_at_once(degrees: float) -> None:
    """The way across the slices between a whole oval and none: of a flat face only what the plane is tilted by."""
    side = np.arange(-40, 40, 0.5, dtype=np.float32)
    a, s = np.meshgrid(side, side)
    tilt = a * np.float32(np.tan(np.radians(degrees)))
    outline = HULL.distance(a, s)
    offsets = np.arange(20, 34, 0.25, dtype=np.float32)

    def way(distance_of: object) -> float:
        shares = np.array([(distance_of(offset + tilt) < 0).sum() for offset in offsets]) / (outline < 0).sum()  # type: ignore[operator]
        return float(((shares > 0.05) & (shares < 0.95)).sum() * 0.25)

    flat = way(lambda m: np.maximum(outline, np.abs(m) - 30))
    assert flat < 3.5
    assert way(lambda m: domed(outline, m, 30.0, 7.0, 17.0)) > max(4.5, flat + 2)

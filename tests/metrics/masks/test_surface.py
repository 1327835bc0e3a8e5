import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import cdist

from sam2ft.metrics.masks import surface
from sam2ft.metrics.masks.surface import boundary, surface_distances

SPACINGS = st.tuples(*[st.sampled_from([0.365, 0.5, 1.0, 3.0])] * 3)
MASKS = hnp.arrays(bool, (3, 5, 4)).filter(np.any)


def test_the_boundary_of_a_square_is_its_rim_and_the_edge_of_the_picture_counts():
    square = np.ones((4, 4), bool)
    assert boundary(square).sum() == 12
    assert boundary(np.pad(square, 2)).sum() == 12


def test_two_points_three_columns_apart():
    first, second = np.zeros((3, 6), bool), np.zeros((3, 6), bool)
    first[1, 1] = second[1, 4] = True
    found = surface_distances(first, second, (2.0, 0.5))
    assert (found.hd_mm, found.hd95_mm, found.assd_mm) == (1.5, 1.5, 1.5)
    assert (found.nsd(1.5), found.nsd(1.4)) == (1.0, 0.0)


def test_one_outlier_moves_hd_but_not_hd95():
    reference = np.zeros((1, 100), bool)
    reference[0, :60] = True
    prediction = reference.copy()
    prediction[0, 90] = True
    found = surface_distances(prediction, reference, (1.0, 1.0))
    assert (found.hd_mm, found.hd95_mm) == (31.0, 0.0)
    assert found.assd_mm == pytest.approx(31 / (60 + 61))
    assert found.nsd(1.0) == pytest.approx(120 / 121)


def test_a_square_inside_a_square():
    outer = np.zeros((9, 9), bool)
    outer[1:8, 1:8] = True
    inner = np.zeros((9, 9), bool)
    inner[2:7, 2:7] = True
    found = surface_distances(inner, outer, (1.0, 1.0))
    # 24 rim pixels outside: 4 corners at sqrt(2), 20 at 1; 16 inside, all at 1.
    assert found.hd_mm == pytest.approx(math.sqrt(2))
    assert found.assd_mm == pytest.approx((4 * math.sqrt(2) + 20 + 16) / 40)


def test_an_empty_mask_has_no_distance():
    with pytest.raises(ValueError, match="two non-empty masks"):
        surface_distances(np.zeros((2, 2), bool), np.ones((2, 2), bool), (1.0, 1.0))


@settings(deadline=None, max_examples=60)
@given(MASKS, MASKS, SPACINGS)
def test_distances_equal_those_of_every_pair_of_boundary_voxels(prediction, reference, spacing):
    points = [np.argwhere(boundary(mask)) * spacing for mask in (prediction, reference)]
    pairs = cdist(*points)
    found = surface_distances(prediction, reference, spacing)
    np.testing.assert_allclose(np.sort(found.to_reference), np.sort(pairs.min(axis=1)), atol=1e-9)
    np.testing.assert_allclose(np.sort(found.to_prediction), np.sort(pairs.min(axis=0)), atol=1e-9)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.5, 0.7)])
def test_a_tree_and_a_distance_transform_give_the_same_distances(monkeypatch: pytest.MonkeyPatch, spacing):
    targets, points = (np.random.default_rng(seed).random((12, 20, 20)) < 0.02 for seed in (0, 1))
    points |= targets & (np.indices(targets.shape)[2] > 10)
    found = []
    for share in (0.0, 1.1):
        monkeypatch.setattr(surface, "TREE_BELOW_SHARE", share)
        found.append(surface.distances_to(targets, points, spacing))
    assert len(found[0]) == points.sum()
    np.testing.assert_allclose(*found, rtol=1e-15, atol=0)


@settings(deadline=None, max_examples=30)
@given(MASKS, MASKS, st.floats(0.5, 4.0))
def test_distances_grow_with_the_spacing(prediction, reference, factor):
    plain = surface_distances(prediction, reference, (1.0, 1.0, 1.0))
    scaled = surface_distances(prediction, reference, (factor,) * 3)
    assert scaled.hd_mm == pytest.approx(factor * plain.hd_mm)
    assert scaled.assd_mm == pytest.approx(factor * plain.assd_mm)

"""A label map on another grid: the nearest voxel of it, through both affines."""

import numpy as np
import pytest

from sam2ft.core.geometry import Geometry
from sam2ft.data.images.grids import Volume, resampled_nearest

SHAPE, SPACING = (4, 6, 5), (3.0, 0.5, 1.0)


def labels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4, size=SHAPE).astype(np.uint8)


def grid(shape=SHAPE, spacing=SPACING, origin_xyz=(0.0, 0.0, 0.0)) -> Geometry:
    affine = np.diag([*spacing[::-1], 1.0])
    affine[:3, 3] = origin_xyz
    return Geometry.from_affine(shape, affine)


def test_the_same_grid_gives_the_same_voxels_at_the_borders_too():
    assert np.array_equal(resampled_nearest(Volume(labels(), grid()), grid()), labels())


@pytest.mark.parametrize("share", [0.4, -0.4])
def test_less_than_half_a_voxel_beside_nothing_moves(share):
    beside = grid(origin_xyz=(share * 1.0, share * 0.5, share * 3.0))
    assert np.array_equal(resampled_nearest(Volume(labels(), beside), grid()), labels())


def test_a_whole_voxel_beside_all_move_and_what_lies_outside_is_0():
    moved = resampled_nearest(Volume(labels(), grid(origin_xyz=(1.0, 0.0, 0.0))), grid())
    assert np.array_equal(moved[:, :, 1:], labels()[:, :, :-1])
    assert not moved[:, :, 0].any()


def test_a_grid_of_half_the_spacing_takes_every_second_voxel():
    # The centres of the first fine voxels lie a quarter of a coarse voxel before its centre.
    fine = np.repeat(np.repeat(np.repeat(labels(), 2, 0), 2, 1), 2, 2)
    geometry = grid(fine.shape, (1.5, 0.25, 0.5), origin_xyz=(-0.25, -0.125, -0.75))
    assert np.array_equal(resampled_nearest(Volume(fine, geometry), grid()), labels())


def test_mirrored_and_permuted_axes_follow_the_affine():
    affine = grid().affine
    affine[0, 0], affine[0, 3] = -1.0, 4.0
    mirrored = Volume(labels()[:, :, ::-1], Geometry.from_affine(SHAPE, affine))
    assert np.array_equal(resampled_nearest(mirrored, grid()), labels())
    turned = Volume(labels().transpose(0, 2, 1), Geometry.from_affine((4, 5, 6), grid().affine[:, [1, 0, 2, 3]]))
    assert np.array_equal(resampled_nearest(turned, grid()), labels())


def test_a_turned_grid_keeps_the_values_of_labels_alone():
    angle = np.deg2rad(10)
    affine = grid().affine
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    found = resampled_nearest(Volume(labels() * 50, Geometry.from_affine(SHAPE, turn @ affine)), grid())
    assert set(np.unique(found)) <= {0, 50, 100, 150}

"""A label map on another grid: the nearest voxel of it, through both affines."""

import numpy as np
import pytest

from sam2ft.core.errors import DataError
from sam2ft.core.geometry import Geometry
from sam2ft.data.images.grids import Segment, Volume, on_grid, resampled_nearest

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


@pytest.mark.parametrize(("share", "noted"), [(0.005, False), (0.03, True), (0.09, True)])
def test_corners_up_to_a_tenth_of_a_voxel_apart_are_one_grid(share, noted):
    volume = Volume(labels(), grid(origin_xyz=(0.5 * share, 0.0, 0.0)), notes=("earlier",))
    found = on_grid(volume, grid(spacing=SPACING))
    assert np.array_equal(found.array_zyx, labels())
    assert found.notes[0] == "earlier"
    assert [f"lies up to {share:.2f} voxel beside" in note for note in found.notes[1:]] == [True] * noted


@pytest.mark.parametrize("share", [0.11, 0.3, 0.5])
def test_corners_further_apart_are_refused(share):
    with pytest.raises(DataError, match="different grids: corners lie up to"):
        on_grid(Volume(labels(), grid(origin_xyz=(0.5 * share, 0.0, 0.0))), grid())


SEGMENTS = (Segment(1, "a"), Segment(2, "b"), Segment(3, "c"))


@pytest.mark.parametrize("flip", [(), (0,), (1, 2)])
@pytest.mark.parametrize("span", [((1, 3), (2, 5), (0, 4)), ((0, 4), (0, 6), (4, 5)), ((3, 4), (5, 6), (0, 1))])
def test_a_segmentation_cropped_to_its_segments_is_padded_by_whole_voxels(span, flip):
    wanted = np.zeros(SHAPE, np.uint8)
    part = tuple(slice(*one) for one in span)
    wanted[part] = labels()[part]
    origin = [start * edge for (start, _), edge in zip(span, SPACING, strict=True)][::-1]
    array, affine = wanted[part], grid(wanted[part].shape, origin_xyz=origin).affine
    for axis in flip:  # the same voxels, stored the other way round
        back = np.eye(4)
        back[axis, axis], back[axis, 3] = -1, array.shape[2 - axis] - 1
        array, affine = np.flip(array, 2 - axis), affine @ back
    cropped = Volume(array, Geometry.from_affine(array.shape, affine), segments=SEGMENTS)
    found = on_grid(cropped, grid())
    assert np.array_equal(found.array_zyx, wanted)
    assert "cropped to its segments" in found.notes[0]
    with pytest.raises(DataError, match="different grids"):
        on_grid(Volume(array, cropped.geometry), grid())


def test_a_segmentation_beyond_the_image_is_cut_only_where_it_is_empty():
    around = np.zeros((6, 8, 7), np.uint8)
    around[1:-1, 1:-1, 1:-1] = labels()
    beyond = grid(around.shape, origin_xyz=(-1.0, -0.5, -3.0))
    assert np.array_equal(on_grid(Volume(around, beyond, segments=SEGMENTS), grid()).array_zyx, labels())
    around[0, 0, :2] = 1
    with pytest.raises(DataError, match="2 labelled voxels of the mask lie outside of the image"):
        on_grid(Volume(around, beyond, segments=SEGMENTS), grid())


@pytest.mark.parametrize("origin", [(0.5, 0.0, 0.0), (0.0, 0.2, 0.0), (0.0, 0.0, 1.0)])
def test_a_cropped_segmentation_between_the_voxels_is_refused(origin):
    cropped = Volume(labels()[:2], grid((2, 6, 5), origin_xyz=origin), segments=SEGMENTS)
    with pytest.raises(DataError, match="different grids: corners lie"):
        on_grid(cropped, grid())

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sam2ft.core.components import components
from sam2ft.core.prompts import (
    KINDS,
    Box,
    Prompts,
    box_around,
    boxes_to_model_frame,
    drawn_kind,
    joined_prompts,
    kinds_of,
    main_kind,
    mixed_prompts,
    points_to_model_frame,
    points_to_original_frame,
)

MASKS = hnp.arrays(bool, (7, 9)).filter(np.any)


def test_a_box_names_the_first_and_last_pixel():
    mask = np.zeros((6, 8), bool)
    mask[2, 3:6] = True
    assert box_around(mask) == Box(3, 2, 5, 2)
    mask[:] = False
    mask[4, 7] = True
    assert box_around(mask) == Box(7, 4, 7, 4)


def test_an_empty_mask_has_no_box_and_a_shift_needs_its_randomness():
    with pytest.raises(ValueError, match="non-empty"):
        box_around(np.zeros((3, 3), bool))
    with pytest.raises(ValueError, match="random generator"):
        box_around(np.ones((3, 3), bool), shift_px=2)


@given(MASKS, st.integers(1, 5), st.integers(0, 99))
def test_a_shifted_box_holds_the_tight_one_stays_inside_and_moves_no_further_than_asked(mask, shift, seed):
    tight, loose = box_around(mask), box_around(mask, shift_px=shift, rng=np.random.default_rng(seed))
    moves = (tight.x0 - loose.x0, tight.y0 - loose.y0, loose.x1 - tight.x1, loose.y1 - tight.y1)
    assert all(0 <= move <= shift for move in moves)
    assert loose.x0 >= 0 <= loose.y0
    assert loose.x1 <= 8
    assert loose.y1 <= 6


def test_every_shift_from_0_to_the_largest_is_drawn():
    mask = np.zeros((50, 50), bool)
    mask[20:30, 20:30] = True
    rng = np.random.default_rng(0)
    assert {20 - box_around(mask, shift_px=3, rng=rng).x0 for _ in range(200)} == {0, 1, 2, 3}


@given(MASKS, st.integers(1, 4))
def test_a_box_in_the_model_frame_is_that_of_the_enlarged_mask(mask, factor):
    enlarged = np.kron(mask, np.ones((factor, factor), bool))
    square = np.pad(enlarged, ((0, enlarged.shape[1] - enlarged.shape[0]), (0, 0)))
    padded = np.pad(mask, ((0, 2), (0, 0)))
    found = boxes_to_model_frame([box_around(padded)], height=9, width=9, image_size=9 * factor)
    assert tuple(found[0]) == box_around(square)


def test_a_slice_is_stretched_to_a_square_without_keeping_its_aspect():
    found = boxes_to_model_frame([[0, 0, 99, 49]], height=50, width=100, image_size=1024)
    assert found.tolist() == [[0, 0, 1023, 1023]]
    assert boxes_to_model_frame(np.zeros((0, 4)), height=5, width=5, image_size=8).shape == (0, 4)


def test_a_point_in_the_model_frame_is_the_centre_of_its_enlarged_pixel():
    """4 -> 16 pixels a side: pixel 1 becomes pixels 4..7, whose centre is 5.5; at its own size it stays where it is."""
    assert points_to_model_frame([[1, 0]], height=4, width=4, image_size=16).tolist() == [[5.5, 1.5]]
    assert points_to_model_frame([[3, 2]], height=8, width=8, image_size=8).tolist() == [[3, 2]]


@given(st.integers(1, 3000), st.integers(1, 3000), st.floats(0, 1), st.floats(0, 1))
def test_a_point_comes_back_to_its_pixel(height, width, v, u):
    pixel = [[int(u * (width - 1)), int(v * (height - 1))]]
    there = points_to_model_frame(pixel, height=height, width=width, image_size=1024)
    back = points_to_original_frame(there, height=height, width=width, image_size=1024)
    assert back.tolist() == pixel


def shares(box, point, mask):
    return {"box": box, "point": point, "mask": mask}


def test_the_main_kind_has_the_largest_share_and_a_tie_goes_to_the_box():
    assert main_kind(shares(0.2, 0.5, 0.3)) == "point"
    assert main_kind(shares(0.4, 0.2, 0.4)) == "box"
    assert main_kind(shares(0.0, 0.5, 0.5)) == "point"
    assert kinds_of(shares(0.0, 0.5, 0.5)) == ("point", "mask")


def test_kinds_are_drawn_by_their_shares_and_none_that_has_no_share():
    rng = np.random.default_rng(0)
    drawn = [drawn_kind(shares(0.5, 0.2, 0.3), rng) for _ in range(4000)]
    assert [drawn.count(kind) / 4000 for kind in KINDS] == pytest.approx([0.5, 0.2, 0.3], abs=0.03)
    assert {drawn_kind(shares(0.0, 0.0, 1.0), rng) for _ in range(50)} == {"mask"}
    assert {drawn_kind(shares(0.5, 0.0, 0.5), rng) for _ in range(50)} == {"box", "mask"}


def mixture(offered, kinds):
    n = len(kinds)
    boxes = np.arange(4 * n, dtype=np.float32).reshape(n, 4)
    points = np.arange(2 * n, dtype=np.float32).reshape(n, 2) + 100
    return mixed_prompts(offered, kinds, np.zeros(n, np.int64), boxes, points, np.ones((n, 1, 2, 2), np.float32))


def test_a_mixture_holds_box_corners_points_and_padding_by_their_labels():
    prompts = mixture(KINDS, ["point", "box", "mask"])
    assert prompts.boxes_n4 is None
    assert prompts.point_labels_nk.tolist() == [[1, -1], [2, 3], [-1, -1]]
    assert prompts.points_nk2.tolist() == [[[100, 101], [0, 0]], [[4, 5], [6, 7]], [[0, 0], [0, 0]]]
    assert prompts.has_mask_n.tolist() == [False, False, True]
    assert prompts.num_points_n == (1, 2, 0)


@pytest.mark.parametrize("offered", [KINDS, ("box",), ("point",), ("mask",), ("box", "mask"), ("point", "mask")])
def test_what_is_carried_depends_on_the_configuration_and_not_on_the_draw(offered):
    def shape(prompts):
        arrays = (prompts.boxes_n4, prompts.points_nk2, prompts.masks_n1hw, prompts.has_mask_n)
        return [None if array is None else array.shape for array in arrays]

    assert len({str(shape(mixture(offered, [kind] * 3))) for kind in offered}) == 1


def test_boxes_alone_stay_boxes_and_masks_alone_bring_no_points():
    assert mixture(("box",), ["box"]).boxes_n4.tolist() == [[0, 1, 2, 3]]
    assert mixture(("box",), ["box"]).points_nk2 is None
    alone = mixture(("mask",), ["mask"])
    assert alone.points_nk2 is alone.has_mask_n is alone.num_points_n is None


def test_prompts_of_slices_join_and_change_array_by_array():
    one, other = mixture(KINDS, ["point", "mask"]), mixture(KINDS, ["box"])
    both = joined_prompts([one, other], np.array([0, 0, 1]), np.concatenate)
    assert both.slice_of_n.tolist() == [0, 0, 1]
    assert both.point_labels_nk.tolist() == [[1, -1], [-1, -1], [2, 3]]
    assert both.num_points_n == (1, 0, 2)
    changed = both.map(lambda array: array + array)
    assert changed.points_nk2.tolist() == (2 * both.points_nk2).tolist()
    assert changed.num_points_n == both.num_points_n
    assert changed.boxes_n4 is None


def test_the_number_of_prompts_is_that_of_their_slices():
    assert len(Prompts(slice_of_n=np.array([0, 0, 1]))) == 3


def test_pixels_that_touch_at_a_corner_are_one_component_numbered_in_raster_order():
    mask = np.array([[1, 0, 0, 0, 1], [0, 1, 0, 0, 1], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]], bool)
    numbered, count = components(mask)
    assert count == 3
    assert numbered.tolist() == [[1, 0, 0, 0, 2], [0, 1, 0, 0, 2], [0, 0, 0, 0, 0], [3, 0, 0, 0, 0]]
    corner = np.zeros((2, 2, 2), bool)
    corner[0, 0, 0] = corner[1, 1, 1] = True
    assert components(corner)[1] == 1

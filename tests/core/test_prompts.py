import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sam2ft.core.components import components
from sam2ft.core.prompts import Box, Prompts, box_around, boxes_to_model_frame

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

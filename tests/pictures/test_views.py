"""Pictures are turned as radiologists look at them, whatever the order of the axes in the file."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest

from sam2ft.core.events import SlicePrediction
from sam2ft.core.geometry import Geometry
from sam2ft.core.prompts import Box, Point, box_around
from sam2ft.pictures.views import AS_STORED, ScreenView, shown_sample, view_of

SPACING = (4.0, 0.5, 0.7)
SIGNED = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]
# Axis of the body along the slices -> (left, right, top, bottom) of the screen.
ON_SCREEN = {0: ("A", "P", "S", "I"), 1: ("R", "L", "S", "I"), 2: ("R", "L", "A", "P")}
FORWARD = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


def grid(order: tuple[int, ...], signs: tuple[int, ...], turn: float = 0.0) -> Geometry:
    """A grid whose axes x, y, z run along the axes `order` of the body with `signs`, turned by `turn` degrees."""
    affine = np.eye(4)
    for column, (axis, sign) in enumerate(zip(order, signs, strict=True)):
        affine[:3, column] = sign * np.eye(3)[axis] * SPACING[::-1][column]
    cosine, sine = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    about_s = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    affine[:3, :3] = about_s @ affine[:3, :3]
    return Geometry.from_affine((3, 5, 7), affine)


def places(geometry: Geometry) -> np.ndarray:
    """(3, y, x): RAS mm of the pixels of slice 1."""
    y, x = np.mgrid[:5, :7]
    return np.einsum("ij,jyx->iyx", geometry.affine[:3], np.stack([x, y, np.ones_like(x), np.ones_like(x)]))


@pytest.mark.parametrize("turn", [0.0, 9.0])
@pytest.mark.parametrize(("order", "signs"), SIGNED)
def test_the_marks_say_where_the_sides_of_the_picture_lie(
    order: tuple[int, ...], signs: tuple[int, ...], turn: float
) -> None:
    geometry = grid(order, signs, turn)
    view = view_of(geometry)
    assert view.marks == ON_SCREEN[order[2]]
    shown = view.plane(places(geometry))
    _, right, _, bottom = view.marks
    for letter, axis in ((right, 1), (bottom, 0)):
        body, sign = FORWARD[letter]
        assert (np.diff(shown[body], axis=axis) * sign > 0).all()
    assert view.spacing(geometry.spacing_zyx_mm[1:]) == pytest.approx(
        tuple(np.linalg.norm(np.diff(shown, axis=axis), axis=0).mean() for axis in (1, 2))
    )


def test_a_direction_between_two_axes_has_the_letters_of_both_the_nearer_first() -> None:
    assert view_of(grid((0, 2, 1), (1, 1, 1), turn=30.0)).marks == ("RA", "LP", "S", "I")
    assert view_of(grid((0, 2, 1), (1, 1, 1), turn=-30.0)).marks == ("RP", "LA", "S", "I")


def test_a_file_that_says_no_orientation_is_shown_as_it_is_stored_and_without_marks() -> None:
    assert view_of(replace(grid((0, 1, 2), (1, 1, 1)), oriented=False)) == AS_STORED
    assert AS_STORED.marks is None


@pytest.mark.parametrize("turns", list(product((False, True), repeat=3)))
def test_masks_boxes_and_points_are_turned_with_the_image(
    turns: tuple[bool, bool, bool], sample: SlicePrediction
) -> None:
    view = ScreenView(*turns)
    boxes = [box_around(mask) for mask in sample.references_nyx]
    points = [Point(box.x0, box.y1) for box in boxes]
    prompts = [*boxes[:2], points[2], sample.references_nyx[3]]
    shown = shown_sample(replace(sample, prompts_n=prompts), view)
    assert shown.image_yx.shape == ((30, 20) if turns[0] else (20, 30))
    assert shown.boxes_n == [box_around(mask) for mask in shown.references_nyx]
    assert shown.prompts_n[0] == shown.boxes_n[0]
    assert isinstance(shown.prompts_n[0], Box)
    assert isinstance(shown.prompts_n[2], Point)
    assert shown.references_nyx[2][shown.prompts_n[2].y, shown.prompts_n[2].x]
    assert np.array_equal(shown.prompts_n[3], shown.references_nyx[3])
    assert sorted(shown.image_yx.ravel().tolist()) == sorted(sample.image_yx.ravel().tolist())

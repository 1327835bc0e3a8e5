"""What a mask of one slice is prompted with, and that draws are functions of their keys."""

import numpy as np

from sam2ft.core.keys import SliceKey
from sam2ft.core.prompts import Box
from sam2ft.data.prompts import choose, draw, instances_of, label_boxes

KEY = SliceKey("toy", "a", "image", 3)


def picture(*rows: str) -> np.ndarray:
    return np.array([[int(character) for character in row] for row in rows], dtype=np.uint8)


MASK = picture(
    "1100022",
    "1000022",
    "0000000",
    "0110003",
    "0010000",
)


def test_every_component_of_every_label_is_an_instance() -> None:
    found = instances_of(MASK, (1, 2))
    assert [(one.label, one.instance, one.box) for one in found] == [
        (1, 1, Box(0, 0, 1, 1)),
        (1, 2, Box(1, 3, 2, 4)),
        (2, 1, Box(5, 0, 6, 1)),
    ]
    assert [int(one.mask_yx.sum()) for one in found] == [3, 3, 4]


def test_pixels_that_touch_by_a_corner_are_one_instance() -> None:
    assert len(instances_of(picture("10", "01"), (1,))) == 1


def test_a_mask_without_the_labels_has_no_instance() -> None:
    assert instances_of(MASK, (7,)) == []
    assert label_boxes(np.zeros((3, 3), dtype=np.uint8), (1,)) == []


def test_per_label_is_one_box_around_all_of_a_label() -> None:
    found = label_boxes(MASK, (1, 2, 3))
    assert [(one.label, one.instance, one.box) for one in found] == [
        (1, 1, Box(0, 0, 2, 4)),
        (2, 1, Box(5, 0, 6, 1)),
        (3, 1, Box(6, 3, 6, 3)),
    ]
    assert int(found[0].mask_yx.sum()) == 6


def test_a_draw_is_a_function_of_its_key() -> None:
    first, again = (draw("box", 1, 2, KEY, 1, 1).integers(1_000_000) for _ in range(2))
    assert first == again


def test_draws_of_different_keys_differ() -> None:
    other_slice = SliceKey("toy", "a", "image", 4)
    other_dataset = SliceKey("toz", "a", "image", 3)
    generators = [
        draw("box", 1, 2, KEY, 1, 1),
        draw("instances", 1, 2, KEY, 1, 1),
        draw("box", 2, 2, KEY, 1, 1),
        draw("box", 1, 3, KEY, 1, 1),
        draw("box", 1, 2, KEY, 1, 2),
        draw("box", 1, 2, KEY, 11),
        draw("box", 1, 2, other_slice, 1, 1),
        draw("box", 1, 2, other_dataset, 1, 1),
    ]
    assert len({int(rng.integers(2**62)) for rng in generators}) == len(generators)


def test_at_most_so_many_instances_are_chosen_in_their_order() -> None:
    found = instances_of(MASK, (1, 2, 3))
    chosen = choose(found, 2, draw("instances", 0, 0, KEY))
    assert len(chosen) == 2
    assert [found.index(one) for one in chosen] == sorted(found.index(one) for one in chosen)
    assert choose(found, None, draw("instances", 0, 0, KEY)) == found
    assert choose(found, 4, draw("instances", 0, 0, KEY)) == found


def test_over_epochs_every_instance_is_chosen() -> None:
    found = instances_of(MASK, (1, 2, 3))
    chosen = {one.box for epoch in range(20) for one in choose(found, 1, draw("instances", 0, epoch, KEY))}
    assert len(chosen) == 4

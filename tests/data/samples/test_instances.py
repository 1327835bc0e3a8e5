"""What a mask of one slice is prompted with, and that draws are functions of their keys."""

import numpy as np
import pytest
from scipy import ndimage

from sam2ft.core.keys import SliceKey
from sam2ft.core.prompts import Box, Point
from sam2ft.data.samples.instances import (
    Instance,
    chosen_instances,
    degraded_mask,
    instances_of,
    interior_pixel,
    interior_pixels,
    keyed_rng,
    label_boxes,
    random_pixel,
)

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


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        # Touching instances stay two.
        (("1122", "1122"), [(1, Box(0, 0, 1, 1)), (2, Box(2, 0, 3, 1))]),
        # One instance in two pieces stays one, around another.
        (("1001", "0220"), [(1, Box(0, 0, 3, 0)), (2, Box(1, 1, 2, 1))]),
        # Ids need not be consecutive, nor in raster order.
        (("9900", "0044"), [(4, Box(2, 1, 3, 1)), (9, Box(0, 0, 1, 0))]),
        # An instance inside another.
        (("3333", "3553"), [(3, Box(0, 0, 3, 1)), (5, Box(1, 1, 2, 1))]),
    ],
)
def test_given_ids_take_the_place_of_components(ids: tuple[str, ...], expected: list[tuple[int, Box]]) -> None:
    ids_yx = picture(*ids)
    found = instances_of((ids_yx > 0).astype(np.uint8), (1,), ids_yx)
    assert [(one.instance, one.box) for one in found] == expected
    for one in found:
        assert (one.mask_yx == (ids_yx == one.instance)).all()


def test_given_ids_count_within_their_label_up_to_the_largest() -> None:
    ids_yx = np.array([[65535, 65535, 0, 7], [1, 0, 0, 7]], dtype=np.uint16)
    mask_yx = np.array([[2, 2, 0, 1], [1, 0, 0, 1]], dtype=np.uint8)
    found = instances_of(mask_yx, (1, 2, 3), ids_yx)
    assert [(one.label, one.instance, one.box) for one in found] == [
        (1, 1, Box(0, 1, 0, 1)),
        (1, 7, Box(3, 0, 3, 1)),
        (2, 65535, Box(0, 0, 1, 0)),
    ]


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
    first, again = (keyed_rng("box", 1, 2, KEY, 1, 1).integers(1_000_000) for _ in range(2))
    assert first == again


def test_draws_of_different_keys_differ() -> None:
    other_slice = SliceKey("toy", "a", "image", 4)
    other_dataset = SliceKey("toz", "a", "image", 3)
    generators = [
        keyed_rng("box", 1, 2, KEY, 1, 1),
        keyed_rng("instances", 1, 2, KEY, 1, 1),
        keyed_rng("box", 2, 2, KEY, 1, 1),
        keyed_rng("box", 1, 3, KEY, 1, 1),
        keyed_rng("box", 1, 2, KEY, 1, 2),
        keyed_rng("box", 1, 2, KEY, 11),
        keyed_rng("box", 1, 2, other_slice, 1, 1),
        keyed_rng("box", 1, 2, other_dataset, 1, 1),
    ]
    assert len({int(rng.integers(2**62)) for rng in generators}) == len(generators)


def test_at_most_so_many_instances_are_chosen_in_their_order() -> None:
    found = instances_of(MASK, (1, 2, 3))
    chosen = chosen_instances(found, 2, keyed_rng("instances", 0, 0, KEY))
    assert len(chosen) == 2
    assert [found.index(one) for one in chosen] == sorted(found.index(one) for one in chosen)
    assert chosen_instances(found, None, keyed_rng("instances", 0, 0, KEY)) == found
    assert chosen_instances(found, 4, keyed_rng("instances", 0, 0, KEY)) == found


def test_over_epochs_every_instance_is_chosen() -> None:
    found = instances_of(MASK, (1, 2, 3))
    chosen = {
        one.box for epoch in range(20) for one in chosen_instances(found, 1, keyed_rng("instances", 0, epoch, KEY))
    }
    assert len(chosen) == 4


def test_every_pixel_of_an_instance_is_drawn_equally_often_and_no_other() -> None:
    bent = instances_of(picture("00000", "01000", "01110"), (1,))[0]
    points = [random_pixel(bent, np.random.default_rng(seed)) for seed in range(2000)]
    counts = {point: points.count(point) for point in set(points)}
    assert set(counts) == {Point(1, 1), Point(1, 2), Point(2, 2), Point(3, 2)}
    assert min(counts.values()) > 420


def test_the_interior_pixel_is_the_one_farthest_from_outside_and_next_to_the_centroid() -> None:
    tall = np.zeros((9, 12), dtype=np.uint8)
    tall[2:7, 3:10] = 1  # five rows: the third is deepest, in the third to fifth of seven columns
    assert interior_pixel(instances_of(tall, (1,))[0]) == Point(6, 4)
    # the border of the picture is outside: not a pixel on it
    tall[:7, :10] = 1  # 7 x 10: two pixels are equally deep and equally near
    assert interior_pixel(instances_of(tall, (1,))[0]) == Point(4, 3)


def test_the_interior_pixel_of_a_horseshoe_lies_where_it_is_thickest() -> None:
    horseshoe = picture(*["1110001110"] * 6, *["1111111110"] * 5, "0000000000")
    # The arms are 3 wide, the base 5 high: rows 6 to 10 from the top, and column 4 is next to the centroid.
    assert horseshoe[4, 4] == 0
    assert interior_pixel(instances_of(horseshoe, (1,))[0]) == Point(4, 8)


def test_a_mask_one_pixel_thick_gives_a_pixel_of_its_own() -> None:
    assert interior_pixel(instances_of(picture("0000000", "0111110", "0000000"), (1,))[0]) == Point(3, 1)


def test_further_interior_pixels_are_each_the_farthest_from_all_before_it() -> None:
    bar = instances_of(picture(*["0" * 13] * 2, *["0" + "1" * 11 + "0"] * 3, "0" * 13), (1,))[0]
    # Off the border lie columns 2 to 10 of row 3; then the ends, then the middles between.
    assert interior_pixels(bar, 5) == [Point(6, 3), Point(2, 3), Point(10, 3), Point(4, 3), Point(8, 3)]
    assert interior_pixels(bar, 3) == interior_pixels(bar, 5)[:3]
    # More than 9: the border has to be taken too.
    assert len(set(interior_pixels(bar, 33))) == 33
    assert len(interior_pixels(bar, 50)) == 33


def disc(radius: float, shape: tuple[int, int] = (80, 90), centre: tuple[int, int] = (40, 44)) -> Instance:
    y, x = np.indices(shape)
    mask = ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2).astype(np.uint8)
    return instances_of(mask, (1,))[0]


@pytest.mark.parametrize("shift", [1, 3, 8])
def test_the_outline_of_a_degraded_mask_moves_by_at_most_the_shift_in_and_out(shift: int) -> None:
    instance = disc(20)
    outside = ndimage.distance_transform_edt(~instance.mask_yx)
    inside = ndimage.distance_transform_edt(instance.mask_yx)
    farthest_out = farthest_in = 0.0
    for seed in range(60):
        degraded = degraded_mask(instance, shift, np.random.default_rng(seed))
        assert not np.array_equal(degraded, instance.mask_yx)
        farthest_out = max(farthest_out, float(outside[degraded].max()))
        farthest_in = max(farthest_in, float(inside[~degraded].max()))
    # Pixel centres lie half a pixel off the outline; single draws come near the bound on both sides.
    assert 0.5 * shift < farthest_out <= shift + 0.5
    assert 0.5 * shift < farthest_in <= shift + 0.5


def test_a_degraded_mask_is_a_function_of_its_draw_and_stays_in_one_piece() -> None:
    instance = disc(20)
    one, again, other = (degraded_mask(instance, 5, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert ndimage.label(one)[1] == 1


def test_a_degraded_mask_is_never_empty_and_without_a_shift_the_reference() -> None:
    dot = disc(0.5)
    sizes = {int(degraded_mask(dot, 3, np.random.default_rng(seed)).sum()) for seed in range(50)}
    assert min(sizes) >= 1
    assert len(sizes) > 1
    assert np.array_equal(degraded_mask(disc(9), 0, np.random.default_rng(0)), disc(9).mask_yx)
    whole = Instance(1, 1, np.ones((5, 6), dtype=bool), Box(0, 0, 5, 4))
    assert degraded_mask(whole, 3, np.random.default_rng(0)).all()


def test_a_mask_at_the_border_of_the_picture_is_not_eaten_from_there() -> None:
    half = disc(20, centre=(40, 0))
    for seed in range(20):
        degraded = degraded_mask(half, 3, np.random.default_rng(seed))
        assert degraded[30:50, 0].all()

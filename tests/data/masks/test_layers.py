"""Layers become one label map: by values, by names, and where they overlap by the rule that is stated."""

import numpy as np
import pytest

from sam2ft.core.errors import DataError
from sam2ft.core.labels import Label, LabelTable
from sam2ft.data.images.grids import Segment
from sam2ft.data.masks.layers import Layer, Meaning, binary, composed

TABLE = LabelTable((Label(3, "femur"), Label(5, "tibia"), Label(9, "patella")))
SHAPE = (2, 3, 4)


def mask(*flat: int) -> np.ndarray:
    found = np.zeros(24, bool)
    found[list(flat)] = True
    return found.reshape(SHAPE)


def layer(value: int, name: str, *flat: int) -> Layer:
    return Layer(Segment(value, name), mask(*flat))


def flat(found) -> dict[int, int]:
    return {int(at): int(found.array.ravel()[at]) for at in np.flatnonzero(found.array)}


@pytest.mark.parametrize("rule", ["refuse", "first", "last"])
def test_layers_that_do_not_overlap_keep_their_values(rule):
    found = composed([layer(3, "femur", 0, 1), layer(5, "tibia", 2), layer(9, "", 23)], SHAPE, Meaning(), rule)
    assert flat(found) == {0: 3, 1: 3, 2: 5, 23: 9}
    assert found.notes == ()


@pytest.mark.parametrize(("rule", "winner"), [("first", {1: 3, 2: 3}), ("last", {1: 5, 2: 5})])
def test_overlaps_follow_the_rule_and_are_counted(rule, winner):
    layers = [layer(3, "femur", 0, 1, 2), layer(5, "tibia", 1, 2, 3)]
    found = composed(layers, SHAPE, Meaning(TABLE), rule)
    assert flat(found) == {0: 3, 3: 5} | winner
    assert "2 voxels in both femur and tibia" in found.notes[-1]
    with pytest.raises(DataError, match=r"2 voxels in both femur and tibia.*overlaps: first or overlaps: last"):
        composed(layers, SHAPE, Meaning(TABLE), "refuse")


def test_three_layers_are_counted_by_pairs():
    layers = [layer(3, "femur", 0, 1), layer(5, "tibia", 1, 2), layer(9, "patella", 2, 3)]
    with pytest.raises(DataError, match="1 voxels in both femur and tibia, 1 voxels in both tibia and patella"):
        composed(layers, SHAPE, Meaning(TABLE), "refuse")


@pytest.mark.parametrize("turned", [False, True])
def test_layers_of_one_label_and_dropped_layers_are_in_nobodys_way(turned):
    changes = {1: 3, 2: 3, 7: 0, 5: 5}
    layers = [layer(1, "a", 0, 1), layer(2, "b", 1, 2), layer(7, "all", 0, 1, 2, 3, 4), layer(5, "c", 4)]
    found = composed(layers[::-1] if turned else layers, SHAPE, Meaning(TABLE, changes), "refuse")
    assert {at: changes[value] for at, value in flat(found).items()} == {0: 3, 1: 3, 2: 3, 3: 0, 4: 5}


def test_instances_of_one_label_that_overlap_are_not_the_same():
    layers = [layer(1, "a", 0, 1), layer(2, "b", 1, 2)]
    with pytest.raises(DataError, match="1 voxels in both a and b"):
        composed(layers, SHAPE, Meaning(TABLE, {1: 3, 2: 3}, as_given=True), "refuse")


def test_segments_of_one_value_are_told_apart_by_their_names():
    layers = [layer(1, "Tibia", 0, 1), layer(1, "FEMUR", 2), layer(1, "empty")]
    found = composed(layers, SHAPE, Meaning(TABLE), "refuse")
    assert {at: {one.value: one.name for one in found.segments}[value] for at, value in flat(found).items()} == {
        0: "tibia", 1: "tibia", 2: "femur",
    }  # fmt: skip
    with pytest.raises(DataError, match="give the label table with --labels"):
        composed(layers, SHAPE, Meaning(), "refuse")
    with pytest.raises(DataError, match=r"'meniscus' is no label.*name of its segment.*labels_dropped: others"):
        composed([*layers, layer(1, "meniscus", 5)], SHAPE, Meaning(TABLE), "refuse")


def test_segments_without_a_label_follow_what_is_said_of_the_others():
    every = dict.fromkeys(range(1, 65536), 0)
    layers = [layer(8, "femur", 0), layer(3, "skin", 0, 1)]
    found = composed(layers, SHAPE, Meaning(TABLE, every | {3: 3, 5: 5}), "refuse", by_names=True)
    assert (flat(found), [one.name for one in found.segments]) == ({0: 1}, ["femur"])
    merged = composed(layers, SHAPE, Meaning(TABLE, dict.fromkeys(every, 9)), "last", by_names=True)
    assert [one.name for one in merged.segments] == ["femur", "patella"]


@pytest.mark.parametrize("value", [0, -1, 65536])
def test_values_that_are_no_labels_are_refused(value):
    with pytest.raises(DataError, match="allowed: 1 to 65535"):
        composed([layer(value, "a", 1)], SHAPE, Meaning(), "refuse")


@pytest.mark.parametrize("values", [[0, 1], [0, 255], [7], [0.0, 1.0], [False, True], [0]])
def test_a_mask_of_one_label_holds_one_other_value(values):
    array = np.resize(np.array(values), 12)
    assert np.array_equal(binary(array, "x"), array != 0)


@pytest.mark.parametrize("values", [[0, 1, 2], [-1, 0], [0.0, 0.2, 0.7], [0.0, np.nan]])
def test_other_values_are_refused(values):
    with pytest.raises(DataError, match="a mask of one label holds 0 and one other value"):
        binary(np.resize(np.array(values), 12), "x")


@pytest.mark.parametrize("value", [0.9995, 1.0004, 254.9999])
@pytest.mark.parametrize("noise", [0.0, 1e-7, 9e-4])
def test_noise_of_floats_is_no_value(value, noise):
    drawn = np.random.default_rng(3).random((4, 5, 6)) > 0.6
    shaken = drawn * value + np.random.default_rng(4).uniform(-noise, noise, drawn.shape) * ~drawn
    assert np.array_equal(binary(shaken.astype(np.float32), "the mask"), drawn)

"""Masks speak the ids of the label table, or are refused."""

import numpy as np
import pytest

from sam2ft.core.errors import DataError
from sam2ft.core.geometry import Geometry
from sam2ft.core.labels import Label, LabelTable
from sam2ft.data.images.grids import Segment, Volume
from sam2ft.data.prepare.relabel import given_ids, relabel, relabelled_volume

TABLE = LabelTable((Label(1, "vertebra"), Label(2, "disc")))
SAME = {1: 1, 2: 2}


def test_labels_are_merged_and_dropped() -> None:
    mask = np.array([[[0, 1, 2, 41, 42, 100, 99]]])
    changed = relabel(mask, TABLE, {1: 1, 2: 2, 41: 1, 42: 1, 100: 2, 99: 0})
    assert changed.tolist() == [[[0, 1, 2, 1, 1, 2, 0]]]
    assert changed.dtype == np.uint8


def test_an_id_of_the_table_means_what_the_dataset_file_says_and_nothing_by_itself() -> None:
    with pytest.raises(DataError, match="unknown label id 2"):
        relabel(np.array([[[1, 2]]]), TABLE, {1: 1, 41: 2})


def test_labels_may_change_places() -> None:
    assert relabel(np.array([[[1, 2]]]), TABLE, {1: 2, 2: 1}).tolist() == [[[2, 1]]]


def test_an_unknown_label_is_named_with_its_voxels_and_what_is_allowed() -> None:
    with pytest.raises(DataError, match=r"unknown label id 7 \(2 voxels\), 9 \(1 voxels\).*1 vertebra, 2 disc"):
        relabel(np.array([[[0, 1, 7, 7, 9]]]), TABLE, SAME)


def test_a_table_beyond_255_is_stored_in_16_bit() -> None:
    wide = LabelTable((Label(300, "femur"),))
    assert relabel(np.array([[[0, 300]]]), wide, {300: 300}).dtype == np.uint16


def test_whole_numbers_stored_as_floats_are_labels() -> None:
    assert relabel(np.array([[[0.0, 2.0]]]), TABLE, SAME).tolist() == [[[0, 2]]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.0, 1.5], "1 values that are not whole numbers"),
        ([0.0, np.nan], "1 values that are not whole numbers"),
        ([-1, 0], "values from -1 to 0; label ids are 0 to 65535"),
        ([0, 70000], "values from 0 to 70000"),
    ],
)
def test_values_that_cannot_be_ids_are_refused(values: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        relabel(np.array([[values]]), TABLE, SAME)


@pytest.mark.parametrize("error", [0.0, 9e-4, -9e-4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_near_whole_numbers_are_these_numbers(error: float, dtype: type) -> None:
    mask = np.array([[[0, 1, 2]]], dtype) + dtype(error)
    assert relabel(mask, TABLE, SAME).tolist() == [[[0, 1, 2]]]
    with pytest.raises(DataError, match="3 values that are not whole numbers"):
        relabel(mask + dtype(0.01), TABLE, SAME)


def of(array: list[float], *segments: tuple[int, str], dtype: type = np.uint8) -> Volume:
    mask = np.array([[array]], dtype)
    return Volume(mask, Geometry.axis_aligned(mask.shape, (1, 1, 1)), segments=tuple(Segment(*one) for one in segments))


@pytest.mark.parametrize("ids", [[0, 1, 2], [0, 2, 2], [0, 1, 1]])
def test_ids_divided_by_255_are_read_with_a_note(ids: list[int]) -> None:
    mask, notes = relabelled_volume(of([value / 255 for value in ids], dtype=np.float32), TABLE, SAME)
    assert mask.tolist() == [[ids]]
    assert "1/255 of whole numbers" in notes[0]


@pytest.mark.parametrize("values", [[0, 0.5], [0, 3 / 255], [0, 1 / 255, 0.3], [0, 128 / 255, 1.0]])
def test_other_fractions_are_refused_also_when_others_are_dropped(values: list[float]) -> None:
    everything = {**dict.fromkeys(range(1, 1000), 0), **SAME}
    with pytest.raises(DataError, match=r"not whole numbers; .* export it as integers, without a scale"):
        relabelled_volume(of(values, dtype=np.float32), TABLE, everything)


@pytest.mark.parametrize(
    "segments",
    [
        ((1, "disc"), (2, "vertebra")),
        ((1, "Disc"), (2, "VERTEBRA")),
        ((1, " di_sc"), (2, "verte bra")),
        ((1, "Segment_1", "disc"), (2, "Segment_2", "Vertebra")),
        ((1, "disc"), (2, "vertebra"), (9, "not in the mask")),
    ],
)
def test_segments_are_the_labels_of_their_names(segments: tuple) -> None:
    mask, notes = relabelled_volume(of([0, 1, 2, 2], *segments), TABLE, SAME)
    assert mask.tolist() == [[[0, 2, 1, 1]]]
    assert notes == ("labels follow the names of the segments: 1 -> 2 disc, 2 -> 1 vertebra",)


def test_segments_of_any_value_are_the_labels_of_their_names() -> None:
    mask, _ = relabelled_volume(of([0, 7, 40], (7, "disc"), (40, "vertebra")), TABLE, SAME)
    assert mask.tolist() == [[[0, 2, 1]]]


def test_names_that_agree_with_the_values_need_no_note() -> None:
    mask, notes = relabelled_volume(of([0, 1, 2], (1, "vertebra"), (2, "disc")), TABLE, SAME)
    assert (mask.tolist(), notes) == ([[[0, 1, 2]]], ())


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        (((1, "vertebra"), (2, "nerve")), "value 2 is named 'nerve', but 2 disc in the label table"),
        (((1, "disc"), (2, "nerve")), "value 1 is named 'disc', but 1 vertebra in the label table"),
        (((1, "disc"), (2, "disc"), (2, "vertebra")), "value 2 is named 'disc', but 2 disc"),
    ],
)
def test_names_that_contradict_the_values_are_refused_naming_both(segments: tuple, message: str) -> None:
    with pytest.raises(DataError, match=message):
        relabelled_volume(of([0, 1, 2], *segments), TABLE, SAME)


@pytest.mark.parametrize("names", [("Segment_1", "Segment_2"), ("Wirbel", "Scheibe"), ("a", "b")])
def test_without_a_known_name_the_values_decide_with_a_note(names: tuple[str, str]) -> None:
    mask, notes = relabelled_volume(of([0, 1, 2], (1, names[0]), (2, names[1])), TABLE, SAME)
    assert mask.tolist() == [[[0, 1, 2]]]
    assert f"no segment of the mask has the name of a label (1 {names[0]}, 2 {names[1]})" in notes[0]


def test_a_foreign_segment_may_be_dropped_or_merged_by_the_dataset_file() -> None:
    changes = {1: 1, 2: 2, 3: 0, 41: 2}
    segments = ((1, "vertebra"), (3, "nerve"), (41, "disc L4"))
    mask, notes = relabelled_volume(of([0, 1, 3, 41], *segments), TABLE, changes)
    assert (mask.tolist(), notes) == ([[[0, 1, 0, 2]]], ())


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float64])
def test_given_ids_survive_merging_and_are_gone_where_a_label_is_dropped(dtype: type) -> None:
    mask = np.array([[[0, 1, 2, 1000, 65535, 9]]], dtype=dtype)
    changes = {1: 1, 2: 1, 1000: 1, 65535: 2, 9: 0}
    ids = given_ids(mask, relabel(mask, TABLE, changes), changes)
    assert (ids.dtype, ids.tolist()) == (np.uint16, [[[0, 1, 2, 1000, 65535, 0]]])


def test_given_ids_beyond_16_bit_are_refused() -> None:
    with pytest.raises(DataError, match="values from 0 to 70000; label ids are 0 to 65535"):
        relabel(np.array([[[0, 70000]]]), TABLE, {1: 1})


def test_given_ids_of_a_mask_divided_by_255_are_its_ids() -> None:
    ids = np.array([[[0, 1, 2, 200, 255]]])
    changes = {1: 1, 2: 1, 200: 1, 255: 1}
    assert given_ids(ids / 255, (ids > 0).astype(np.uint8), changes).tolist() == ids.tolist()
    with pytest.raises(DataError, match="values that are not whole numbers"):
        given_ids(ids / 255, (ids > 0).astype(np.uint8), {1: 1})


def test_a_label_without_an_id_is_refused() -> None:
    with pytest.raises(DataError, match=r"2 voxels with a label have no id of an instance; .* set instances\.source"):
        given_ids(np.array([[[0, 0, 0, 1]]]), np.array([[[0, 1, 1, 1]]], dtype=np.uint8), {1: 1})


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64, np.uint64, np.float32, np.float64])
@pytest.mark.parametrize("seed", range(4))
def test_relabelling_is_that_of_each_voxel_by_itself(seed: int, dtype: type) -> None:
    rng = np.random.default_rng(seed)
    changes = {1: 1, 2: 2, 5: [5, 1, 0, 2][seed], 7: 2}
    mask = np.repeat(rng.choice([0, 1, 2, 5, 7] if seed else [0, 1, 2], 60), 14).reshape(6, 10, 14).astype(dtype)
    expected = np.vectorize(lambda value: {**changes, 0: 0}[int(value)])(mask)
    for view in (mask, np.asfortranarray(mask), mask[:, ::-1]):
        found = relabel(view, TABLE, changes)
        assert found.dtype == np.uint8
        assert np.array_equal(found, expected[:, ::-1] if view.strides[1] < 0 else expected)


def test_a_mask_that_needs_no_change_is_not_copied() -> None:
    mask = np.array([[[0, 1, 2]]], np.uint8)
    assert relabel(mask, TABLE, SAME) is mask
    assert relabel(mask, TABLE, {1: 2, 2: 1}) is not mask


@pytest.mark.parametrize("array", [[0, 1, 2], [0, 1, 1, 2, 2], [2, 1]])
def test_a_value_without_a_segment_is_not_mixed_with_the_label_of_a_name(array: list[float]) -> None:
    """Names that move values would make one label of the segment `disc` (1) and of the nameless value 2."""
    with pytest.raises(DataError, match=r"value 1 is named 'disc', but 1 vertebra .*the values 2 have no segment"):
        relabelled_volume(of(array, (1, "disc")), TABLE, SAME)
    mask, notes = relabelled_volume(of(array, (1, "vertebra")), TABLE, SAME)
    assert mask.ravel().tolist() == array
    assert notes == ()

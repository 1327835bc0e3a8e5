"""Masks speak the ids of the label table, or are refused."""

import numpy as np
import pytest

from sam2ft.core.errors import DataError
from sam2ft.core.labels import Label, LabelTable
from sam2ft.data.prepare.relabel import given_ids, relabel

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


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float64])
def test_given_ids_survive_merging_and_are_gone_where_a_label_is_dropped(dtype: type) -> None:
    mask = np.array([[[0, 1, 2, 1000, 65535, 9]]], dtype=dtype)
    changed = relabel(mask, TABLE, {1: 1, 2: 1, 1000: 1, 65535: 2, 9: 0})
    ids = given_ids(mask, changed)
    assert (ids.dtype, ids.tolist()) == (np.uint16, [[[0, 1, 2, 1000, 65535, 0]]])


def test_given_ids_beyond_16_bit_are_refused() -> None:
    with pytest.raises(DataError, match="values from 0 to 70000; label ids are 0 to 65535"):
        relabel(np.array([[[0, 70000]]]), TABLE, {1: 1})


def test_a_label_without_an_id_is_refused() -> None:
    with pytest.raises(DataError, match=r"2 voxels with a label have no id of an instance; .* set instances\.source"):
        given_ids(np.array([[[0, 1 / 255, 2 / 255, 1]]]), np.array([[[0, 1, 1, 1]]], dtype=np.uint8))

"""The slices drawn after every epoch show every label, come from many subjects, and are on rank 0."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam2ft.core.keys import SliceKey
from sam2ft.data.samples.example_slices import slices_to_show
from sam2ft.data.samples.loader import ShardedBatches, rank_zero_first
from sam2ft.data.store.store import Store
from sam2ft.distributed.ranks import Ranks


def stack(*areas: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """One slice per pair: so many pixels of label 1, and of label 5."""
    mask = np.zeros((len(areas), 24, 32), dtype=np.uint8)
    for i, (ones, fives) in enumerate(areas):
        mask[i].ravel()[:ones] = 1
        mask[i].ravel()[400 : 400 + fives] = 5
    return mask


def indices(keys: tuple[SliceKey, ...]) -> list[tuple[str, int]]:
    return [(key.subject, key.index) for key in keys]


def test_the_first_picture_shows_the_labels_largest_and_the_next_adds_what_it_lacked(
    tmp_path: Path, write_store: Callable[..., Store], prepared: Callable[..., Any]
) -> None:
    # Shares of the largest: slice 0 (.1, 0), 1 (.9, .5), 2 (1, .1), 3 (0, 1). Slice 1 has most in all (1.4); then
    # slice 3 adds .5 of label 5, slice 2 only .1 of label 1.
    store = write_store(tmp_path, [prepared("a", mask_zyx=stack((10, 0), (90, 20), (100, 4), (0, 40)))])
    assert indices(slices_to_show([store], store.volumes, 1)) == [("a", 1)]
    assert indices(slices_to_show([store], store.volumes, 2)) == [("a", 1), ("a", 3)]
    assert indices(slices_to_show([store], store.volumes, 9)) == [("a", 0), ("a", 1), ("a", 2), ("a", 3)]


def test_every_subject_has_its_turn_before_one_has_two(
    tmp_path: Path, write_store: Callable[..., Store], prepared: Callable[..., Any]
) -> None:
    middle = stack((0, 0), (10, 1), (50, 30), (10, 1))
    store = write_store(tmp_path, [prepared(name, mask_zyx=middle) for name in "abc"])
    assert indices(slices_to_show([store], store.volumes, 3)) == [("a", 2), ("b", 2), ("c", 2)]
    assert [subject for subject, _ in indices(slices_to_show([store], store.volumes, 4))] == ["a", "a", "b", "c"]
    backwards = tuple(reversed(store.volumes))
    assert slices_to_show([store], backwards, 4) == slices_to_show([store], store.volumes, 4)


def test_of_many_subjects_some_are_taken_from_the_whole_range(
    tmp_path: Path, write_store: Callable[..., Store], prepared: Callable[..., Any]
) -> None:
    store = write_store(tmp_path, [prepared(name) for name in "abcdefghij"])
    assert [subject for subject, _ in indices(slices_to_show([store], store.volumes, 2))] == ["c", "h"]


@pytest.mark.parametrize(("batch_size", "world_size"), [(1, 1), (4, 1), (2, 2), (1, 3), (3, 2)])
def test_rank_0_meets_the_shown_slices_first_and_nothing_is_doubled_or_dropped(
    batch_size: int, world_size: int
) -> None:
    first = [5, 11, 17, 22]
    order = rank_zero_first(23, first, batch_size, world_size)
    met: list[list[int]] = []
    for rank in range(world_size):
        batches = ShardedBatches(lambda _epoch: order, batch_size, Ranks(rank, world_size))
        met.append([draw.position for batch in batches for draw in batch if draw.weight])
    assert met[0][:4] == first
    assert sorted(position for of_rank in met for position in of_rank) == list(range(23))


def test_more_shown_slices_than_rank_0_gets_are_left_to_the_others() -> None:
    order = rank_zero_first(4, [0, 1, 2, 3], batch_size=1, world_size=2)
    assert sorted(order) == [0, 1, 2, 3]
    assert (order[0], order[2]) == (0, 1)
    assert rank_zero_first(3, [], batch_size=2, world_size=1) == [0, 1, 2]

"""Slices that are kept for later passes: each pass sees its own, within the memory that is allowed."""

from collections.abc import Iterator, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sam2ft.model.encoded_slices import EncodedSlice, EncodedSlices

BYTES = 40
"""Of one encoded slice: ten numbers in float32."""


def encoded(image: Tensor) -> EncodedSlice:
    return EncodedSlice((image.expand(10).clone(),), torch.zeros(0), ((1, 1),))


class Loaded:
    """Loads slices whose value is their index, and notes which."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, order: Sequence[int]) -> Iterator[Tensor]:
        for index in order:
            self.asked.append(index)
            yield torch.tensor([float(index)])


def passed(orders: Sequence[Sequence[int]], most_bytes: int) -> tuple[Loaded, list[int]]:
    """(what was loaded, memory after each slice) of passes in which every slice is the right one."""
    loaded, held = Loaded(), list[int]()
    slices = EncodedSlices(encoded, loaded, most_bytes)
    for number, order in enumerate(orders):
        later = {index for other in orders[number + 1 :] for index in other}
        seen = []
        for index, one in slices.along(order, later):
            assert (one.levels[0] == index).all()
            seen.append(index)
            held.append(slices.num_bytes)
        assert seen == list(order)
        assert slices._kept.keys() <= later
    assert slices.num_bytes == 0
    return loaded, held


ORDERS = st.lists(st.lists(st.integers(0, 9), unique=True, max_size=10), max_size=6)


@given(ORDERS, st.integers(0, 12))
def test_any_passes_get_their_slices_within_any_memory(orders: list[list[int]], room: int) -> None:
    loaded, held = passed(orders, room * BYTES + BYTES // 2)
    assert max(held, default=0) <= room * BYTES
    assert set(loaded.asked) == {index for order in orders for index in order}
    if room >= 10:
        assert len(loaded.asked) == len(set(loaded.asked))


@pytest.mark.parametrize(
    ("orders", "room", "loads"),
    [
        # Up and down: what was seen last is needed first.
        ([range(8), range(7, -1, -1)], 3, 8 + 5),
        ([range(2, 8), range(5, -1, -1)], 9, 8),
        # Twice in the same direction: what is ahead is not given up for what has passed.
        ([range(8), range(8), range(8)], 3, 8 + 5 + 5),
        ([range(4), range(4)], 0, 8),
        ([range(4)], 9, 4),
    ],
)
def test_as_much_is_kept_as_has_room(orders: list[range], room: int, loads: int) -> None:
    loaded, _ = passed(orders, room * BYTES)
    assert len(loaded.asked) == loads


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_loader_that_yields_another_number_of_slices_is_refused(count: int) -> None:
    def images(_order: Sequence[int]) -> Iterator[Tensor]:
        return (torch.zeros(1) for _ in range(count))

    with pytest.raises(ValueError, match=r"zip\(\)"):
        list(EncodedSlices(encoded, images, 1000).along([4, 5], ()))


def test_the_memory_is_that_of_the_storage_and_not_of_the_view() -> None:
    whole = torch.zeros(100)
    assert EncodedSlice((whole[:10], torch.zeros(5)), torch.zeros(0), ((1, 1),) * 2).num_bytes == 420

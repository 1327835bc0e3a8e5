"""Passes over voxels give what plain NumPy gives, whatever the type and the order of the axes in memory."""

from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from sam2ft.data.images.voxel_passes import by_table, counts_of, exact_uint16, planes, whole_histogram

Order = Callable[[np.ndarray], np.ndarray]


def strided(array: np.ndarray) -> np.ndarray:
    """The same values in every second voxel of a larger array, backwards along one axis."""
    larger = np.zeros([2 * size for size in array.shape], array.dtype)
    larger[::2, ::2, ::-2][:] = array
    return larger[::2, ::2, ::-2]


ORDERS: dict[str, Order] = {
    **{
        "".join(map(str, axes)): lambda array, axes=axes: np.ascontiguousarray(array.transpose(axes)).transpose(
            np.argsort(axes)
        )
        for axes in permutations(range(3))
    },
    "strided": strided,
    "flipped": lambda array: np.flip(np.ascontiguousarray(np.flip(array, 1)), 1),
}
SHAPES = [(5, 7, 9), (1, 6, 8), (4, 1, 1), (3, 5, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("order", ORDERS)
def test_the_planes_of_an_array_hold_each_voxel_once(order: str, shape: tuple[int, ...]) -> None:
    array = ORDERS[order](np.arange(np.prod(shape)).reshape(shape))
    copy = np.zeros(shape, int)
    for plane, target in planes(array, copy):
        target[...] = plane
    assert np.array_equal(copy, array)


def test_planes_lie_together_in_memory() -> None:
    array = np.zeros((2, 3, 400), np.uint8).transpose(2, 1, 0)
    assert [plane.shape for (plane,) in planes(array)] == [(400, 3)] * 2


def test_a_list_of_values_is_cut_in_parts() -> None:
    values = np.arange((1 << 21) + 5)
    found = [plane for (plane,) in planes(values)]
    assert len(found) == 3
    assert np.array_equal(np.concatenate(found), values)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64])
@pytest.mark.parametrize("order", ORDERS)
def test_integers_are_counted(order: str, dtype: type, seed: int) -> None:
    rng, limits = np.random.default_rng(seed), np.iinfo(dtype)
    low = int(rng.integers(limits.min, limits.max - 100, dtype=np.int64))
    values = ORDERS[order](rng.integers(low, low + 100, (5, 7, 9)).astype(dtype))
    found = whole_histogram(values)
    assert found is not None
    expected = np.unique_counts(values)
    assert found[0] == values.min()
    assert (found[0] + np.flatnonzero(found[1])).tolist() == expected.values.tolist()
    assert found[1][found[1] > 0].tolist() == expected.counts.tolist()


def test_the_whole_range_of_16_bit_is_counted_and_more_is_not() -> None:
    ends = np.array([[[-32768, 32767, 32767]]])
    lowest, counts = whole_histogram(ends.astype(np.int16)) or (0, np.zeros(0))
    assert (lowest, len(counts), counts[-1]) == (-32768, 65536, 2)
    assert whole_histogram(np.array([[[0, 65536]]])) is None
    assert whole_histogram(np.ones((1, 1, 2), np.float32)) is None
    assert whole_histogram(np.ones((1, 1, 2), np.uint64)) is None


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int64])
@pytest.mark.parametrize("runs", [1, 3, 50])
def test_labels_are_counted_by_their_runs(runs: int, dtype: type) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        labels = np.repeat(rng.integers(0, 100, 60), rng.integers(1, runs + 1, 60)).astype(dtype)[None]
        values, counts = counts_of(labels)
        expected = np.unique_counts(labels)
        assert values.tolist() == expected.values.tolist()
        assert counts.tolist() == expected.counts.tolist()


def test_nothing_has_no_counts() -> None:
    assert [found.tolist() for found in counts_of(np.zeros((0, 3), np.uint8))] == [[], []]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.uint64])
@pytest.mark.parametrize("order", ORDERS)
def test_a_table_is_looked_up_in_every_order(order: str, dtype: type) -> None:
    rng = np.random.default_rng(1)
    indices = ORDERS[order](rng.integers(0, 120, (5, 7, 9)).astype(dtype))
    table = rng.integers(0, 60000, 120).astype(np.uint16)
    found = by_table(indices, table)
    assert np.array_equal(found, table[indices.astype(int)])
    assert found.flags.c_contiguous
    assert found.dtype == np.uint16


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("order", ORDERS)
def test_floats_that_are_whole_become_integers(order: str, dtype: Any) -> None:
    values = ORDERS[order](np.arange(315.0).reshape(5, 7, 9).astype(dtype))
    found = exact_uint16(values)
    assert found is not None
    assert found.dtype == np.uint16
    assert np.array_equal(found, values)


@pytest.mark.parametrize("wrong", [0.5, -1.0, 65536.0, np.nan, np.inf, -np.inf, 1e-3, 2**40])
def test_floats_of_which_one_is_not_whole_do_not(wrong: float) -> None:
    values = np.arange(24.0).reshape(2, 3, 4)
    values[1, 2, 3] = wrong
    assert exact_uint16(values) is None


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
@pytest.mark.parametrize("seed", range(3))
def test_a_table_is_looked_up_in_the_memory_of_the_indices(dtype: type, seed: int) -> None:
    rng = np.random.default_rng(seed)
    indices, table = rng.integers(0, 200, (5, 7, 9)).astype(dtype), rng.integers(0, 250, 200).astype(dtype)
    expected = table[indices]
    found = by_table(indices, table, indices)
    assert found is indices
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("ends", [(-3, 9), (-3.0, 9.0), (np.int16(-3), np.int16(9))])
def test_known_ends_save_a_pass_and_change_nothing(ends: Any) -> None:
    values = np.array([[[9, -3, 4, 4]]], np.int16)
    found, same = whole_histogram(values), whole_histogram(values, ends)
    assert found is not None
    assert same is not None
    assert (found[0], found[1].tolist()) == (same[0], same[1].tolist()) == (-3, [1, *[0] * 6, 2, *[0] * 4, 1])

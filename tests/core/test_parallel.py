"""One function over many items in several processes."""

import os
import time

import pytest

from sam2ft.core.parallel import parallel_map


def slow_first(number: int) -> tuple[int, int]:
    time.sleep(0.5 if number == 0 else 0.0)
    if number == 3:
        raise ValueError("three")
    return number, os.getpid()


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_items_and_an_error_in_its_turn(workers: int) -> None:
    results = parallel_map(slow_first, [0, 1, 2, 3, 4], workers)
    found = [next(results) for _ in range(3)]
    assert [number for number, _ in found] == [0, 1, 2]
    processes = {process for _, process in found}
    assert (processes == {os.getpid()}) == (workers == 1)
    assert len(processes) == workers
    with pytest.raises(ValueError, match="three"):
        next(results)


def deadly(number: int) -> int:
    if number in (2, 5):
        os._exit(9)
    return number


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_an_item_whose_process_dies_costs_no_other_item(workers: int) -> None:
    assert list(parallel_map(deadly, range(8), workers, lost=lambda number: -number)) == [0, 1, -2, 3, 4, -5, 6, 7]


def stops(number: int) -> int:
    if number == 1:
        raise StopIteration
    return number


def test_a_stop_iteration_of_an_item_is_not_the_end_of_the_items() -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(parallel_map(stops, [0, 1, 2]))

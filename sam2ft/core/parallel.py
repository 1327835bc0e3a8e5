"""Parallel map over a process pool; results come in the order of the items."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def parallel_map(function: Callable[[Item], Result], items: Sequence[Item], workers: int = 1) -> Iterator[Result]:
    """Yield `function(item)` for every item, in order; in this process when `workers` is 1 or there is one item.

    With more workers, `function` must be importable and the items picklable. An error of an item, or an interrupt, is
    raised when the result of that item is due; no further items are started after it.
    """
    if min(workers, len(items)) <= 1:
        yield from map(function, items)
        return
    # Spawned, not forked, because the caller may show progress from a thread.
    with ProcessPoolExecutor(min(workers, len(items)), mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(function, item) for item in items]
        try:
            for one in waiting:
                yield one.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

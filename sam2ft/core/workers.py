"""One function over many items in several processes, results in the order of the items."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(function: Callable[[Item], Result], items: Sequence[Item], workers: int = 1) -> Iterator[Result]:
    """`function(item)` of every item, in order; in this process when `workers` is 1 or there is one item.

    `function` and the items must be importable and picklable for more workers. An error of one item, or an interrupt,
    is raised when its turn comes, and nothing new is begun after it.
    """
    if min(workers, len(items)) <= 1:
        yield from map(function, items)
        return
    # Spawned, not forked: the caller may show progress from a thread.
    with ProcessPoolExecutor(min(workers, len(items)), mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(function, item) for item in items]
        try:
            for one in waiting:
                yield one.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

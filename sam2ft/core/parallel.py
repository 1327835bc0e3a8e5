"""Parallel map over a process pool; results come in the order of the items."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def parallel_map(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int = 1,
    lost: Callable[[Item], Result] | None = None,
) -> Iterator[Result]:
    """Yield `function(item)` for every item, in order; in this process when `workers` is 1 or there is one item.

    With more workers, `function` must be importable and the items picklable. An error of an item, or an interrupt, is
    raised when the result of that item is due; no further items are started after it.

    Args:
        lost: makes the result of an item whose process died (a crash inside a library, the kernel's memory killer).
            With it, items always run in other processes, and the death of one costs no other item.
    """
    if lost is None and min(workers, len(items)) <= 1:
        # Not `map`: a StopIteration raised by `function` would end it like the end of the items.
        for item in items:
            yield function(item)
        return
    at = 0
    while at < len(items):
        with _pool(max(1, min(workers, len(items) - at))) as pool:
            waiting = [pool.submit(function, item) for item in items[at:]]
            try:
                for future in waiting:
                    yield future.result()
                    at += 1
            except BrokenProcessPool:
                if lost is None:
                    raise
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
        if lost is not None and at < len(items):
            # The pool died of this item or of a later one, which shows in a process of its own.
            yield _alone(function, items[at], lost)
            at += 1


def _pool(workers: int) -> ProcessPoolExecutor:
    # Spawned, not forked, because the caller may show progress from a thread.
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """End this process when the one that started it is gone: a killed command must leave no process behind."""

    def wait() -> None:
        if (parent := parent_process()) is not None:
            parent.join()
            os._exit(1)

    Thread(target=wait, daemon=True).start()


def _alone(function: Callable[[Item], Result], item: Item, lost: Callable[[Item], Result]) -> Result:
    with _pool(1) as pool:
        try:
            return pool.submit(function, item).result()
        except BrokenProcessPool:
            return lost(item)

"""Gradient accumulation: the batches of one optimizer step."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from torch import Tensor

from sam2ft.data.samples.batch import Batch


class Group(NamedTuple):
    """The batches of one optimizer step on this rank."""

    batches: list[Batch]
    data_seconds: float
    """Time spent waiting for the batches."""


def groups_of(batches: Iterable[Batch], size: int) -> Iterator[Group]:
    """Split batches into groups of `size`; the last group may be shorter."""
    remaining = iter(batches)
    while True:
        started = time.perf_counter()
        group = list(islice(remaining, size))
        if not group:
            return
        yield Group(group, time.perf_counter() - started)


def add_sums(sums: dict[str, Tensor], losses: Mapping[str, Tensor], weight: float) -> None:
    for name, values in losses.items():
        total = values.detach().double().sum() * weight
        sums[name] = sums[name] + total if name in sums else total


def slice_names(batches: Sequence[Batch]) -> str:
    return "; ".join(str(key) for batch in batches for key in batch.keys)

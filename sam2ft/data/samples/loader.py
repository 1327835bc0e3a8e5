"""Data loaders for training and validation, with distributed (multi-rank) batch sampling.

The order of an epoch is drawn once for all ranks from (seed, epoch) and divided into blocks of batch_size x world_size;
rank r takes the r-th batch of each block. Therefore the slices of an optimizer step depend only on batch_size x
accumulation x world_size, no slice is repeated or dropped, and every rank has the same number of batches.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.utils.data import DataLoader

from sam2ft.config.schema.datamodule import Datamodule
from sam2ft.core.keys import SliceKey
from sam2ft.data.samples.batch import Batch, Sample, SampleDraw, collate
from sam2ft.data.samples.dataset import SliceDataset
from sam2ft.distributed.ranks import ALONE, Ranks
from sam2ft.distributed.worker_server import end_with_owner, kept_from_children, worker_server


def epoch_order(keys: Sequence[SliceKey], seed: int, epoch: int, *, balanced: bool = False) -> list[int]:
    """Positions in `keys` in the order of one epoch.

    Args:
        balanced: give every dataset the weight of the largest: slices of smaller ones are repeated, in a new random
            order, until the counts are equal.
    """
    by_dataset: dict[str, list[int]] = {}
    for position, key in enumerate(keys):
        by_dataset.setdefault(key.dataset if balanced else "", []).append(position)
    largest = max(len(positions) for positions in by_dataset.values())
    chosen: list[int] = []
    rng = np.random.default_rng([seed, epoch])
    for _, positions in sorted(by_dataset.items()):
        passes = -(-largest // len(positions))
        drawn = np.concatenate([rng.permutation(positions) for _ in range(passes)])
        chosen += [int(position) for position in drawn[:largest]]
    return [chosen[i] for i in rng.permutation(len(chosen))]


@dataclass
class ShardedBatches:
    """Batch sampler for DataLoader: the batches of one rank in the current epoch, as lists of SampleDraw."""

    order_of: Callable[[int], Sequence[int]]
    """Epoch -> positions of its slices, in order; their number is the same in every epoch."""
    batch_size: int
    ranks: Ranks
    epoch: int = 0
    skip: int = 0
    """Number of first batches that the next pass leaves out (done before the run was resumed)."""

    def start(self, epoch: int, skip: int = 0) -> None:
        """Set `epoch` and `skip` of the next pass."""
        self.epoch, self.skip = epoch, skip

    def __len__(self) -> int:
        return math.ceil(len(self.order_of(self.epoch)) / (self.batch_size * self.ranks.world_size))

    def __iter__(self) -> Iterator[list[SampleDraw]]:
        order = self.order_of(self.epoch)
        size, world = self.batch_size, self.ranks.world_size
        mine = order[-1:]
        for number, start in enumerate(range(0, len(order), size * world)):
            first = start + self.ranks.rank * size
            # A rank without slices repeats its last one with weight 0, so that all ranks call the same collectives.
            work = order[first : first + size]
            mine, weight = (work, 1.0) if work else (mine[-1:], 0.0)
            if number >= self.skip:
                yield [SampleDraw(index, self.epoch, weight) for index in mine]


class EpochBatches:
    """Batches of an epoch, by calling the object with the epoch; workers persist between epochs."""

    def __init__(
        self, dataset: SliceDataset, order_of: Callable[[int], Sequence[int]], section: Datamodule, ranks: Ranks
    ):
        """`order_of`: epoch -> positions in the dataset, in their order (ShardedBatches)."""
        self._sampler = ShardedBatches(order_of, section.batch_size, ranks)
        self._serves = section.num_workers > 0 and forks_are_unsafe(ranks)
        self._loader: DataLoader[Sample] = DataLoader(
            dataset,
            batch_sampler=self._sampler,
            num_workers=section.num_workers,
            collate_fn=collate,
            # For asynchronous copies to the device.
            pin_memory=ranks.device.type == "cuda",
            persistent_workers=section.num_workers > 0,
            worker_init_fn=_begin_served if self._serves else _begin,
            # MONAI takes seconds to import: only where the augmentation has needed it already.
            multiprocessing_context=worker_server(__name__, "monai.transforms") if self._serves else None,
        )

    def __len__(self) -> int:
        """Batches per epoch and rank."""
        return len(self._sampler)

    def __call__(self, epoch: int = 0, skip: int = 0) -> Iterable[Batch]:
        """The batches of `epoch`, without the first `skip`."""
        self._sampler.start(epoch, skip)
        with kept_from_children() if self._serves else nullcontext():
            return iter(self._loader)


def forks_are_unsafe(ranks: Ranks) -> bool:
    """Whether worker processes may not be forked from this one: its threads run nccl, and a fork may deadlock."""
    return ranks.device.type == "cuda" and ranks.world_size > 1


def train_loader(dataset: SliceDataset, section: Datamodule, ranks: Ranks = ALONE) -> EpochBatches:
    """Batches of the training slices, shuffled in each epoch with the seed of the dataset."""
    order_of = partial(epoch_order, dataset.keys, dataset.settings.seed, balanced=section.balanced)
    return EpochBatches(dataset, order_of, section, ranks)


def val_loader(
    dataset: SliceDataset, section: Datamodule, ranks: Ranks = ALONE, shown: Sequence[SliceKey] = ()
) -> EpochBatches:
    """Batches of the validation slices; called without an epoch they always have the same prompts.

    Slices are in the order of their keys, except that the slices `shown` come first on rank 0, so that it has all of
    them without communication.
    """
    first = [position for position, key in enumerate(dataset.keys) if key in shown]
    order = rank_zero_first(len(dataset.keys), first, section.batch_size, ranks.world_size)
    return EpochBatches(dataset, lambda _epoch: order, section, ranks)


def rank_zero_first(count: int, first: Sequence[int], batch_size: int, world_size: int) -> list[int]:
    """0 .. count - 1 in an order in which rank 0 starts with `first` (as many of them as rank 0 gets)."""
    places = [place for place in range(count) if place // batch_size % world_size == 0]
    placed = dict(zip(places, first, strict=False))
    taken = set(placed.values())
    rest = iter([position for position in range(count) if position not in taken])
    return [placed[place] if place in placed else next(rest) for place in range(count)]


def _begin(_worker: int) -> None:
    torch.set_num_threads(1)


def _begin_served(worker: int) -> None:
    _begin(worker)
    end_with_owner()

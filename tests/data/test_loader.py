"""Neither workers, nor ranks, nor a resume change what is trained on."""

import pytest
import torch

from sam2ft.core.keys import SliceKey
from sam2ft.data.batch import Batch, Draw
from sam2ft.data.dataset import SliceDataset, SliceSettings
from sam2ft.data.loader import LoaderSettings, ShardedBatches, epoch_order, train_loader, val_loader
from sam2ft.data.store import Store

KEYS = [SliceKey("one", "a", "image", i) for i in range(11)]


def rank_batches(world_size: int, batch_size: int, seed: int | None = 3, epoch: int = 0) -> list[list[list[Draw]]]:
    """Per rank the batches of one epoch."""
    ranks = []
    for rank in range(world_size):
        settings = LoaderSettings(batch_size, rank=rank, world_size=world_size)
        sampler = ShardedBatches(KEYS, settings, seed)
        sampler.start(epoch)
        ranks.append(list(sampler))
    return ranks


@pytest.mark.parametrize(("world_size", "batch_size"), [(1, 1), (1, 4), (2, 2), (3, 2), (4, 5), (16, 1)])
def test_ranks_share_an_epoch_without_doubling_or_dropping(world_size: int, batch_size: int) -> None:
    ranks = rank_batches(world_size, batch_size)
    worked = [draw.position for batches in ranks for batch in batches for draw in batch if draw.weight]
    assert sorted(worked) == list(range(11))
    assert len({len(batches) for batches in ranks}) == 1


def test_a_rank_without_work_repeats_its_last_slice_with_weight_0() -> None:
    # 11 slices, 2 x 3 per piece: 6, then 3 on rank 0 and 2 on rank 1; with 4 ranks of 2: 8, then 2, 1, none, none.
    ranks = rank_batches(4, 2)
    assert [len(batches[1]) for batches in ranks] == [2, 1, 1, 1]
    assert [batches[1][0].weight for batches in ranks] == [1, 1, 0, 0]
    assert ranks[2][1][0].position == ranks[2][0][-1].position


def test_the_slices_of_a_step_do_not_depend_on_the_world_size() -> None:
    # Four slices per step, as 1 rank x 4, 2 ranks x 2 and 4 ranks x 1; and as 1 rank x 2 accumulated twice.
    def steps(world_size: int, batch_size: int, accumulated: int) -> list[set[int]]:
        ranks = rank_batches(world_size, batch_size)
        groups = range(0, len(ranks[0]), accumulated)
        return [
            {d.position for batches in ranks for batch in batches[g : g + accumulated] for d in batch if d.weight}
            for g in groups
        ]

    assert steps(1, 4, 1) == steps(2, 2, 1) == steps(4, 1, 1) == steps(1, 2, 2) == steps(2, 1, 2)


def test_every_epoch_has_its_own_order_and_a_seed_always_the_same() -> None:
    assert epoch_order(KEYS, 3, 0) == epoch_order(KEYS, 3, 0)
    assert epoch_order(KEYS, 3, 0) != epoch_order(KEYS, 3, 1)
    assert epoch_order(KEYS, 3, 0) != epoch_order(KEYS, 4, 0)
    assert sorted(epoch_order(KEYS, 3, 5)) == list(range(11))


def test_balanced_gives_each_dataset_the_count_of_the_largest() -> None:
    keys = [*KEYS, *(SliceKey("two", "b", "image", i) for i in range(4))]
    order = epoch_order(keys, 0, 0, balanced=True)
    of_two = [position for position in order if position >= 11]
    assert len(order) == 22
    assert len(of_two) == 11
    assert {of_two.count(position) for position in range(11, 15)} <= {2, 3}
    assert sorted(position for position in order if position < 11) == list(range(11))


def test_a_resumed_epoch_goes_on_where_it_stopped() -> None:
    sampler = ShardedBatches(KEYS, LoaderSettings(2), 3)
    sampler.start(4)
    whole = list(sampler)
    sampler.start(4, skip=2)
    assert list(sampler) == whole[2:]


def slices_of(store: Store, split: str = "train") -> SliceDataset:
    settings = SliceSettings(image_size=32, seed=5, bbox_shift_px=3, max_instances=2)
    return SliceDataset([store], store.split_volumes(split), settings)


def equal(one: Batch, other: Batch) -> bool:
    pairs = zip(
        (one.images_bchw, one.prompts.boxes_n4, one.labels_n, *one.masks),
        (other.images_bchw, other.prompts.boxes_n4, other.labels_n, *other.masks),
        strict=True,
    )
    return one.keys == other.keys and all(torch.equal(a, b) for a, b in pairs)


def test_workers_change_no_sample_over_several_epochs(store: Store) -> None:
    alone, helped = (train_loader(slices_of(store), LoaderSettings(4, workers)) for workers in (0, 2))
    assert len(alone) == len(helped) == 3
    for epoch in range(3):
        assert all(equal(one, other) for one, other in zip(alone(epoch), helped(epoch), strict=True))


def test_ranks_change_no_sample(store: Store) -> None:
    alone = {key: batch for batch in train_loader(slices_of(store), LoaderSettings(1))(2) for key in batch.keys}
    for rank in range(2):
        for batch in train_loader(slices_of(store), LoaderSettings(1, rank=rank, world_size=2))(2):
            assert equal(batch, alone[batch.keys[0]])


def test_padding_has_weight_0_and_nothing_else_has(store: Store) -> None:
    # 9 slices on 2 ranks of 4: 8, then 1 on rank 0 and none on rank 1.
    batches = [list(train_loader(slices_of(store), LoaderSettings(4, rank=r, world_size=2))(0)) for r in range(2)]
    assert [[batch.weight for batch in rank] for rank in batches] == [[1, 1], [1, 0]]
    assert [len(batch.keys) for batch in batches[1]] == [4, 1]


def test_validation_is_the_same_every_time_and_in_order(store: Store) -> None:
    batches = val_loader(slices_of(store, "val"), LoaderSettings(2))
    first, again = list(batches()), list(batches())
    assert [key.index for batch in first for key in batch.keys] == [1, 2, 3]
    assert all(equal(one, other) for one, other in zip(first, again, strict=True))

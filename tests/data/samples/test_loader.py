"""Neither workers, nor ranks, nor a resume change what is trained on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from sam2ft.config.schema.datamodule import Datamodule, Transform
from sam2ft.core.keys import SliceKey
from sam2ft.data.samples import loader
from sam2ft.data.samples.augment import augmentation_of
from sam2ft.data.samples.batch import Batch, SampleDraw, collate
from sam2ft.data.samples.dataset import SliceDataset, SliceSettings
from sam2ft.data.samples.loader import ShardedBatches, epoch_order, train_loader, val_loader
from sam2ft.data.store.store import Store
from sam2ft.data.store.writer import PreparedVolume
from sam2ft.distributed.ranks import ALONE, Ranks

KEYS = [SliceKey("one", "a", "image", i) for i in range(11)]


def rank_batches(world_size: int, batch_size: int, epoch: int = 0) -> list[list[list[SampleDraw]]]:
    """Per rank the batches of one epoch."""
    ranks = []
    for rank in range(world_size):
        sampler = ShardedBatches(partial(epoch_order, KEYS, 3), batch_size, Ranks(rank, world_size))
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
    sampler = ShardedBatches(partial(epoch_order, KEYS, 3), 2, ALONE)
    sampler.start(4)
    whole = list(sampler)
    sampler.start(4, skip=2)
    assert list(sampler) == whole[2:]


TURNED = Transform(type="RandAffine", prob=0.7, rotate_range=[0.3], translate_range=[4, 4])
BOXES = SliceSettings(image_size=32, seed=5, bbox_shift_px=3, max_instances=2)
MIXED = replace(BOXES, shares={"box": 0.4, "point": 0.3, "mask": 0.3})


def slices_of(store: Store, split: str = "train", settings: SliceSettings = BOXES) -> SliceDataset:
    return SliceDataset([store], store.split_volumes(split), settings)


def batches_of(size: int, num_workers: int = 0) -> Datamodule:
    return Datamodule(batch_size=size, num_workers=num_workers)


def tensors_in(value: object) -> list[torch.Tensor]:
    """Every tensor that a value holds, however deep."""
    if isinstance(value, torch.Tensor):
        return [value]
    if is_dataclass(value):
        return [tensor for field in fields(value) for tensor in tensors_in(getattr(value, field.name))]
    return [tensor for item in value for tensor in tensors_in(item)] if isinstance(value, tuple) else []


def equal(one: Batch, other: Batch) -> bool:
    pairs = zip(tensors_in(one), tensors_in(other), strict=True)
    plain = (one.keys, one.weight, one.num_vanished, one.prompts.num_points_n) == (
        other.keys, other.weight, other.num_vanished, other.prompts.num_points_n,
    )  # fmt: skip
    return plain and all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("settings", [BOXES, MIXED], ids=["boxes", "mixture"])
def test_workers_change_no_sample_over_several_epochs(store: Store, settings: SliceSettings) -> None:
    alone, helped = (train_loader(slices_of(store, settings=settings), batches_of(4, workers)) for workers in (0, 2))
    assert len(alone) == len(helped) == 3
    for epoch in range(3):
        assert all(equal(one, other) for one, other in zip(alone(epoch), helped(epoch), strict=True))


def test_ranks_change_no_sample(store: Store) -> None:
    alone = {key: batch for batch in train_loader(slices_of(store), batches_of(1))(2) for key in batch.keys}
    for rank in range(2):
        for batch in train_loader(slices_of(store), batches_of(1), Ranks(rank, 2))(2):
            assert equal(replace(batch, weight=1.0), alone[batch.keys[0]])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("skip", [0, 2])
def test_neither_workers_nor_ranks_nor_a_resume_change_a_bit_of_a_mixed_augmented_sample(
    store: Store, workers: int, world_size: int, skip: int
) -> None:
    """Points, masks, boxes, kinds, chosen instances and augmentation are all functions of (seed, epoch, slice)."""
    slices = slices_of(store, settings=replace(MIXED, augmentation=augmentation_of([TURNED])))
    slices.set_epoch(3)
    expected = {slices.keys[i]: collate([slices[i]]) for i in range(len(slices))}
    slices.set_epoch(0)
    seen = []
    for rank in range(world_size):
        section = batches_of(1, workers)
        for batch in train_loader(slices, section, Ranks(rank, world_size))(3, skip):
            if batch.weight:
                assert equal(batch, expected[batch.keys[0]])
                seen.append(batch.keys[0])
    assert len(seen) == len(set(seen)) == 9 - skip * world_size


def test_a_resumed_epoch_gives_the_batches_that_were_left_and_the_next_epoch_all(store: Store) -> None:
    whole, resumed = (train_loader(slices_of(store, settings=MIXED), batches_of(2, 2)) for _ in range(2))
    everything = [list(whole(epoch)) for epoch in (1, 2)]
    left, following = list(resumed(1, skip=3)), list(resumed(2))
    assert len(left) == 2
    assert all(equal(one, other) for one, other in zip(everything[0][3:], left, strict=True))
    assert all(equal(one, other) for one, other in zip(everything[1], following, strict=True))


def test_slices_of_different_sizes_share_a_batch_of_mixed_prompts(
    tmp_path: Path, prepared: Callable[..., PreparedVolume], write_store: Callable[..., Store]
) -> None:
    wide = np.zeros((2, 10, 40), dtype=np.uint8)
    wide[:, 3:6, 5:30] = 1
    store = write_store(tmp_path / "s", [prepared("a"), prepared("b", mask_zyx=wide)])
    for batch in train_loader(slices_of(store, settings=MIXED), batches_of(5, 2))(0):
        n = batch.num_instances
        assert {mask.shape[1:] for mask in batch.masks} == {(24, 32), (10, 40)}
        assert sum(len(mask) for mask in batch.masks) == n == len(batch.prompts.num_points_n or ())
        assert batch.prompts.points_nk2.shape == (n, 2, 2)
        assert batch.prompts.masks_n1hw.shape == (n, 1, 8, 8)


def test_balanced_datasets_mix_in_one_epoch_without_losing_a_slice(
    tmp_path: Path, prepared: Callable[..., PreparedVolume], write_store: Callable[..., Store]
) -> None:
    many = write_store(tmp_path / "many", [prepared(name, dataset="many") for name in "abc"])
    few = write_store(tmp_path / "few", [prepared("a", dataset="few")])
    slices = SliceDataset([many, few], [*many.volumes, *few.volumes], BOXES)
    for world_size in (1, 2):
        keys = [
            key
            for rank in range(world_size)
            for batch in train_loader(slices, Datamodule(batch_size=2, balanced=True), Ranks(rank, world_size))(1)
            if batch.weight
            for key in batch.keys
        ]
        assert [sum(key.dataset == name for key in keys) for name in ("many", "few")] == [9, 9]
        assert len({key for key in keys if key.dataset == "many"}) == 9
        assert {keys.count(key) for key in keys if key.dataset == "few"} == {3}


def test_padding_has_weight_0_and_nothing_else_has(store: Store) -> None:
    # 9 slices on 2 ranks of 4: 8, then 1 on rank 0 and none on rank 1.
    batches = [list(train_loader(slices_of(store), batches_of(4), Ranks(r, 2))(0)) for r in range(2)]
    assert [[batch.weight for batch in rank] for rank in batches] == [[1, 1], [1, 0]]
    assert [len(batch.keys) for batch in batches[1]] == [4, 1]


def test_validation_is_the_same_every_time_and_in_order(store: Store) -> None:
    batches = val_loader(slices_of(store, "val"), batches_of(2))
    first, again = list(batches()), list(batches())
    assert [key.index for batch in first for key in batch.keys] == [1, 2, 3]
    assert all(equal(one, other) for one, other in zip(first, again, strict=True))


@pytest.mark.slow  # every worker imports MONAI
def test_workers_of_a_server_give_the_same_samples_in_the_same_order_as_forked_ones(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = slices_of(store, settings=replace(MIXED, augmentation=augmentation_of([TURNED])))
    forked = train_loader(slices, batches_of(2, 2))
    expected = [list(forked(epoch, skip)) for epoch, skip in ((0, 0), (1, 2), (2, 0))]
    monkeypatch.setattr(loader, "forks_are_unsafe", lambda _ranks: True)
    served = train_loader(slices, batches_of(2, 2))
    assert served._loader.multiprocessing_context.get_start_method() == "forkserver"
    for (epoch, skip), batches in zip(((0, 0), (1, 2), (2, 0)), expected, strict=True):
        assert all(equal(one, other) for one, other in zip(batches, served(epoch, skip), strict=True))


SERVED = """
import os, sys, time
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from sam2ft.config.schema.datamodule import Datamodule
from sam2ft.data.samples import loader
from sam2ft.data.samples.dataset import SliceDataset, SliceSettings
from sam2ft.data.store.store import Store
from sam2ft.distributed.stop_signal import install_stop_handlers

if __name__ == "__main__":
    stop = install_stop_handlers()
    loader.forks_are_unsafe = lambda ranks: True
    store, folder = Store.open(Path(sys.argv[1])), Path(sys.argv[2])
    slices = SliceDataset([store], store.volumes, SliceSettings(image_size=32, seed=5))
    batches = loader.train_loader(slices, Datamodule(batch_size=1, num_workers=2))
    of_epoch = iter(batches(0))
    keys = [next(of_epoch).keys]
    workers = [worker.pid for worker in of_epoch._workers]
    pids = [*workers, forkserver._forkserver._forkserver_pid, resource_tracker._resource_tracker._pid]
    (folder / "pids.partial").write_text(" ".join(map(str, pids)))
    (folder / "pids.partial").rename(folder / "pids")
    while not (folder / "go").exists():
        time.sleep(0.02)
    keys += [batch.keys for batch in of_epoch]
    print(len(set(keys)), len(keys), len(batches), len(list(batches(1))), stop.requested)
"""


def running(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def waited_for(state: Callable[[], bool]) -> bool:
    ends = time.monotonic() + 60
    while not state() and time.monotonic() < ends:
        time.sleep(0.05)
    return state()


@pytest.fixture
def served(store: Store, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A process whose workers a server has started, and the ids of its workers, of the server and of its tracker."""
    script = tmp_path / "served.py"
    script.write_text(SERVED)
    command = [sys.executable, str(script), str(store.path), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert waited_for((tmp_path / "pids").exists)
        yield process, [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, *(pytest.param(n, marks=pytest.mark.slow) for n in (signal.SIGUSR2, signal.SIGINT))]
)
def test_a_stop_signal_to_all_processes_of_a_job_kills_no_worker(
    number: signal.Signals, served: tuple[subprocess.Popen[str], list[int]], tmp_path: Path
) -> None:
    process, pids = served
    for pid in [*pids, process.pid]:
        os.kill(pid, number)
    (tmp_path / "go").touch()
    # At its end the loader is still there, so that multiprocessing terminates the workers and waits for them.
    said, _ = process.communicate(timeout=60)
    assert said.split() == ["18", "18", "18", "18", "True"]
    assert process.returncode == 0
    assert waited_for(lambda: not any(running(pid) for pid in pids))


def test_workers_and_their_server_end_with_a_process_that_was_killed(
    served: tuple[subprocess.Popen[str], list[int]],
) -> None:
    process, pids = served
    assert all(running(pid) for pid in pids)
    process.kill()
    process.wait()
    assert waited_for(lambda: not any(running(pid) for pid in pids))

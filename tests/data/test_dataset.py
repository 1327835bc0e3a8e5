"""A sample is a function of its slice, the seed and the epoch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sam2ft.core.errors import ConfigError, DataError
from sam2ft.core.prompts import box_around
from sam2ft.data.augment import augmentation_of
from sam2ft.data.batch import Sample, collate, to_model_frame
from sam2ft.data.dataset import SliceDataset, SliceSettings
from sam2ft.data.store import Store
from sam2ft.data.store_writer import PreparedVolume

Prepared = Callable[..., PreparedVolume]
Writing = Callable[..., Store]


@dataclass(frozen=True)
class Spec:
    """One entry of `datamodule.augmentation`."""

    type: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


PLAIN = SliceSettings(image_size=64, seed=1)


def dataset(store: Store, settings: SliceSettings = PLAIN) -> SliceDataset:
    return SliceDataset([store], store.split_volumes("train"), settings)


def same(one: Sample, other: Sample) -> bool:
    tensors = ("image_1hw", "masks_nhw", "labels_n", "instances_n", "boxes_n4", "original_boxes_n4")
    return one.key == other.key and all(torch.equal(getattr(one, name), getattr(other, name)) for name in tensors)


def test_only_slices_with_a_label_are_used_in_the_order_of_their_keys(store: Store) -> None:
    keys = dataset(store).keys
    assert [(key.subject, key.index) for key in keys] == [(s, i) for s in "abc" for i in (1, 2, 3)]


def test_a_sample_holds_all_instances_of_its_slice(store: Store) -> None:
    sample = dataset(store)[0]
    assert sample.labels_n.tolist() == [1, 1, 5]
    assert sample.instances_n.tolist() == [1, 2, 1]
    assert sample.masks_nhw.shape == (3, 24, 32)
    assert sample.masks_nhw.dtype == torch.bool
    assert sample.original_boxes_n4.tolist() == [[3, 2, 8, 5], [20, 12, 25, 15], [4, 18, 6, 20]]


def test_boxes_in_the_model_frame_are_those_of_the_resized_mask(store: Store) -> None:
    # 32 x 24 -> 64 x 64: sx = 2, sy = 8/3; (3, 2, 8, 5) -> (6, 16/3, 9 * 2 - 1, 6 * 8/3 - 1).
    assert dataset(store)[0].boxes_n4[0].tolist() == pytest.approx([6, 16 / 3, 17, 15])


def test_the_image_is_a_square_in_the_unit_range(store: Store) -> None:
    image = dataset(store)[0].image_1hw
    assert image.shape == (1, 64, 64)
    assert image.dtype == torch.float32
    assert 0 <= float(image.min()) < float(image.max()) <= 1


def test_making_a_picture_smaller_averages_what_it_drops() -> None:
    stripes = np.tile(np.array([[0.0, 1.0]], dtype=np.float32), (64, 32))
    assert to_model_frame(stripes, 16).numpy()[0, 4:-4, 4:-4] == pytest.approx(0.5, abs=0.05)


def test_boxes_move_outward_by_at_most_the_shift_anew_each_epoch(store: Store) -> None:
    slices = dataset(store, replace(PLAIN, bbox_shift_px=3))
    plain, shifted = dataset(store)[4].original_boxes_n4, []
    for epoch in range(30):
        slices.set_epoch(epoch)
        shifted.append(slices[4].original_boxes_n4)
    outward = torch.stack(shifted) - plain
    assert outward[..., :2].min() == -3 == -outward[..., 2:].max()
    assert outward[..., :2].max() == 0 == outward[..., 2:].min()
    # Instances are shifted independently of each other.
    assert not torch.equal(outward[:, 0, 0], outward[:, 1, 0])


def test_a_sample_of_one_epoch_is_always_the_same(store: Store) -> None:
    settings = replace(PLAIN, bbox_shift_px=5, max_instances=2)
    first, second = dataset(store, settings), dataset(store, settings)
    for slices in (first, second):
        slices.set_epoch(7)
    second[3]  # what was drawn before does not matter
    assert same(first[4], second[4])


def test_at_most_so_many_instances_are_prompted(store: Store) -> None:
    assert len(dataset(store, replace(PLAIN, max_instances=2))[0].labels_n) == 2


def test_two_stores_of_one_name_are_refused(store: Store) -> None:
    with pytest.raises(DataError, match="two stores have one dataset name"):
        SliceDataset([store, store], store.volumes, PLAIN)


def test_volumes_without_any_label_are_refused(tmp_path: Path, prepared: Prepared, write_store: Writing) -> None:
    store = write_store(tmp_path / "s", [prepared("a", mask_zyx=np.zeros((4, 24, 32), dtype=np.uint8))])
    with pytest.raises(DataError, match="none of the 1 volumes holds a label"):
        dataset(store)


def test_a_batch_says_which_slice_each_instance_belongs_to(store: Store) -> None:
    slices = dataset(store)
    samples = [slices[0], slices[5]]
    batch = collate(samples)
    assert batch.images_bchw.shape == (2, 1, 64, 64)
    assert batch.prompts.slice_of_n.tolist() == [0, 0, 0, 1, 1, 1]
    assert batch.num_instances == len(batch.prompts) == 6
    assert [key.index for key in batch.keys] == [1, 3]
    assert torch.equal(batch.prompts.boxes_n4[3:], samples[1].boxes_n4)
    assert [mask.shape for mask in batch.masks] == [(3, 24, 32)] * 2
    assert batch.weight == 1.0


def test_slices_of_different_size_can_share_a_batch(tmp_path: Path, prepared: Prepared, write_store: Writing) -> None:
    wide = np.zeros((2, 10, 40), dtype=np.uint8)
    wide[:, 3:6, 5:30] = 1
    store = write_store(tmp_path / "s", [prepared("a"), prepared("b", mask_zyx=wide)])
    slices = dataset(store)
    batch = collate([slices[0], slices[3]])
    assert [mask.shape for mask in batch.masks] == [(3, 24, 32), (1, 10, 40)]


def test_a_batch_moves_as_a_whole(store: Store) -> None:
    batch = collate([dataset(store)[0]]).to("meta")
    tensors = (batch.images_bchw, *batch.masks, batch.labels_n, batch.instances_n, batch.original_boxes_n4)
    assert all(tensor.device.type == "meta" for tensor in (*tensors, batch.prompts.boxes_n4, batch.prompts.slice_of_n))


def augmented(store: Store, *specs: Spec) -> SliceDataset:
    return dataset(store, replace(PLAIN, augmentation=augmentation_of(specs)))


def test_a_flip_turns_image_masks_and_boxes_together(store: Store) -> None:
    plain = dataset(store)[0]
    flipped = augmented(store, Spec("RandFlip", {"prob": 1.0, "spatial_axis": 1}))[0]
    assert torch.equal(flipped.masks_nhw, plain.masks_nhw.flip(2))
    assert torch.allclose(flipped.image_1hw, plain.image_1hw.flip(2), atol=1e-6)
    assert flipped.original_boxes_n4[0].tolist() == [31 - 8, 2, 31 - 3, 5]


def test_an_intensity_transform_leaves_masks_alone(store: Store) -> None:
    plain = dataset(store)[0]
    noisy = augmented(store, Spec("RandGaussianNoise", {"prob": 1.0, "std": 0.5}))[0]
    assert torch.equal(noisy.masks_nhw, plain.masks_nhw)
    assert not torch.equal(noisy.image_1hw, plain.image_1hw)
    assert 0 <= float(noisy.image_1hw.min()) <= float(noisy.image_1hw.max()) <= 1


def test_masks_stay_masks_when_they_are_turned_and_stretched(store: Store) -> None:
    sample = augmented(store, Spec("RandAffine", {"prob": 1.0, "rotate_range": [0.3], "scale_range": [0.2, 0.2]}))[0]
    assert sample.masks_nhw.dtype == torch.bool
    for mask, box in zip(sample.masks_nhw, sample.original_boxes_n4, strict=True):
        assert tuple(box.tolist()) == box_around(mask.numpy())


def test_augmentation_is_drawn_anew_each_epoch_and_the_same_in_each(store: Store) -> None:
    spec = Spec("RandAffine", {"prob": 1.0, "translate_range": [3, 3]})
    first, second = augmented(store, spec), augmented(store, spec)
    first.set_epoch(1)
    second[0]
    second.set_epoch(1)
    assert same(first[2], second[2])
    first.set_epoch(2)
    assert not same(first[2], second[2])


def test_an_instance_that_leaves_the_picture_is_dropped_and_counted(store: Store) -> None:
    # 12 pixels up: the blocks at rows 2..5 leave, those at 12..15 and 18..20 stay.
    shift = Spec("RandAffine", {"prob": 1.0, "translate_range": [[12, 12], [0, 0]], "padding_mode": "zeros"})
    sample = augmented(store, shift)[0]
    assert sample.num_vanished == 1
    assert sample.labels_n.tolist() == [1, 5]
    assert sample.instances_n.tolist() == [2, 1]
    assert collate([sample, sample]).num_vanished == 2


def test_a_slice_left_without_instances_is_used_as_it_was(store: Store) -> None:
    away = Spec("RandAffine", {"prob": 1.0, "translate_range": [[40, 40], [0, 0]], "padding_mode": "zeros"})
    assert same(augmented(store, away)[0], dataset(store)[0])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (Spec("RandFlipp"), "'RandFlipp' is no spatial or intensity transform of MONAI; examples: RandFlip"),
        (Spec("RandFlip", {"probability": 1}), "RandFlip: .*probability"),
    ],
)
def test_a_transform_that_monai_does_not_have_is_refused(spec: Spec, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        augmentation_of([spec])

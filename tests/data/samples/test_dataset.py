"""A sample is a function of its slice, the seed and the epoch."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from sam2ft.config.schema.datamodule import Transform
from sam2ft.core.errors import DataError
from sam2ft.core.prompts import KINDS, Prompts, box_around, points_to_original_frame
from sam2ft.data.samples.augment import augmentation_of
from sam2ft.data.samples.batch import Sample, collate, to_model_frame
from sam2ft.data.samples.dataset import SliceDataset, SliceSettings, mask_logits
from sam2ft.data.samples.instances import keyed_rng
from sam2ft.data.store.store import Store
from sam2ft.data.store.writer import PreparedVolume

Prepared = Callable[..., PreparedVolume]
Writing = Callable[..., Store]


PLAIN = SliceSettings(image_size=64, seed=1)


def dataset(store: Store, settings: SliceSettings = PLAIN) -> SliceDataset:
    return SliceDataset([store], store.split_volumes("train"), settings)


def same(one: Sample, other: Sample) -> bool:
    pairs = zip(tensors_in(one), tensors_in(other), strict=True)
    return one.key == other.key and all(torch.equal(a, b) for a, b in pairs)


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
    with pytest.raises(DataError, match="two stores have the same dataset name"):
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


MIXED = replace(PLAIN, bbox_shift_px=2, shares={"box": 0.4, "point": 0.3, "mask": 0.3})


def tensors_in(value: object) -> list[torch.Tensor]:
    """Every tensor that a value holds, however deep."""
    if isinstance(value, torch.Tensor):
        return [value]
    if is_dataclass(value):
        return [tensor for field in fields(value) for tensor in tensors_in(getattr(value, field.name))]
    return [tensor for item in value for tensor in tensors_in(item)] if isinstance(value, tuple) else []


@pytest.mark.parametrize(("settings", "count"), [(PLAIN, 8), (MIXED, 11)], ids=["boxes", "mixture"])
def test_a_batch_moves_and_is_pinned_as_a_whole(
    store: Store, settings: SliceSettings, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = collate([dataset(store, settings)[0], dataset(store, settings)[1]])
    moved = tensors_in(batch.to("meta"))
    assert len(moved) == len(tensors_in(batch)) == count
    assert all(tensor.device.type == "meta" for tensor in moved)
    assert batch.to("meta").keys == batch.keys
    assert batch.to("meta").prompts.num_points_n == batch.prompts.num_points_n
    # Pinning needs a CUDA driver: stand-ins show that every tensor is asked.
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor.to("meta"))
    assert all(tensor.device.type == "meta" for tensor in tensors_in(batch.pin_memory()))


def epochs(slices: SliceDataset, number: int, count: int) -> list[Sample]:
    found = []
    for epoch in range(count):
        slices.set_epoch(epoch)
        found.append(slices[number])
    return found


def test_boxes_alone_are_what_they_were_before_there_were_mixtures(store: Store) -> None:
    sample = dataset(store, replace(PLAIN, bbox_shift_px=3))[0]
    assert sample.prompts is None
    prompts = collate([sample]).prompts
    assert torch.equal(prompts.boxes_n4, sample.boxes_n4)
    rest = (prompts.points_nk2, prompts.point_labels_nk, prompts.masks_n1hw, prompts.has_mask_n, prompts.num_points_n)
    assert rest == (None,) * 5
    # The shift is drawn as ever: keyed by "box" and the instance, four integers.
    rng = keyed_rng("box", PLAIN.seed, 0, sample.key, 5, 1)
    left, top, right, bottom = rng.integers(0, 3, size=4, endpoint=True)
    assert sample.original_boxes_n4[2].tolist() == [4 - left, 18 - top, 6 + right, min(23, 20 + bottom)]


def test_each_instance_draws_its_kind_anew_each_epoch_by_the_shares(store: Store) -> None:
    samples = epochs(dataset(store, MIXED), 4, 150)
    kinds = [count for sample in samples for count in prompts_of(sample).num_points_n or ()]
    assert [kinds.count(count) / len(kinds) for count in (2, 1, 0)] == pytest.approx([0.4, 0.3, 0.3], abs=0.08)
    for sample in samples:
        prompts = prompts_of(sample)
        assert prompts.has_mask_n.tolist() == [count == 0 for count in prompts.num_points_n or ()]
    # Instances of a slice draw independently of each other.
    assert len({prompts_of(sample).num_points_n for sample in samples}) > 8


def prompts_of(sample: Sample) -> Prompts:
    assert sample.prompts is not None
    return sample.prompts


def test_a_point_lies_in_its_instance_and_a_box_and_a_mask_belong_to_theirs(store: Store) -> None:
    for sample in epochs(dataset(store, MIXED), 2, 40):
        prompts = prompts_of(sample)
        for n, count in enumerate(prompts.num_points_n or ()):
            if count == 1:
                point = prompts.points_nk2[n, 0].numpy()
                x, y = points_to_original_frame(point, height=24, width=32, image_size=64)[0]
                assert sample.masks_nhw[n, y, x]
            elif count == 2:
                assert prompts.points_nk2[n].flatten().tolist() == sample.boxes_n4[n].tolist()
            else:
                assert prompts.masks_n1hw[n].shape == (1, 16, 16)
                found = F.interpolate(prompts.masks_n1hw[n : n + 1], (24, 32), mode="bilinear")[0, 0] > -9
                assert bool((found & sample.masks_nhw[n]).any())
            if count:
                assert not prompts.masks_n1hw[n].any()


def test_mask_logits_are_the_share_inside_as_stock_scales_a_mask() -> None:
    """2 x 2 blocks of 4 x 4 pixels: all, none, half and a quarter inside."""
    mask = np.kron(np.array([[1, 0], [1, 1]]), np.ones((2, 2))).astype(bool)
    mask[2:, 0], mask[3, :] = False, False
    assert mask_logits(mask, 2).tolist() == [[10.0, -10.0], [-5.0, 0.0]]


@pytest.mark.parametrize(("shape", "side"), [((64, 64), 16), ((50, 73), 16), ((20, 9), 32), ((131, 40), 64)])
def test_mask_logits_are_those_of_torchs_area_interpolation(shape: tuple[int, int], side: int) -> None:
    y, x = np.indices(shape)
    mask = (y - shape[0] / 3) ** 2 + 2 * (x - shape[1] / 2) ** 2 < (min(shape) / 2.5) ** 2
    expected = F.interpolate(torch.from_numpy(mask)[None, None].float(), size=(side, side), mode="area")[0, 0]
    assert mask_logits(mask, side) == pytest.approx(expected.numpy() * 20 - 10, abs=1e-5)


@pytest.mark.parametrize(
    ("given", "kind"),
    [((0.2, 0.5, 0.3), "point"), ((0.3, 0.3, 0.4), "mask"), ((0.4, 0.2, 0.4), "box")],
)
def test_validation_prompts_are_of_the_main_kind_and_free_of_seed_and_epoch(
    store: Store, given: tuple[float, float, float], kind: str
) -> None:
    fixed = replace(PLAIN, bbox_shift_px=2, shares=dict(zip(KINDS, given, strict=True)), fixed_prompts=True)
    first, *others = [*epochs(dataset(store, fixed), 1, 2), dataset(store, replace(fixed, seed=9))[1]]
    assert all(same(first, other) for other in others)
    assert first.original_boxes_n4.tolist() == dataset(store)[1].original_boxes_n4.tolist()
    if kind == "box":
        assert first.prompts is None
    elif kind == "mask":
        assert prompts_of(first).points_nk2 is None
        assert prompts_of(first).masks_n1hw.shape == (3, 1, 16, 16)
        assert prompts_of(first).has_mask_n is None
    else:
        # 4 x 6 block: of two rows and four columns at depth 2 the middle ones, of these the first, (5, 3)
        assert prompts_of(first).point_labels_nk.tolist() == [[1]] * 3
        assert prompts_of(first).points_nk2[0, 0].tolist() == pytest.approx([5.5 * 2 - 0.5, 3.5 * 64 / 24 - 0.5])


def augmented(store: Store, *specs: Transform) -> SliceDataset:
    return dataset(store, replace(PLAIN, augmentation=augmentation_of(specs)))


def test_a_flip_turns_image_masks_and_boxes_together(store: Store) -> None:
    plain = dataset(store)[0]
    flipped = augmented(store, Transform(type="RandFlip", prob=1.0, spatial_axis=1))[0]
    assert torch.equal(flipped.masks_nhw, plain.masks_nhw.flip(2))
    assert torch.allclose(flipped.image_1hw, plain.image_1hw.flip(2), atol=1e-6)
    assert flipped.original_boxes_n4[0].tolist() == [31 - 8, 2, 31 - 3, 5]


def test_an_intensity_transform_leaves_masks_alone(store: Store) -> None:
    plain = dataset(store)[0]
    noisy = augmented(store, Transform(type="RandGaussianNoise", prob=1.0, std=0.5))[0]
    assert torch.equal(noisy.masks_nhw, plain.masks_nhw)
    assert not torch.equal(noisy.image_1hw, plain.image_1hw)
    assert 0 <= float(noisy.image_1hw.min()) <= float(noisy.image_1hw.max()) <= 1


def test_masks_stay_masks_when_they_are_turned_and_stretched(store: Store) -> None:
    sample = augmented(store, Transform(type="RandAffine", prob=1.0, rotate_range=[0.3], scale_range=[0.2, 0.2]))[0]
    assert sample.masks_nhw.dtype == torch.bool
    for mask, box in zip(sample.masks_nhw, sample.original_boxes_n4, strict=True):
        assert tuple(box.tolist()) == box_around(mask.numpy())


def test_augmentation_is_drawn_anew_each_epoch_and_the_same_in_each(store: Store) -> None:
    spec = Transform(type="RandAffine", prob=1.0, translate_range=[3, 3])
    first, second = augmented(store, spec), augmented(store, spec)
    first.set_epoch(1)
    second[0]
    second.set_epoch(1)
    assert same(first[2], second[2])
    first.set_epoch(2)
    assert not same(first[2], second[2])


def test_an_instance_that_leaves_the_picture_is_dropped_and_counted(store: Store) -> None:
    # 12 pixels up: the blocks at rows 2..5 leave, those at 12..15 and 18..20 stay.
    shift = Transform(type="RandAffine", prob=1.0, translate_range=[[12, 12], [0, 0]], padding_mode="zeros")
    sample = augmented(store, shift)[0]
    assert sample.num_vanished == 1
    assert sample.labels_n.tolist() == [1, 5]
    assert sample.instances_n.tolist() == [2, 1]
    assert collate([sample, sample]).num_vanished == 2


def test_a_slice_left_without_instances_is_used_as_it_was(store: Store) -> None:
    away = Transform(type="RandAffine", prob=1.0, translate_range=[[40, 40], [0, 0]], padding_mode="zeros")
    assert same(augmented(store, away)[0], dataset(store)[0])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"type": "RandFlipp"}, 'found "RandFlipp" .did you mean RandFlip'),
        ({"type": "RandFlip", "probability": 1}, "RandFlip takes no probability"),
    ],
)
def test_the_schema_refuses_what_no_transform_takes(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Transform(**keys)


def test_given_instances_are_prompted_as_they_are(tmp_path: Path, prepared: Prepared, write_store: Writing) -> None:
    mask = np.zeros((4, 24, 32), dtype=np.uint8)
    mask[1, 2:6, 3:9], mask[1, 20, 20] = 1, 1
    ids = np.zeros(mask.shape, dtype=np.uint16)
    ids[1, 2:6, 3:6], ids[1, 2:6, 6:9], ids[1, 20, 20] = 4, 1000, 4
    given = write_store(tmp_path / "given", [prepared("a", mask_zyx=mask, instances_zyx=ids)])
    sample = dataset(given)[0]
    assert sample.instances_n.tolist() == [4, 1000]
    # Instance 4 is in two pieces, 1000 touches the larger one.
    assert sample.original_boxes_n4.tolist() == [[3, 2, 20, 20], [6, 2, 8, 5]]
    assert sample.masks_nhw.sum(dim=(1, 2)).tolist() == [13, 12]
    components = write_store(tmp_path / "components", [prepared("a", mask_zyx=mask)])
    assert dataset(components)[0].original_boxes_n4.tolist() == [[3, 2, 8, 5], [20, 20, 20, 20]]


def test_the_size_of_specks_changes_no_prompt(tmp_path: Path, prepared: Prepared, write_store: Writing) -> None:
    plain = write_store(tmp_path / "plain", [prepared("a")])
    chosen = write_store(tmp_path / "chosen", [prepared("a", instances_min_mm3=1e6)])
    assert same(dataset(plain)[0], dataset(chosen)[0])
    assert plain.volumes[0].arrays == chosen.volumes[0].arrays
    assert plain.volumes[0].digest != chosen.volumes[0].digest

"""Slices with their instances, as the model is fed them: one sample per slice, made from its key alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from sam2ft.core.errors import DataError
from sam2ft.core.keys import SliceKey, VolumeKey
from sam2ft.core.prompts import (
    BOXES_ONLY,
    MASK_BIAS,
    MASK_SCALE,
    Box,
    Mask,
    Point,
    Prompts,
    PromptShares,
    box_around,
    boxes_to_model_frame,
    drawn_kind,
    kinds_of,
    main_kind,
    mixed_prompts,
    points_to_model_frame,
    shifted_box,
)
from sam2ft.data.augment import Augmentation
from sam2ft.data.batch import Draw, Sample, to_model_frame, unit_image
from sam2ft.data.prompts import Instance, choose, degraded_mask, draw, instances_of, interior_pixel, random_pixel
from sam2ft.data.store import Store, VolumeRecord


@dataclass(frozen=True)
class SliceSettings:
    """How slices become samples."""

    image_size: int
    """Side of the MODEL frame in pixels."""
    seed: int
    bbox_shift_px: int = 0
    """ORIGINAL pixels: each side of a box moves outward by 0..bbox_shift_px, the outline of a mask by at most so much
    either way; keyed by (seed, epoch, slice, instance)."""
    max_instances: int | None = None
    """Instances per slice at most, chosen anew each epoch; None: all."""
    augmentation: Augmentation | None = None
    shares: PromptShares = BOXES_ONLY
    """How often an instance is prompted by its box, a point in it, or a mask; drawn anew each epoch."""
    fixed_prompts: bool = False
    """Prompts without a draw, for validation: all of the kind with the largest share; a tight box, the most interior
    pixel, or the degraded mask of seed 0 and epoch 0."""


class SliceDataset(torch.utils.data.Dataset[Sample]):
    """Every slice of `records` that holds a label, in the order of their keys.

    `dataset[i]` is slice i in the epoch given to `set_epoch`; `dataset[Draw(i, epoch)]` says the epoch itself, which is
    what samplers do: workers that live on between epochs have their own copy of the dataset.
    """

    def __init__(self, stores: Sequence[Store], records: Sequence[VolumeRecord], settings: SliceSettings):
        self._stores: Mapping[str, Store] = {store.name: store for store in stores}
        if len(self._stores) < len(stores):
            names = ", ".join(sorted(store.name for store in stores))
            raise DataError(f"two stores have one dataset name ({names}); names are part of every key")
        self.keys = tuple(record.key.slice(i) for record in sorted(records, key=_key) for i in record.labelled_slices)
        if not self.keys:
            raise DataError(f"none of the {len(records)} volumes holds a label; there is nothing to learn from")
        self.settings = settings
        self._epoch = 0

    def __len__(self) -> int:
        return len(self.keys)

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __getitem__(self, item: int | Draw) -> Sample:
        wanted = item if isinstance(item, Draw) else Draw(item, self._epoch)
        key = self.keys[wanted.position]
        store = self._stores[key.dataset]
        image_yx = unit_image(store.image(key.volume_key)[key.index])
        mask_yx = np.asarray(store.mask(key.volume_key)[key.index])
        found = instances_of(mask_yx, store.labels.ids)
        rng = draw("instances", self.settings.seed, wanted.epoch, key)
        chosen = choose(found, self.settings.max_instances, rng)
        num_chosen = len(chosen)
        if self.settings.augmentation is not None:
            seed = int(draw("augmentation", self.settings.seed, wanted.epoch, key).integers(2**31))
            image_yx, chosen = augmented(self.settings.augmentation, image_yx, chosen, seed)
        sample = self._sample(key, wanted.epoch, image_yx, chosen)
        return replace(sample, weight=wanted.weight, num_vanished=num_chosen - len(chosen))

    def _sample(
        self, key: SliceKey, epoch: int, image_yx: npt.NDArray[np.float32], instances: Sequence[Instance]
    ) -> Sample:
        settings = self.settings
        boxes = [self._box(key, epoch, instance, image_yx.shape) for instance in instances]
        height, width = image_yx.shape
        model_boxes = boxes_to_model_frame(boxes, height=height, width=width, image_size=settings.image_size)
        offered = (main_kind(settings.shares),) if settings.fixed_prompts else kinds_of(settings.shares)
        return Sample(
            key=key,
            image_1hw=to_model_frame(image_yx, settings.image_size),
            masks_nhw=torch.from_numpy(np.stack([instance.mask_yx for instance in instances])),
            labels_n=torch.tensor([instance.label for instance in instances]),
            instances_n=torch.tensor([instance.instance for instance in instances]),
            boxes_n4=torch.from_numpy(model_boxes),
            original_boxes_n4=torch.tensor(boxes),
            prompts=None if offered == ("box",) else self._prompts(key, epoch, instances, model_boxes, offered),
        )

    def _box(self, key: SliceKey, epoch: int, instance: Instance, shape_yx: Sequence[int]) -> Box:
        shift_px = self.settings.bbox_shift_px
        if shift_px == 0 or self.settings.fixed_prompts:
            return instance.box
        return shifted_box(instance.box, shape_yx, shift_px=shift_px, rng=self._draw("box", key, epoch, instance))

    def _draw(self, purpose: str, key: SliceKey, epoch: int, instance: Instance) -> np.random.Generator:
        seed, epoch = (0, 0) if self.settings.fixed_prompts else (self.settings.seed, epoch)
        return draw(purpose, seed, epoch, key, instance.label, instance.instance)

    def _prompts(
        self,
        key: SliceKey,
        epoch: int,
        instances: Sequence[Instance],
        model_boxes: npt.NDArray[np.float32],
        offered: Sequence[str],
    ) -> Prompts:
        """The prompts of one slice where they are not boxes alone: each instance is given one of the kinds offered."""
        settings, side = self.settings, self.settings.image_size // 4
        height, width = instances[0].mask_yx.shape
        points_n2 = np.zeros((len(instances), 2), dtype=np.int64)
        masks = np.zeros((len(instances), 1, side, side), dtype=np.float32) if "mask" in offered else None
        kinds = []
        for number, instance in enumerate(instances):
            several = len(offered) > 1
            kind = drawn_kind(settings.shares, self._draw("kind", key, epoch, instance)) if several else offered[0]
            if kind == "point":
                points_n2[number] = self._point(key, epoch, instance)
            elif kind == "mask" and masks is not None:
                rng = self._draw("mask", key, epoch, instance)
                masks[number, 0] = mask_logits(degraded_mask(instance, settings.bbox_shift_px, rng), side)
            kinds.append(kind)
        points = points_to_model_frame(points_n2, height=height, width=width, image_size=settings.image_size)
        slice_of_n = np.zeros(len(instances), dtype=np.int64)
        return mixed_prompts(offered, kinds, slice_of_n, model_boxes, points, masks).map(torch.from_numpy)

    def _point(self, key: SliceKey, epoch: int, instance: Instance) -> Point:
        if self.settings.fixed_prompts:
            return interior_pixel(instance)
        return random_pixel(instance, self._draw("point", key, epoch, instance))


def mask_logits(mask_yx: Mask, side: int) -> npt.NDArray[np.float32]:
    """(side, side) logits of a mask prompt in the frame that SAM 2 takes it in: the share of each pixel that is inside,
    as -10 for none to 10 for all of it, as stock makes of a mask (sam2_base._use_mask_as_output)."""
    mask = torch.from_numpy(mask_yx)[None, None].float()
    share: npt.NDArray[np.float32] = F.interpolate(mask, size=(side, side), mode="area")[0, 0].numpy()
    return share * np.float32(MASK_SCALE) + np.float32(MASK_BIAS)


def augmented(
    augmentation: Augmentation, image_yx: npt.NDArray[np.float32], instances: Sequence[Instance], seed: int
) -> tuple[npt.NDArray[np.float32], list[Instance]]:
    """The slice with its instances after augmentation; instances that left the picture are dropped.

    A slice that would be left without any instance is given back as it was: a step needs something to learn from.
    """
    image, masks = augmentation(image_yx, np.stack([instance.mask_yx for instance in instances]), seed)
    kept = [
        replace(instance, mask_yx=mask, box=box_around(mask))
        for instance, mask in zip(instances, masks, strict=True)
        if mask.any()
    ]
    return (image, kept) if kept else (image_yx, list(instances))


def _key(record: VolumeRecord) -> VolumeKey:
    return record.key

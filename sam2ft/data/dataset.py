"""Slices with their instances, as the model is fed them: one sample per slice, made from its key alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from sam2ft.core.errors import DataError
from sam2ft.core.keys import SliceKey, VolumeKey
from sam2ft.core.prompts import box_around, boxes_to_model_frame
from sam2ft.data.augment import Augmentation
from sam2ft.data.batch import Draw, Sample, to_model_frame, unit_image
from sam2ft.data.prompts import Instance, choose, draw, instances_of
from sam2ft.data.store import Store, VolumeRecord


@dataclass(frozen=True)
class SliceSettings:
    """How slices become samples."""

    image_size: int
    """Side of the MODEL frame in pixels."""
    seed: int
    bbox_shift_px: int = 0
    """Each side of a box moves outward by 0..bbox_shift_px ORIGINAL pixels, keyed by (seed, epoch, slice, instance)."""
    max_instances: int | None = None
    """Instances per slice at most, chosen anew each epoch; None: all."""
    augmentation: Augmentation | None = None


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
        boxes = [
            box_around(
                instance.mask_yx,
                shift_px=settings.bbox_shift_px,
                rng=draw("box", settings.seed, epoch, key, instance.label, instance.instance),
            )
            for instance in instances
        ]
        height, width = image_yx.shape
        model_boxes = boxes_to_model_frame(boxes, height=height, width=width, image_size=settings.image_size)
        return Sample(
            key=key,
            image_1hw=to_model_frame(image_yx, settings.image_size),
            masks_nhw=torch.from_numpy(np.stack([instance.mask_yx for instance in instances])),
            labels_n=torch.tensor([instance.label for instance in instances]),
            instances_n=torch.tensor([instance.instance for instance in instances]),
            boxes_n4=torch.from_numpy(model_boxes),
            original_boxes_n4=torch.tensor(boxes),
        )


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

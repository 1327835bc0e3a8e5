"""PyTorch dataset of training and validation slices: one sample per slice with instances, prompts and augmentation.

A sample depends only on its slice, the epoch and the settings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch

from sam2ft.core.errors import DataError
from sam2ft.core.keys import SliceKey
from sam2ft.core.prompts import (
    MASK_BIAS,
    MASK_SCALE,
    Box,
    Mask,
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
from sam2ft.data.samples.augment import Augmentation
from sam2ft.data.samples.batch import Sample, SampleDraw, to_model_frame
from sam2ft.data.samples.instances import (
    Instance,
    chosen_instances,
    degraded_mask,
    instances_of,
    interior_pixel,
    keyed_rng,
    random_pixel,
)
from sam2ft.data.store.intensity import unit_image
from sam2ft.data.store.store import Store, VolumeRecord


@dataclass(frozen=True)
class SliceSettings:
    """Settings that determine the sample of a slice."""

    image_size: int
    """Side of the MODEL frame in pixels."""
    seed: int
    bbox_shift_px: int = 0
    """ORIGINAL pixels: each side of a box moves outward by 0..bbox_shift_px, the outline of a mask by at most
    bbox_shift_px inward or outward; drawn from (seed, epoch, slice, instance)."""
    max_instances: int | None = None
    """Maximum number of instances per slice, drawn anew in each epoch; None: all."""
    augmentation: Augmentation | None = None
    shares: PromptShares = field(default_factory=lambda: {"box": 1.0})
    """Probability that an instance is prompted by its box, a point inside it, or a mask; drawn anew in each epoch."""
    fixed_prompts: bool = False
    """Deterministic prompts, for validation: all of the kind with the largest share; a tight box, the most interior
    pixel, or the degraded mask of seed 0 and epoch 0."""


class SliceDataset(torch.utils.data.Dataset[Sample]):
    """Every slice of `records` that contains a label, in the order of their keys.

    `dataset[i]` is slice i in the epoch given to `set_epoch`. `dataset[SampleDraw(i, epoch)]` contains the epoch;
    samplers use this form because persistent workers have their own copy of the dataset.

    Raises:
        DataError: when two stores have the same dataset name, or no slice contains a label.
    """

    def __init__(self, stores: Sequence[Store], records: Sequence[VolumeRecord], settings: SliceSettings):
        self._stores: Mapping[str, Store] = {store.name: store for store in stores}
        if len(self._stores) < len(stores):
            names = ", ".join(sorted(store.name for store in stores))
            raise DataError(f"two stores have the same dataset name ({names}); names are part of every key")
        ordered = sorted(records, key=lambda record: record.key)
        self.keys = tuple(record.key.slice(i) for record in ordered for i in record.labelled_slices)
        if not self.keys:
            raise DataError(f"none of the {len(records)} volumes holds a label; at least one labelled slice is needed")
        self.settings = settings
        self._epoch = 0

    def __len__(self) -> int:
        return len(self.keys)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of samples that are accessed by an integer."""
        self._epoch = epoch

    def __getitem__(self, item: int | SampleDraw) -> Sample:
        wanted = item if isinstance(item, SampleDraw) else SampleDraw(item, self._epoch)
        key = self.keys[wanted.position]
        store = self._stores[key.dataset]
        image_yx = unit_image(store.image(key.volume_key)[key.index])
        mask_yx = np.asarray(store.mask(key.volume_key)[key.index])
        found = instances_of(mask_yx, store.labels.ids, store.instances_of_slice(key))
        rng = keyed_rng("instances", self.settings.seed, wanted.epoch, key)
        chosen = chosen_instances(found, self.settings.max_instances, rng)
        num_chosen = len(chosen)
        if self.settings.augmentation is not None:
            seed = int(keyed_rng("augmentation", self.settings.seed, wanted.epoch, key).integers(2**31))
            image_yx, chosen = augmented_slice(self.settings.augmentation, image_yx, chosen, seed)
        sample = self._sample(key, wanted.epoch, image_yx, chosen)
        return replace(sample, weight=wanted.weight, num_vanished=num_chosen - len(chosen))

    def _sample(
        self, key: SliceKey, epoch: int, image_yx: npt.NDArray[np.float32], instances: Sequence[Instance]
    ) -> Sample:
        settings = self.settings
        offered = (main_kind(settings.shares),) if settings.fixed_prompts else kinds_of(settings.shares)
        draws = [self._prompt_draw(key, epoch, instance, offered) for instance in instances]
        boxes = [self._box(key, epoch, instance, kind) for instance, (kind, _) in zip(instances, draws, strict=True)]
        sample = boxed_sample(key, image_yx, instances, boxes, settings.image_size)
        if offered == ("box",):
            return sample
        return replace(sample, prompts=self._prompts(instances, draws, sample.boxes_n4.numpy(), offered))

    def _prompt_draw(
        self, key: SliceKey, epoch: int, instance: Instance, offered: Sequence[str]
    ) -> tuple[str, np.random.Generator]:
        """Kind of prompt of an instance, and the random generator for a point or a mask."""
        if self.settings.fixed_prompts:
            return offered[0], keyed_rng("prompt", 0, 0, key, instance.label, instance.instance)
        rng = keyed_rng("prompt", self.settings.seed, epoch, key, instance.label, instance.instance)
        return drawn_kind(self.settings.shares, rng), rng

    def _box(self, key: SliceKey, epoch: int, instance: Instance, kind: str) -> Box:
        settings = self.settings
        if kind != "box" or settings.bbox_shift_px == 0 or settings.fixed_prompts:
            return instance.box
        rng = keyed_rng("box", settings.seed, epoch, key, instance.label, instance.instance)
        return shifted_box(instance.box, instance.mask_yx.shape, shift_px=settings.bbox_shift_px, rng=rng)

    def _prompts(
        self,
        instances: Sequence[Instance],
        draws: Sequence[tuple[str, np.random.Generator]],
        model_boxes: npt.NDArray[np.float32],
        offered: Sequence[str],
    ) -> Prompts:
        """The prompts of one slice if not all are boxes: each instance gets one of the kinds `offered`."""
        settings, side = self.settings, self.settings.image_size // 4
        height, width = instances[0].mask_yx.shape
        points_n2 = np.zeros((len(instances), 2), dtype=np.int64)
        masks = np.zeros((len(instances), 1, side, side), dtype=np.float32) if "mask" in offered else None
        for number, (instance, (kind, rng)) in enumerate(zip(instances, draws, strict=True)):
            if kind == "point":
                points_n2[number] = interior_pixel(instance) if settings.fixed_prompts else random_pixel(instance, rng)
            elif kind == "mask" and masks is not None:
                masks[number, 0] = mask_logits(degraded_mask(instance, settings.bbox_shift_px, rng), side)
        points = points_to_model_frame(points_n2, height=height, width=width, image_size=settings.image_size)
        slice_of_n = np.zeros(len(instances), dtype=np.int64)
        kinds = [kind for kind, _ in draws]
        return mixed_prompts(offered, kinds, slice_of_n, model_boxes, points, masks).map(torch.from_numpy)


def boxed_sample(
    key: SliceKey,
    image_yx: npt.NDArray[np.float32],
    instances: Sequence[Instance],
    boxes: Sequence[Box],
    image_size: int,
) -> Sample:
    """The sample of a slice whose instances are prompted with `boxes` (ORIGINAL frame)."""
    height, width = image_yx.shape
    model_boxes = boxes_to_model_frame(boxes, height=height, width=width, image_size=image_size)
    return Sample(
        key=key,
        image_1hw=to_model_frame(image_yx, image_size),
        masks_nhw=torch.from_numpy(np.stack([instance.mask_yx for instance in instances])),
        labels_n=torch.tensor([instance.label for instance in instances]),
        instances_n=torch.tensor([instance.instance for instance in instances]),
        boxes_n4=torch.from_numpy(model_boxes),
        original_boxes_n4=torch.tensor(boxes),
    )


def mask_logits(mask_yx: Mask, side: int) -> npt.NDArray[np.float32]:
    """(side, side) logits of a mask prompt in the frame of SAM 2's mask input.

    The fraction of each pixel that is inside the mask is mapped linearly from -10 (none) to 10 (all), as in the
    original SAM 2 (sam2_base._use_mask_as_output).
    """
    box = box_around(mask_yx)
    (above, below), (left, right) = (_area_windows(size, side) for size in mask_yx.shape)
    # Pixel counts from a summed-area table, only within the bounding box of the mask.
    inside = mask_yx[box.y0 : box.y1 + 1, box.x0 : box.x1 + 1]
    sums = np.pad(inside.cumsum(axis=0, dtype=np.int32).cumsum(axis=1, dtype=np.int32), ((1, 0), (1, 0)))
    rows = [np.clip(edge - box.y0, 0, inside.shape[0]) for edge in (above, below)]
    columns = [np.clip(edge - box.x0, 0, inside.shape[1]) for edge in (left, right)]
    bands = sums[rows[1]] - sums[rows[0]]
    counts = bands[:, columns[1]] - bands[:, columns[0]]
    share = np.asarray(counts / np.outer(below - above, right - left), dtype=np.float32)
    return np.asarray(share * np.float32(MASK_SCALE) + np.float32(MASK_BIAS))


def _area_windows(size: int, side: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """First and last + 1 of the `size` pixels that each of `side` pixels covers, as in torch's mode "area"."""
    numbers = np.arange(side, dtype=np.intp)
    return numbers * size // side, -(-(numbers + 1) * size // side)


def augmented_slice(
    augmentation: Augmentation, image_yx: npt.NDArray[np.float32], instances: Sequence[Instance], seed: int
) -> tuple[npt.NDArray[np.float32], list[Instance]]:
    """The slice with its instances after augmentation; instances that moved out of the image are dropped.

    If no instance would remain, the slice is returned without augmentation, because a training step needs an instance.
    """
    image, masks = augmentation(image_yx, np.stack([instance.mask_yx for instance in instances]), seed)
    kept = [
        replace(instance, mask_yx=mask, box=box_around(mask))
        for instance, mask in zip(instances, masks, strict=True)
        if mask.any()
    ]
    return (image, kept) if kept else (image_yx, list(instances))

"""Sample (one slice with its instances) and batch (several slices) as passed to training; collation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2ft.core.keys import SliceKey
from sam2ft.core.prompts import Prompts, joined_prompts


class SampleDraw(NamedTuple):
    """Request of a sampler: slice `position` of the dataset in `epoch`; weight 0 pads a rank without slices."""

    position: int
    epoch: int
    weight: float = 1.0


@dataclass(frozen=True)
class Sample:
    """One slice with n >= 1 instances."""

    key: SliceKey
    image_1hw: Tensor
    """float32 (1, image_size, image_size), MODEL frame, in [0, 1]."""
    masks_nhw: Tensor
    """bool (n, H, W), ORIGINAL grid (after augmentation, if any)."""
    labels_n: Tensor
    """int64"""
    instances_n: Tensor
    """int64, 1-based number of the connected component."""
    boxes_n4: Tensor
    """float32, MODEL frame, inclusive pixel indices."""
    original_boxes_n4: Tensor
    """int64, ORIGINAL frame, inclusive pixel indices."""
    prompts: Prompts | None = None
    """MODEL frame; None if all prompts are boxes (`boxes_n4`)."""
    weight: float = 1.0
    num_vanished: int = 0
    """Number of instances that augmentation moved out of the image."""


@dataclass(frozen=True)
class Batch:
    """Several slices with all their instances; instance tensors are concatenated in the order of the slices."""

    keys: tuple[SliceKey, ...]
    images_bchw: Tensor
    """float32 (b, 1, image_size, image_size), MODEL frame, in [0, 1]."""
    prompts: Prompts
    """MODEL frame; `prompts.slice_of_n` is the index of the slice of each instance."""
    masks: tuple[Tensor, ...]
    """Per slice: bool (n_i, H_i, W_i), ORIGINAL grid."""
    labels_n: Tensor
    instances_n: Tensor
    original_boxes_n4: Tensor
    weight: float = 1.0
    """0 for a padding batch of a rank without slices (its last sample repeated), for equal numbers of batches."""
    num_vanished: int = 0

    @property
    def num_instances(self) -> int:
        return int(self.labels_n.shape[0])

    def pin_memory(self) -> "Batch":
        """The batch in page-locked memory."""
        return self._each(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The batch on `device`."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """Apply `change` to the tensors of all fields."""

        def changed(value: Any) -> Any:
            if isinstance(value, Tensor):
                return change(value)
            if isinstance(value, Prompts):
                return value.map(change)
            return tuple(changed(item) for item in value) if isinstance(value, tuple) else value

        return replace(self, **{field.name: changed(getattr(self, field.name)) for field in fields(self)})


def collate(samples: Sequence[Sample]) -> Batch:
    """The batch of `samples`, in their order."""
    counts = torch.tensor([len(sample.labels_n) for sample in samples])
    slice_of_n = torch.repeat_interleave(torch.arange(len(samples)), counts)
    return Batch(
        keys=tuple(sample.key for sample in samples),
        images_bchw=torch.stack([sample.image_1hw for sample in samples]),
        prompts=joined_prompts([_prompts_of(sample) for sample in samples], slice_of_n, torch.cat),
        masks=tuple(sample.masks_nhw for sample in samples),
        labels_n=torch.cat([sample.labels_n for sample in samples]),
        instances_n=torch.cat([sample.instances_n for sample in samples]),
        original_boxes_n4=torch.cat([sample.original_boxes_n4 for sample in samples]),
        weight=min(sample.weight for sample in samples),
        num_vanished=sum(sample.num_vanished for sample in samples),
    )


def _prompts_of(sample: Sample) -> Prompts:
    if sample.prompts is not None:
        return sample.prompts
    return Prompts(slice_of_n=torch.zeros(len(sample.labels_n), dtype=torch.int64), boxes_n4=sample.boxes_n4)


def to_model_frame(image_yx: npt.NDArray[np.float32], image_size: int) -> Tensor:
    """One slice resized to (1, image_size, image_size) float32: bilinear, antialiased, aspect ratio not kept."""
    image = torch.from_numpy(np.ascontiguousarray(image_yx))[None, None]
    size = (image_size, image_size)
    return F.interpolate(image, size=size, mode="bilinear", antialias=True, align_corners=False)[0]

"""Validation pass after an epoch: losses, Dice on the ORIGINAL grid, and a few slices for pictures."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2ft.core.errors import DataError
from sam2ft.core.events import SlicePrediction
from sam2ft.core.prompts import INSIDE, Box, Mask, Point, points_to_original_frame
from sam2ft.data.samples.batch import Batch
from sam2ft.distributed.ranks import Ranks
from sam2ft.model.upsampling import to_original_grid, upsampled_per_slice
from sam2ft.training.accumulation import add_sums


class ForwardResult(NamedTuple):
    """Logits and losses of one batch."""

    logits_n1hw: Tensor
    """Decoder frame, float32 (float64 for a float64 model)."""
    losses: Mapping[str, Tensor]
    """`loss` and its terms, (n,) each."""


class Validation(NamedTuple):
    """Means over all instances of all ranks, and the first slices of this rank."""

    values: dict[str, float]
    """`val_loss`, `val_<term>`, `val_dice`."""
    samples: list[SlicePrediction]


@torch.no_grad()
def validate(
    batches: Iterable[Batch], forward: Callable[[Batch], ForwardResult], ranks: Ranks, *, num_samples: int
) -> Validation:
    """Compute the validation values; every instance counts once, whatever its batch.

    The host waits for a GPU once, for the sums, and once for each batch with slices for pictures.

    Args:
        batches: on the host; they are copied to the ranks' device.
        forward: called with batches on that device.
        num_samples: number of slices for pictures.

    Raises:
        DataError: when there is no instance.
    """
    sums: dict[str, Tensor] = {}
    num_instances = 0
    samples: list[SlicePrediction] = []
    for batch in batches:
        on_device = batch.to(ranks.device, non_blocking=True)
        result = forward(on_device)
        add_sums(sums, {**result.losses, "dice": instance_dice(result.logits_n1hw, on_device.masks)}, batch.weight)
        num_instances += batch.num_instances if batch.weight else 0
        if len(samples) < num_samples and batch.weight:
            samples += slice_predictions(batch, result.logits_n1hw)[: num_samples - len(samples)]
    names = sorted(sums)
    counted = [*(sums[name] for name in names), torch.full((), num_instances, dtype=torch.float64, device=ranks.device)]
    *totals, count = ranks.total(torch.stack(counted))
    if not count:
        raise DataError(
            "the validation split has no labelled slice; early stopping and the best epoch need at least one"
        )
    return Validation({f"val_{name}": value / count for name, value in zip(names, totals, strict=True)}, samples)


def instance_dice(logits_n1hw: Tensor, masks: Sequence[Tensor]) -> Tensor:
    """Dice (n,) of each instance's mask (logits > 0) and its reference, ORIGINAL grid; 1 where both are empty."""
    scores = []
    for logits_nhw, masks_nhw in zip(upsampled_per_slice(logits_n1hw, masks), masks, strict=True):
        predicted = logits_nhw > 0
        shared = (predicted & masks_nhw).sum((1, 2)).double()
        sizes = (predicted.sum((1, 2)) + masks_nhw.sum((1, 2))).double()
        scores.append(torch.where(sizes > 0, 2 * shared / sizes.clamp(min=1), 1.0))
    return torch.cat(scores)


def slice_predictions(batch: Batch, logits_n1hw: Tensor) -> list[SlicePrediction]:
    """The slices of a batch with their predictions, ORIGINAL frame; the image is resampled from the MODEL frame.

    Args:
        batch: on the host.
        logits_n1hw: decoder frame, on any device; their masks are copied to the host at once.
    """
    found = []
    start = 0
    for key, image_chw, masks_nhw, predicted_nhw in zip(
        batch.keys, batch.images_bchw, batch.masks, _predicted_masks(logits_n1hw, batch.masks), strict=True
    ):
        own = slice(start, start + len(masks_nhw))
        start = own.stop
        size = masks_nhw.shape[-2:]
        image = F.interpolate(image_chw[None, :1].float(), size=size, mode="bilinear", antialias=True)[0, 0]
        found.append(
            SlicePrediction(
                key=key,
                image_yx=image.clamp(0, 1).numpy(),
                labels_n=[int(label) for label in batch.labels_n[own]],
                boxes_n=[Box(*(int(value) for value in box)) for box in batch.original_boxes_n4[own]],
                references_nyx=masks_nhw.numpy(),
                predictions_nyx=predicted_nhw.numpy(),
                prompts_n=[prompt_of(batch, number, size) for number in range(own.start, own.stop)],
            )
        )
    return found


def _predicted_masks(logits_n1hw: Tensor, masks: Sequence[Tensor]) -> list[Tensor]:
    """Per slice, the predicted masks (n_i, H_i, W_i) on the host, by one copy for all slices."""
    predicted = [(logits_nhw > 0).flatten() for logits_nhw in upsampled_per_slice(logits_n1hw, masks)]
    on_host = torch.split(torch.cat(predicted).cpu(), [mask.numel() for mask in masks])
    return [values.reshape(mask.shape) for values, mask in zip(on_host, masks, strict=True)]


def prompt_of(batch: Batch, number: int, shape_yx: Sequence[int]) -> Box | Point | Mask:
    """The prompt of instance `number` of a batch on the host, in the ORIGINAL frame.

    A mask prompt is upsampled from the decoder's frame.
    """
    prompts, (height, width) = batch.prompts, shape_yx
    if prompts.masks_n1hw is not None and (prompts.has_mask_n is None or bool(prompts.has_mask_n[number])):
        mask: Mask = (to_original_grid(prompts.masks_n1hw[number : number + 1], shape_yx)[0] > 0).numpy()
        return mask
    if prompts.points_nk2 is not None and int(prompts.point_labels_nk[number, 0]) == INSIDE:
        point, side = prompts.points_nk2[number, 0].numpy(), batch.images_bchw.shape[-1]
        x, y = points_to_original_frame(point, height=height, width=width, image_size=side)[0]
        return Point(int(x), int(y))
    return Box(*(int(value) for value in batch.original_boxes_n4[number]))

"""Segmentation training loss: a region term (such as Dice) and a pixel term (such as BCE), one value per instance."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2ft.config.schema.module import Loss, LossFrame
from sam2ft.core.errors import ConfigError
from sam2ft.model.resizing import resized

InstanceLoss = Callable[[Tensor, Tensor], Tensor]
"""(logits (n, 1, h, w), reference (n, 1, h, w) of 0 and 1) -> one value per instance (n,)."""


class BatchWithMasks(Protocol):
    """A batch with reference masks: bool (n_i, H_i, W_i) per slice, in the order of the prompts."""

    @property
    def masks(self) -> Sequence[Tensor]: ...


def _monai(name: str, **fixed: Any) -> Callable[..., InstanceLoss]:
    def factory(**arguments: Any) -> InstanceLoss:
        from monai import losses  # takes 4 s to import, so only when a loss is built

        loss = getattr(losses, name)(**fixed, reduction="none", **arguments)
        focal = getattr(loss, "focal", loss)
        alpha = focal.alpha if isinstance(focal, losses.FocalLoss) else None

        def per_instance(logits: Tensor, reference: Tensor) -> Tensor:
            if alpha is not None:
                focal.alpha = _on_device_of(logits, alpha)
            # Region losses have the shape (n, 1, 1, 1), pixel losses (n, 1, h, w).
            values: Tensor = loss(logits, reference).flatten(1).mean(1)
            return values

        return per_instance

    return factory


def _on_device_of(logits: Tensor, value: float | Tensor) -> Tensor:
    """A number, or each number of a vector on the host, filled in where the logits are.

    A copy from the host would make the host wait for the device in every batch.
    """
    if isinstance(value, Tensor):
        return torch.cat([logits.new_full((1,), number) for number in value.tolist()])
    return logits.new_full((), value)


def _bce(pos_weight: float | None = None) -> InstanceLoss:
    def loss(logits: Tensor, reference: Tensor) -> Tensor:
        weight = None if pos_weight is None else _on_device_of(logits, pos_weight)
        values = F.binary_cross_entropy_with_logits(logits, reference, pos_weight=weight, reduction="none")
        return values.flatten(1).mean(1)

    return loss


def _dice_ce(lambda_dice: float = 1.0, lambda_ce: float = 1.0, **arguments: Any) -> InstanceLoss:
    """MONAI's DiceCELoss for one channel, where its cross entropy is binary (losses/dice.py: forward).

    Built from its two terms, because MONAI's class has no `reduction="none"`.
    """
    if lambda_dice < 0 or lambda_ce < 0:
        raise ValueError("lambda_dice and lambda_ce must not be negative")
    dice, bce = _monai("DiceLoss", sigmoid=True)(**arguments), _bce()
    return lambda logits, reference: lambda_dice * dice(logits, reference) + lambda_ce * bce(logits, reference)


LOSSES: dict[str, Callable[..., InstanceLoss]] = {
    "DiceLoss": _monai("DiceLoss", sigmoid=True),
    "GeneralizedDiceLoss": _monai("GeneralizedDiceLoss", sigmoid=True),
    "TverskyLoss": _monai("TverskyLoss", sigmoid=True),
    "FocalLoss": _monai("FocalLoss"),
    "DiceCELoss": _dice_ce,
    "DiceFocalLoss": _monai("DiceFocalLoss", sigmoid=True),
    "BCE": _bce,
}


@dataclass(frozen=True)
class SegmentationLoss:
    """Loss seg_loss_weight * seg + ce_loss_weight * ce (+ iou_weight * |predicted IoU - IoU|) per instance, with the
    weights and the frame of the section `module.loss`.

    The value of an instance does not depend on the other instances of its batch: the loss of a step is the mean over
    the instances of all ranks and micro-batches.
    """

    seg: InstanceLoss
    ce: InstanceLoss
    section: Loss = field(default_factory=Loss)

    def __call__(self, logits_n1hw: Tensor, iou_n: Tensor, batch: BatchWithMasks) -> dict[str, Tensor]:
        """Losses of n instances.

        Args:
            logits_n1hw: decoder frame; with `frame: original`, those of slice i are upsampled to the grid of
                `batch.masks[i]`.
            iou_n: predicted IoU.
            batch: reference masks.

        Returns:
            `loss` and its terms `seg` and `ce` (and `iou` when iou_weight is not 0), (n,) each, in prompt order.

        Raises:
            ValueError: when the numbers of predictions and masks differ.
        """
        groups = _groups(logits_n1hw, batch.masks, self.section.frame)
        order = torch.cat([positions for positions, _, _ in groups]).argsort()

        def per_instance(function: InstanceLoss) -> Tensor:
            return torch.cat([function(logits, reference) for _, logits, reference in groups])[order]

        terms = {"seg": per_instance(self.seg), "ce": per_instance(self.ce)}
        total = self.section.seg_loss_weight * terms["seg"] + self.section.ce_loss_weight * terms["ce"]
        if self.section.iou_weight:
            # L1 loss against the IoU of the thresholded mask, as in SAM 2's code (training/loss_fns.py: iou_loss)
            terms["iou"] = (iou_n - per_instance(_iou)).abs()
            total = total + self.section.iou_weight * terms["iou"]
        return {"loss": total, **terms}


def _groups(logits_n1hw: Tensor, masks: Sequence[Tensor], frame: LossFrame) -> list[tuple[Tensor, Tensor, Tensor]]:
    """(positions, logits, reference) of the instances of each grid size: one call per size instead of one per slice."""
    counts = [len(mask) for mask in masks]
    if sum(counts) != len(logits_n1hw):
        raise ValueError(f"{len(logits_n1hw)} predictions for {sum(counts)} reference masks")
    starts = [sum(counts[:i]) for i in range(len(counts))]
    shapes = dict.fromkeys((mask.shape[1], mask.shape[2]) for mask in masks)
    groups = []
    for shape in shapes:
        members = [i for i, mask in enumerate(masks) if mask.shape[1:] == shape]
        # Created on the device: a copy from the host would make the host wait for all work queued on the device.
        ranges = [torch.arange(starts[i], starts[i] + counts[i], device=logits_n1hw.device) for i in members]
        positions = torch.cat(ranges)
        reference = torch.cat([masks[i] for i in members])[:, None].float()
        logits = logits_n1hw if len(members) == len(masks) else logits_n1hw[positions]
        if frame == "original":
            logits = resized(logits, shape, "bilinear")
        else:
            reference = (F.interpolate(reference, size=logits.shape[2:], mode="area") >= 0.5).float()
        groups.append((positions, logits, reference))
    return groups


def _iou(logits: Tensor, reference: Tensor) -> Tensor:
    """IoU of each thresholded mask; 1 where prediction and reference are empty."""
    prediction, truth = (logits.detach() > 0).flatten(1), (reference > 0.5).flatten(1)
    intersection, union = (prediction & truth).sum(1), (prediction | truth).sum(1)
    return torch.where(union > 0, intersection / union.clamp(min=1), torch.ones_like(union, dtype=logits.dtype))


def build_loss(section: Loss) -> SegmentationLoss:
    """Build the loss of the section `module.loss`.

    Raises:
        ConfigError: for a value that MONAI refuses.
    """
    seg, ce = _named("seg", section.seg, section.seg_args), _named("ce", section.ce, section.ce_args)
    return SegmentationLoss(seg, ce, section)


def _named(term: str, name: str, arguments: Mapping[str, Any]) -> InstanceLoss:
    try:
        loss = LOSSES[name](**arguments)
        # The signature says nothing about ranges, and MONAI checks some arguments only when the loss is called.
        loss(torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"module.loss.{term}_args: {name} does not accept {dict(arguments)}: {error}") from None
    return loss

"""Propagation of prompted objects through a volume with the memory of SAM 2's video predictor, in both directions.

The stock predictor reads videos only from files and tracks all objects from the earliest prompt on: in slices before
its own prompt, an object would be segmented with memory from later slices. This module starts each object at its own
slice in each direction, and encodes every slice once for all objects and both directions (within the memory bound of
EncodedSlices).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor, nn

from sam2ft.core.prompts import LOWER_RIGHT, UPPER_LEFT, Box, boxes_to_model_frame
from sam2ft.model.encoded_slices import KEPT_BYTES, EncodedSlice, EncodedSlices, ImagesOf
from sam2ft.model.segmenter import FinetunedSAM2, copied_to
from sam2ft.model.upsampling import to_original_grid

Memory = dict[str, Any]
"""What the objects of a group leave in one slice, as SAM2Base._prepare_memory_conditioned_features reads it."""


@dataclass(frozen=True)
class ObjectPrompt:
    """Prompt of one object: its box in the ORIGINAL frame of a slice."""

    object_id: int
    slice: int
    box: Box


@dataclass(frozen=True)
class SliceLogits:
    """Predicted logits of some objects in one slice."""

    slice: int
    object_ids: tuple[int, ...]
    logits_nyx: Tensor
    """float32 (n, H, W), ORIGINAL grid; -1024 where the model predicts that the object is not in this slice."""


@dataclass(frozen=True, eq=False)
class PromptedGroup:
    """Objects that are prompted in the same slice, in one call of the model."""

    object_ids: tuple[int, ...]
    slice: int
    corners_n22: Tensor
    """Upper left and lower right corner (x, y) of each box, MODEL frame, on the device."""


class Start(NamedTuple):
    """Result of a group in the slice of its prompt; the same for both directions."""

    logits_n1hw: Tensor
    """Decoder frame."""
    memory: Memory


@dataclass(frozen=True, eq=False)
class Tracked:
    """A group on its way in one direction."""

    group: PromptedGroup
    start: Memory
    recent: dict[int, Memory] = field(default_factory=dict)
    """By slice; the memory of slices out of reach is freed."""


@dataclass(frozen=True)
class Pass:
    """One direction of a chunk of objects through a volume."""

    groups: Sequence[PromptedGroup]
    num_slices: int
    reverse: bool

    @property
    def order(self) -> range:
        """The slices that are visited."""
        starts = [group.slice for group in self.groups]
        return range(max(starts), -1, -1) if self.reverse else range(min(starts), self.num_slices)


class Propagator:
    """Propagates objects through volumes with the modules and weights of a FinetunedSAM2; it has no weights of its own.

    It sets the model to eval mode.
    """

    def __init__(self, model: FinetunedSAM2):
        self._model = model
        self._predictor = VolumePredictor(model.sam2_model)

    @torch.inference_mode()
    def propagate(
        self,
        images: ImagesOf,
        seeds: Sequence[ObjectPrompt],
        shape_zyx: tuple[int, int, int],
        *,
        object_chunk: int = 64,
        object_batch: int = 1,
        kept_bytes: int = KEPT_BYTES,
    ) -> Iterator[SliceLogits]:
        """Yield every slice of every object exactly once: per chunk of objects first forward from the seeds, then back.

        The two directions are independent, so a mirrored volume gives the mirrored result. The host does not wait for
        a GPU here, except to copy images that are not in pinned memory.

        Args:
            images: function that loads slices.
            seeds: one prompt per object.
            shape_zyx: shape of the volume.
            object_chunk: largest number of objects tracked at once; each keeps the memory of its last slices, whatever
                the length of the volume.
            object_batch: largest number of objects of a slice per call of the model. With 1, an object has the same
                result, to the bit, whatever the others are; more are faster on a GPU and change the last digits.
            kept_bytes: largest memory of features that are kept for a later pass; it does not change the results.

        Raises:
            ValueError: for a seed outside the volume or an object with two seeds.
        """
        _check(seeds, shape_zyx)
        for module in (self._model, self._predictor):
            module.eval()
        corners_n22 = self._corners(seeds, shape_zyx)
        passes: list[Pass] = []
        for start in range(0, len(seeds), object_chunk):
            chunk = slice(start, start + object_chunk)
            groups = grouped_by_slice(seeds[chunk], corners_n22[chunk], object_batch)
            passes.append(Pass(groups, shape_zyx[0], reverse=False))
            if back := [group for group in groups if group.slice > 0]:
                passes.append(Pass(back, shape_zyx[0], reverse=True))
        slices = EncodedSlices(self._encoded, images, kept_bytes)
        starts: dict[PromptedGroup, Start] = {}
        for number, one in enumerate(passes):
            if not one.reverse:
                starts.clear()
            later = {index for other in passes[number + 1 :] for index in other.order}
            for index, ids, logits_n1hw in self._pass(one, slices.along(one.order, later), starts, object_batch):
                yield SliceLogits(index, ids, to_original_grid(logits_n1hw, shape_zyx[1:]))

    def _pass(
        self,
        one: Pass,
        slices: Iterator[tuple[int, EncodedSlice]],
        starts: dict[PromptedGroup, Start],
        object_batch: int,
    ) -> Iterator[tuple[int, tuple[int, ...], Tensor]]:
        """Yield (slice, object ids, logits in the decoder frame).

        The reverse direction does not yield the slices of the prompts again: `starts` has the results of the forward
        one.
        """
        tracked: list[Tracked] = []
        for index, encoded in slices:
            ids: list[int] = []
            logits: list[Tensor] = []
            for batch in batches_of(tracked, object_batch):
                logits.append(self._predictor.step(encoded, index, batch, one))
                ids += [object_id for each in batch for object_id in each.group.object_ids]
            for group in one.groups:
                if group.slice != index:
                    continue
                if group not in starts:
                    starts[group] = self._predictor.start(encoded, group)
                tracked.append(Tracked(group, starts[group].memory))
                if not one.reverse:
                    logits.append(starts[group].logits_n1hw)
                    ids += group.object_ids
            if ids:
                yield index, tuple(ids), torch.cat(logits)

    def _corners(self, seeds: Sequence[ObjectPrompt], shape_zyx: tuple[int, int, int]) -> Tensor:
        """Corners (n, 2, 2) of all boxes, in the MODEL frame and on the device by one copy."""
        # The stock predictor would scale box corners like points; the box of the resized mask ends one pixel earlier.
        side, (_, height, width) = self._model.image_size, shape_zyx
        boxes_n4 = boxes_to_model_frame([seed.box for seed in seeds], height=height, width=width, image_size=side)
        # Divided and multiplied as stock does (add_new_points_or_box), which may change the last digit.
        corners_n22 = (torch.from_numpy(boxes_n4) / side * side).reshape(-1, 2, 2)
        return copied_to(self._model.mean_c11.device, corners_n22)

    def _encoded(self, image_chw: Tensor) -> EncodedSlice:
        side = self._model.image_size
        if image_chw.shape not in ((1, side, side), (3, side, side)):
            raise ValueError(f"a slice is {tuple(image_chw.shape)}, expected 1 or 3 x {side} x {side}")
        image = image_chw.to(self._model.mean_c11.device, non_blocking=True)
        return self._predictor.encoded((image.expand(3, -1, -1) - self._model.mean_c11) / self._model.sd_c11)


class VolumePredictor(SAM2Base):  # type: ignore[misc]  # the sam2 package is untyped
    """The steps of the stock SAM2VideoPredictor with the modules of an existing SAM 2 model, for objects in batches.

    Post-processing is off, as in training and evaluation of slices (see build_untrained).
    """

    pred_obj_scores: bool

    def __init__(self, sam2_model: Any):
        nn.Module.__init__(self)
        # The attributes of a SAM2Base: the same modules and parameters, so that no weight is stored twice.
        self.__dict__.update(sam2_model.__dict__)
        # Objects of a batch stay independent.
        self.non_overlap_masks_for_mem_enc = False
        self._constants: dict[Any, Tensor] = {}

    @property
    def reach(self) -> int:
        """Number of earlier slices whose memory is read, see SAM2Base._prepare_memory_conditioned_features."""
        return int(max(self.num_maskmem * self.memory_temporal_stride_for_eval, self.max_obj_ptrs_in_encoder))

    def encoded(self, image_chw: Tensor) -> EncodedSlice:
        """Features of a slice, normalised, (3, image_size, image_size)."""
        _, levels, positions, sizes = self._prepare_backbone_features(self.forward_image(image_chw[None].float()))
        return EncodedSlice(tuple(levels), self._one_for_all("image", positions[-1]), tuple(sizes))

    def start(self, encoded: EncodedSlice, group: PromptedGroup) -> Start:
        """Segment the objects of a group by their boxes, without memory (stock: add_new_points_or_box, preflight)."""
        count, device = len(group.object_ids), group.corners_n22.device
        labels = torch.arange(UPPER_LEFT, LOWER_RIGHT + 1, dtype=torch.int32, device=device).expand(count, 2)
        points = {"point_coords": group.corners_n22, "point_labels": labels}
        fused = self._fused(encoded, group.slice, count, is_init_cond_frame=True, output_dict={}, num_frames=None)
        logits_n1hw, memory = self._segmented(encoded, fused, points)
        return Start(logits_n1hw, memory)

    def step(self, encoded: EncodedSlice, index: int, batch: Sequence[Tracked], one: Pass) -> Tensor:
        """Segment tracked objects in the next slice: logits (n, 1, h, w), decoder frame (stock: propagate_in_video).

        What they remember of the slice is added to their memory; memory beyond `reach` is freed.
        """
        counts = [len(each.group.object_ids) for each in batch]
        fused = [
            self._fused(
                encoded,
                index,
                count,
                is_init_cond_frame=False,
                output_dict={
                    "cond_frame_outputs": {each.group.slice: each.start},
                    "non_cond_frame_outputs": each.recent,
                },
                num_frames=one.num_slices,
                track_in_reverse=one.reverse,
            )
            for count, each in zip(counts, batch, strict=True)
        ]
        # Not `cat` of a single one, which would change its layout, and so the last digits.
        together = fused[0] if len(fused) == 1 else torch.cat(fused)
        logits_n1hw, memory = self._segmented(encoded, together, None)
        for each, part in zip(batch, _split(memory, counts), strict=True):
            each.recent[index] = part
            each.recent.pop(index + self.reach if one.reverse else index - self.reach, None)
        return logits_n1hw

    def _fused(self, encoded: EncodedSlice, index: int, count: int, **more: Any) -> Tensor:
        """Image embedding of a slice for `count` objects, after attention to their memory: (count, c, h, w)."""
        fused: Tensor = self._prepare_memory_conditioned_features(
            frame_idx=index,
            current_vision_feats=[encoded.levels[-1].expand(-1, count, -1)],
            current_vision_pos_embeds=[encoded.positions.expand(-1, count, -1)],
            feat_sizes=encoded.sizes[-1:],
            **more,
        )
        return fused

    def _segmented(self, encoded: EncodedSlice, fused_nchw: Tensor, points: Any) -> tuple[Tensor, Memory]:
        """(logits in the decoder frame, memory) of n objects (stock: track_step)."""
        count = len(fused_nchw)
        levels = [level.expand(-1, count, -1) for level in encoded.levels]
        finer = [
            level.permute(1, 2, 0).view(count, level.shape[2], *size)
            for level, size in zip(levels[:-1], encoded.sizes[:-1], strict=True)
        ]
        *_, logits_n1hw, fine_n1hw, pointers, presence = self._forward_sam_heads(
            backbone_features=fused_nchw,
            point_inputs=points,
            high_res_features=finer or None,
            multimask_output=self._use_multimask(points is not None, points),
        )
        features, positions = self._encode_new_memory(
            current_vision_feats=levels,
            feat_sizes=encoded.sizes,
            pred_masks_high_res=fine_n1hw,
            object_score_logits=presence,
            is_mask_from_pts=points is not None,
        )
        # Stock keeps the features in bfloat16 as well.
        kept = features.to(torch.bfloat16)
        encoding = self._one_for_all("memory", positions[-1][:1]).expand(count, -1, -1, -1)
        return logits_n1hw, {"maskmem_features": kept, "maskmem_pos_enc": [encoding], "obj_ptr": pointers}

    def _one_for_all(self, name: str, positions: Tensor) -> Tensor:
        """The first of these position encodings, which depend on their shape and type only."""
        return self._constants.setdefault((name, positions.dtype, positions.shape), positions)

    def _forward_sam_heads(
        self,
        backbone_features: Tensor,
        point_inputs: Any = None,
        mask_inputs: Any = None,
        high_res_features: Any = None,
        multimask_output: bool = False,
    ) -> Any:
        """As stock, but in float32: in bf16 a coordinate has only 8 bits of precision (see FinetunedSAM2._embed).

        In a prompted slice the object counts as present. The head that predicts its presence (and empties the mask when
        it predicts absence) gets no gradient from a segmentation loss, so its output is arbitrary after fine-tuning.
        """
        prompted = point_inputs is not None or mask_inputs is not None
        configured, self.pred_obj_scores = self.pred_obj_scores, self.pred_obj_scores and not prompted
        fine = None if high_res_features is None else [features.float() for features in high_res_features]
        try:
            with torch.autocast(device_type=backbone_features.device.type, enabled=False):
                *outputs, object_score_logits = super()._forward_sam_heads(
                    backbone_features=backbone_features.float(),
                    point_inputs=point_inputs,
                    mask_inputs=mask_inputs,
                    high_res_features=fine,
                    multimask_output=multimask_output,
                )
        finally:
            self.pred_obj_scores = configured
        return (*outputs, object_score_logits.clamp(min=1.0) if prompted else object_score_logits)


def grouped_by_slice(seeds: Sequence[ObjectPrompt], corners_n22: Tensor, most: int) -> list[PromptedGroup]:
    """Objects with the same slice in groups of at most `most`, in their order."""
    members: dict[int, list[int]] = {}
    for position, seed in enumerate(seeds):
        members.setdefault(seed.slice, []).append(position)
    groups = []
    for index, positions in members.items():
        for start in range(0, len(positions), most):
            chosen = positions[start : start + most]
            corners = torch.cat([corners_n22[position : position + 1] for position in chosen])
            groups.append(PromptedGroup(tuple(seeds[position].object_id for position in chosen), index, corners))
    return groups


def batches_of(tracked: Sequence[Tracked], most: int) -> Iterator[list[Tracked]]:
    """Yield consecutive groups with at most `most` objects together."""
    batch: list[Tracked] = []
    count = 0
    for one in tracked:
        if batch and count + len(one.group.object_ids) > most:
            yield batch
            batch, count = [], 0
        batch.append(one)
        count += len(one.group.object_ids)
    if batch:
        yield batch


def _split(memory: Memory, counts: Sequence[int]) -> Iterator[Memory]:
    """Memory of a batch as that of its groups."""
    parts = zip(memory["maskmem_features"].split(counts), memory["obj_ptr"].split(counts), strict=True)
    for (features, pointers), count in zip(parts, counts, strict=True):
        # The position encodings of all objects and slices are equal.
        positions = [encoding[:1].expand(count, -1, -1, -1) for encoding in memory["maskmem_pos_enc"]]
        yield {"maskmem_features": features, "maskmem_pos_enc": positions, "obj_ptr": pointers}


def _check(seeds: Sequence[ObjectPrompt], shape_zyx: tuple[int, int, int]) -> None:
    outside = [seed for seed in seeds if not 0 <= seed.slice < shape_zyx[0]]
    if outside:
        raise ValueError(
            f"object {outside[0].object_id}: slice {outside[0].slice} is outside the volume of {shape_zyx[0]} slices"
        )
    if len({seed.object_id for seed in seeds}) != len(seeds):
        raise ValueError("an object has two seeds; each object must have one seed")

"""Propagation of prompted objects through a volume with SAM 2's video predictor (memory attention), in both directions.

The stock predictor reads videos only from files and tracks all objects from the earliest prompt on: in slices before
its own prompt, an object would be segmented with memory from later slices. This module starts each object at its own
slice in each direction, and encodes every slice of a direction once for all objects.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from sam2.sam2_video_predictor import SAM2VideoPredictor
from torch import Tensor, nn

from sam2ft.core.prompts import Box, boxes_to_model_frame
from sam2ft.model.segmenter import FinetunedSAM2

ImagesOf = Callable[[Sequence[int]], Iterator[Tensor]]
"""Slice indices -> the slices in the same order: (1 or 3, image_size, image_size) in [0, 1], MODEL frame."""


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
    ) -> Iterator[SliceLogits]:
        """Yield every slice of every object exactly once: per chunk of objects first forward from the seeds, then back.

        The two directions are independent, so a mirrored volume gives the mirrored result.

        Args:
            images: function that loads slices.
            seeds: one prompt per object.
            shape_zyx: shape of the volume.
            object_chunk: largest number of objects tracked at once; each keeps the memory of its last slices, whatever
                the length of the volume.

        Raises:
            ValueError: for a seed outside the volume or an object with two seeds.
        """
        _check(seeds, shape_zyx)
        for module in (self._model, self._predictor):
            module.eval()
        for start in range(0, len(seeds), object_chunk):
            chunk = seeds[start : start + object_chunk]
            yield from self._pass(images, chunk, shape_zyx, reverse=False)
            if back := [seed for seed in chunk if seed.slice > 0]:
                yield from self._pass(images, back, shape_zyx, reverse=True)

    def _pass(
        self, images: ImagesOf, seeds: Sequence[ObjectPrompt], shape_zyx: tuple[int, int, int], *, reverse: bool
    ) -> Iterator[SliceLogits]:
        """Propagate in one direction; the reverse direction does not yield the seeds' own slices again."""
        starts = [seed.slice for seed in seeds]
        order = range(max(starts), -1, -1) if reverse else range(min(starts), shape_zyx[0])
        state = self._predictor.new_state(shape_zyx)
        for index, image_chw in zip(order, images(order), strict=True):
            state["images"] = {index: self._normalised(image_chw)}
            for seed in seeds:
                if seed.slice == index:
                    self._predictor.prompt(state, seed)
            self._predictor.propagate_in_video_preflight(state)
            found = self._predictor.step(state, index, reverse=reverse)
            done = {seed.object_id for seed in seeds if reverse and seed.slice == index}
            if ids := tuple(object_id for object_id in found if object_id not in done):
                logits_n1hw = torch.cat([found[object_id] for object_id in ids])
                yield SliceLogits(index, ids, self._predictor.on_original_grid(state, logits_n1hw))

    def _normalised(self, image_chw: Tensor) -> Tensor:
        side = self._model.image_size
        if image_chw.shape not in ((1, side, side), (3, side, side)):
            raise ValueError(f"a slice is {tuple(image_chw.shape)}, expected 1 or 3 x {side} x {side}")
        image = image_chw.to(self._model.mean_c11.device)
        return (image.expand(3, -1, -1) - self._model.mean_c11) / self._model.sd_c11


class VolumePredictor(SAM2VideoPredictor):  # type: ignore[misc]  # the sam2 package is untyped
    """The stock video predictor with the modules of an existing SAM 2 model; its state is created without files.

    Post-processing is off, as in training and evaluation of slices (see build_untrained).
    """

    pred_obj_scores: bool

    def __init__(self, sam2_model: Any):
        nn.Module.__init__(self)
        # SAM2VideoPredictor adds settings to SAM2Base but no module: the attributes of a SAM2Base (the same modules and
        # parameters, so that no weight is stored twice) and these settings are sufficient.
        self.__dict__.update(sam2_model.__dict__)
        self.fill_hole_area = 0
        self.non_overlap_masks = False
        self.clear_non_cond_mem_around_input = False
        self.add_all_frames_to_correct_as_cond = False

    @property
    def reach(self) -> int:
        """Number of earlier slices whose memory is read, see SAM2Base._prepare_memory_conditioned_features."""
        return int(max(self.num_maskmem * self.memory_temporal_stride_for_eval, self.max_obj_ptrs_in_encoder))

    def new_state(self, shape_zyx: tuple[int, int, int]) -> dict[str, Any]:
        """A state as SAM2VideoPredictor.init_state creates it from a file, without slices and objects."""
        num_slices, height, width = shape_zyx
        per_object = ("point_inputs_per_obj", "mask_inputs_per_obj", "output_dict_per_obj", "temp_output_dict_per_obj")
        return {
            "images": {},
            "num_frames": num_slices,
            "offload_video_to_cpu": False,
            "offload_state_to_cpu": False,
            "video_height": height,
            "video_width": width,
            "device": self.device,
            "storage_device": self.device,
            "cached_features": {},
            "constants": {},
            "obj_id_to_idx": {},
            "obj_idx_to_id": {},
            "obj_ids": [],
            "frames_tracked_per_obj": {},
            **{name: {} for name in per_object},
        }

    def prompt(self, state: dict[str, Any], seed: ObjectPrompt) -> None:
        """Add the object of a seed; the image of the seed's slice must be in the state."""
        # The stock predictor would scale box corners like points; the box of the resized mask ends one pixel earlier.
        height, width, side = state["video_height"], state["video_width"], self.image_size
        box = torch.from_numpy(boxes_to_model_frame([seed.box], height=height, width=width, image_size=side)[0]) / side
        self.add_new_points_or_box(state, seed.slice, seed.object_id, normalize_coords=False, box=box)

    def step(self, state: dict[str, Any], index: int, *, reverse: bool) -> dict[int, Tensor]:
        """Object id -> logits (1, 1, h, w) in slice `index`, decoder frame, for all objects of the state.

        This is the body of SAM2VideoPredictor.propagate_in_video for one slice; memory beyond `reach` is freed.
        """
        found = {}
        for object_id, position in state["obj_id_to_idx"].items():
            outputs = state["output_dict_per_obj"][position]
            if index in outputs["cond_frame_outputs"]:
                found[object_id] = outputs["cond_frame_outputs"][index]["pred_masks"]
                continue
            memory, found[object_id] = self._run_single_frame_inference(
                inference_state=state,
                output_dict=outputs,
                frame_idx=index,
                batch_size=1,
                is_init_cond_frame=False,
                point_inputs=None,
                mask_inputs=None,
                reverse=reverse,
                run_mem_encoder=True,
            )
            outputs["non_cond_frame_outputs"][index] = memory
            outputs["non_cond_frame_outputs"].pop(index + self.reach if reverse else index - self.reach, None)
        return found

    def on_original_grid(self, state: dict[str, Any], logits_n1hw: Tensor) -> Tensor:
        """Resize logits to the ORIGINAL grid: float32 (n, H, W)."""
        logits: Tensor = self._get_orig_video_res_output(state, logits_n1hw)[1]
        return logits[:, 0].float()

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


def _check(seeds: Sequence[ObjectPrompt], shape_zyx: tuple[int, int, int]) -> None:
    outside = [seed for seed in seeds if not 0 <= seed.slice < shape_zyx[0]]
    if outside:
        raise ValueError(
            f"object {outside[0].object_id}: slice {outside[0].slice} is outside the volume of {shape_zyx[0]} slices"
        )
    if len({seed.object_id for seed in seeds}) != len(seeds):
        raise ValueError("an object has two seeds; each object must have one seed")

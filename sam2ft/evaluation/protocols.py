"""Prompt protocols of an evaluation (box, points, mask, ...): prompts from a reference slice, and protocol names.

Everything is in the ORIGINAL frame until `model_frame_prompts`. docs/evaluation.md has the table of protocols. No torch
at import.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from sam2ft.config.schema.evaluation_checks import Direction, EvaluationSection, InstanceMode, NoiseSection
from sam2ft.core.keys import SliceKey
from sam2ft.core.prompts import (
    INSIDE,
    PADDING,
    Box,
    Mask,
    Prompts,
    boxes_to_model_frame,
    points_to_model_frame,
    shifted_box,
)
from sam2ft.data.samples.detections import DetectedBox, boxes_per_label, matched_boxes
from sam2ft.data.samples.instances import Instance, instances_of, interior_pixels, keyed_rng, label_boxes

# Jitter is independent of the training seed, so that runs stay comparable. A noise study varies it.
JITTER_SEED = 0


class Jitter(NamedTuple):
    """Random shift of boxes in one pass over the prompts of a slice."""

    shift_px: int = 0
    seed: int = JITTER_SEED


class Target(NamedTuple):
    """One target of a prompt."""

    instance: Instance
    """Its mask is the reference; empty for a detected box without a reference instance."""
    box: Box | None
    """Box of the prompt; None when a detector missed the instance, which is then not prompted."""


@dataclass(frozen=True)
class EvaluationChoice:
    """The evaluation section as plain values, for code and tests without an experiment."""

    instances: InstanceMode = "per_instance"
    protocol: str = "box"
    points_k: int = 3
    propagate_seed: Literal["largest", "middle"] = "largest"
    bbox_shift: int = 0
    direction: Direction = "outward"
    include_empty_slices: bool = True
    prompt_chunk: int = 64
    encode_batch: int = 1
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    prompt_noise: NoiseSection | None = None


def protocol_name(section: EvaluationSection, jitter: Jitter | None = None) -> str:
    """Return the protocol name in rows: box, box_jitter(px=5,seed=0), points(k=3), propagate(seed=largest), +nonempty.

    Args:
        jitter: jitter of a pass of a noise study; None: jitter of the evaluation itself.
    """
    moved = Jitter(section.bbox_shift) if jitter is None else jitter
    parameters = []
    if moved.shift_px > 0:
        parameters += [f"px={moved.shift_px}", f"seed={moved.seed}"]
        parameters += ["direction=both"] if section.direction == "both" else []
    if section.protocol == "points":
        parameters.append(f"k={section.points_k}")
    if section.protocol == "propagate":
        parameters.append(f"seed={section.propagate_seed}")
    name = section.protocol + ("_jitter" if moved.shift_px > 0 else "")
    name += "_per_label" if section.instances == "per_label" else ""
    name += f"({','.join(parameters)})" if parameters else ""
    return name if section.include_empty_slices else f"{name}+nonempty"


def passes_of(section: EvaluationSection) -> tuple[Jitter, ...]:
    """Return the jitter of the evaluation, then those of the noise study, without duplicates.

    Without a shift nothing is random, so all seeds are one pass.
    """
    own = Jitter(section.bbox_shift)
    study = section.prompt_noise
    asked = () if study is None else tuple(Jitter(px, seed) for px in study.shifts for seed in study.seeds)
    return tuple(dict.fromkeys(one if one.shift_px else Jitter() for one in (own, *asked)))


def prompted_instances(mode: InstanceMode, mask_yx: npt.NDArray[Any], label_ids: Collection[int]) -> list[Instance]:
    """Return the prompted instances of one slice: every connected component, or each label as a whole."""
    return instances_of(mask_yx, label_ids) if mode == "per_instance" else label_boxes(mask_yx, label_ids)


def targets_of(
    section: EvaluationSection,
    mask_yx: npt.NDArray[Any],
    label_ids: Collection[int],
    detections: Sequence[DetectedBox] = (),
) -> list[Target]:
    """Return the targets of one slice, by label, then number. `detections`: its boxes in protocol boxes_file."""
    instances = prompted_instances(section.instances, mask_yx, label_ids)
    if section.protocol != "boxes_file":
        return [Target(instance, instance.box) for instance in instances]
    boxes = detections if section.instances == "per_instance" else boxes_per_label(detections)
    height, width = mask_yx.shape
    return [Target(instance, box) for instance, box in matched_boxes(instances, boxes, (height, width))]


def prompt_box(instance: Instance, key: SliceKey, jitter: Jitter, direction: Direction = "outward") -> Box:
    """Return the box of the instance, each side shifted by the jitter, which depends on (seed, slice, instance)."""
    if jitter.shift_px == 0:
        return instance.box
    rng = keyed_rng("box", jitter.seed, 0, key, instance.label, instance.instance)
    shape_yx = instance.mask_yx.shape
    return shifted_box(instance.box, shape_yx, shift_px=jitter.shift_px, rng=rng, direction=direction)


def model_frame_prompts(
    section: EvaluationSection,
    instances: Sequence[Instance],
    boxes: Sequence[Box],
    shape_yx: tuple[int, int],
    image_size: int,
) -> Prompts:
    """Return prompts (numpy, MODEL frame) for the instances of one slice of `shape_yx`; `boxes`: ORIGINAL frame."""
    height, width = shape_yx
    slice_of_n = np.zeros(len(instances), dtype=np.int64)
    if section.protocol in ("box", "boxes_file"):
        in_model = boxes_to_model_frame(boxes, height=height, width=width, image_size=image_size)
        return Prompts(slice_of_n, boxes_n4=in_model)
    if section.protocol == "mask":
        side = image_size // 4
        logits = np.stack([_mask_logits(instance.mask_yx, side) for instance in instances])
        return Prompts(slice_of_n, masks_n1hw=logits[:, None])
    count = 1 if section.protocol == "point" else section.points_k
    points_n = [interior_pixels(instance, count) for instance in instances]
    room = max(len(points) for points in points_n)
    points_nk2 = np.zeros((len(points_n), room, 2), dtype=np.float32)
    labels_nk = np.full((len(points_n), room), PADDING, dtype=np.int32)
    for number, points in enumerate(points_n):
        in_model = points_to_model_frame(points, height=height, width=width, image_size=image_size)
        points_nk2[number, : len(points)], labels_nk[number, : len(points)] = in_model, INSIDE
    counts = tuple(len(points) for points in points_n)
    of_each = None if set(counts) == {room} else counts
    return Prompts(slice_of_n, points_nk2=points_nk2, point_labels_nk=labels_nk, num_points_n=of_each)


def _mask_logits(mask_yx: Mask, side: int) -> npt.NDArray[np.float32]:
    # Imported here: this module is imported on login nodes, and resizing a mask needs torch.
    from sam2ft.data.samples.dataset import mask_logits

    return mask_logits(mask_yx, side)

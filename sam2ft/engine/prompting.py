"""How an evaluation prompts the model: from a reference slice to prompts, and what tables call it. No torch.

Everything is in the ORIGINAL frame until `model_frame_prompts`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam2ft.core.keys import SliceKey
from sam2ft.core.prompts import Box, Mask, Prompts, box_around, boxes_to_model_frame
from sam2ft.data.prompts import Instance, draw, instances_of, label_boxes

OFFERED_PROTOCOLS = ("box", "point", "propagate")
# Jitter is the same for every run, whatever its training seed: runs stay comparable. A noise study varies it.
JITTER_SEED = 0

InstanceMode = Literal["per_instance", "per_label"]


class EvaluationSection(Protocol):
    """What the Tester reads of the section `eval` of an experiment."""

    @property
    def instances(self) -> InstanceMode: ...
    @property
    def protocol(self) -> str: ...
    @property
    def propagate_seed(self) -> Literal["largest", "middle"]: ...
    @property
    def bbox_shift(self) -> int: ...
    @property
    def direction(self) -> str: ...
    @property
    def include_empty_slices(self) -> bool: ...
    @property
    def prompt_chunk(self) -> int: ...
    @property
    def precision(self) -> Literal["fp32", "bf16", "fp16"]: ...
    @property
    def prompt_noise(self) -> Any: ...


@dataclass(frozen=True)
class EvaluationChoice:
    """The same section as plain values, for code and tests without an experiment."""

    instances: InstanceMode = "per_instance"
    protocol: str = "box"
    propagate_seed: Literal["largest", "middle"] = "largest"
    bbox_shift: int = 0
    direction: str = "outward"
    include_empty_slices: bool = True
    prompt_chunk: int = 64
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    prompt_noise: Any = None


def unavailable_in_evaluation(section: EvaluationSection) -> list[tuple[str, str]]:
    """(key, message) of everything in `eval` that this version does not do; nothing is silently ignored."""
    found = []
    if section.protocol not in OFFERED_PROTOCOLS:
        offered = ", ".join(OFFERED_PROTOCOLS)
        found.append(("eval.protocol", f"{section.protocol} is not available in this version; available: {offered}"))
    elif section.bbox_shift and section.protocol != "box":
        found.append(("eval.bbox_shift", f"it moves boxes, and protocol {section.protocol} has none; allowed: 0"))
    if section.direction != "outward":
        found.append(("eval.direction", f"{section.direction} is not available in this version; available: outward"))
    if section.prompt_noise is not None:
        found.append(("eval.prompt_noise", "not available in this version; allowed: null"))
    return found


def protocol_name(section: EvaluationSection, seed: int = JITTER_SEED) -> str:
    """How rows name the protocol: box, box_jitter(px=5,seed=0), point, propagate(seed=largest), +nonempty, ..."""
    jittered = section.bbox_shift > 0
    name = section.protocol + ("_jitter" if jittered else "")
    name += "_per_label" if section.instances == "per_label" else ""
    name += f"(px={section.bbox_shift},seed={seed})" if jittered else ""
    name += f"(seed={section.propagate_seed})" if section.protocol == "propagate" else ""
    return name if section.include_empty_slices else f"{name}+nonempty"


def prompted_instances(mode: InstanceMode, mask_yx: npt.NDArray[Any], label_ids: Collection[int]) -> list[Instance]:
    """What is prompted in one slice: every connected component, or all of a label at once."""
    return instances_of(mask_yx, label_ids) if mode == "per_instance" else label_boxes(mask_yx, label_ids)


def prompt_box(instance: Instance, key: SliceKey, *, shift_px: int, seed: int) -> Box:
    """The instance's box, each side moved outward by 0..shift_px, keyed by (seed, slice, instance)."""
    if shift_px == 0:
        return instance.box
    rng = draw("box", seed, 0, key, instance.label, instance.instance)
    return box_around(instance.mask_yx, shift_px=shift_px, rng=rng)


def interior_point(mask_yx: Mask) -> tuple[int, int]:
    """(x, y) of the pixel nearest to the centroid among those not on the border of a non-empty mask.

    A mask that is all border (1 or 2 pixels thick) gives the nearest of its pixels. Ties: the first in raster order.
    """
    inside = ndimage.binary_erosion(mask_yx)
    rows, columns = np.nonzero(inside if inside.any() else mask_yx)
    centre_y, centre_x = (float(np.mean(axis)) for axis in np.nonzero(mask_yx))
    nearest = int(np.argmin((rows - centre_y) ** 2 + (columns - centre_x) ** 2))
    return int(columns[nearest]), int(rows[nearest])


def model_frame_prompts(
    protocol: str, instances: Sequence[Instance], boxes: Sequence[Box], shape_yx: tuple[int, int], image_size: int
) -> Prompts:
    """Prompts (numpy) for the instances of one slice of `shape_yx`, in the MODEL frame."""
    height, width = shape_yx
    slice_of_n = np.zeros(len(instances), dtype=np.int64)
    if protocol == "box":
        return Prompts(
            slice_of_n, boxes_n4=boxes_to_model_frame(boxes, height=height, width=width, image_size=image_size)
        )
    points = np.array([interior_point(instance.mask_yx) for instance in instances], dtype=np.float64)
    # Pixel indices name pixel centres in both frames (SAM adds 0.5 to points: prompt_encoder._embed_points).
    scale = np.array([image_size / width, image_size / height])
    in_model = ((points + 0.5) * scale - 0.5).astype(np.float32)
    return Prompts(
        slice_of_n, points_nk2=in_model[:, None], point_labels_nk=np.ones((len(instances), 1), dtype=np.int32)
    )

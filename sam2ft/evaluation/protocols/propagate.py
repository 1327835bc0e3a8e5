"""Protocol `propagate`: each object is prompted in one slice and tracked through the volume both ways.

An object is a 3-D connected component of a label or, where the store has given instances, one of them
(`eval.instances: per_instance`), or all of a label (`per_label`).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sam2ft.config.schema.evaluation import InstanceMode, SeedSlice
from sam2ft.core.components import components
from sam2ft.core.prompts import Box, box_around
from sam2ft.evaluation.prediction.composition import Composition
from sam2ft.evaluation.prediction.transfers import delayed_by_one, pinned, recorded, to_host
from sam2ft.evaluation.protocols.protocol import PREFETCH, Jitter, VolumeProtocol, VolumeSource
from sam2ft.metrics.counts import LabelMap
from sam2ft.metrics.scoring import PromptedMask
from sam2ft.model.precision import autocast, full_precision

if TYPE_CHECKING:
    from sam2ft.model.propagator import SliceLogits


@dataclass(frozen=True)
class VolumeObject:
    """An object that is tracked through a volume."""

    label: int
    instance: int
    """1-based, in raster order of the 3-D components of its label; of a given instance its id; 1 for all of a label."""
    seed_slice: int
    box: Box
    """Box around the object in its seed slice, ORIGINAL frame."""


@dataclass(frozen=True)
class Objects:
    """All objects of a volume, and their voxels."""

    listed: tuple[VolumeObject, ...]
    number_zyx: npt.NDArray[np.int32]
    """0: no object; n: object listed[n - 1]."""


def objects_of(
    reference_zyx: LabelMap,
    label_ids: Sequence[int],
    mode: InstanceMode,
    seed: SeedSlice,
    ids_zyx: LabelMap | None = None,
) -> Objects:
    """Return the objects of a reference label map, by label, then number.

    Args:
        ids_zyx: ids of given instances, unique within a label; None: instances are 3-D components.
    """
    number_zyx = np.zeros(reference_zyx.shape, dtype=np.int32)
    owners: list[tuple[int, int]] = []
    for label in sorted(label_ids):
        mask_zyx = reference_zyx == label
        if mode == "per_label":
            numbers, position = [1] if mask_zyx.any() else [], np.ones(int(mask_zyx.sum()), dtype=np.int32)
        elif ids_zyx is None:
            numbered, count = components(mask_zyx)
            numbers, position = list(range(1, count + 1)), numbered[mask_zyx]
        else:
            found, inverse = np.unique(ids_zyx[mask_zyx], return_inverse=True)
            numbers, position = found.tolist(), inverse.astype(np.int32) + 1
        number_zyx[mask_zyx] = position + len(owners)
        owners += [(label, number) for number in numbers]
    areas_zn = np.stack([np.bincount(number_yx.ravel(), minlength=len(owners) + 1) for number_yx in number_zyx])
    listed = []
    for number, (label, instance) in enumerate(owners, start=1):
        index = seed_slice(areas_zn[:, number], seed)
        listed.append(VolumeObject(label, instance, index, box_around(number_zyx[index] == number)))
    return Objects(tuple(listed), number_zyx)


def seed_slice(areas_z: npt.NDArray[np.integer[Any]], seed: SeedSlice) -> int:
    """Return the slice of the largest area, or the middle slice of the object; on a tie the lower index."""
    if seed == "largest":
        return int(np.argmax(areas_z))
    held = np.flatnonzero(areas_z)
    return int(held[(len(held) - 1) // 2])


class Propagation(VolumeProtocol):
    """The box of each object in its seed slice, carried through the volume by the video predictor."""

    def parameters(self, _jitter: Jitter) -> list[str]:
        return [f"seed={self.section.propagate_seed}"]

    def predict(self, model: Any, volume: VolumeSource, device: torch.device) -> tuple[LabelMap, list[PromptedMask]]:
        """See VolumeProtocol.

        There is one PromptedMask per object and slice in which reference or prediction is not empty; only the one of
        the prompted slice has a box.
        """
        # Imported here because it imports sam2, which the tests of objects do not need.
        from sam2ft.model.propagator import ObjectPrompt, Propagator

        def images(order: Sequence[int]) -> Iterator[Tensor]:
            return (pinned(view.image_1hw, device) for view in volume.views(model.image_size, order, PREFETCH))

        section, reference_zyx = self.section, np.asarray(volume.reference_zyx)
        ids_zyx = volume.scene.reference_instances_zyx
        objects = objects_of(reference_zyx, volume.scene.labels.ids, section.instances, section.propagate_seed, ids_zyx)
        seeds = [ObjectPrompt(number, one.seed_slice, one.box) for number, one in enumerate(objects.listed, start=1)]
        composed = [Composition.empty(reference_zyx.shape[1:], device) for _ in reference_zyx]
        prompted: list[PromptedMask] = []
        with autocast(device, section.precision):
            carried = Propagator(model).propagate(
                images,
                seeds,
                reference_zyx.shape,
                object_chunk=section.prompt_chunk,
                object_batch=section.object_batch,
            )
            for index, numbers, masks_nyx, event in delayed_by_one(_composed(carried, objects, composed, device)):
                if event is not None:
                    event.synchronize()
                prompted += _masks(objects, index, numbers, masks_nyx.numpy())
        order = sorted(prompted, key=lambda one: (one.slice, one.label, one.instance))
        label_map_zyx = torch.stack([one.label_map_yx for one in composed]).cpu().numpy()
        return label_map_zyx.astype(reference_zyx.dtype), order


def _composed(
    carried: "Iterable[SliceLogits]", objects: Objects, composed: Sequence[Composition], device: torch.device
) -> "Iterator[tuple[int, tuple[int, ...], Tensor, torch.cuda.Event | None]]":
    """Add logits to the composition of their slice; yield (slice, objects, their masks on the host, event).

    The masks are one copy per slice and direction, which is complete after the event; None on the CPU.
    """
    for found in carried:
        logits_nyx = full_precision(found.logits_nyx)
        composed[found.slice].add_all([objects.listed[number - 1].label for number in found.object_ids], logits_nyx)
        yield found.slice, found.object_ids, to_host(logits_nyx > 0), recorded(device)


def _masks(
    objects: Objects, index: int, numbers: Sequence[int], masks_nyx: npt.NDArray[np.bool_]
) -> Iterator[PromptedMask]:
    """Masks of some objects in one slice, where prediction or reference is not empty."""
    for number, predicted_yx in zip(numbers, masks_nyx, strict=True):
        one, reference_yx = objects.listed[number - 1], objects.number_zyx[index] == number
        if predicted_yx.any() or reference_yx.any():
            box = one.box if index == one.seed_slice else None
            yield PromptedMask(index, one.label, one.instance, box, predicted_yx, reference_yx).cropped()


PROTOCOL = Propagation

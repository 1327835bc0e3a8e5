"""Prediction of slices: one encoder pass per slice, decoding of its prompts in chunks, for each noise-study pass."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sam2ft.core.keys import SliceKey
from sam2ft.core.prompts import Box, Prompts
from sam2ft.data.samples.evaluation_slices import SliceView
from sam2ft.evaluation.prediction.composition import Composition
from sam2ft.evaluation.prediction.transfers import delayed_by_one, pinned, recorded, to_host
from sam2ft.evaluation.protocols.protocol import PromptProtocol, Target
from sam2ft.metrics.counts import LabelMap
from sam2ft.metrics.scoring import PromptedMask
from sam2ft.model.precision import autocast, full_precision
from sam2ft.model.upsampling import to_original_grid

Item = TypeVar("Item")


class Segmenter(Protocol):
    """Interface of a model for prediction (implemented by FinetunedSAM2)."""

    image_size: int

    def eval(self) -> Any: ...
    def encode(self, images_bchw: Tensor) -> Any: ...
    def project(self, features: Any) -> Any: ...
    def decode(self, features: Any, prompts: Prompts) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class PreparedSlice:
    """A slice with all its prompts; prepared in a thread while the model runs."""

    key: SliceKey
    image_1hw: Tensor
    """MODEL frame; in pinned memory if the model is on a GPU."""
    shape_yx: tuple[int, int]
    targets: tuple[Target, ...]
    boxes: tuple[Box | None, ...]
    """Box for the row of each target: the box of its prompt, or None."""
    passes: tuple[Prompts, ...]
    """Prompts of each pass (tensors on the host, MODEL frame), of the targets with a box; empty if none has one."""

    @property
    def labels(self) -> list[int]:
        """Labels of the prompted targets."""
        return [one.instance.label for one in self.targets if one.box is not None]


@dataclass(frozen=True)
class PredictedSlice:
    """Prediction of one slice, ORIGINAL grid."""

    index: int
    label_maps_pyx: Sequence[LabelMap]
    """Composed label map of each pass; empty if nothing was prompted."""
    prompted: Sequence[PromptedMask]
    """Mask of every target in the first pass, before composition; empty for a target without a prompt."""


class SlicePredictor:
    """Predicts slices with a model and the prompts of a protocol."""

    def __init__(self, model: Segmenter, protocol: PromptProtocol, device: torch.device):
        self.model, self.protocol, self.device = model, protocol, device
        self.section = protocol.section

    def prepared(self, view: SliceView, label_ids: Sequence[int]) -> PreparedSlice:
        """Return the prompts of a slice and its image (in pinned memory for an asynchronous copy to a GPU)."""
        protocol, (height, width) = self.protocol, view.reference_yx.shape
        targets = protocol.targets(view.key, view.reference_yx, label_ids, view.instances_yx)
        image_1hw = pinned(view.image_1hw, self.device)
        moved = [[protocol.moved(one, view.key, jitter) for one in targets] for jitter in protocol.passes]
        given = ([one for one in of_pass if one.box is not None] for of_pass in moved)
        passes = tuple(self._on_host(protocol.prompts(one, self.model.image_size)) for one in given if one)
        rows = tuple(one.box if protocol.names_boxes else None for one in moved[0])
        return PreparedSlice(view.key, image_1hw, (height, width), tuple(targets), rows, passes)

    def _on_host(self, prompts: Prompts) -> Prompts:
        """Prompts as tensors, in pinned memory if the model is on a GPU."""
        return prompts.map(lambda array: pinned(torch.from_numpy(np.ascontiguousarray(array)), self.device))

    def predict(self, slices: Iterable[PreparedSlice]) -> Iterator[PredictedSlice]:
        """Predict all slices, in their order; `eval.encode_batch` slices are encoded in one batch.

        The host is one batch behind: while a GPU computes a batch, the masks of the previous batch are processed.
        """
        launched = ((batch, *self._launched(batch)) for batch in in_batches(slices, self.section.encode_batch))
        for batch, found, event in delayed_by_one(launched):
            if event is not None:
                event.synchronize()
            for one in batch:
                label_maps, masks = found.get(one.key, (torch.zeros(0), torch.zeros(0)))
                prompted = list(prompted_masks(one, masks.numpy()))
                yield PredictedSlice(one.key.index, list(label_maps.numpy()), prompted)

    @torch.inference_mode()
    def _launched(
        self, batch: Sequence[PreparedSlice]
    ) -> "tuple[dict[SliceKey, tuple[Tensor, Tensor]], torch.cuda.Event | None]":
        """Start the computation of a batch on the device: (results by slice, event after which they are complete).

        The event is None on the CPU; slices without a prompt have no result.
        """
        asked = [one for one in batch if one.passes]
        found: dict[SliceKey, tuple[Tensor, Tensor]] = {}
        if asked:
            # Stacked on the device: a stack on the host is not in pinned memory.
            images = [one.image_1hw.to(self.device, non_blocking=True) for one in asked]
            with autocast(self.device, self.section.precision):
                features = self.model.project(self.model.encode(torch.stack(images)))
            for position, one in enumerate(asked):
                found[one.key] = self._decoded(features, position, one)
        return found, recorded(self.device)

    def _decoded(self, features: Any, position: int, one: PreparedSlice) -> tuple[Tensor, Tensor]:
        """(label map of each pass, masks of the first pass): one copy each, which may still be running."""
        label_maps, masks = [], []
        for number, prompts in enumerate(one.passes):
            composition = Composition.empty(one.shape_yx, self.device)
            for start in range(0, len(prompts), self.section.prompt_chunk):
                chunk = slice(start, start + self.section.prompt_chunk)
                with autocast(self.device, self.section.precision):
                    logits_n1hw, _ = self.model.decode(
                        features, chunk_of_prompts(prompts, chunk, position, self.device)
                    )
                logits_nyx = to_original_grid(full_precision(logits_n1hw), one.shape_yx)
                composition.add_all(one.labels[chunk], logits_nyx)
                if number == 0:
                    masks.append(logits_nyx > 0)
            label_maps.append(composition.label_map_yx)
        return to_host(torch.stack(label_maps)), to_host(torch.cat(masks))


def prompted_masks(one: PreparedSlice, masks_nyx: npt.NDArray[np.bool_]) -> Iterator[PromptedMask]:
    """Yield a mask per target: its predicted mask, or an empty mask if it was not prompted."""
    predicted = iter(masks_nyx)
    for (instance, given), box in zip(one.targets, one.boxes, strict=True):
        mask_yx = np.zeros(one.shape_yx, dtype=np.bool_) if given is None else next(predicted)
        found = PromptedMask(one.key.index, instance.label, instance.instance, box, mask_yx, instance.mask_yx)
        yield found.cropped()


def chunk_of_prompts(prompts: Prompts, chunk: slice, position: int, device: torch.device) -> Prompts:
    """Return a chunk of the prompts of a slice as tensors on the device; `position`: slice index in its batch."""
    moved = prompts.map(lambda tensor: tensor[chunk].to(device, non_blocking=True))
    counts = None if prompts.num_points_n is None else prompts.num_points_n[chunk]
    return replace(moved, slice_of_n=moved.slice_of_n + position, num_points_n=counts)


def in_batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of `size` items; the last list may be shorter."""
    source = iter(items)
    yield from iter(lambda: list(islice(source, size)), [])

"""Evaluation: one encoder pass per slice, all its instances as prompts, masks on the original grid, rows by scoring.

Masks of instances are composed into one label map per slice (see Composition for the rule). Protocol `propagate`
prompts one slice of each object instead and carries it through the volume (see propagation).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sam2ft.core.errors import ConfigError
from sam2ft.core.keys import VolumeKey
from sam2ft.core.prompts import Mask, Prompts
from sam2ft.core.rows import Row
from sam2ft.data.metadata import metadata_of
from sam2ft.data.prompts import Instance
from sam2ft.data.slices import SliceView, volume_slices
from sam2ft.data.store import Store, VolumeRecord
from sam2ft.engine import wide_tables
from sam2ft.engine.composition import Composition
from sam2ft.engine.precision import autocast, full_precision
from sam2ft.engine.prompting import (
    JITTER_SEED,
    EvaluationSection,
    InstanceMode,
    model_frame_prompts,
    prompt_box,
    prompted_instances,
    protocol_name,
    unavailable_in_evaluation,
)
from sam2ft.engine.propagation import propagate_volume
from sam2ft.engine.validation import to_original_grid
from sam2ft.metrics.measurement import Metric, ScoreSettings
from sam2ft.metrics.scoring import PromptedMask, Scene, ScoredRows, score_volume

LabelMap = npt.NDArray[np.integer[Any]]


class Segmenter(Protocol):
    """What a Tester needs of a model (FinetunedSAM2 has it)."""

    image_size: int

    def eval(self) -> Any: ...
    def encode(self, images_bchw: Tensor) -> Any: ...
    def project(self, features: Any) -> Any: ...
    def decode(self, features: Any, prompts: Prompts) -> tuple[Tensor, Tensor]: ...


class VolumeSource(Protocol):
    """One volume to evaluate."""

    @property
    def key(self) -> VolumeKey: ...
    @property
    def scene(self) -> Scene:
        """Its surroundings; `slices` is chosen by the Tester."""

    @property
    def reference_zyx(self) -> LabelMap: ...
    def views(self, image_size: int, slices: Sequence[int], prefetch: int) -> Iterator[SliceView]:
        """The slices asked for, in that order."""


@dataclass(frozen=True)
class StoreVolume:
    """A volume of a prepared store."""

    store: Store
    record: VolumeRecord
    scene: Scene

    @classmethod
    def of(
        cls, store: Store, record: VolumeRecord, dicom_fields: Sequence[str] = (), *, representative_slice: bool = True
    ) -> "StoreVolume":
        """With the store's geometry and maps of it, and those of `dicom_fields` that the store has."""
        maps = {name: store.map(record.key, name) for name in record.maps}
        num_slices = record.geometry.shape_zyx[0]
        dicom = metadata_of(record.dicom, dicom_fields, num_slices, representative_slice=representative_slice)
        return cls(store, record, Scene(record.geometry, store.labels, maps, dicom))

    @property
    def key(self) -> VolumeKey:
        return self.record.key

    @property
    def reference_zyx(self) -> LabelMap:
        return self.store.mask(self.record.key)

    def views(self, image_size: int, slices: Sequence[int], prefetch: int) -> Iterator[SliceView]:
        return volume_slices(self.store, self.record, image_size, slices=slices, prefetch=prefetch)


@dataclass(frozen=True)
class VolumeResult:
    """One evaluated volume, ORIGINAL grid."""

    key: VolumeKey
    label_map_zyx: LabelMap
    """Composed prediction: one label per voxel."""
    prompted: tuple[PromptedMask, ...]
    """What each prompt gave, before composition."""
    rows: ScoredRows
    """Rows of every table without their stamp."""


class Tester:
    """Predicts volumes and has them scored. It keeps nothing from one volume to the next."""

    __test__ = False  # pytest takes classes of this name for tests

    def __init__(
        self,
        model: Segmenter,
        section: EvaluationSection,
        metrics: Sequence[Metric],
        score: ScoreSettings,
        *,
        device: torch.device | str = "cpu",
        prefetch: int = 2,
    ):
        """`prefetch`: slices read and resized in a thread while the model runs.

        Errors: ConfigError naming what of the section this version does not do.
        """
        if missing := unavailable_in_evaluation(section):
            raise ConfigError("; ".join(f"{key}: {message}" for key, message in missing))
        self.model = model
        self.section = section
        self.metrics = metrics
        self.score = score
        self.device = torch.device(device)
        self.prefetch = prefetch

    @property
    def protocol(self) -> str:
        """What the rows' column `protocol` says."""
        return protocol_name(self.section)

    def evaluate(self, volumes: Iterable[VolumeSource]) -> Iterator[VolumeResult]:
        """Through the door that `eval.instances` names."""
        if self.section.instances == "per_instance":
            return self.evaluate_multilabel_test_set(volumes)
        return self.evaluate_single_label_test_set(volumes)

    def evaluate_multilabel_test_set(self, volumes: Iterable[VolumeSource]) -> Iterator[VolumeResult]:
        """One prompt per connected component of every label (`eval.instances: per_instance`), volume by volume."""
        return self._evaluate(volumes, "per_instance")

    def evaluate_single_label_test_set(self, volumes: Iterable[VolumeSource]) -> Iterator[VolumeResult]:
        """One prompt around all of a label in a slice (`eval.instances: per_label`), volume by volume."""
        return self._evaluate(volumes, "per_label")

    def _evaluate(self, volumes: Iterable[VolumeSource], door: InstanceMode) -> Iterator[VolumeResult]:
        if self.section.instances != door:
            raise ValueError(f"this door is for eval.instances: {door}, the section says {self.section.instances}")
        for volume in volumes:
            yield self._volume(volume)

    def _volume(self, volume: VolumeSource) -> VolumeResult:
        reference_zyx = np.asarray(volume.reference_zyx)
        slices = evaluated_slices(reference_zyx, include_empty=self.section.include_empty_slices)
        predict = self._propagated if self.section.protocol == "propagate" else self._slice_by_slice
        self.model.eval()
        label_map_zyx, prompted = predict(volume, reference_zyx)
        scene = _with_slices(volume.scene, slices)
        rows = score_volume(volume.key, label_map_zyx, reference_zyx, scene, prompted, self.metrics, self.score)
        return VolumeResult(volume.key, label_map_zyx, tuple(prompted), rows)

    def _slice_by_slice(self, volume: VolumeSource, reference_zyx: LabelMap) -> tuple[LabelMap, list[PromptedMask]]:
        """(composed label map, what each prompt gave); every slice is prompted by itself."""
        # A slice without reference offers nothing to prompt: its prediction is empty, without an encoder pass.
        prompted_slices = evaluated_slices(reference_zyx, include_empty=False)
        label_map_zyx = np.zeros_like(reference_zyx)
        prompted: list[PromptedMask] = []
        for view in volume.views(self.model.image_size, prompted_slices, self.prefetch):
            label_map_yx, masks = self._slice(view, volume.scene.labels.ids)
            label_map_zyx[view.key.index] = label_map_yx
            prompted += masks
        return label_map_zyx, prompted

    def _propagated(self, volume: VolumeSource, reference_zyx: LabelMap) -> tuple[LabelMap, list[PromptedMask]]:
        """The same; each object is prompted in one slice and carried through all others, empty ones too."""

        def images(order: Sequence[int]) -> Iterator[Tensor]:
            return (view.image_1hw for view in volume.views(self.model.image_size, order, self.prefetch))

        ids = volume.scene.labels.ids
        label_map_zyx, masks = propagate_volume(self.model, images, reference_zyx, ids, self.section, self.device)
        evaluated = set(evaluated_slices(reference_zyx, include_empty=self.section.include_empty_slices))
        return label_map_zyx, [mask for mask in masks if mask.slice in evaluated]

    @torch.inference_mode()
    def _slice(self, view: SliceView, label_ids: Sequence[int]) -> tuple[npt.NDArray[np.int64], list[PromptedMask]]:
        """(composed label map, what each prompt gave) of one slice."""
        section = self.section
        shape_yx = view.reference_yx.shape
        instances = prompted_instances(section.instances, view.reference_yx, label_ids)
        composition = Composition(shape_yx, self.device)
        if not instances:
            return composition.label_map_yx.cpu().numpy(), []
        boxes = [prompt_box(one, view.key, shift_px=section.bbox_shift, seed=JITTER_SEED) for one in instances]
        prompts = model_frame_prompts(section.protocol, instances, boxes, shape_yx, self.model.image_size)
        masks: list[Mask] = []
        for chunk, logits_nyx in self._logits(view, prompts, instances):
            for instance, logits_yx in zip(chunk, logits_nyx, strict=True):
                composition.add(instance.label, logits_yx)
            masks.extend((logits_nyx > 0).cpu().numpy())
        index = view.key.index
        found = [
            PromptedMask(index, one.label, one.instance, box, mask, one.mask_yx).cropped()
            for one, box, mask in zip(instances, boxes, masks, strict=True)
        ]
        return composition.label_map_yx.cpu().numpy(), found

    def _logits(
        self, view: SliceView, prompts: Prompts, instances: Sequence[Instance]
    ) -> Iterator[tuple[Sequence[Instance], Tensor]]:
        """Instances in chunks, with their logits (n, H, W) on the slice's own grid. One encoder pass."""
        with autocast(self.device, self.section.precision):
            features = self.model.project(self.model.encode(view.image_1hw[None].to(self.device)))
        for start in range(0, len(instances), self.section.prompt_chunk):
            chunk = slice(start, start + self.section.prompt_chunk)
            with autocast(self.device, self.section.precision):
                logits_n1hw, _ = self.model.decode(features, _part(prompts, chunk, self.device))
            yield instances[chunk], to_original_grid(full_precision(logits_n1hw), view.reference_yx.shape)

    @staticmethod
    def save_metric_scores_to_csv(folder: Path, measure: str, tables: Mapping[str, Sequence[Row]]) -> list[Path]:
        """See wide_tables.save_metric_scores_to_csv."""
        return wide_tables.save_metric_scores_to_csv(folder, measure, tables)

    @staticmethod
    def save_custom_metric_scores(folder: Path, biomarker: str, tables: Mapping[str, Sequence[Row]]) -> list[Path]:
        """See wide_tables.save_custom_metric_scores."""
        return wide_tables.save_custom_metric_scores(folder, biomarker, tables)


def evaluated_slices(reference_zyx: LabelMap, *, include_empty: bool) -> list[int]:
    """Indices of all slices, or of those with a label."""
    return [index for index, mask_yx in enumerate(reference_zyx) if include_empty or mask_yx.any()]


def _with_slices(scene: Scene, slices: Sequence[int]) -> Scene:
    return Scene(scene.geometry, scene.labels, scene.maps, scene.dicom, slices)


def _part(prompts: Prompts, chunk: slice, device: torch.device) -> Prompts:
    """Some of the prompts as tensors on the device."""
    return prompts.map(lambda array: torch.from_numpy(np.ascontiguousarray(array[chunk])).to(device))

"""Tester: predicts volumes with prompts of all instances, on the original grid, and scores them (rows of tables).

There is one encoder pass per slice. Masks of instances are composed into one label map per slice (rule: Composition).
A VolumeProtocol instead prompts the volume as a whole (see protocols/propagate.py).
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch

from sam2ft.config.schema.evaluation import InstanceMode
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import LabelTable
from sam2ft.data.samples.evaluation_slices import SliceView, prefetched, volume_slices
from sam2ft.data.store.slice_metadata import MetadataSource
from sam2ft.data.store.store import Store, VolumeRecord
from sam2ft.evaluation.outputs import wide_tables
from sam2ft.evaluation.prediction.predictor import PreparedSlice, Segmenter, SlicePredictor, prompted_masks
from sam2ft.evaluation.prediction.transfers import delayed_by_one
from sam2ft.evaluation.prompt_noise import NOISE, noise_rows
from sam2ft.evaluation.protocols.protocol import PREFETCH, PromptProtocol, VolumeProtocol, VolumeSource
from sam2ft.metrics.counts import LabelMap
from sam2ft.metrics.measurement import Metric, ScoreSettings
from sam2ft.metrics.scoring import PromptedMask, Scene, ScoredRows, score_volume


@dataclass(frozen=True)
class StoreVolume:
    """A volume of a prepared store."""

    store: Store
    record: VolumeRecord
    scene: Scene

    @classmethod
    def of(cls, store: Store, record: VolumeRecord, metadata: MetadataSource | None = None) -> "StoreVolume":
        """Return the volume with its maps in the store, and with grid and fields as described by `metadata`."""
        maps = {name: store.map(record.key, name) for name in record.maps}
        described = (metadata or MetadataSource()).describe(record)
        scene = Scene(
            described.geometry,
            store.labels,
            maps,
            described.dicom,
            reference_instances_zyx=store.instances(record.key),
            instances_min_mm3=record.instances_min_mm3,
            labelled=record.labelled,
        )
        return cls(store, record, scene)

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
    """Mask of each prompt, before composition."""
    rows: ScoredRows
    """Rows of every table, without the stamp (run, eval, split, protocol)."""
    labels: LabelTable
    """Labels of the label map."""


class Tester:
    """Predicts and scores volumes. It keeps no state between volumes."""

    __test__ = False  # pytest would collect a class of this name as tests

    def __init__(
        self,
        model: Segmenter,
        protocol: PromptProtocol,
        metrics: Sequence[Metric],
        score: ScoreSettings,
        *,
        device: torch.device | str = "cpu",
    ):
        """On a GPU a volume is scored in a thread while the model predicts the next volume."""
        self.model = model
        self.prompting = protocol
        self.section = protocol.section
        self.metrics = metrics
        self.score = score
        self.device = torch.device(device)
        self.scores_beside = self.device.type == "cuda"
        self._predictor = SlicePredictor(model, protocol, self.device)

    @property
    def protocol(self) -> str:
        """Value of the column `protocol`."""
        return self.prompting.name()

    def evaluate(self, volumes: Iterable[VolumeSource]) -> Iterator[VolumeResult]:
        """Evaluate volumes with the method for `eval.instances`."""
        if self.section.instances == "per_instance":
            return self.evaluate_multilabel_test_set(volumes)
        return self.evaluate_single_label_test_set(volumes)

    def evaluate_multilabel_test_set(self, volumes: Iterable[VolumeSource]) -> Iterator[VolumeResult]:
        """Evaluate volumes with one prompt per connected component of every label (`eval.instances: per_instance`)."""
        return self._evaluate(volumes, "per_instance")

    def evaluate_single_label_test_set(self, volumes: Iterable[VolumeSource]) -> Iterator[VolumeResult]:
        """Evaluate volumes with one prompt around each whole label in a slice (`eval.instances: per_label`)."""
        return self._evaluate(volumes, "per_label")

    def _evaluate(self, volumes: Iterable[VolumeSource], mode: InstanceMode) -> Iterator[VolumeResult]:
        if self.section.instances != mode:
            raise ValueError(f"this method is for eval.instances: {mode}; found {self.section.instances}")
        if not self.scores_beside:
            # Not `map`, which a StopIteration inside a volume would end like the end of the volumes.
            for volume in volumes:
                yield self._volume(volume)
            return
        with ThreadPoolExecutor(max_workers=1) as pool:
            scored: Iterator[Future[VolumeResult]]
            scored = (pool.submit(self._scored, volume, *self._predicted(volume)) for volume in volumes)
            yield from (one.result() for one in delayed_by_one(scored))

    def _volume(self, volume: VolumeSource) -> VolumeResult:
        return self._scored(volume, *self._predicted(volume))

    def _predicted(self, volume: VolumeSource) -> tuple[Sequence[int], list[LabelMap], list[PromptedMask]]:
        """(evaluated slices, composed label map of each pass, mask of each prompt); pass 0 is the evaluation itself."""
        reference_zyx = np.asarray(volume.reference_zyx)
        slices = evaluated_slices(reference_zyx, include_empty=self.section.include_empty_slices)
        self.model.eval()
        if isinstance(self.prompting, VolumeProtocol):
            label_map_zyx, masks = self.prompting.predict(self.model, volume, self.device)
            evaluated = set(slices)
            masks = [mask for mask in masks if mask.slice in evaluated]
            return slices, [label_map_zyx], masks
        return slices, *self._slice_by_slice(volume, reference_zyx, slices)

    def _scored(
        self, volume: VolumeSource, slices: Sequence[int], label_maps: Sequence[LabelMap], masks: Sequence[PromptedMask]
    ) -> VolumeResult:
        scene, reference_zyx = replace(volume.scene, slices=slices), np.asarray(volume.reference_zyx)

        def rows_of(label_map_zyx: LabelMap, prompted: Sequence[PromptedMask], metrics: Sequence[Metric]) -> ScoredRows:
            return score_volume(volume.key, label_map_zyx, reference_zyx, scene, prompted, metrics, self.score)

        rows = rows_of(label_maps[0], masks, self.metrics)
        if self.section.prompt_noise is not None:
            rows[NOISE] = noise_rows(self.prompting, self.metrics, rows["volume"], label_maps, rows_of)
        return VolumeResult(volume.key, label_maps[0], tuple(masks), rows, scene.labels)

    def _slice_by_slice(
        self, volume: VolumeSource, reference_zyx: LabelMap, slices: Sequence[int]
    ) -> tuple[list[LabelMap], list[PromptedMask]]:
        """(composed label map of each pass, mask of each prompt); every slice is prompted separately."""
        # A slice without a prompt has an empty prediction and needs no encoder pass.
        labelled = set(evaluated_slices(reference_zyx, include_empty=False))
        wanted = [i for i in slices if self.prompting.is_prompted(volume.key.slice(i), labelled=i in labelled)]
        label_maps_pzyx = [np.zeros_like(reference_zyx) for _ in self.prompting.passes]
        # Instances of slices in which a detector found nothing have empty masks.
        nothing = np.zeros((0, *reference_zyx.shape[1:]), dtype=np.bool_)
        missed = sorted(labelled & set(slices) - set(wanted))
        ids_zyx = volume.scene.reference_instances_zyx
        unseen = (
            SliceView(volume.key.slice(i), torch.zeros(0), reference_zyx[i], None if ids_zyx is None else ids_zyx[i])
            for i in missed
        )
        prompted = [mask for one in self._prepared(volume, unseen) for mask in prompted_masks(one, nothing)]
        views = volume.views(self.model.image_size, wanted, 0)
        for found in self._predictor.predict(prefetched(self._prepared(volume, views), PREFETCH)):
            for label_map_zyx, label_map_yx in zip(label_maps_pzyx, found.label_maps_pyx, strict=False):
                label_map_zyx[found.index] = label_map_yx
            prompted += found.prompted
        return label_maps_pzyx, sorted(prompted, key=lambda one: (one.slice, one.label, one.instance))

    def _prepared(self, volume: VolumeSource, views: Iterable[SliceView]) -> Iterator[PreparedSlice]:
        return (self._predictor.prepared(view, volume.scene.labels.ids) for view in views)

    save_metric_scores_to_csv = staticmethod(wide_tables.save_metric_scores_to_csv)
    save_custom_metric_scores = staticmethod(wide_tables.save_custom_metric_scores)


def evaluated_slices(reference_zyx: LabelMap, *, include_empty: bool) -> list[int]:
    """Return the indices of all slices, or of those with a label."""
    return [index for index, mask_yx in enumerate(reference_zyx) if include_empty or mask_yx.any()]

"""Scoring (evaluation) of one volume: from label maps to slice, instance, volume and biomarker rows.

This is the only path from masks to rows; it takes arrays and reads no files.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam2ft.core.components import components
from sam2ft.core.errors import DataError
from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label, LabelTable
from sam2ft.metrics.biomarkers.sensitivity import with_sensitivity
from sam2ft.metrics.counts import LabelMap, Overlap, label_overlaps
from sam2ft.metrics.factory import measured_labels, unmet_needs
from sam2ft.metrics.measurement import MaskPair, Metric, ScoreSettings, is_biomarker
from sam2ft.metrics.regions import bounding_block
from sam2ft.metrics.rows import PromptedMask, ScoredRows, VolumeRows, instance_values, slice_values, volume_values

__all__ = ["PromptedMask", "Scene", "ScoreSettings", "ScoredRows", "score_volume"]


@dataclass(frozen=True)
class Scene:
    """Geometry, label table, maps and DICOM fields of the volume that is scored."""

    geometry: Geometry
    labels: LabelTable
    maps: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    """Map name (`t2`, `t1rho`) -> map on the volume's grid, in ms."""
    dicom: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """DICOM field -> one value per slice."""
    slices: Sequence[int] | None = None
    """Indices of the evaluated slices, increasing; None: all. Other slices are ignored."""
    reference_instances_zyx: npt.NDArray[np.integer] | None = None
    """Ids of the reference's instances as given, unique within a label; None: instances are connected components."""
    instances_min_mm3: float | None = None
    """Size below which an instance is a speck; None: the default definition."""


def score_volume(
    key: VolumeKey,
    prediction_zyx: LabelMap,
    reference_zyx: LabelMap,
    scene: Scene,
    prompted: Sequence[PromptedMask],
    metrics: Sequence[Metric],
    settings: ScoreSettings,
) -> ScoredRows:
    """All rows of one volume, without their stamp (run, eval, split, protocol).

    There is one slice row per evaluated slice and label, absent labels included; one volume row per label, whose
    counts are the sums of its slice rows; one instance row per prompt. Distance columns are NaN unless a metric fills
    them. Both masks are integer label maps on the grid of `scene.geometry`.

    Raises:
        DataError: A mask or map is on another grid, a label is not in the label table, or the volume does not meet
            the requirements of a metric. The message names the volume.
    """
    masks = _checked_masks(key, prediction_zyx, reference_zyx, scene)
    for one in metrics:
        if missing := unmet_needs(one, scene.labels, settings.tissues, maps=scene.maps, dicom_fields=scene.dicom):
            raise DataError(f"{key}: {missing[0]}")
    counts = _count_slices(key, *masks, scene)
    rows = VolumeRows(key, scene.geometry.dz_source)
    for index, of_labels in counts.items():
        given = scene.reference_instances_zyx
        instances = _num_instances(masks[1][index], scene.labels, None if given is None else given[index])
        for label, found, num in zip(scene.labels, of_labels, instances, strict=True):
            rows.add("slice", (index, label.id), slice_values(index, label, found, num, scene.geometry))
    for position, label in enumerate(scene.labels):
        of_slices = [of_labels[position] for of_labels in counts.values()]
        rows.add("volume", (label.id,), volume_values(label, of_slices, scene.geometry))
    for mask in prompted:
        rows.add("instance", (mask.slice, mask.label, mask.instance), instance_values(mask, scene.labels[mask.label]))
    for position, label in enumerate(scene.labels):
        chosen = [one for one in metrics if label.id in measured_labels(one, scene.labels, settings.tissues)]
        if chosen:
            overlaps = {index: of_labels[position] for index, of_labels in counts.items()}
            _measure(rows, _pair_of(label, masks, overlaps, scene, settings), chosen)
    return rows.finished()


def _checked_masks(
    key: VolumeKey, prediction_zyx: LabelMap, reference_zyx: LabelMap, scene: Scene
) -> tuple[LabelMap, LabelMap]:
    """Both label maps, set to 0 outside the evaluated slices."""
    checked = []
    left_out = sorted(set(range(scene.geometry.shape_zyx[0])) - set(_evaluated(scene)))
    for name, mask in (("prediction", prediction_zyx), ("reference", reference_zyx)):
        if mask.shape != scene.geometry.shape_zyx:
            raise DataError(f"{key}: {name} has shape {mask.shape} (z, y, x), the volume {scene.geometry.shape_zyx}")
        if not np.issubdtype(mask.dtype, np.integer):
            raise DataError(f"{key}: {name} has type {mask.dtype}; a label map must contain integers")
        whole = np.asarray(mask)
        if left_out:
            whole = whole.copy()
            whole[left_out] = 0
        checked.append(whole)
    for name, values in scene.maps.items():
        if values.shape != scene.geometry.shape_zyx:
            raise DataError(
                f"{key}: map {name} has shape {values.shape} (z, y, x), the volume {scene.geometry.shape_zyx}"
            )
    return checked[0], checked[1]


def _evaluated(scene: Scene) -> Sequence[int]:
    return range(scene.geometry.shape_zyx[0]) if scene.slices is None else scene.slices


def _count_slices(
    key: VolumeKey, prediction: LabelMap, reference: LabelMap, scene: Scene
) -> dict[int, tuple[Overlap, ...]]:
    """Evaluated slice -> counts of every label, in the order of the label table."""
    positions = _positions(scene.labels)
    counts = {}
    for index in _evaluated(scene):
        # Only the block with labels is counted; the rest of the slice is background in both masks.
        block = bounding_block((prediction[index] != 0) | (reference[index] != 0))
        found = label_overlaps(
            _as_positions(prediction[index][block], positions, scene.labels, f"{key.slice(index)}: prediction"),
            _as_positions(reference[index][block], positions, scene.labels, f"{key.slice(index)}: reference"),
            len(scene.labels),
        )
        around = Overlap(0, 0, 0, prediction[index].size - prediction[index][block].size)
        counts[index] = tuple(one + around for one in found)
    return counts


def _positions(labels: LabelTable) -> npt.NDArray[np.int32]:
    """Lookup table: label id -> 1-based position in the label table, 0 -> 0, other ids -> -1."""
    positions = np.full(max(labels.ids, default=0) + 1, -1, dtype=np.int32)
    positions[0] = 0
    positions[list(labels.ids)] = np.arange(1, len(labels) + 1)
    return positions


def _as_positions(
    mask: LabelMap, positions: npt.NDArray[np.int32], labels: LabelTable, where: str
) -> npt.NDArray[np.int32]:
    known = not mask.size or (int(mask.min()) >= 0 and int(mask.max()) < len(positions))
    found = positions[mask] if known else None
    if found is None or found.min(initial=0) < 0:
        unknown = sorted(set(np.unique(mask).tolist()) - {0, *labels.ids})
        raise DataError(f"{where}: label {unknown[0]} is not in the label table; known: {labels.describe()}")
    return found


def _num_instances(
    reference_yx: LabelMap, labels: LabelTable, ids_yx: npt.NDArray[np.integer] | None = None
) -> list[int]:
    """Number of connected components, or of given instances, of every label of the table in one slice."""
    if ids_yx is not None:
        return [len(np.unique(ids_yx[reference_yx == label_id])) for label_id in labels.ids]
    reference_yx = reference_yx[bounding_block(reference_yx != 0)]
    boxes = ndimage.find_objects(reference_yx.astype(np.int32, copy=False), max_label=max(labels.ids, default=1))
    return [
        0 if boxes[label_id - 1] is None else components(reference_yx[boxes[label_id - 1]] == label_id)[1]
        for label_id in labels.ids
    ]


def _pair_of(
    label: Label,
    masks: tuple[LabelMap, LabelMap],
    overlaps: Mapping[int, Overlap],
    scene: Scene,
    settings: ScoreSettings,
) -> MaskPair:
    bone, vertebra = scene.labels.interface_of(label.id), scene.labels.vertebra_of(label.id)
    return MaskPair(
        prediction_zyx=masks[0] == label.id,
        reference_zyx=masks[1] == label.id,
        geometry=scene.geometry,
        label=label,
        slices=tuple(_evaluated(scene)),
        maps=scene.maps,
        bone_zyx=None if bone is None else masks[1] == bone.id,
        vertebrae_zyx=None if vertebra is None else masks[1] == vertebra.id,
        dicom=scene.dicom,
        settings=settings,
        known_overlaps=overlaps,
    )


def _measure(rows: VolumeRows, pair: MaskPair, metrics: Iterable[Metric]) -> None:
    for one in metrics:
        measured = one.measure(pair)
        if pair.settings.sensitivity and is_biomarker(one):
            measured = with_sensitivity(one, pair, measured)
        for found in measured:
            counts = pair.overlap if found.slice is None else pair.slice_overlaps[found.slice]
            rows.put(found, pair.label, counts.status, one.name)

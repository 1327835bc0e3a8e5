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
    """Instance ids of the reference per label, above 0 in all or in no voxels of a label; a label without ids, and
    None: its components are its instances."""
    instances_min_mm3: float | None = None
    """Components below this volume are specks; None: those below 5 % of the largest component of their label."""
    labelled: Sequence[int] | None = None
    """Ids of the labels that were drawn in the reference; None: all. Of the others nothing is known: they have no rows,
    whatever is predicted."""

    @property
    def drawn(self) -> tuple[Label, ...]:
        """The labels that are scored."""
        return self.labels.drawn(self.labelled)

    def bone_of(self, label: Label) -> Label | None:
        """The bone from which a label is measured; None where the table names none, or it was not drawn."""
        bone = self.labels.interface_of(label.id)
        return bone if bone in self.drawn else None

    def vertebra_of(self, label: Label) -> Label | None:
        """The vertebrae next to a disc; None as in `bone_of`."""
        vertebra = self.labels.vertebra_of(label.id)
        return vertebra if vertebra in self.drawn else None


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

    There is one slice row per evaluated slice and label that was drawn, absent labels included; one volume row per
    label, whose counts are the sums of its slice rows; one instance row per prompt. Distance columns are NaN unless a
    metric fills them. Both masks are integer label maps on the grid of `scene.geometry`.

    Raises:
        DataError: A mask or map is on another grid, a label is not in the label table, the reference holds one that was
            not drawn, or the volume does not meet the requirements of a metric. The message names the volume.
    """
    masks = _checked_masks(key, prediction_zyx, reference_zyx, scene)
    for one in metrics:
        if missing := unmet_needs(one, scene.labels, settings.tissues, maps=scene.maps, dicom_fields=scene.dicom):
            raise DataError(f"{key}: {missing[0]}")
    given = _given_instances(key, masks[1], scene)
    counts = _count_slices(key, *masks, scene)
    rows = VolumeRows(key, scene.geometry.dz_source)
    drawn = {place: label for place, label in enumerate(scene.labels) if label in scene.drawn}
    for index, of_labels in counts.items():
        instances = _num_instances(masks[1][index], scene.labels, {one: ids[index] for one, ids in given.items()})
        for place, label in drawn.items():
            values = slice_values(index, label, of_labels[place], instances[place], scene.geometry)
            rows.add("slice", (index, label.id), values)
    for mask in (one for one in prompted if scene.labels[one.label] in scene.drawn):
        rows.add("instance", (mask.slice, mask.label, mask.instance), instance_values(mask, scene.labels[mask.label]))
    for place, label in drawn.items():
        overlaps = {index: of_labels[place] for index, of_labels in counts.items()}
        pair = _pair_of(label, masks, overlaps, scene, given, settings)
        rows.add("volume", (label.id,), volume_values(label, tuple(overlaps.values()), pair.num_specks, scene.geometry))
        chosen = [one for one in metrics if label.id in measured_labels(one, scene.labels, settings.tissues)]
        chosen = [one for one in chosen if not _lacks_its_bone(one, label, scene)]
        _measure(rows, pair, chosen)
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
    for label in scene.labels:
        if label not in scene.drawn and (checked[1] == label.id).any():
            raise DataError(
                f"{key}: reference holds label {label.id} {label.name}, which is not among the labels that were drawn "
                f"({', '.join(one.name for one in scene.drawn)})"
            )
    return checked[0], checked[1]


def _given_instances(key: VolumeKey, reference: LabelMap, scene: Scene) -> dict[int, npt.NDArray[np.integer]]:
    """Label id -> instance ids of its voxels, 0 elsewhere; only labels that have ids."""
    ids = scene.reference_instances_zyx
    if ids is None:
        return {}
    if ids.shape != scene.geometry.shape_zyx or not np.issubdtype(ids.dtype, np.integer):
        raise DataError(
            f"{key}: instance ids are {ids.dtype} {ids.shape} (z, y, x); expected integers {scene.geometry.shape_zyx}"
        )
    found = {}
    for label in scene.labels:
        inside = reference == label.id
        numbers = ids[inside]
        if (numbers > 0).any():
            if lacking := int(np.count_nonzero(numbers <= 0)):
                raise DataError(
                    f"{key}: {lacking} of {len(numbers)} voxels of label {label.id} {label.name} have no instance id; "
                    "every voxel of a label needs one above 0, or none: prepare with instances: {source: components}"
                )
            found[label.id] = np.where(inside, ids, 0)
    return found


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
    reference_yx: LabelMap, labels: LabelTable, given_yx: Mapping[int, npt.NDArray[np.integer]]
) -> list[int]:
    """Number of instances of every label of the table in one slice: of given ids, else of connected components."""
    block = bounding_block(reference_yx != 0)
    reference_yx = reference_yx[block]
    boxes = ndimage.find_objects(reference_yx.astype(np.int32, copy=False), max_label=max(labels.ids, default=1))

    def number(label_id: int) -> int:
        box = boxes[label_id - 1]
        if box is None:
            return 0
        if label_id in given_yx:
            return len(np.unique(given_yx[label_id][block][box])) - bool((reference_yx[box] != label_id).any())
        return components(reference_yx[box] == label_id)[1]

    return [number(label_id) for label_id in labels.ids]


def _pair_of(
    label: Label,
    masks: tuple[LabelMap, LabelMap],
    overlaps: Mapping[int, Overlap],
    scene: Scene,
    given: Mapping[int, npt.NDArray[np.integer]],
    settings: ScoreSettings,
) -> MaskPair:
    bone, vertebra = scene.bone_of(label), scene.vertebra_of(label)
    return MaskPair(
        prediction_zyx=masks[0] == label.id,
        reference_zyx=masks[1] == label.id,
        geometry=scene.geometry,
        label=label,
        slices=tuple(_evaluated(scene)),
        maps=scene.maps,
        bone_zyx=None if bone is None else masks[1] == bone.id,
        vertebrae_zyx=None if vertebra is None else masks[1] == vertebra.id,
        given_instances_zyx=given.get(label.id),
        given_vertebrae_zyx=None if vertebra is None else given.get(vertebra.id),
        min_instance_mm3=scene.instances_min_mm3,
        dicom=scene.dicom,
        settings=settings,
        known_overlaps=overlaps,
    )


def _lacks_its_bone(metric: Metric, label: Label, scene: Scene) -> bool:
    """Whether a metric needs the bone of a label, and the bone was not drawn: measured without it, a tissue would have
    another definition in this volume than in the others."""
    return "bone" in metric.needs and label.interface is not None and scene.bone_of(label) is None


def _measure(rows: VolumeRows, pair: MaskPair, metrics: Iterable[Metric]) -> None:
    for one in metrics:
        measured = one.measure(pair)
        if pair.settings.sensitivity and is_biomarker(one):
            measured = with_sensitivity(one, pair, measured)
        for found in measured:
            counts = pair.overlap if found.slice is None else pair.slice_overlaps[found.slice]
            rows.put(found, pair.label, counts.status, one.name)

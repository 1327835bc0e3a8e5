"""Cartilage thickness maps (`metric.thickness_maps`): thickness at every vertex of the bones, from prediction files."""

import io
import sys
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from sam2ft.config.schema.datamodule import MetricSection
from sam2ft.core.files import replacing
from sam2ft.core.keys import path_component
from sam2ft.data.images.volumes import read_reordered
from sam2ft.data.store.store import Store, VolumeRecord
from sam2ft.metrics.biomarkers.thickness_map import ThicknessMap, thickness_map
from sam2ft.metrics.factory import measured_labels, metric_factory
from sam2ft.metrics.measurement import MaskPair
from sam2ft.runs.evaluation_files import verified_prediction
from sam2ft.runs.layout import EvalLayout


def write_thickness_maps(
    evaluation: EvalLayout, records: Sequence[VolumeRecord], stores: Mapping[str, Store], chosen: MetricSection
) -> None:
    """Write `<subject>__<volume>.<tissue>.thickness.npz` and `.ply` to the folder of every prediction."""
    written = 0
    for record in records:
        for tissue, found in _maps(evaluation, record, stores[record.key.dataset], chosen):
            beside = evaluation.prediction(record.key).parent
            stem = f"{record.key.file_stem}.{path_component(tissue)}.thickness"
            # Through memory: the ZipFile of a failed np.savez complains once more when it is collected.
            packed = io.BytesIO()
            np.savez(packed, allow_pickle=False, **found.arrays())
            with replacing(beside / f"{stem}.npz") as path:
                path.write_bytes(packed.getbuffer())
            with replacing(beside / f"{stem}.ply") as path:
                path.write_bytes(found.ply())
            written += 1
    print(f"{written} thickness maps written", file=sys.stderr)


def _maps(
    evaluation: EvalLayout, record: VolumeRecord, store: Store, chosen: MetricSection
) -> Iterator[tuple[str, ThicknessMap]]:
    store.verify([record])
    prediction = read_reordered(verified_prediction(evaluation, record.key), record.geometry, what="prediction")
    reference = store.mask(record.key)
    for label_id in measured_labels(metric_factory("cartilagethickness"), store.labels, chosen.tissues):
        bone = store.labels.interface_of(label_id)
        if bone is None or not {store.labels[label_id], bone} <= set(store.labels.drawn(record.labelled)):
            continue
        pair = MaskPair(prediction == label_id, reference == label_id, record.geometry, bone_zyx=reference == bone.id)
        if (found := thickness_map(pair)) is not None:
            yield store.labels[label_id].name, found

"""Predictions of an evaluation as DICOM segmentations (`eval.dicom_seg`), written from its NIfTI files."""

import sys
from collections.abc import Mapping, Sequence

from sam2ft.data.dicom.segmentation import refuse_without_highdicom, source_series, write_segmentation
from sam2ft.data.images.volumes import read_on_grid
from sam2ft.data.store.store import Store, VolumeRecord
from sam2ft.runs.layout import EvalLayout


def refuse_impossible(records: Sequence[VolumeRecord]) -> None:
    """Before hours of prediction. Errors: ConfigError without highdicom; DataError for a volume without its series."""
    refuse_without_highdicom()
    for record in records:
        source_series(record)


def write_segmentations(
    evaluation: EvalLayout, records: Sequence[VolumeRecord], stores: Mapping[str, Store], *, about: str
) -> None:
    """Beside every prediction of `records` its segmentation; those that are there already are left as they are.

    Errors: DataError when a series is no longer the one that its volume was prepared from.
    """
    written = 0
    for record in records:
        label_map_zyx = read_on_grid(evaluation.prediction(record.key), record.geometry, what="prediction")
        path, labels = evaluation.segmentation(record.key), stores[record.key.dataset].labels
        written += write_segmentation(path, label_map_zyx, labels, record, about)
    print(f"{written} of {len(records)} predictions written as DICOM-SEG, the others were there", file=sys.stderr)

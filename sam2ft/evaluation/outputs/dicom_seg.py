"""DICOM segmentations (DICOM-SEG, `eval.dicom_seg`) of the predictions, written from their NIfTI files."""

import sys
from collections.abc import Mapping, Sequence

from sam2ft.data.dicom.segmentation import refuse_without_highdicom, source_series, write_segmentation
from sam2ft.data.images.volumes import read_reordered
from sam2ft.data.store.store import Store, VolumeRecord
from sam2ft.runs.evaluation_files import verified_prediction
from sam2ft.runs.layout import EvalLayout


def refuse_without_dicom(records: Sequence[VolumeRecord]) -> None:
    """Check before the prediction that DICOM-SEG files can be written.

    Raises:
        ConfigError: highdicom is not installed.
        DataError: a volume has no DICOM series.
    """
    refuse_without_highdicom()
    for record in records:
        source_series(record)


def write_segmentations(
    evaluation: EvalLayout, records: Sequence[VolumeRecord], stores: Mapping[str, Store], *, about: str
) -> None:
    """Write the DICOM-SEG of every prediction of `records` to the folder of the prediction; existing files are kept.

    Raises:
        DataError: a series is no longer the one that its volume was prepared from.
    """
    written = 0
    for record in records:
        label_map_zyx = read_reordered(verified_prediction(evaluation, record.key), record.geometry, what="prediction")
        path, labels = evaluation.segmentation(record.key), stores[record.key.dataset].labels
        written += write_segmentation(path, label_map_zyx, labels, record, about)
    print(f"{written} of {len(records)} predictions written as DICOM-SEG, the others already existed", file=sys.stderr)

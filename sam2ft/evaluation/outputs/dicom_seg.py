"""DICOM segmentations (DICOM-SEG, `eval.dicom_seg`) of the predictions, written from their NIfTI files."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from sam2ft.data.export.dicom_seg import SegmentationKind, refuse_without_highdicom
from sam2ft.data.export.source_series import referable_series, write_segmentation
from sam2ft.data.images.volumes import read_reordered
from sam2ft.data.prepare.originals import Originals, originals
from sam2ft.data.store.store import Store, VolumeRecord
from sam2ft.runs.evaluation_files import verified_prediction
from sam2ft.runs.layout import EvalLayout


def refuse_without_dicom(records: Sequence[VolumeRecord], dataset_files: Sequence[Path]) -> None:
    """Check before the prediction, by the headers of the series, that DICOM-SEG files can be written.

    Args:
        dataset_files: dataset files of the stores (`eval.dicom_sources`).

    Raises:
        ConfigError: highdicom is not installed.
        UserError: a volume has no DICOM series, its series or the key file of its dataset is away, or no segmentation
            can refer to its images.
    """
    refuse_without_highdicom()
    found = _originals(records, dataset_files)
    for record in records:
        referable_series(record, found[record.folder])


def _originals(records: Sequence[VolumeRecord], dataset_files: Sequence[Path]) -> dict[Path, Originals | None]:
    """Store -> the originals of its volumes."""
    return {folder: originals(folder, dataset_files) for folder in dict.fromkeys(one.folder for one in records)}


def write_segmentations(
    evaluation: EvalLayout,
    records: Sequence[VolumeRecord],
    stores: Mapping[str, Store],
    *,
    about: str,
    dataset_files: Sequence[Path],
    kind: SegmentationKind = "binary",
) -> None:
    """Write the DICOM-SEG of every prediction of `records` to the folder of the prediction; existing files are kept.

    Args:
        about: description of what produced the predictions, for the headers.
        dataset_files: see `refuse_without_dicom`.

    Raises:
        DataError: a series is no longer the one that its volume was prepared from.
    """
    written, found = 0, _originals(records, dataset_files)
    for record in records:
        label_map_zyx = read_reordered(verified_prediction(evaluation, record.key), record.geometry, what="prediction")
        path, labels = evaluation.segmentation(record.key), stores[record.key.dataset].labels
        written += write_segmentation(path, label_map_zyx, labels, record, about, found[record.folder], kind)
    print(f"{written} of {len(records)} predictions written as DICOM-SEG, the others already existed", file=sys.stderr)

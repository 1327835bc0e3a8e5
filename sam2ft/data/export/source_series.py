"""The DICOM series that a volume of a store was prepared from, and a segmentation of it.

The store does not contain the patient: attributes are read from the series, which must still be where it was.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from sam2ft.core.errors import DataError
from sam2ft.core.files import sha256_text
from sam2ft.core.labels import LabelTable
from sam2ft.data.export.dicom_seg import SegmentationKind, prediction_on_slices, study_problem, write_dicom_seg
from sam2ft.data.export.prediction import PredictedMask
from sam2ft.data.prepare.originals import Originals, without_given_names
from sam2ft.data.prepare.originals import originals as originals_of
from sam2ft.data.store.store import VolumeRecord

if TYPE_CHECKING:
    from sam2ft.data.dicom.series import SourceImages

# The SeriesInstanceUID of each slice, hashed with the key of the dataset, or, in stores of earlier versions, without.
_KEYED_UID, _PLAIN_UID = "series_uid_hmac", "series_uid_sha256"
_UIDS = {_KEYED_UID, _PLAIN_UID}


def source_series(record: VolumeRecord, originals: Originals | None = None) -> Path:
    """Folder (or file of several images) of the DICOM series that a volume was prepared from.

    Args:
        originals: those of the store of the volume; by default those that the store itself leads to.

    Raises:
        DataError: when the volume was not prepared from a DICOM series, or the series no longer exists.
    """
    found = record.stored
    if "source_image" not in found:
        raise DataError(f"{record.key}: its store does not record the source image; run launch/prepare.py again")
    if not _UIDS & found["slices"].keys():
        came_from = found["source_image"] or "no file of a DICOM series"
        raise DataError(f"{record.key}: comes from {came_from}; a DICOM segmentation needs a DICOM series")
    originals = originals_of(record.folder) if originals is None else originals
    path = found["source_image"] if originals is None else originals.images.get(record.key)
    if path is None or not Path(path).exists():
        where = f"in {path}" if path is not None and originals is None else "where the dataset file says"
        raise DataError(f"{record.key}: its series is no longer {where}; a DICOM segmentation needs its headers")
    return Path(path)


def write_segmentation(
    path: Path,
    label_map_zyx: npt.NDArray[np.integer[Any]],
    labels: LabelTable,
    record: VolumeRecord,
    about: str,
    originals: Originals | None = None,
    kind: SegmentationKind = "binary",
) -> bool:
    """Write a prediction of a volume of a store as `dicom_seg.write_dicom_seg`; False when it is there already.

    Args:
        about: description of what produced the prediction, for the header (cut to 64 characters).
        originals: see `source_series`.

    Raises:
        DataError: when the series is not, or no longer, the one that the volume was prepared from, or no segmentation
            can refer to it.
    """
    originals = originals_of(record.folder) if originals is None else originals
    source = referable_series(record, originals)
    prediction = PredictedMask(label_map_zyx, record.geometry, labels, about)
    with without_given_names(originals, record.key):
        try:
            prediction_on_slices(prediction, source)
        except DataError as error:
            raise DataError(f"{source.path}: is no longer what {record.key} was prepared from: {error}") from None
        return write_dicom_seg(path, prediction, source, kind)


def referable_series(record: VolumeRecord, originals: Originals | None = None) -> "SourceImages":
    """The images that a segmentation of a volume refers to, by their headers.

    Args:
        originals: see `source_series`.

    Raises:
        DataError: as `source_series`; it is another series than the volume was prepared from, or no segmentation can
            refer to its images (tiles of a mosaic, resampled slices, no study).
    """
    folder = source_series(record, originals)
    with without_given_names(originals, record.key):
        source = _same_series(folder, record, originals)
    # The volume is named and no file: the series lacks what was not needed to prepare it.
    if problem := study_problem(source.headers):
        raise DataError(f"{record.key}: {problem} no segmentation can be added to the study")
    return source


def _same_series(folder: Path, record: VolumeRecord, originals: Originals | None) -> "SourceImages":
    """The images of the series; DataError when it is another one."""
    from sam2ft.config.schema.dataset import AS_IS, Reading
    from sam2ft.data.dicom.header import text
    from sam2ft.data.dicom.series import read_source_images

    believed: Literal["spacing", "positions"] = (
        "spacing" if record.geometry.dz_source == "slice_spacing" else "positions"
    )
    given = AS_IS if originals is None else originals.readings.get(record.key, AS_IS)
    reading = Reading(believe=believed, irregular="resample", folders=given.folders, series=given.series)
    source = read_source_images(folder, reading)
    plain = sha256_text(text(source.headers[0], "SeriesInstanceUID"))
    kept, found = (_PLAIN_UID, plain) if originals is None else (_KEYED_UID, originals.names.uid(plain))
    if found != record.dicom[kept][0]:
        raise DataError(f"{folder}: holds another series than the one that {record.key} was prepared from")
    return source

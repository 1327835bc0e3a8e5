"""Export of a predicted label map as DICOM segmentation (SEG) of the series that it was predicted from.

A segmentation belongs to the study of its series and has the patient attributes, which the store does not contain: they
are read from the series, which must still be where it was prepared from. `highdicom` is imported on use.
"""

import hashlib
import io
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from sam2ft.core.errors import ConfigError, DataError
from sam2ft.core.files import canonical_json, replacing, sha256_text
from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label, LabelTable
from sam2ft.data.images.grids import Volume, reordered_to_grid
from sam2ft.data.prepare.originals import Originals, without_given_names
from sam2ft.data.prepare.originals import originals as originals_of
from sam2ft.data.store.store import VolumeRecord

if TYPE_CHECKING:
    import pydicom

# Attributes that a header must have though they may be empty (PS3.3, type 2); anonymised series lack some.
MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex",
    "AccessionNumber", "StudyID", "StudyDate", "StudyTime",
)  # fmt: skip
# The SeriesInstanceUID of each slice, hashed with the key of the dataset, or, in stores of earlier versions, without.
_KEYED_UID, _PLAIN_UID = "series_uid_hmac", "series_uid_sha256"
_UIDS = {_KEYED_UID, _PLAIN_UID}
# A short string (VR LO) of DICOM.
_LONGEST_TEXT = 64
# Series of one study differ by SeriesNumber; the numbers of a scanner are below this one.
_FIRST_SERIES = 9000


def source_series(record: VolumeRecord, originals: Originals | None = None) -> Path:
    """Folder of the DICOM series that a volume was prepared from.

    Args:
        originals: those of the store of the volume; by default those that the store itself leads to.

    Raises:
        DataError: when the volume was not prepared from a DICOM series, or the folder no longer exists.
    """
    found = record.stored
    if "source_image" not in found:
        raise DataError(f"{record.key}: its store does not record the source image; run launch/prepare.py again")
    if not _UIDS & found["slices"].keys():
        came_from = found["source_image"] or "no file of a DICOM series"
        raise DataError(f"{record.key}: comes from {came_from}; a DICOM segmentation needs a DICOM series")
    originals = originals_of(record.folder) if originals is None else originals
    path = found["source_image"] if originals is None else originals.images.get(record.key)
    if path is None or not Path(path).is_dir():
        where = f"in {path}" if path is not None and originals is None else "where the dataset file says"
        raise DataError(f"{record.key}: its series is no longer {where}; a DICOM segmentation needs its headers")
    return Path(path)


def refuse_without_highdicom() -> None:
    """Check that the package highdicom is installed.

    Raises:
        ConfigError: naming the package to install.
    """
    if find_spec("highdicom") is None:
        raise ConfigError("eval.dicom_seg: needs the package highdicom, which is not installed; pip install highdicom")


def write_segmentation(
    path: Path,
    label_map_zyx: npt.NDArray[np.integer[Any]],
    labels: LabelTable,
    record: VolumeRecord,
    about: str,
    originals: Originals | None = None,
) -> bool:
    """Write `path` with one segment per label, in the order of the table; False when it already has this content.

    Args:
        about: description of what produced the prediction, for the header (cut to 64 characters).
        originals: see `source_series`.

    Raises:
        DataError: when the series is not, or no longer, the one that the volume was prepared from.
    """
    import pydicom

    from sam2ft.data.dicom.header import guarded, text

    originals = originals_of(record.folder) if originals is None else originals
    folder = source_series(record, originals)
    with without_given_names(originals, record.key):
        headers, geometry = _same_series(folder, record, originals)
        try:
            # The slices of the store may lie across another axis than those of the series (slice_axis).
            label_map_zyx = reordered_to_grid(Volume(label_map_zyx, record.geometry), geometry, what="prediction")
        except DataError as error:
            raise DataError(f"{folder}: is no longer what {record.key} was prepared from: {error}") from None
    _complete(headers, record.key)
    mask = hashlib.sha256(label_map_zyx.astype("<u2").tobytes()).hexdigest()
    content = {"mask": mask, "labels": labels.to_json()}
    series_uid = text(headers[0], "SeriesInstanceUID")
    uids = [
        str(pydicom.uid.generate_uid(entropy_srcs=["sam2ft", series_uid, about, canonical_json(content), what]))
        for what in ("series", "instance")
    ]
    if path.is_file() and _is_instance(path, uids[1]):
        return False
    encoded = io.BytesIO()
    # Headers of the series are copied into the segmentation.
    with without_given_names(originals, record.key), guarded(folder):
        segmentation = _segmentation(headers, _segments(label_map_zyx, labels), labels, uids, about[:_LONGEST_TEXT])
        segmentation.save_as(encoded)
    with replacing(path) as partial:
        partial.write_bytes(encoded.getvalue())
    return True


def _is_instance(path: Path, uid: str) -> bool:
    """Whether the file is the DICOM object `uid`; a damaged file is not."""
    import pydicom

    from sam2ft.data.dicom.header import guarded, text

    try:
        with guarded(path):
            return text(pydicom.dcmread(path, stop_before_pixels=True), "SOPInstanceUID") == uid
    except DataError:
        return False


def _same_series(
    folder: Path, record: VolumeRecord, originals: Originals | None
) -> "tuple[list[pydicom.Dataset], Geometry]":
    """The headers of the series in the order of its slices, and its grid."""
    from sam2ft.config.schema.dataset import AS_IS, Reading
    from sam2ft.data.dicom.header import text
    from sam2ft.data.dicom.series import read_headers

    believed: Literal["spacing", "positions"] = (
        "spacing" if record.geometry.dz_source == "slice_spacing" else "positions"
    )
    given = AS_IS if originals is None else originals.readings.get(record.key, AS_IS)
    reading = Reading(believe=believed, irregular="resample", folders=given.folders, series=given.series)
    headers, geometry = read_headers(folder, reading)
    plain = sha256_text(text(headers[0], "SeriesInstanceUID"))
    kept, found = (_PLAIN_UID, plain) if originals is None else (_KEYED_UID, originals.names.uid(plain))
    if found != record.dicom[kept][0]:
        raise DataError(f"{folder}: holds another series than the one that {record.key} was prepared from")
    return headers, geometry


def _complete(headers: "list[pydicom.Dataset]", key: VolumeKey) -> None:
    """Add empty attributes where a segmentation may have empty ones.

    Raises:
        DataError: the series lacks others. They are not needed to prepare it, so that the volume is named and no file.
    """
    for header in headers:
        if "FrameOfReferenceUID" not in header or "StudyInstanceUID" not in header:
            raise DataError(
                f"{key}: without FrameOfReferenceUID and StudyInstanceUID in its DICOM series no segmentation can be "
                "added to the study"
            )
        for keyword in MAY_BE_EMPTY:
            if keyword not in header:
                setattr(header, keyword, None)


def _segments(label_map_zyx: npt.NDArray[np.integer[Any]], labels: LabelTable) -> npt.NDArray[np.uint16]:
    """The label map with segment numbers (1 for the first label of the table, and so on) in place of ids."""
    numbers = np.zeros(max(labels.ids) + 1, dtype=np.uint16)
    numbers[list(labels.ids)] = np.arange(1, len(labels) + 1)
    found: npt.NDArray[np.uint16] = numbers[label_map_zyx]
    return found


def _segmentation(
    headers: "list[pydicom.Dataset]",
    segments_zyx: npt.NDArray[np.uint16],
    labels: LabelTable,
    uids: list[str],
    about: str,
) -> Any:
    from highdicom.seg import Segmentation, SegmentationTypeValues

    return Segmentation(
        source_images=headers,
        pixel_array=segments_zyx,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[_description(number, label) for number, label in enumerate(labels, start=1)],
        series_instance_uid=uids[0],
        series_number=_FIRST_SERIES + _series_number(headers[0]),
        sop_instance_uid=uids[1],
        instance_number=1,
        manufacturer="sam2ft",
        manufacturer_model_name="sam2ft",
        software_versions=metadata.version("sam2ft"),
        device_serial_number="none",
        content_description=about,
        series_description=about,
    )


def _series_number(header: "pydicom.Dataset") -> int:
    """SeriesNumber; 0 where it is absent or no number."""
    from sam2ft.data.dicom.header import number

    try:
        return int(number(header, "SeriesNumber") or 0)
    except DataError:
        return 0


def _description(number: int, label: Label) -> Any:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
    from pydicom.sr.codedict import codes

    algorithm = AlgorithmIdentificationSequence(
        name="SAM 2", version=metadata.version("sam2"), family=codes.DCM.ArtificialIntelligence
    )
    description = SegmentDescription(
        segment_number=number,
        segment_label=label.name[:_LONGEST_TEXT],
        # A label table has names, not codes: these general codes are valid for every label.
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=codes.SCT.AnatomicalStructure,
        # The prompts (boxes or points) are input, so the algorithm is not fully automatic.
        algorithm_type=SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
        algorithm_identification=algorithm,
    )
    description.SegmentDescription = f"label {label.id}: {label.name}"
    return description

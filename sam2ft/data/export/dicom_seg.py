"""A predicted label map as DICOM segmentation (SEG) of the images that it was predicted from.

It belongs to the study of its images and has their patient attributes. `highdicom` is imported on use.
"""

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from sam2ft.core.errors import ConfigError, DataError
from sam2ft.core.files import canonical_json, replacing
from sam2ft.core.labels import Label, LabelTable
from sam2ft.data.export.prediction import PredictedMask
from sam2ft.data.images.grids import Volume, reordered_to_grid

if TYPE_CHECKING:
    import pydicom

    from sam2ft.data.dicom.series import SourceImages

SegmentationKind = Literal["binary", "labelmap"]
"""binary: a frame per slice and segment, which every program reads. labelmap: a frame per slice, whose integers are the
ids of the labels (Label Map Segmentation Storage, of 2024)."""
# Attributes that a header must have though they may be empty (PS3.3, type 2); anonymised series lack some.
MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex",
    "AccessionNumber", "StudyID", "StudyDate", "StudyTime",
)  # fmt: skip
# Attribute of an image -> that of its file, which anonymised series may have alone.
_IN_META = {"SOPClassUID": "MediaStorageSOPClassUID", "SOPInstanceUID": "MediaStorageSOPInstanceUID"}
_NO_STUDY = "no segmentation can be added to the study"
# A short string (VR LO) of DICOM.
_LONGEST_TEXT = 64
# Series of one study differ by SeriesNumber; the numbers of a scanner are below this one.
_FIRST_SERIES = 9000


def refuse_without_highdicom() -> None:
    """Check that the package highdicom is installed.

    Raises:
        ConfigError: naming the package to install.
    """
    if find_spec("highdicom") is None:
        raise ConfigError("eval.dicom_seg: needs the package highdicom, which is not installed; pip install highdicom")


def write_dicom_seg(
    path: Path, prediction: PredictedMask, source: "SourceImages", kind: SegmentationKind = "binary"
) -> bool:
    """Write `path` with one segment per label, in the order of the table; False when it already has this content.

    The slices of the prediction may lie across another axis than those of its images (slice_axis). Slices without a
    label have no frame. Equal input gives equal UIDs.

    Args:
        source: the images that it was predicted from; every frame refers to its own.

    Raises:
        DataError: the prediction does not lie on the grid of the images, or they lack what a study needs.
    """
    from sam2ft.data.dicom.header import guarded, text

    segments = prediction_on_slices(prediction, source)
    _complete(source.headers, source.path)
    mask = hashlib.sha256(segments.astype("<u2").tobytes()).hexdigest()
    content = {"mask": mask, "labels": prediction.labels.to_json(), **({} if kind == "binary" else {"kind": kind})}
    series_uid = text(source.headers[0], "SeriesInstanceUID")
    entropy = ["sam2ft", series_uid, prediction.about, canonical_json(content)]
    uids = [_uid([*entropy, what]) for what in ("series", "instance")]
    if path.is_file() and _is_instance(path, uids[1]):
        return False
    encoded = io.BytesIO()
    with guarded(source.path):  # headers of the images are copied into the segmentation
        _segmentation(segments, prediction, source, uids, kind).save_as(encoded)
    with replacing(path) as partial:
        partial.write_bytes(encoded.getvalue())
    return True


def prediction_on_slices(prediction: PredictedMask, source: "SourceImages") -> npt.NDArray[np.integer[Any]]:
    """The label map in the voxel order of its images; DataError when it lies on another grid."""
    volume = Volume(prediction.label_map_zyx, prediction.geometry)
    return reordered_to_grid(volume, source.geometry, what="prediction")


def _uid(entropy: list[str]) -> str:
    import pydicom

    return str(pydicom.uid.generate_uid(entropy_srcs=entropy))


def _is_instance(path: Path, uid: str) -> bool:
    """Whether the file is the DICOM object `uid`; a damaged file is not."""
    import pydicom

    from sam2ft.data.dicom.header import guarded, text

    try:
        with guarded(path):
            return text(pydicom.dcmread(path, stop_before_pixels=True), "SOPInstanceUID") == uid
    except DataError:
        return False


def study_problem(headers: "Sequence[pydicom.Dataset]") -> str:
    """What images lack that a segmentation must refer to, as the beginning of a message; empty: nothing."""
    from sam2ft.data.dicom.header import text

    without = [
        keyword
        for keyword in ("FrameOfReferenceUID", "StudyInstanceUID", *_IN_META)
        if not all(text(one, keyword) or text(one.file_meta, _IN_META.get(keyword, "")) for one in headers)
    ]
    if without:
        return f"without {' and '.join(without)} in its DICOM series"
    if len({_identity(one) for one in headers}) < len(headers):
        return "with one SOPInstanceUID for several images of its DICOM series"
    if any(_identity(one, "SOPClassUID").is_private for one in headers):
        return "with a private SOPClassUID in its DICOM series"
    return ""


def _identity(header: "pydicom.Dataset", keyword: str = "SOPInstanceUID") -> "pydicom.uid.UID":
    from pydicom.uid import UID

    from sam2ft.data.dicom.header import text

    return UID(text(header, keyword) or text(header.file_meta, _IN_META[keyword]))


def _complete(headers: "Sequence[pydicom.Dataset]", path: Path) -> None:
    """Add what a segmentation copies: identities that only the file's meta information has, and empty attributes.

    Raises:
        DataError: the images lack others.
    """
    if problem := study_problem(headers):
        raise DataError(f"{path}: {problem} {_NO_STUDY}")
    for header in headers:
        for keyword in _IN_META:
            setattr(header, keyword, _identity(header, keyword))
        for keyword in MAY_BE_EMPTY:
            if keyword not in header:
                setattr(header, keyword, None)


def _segmentation(
    label_map_zyx: npt.NDArray[np.integer[Any]],
    prediction: PredictedMask,
    source: "SourceImages",
    uids: list[str],
    kind: SegmentationKind,
) -> Any:
    from highdicom.seg import Segmentation, SegmentationTypeValues

    numbers, about = segment_numbers(prediction.labels, kind), prediction.about[:_LONGEST_TEXT]
    places = {} if source.frames is None else _places(source)
    made = Segmentation(
        source_images=[_with_shared_places(one, places) for one in source.headers] if places else source.headers,
        pixel_array=_numbered(label_map_zyx, numbers),
        segmentation_type=SegmentationTypeValues[kind.upper()],
        segment_descriptions=[_description(numbers[label.id], label) for label in prediction.labels],
        series_instance_uid=uids[0],
        series_number=_FIRST_SERIES + _series_number(source.headers[0]),
        sop_instance_uid=uids[1],
        instance_number=1,
        manufacturer="sam2ft",
        manufacturer_model_name="sam2ft",
        software_versions=metadata.version("sam2ft"),
        device_serial_number="none",
        content_description=about,
        series_description=about,
        **places,
    )
    if source.frames is not None:
        _refer_to_frames(made, source, source.frames)
    return made


def segment_numbers(labels: LabelTable, kind: SegmentationKind) -> dict[int, int]:
    """Label id -> number of its segment: 1, 2, ... of binary segments, as the standard wants; of a label map the id."""
    if kind == "labelmap":
        return {label: label for label in labels.ids}
    return {label: number for number, label in enumerate(labels.ids, start=1)}


def _numbered(label_map_zyx: npt.NDArray[np.integer[Any]], numbers: dict[int, int]) -> npt.NDArray[np.uint16]:
    table = np.zeros(max(numbers) + 1, dtype=np.uint16)
    table[list(numbers)] = list(numbers.values())
    found: npt.NDArray[np.uint16] = table[label_map_zyx]
    return found


def _places(source: "SourceImages") -> dict[str, Any]:
    """Positions, directions and distances of the slices: a file may hold other frames too, in another order."""
    from highdicom import CoordinateSystemNames, PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence

    first, patient = source.images[0], CoordinateSystemNames.PATIENT
    dz = source.geometry.spacing_zyx_mm[0]
    return {
        "plane_positions": [PlanePositionSequence(patient, one.position_mm.tolist()) for one in source.images],
        "plane_orientation": PlaneOrientationSequence(patient, first.cosines.tolist()),
        "pixel_measures": PixelMeasuresSequence(first.spacing, slice_thickness=dz, spacing_between_slices=dz),
    }


def _with_shared_places(header: "pydicom.Dataset", places: Mapping[str, Any]) -> "pydicom.Dataset":
    """The header of an enhanced file, without pixels, whose shared groups hold directions and distances of the slices.

    Where frames have them each for itself, as they may, highdicom finds none.
    """
    import pydicom

    from sam2ft.data.dicom.header import like

    found = like(header, header)
    found.pop("PixelData", None)
    shared = pydicom.Dataset()
    for given in header.get("SharedFunctionalGroupsSequence") or ():
        shared.update(given)
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = (
        places["plane_orientation"],
        places["pixel_measures"],
    )
    found.SharedFunctionalGroupsSequence = [shared]
    return found


def _refer_to_frames(made: Any, source: "SourceImages", frames: Sequence[int]) -> None:
    """Let each frame refer to that of its slice: highdicom takes any frame at its position, of another echo too."""
    positions = np.stack([one.position_mm for one in source.images])
    for group in made.PerFrameFunctionalGroupsSequence:
        place = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=np.float64)
        nearest = int(np.abs(positions - place).max(axis=1).argmin())
        for item in _source_items(group):
            item.ReferencedFrameNumber = frames[nearest]


def _source_items(group: Any) -> "Iterator[pydicom.Dataset]":
    for derived in group.get("DerivationImageSequence") or ():
        yield from derived.get("SourceImageSequence") or ()


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

"""Reading one DICOM image file: the header values that give its position and orientation; finding files of a folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from sam2ft.config.schema.dataset import AS_IS, Reading
from sam2ft.core.errors import DataError, listed
from sam2ft.core.given.wrong_kind import Wanted, wrong_kind
from sam2ft.data.dicom.header import DAMAGE, guarded, number, reason_of, required, required_whole, text

# Direction vectors are unit and orthogonal within this: headers round their components.
ORIENTATION_TOLERANCE = 1e-3
# A file without preamble begins with an element of one of these groups (file meta information, identification).
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")
# Storage of segmentations (PS3.4): segments in frames, and label maps.
_SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
TO_NIFTI = "convert it to NIfTI with dcm2niix and give the .nii.gz file instead"
NO_IMAGE = (
    "is a DICOM segmentation (SEG), a mask and no image; give it as sources.masks, and the series that it was drawn on "
    "as sources.images"
)


@dataclass(frozen=True)
class DicomImage:
    """One file of a series with the header values that give its position and orientation."""

    path: Path
    header: pydicom.Dataset
    position_mm: npt.NDArray[np.float64]
    """ImagePositionPatient: centre of the first voxel, LPS."""
    cosines: npt.NDArray[np.float64]
    """ImageOrientationPatient: direction of increasing column index, then of increasing row index, LPS."""
    spacing: tuple[float, float]
    """PixelSpacing: distance between rows, distance between columns, mm."""
    size: tuple[int, int]
    """Rows, Columns."""

    @property
    def normal(self) -> npt.NDArray[np.float64]:
        return np.cross(self.cosines[:3], self.cosines[3:])


def dicom_files(folder: Path) -> list[Path]:
    """Sorted DICOM files of the folder; hidden files and subfolders are ignored.

    Raises:
        DataError: when there is no such folder, it has no DICOM file, or it contains other files.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    with guarded(folder):
        files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    foreign = [path.name for path in files if not is_dicom(path)]
    if len(foreign) == len(files):
        nifti = any(name.lower().endswith((".nii", ".nii.gz")) for name in foreign)
        advice = (
            "; it holds NIfTI files: an image or mask is the path of one file; a map is fitted to echoes in DICOM "
            "only, so fit it elsewhere and give the finished map as sources.maps.<name>.file"
        )
        problem = None if nifti else wrong_kind(folder, Wanted.MASK)
        raise DataError(problem or f"{folder}: no DICOM file among {len(files)} files{advice if nifti else ''}")
    if foreign:
        raise DataError(
            f"{folder}: not DICOM: {listed(foreign, 5)}; a folder holds the files of one series and no others"
        )
    return files


def is_dicom(path: Path) -> bool:
    """Whether the file is DICOM: it has the preamble, or without it parses as an image or segmentation of DICOM."""
    with guarded(path), path.open("rb") as stream:
        start = stream.read(132)
    if start[128:] == b"DICM":
        return True
    if start[:2] not in _FIRST_GROUPS:
        return False
    try:
        with guarded(path):
            header = pydicom.dcmread(path, force=True, stop_before_pixels=True)
            return text(header, "SOPClassUID").startswith("1.2.840.10008.") and "Rows" in header
    except DataError:
        return False


def refuse_single_file(path: Path) -> None:
    """Refuse a DICOM file where a volume is expected: volumes are folders.

    Raises:
        DataError: naming the file, what it holds and what to give instead.
    """
    with guarded(path):
        header = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    if text(header, "SOPClassUID") in _SEGMENTATIONS:
        raise DataError(f"{path}: {NO_IMAGE}")
    frames = _frames(path, header)
    if frames > 1:
        raise DataError(f"{path}: is a DICOM file of {frames} frames, which is not read; {TO_NIFTI}")
    raise DataError(f"{path}: is a single DICOM file; give the folder that holds all slices of its series")


def read_image(path: Path, reading: Reading = AS_IS) -> DicomImage:
    """One single-frame, single-channel DICOM image.

    Raises:
        DataError: naming the file, when it is not readable, has no pixels, several frames or colours, or no position.
    """
    with guarded(path):
        try:
            header = pydicom.dcmread(path, force=True)
        except DAMAGE as error:
            raise DataError(f"{path}: not a readable DICOM file ({reason_of(error)})") from None
        _name_transfer_syntax(header)
        _refuse_other_content(path, header)
        unknown = "the position of the image is unknown"
        position = required(path, header, "ImagePositionPatient", 3, unknown)
        cosines = _directions(path, required(path, header, "ImageOrientationPatient", 6, unknown), reading)
        rows, columns = required(path, header, "PixelSpacing", 2, unknown)
        if min(rows, columns) <= 0:
            raise DataError(f"{path}: PixelSpacing is {joined_values((rows, columns))}; allowed: two lengths above 0")
        size = required_whole(path, header, "Rows"), required_whole(path, header, "Columns")
        return DicomImage(path, header, np.array(position), cosines, (rows, columns), size)


def _name_transfer_syntax(header: pydicom.Dataset) -> None:
    """Files without preamble may lack the name of their encoding, which pydicom found out while reading."""
    meta = getattr(header, "file_meta", None)
    if meta is None:
        header.file_meta = meta = pydicom.dataset.FileMetaDataset()
    if not text(meta, "TransferSyntaxUID"):
        implicit, little = header.original_encoding
        meta.TransferSyntaxUID = (
            ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        )


def _refuse_other_content(path: Path, header: pydicom.Dataset) -> None:
    if text(header, "SOPClassUID") in _SEGMENTATIONS:
        raise DataError(f"{path}: {NO_IMAGE}")
    if "PixelData" not in header or "Rows" not in header:
        kind = uid_name(header.file_meta.get("MediaStorageSOPClassUID"))
        raise DataError(f"{path}: holds no image ({kind}); a folder holds the images of one series and no others")
    if (frames := _frames(path, header)) > 1 or "PerFrameFunctionalGroupsSequence" in header:
        raise DataError(f"{path}: is a multi-frame file (holds {frames} frames), allowed: classic DICOM; {TO_NIFTI}")
    try:
        samples = number(header, "SamplesPerPixel")
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    if samples not in (None, 1):
        raise DataError(f"{path}: is a colour image; expected one sample per pixel")


def uid_name(uid: object) -> str:
    """The registered name of a UID (PS3.6); a private one is not shown, because it may belong to a person."""
    name = str(getattr(uid, "name", ""))
    return name if name and name != str(uid) else "not registered"


def _frames(path: Path, header: pydicom.Dataset) -> int:
    try:
        return int(number(header, "NumberOfFrames") or 1)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _directions(path: Path, cosines: tuple[float, ...], reading: Reading) -> npt.NDArray[np.float64]:
    """The direction vectors, unit and orthogonal; with `believe: orientation` their lengths do not matter."""
    both = np.array(cosines).reshape(2, 3)
    lengths = np.linalg.norm(both, axis=1)
    shown = f"{path}: ImageOrientationPatient is {joined_values(cosines)}:"
    if lengths.min() < ORIENTATION_TOLERANCE:
        raise DataError(f"{shown} a vector without a direction; allowed: two orthogonal unit vectors")
    cosine = float(abs(both[0] @ both[1]) / lengths.prod())
    if cosine > ORIENTATION_TOLERANCE:
        raise DataError(
            f"{shown} rows and columns are not at right angles (cosine {cosine:.3g}); allowed: orthogonal within "
            f"{ORIENTATION_TOLERANCE:g}; {TO_NIFTI} once its header is mended"
        )
    if np.abs(lengths - 1).max() > ORIENTATION_TOLERANCE:
        if reading.believe != "orientation":
            raise DataError(
                f"{shown} vectors of length {lengths[0]:.6g} and {lengths[1]:.6g}, which PixelSpacing contradicts; "
                f"allowed: 1 within {ORIENTATION_TOLERANCE:g}, or believe: orientation (the directions count, "
                "distances are those of PixelSpacing)"
            )
        both = both / lengths[:, None]
    return both.ravel()


def joined_values(values: Sequence[float] | npt.NDArray[np.float64]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)

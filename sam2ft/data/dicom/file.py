"""Reading one DICOM image file: pixel values, and the header values that give its position and orientation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.errors import InvalidDicomError

from sam2ft.core.errors import DataError, listed


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

    @property
    def normal(self) -> npt.NDArray[np.float64]:
        return np.cross(self.cosines[:3], self.cosines[3:])

    @property
    def size(self) -> tuple[int, int]:
        return int(self.header.Rows), int(self.header.Columns)


def dicom_files(folder: Path) -> list[Path]:
    """Sorted DICOM files of the folder; hidden files and subfolders are ignored.

    Raises:
        DataError: when there is no such folder, it has no DICOM file, or it contains other files.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    foreign = [path.name for path in files if not _is_dicom(path)]
    if len(foreign) == len(files):
        raise DataError(f"{folder}: no DICOM file among {len(files)} files")
    if foreign:
        raise DataError(
            f"{folder}: not DICOM: {listed(foreign, 5)}; a folder holds the files of one series and no others"
        )
    return files


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def read_image(path: Path) -> DicomImage:
    """One single-frame, single-channel DICOM image.

    Raises:
        DataError: naming the file, when it is not readable, has no pixels, several frames or colours, or no position.
    """
    try:
        header = pydicom.dcmread(path)
    except (InvalidDicomError, OSError, ValueError, AttributeError, NotImplementedError) as error:
        raise DataError(f"{path}: not a readable DICOM file ({error})") from None
    if "PixelData" not in header or "Rows" not in header:
        kind = getattr(header.file_meta.get("MediaStorageSOPClassUID"), "name", "no class")
        raise DataError(f"{path}: holds no image ({kind}); a folder holds the images of one series and no others")
    if (frames := int(header.get("NumberOfFrames") or 1)) > 1:
        raise DataError(f"{path}: holds {frames} frames; export it as one file per slice (dcm2niix, or dcmulti2single)")
    if int(header.get("SamplesPerPixel", 1)) != 1:
        raise DataError(f"{path}: is a colour image; expected one sample per pixel")
    values: dict[str, list[float]] = {}
    for name, count in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2)):
        given = header.get(name)
        if given is None or len(given) != count:
            raise DataError(f"{path}: has no {name}; without it the position of the image is unknown")
        values[name] = [float(value) for value in given]
    rows, columns = values["PixelSpacing"]
    return DicomImage(
        path,
        header,
        np.array(values["ImagePositionPatient"]),
        np.array(values["ImageOrientationPatient"]),
        (rows, columns),
    )


def rescaled_pixels(image: DicomImage) -> npt.NDArray[np.float32]:
    """Rescaled intensities of one file (RescaleSlope and RescaleIntercept may differ between slices).

    Raises:
        DataError: when the pixel data cannot be decoded.
    """
    header = image.header
    try:
        stored = header.pixel_array
    except (RuntimeError, ValueError, NotImplementedError, AttributeError, KeyError, OSError) as error:
        syntax = getattr(header.file_meta.get("TransferSyntaxUID"), "name", "unknown")
        reason = str(error).strip().split("\n")[0]
        raise DataError(f"{image.path}: pixel data ({syntax}) cannot be decoded: {reason}") from None
    slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
    rescaled: npt.NDArray[np.float32] = (stored.astype(np.float64) * slope + intercept).astype(np.float32)
    return rescaled


def joined_values(values: Sequence[float] | npt.NDArray[np.float64]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)
